"""fold-shapes: reshapes to a shape that is computed from the batch, as exporters write `x.view(x.size(0), -1)`.

A shape's entries are followed through Shape, Gather, Slice, Concat, Mul, Unsqueeze, Squeeze, Cast and Identity: each is
a number, or a dimension by its name (or by the value and axis it was taken from). A reshape whose entries are all known
so becomes a hardware reshape: 0 where a dimension of the same name stays at its place, -1 for one that is left. An
expansion to the shape of what it is multiplied with or added to (`expand_as`) goes: these ops broadcast themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.onnx.lower import lower
from bitwright.ir.ops import ShapeError, result_shape
from bitwright.ir.types import Type
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import constant
from bitwright.passes.constants import RemoveDead

Entry: TypeAlias = int | str
Entries: TypeAlias = tuple[Entry, ...]


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Reshapes to a computed shape become reshapes to a given one; ops after them are lowered anew.

    - %shape = onnx.Shape(%pool) : i64[4]
    - %n = onnx.Gather(%shape, %zero) : i64[]
    - %n1 = onnx.Unsqueeze(%n, %axes) : i64[1]
    - %to = onnx.Concat(%n1, %rest) {axis=0} : i64[2]
    - %flat = onnx.Reshape(%pool, %to) : f32[batch,?]
    + %flat = reshape(%pool) {shape=[0,-1]} : f32[batch,400]
    """

    name: ClassVar[str] = "fold-shapes"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        while any([_FOLDS[node.op](graph, node) for node in list(graph.nodes) if node.op in _FOLDS]):
            lower(graph)  # ops whose operands have a shape now
            changed = True
        if changed:
            RemoveDead().run(graph, context)
        return changed


def _expansion(graph: Graph, node: Node) -> bool:
    """Have the readers of an expansion read what it expands, where they expand it as far themselves."""
    x, entries = node.operand(0), _entries(graph, node.operand(1))
    readers = [reader for reader, _ in node.result.uses]
    if entries is None or node.result in [output.value for output in graph.outputs]:
        return False
    for reader in readers:
        others = [operand for operand in reader.operands if operand is not node.result]
        if reader.op not in _BROADCASTING or len(others) != 1 or others[0] is None:
            return False
        if not isinstance(others[0].type, Type) or others[0].type.shape is None or _dims(others[0]) != entries:
            return False
    edit.replace_uses(node.result, x, graph)
    return bool(readers)


def _fold(graph: Graph, node: Node) -> bool:
    x, entries = node.operand(0), _entries(graph, node.optional(1))
    if entries is None or not isinstance(x.type, Type) or x.type.shape is None or x.type.dtype.name != "float32":
        return False
    own = _dims(x)
    if node.attributes.get("allowzero", 0) and 0 in entries:
        return False
    shape = [0 if i < len(own) and isinstance(e, str) and e == own[i] else e for i, e in enumerate(entries)]
    left = [i for i, entry in enumerate(shape) if isinstance(entry, str)]
    if len(left) > 1 or (left and -1 in shape):
        return False
    numbers = tuple(entry if isinstance(entry, int) else -1 for entry in shape)
    before = (node.op, dict(node.attributes), list(node.operands), node.result.tensor_type)
    edit.set_operands(node, [x])
    edit.set_op(node, "reshape", {"shape": numbers})
    try:
        edit.set_type(node.result, node.result.tensor_type.with_shape(result_shape(node)))
    except ShapeError:
        edit.set_op(node, *before[:2])
        edit.set_operands(node, before[2])
        edit.set_type(node.result, before[3])
        return False
    return True


def _dims(value: Value) -> Entries:
    """A tensor's dimensions: numbers, names, or where nothing is known, the value and the axis."""
    assert isinstance(value.type, Type)
    return tuple(f"%{value.name}@{axis}" if dim is None else dim for axis, dim in enumerate(value.type.shape or ()))


def _entries(graph: Graph, value: Value | None) -> Entries | None:
    """The numbers of a small integer tensor as far as they are known, or None."""
    data = constant(graph, value)
    if data is not None:
        return tuple(int(item) for item in data.reshape(-1)) if data.dtype.kind in "iu" and data.size <= 16 else None
    node = value.producer if value is not None else None
    return _RULES[node.op](graph, node) if node is not None and node.op in _RULES else None


def _shape(graph: Graph, node: Node) -> Entries | None:
    x = node.operand(0)
    if not isinstance(x.type, Type) or x.type.shape is None:
        return None
    start, end = (node.attributes.get(name) for name in ("start", "end"))
    assert start is None or isinstance(start, int)
    assert end is None or isinstance(end, int)
    return _dims(x)[start:end]


def _gather(graph: Graph, node: Node) -> Entries | None:
    entries, indices = _entries(graph, node.operand(0)), constant(graph, node.operand(1))
    if entries is None or indices is None or node.attributes.get("axis", 0) != 0:
        return None
    return tuple(entries[int(index)] for index in indices.reshape(-1) if -len(entries) <= index < len(entries))


def _slice(graph: Graph, node: Node) -> Entries | None:
    entries = _entries(graph, node.operand(0))
    bounds = [constant(graph, operand) for operand in node.operands[1:]]
    if entries is None or not 2 <= len(bounds) <= 4 or any(bound is None or bound.size != 1 for bound in bounds):
        return None
    start, end, *rest = (int(bound.reshape(-1)[0]) for bound in bounds if bound is not None)
    return entries[start : end : rest[1] if len(rest) == 2 else 1]


def _concat(graph: Graph, node: Node) -> Entries | None:
    parts = [_entries(graph, operand) for operand in node.operands]
    return None if any(part is None for part in parts) else tuple(e for part in parts if part for e in part)


def _product(graph: Graph, node: Node) -> Entries | None:
    a, b = (_entries(graph, operand) for operand in node.operands)
    if a is None or b is None or len(a) != len(b):
        return None
    made: list[Entry] = []
    for x, y in zip(a, b, strict=True):
        if isinstance(x, int) and isinstance(y, int):
            made.append(x * y)
        elif 1 in (x, y):
            made.append(y if x == 1 else x)
        else:
            return None
    return tuple(made)


def _same(graph: Graph, node: Node) -> Entries | None:
    return _entries(graph, node.operand(0))


_RULES: dict[str, Callable[[Graph, Node], Entries | None]] = {
    "onnx.Cast": _same,
    "onnx.Concat": _concat,
    "onnx.Gather": _gather,
    "onnx.Identity": _same,
    "onnx.Mul": _product,
    "onnx.Shape": _shape,
    "onnx.Slice": _slice,
    "onnx.Squeeze": _same,
    "onnx.Unsqueeze": _same,
}

_FOLDS: dict[str, Callable[[Graph, Node], bool]] = {"onnx.Expand": _expansion, "onnx.Reshape": _fold}
_BROADCASTING = frozenset({"add", "mul", "onnx.Add", "onnx.Mul"})
