"""How much a format damages the network's answers: the divergence of its output from the float network's.

    damage = mean over samples of KL(p || q) = sum p log(p / q),   p, q = softmax of the float and of the changed scores

measured with one variable changed, from the cut before it on. Not every width is measured: an error of rounding falls
by 4 a bit, and the divergence grows with its square, so that log(damage) is taken as a line between two widths that
were measured, and as one of slope -log 4 a bit beyond the widest of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats import Canonical
from bitwright.ir.tensor import Array
from bitwright.tuner.targets import Target
from bitwright.tuner.whittle.network import Assignment, Built, Network, numbers_of

SAMPLES = 250
MEASURED = (0, 1, 2, 4)
"""Which of a tensor's formats are measured, narrowest first."""
A_BIT = math.log(4)


class Sensitivity:
    """Damages of single changes, on the first samples of a network."""

    def __init__(self, network: Network, samples: int = SAMPLES) -> None:
        self.network = network
        self.samples = min(samples, network.floats.samples)
        self.float_log = log_probabilities(network.floats.logits[: self.samples])

    def alone(self, targets: tuple[Target, ...], formats: Sequence[Canonical]) -> list[float]:
        """For each format, narrowest first, the damage if only these tensors have it, everything else being float."""
        measured = [formats[i] for i in MEASURED if i < len(formats)]
        damages = self._alone(targets, measured)
        return along([f.width for f in formats], [f.width for f in measured], damages)

    def _alone(self, targets: tuple[Target, ...], formats: Sequence[Canonical]) -> list[float]:
        network = self.network
        built = [Built()] * len(formats)
        for target in targets:
            found: list[tuple[Canonical, dict[str, Array]]]
            if target.role == "input":
                found = [(network.input_format(target, format)[0], {}) for format in formats]
            else:
                fits = network.fit_alone(target, formats)
                found = [(fitted.format, numbers_of(network.node(target), fitted)) for fitted in fits]
            built = [one.with_format(target, *new) for one, new in zip(built, found, strict=True)]
        place = min(map(network.place, targets))
        return [self._damage(one, network.floats.values, place) for one in built]

    def together(self, assignment: Assignment) -> float:
        """The damage of a whole assignment."""
        state = self.network.state(assignment, len(self.network.order))
        return self._damage(state.built, state.values, state.place)

    def changed(self, assignment: Assignment, number: int, format: Canonical) -> float:
        """The damage of an assignment with one variable in another format; the others keep their numbers."""
        network = self.network
        built = network.state(assignment, len(network.order)).built
        first = None
        for i, target in enumerate(network.order):
            if network.variable[target.name] != number:
                continue
            before = network.state(assignment, i)
            after = network.extended(before, target, format)
            values = {name: array for name, array in after.built.values.items() if name not in before.built.values}
            built = built.with_format(target, after.built.formats[target.name], values)
            first = first or after
        assert first is not None
        return self._damage(built, first.values, first.place)

    def _damage(self, built: Built, values: dict[str, Array], place: int) -> float:
        network = self.network
        network.use(built)
        given = {name: values[name][: self.samples] for name in network.cuts.live[place]}
        network.problem.charge(self.samples * network.cuts.share(place))
        return divergence(self.float_log, network.cuts.outputs(given, place))


def along(widths: Sequence[int], measured: Sequence[int], damages: Sequence[float]) -> list[float]:
    """The damage of every width from those measured at some widths, ascending from the narrowest on."""
    logs = np.log(np.maximum(damages, 1e-30))
    beyond = np.maximum(np.array(widths) - measured[-1], 0) * A_BIT
    return [float(damage) for damage in np.exp(np.interp(widths, measured, logs) - beyond)]


def log_probabilities(scores: Array) -> NDArray[np.float64]:
    """log softmax of scores [N, classes]."""
    wide = scores.astype(np.float64)
    shifted = wide - wide.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def divergence(float_log: NDArray[np.float64], scores: Array) -> float:
    """The mean KL divergence of scores [N, classes] from log probabilities."""
    return float((np.exp(float_log) * (float_log - log_probabilities(scores))).sum(1).mean())
