"""recognise-dense: MatMul with constant weights, and the Add after it, as one dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import F32, Type
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import absorb, constant, is_bare_sum, is_plain, only_reader


@dataclass(frozen=True)
class RecogniseDense(Pass):
    """MatMul of float32 data with a constant matrix becomes dense, and a constant vector added after it its bias.

    - weight %w = 91c7b353 : f32[84,10]
    + weight %w = 07f2b4b9 : f32[10,84]
    - %y = onnx.MatMul(%x, %w) : f32[1,10]
    - %z = add(%y, %b) : f32[1,10]
    + %y = dense(%x, %w, %b) : f32[1,10]
    """

    name: ClassVar[str] = "recognise-dense"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in list(graph.nodes):
            changed |= node.op == "onnx.MatMul" and _is_float(node.operands[0]) and _to_dense(graph, node)
        for node in list(graph.nodes):
            changed |= node.op == "dense" and is_bare_sum(node) and _take_bias(graph, node)
        if changed:
            edit.erase_unread_weights(graph)
        return changed


def _is_float(value: Value | None) -> bool:
    type = value.type if value is not None else None
    return isinstance(type, Type) and type.format == F32 and type.shape is not None and len(type.shape) >= 2


def _to_dense(graph: Graph, node: Node) -> bool:
    """Whether a MatMul's second operand is a constant matrix, with which it is a dense."""
    weight = node.operand(1)
    matrix = constant(graph, weight)
    if matrix is None or matrix.ndim != 2 or not is_plain(weight):
        return False
    edit.give_weight(node, 1, Tensor(np.ascontiguousarray(matrix.T)), weight.name + ".T", turned=True)
    edit.set_op(node, "dense", {})
    return True


def _take_bias(graph: Graph, node: Node) -> bool:
    """Whether an add of a constant vector follows that could become the bias."""
    reader = only_reader(graph, node.result)
    if node.optional(2) is not None or reader is None or reader.op != "add" or not is_plain(node.result):
        return False
    other = reader.operand(1) if reader.operand(0) is node.result else reader.operand(0)
    rows, data = node.operand(1).tensor_type.shape, constant(graph, other)
    if rows is None or data is None or data.size != rows[0] or data.shape[-1:] != rows[:1]:
        return False
    if data.ndim > len(node.result.tensor_type.shape or ()):  # the sum would have a dimension more
        return False
    edit.set_operands(node, [*node.operands[:2], other])
    absorb(graph, node, reader)
    if data.ndim > 1:
        edit.give_weight(node, 2, Tensor(data.reshape(-1)), other.name)
    return True
