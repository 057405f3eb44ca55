"""A network cut between any two of its nodes, so that a change in one layer runs only what comes after it.

live(i) are the values that nodes i, i + 1, ... read and that come from before: what a run from there must be given.
The cost of a run is the share of the network's multiplications that it does.
"""

from __future__ import annotations

import numpy as np

from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import by_class
from bitwright.ir.graph import Graph, Value
from bitwright.ir.tensor import Array
from bitwright.tuner.objectives import macs


class Cuts:
    """The cuts of one graph, and runs between them on the samples x [N, ...] of its only input."""

    def __init__(self, graph: Graph, x: Array, threads: int = 0) -> None:
        self.graph = graph
        self.x = x
        self.place = {node.name: i for i, node in enumerate(graph.nodes)}
        self.simulation = Simulation(graph, threads, bake_from=1 << 62)
        self.live = [self._live(i) for i in range(len(graph.nodes) + 1)]
        work = [macs(node) if node.op in ("conv2d", "dense") else 0 for node in graph.nodes]
        self.work = np.array(work, np.float64) / max(sum(work), 1)

    def _live(self, place: int) -> list[str]:
        """The names of the values that come from before a place and are read from there on."""
        before = {id(value) for value in self.graph.inputs}
        before |= {id(result) for node in self.graph.nodes[:place] for result in node.results}
        read: list[Value | None] = [value for node in self.graph.nodes[place:] for value in node.operands]
        read += [output.value for output in self.graph.outputs]
        return list(dict.fromkeys(v.name for v in read if v is not None and id(v) in before))

    def share(self, start: int, stop: int | None = None) -> float:
        """The share of the network's multiplications in nodes start, ..., stop - 1."""
        return float(self.work[start:stop].sum())

    def inputs(self) -> dict[str, Array]:
        """The samples, as the values that are live before the first node."""
        return {self.graph.inputs[0].name: self.x}

    def use(self, graph: Graph) -> None:
        """Run `graph` from now on: the same but for formats and numbers."""
        self.simulation.use(graph)

    def forward(self, values: dict[str, Array], start: int, stop: int) -> dict[str, Array]:
        """The values live at `stop` from those live at `start`."""
        wanted = self.live[stop]
        made = [name for name in wanted if name not in values]
        if not made:
            return {name: values[name] for name in wanted}
        given = self.live[start]
        found = self.simulation.run({name: values[name] for name in given}, given=given, wanted=made)
        return {name: found[name] if name in found else values[name] for name in wanted}

    def outputs(self, values: dict[str, Array], start: int) -> Array:
        """The first output [N, classes] from the values live at `start`."""
        output = self.graph.outputs[0].value
        given = self.live[start]
        found = self.simulation.run({key: values[key] for key in given}, given=given, wanted=[output.name])
        return by_class(output, found[output.name])
