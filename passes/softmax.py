"""drop-softmax: the highest score stays the highest without it, and the host can do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir.graph import Graph
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import bypass

FINAL = ("softmax", "onnx.Softmax", "onnx.LogSoftmax", "onnx.Sigmoid")


@dataclass(frozen=True)
class DropSoftmax(Pass):
    """Remove softmax, log-softmax and sigmoid at the outputs: these then show the scores before, under their own names.

    - %prob = softmax(%fc2) : f32[1,10]
    - output %prob
    + output %fc2 as "prob"
    """

    name: ClassVar[str] = "drop-softmax"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for output in graph.outputs:
            node = output.value.producer
            if node is not None and node.op in FINAL and not node.result.uses:
                context.notes.append(f'"{output.name}" shows the scores before %{node.name}, which is left to the host')
                bypass(graph, node)
                changed = True
        return changed
