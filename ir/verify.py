"""What must hold of every graph: names, order, uses, operands and attributes of hardware ops, shapes and formats."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.ops import ACTIVATIONS, LISTS, OPS, REQUIRED, ShapeError, result_shape
from bitwright.ir.text import attribute_text, node_text
from bitwright.ir.types import Shape, Type, shape_text


def verify(graph: Graph, file: str = "") -> None:
    """Raise CompileError, naming the node, its op, its shapes and where it came from, if the graph is not right."""
    _verify(graph, set(), file)
    names: set[str] = set()
    for inner in graph.walk():
        for name in inner.values:
            if name in names:
                raise CompileError(f"{_place(file)}%{name} names two values")
            names.add(name)


def _verify(graph: Graph, around: set[int], file: str) -> None:
    known = around | {id(value) for value in (*graph.inputs, *graph.weights)}
    for value in (*graph.inputs, *graph.weights):
        _check_value(value, partial(_value_error, value, file))
    for node in graph.nodes:
        fail = _failure(node, file)
        for index, operand in enumerate(node.operands):
            if operand is None:
                continue
            if id(operand) not in known:
                raise fail(f"%{operand.name} is used before it is made")
            if (node, index) not in operand.uses:
                raise fail(f"%{operand.name} does not know that it is used")
        if node.op in OPS:
            _check_hardware(node, fail)
        elif not node.op.startswith("onnx."):
            raise fail(f"there is no op {node.op}")
        for inner in node.subgraphs():
            _verify(inner, known, file)
        for result in node.results:
            if result.producer is not node or graph.values.get(result.name) is not result:
                raise fail(f"%{result.name} is not registered as its result")
            _check_value(result, fail)
            known.add(id(result))
    for output in graph.outputs:
        if id(output.value) not in known:
            raise CompileError(f"{_place(file)}output %{output.value.name} is not made in @{graph.name}")


def _check_value(value: Value, fail: Callable[[str], CompileError]) -> None:
    type = value.type
    if not isinstance(type, Type):
        return
    if value.tensor is not None and type.static_shape != value.tensor.shape:
        raise fail(f"data of {list(value.tensor.shape)} for type {type}")
    format = type.number
    if format is None or format.axis is None:
        return
    if type.shape is None or not -len(type.shape) <= format.axis < len(type.shape):
        raise fail(f"formats a channel of axis {format.axis} for shape {shape_text(type.shape)}")
    size = type.shape[format.axis]
    if size != format.channels:
        raise fail(f"{format.channels} channel formats for an axis of {size}")


def _check_hardware(node: Node, fail: Callable[[str], CompileError]) -> None:
    op = OPS[node.op]
    count = len(node.operands)
    any_number = op.operands[-1].endswith("*")  # but one at least, and all there
    least = max(count, 1) if any_number else sum(not name.endswith("?") for name in op.operands)
    if not least <= count <= max(least, len(op.operands)) or None in node.operands[:least]:
        given = ", ".join("_" if value is None else f"%{value.name}" for value in node.operands)
        raise fail(f"{node.op} takes ({', '.join(op.operands)}), not ({given})")
    if len(node.results) != 1:
        raise fail(f"{node.op} has one result")
    for name, value in node.attributes.items():
        if name not in op.attributes:
            raise fail(f"{node.op} has no attribute {name}; it has {', '.join(op.attributes) or 'none'}")
        kind = _kind(name, op.attributes[name])
        if not _is_of(kind, value):
            raise fail(f"{name}={attribute_text(value)} is no {kind}")
    for name, default in op.attributes.items():
        if default is REQUIRED and name not in node.attributes:
            raise fail(f"{node.op} needs {name}")
    if node.attributes.get("act", "none") not in ACTIVATIONS:
        raise fail(f"there is no activation {node.attributes['act']!r}; there are {', '.join(ACTIVATIONS)}")
    try:
        shape = result_shape(node)
    except ShapeError as error:
        raise fail(str(error)) from error
    actual = node.result.type.shape if isinstance(node.result.type, Type) else None
    if shape is not None and actual is not None and not _compatible(shape, actual):
        raise fail(f"the result has shape {shape_text(shape)}, not {shape_text(actual)}")


def _kind(name: str, default: Attribute) -> str:
    """What an attribute of a hardware op is, in words."""
    if name in LISTS:
        return "list of integers"
    if default is REQUIRED or isinstance(default, int):
        return "integer"
    return "number" if isinstance(default, float) else "word"


def _is_of(kind: str, value: Attribute) -> bool:
    if kind == "list of integers":
        return isinstance(value, tuple) and all(isinstance(item, int) for item in value)
    return isinstance(value, {"integer": int, "number": int | float, "word": str}[kind])


def _compatible(ours: Shape, theirs: Shape) -> bool:
    pairs = zip(ours, theirs, strict=False)
    same = all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))
    return len(ours) == len(theirs) and same


def _place(file: str) -> str:
    return f"{file}: " if file else ""


def _value_error(value: Value, file: str, message: str) -> CompileError:
    return CompileError(f"{_place(file)}%{value.name}: {message}")


def _failure(node: Node, file: str) -> Callable[[str], CompileError]:
    def fail(message: str) -> CompileError:
        source = f"node {node.source} " if node.source else ""
        trail = f"\n  changed by: {', '.join(node.trail)}" if node.trail else ""
        return CompileError(f"{_place(file)}{source}(%{node.name}): {message}\n  {node_text(node)}{trail}")

    return fail
