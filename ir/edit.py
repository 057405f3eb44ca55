"""The only functions that change a graph. Each keeps names unique, uses right and the order topological."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bitwright.ir.errors import InternalError
from bitwright.ir.graph import Attribute, Graph, Node, Output, Value
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import DTYPES, Native, Type, ValueType


def unique_name(graph: Graph, name: str) -> str:
    """`name` with every character a name cannot have replaced, and a number if a value of that name exists."""
    base = re.sub(r"[^\w.$]", "_", name).strip(".") or "value"
    names = _names(graph)
    candidate, number = base, 1
    while candidate in names:
        candidate, number = f"{base}.{number}", number + 1
    return candidate


def add_input(
    graph: Graph, name: str, type: ValueType, external: str | None = None, tensor: Tensor | None = None
) -> Value:
    """A new input; `external` is the outside's name where it differs, `tensor` its default value."""
    value = _register(graph, Value(name, type, tensor=tensor))
    graph.inputs.append(value)
    if external is not None and external != name:
        graph.external[name] = external
    return value


def freeze_input(graph: Graph, value: Value) -> None:
    """Make a weight of an input that has a default value."""
    assert value.tensor is not None, f"%{value.name} has no value to freeze"
    graph.inputs = [item for item in graph.inputs if item is not value]
    graph.external.pop(value.name, None)
    value.type = type_of(value.tensor)


def freeze_results(node: Node, tensors: Sequence[Tensor]) -> None:
    """Make weights of what a node gives, and remove the node."""
    _release(node.subgraphs())
    _drop_operands(node)
    node.graph.nodes.remove(node)
    for result, tensor in zip(node.results, tensors, strict=True):
        result.producer, result.tensor, result.type = None, tensor, type_of(tensor)


def add_weight(graph: Graph, name: str, tensor: Tensor, type: Type | None = None) -> Value:
    """A new weight; its type is the tensor's own unless a format is given."""
    return _register(graph, Value(name, type or type_of(tensor), tensor=tensor))


def add_output(graph: Graph, value: Value, name: str | None = None) -> Output:
    """A new output; `name` is the outside's where it differs."""
    output = Output(value, name or value.name)
    graph.outputs.append(output)
    return output


def add_node(
    graph: Graph,
    op: str,
    operands: Sequence[Value | None],
    results: Mapping[str, ValueType],
    attributes: Mapping[str, Attribute] | None = None,
    *,
    before: Node | None = None,
    source: str = "",
) -> Node:
    """A new node with its results by name, at the end or before another node."""
    node = Node(graph, op, source)
    for value in operands:
        _append_operand(node, value)
    for name, type in results.items():
        add_result(node, name, type)
    for key, attribute in (attributes or {}).items():
        set_attribute(node, key, attribute)
    if before is None:
        graph.nodes.append(node)
    else:
        graph.nodes.insert(_position(graph, before), node)
    return node


def add_result(node: Node, name: str, type: ValueType) -> Value:
    """One more result of a node."""
    result = _register(node.graph, Value(name, type, node))
    node.results.append(result)
    return result


def set_attribute(node: Node, name: str, attribute: Attribute | None) -> None:
    """Set an attribute, or take it away with None."""
    others = {key: value for key, value in node.attributes.items() if key != name}
    _set_attributes(node, others if attribute is None else {**node.attributes, name: attribute})


def set_op(node: Node, op: str, attributes: Mapping[str, Attribute]) -> None:
    """Make another op of a node; operands and results stay."""
    node.op = op
    _set_attributes(node, attributes)


def set_type(value: Value, type: ValueType) -> None:
    """Give a value another type."""
    value.type = type


def set_tensor(value: Value, tensor: Tensor) -> None:
    """Give a weight other data; its shape follows, a chosen format stays."""
    assert value.tensor is not None, f"%{value.name} is no weight"
    value.tensor = tensor
    type = type_of(tensor)
    value.type = type if value.tensor_type.is_native else value.tensor_type.with_shape(type.shape)


def give_weight(node: Node, index: int, tensor: Tensor, name: str, turned: bool = False) -> None:
    """Give an operand other data: in place if only this node sees the weight, else as a new weight of that name.

    A format that was chosen for the old weight goes along; with `turned`, a matrix was transposed, and its axis turns.
    """
    graph, old = node.graph, node.operands[index] if index < len(node.operands) else None
    number = old.type.number if old is not None and isinstance(old.type, Type) else None
    if turned and number is not None and number.axis is not None:
        number = replace(number, axis=1 - number.axis % 2)
    type = type_of(tensor) if number is None else type_of(tensor).with_format(number)
    owned = old is not None and graph.values.get(old.name) is old and not any(old is item for item in graph.inputs)
    if old is not None and owned and old.tensor is not None and len(old.uses) == 1 and id(old) not in _shown(graph):
        old.tensor, old.type = tensor, type
        return
    made = add_weight(graph, unique_name(graph, name), tensor, type)
    set_operands(node, [*node.operands[:index], made, *node.operands[index + 1 :]])


def set_operand(node: Node, index: int, value: Value | None) -> None:
    """Give a node another operand."""
    old = node.operands[index]
    if old is not None:
        old.uses.remove((node, index))
    node.operands[index] = value
    if value is not None:
        value.uses.append((node, index))


def set_operands(node: Node, operands: Sequence[Value | None]) -> None:
    """Give a node other operands."""
    _drop_operands(node)
    for value in operands:
        _append_operand(node, value)


def replace_uses(old: Value, new: Value, graph: Graph) -> None:
    """Everything that reads `old`, outputs included (these keep their outside names), reads `new`."""
    for node, index in list(old.uses):
        set_operand(node, index, new)
    for inner in graph.root().walk():
        for output in inner.outputs:
            if output.value is old:
                output.value = new


def erase_node(node: Node) -> None:
    """Remove a node whose results nobody reads."""
    shown = _shown(node.graph)
    for result in node.results:
        if result.uses or id(result) in shown:
            raise InternalError(f"%{result.name} is erased while it is read")
    _release(node.subgraphs())
    _drop_operands(node)
    node.graph.nodes.remove(node)
    for result in node.results:
        del node.graph.values[result.name]


def erase_weight(graph: Graph, value: Value) -> None:
    """Remove a weight that nobody reads."""
    if value.uses or id(value) in _shown(graph):
        raise InternalError(f"%{value.name} is erased while it is read")
    del graph.values[value.name]


def erase_unread_weights(graph: Graph) -> bool:
    """Remove the weights that nobody reads, here; whether there were any."""
    shown = _shown(graph)
    unread = [value for value in graph.weights if not value.uses and id(value) not in shown]
    for value in unread:
        del graph.values[value.name]
    return bool(unread)


def cut(graph: Graph, kept: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Leave only these nodes, with values of these names as inputs and outputs, and the weights that are read."""
    for node in graph.nodes:
        if not any(node is item for item in kept):
            _release(node.subgraphs())
            _drop_operands(node)
    graph.nodes, graph.external = list(kept), {}
    graph.inputs = [graph.values[name] for name in inputs]
    for value in graph.inputs:
        value.producer = None
    graph.outputs = [Output(graph.values[name], name) for name in outputs]
    made = {id(result) for node in kept for result in node.results} | set(map(id, graph.inputs))
    made |= _shown(graph)
    graph.values = {n: v for n, v in graph.values.items() if id(v) in made or (v.tensor is not None and v.uses)}


def rename(graph: Graph, value: Value, name: str) -> None:
    """Give a value of this graph another name, kept at its place; an input keeps its outside name."""
    if name != value.name and name in _names(graph):
        raise InternalError(f"%{name} exists")
    outside = graph.external.pop(value.name, value.name)
    graph.values = {name if v is value else key: v for key, v in graph.values.items()}
    value.name = name
    if any(value is item for item in graph.inputs) and outside != name:
        graph.external[name] = outside


def note(nodes: Iterable[Node], pass_name: str) -> None:
    """Write into nodes' trails that a pass made or changed them."""
    for node in nodes:
        node.trail = (*node.trail, pass_name)


def sort(graph: Graph) -> None:
    """Bring the nodes into topological order, moving as few as need be. Raises InternalError on a cycle."""
    placed: set[int] = set()
    waiting = list(graph.nodes)
    ordered: list[Node] = []
    own = {id(node) for node in waiting}
    while waiting:
        rest: list[Node] = []
        for node in waiting:
            if all(id(p) in placed for p in _producers(node) if id(p) in own and p is not node):
                ordered.append(node)
                placed.add(id(node))
            else:
                rest.append(node)
        if len(rest) == len(waiting):
            raise InternalError("cycle through " + ", ".join(f"%{node.name}" for node in rest[:4]))
        waiting = rest
    graph.nodes = ordered


def copy(graph: Graph) -> Graph:
    """A graph of its own that shares only the (immutable) tensors."""
    return _copy(graph, {}, None)


def type_of(tensor: Tensor) -> Type:
    """The native type of a tensor's data."""
    for name, dtype in DTYPES.items():
        if dtype == tensor.dtype:
            return Type(Native(name), tensor.shape)
    raise InternalError(f"no element type for {tensor.dtype}")


def _copy(graph: Graph, values: dict[int, Value], parent: Node | None) -> Graph:
    new = Graph(graph.name, dict(graph.opsets), parent)
    new.external, new.metadata = dict(graph.external), dict(graph.metadata)
    for value in graph.values.values():
        values[id(value)] = new.values[value.name] = Value(value.name, value.type, tensor=value.tensor)
    new.inputs = [values[id(value)] for value in graph.inputs]
    for node in graph.nodes:
        made = Node(new, node.op, node.source)
        made.trail = node.trail
        for operand in node.operands:
            _append_operand(made, None if operand is None else values.get(id(operand), operand))
        for result in node.results:
            values[id(result)].producer = made
            made.results.append(values[id(result)])
        for key, attribute in node.attributes.items():
            made.attributes[key] = _map_graphs(attribute, partial(_copy, values=values, parent=made))
        new.nodes.append(made)
    new.outputs = [Output(values.get(id(o.value), o.value), o.name) for o in graph.outputs]
    return new


def _map_graphs(attribute: Attribute, function: Callable[[Graph], Graph]) -> Attribute:
    if isinstance(attribute, Graph):
        return function(attribute)
    if isinstance(attribute, tuple) and any(isinstance(item, Graph) for item in attribute):
        return tuple(function(item) for item in attribute if isinstance(item, Graph))
    return attribute


def _producers(node: Node) -> Iterable[Node]:
    for value in node.operands:
        if value is not None and value.producer is not None:
            yield value.producer
    for inner in node.subgraphs():
        for graph in inner.walk():
            for child in graph.nodes:
                yield from (v.producer for v in child.operands if v is not None and v.producer is not None)
            yield from (o.value.producer for o in graph.outputs if o.value.producer is not None)


def _shown(graph: Graph) -> set[int]:
    """The identities of all values that are an output of this graph or one inside it."""
    return {id(output.value) for inner in graph.walk() for output in inner.outputs}


def _register(graph: Graph, value: Value) -> Value:
    if value.name in graph.values:
        raise InternalError(f"%{value.name} exists")
    graph.values[value.name] = value
    return value


def _names(graph: Graph) -> set[str]:
    return {name for inner in graph.root().walk() for name in inner.values}


def _set_attributes(node: Node, attributes: Mapping[str, Attribute]) -> None:
    before = set(node.subgraphs())
    node.attributes = dict(attributes)
    after = set(node.subgraphs())
    for inner in after:
        inner.parent = node
    _release(inner for inner in before - after if inner.parent is node)


def _release(graphs: Iterable[Graph]) -> None:
    """What subgraphs that are lost read, they read no more."""
    for lost in graphs:
        for graph in lost.walk():
            for child in graph.nodes:
                _drop_operands(child)


def _append_operand(node: Node, value: Value | None) -> None:
    node.operands.append(value)
    if value is not None:
        value.uses.append((node, len(node.operands) - 1))


def _drop_operands(node: Node) -> None:
    for index, value in enumerate(node.operands):
        if value is not None:
            value.uses.remove((node, index))
    node.operands = []


def _position(graph: Graph, node: Node) -> int:
    return next(i for i, other in enumerate(graph.nodes) if other is node)
