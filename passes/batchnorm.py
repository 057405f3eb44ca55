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
from bitwright.ir.graph import Graph, Node
from bitwright.ir.ops import real
from bitwright.ir.tensor import Array, Tensor
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import absorb, constant, is_bare_sum, is_plain, only_reader


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
            while is_bare_sum(node) and _fuse_next(graph, node):
                changed = True
        if changed:
            edit.erase_unread_weights(graph)
        return changed


def _fuse_next(graph: Graph, node: Node) -> bool:
    """Whether the one reader of a sum was an affine map a channel, which the sum now does."""
    weight, bias = node.operand(1), node.optional(2)
    reader = only_reader(graph, node.result)
    if reader is None or not all(is_plain(value) for value in (node.result, weight, bias or weight)):
        return False
    w, b = constant(graph, weight), np.float32(0) if bias is None else constant(graph, bias)
    map = _affine_map(graph, node, reader)
    if w is None or b is None or map is None:
        return False
    factor, shift = map
    w = w.astype(np.float64) * factor.reshape(-1, *[1] * (w.ndim - 1))
    b = b.astype(np.float64) * factor + shift
    edit.give_weight(node, 1, Tensor(w.astype(np.float32)), weight.name)
    edit.give_weight(node, 2, Tensor(b.astype(np.float32)), node.name + ".bias" if bias is None else bias.name)
    absorb(graph, node, reader)
    return True


def _affine_map(graph: Graph, node: Node, reader: Node) -> tuple[Array, Array] | None:
    """factor and shift a channel, float64 [channels], of the node that reads the sum, or None."""
    if reader.op == "batchnorm" and (node.op == "conv2d" or len(node.result.tensor_type.shape or ()) == 2):
        return _normalisation(graph, reader)
    if reader.op not in ("mul", "add"):
        return None
    other = reader.operand(1) if reader.operand(0) is node.result else reader.operand(0)
    data = constant(graph, other)
    if data is None:
        return None
    channels = (node.operand(1).tensor_type.static_shape or (0,))[0]
    rank, shape = len(node.result.tensor_type.shape or ()), data.shape
    padded = (1,) * (rank - len(shape)) + shape
    axis = 1 if node.op == "conv2d" else rank - 1
    per_channel = len(padded) == rank and all(
        dim == 1 or (i == axis and dim == channels) for i, dim in enumerate(padded)
    )
    if not per_channel:
        return None
    numbers = np.broadcast_to(data.astype(np.float64).reshape(-1), (channels,))
    return (numbers, np.zeros(channels)) if reader.op == "mul" else (np.ones(channels), numbers)


def _normalisation(graph: Graph, reader: Node) -> tuple[Array, Array] | None:
    numbers = [constant(graph, value) for value in reader.operands[1:]]
    scale, shift, mean, variance = (None if data is None else data.astype(np.float64) for data in numbers)
    if scale is None or shift is None or mean is None or variance is None:
        return None
    factor = scale / np.sqrt(variance + real(reader, "epsilon"))
    return factor, shift - mean * factor
