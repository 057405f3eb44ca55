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
from bitwright.passes.chains import absorb, is_plain, only_reader


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
            if node.op == "onnx.MatMul" and _is_constant_matrix(node.operands[1]) and _is_float(node.operands[0]):
                _to_dense(graph, node)
                changed = True
        for node in list(graph.nodes):
            changed |= node.op == "dense" and _take_bias(graph, node)
        if changed:
            edit.erase_unread_weights(graph)
        return changed


def _is_float(value: Value | None) -> bool:
    type = value.type if value is not None else None
    return isinstance(type, Type) and type.format == F32 and type.shape is not None and len(type.shape) >= 2


def _is_constant_matrix(value: Value | None) -> bool:
    return value is not None and value.tensor is not None and len(value.tensor.shape) == 2


def _to_dense(graph: Graph, node: Node) -> None:
    weight = node.operand(1)
    assert weight.tensor is not None
    turned = Tensor(np.ascontiguousarray(weight.tensor.data.T))
    if len(weight.uses) == 1 and weight in graph.weights:
        edit.set_tensor(weight, turned)
    else:
        edit.set_operand(node, 1, edit.add_weight(graph, edit.unique_name(graph, weight.name + ".T"), turned))
    edit.set_op(node, "dense", {})


def _take_bias(graph: Graph, node: Node) -> bool:
    """Whether an add of a constant vector follows that could become the bias."""
    reader = only_reader(graph, node.result)
    if len(node.operands) > 2 or node.attributes or reader is None or reader.op != "add" or not is_plain(node.result):
        return False
    other = reader.operand(1) if reader.operand(0) is node.result else reader.operand(0)
    rows = node.operand(1).tensor_type.shape
    if other.tensor is None or rows is None or other.tensor.size != rows[0] or other.tensor.shape[-1:] != rows[:1]:
        return False
    if other.tensor.shape == rows[:1]:
        bias = other
    else:
        flat = Tensor(other.tensor.data.reshape(-1))
        bias = edit.add_weight(graph, edit.unique_name(graph, other.name), flat)
    edit.set_operands(node, [*node.operands[:2], bias])
    absorb(graph, node, reader)
    return True
