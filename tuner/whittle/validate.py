"""Whether a candidate reaches its accuracy, on as few images as that takes: a paired sequential test, hardest first.

Images are ordered by the float network's margin between its two highest scores: where it is small, formats change
answers first. Compared with the float network, image by image, a candidate loses right answers and gains some; the loss
D = losses - gains may be so large. After m images with D so far, of which the last c lost l and gained g,

    no     D - Z sqrt((l + g + 1) n / c) > allowed      the n images to come gain on balance only by chance
    yes    D + n (l - g + Z sqrt(l + g + 1)) / c <= allowed     they lose at most at the rate of the last, easier as
                                                                they are, and chance on top

with Z = 3 standard deviations; after all images the answer is exact. What a search ends with is measured on all images.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.tensor import Array
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.problem import Problem

FIRST = 500
Z = 3.0


class Validation:
    """Sequential tests of candidates on the full set of a problem."""

    def __init__(self, problem: Problem, judge: SimulationJudge, scores: Array, right: NDArray[np.bool_]) -> None:
        """scores: the float network's [N, classes]; right: whether its answers are."""
        self.problem = problem
        self.judge = judge
        top = np.partition(scores, -2, axis=1)[:, -2:] if scores.shape[1] > 1 else np.zeros((len(scores), 2))
        self.order: NDArray[np.int64] = np.argsort(top[:, 1] - top[:, 0], kind="stable")
        self.float_right = right[self.order]
        sizes = [FIRST]
        while sum(sizes) < judge.images:
            sizes.append(2 * sizes[-1])
        ends = np.minimum(np.cumsum(sizes), judge.images).tolist()
        self.parts = list(zip([0, *ends[:-1]], ends, strict=True))

    @property
    def allowed(self) -> int:
        """Right answers that a candidate may lose on balance."""
        least = math.ceil(self.problem.least() * self.judge.images - 1e-9)
        return int(self.float_right.sum()) - least

    def holds(self, candidate: Candidate) -> bool:
        """Whether the candidate reaches the accuracy. Raises OutOfTime once the budget is spent."""
        lost = 0
        for start, stop in self.parts:
            net, changed = self._changes(candidate, start, stop)
            lost += net
            left, chance = self.judge.images - stop, Z * math.sqrt(changed + 1)
            size = stop - start
            if lost - chance * math.sqrt(left / size) > self.allowed:
                return False
            if lost + left * max(net + chance, 0) / size <= self.allowed:
                return True
        return lost <= self.allowed

    def accuracy(self, candidate: Candidate) -> float:
        """The accuracy on all images; those that were seen in a test are not run again."""
        net = sum(self._changes(candidate, start, stop)[0] for start, stop in self.parts)
        right = int(self.float_right.sum()) - net
        return self.problem.record(candidate, "full", 0.0, lambda: right / self.judge.images)

    def _changes(self, candidate: Candidate, start: int, stop: int) -> tuple[int, int]:
        """On part of the images: right answers lost on balance, and how many were lost or gained."""
        which, before = self.order[start:stop], self.float_right[start:stop]
        hits = cache(lambda: self.judge.hits(candidate, which))
        record, part, share = self.problem.record, f"hardest {start}-{stop}", len(which) / self.judge.images
        right = record(candidate, part, share, lambda: float(hits().mean()))
        changed = record(candidate, part + " changed", 0.0, lambda: float((hits() != before).mean()), quiet=True)
        return int(before.sum()) - round(right * len(which)), round(changed * len(which))
