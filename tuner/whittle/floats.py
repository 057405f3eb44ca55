"""One pass of all images through the float network, and what is kept of it.

The values that the search works with are kept of the first samples. A layer of many inputs learns little of its weights
from these (a dense layer has one row of inputs a sample), so that the inputs of such layers are kept of more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bitwright.backends.simulation.run import Simulation, numbers
from bitwright.backends.simulation.score import by_class
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array

SAMPLES, LEAST_SAMPLES = 2000, 32
MOST_BYTES = 1 << 30
"""Of the values that are kept of the samples, and of those that are kept of more."""


@dataclass(frozen=True)
class Floats:
    """values: of the samples, by name; further: of the samples after these, by name; scores: [N, classes] of all."""

    values: dict[str, Array]
    further: dict[str, Array]
    scores: Array

    @property
    def samples(self) -> int:
        """How many they are."""
        return len(next(iter(self.values.values())))

    @property
    def logits(self) -> Array:
        """The scores of the samples."""
        return self.scores[: self.samples]

    @property
    def fitted(self) -> int:
        """Of how many images, the first ones, something is kept."""
        return self.samples + max(map(len, self.further.values()), default=0)


def affordable(graph: Graph, names: Sequence[str]) -> int:
    """How many samples all these values may be kept of."""
    return min(SAMPLES, max(LEAST_SAMPLES, _kept_at_most(graph, names)))


def float_pass(
    graph: Graph,
    x: Array,
    samples: int,
    kept: Sequence[str],
    needed: Mapping[str, int],
    threads: int,
    most_samples: int | None = None,
) -> Floats:
    """Run images x [N, ...]. kept: values of the first `samples`; needed: of which of them more are.

    most_samples: of how many anything is kept; of all by default.
    """
    simulation = Simulation(graph, threads)
    image, outside = graph.inputs[0].name, graph.input_name(graph.inputs[0])
    output = graph.outputs[0].value.name
    poor = {name: count for name, count in needed.items() if count > samples}
    rich = min(len(x[:most_samples]), _kept_at_most(graph, poor), max(poor.values(), default=0))

    def run(start: int, stop: int, names: Sequence[str]) -> dict[str, Array]:
        part = x[start:stop]
        wanted = list(dict.fromkeys(name for name in (*names, output) if name != image))
        return {**simulation.run({outside: part}, wanted=wanted), image: part}

    values = run(0, samples, kept)
    scores, further = [values[output]], {}
    if samples < rich:
        found = run(samples, rich, list(poor))
        further = {name: found[name][: count - samples] for name, count in poor.items()}
        scores.append(found[output])
    if max(samples, rich) < len(x):
        scores.append(run(max(samples, rich), len(x), ())[output])
    return Floats(values, further, by_class(graph.outputs[0].value, np.concatenate(scores)))


def _kept_at_most(graph: Graph, names: Iterable[str]) -> int:
    """How many samples these values take MOST_BYTES of."""
    return MOST_BYTES // (4 * max(sum(numbers(graph.values[name]) for name in names), 1))
