"""Whether a candidate reaches its accuracy, on as few images as that takes: a paired, stratified, sequential test.

Images that numbers were fitted to say little of others, and are left out, as long as some are left. The others are
ordered by how far apart the float network's two highest scores are: where they are close, formats change answers first.
Compared with the float network, image by image, a candidate loses right answers and gains some; the loss D = losses -
gains may be so large. The order is cut into strata s of N_s images, the hardest being the smallest, and every part of
the test takes as many images from each. After n_s images with the loss D_s, c_s of them changed,

    D ~ sum N_s D_s / n_s     variance ~ sum N_s (N_s - n_s) / n_s p_s,   p_s = (c_s + 1/2) / (n_s + 1)

A search takes the cheapest of many candidates, and some lose little on its images by chance alone. From one set of
images to the next the loss differs by the scatter sqrt(sum c_s + (N_s - n_s) p_s). What is compared with the bound is
therefore D and a margin of so many scatters (Constraint.margin): the loss that other images are likely to stay within.

The test ends when the bound is Z standard deviations away. Once half of the images were seen and a deviation is small
beside the scatter, it ends too: the bound must then be one away. What a search ends with is measured on all images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.tensor import Array
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.problem import Problem

ESTIMATE = "estimate"
FIRST = 400
"""Images of the first part; a later one takes as many, or GROWTH of all before if that is more."""
GROWTH = 0.5
Z = 2.5
CLOSE = 0.25
"""The share of the scatter that a deviation must come down to."""
STRATA = (0.05, 0.15, 0.4, 1.0)
"""Where each stratum ends, as a share of the images, hardest first."""

Order = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """Whether a candidate holds, and the right answers that it is expected to lose on balance, the margin included.

    deviation: of these on the images of the search; scatter: from one set of so many images to the next.
    """

    holds: bool
    lost: float
    deviation: float
    scatter: float


class Validation:
    """Sequential tests of candidates on the full set of a problem."""

    def __init__(
        self, problem: Problem, judge: SimulationJudge, scores: Array, right: NDArray[np.bool_], fitted: int = 0
    ) -> None:
        """scores: the float network's [N, classes]; right: whether its answers are; fitted: to so many first images.

        Losses are those from `right`, or from the problem's reference where it has one.
        """
        self.problem = problem
        self.judge = judge
        self.reference = right if problem.reference is None else problem.reference
        self.margin = 0.0 if problem.constraint.confidence is not None else problem.constraint.margin
        first = fitted if fitted < len(right) else 0
        self.images = len(right) - first
        top = np.partition(scores, -2, axis=1)[:, -2:] if scores.shape[1] > 1 else np.zeros((len(scores), 2))
        hardest = first + np.argsort((top[:, 1] - top[:, 0])[first:], kind="stable")
        strata = np.split(hardest, [int(end * self.images) for end in STRATA[:-1]])
        self.sizes = np.array([len(stratum) for stratum in strata])
        self.parts = {f"part {number}": part for number, part in enumerate(parts(strata, problem.seed))}
        self.fitted = np.arange(first)

    @property
    def allowed(self) -> float:
        """Right answers that a candidate may lose on balance on the images of the tests: their share of all of them."""
        everywhere = int(self.reference.sum()) - self.problem.least() * self.judge.images
        return everywhere * self.images / self.judge.images + 1e-9

    def tested(self, candidate: Candidate) -> Outcome:
        """Whether the candidate reaches the accuracy; what does is recorded with its estimate.

        Raises OutOfTime once the budget is spent.
        """
        found = self._tested(candidate)
        if found.holds:
            lost = (found.lost - self.margin * found.scatter) / self.images
            self.problem.record(candidate, ESTIMATE, 0.0, lambda: float(self.reference.mean()) - lost)
        return found

    def _tested(self, candidate: Candidate) -> Outcome:
        seen, lost, changed = np.zeros((3, len(self.sizes)))
        holds, expected, deviation, scatter = None, 0.0, 0.0, 0.0
        for name, part in self.parts.items():
            seen += [len(which) for which in part]
            losses, changes = self._changes(candidate, name, part)
            lost += losses
            changed += changes
            expected, deviation = estimate(self.sizes, seen, lost, changed)
            scatter = self._scatter(seen, changed)
            expected += self.margin * scatter
            if expected - Z * deviation > self.allowed:
                holds = False
            elif expected + Z * deviation <= self.allowed:
                holds = True
            elif not (2 * seen.sum() >= self.images and deviation <= CLOSE * scatter):
                continue
            break
        if holds is None:
            holds = bool(expected + deviation <= self.allowed)
        return Outcome(holds, expected, deviation, scatter)

    def _scatter(self, seen: NDArray[np.float64], changed: NDArray[np.float64]) -> float:
        """The deviation of the loss from one set of images to the next: each change is one more or one less."""
        return math.sqrt(float((changed + (self.sizes - seen) * rates(seen, changed)).sum()))

    def measured(self, candidate: Candidate) -> Outcome:
        """Whether the candidate reaches the accuracy on the images of the tests, with the margin, and on all images.

        Those that were seen in a test are not run again.
        """
        found = [self._changes(candidate, name, part) for name, part in self.parts.items()]
        lost, changed = (int(np.sum(counts)) for counts in zip(*found, strict=True))
        fitted = int(self._changes(candidate, "fitted", [self.fitted])[0].sum()) if len(self.fitted) else 0
        right = int(self.reference.sum()) - lost - fitted
        accuracy = self.problem.record(candidate, "full", 0.0, lambda: right / self.judge.images)
        scatter = math.sqrt(changed)
        expected = lost + self.margin * scatter
        return Outcome(expected <= self.allowed and accuracy >= self.problem.least(), expected, 0.0, scatter)

    def _changes(
        self, candidate: Candidate, name: str, part: list[Order]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Right answers that a part loses on balance, and how many are lost or gained, by stratum."""
        which = np.concatenate(part)
        before = self.reference[which]
        hits = cache(lambda: self.judge.hits(candidate, which))
        ends = np.cumsum([len(own) for own in part])[:-1]

        def sums(what: str, of: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
            def of_stratum(stratum: int) -> float:
                return float(np.split(of(), ends)[stratum].sum())

            names = [f"{name} {what} {stratum}" for stratum in range(len(part))]
            found = [
                self.problem.record(candidate, name, 0.0, lambda i=i: of_stratum(i), quiet=True)  # type: ignore[misc]
                for i, name in enumerate(names)
            ]
            return np.array(found, np.int64)

        self.problem.record(candidate, name, len(which) / self.judge.images, lambda: float(hits().mean()))
        return (
            sums("lost", lambda: before.astype(np.int64) - hits()),
            sums("changed", lambda: (before != hits()).astype(np.int64)),
        )


def parts(strata: list[Order], seed: int) -> list[list[Order]]:
    """The images of each part, by stratum: as many of each stratum while it lasts, drawn at random."""
    random = np.random.default_rng(seed)
    left = [random.permutation(stratum) for stratum in strata]
    found: list[list[Order]] = []
    size = FIRST
    while any(map(len, left)):
        taken: list[Order] = []
        for i in range(len(left)):  # what a small stratum lacks, the next one gives
            share = math.ceil((size - sum(map(len, taken))) / (len(left) - i))
            taken.append(left[i][:share])
            left[i] = left[i][share:]
        found.append(taken)
        size = max(FIRST, int(GROWTH * sum(len(own) for part in found for own in part)))
    return found


def estimate(
    sizes: NDArray[np.int64], seen: NDArray[np.float64], lost: NDArray[np.float64], changed: NDArray[np.float64]
) -> tuple[float, float]:
    """The loss on all images and its standard deviation, from what was seen of each stratum; all 0 for an empty one."""
    counted = np.maximum(seen, 1)
    variance = sizes * (sizes - seen) / counted * rates(seen, changed)
    return float((sizes / counted * lost).sum()), math.sqrt(float(variance.sum()))


def rates(seen: NDArray[np.float64], changed: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of each stratum's answers that change, of which so many did."""
    return (changed + 0.5) / (seen + 1)
