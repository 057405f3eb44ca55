"""recognise-reductions: the mean or maximum of every channel, as exporters write it, is pooling of the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.ops import integers
from bitwright.ir.types import Shape
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import constant, is_plain, producer

CHANNELS_LAST = (0, 2, 3, 1)


@dataclass(frozen=True)
class RecogniseReductions(Pass):
    """ReduceMean over both axes of the image becomes globalavgpool, ReduceMax and GlobalMaxPool become maxpool2d with a
    window of the whole image, flattened where the axes are dropped.

    The image may also come channels last, as the transpose of one that does not, if the axes are dropped. Reductions
    over a line become ONNX's global poolings, which widen-lines takes. A reduction of a reduction of its kind is one
    over both axes. A format of the result is the pooling's.

    - %mean = onnx.ReduceMean(%x) {axes=[2,3], keepdims=0} : f32[N,8]
    + %mean.pool = globalavgpool(%x) : f32[N,8,1,1]
    + %mean = flatten(%mean.pool) : f32[N,8]
    """

    name: ClassVar[str] = "recognise-reductions"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in list(graph.nodes):
            if node.op in ("onnx.ReduceMean", "onnx.ReduceMax"):
                x, axes = _reduced(graph, node)
                changed |= _to_pooling(graph, node, _image(x, axes, _drops(node)), _drops(node))
            elif node.op == "onnx.GlobalMaxPool" and len(node.operand(0).tensor_type.shape or ()) == 4:
                changed |= _to_pooling(graph, node, _image(node.operand(0), {2, 3}, False), False)
        return changed


def _to_pooling(graph: Graph, node: Node, image: Value | None, dropped: bool) -> bool:
    if image is None:
        return False
    shape = image.tensor_type.shape
    assert shape is not None
    pooling = _pooling(node, shape)
    if pooling is None:
        return False
    op, attributes = pooling
    if not dropped:
        edit.set_operands(node, [image])
        edit.set_op(node, op, attributes)
        return True
    pooled = node.result.tensor_type.with_shape((*shape[:2], *(1 for _ in shape[2:])))
    name = edit.unique_name(graph, f"{node.name}.pool")
    pool = edit.add_node(graph, op, [image], {name: pooled}, attributes, before=node, source=node.source)
    edit.set_operands(node, [pool.result])
    edit.set_op(node, "flatten", {})
    return True


def _pooling(node: Node, shape: Shape) -> tuple[str, dict[str, Attribute]] | None:
    """The op that reduces all pixels, with its attributes; None if it needs a size that is open."""
    is_mean = node.op == "onnx.ReduceMean"
    if len(shape) == 3:
        return "onnx.GlobalAveragePool" if is_mean else "onnx.GlobalMaxPool", {}
    if is_mean:
        return "globalavgpool", {}
    window = tuple(size for size in shape[2:] if isinstance(size, int))
    return ("maxpool2d", {"kernel": window}) if len(window) == 2 else None


def _drops(node: Node) -> bool:
    """Whether the axes over which a reduction goes are gone."""
    return node.attributes.get("keepdims", 1) == 0


def _reduced(graph: Graph, node: Node) -> tuple[Value, set[int] | None]:
    """What a reduction reads, and over which axes of it goes, those of a reduction of its kind before it included."""
    x, axes = node.operand(0), _axes(graph, node)
    before = producer(x, node.op)
    if before is None or axes is None or not is_plain(x) or _drops(before) != _drops(node):
        return x, axes
    image, first = _reduced(graph, before)
    rank = len(image.tensor_type.shape or ())
    if first is None or not rank:
        return x, axes
    left = [axis for axis in range(rank) if not _drops(node) or axis not in first]
    return image, first | {left[axis] for axis in axes}


def _axes(graph: Graph, node: Node) -> set[int] | None:
    """The axes over which the reduction goes, counted from the front; None if they are not constant."""
    given = node.attributes.get("axes")
    if len(node.operands) > 1:
        data = constant(graph, node.operands[1])
        given = None if data is None else tuple(int(axis) for axis in data.reshape(-1))
    rank = max(len(node.operand(0).tensor_type.shape or ()), 1)
    return {int(axis) % rank for axis in given if isinstance(axis, int)} if isinstance(given, tuple) else None


def _image(x: Value, axes: set[int] | None, dropped: bool) -> Value | None:
    """The image [N,C,H,W] or line [N,C,L] whose channels are reduced, or None if it is another reduction."""
    rank = len(x.tensor_type.shape or ())
    if x.tensor_type.dtype != np.float32 or rank not in (3, 4):
        return None
    if axes == set(range(2, rank)):
        return x
    turn = producer(x, "transpose")
    if rank == 4 and axes == {1, 2} and dropped and turn is not None and integers(turn, "perm") == CHANNELS_LAST:
        return turn.operand(0)
    return None
