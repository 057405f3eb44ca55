"""drop-softmax: the highest score stays the highest without it, and the host can do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir.graph import Graph
from bitwright.ir.scores import decides
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import bypass


@dataclass(frozen=True)
class DropSoftmax(Pass):
    """Remove softmax, log-softmax, sigmoid and argmax at the outputs, which then show the scores before.

    They keep their outside names; what stood at several outputs is gone from all of them.

    - %prob = softmax(%fc2) : f32[1,10]
    - output %prob
    + output %fc2 as "prob"
    """

    name: ClassVar[str] = "drop-softmax"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for output in graph.outputs:
            while (node := output.value.producer) is not None and decides(node) and not node.result.uses:
                context.notes.append(f'"{output.name}" shows the scores before %{node.name}, which is left to the host')
                bypass(graph, node)
                changed = True
        return changed
