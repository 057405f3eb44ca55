"""freeze-inputs: inputs that have a default value become weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir import edit
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.lower import lower
from bitwright.passes.base import Context, Pass


@dataclass(frozen=True)
class FreezeInputs(Pass):
    """Inputs with a default value, as some exporters list their weights, become weights; ops are lowered anew.

    - input %conv1.weight = 4b556bef : f32[6,1,5,5]
    + weight %conv1.weight = 4b556bef : f32[6,1,5,5]
    - %conv1 = onnx.Conv(%x, %conv1.weight) {kernel_shape=[5,5]} : f32[1,6,24,24]
    + %conv1 = conv2d(%x, %conv1.weight) {kernel=[5,5]} : f32[1,6,24,24]
    """

    name: ClassVar[str] = "freeze-inputs"

    def run(self, graph: Graph, context: Context) -> bool:
        found = [value for value in graph.inputs if value.tensor is not None]
        for value in found:
            edit.freeze_input(graph, value)
        if found:
            lower(graph)
        return bool(found)
