"""Producer chains: the questions a fusing pass asks before it merges a node into the one before it."""

from __future__ import annotations

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import Type


def only_reader(graph: Graph, value: Value) -> Node | None:
    """The one node that reads `value`, if nothing else does, no output shows it and no subgraph is involved."""
    readers = {id(node): node for node, _ in value.uses}
    if len(value.uses) != 1 or graph.is_output(value):
        return None
    node = next(iter(readers.values()))
    return node if node.graph is graph else None


def producer(value: Value | None, *ops: str) -> Node | None:
    """The node that makes `value`, if its op is one of `ops`."""
    node = value.producer if value is not None else None
    return node if node is not None and node.op in ops else None


def constant(graph: Graph, value: Value | None) -> Array | None:
    """A weight's data, or None; an input with a default value is no weight, because a caller may give it another."""
    if value is None or value.tensor is None or any(value is item for item in graph.inputs):
        return None
    return value.tensor.data


def is_plain(value: Value) -> bool:
    """Whether no number format was chosen for it, so that a rounding cannot be lost by fusing."""
    return isinstance(value.type, Type) and value.type.is_native


def give_weight(graph: Graph, node: Node, index: int, data: Array, name: str) -> None:
    """Give an operand other data: in place if only this node sees the weight, else as a new weight of that name."""
    old, tensor = node.optional(index), Tensor(data)
    if old is not None and len(old.uses) == 1 and constant(graph, old) is not None and not graph.is_output(old):
        edit.set_tensor(old, tensor)
        return
    made = edit.add_weight(graph, edit.unique_name(graph, name), tensor)
    edit.set_operands(node, [*node.operands[:index], made, *node.operands[index + 1 :]])


def bypass(graph: Graph, node: Node) -> None:
    """Remove a node with one result: its readers read its first operand, outputs keep their outside names."""
    edit.replace_uses(node.result, node.operand(0), graph)
    edit.erase_node(node)


def absorb(graph: Graph, into: Node, node: Node) -> None:
    """Remove `node`, whose work `into` now does: the value that `into` makes takes the node's type and its readers."""
    edit.set_type(into.result, node.result.type)
    edit.replace_uses(node.result, into.result, graph)
    edit.erase_node(node)
