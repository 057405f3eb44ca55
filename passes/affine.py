"""recognise-affine: subtracting a constant is adding one, dividing by a constant is multiplying by one.

1 / c is rounded to float32, so that x (1 / c) may differ from x / c in the last place; for powers of two it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node
from bitwright.ir.tensor import Tensor
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import constant, is_float


@dataclass(frozen=True)
class RecogniseAffine(Pass):
    """Sub and Div of float32 data with a constant behind them become add and mul.

    - weight %mean = [0.5] : f32[]
    + weight %mean = [-0.5] : f32[]
    - %centred = onnx.Sub(%x, %mean) : f32[N,3,8,8]
    + %centred = add(%x, %mean) : f32[N,3,8,8]
    """

    name: ClassVar[str] = "recognise-affine"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in list(graph.nodes):
            changed |= node.op in ("onnx.Sub", "onnx.Div") and _turn(graph, node)
        return changed


def _turn(graph: Graph, node: Node) -> bool:
    other = node.operand(1)
    data = constant(graph, other)
    if data is None or not is_float(node.operand(0), other, node.result):
        return False
    if node.op == "onnx.Sub":
        edit.give_weight(node, 1, Tensor(np.asarray(-data)), other.name)
        edit.set_op(node, "add", {})
        return True
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / data
    if not np.isfinite(inverse).all():
        return False
    edit.give_weight(node, 1, Tensor(np.asarray(inverse, np.float32)), other.name)
    edit.set_op(node, "mul", {})
    return True
