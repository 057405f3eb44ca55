"""Whether a candidate reaches its accuracy, on as few images as that takes: the hardest first.

Images are ordered by the float network's margin between its two highest scores: where it is small, formats change
answers first. So many wrong answers are allowed; more than that among the first images is a certain no. A yes is given
once the images still to come cannot be expected to bring it down: they are easier than the last ones seen, whose rate
of wrong answers is bounded by Clopper and Pearson at 99.9 %. What a search ends with is measured on all images.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.tensor import Array
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.confidence import upper_bound
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.problem import Problem

FIRST = 500
SURE = 0.999


class Validation:
    """Sequential tests of candidates on the full set of a problem."""

    def __init__(self, problem: Problem, judge: SimulationJudge, scores: Array) -> None:
        """scores: the float network's [N, classes]."""
        self.problem = problem
        self.judge = judge
        top = np.partition(scores, -2, axis=1)[:, -2:] if scores.shape[1] > 1 else np.zeros((len(scores), 2))
        self.order: NDArray[np.int64] = np.argsort(top[:, 1] - top[:, 0], kind="stable")

    @property
    def allowed(self) -> int:
        """Wrong answers that a candidate may give."""
        images = self.judge.images
        return images - math.ceil(self.problem.least() * images - 1e-9)

    def holds(self, candidate: Candidate) -> bool:
        """Whether the candidate reaches the accuracy. Raises OutOfTime once the budget is spent."""
        wrong, start, size = 0, 0, FIRST
        while start < self.judge.images:
            stop = min(start + size, self.judge.images)
            found = self._wrong(candidate, start, stop)
            wrong += found
            left = self.judge.images - stop
            if wrong > self.allowed:
                return False
            if wrong + upper_bound(found, stop - start, SURE) * left <= self.allowed:
                return True
            start, size = stop, 2 * size
        return True

    def _wrong(self, candidate: Candidate, start: int, stop: int) -> int:
        which = self.order[start:stop]
        share = self.problem.record(
            candidate,
            f"hardest {start}-{stop}",
            len(which) / self.judge.images,
            lambda: float(self.judge.hits(candidate, which).mean()),
        )
        return round((1 - share) * len(which))
