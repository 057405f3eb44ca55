"""fuse-batchnorm and expand-batchnorm: normalisation after a sum goes into its weights and bias; any other is a sum.

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
from bitwright.passes.chains import absorb, bypass, constant, is_bare_sum, is_float, is_plain, only_reader


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


@dataclass(frozen=True)
class ExpandBatchnorm(Pass):
    """batchnorm of an image that no sum gives becomes a depthwise conv2d of one pixel, of rows a mul and an add.
    Where only a dense reads the rows, it goes into the dense.

    - %bn = batchnorm(%x, %scale, %shift, %mean, %var) : f32[N,8,6,6]
    + %bn = conv2d(%x, %bn.factor, %bn.shift) {groups=8, kernel=[1,1]} : f32[N,8,6,6]
    """

    name: ClassVar[str] = "expand-batchnorm"

    def run(self, graph: Graph, context: Context) -> bool:
        nodes = [node for node in graph.nodes if node.op == "batchnorm" and _expand(graph, node)]
        if nodes:
            edit.erase_unread_weights(graph)
        return bool(nodes)


def _expand(graph: Graph, node: Node) -> bool:
    """Whether the numbers are constants, and the shape one that an op takes."""
    map, x = _normalisation(graph, node), node.operand(0)
    rank = len(x.tensor_type.shape or ())
    if map is None or rank not in (2, 4) or not is_float(x, node.result):
        return False
    if rank == 2 and _into_dense(graph, node, *map):
        return True
    factor, shift = (numbers.astype(np.float32) for numbers in map)
    first, second = (edit.unique_name(graph, f"{node.name}.{name}") for name in ("factor", "shift"))
    behind = edit.add_weight(graph, second, Tensor(shift))
    if rank == 4:
        row = edit.add_weight(graph, first, Tensor(factor.reshape(-1, 1, 1, 1)))
        edit.set_operands(node, [x, row, behind])
        edit.set_op(node, "conv2d", {"groups": len(factor), "kernel": (1, 1)})
        return True
    scale = edit.add_weight(graph, first, Tensor(factor))
    name = edit.unique_name(graph, f"{node.name}.scaled")
    scaled = edit.add_node(graph, "mul", [x, scale], {name: node.result.type}, before=node, source=node.source)
    edit.set_operands(node, [scaled.result, behind])
    edit.set_op(node, "add", {})
    return True


def _into_dense(graph: Graph, node: Node, factor: Array, shift: Array) -> bool:
    """dense(x factor + shift, w, b) -> dense(x, w factor, b + w shift): the batchnorm goes."""
    dense = only_reader(graph, node.result)
    if dense is None or dense.op != "dense" or dense.operand(0) is not node.result:
        return False
    weight, bias = dense.operand(1), dense.optional(2)
    w, b = constant(graph, weight), np.float32(0) if bias is None else constant(graph, bias)
    if w is None or b is None or not all(is_plain(value) for value in (weight, bias or weight)):
        return False
    w = w.astype(np.float64)
    edit.give_weight(dense, 1, Tensor((w * factor).astype(np.float32)), weight.name)
    edit.give_weight(
        dense, 2, Tensor((b + w @ shift).astype(np.float32)), dense.name + ".bias" if bias is None else bias.name
    )
    bypass(graph, node)
    return True


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
