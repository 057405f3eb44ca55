"""fuse-batchnorm: normalisation after a sum becomes part of its weights and bias.

    factor = scale / sqrt(var + epsilon)          w' = w factor          b' = (b - mean) factor + shift

computed in float64 and stored as float32. A multiplication or addition with one constant a channel is the same with
factor = constant or shift = constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import real
from bitwright.ir.tensor import Array, Tensor
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import absorb, is_plain, only_reader


@dataclass(frozen=True)
class FuseBatchnorm(Pass):
    """batchnorm, mul and add with constants a channel go into the conv2d or dense before them.

    - %conv1 = conv2d(%x, %conv1.w) {kernel=[5,5]} : f32[1,6,24,24]
    - %bn1 = batchnorm(%conv1, %scale, %shift, %mean, %var) : f32[1,6,24,24]
    + %conv1 = conv2d(%x, %conv1.w, %conv1.b) {kernel=[5,5]} : f32[1,6,24,24]
    """

    name: ClassVar[str] = "fuse-batchnorm"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in list(graph.nodes):
            while node.op in ("conv2d", "dense") and _fuse_next(graph, node):
                changed = True
        if changed:
            edit.erase_unread_weights(graph)
        return changed


def _fuse_next(graph: Graph, node: Node) -> bool:
    """Whether the one reader of a sum was an affine map a channel, which the sum now does."""
    weight, bias = node.operand(1), node.optional(2)
    reader = only_reader(graph, node.result)
    fused = any(key in node.attributes for key in ("act", "pool"))
    if reader is None or fused or weight.tensor is None or not is_plain(node.result) or not is_plain(weight):
        return False
    if bias is not None and (bias.tensor is None or not is_plain(bias)):
        return False
    map = _affine_map(node, reader)
    if map is None:
        return False
    factor, shift = map
    w = weight.tensor.data.astype(np.float64) * factor.reshape(-1, *[1] * (weight.tensor.data.ndim - 1))
    b = (0.0 if bias is None or bias.tensor is None else bias.tensor.data.astype(np.float64)) * factor + shift
    _give(graph, node, 1, weight, w)
    _give(graph, node, 2, bias, b)
    absorb(graph, node, reader)
    return True


def _affine_map(node: Node, reader: Node) -> tuple[Array, Array] | None:
    """factor and shift a channel, float64 [channels], of the node that reads the sum, or None."""
    if reader.op == "batchnorm" and (node.op == "conv2d" or len(node.result.tensor_type.shape or ()) == 2):
        return _normalisation(reader)
    if reader.op not in ("mul", "add"):
        return None
    other = reader.operand(1) if reader.operand(0) is node.result else reader.operand(0)
    if other.tensor is None or other.producer is not None:
        return None
    channels = (node.operand(1).tensor_type.static_shape or (0,))[0]
    rank, shape = len(node.result.tensor_type.shape or ()), other.tensor.shape
    padded = (1,) * (rank - len(shape)) + shape
    axis = 1 if node.op == "conv2d" else rank - 1
    per_channel = len(padded) == rank and all(
        dim == 1 or (i == axis and dim == channels) for i, dim in enumerate(padded)
    )
    if not per_channel:
        return None
    numbers = np.broadcast_to(other.tensor.data.astype(np.float64).reshape(-1), (channels,))
    return (numbers, np.zeros(channels)) if reader.op == "mul" else (np.ones(channels), numbers)


def _normalisation(reader: Node) -> tuple[Array, Array] | None:
    if any(value is None or value.tensor is None for value in reader.operands[1:]):
        return None
    scale, shift, mean, variance = (v.tensor.data.astype(np.float64) for v in reader.operands[1:] if v and v.tensor)
    factor = scale / np.sqrt(variance + real(reader, "epsilon"))
    return factor, shift - mean * factor


def _give(graph: Graph, node: Node, index: int, old: Value | None, data: Array) -> None:
    """New data for a weight operand: in place if only this node reads it."""
    tensor = Tensor(data.astype(np.float32))
    if old is not None and len(old.uses) == 1 and old in graph.weights and not graph.is_output(old):
        edit.set_tensor(old, tensor)
        return
    name = old.name if old is not None else node.name + ".bias"
    made = edit.add_weight(graph, edit.unique_name(graph, name), tensor)
    edit.set_operands(node, [*node.operands[:index], made, *node.operands[index + 1 :]])
