"""A network run layer by layer on samples: what each layer's sums read, as the graph is when the layer is reached.

A pass may change a layer before the walk goes on: the layers after it then read what the changed one gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from bitwright.ir.evaluate import bind
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.part import live, part
from bitwright.ir.tensor import Array
from bitwright.ir.types import Type
from bitwright.passes.base import Context

MOST_SAMPLES, LEAST_SAMPLES = 1000, 16
MOST_BYTES = 1 << 30


class Walk:
    """The values that are live at one place of a graph, on samples; the place only moves forward."""

    def __init__(self, graph: Graph, samples: Mapping[str, Array], context: Context) -> None:
        self.graph = graph
        self.context = context
        self.place = 0
        self.values = {value.name: array for value, array in bind(graph, samples)}

    def input_of(self, node: Node) -> Array:
        """What a node's first operand holds [N, ...]. The node is at the present place or after it."""
        place = next(i for i, other in enumerate(self.graph.nodes) if other is node)
        if place > self.place:
            between = part(self.graph, self.place, place)
            found = self.context.executor(between, self.values, ()) if between.outputs else {}
            found = {**found, **self.values}
            self.values = {value.name: found[value.name] for value in live(self.graph, place)}
            self.place = place
        return self.values[node.operand(0).name]


def affordable(graph: Graph, samples: Mapping[str, Array]) -> dict[str, Array]:
    """The first 1,000 samples, or as many as 1 GB holds of the values at the widest place of the graph."""
    widest = max((sum(map(numbers, live(graph, i))) for i in range(len(graph.nodes) + 1)), default=1)
    count = min(MOST_SAMPLES, max(LEAST_SAMPLES, MOST_BYTES // (4 * max(widest, 1))))
    return {name: array[:count] for name, array in samples.items()}


def numbers(value: Value) -> int:
    """How many numbers a value holds for one sample, as far as its type says."""
    shape = value.type.shape if isinstance(value.type, Type) else None
    return math.prod(dim for dim in (shape or ())[1:] if isinstance(dim, int))
