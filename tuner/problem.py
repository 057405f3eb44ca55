"""What a search algorithm sees: the space, the objective, accuracies on demand, and the threshold these must reach.

Every accuracy goes through `accuracies`: it is measured once, recorded, and counted. Algorithms are functions of a
Problem and deterministic in what it answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.ir.formats.named import FLOAT32
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.confidence import lower_bound
from bitwright.tuner.database import Database, Evaluation
from bitwright.tuner.judge import Judge
from bitwright.tuner.objectives import Objective
from bitwright.tuner.space import Space, uniform, with_aliases
from bitwright.tuner.workers import Workers


class OutOfTime(Exception):
    """The budget is spent; what was found so far stands: `found`, where the search says what that is."""

    def __init__(self, found: Candidate | None = None) -> None:
        self.found = found


@dataclass(frozen=True)
class Constraint:
    """The least accuracy: a share of the float network's, or a floor; with `confidence`, asked of its lower bound.

    margin: in whittle, what holds must hold with so many standard deviations more right answers lost, by which the loss
    differs from one set of images to the next; none with `confidence`, whose bound is a margin itself.
    """

    tolerance: float = 0.01
    floor: float | None = None
    confidence: float | None = None
    margin: float = 1.0

    def least(self, reference: float, images: int | None) -> float:
        """The accuracy to reach, given the float network's. Raises CompileError if no accuracy is high enough."""
        least = reference * (1 - self.tolerance) if self.floor is None else self.floor
        if images is None:
            if self.confidence is None:
                return least
            raise CompileError(
                "a confidence is of a number of images, which a command does not tell", help="leave --confidence out"
            )
        if self.confidence is None:
            right = round(least * images)  # what misses a number of right answers by rounding alone, means it
            return right / images if math.isclose(right, least * images, rel_tol=1e-12) else least
        low, high = 0, images + 1
        while low < high:  # the fewest right answers whose lower bound is high enough
            middle = (low + high) // 2
            low, high = (low, middle) if lower_bound(middle, images, self.confidence) >= least else (middle + 1, high)
        if low > images:
            raise CompileError(
                f"{images:,} images cannot show an accuracy of {least:.4f} with confidence {self.confidence:g}",
                help="give more data, a larger tolerance or a lower confidence",
            )
        return low / images


@dataclass
class Problem:
    """A search. `say` is told every evaluation; `deadline` is a time.monotonic() or None; the others as in Options."""

    space: Space
    objective: Objective
    judge: Judge
    constraint: Constraint
    database: Database
    workers: Workers
    seed: int = 0
    deadline: float | None = None
    refine: bool = True
    reference: NDArray[np.bool_] | None = None
    say: Callable[[Evaluation], None] = lambda evaluation: None
    trace: list[Evaluation] = field(default_factory=list)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    answers: dict[tuple[str, str], Evaluation] = field(default_factory=dict)
    spent: float = 0.0
    _least: dict[bool, float] = field(default_factory=dict)

    def formats(self, formats: Mapping[str, Canonical], values: Mapping[str, object] | None = None) -> Candidate:
        """A candidate of formats by target."""
        return Candidate(with_aliases(self.space, formats), dict(values or {}))  # type: ignore[arg-type]

    def cost(self, candidate: Candidate) -> float:
        return self.objective(candidate.formats)

    @property
    def float32(self) -> Candidate:
        """Every target in FLOAT(32): where libnumber's search starts, and what tolerances are relative to."""
        return self.formats(uniform(self.space, FLOAT32))

    def least(self, full: bool = True) -> float:
        """The accuracy that a candidate must reach on the full or the small set."""
        if full not in self._least:
            reference = self.accuracy(self.float32, full)
            constraint = self.constraint if full else replace(self.constraint, confidence=None)
            images = self.judge.images
            counted = None if images is None else round(images * self.judge.share(full))
            self._least[full] = constraint.least(reference, counted)
        return self._least[full]

    def accuracy(self, candidate: Candidate, full: bool = True) -> float:
        return self.accuracies([candidate], full)[0]

    def accuracies(self, candidates: Sequence[Candidate], full: bool = True) -> list[float]:
        """The accuracies of candidates on the full or the small set. Raises OutOfTime once the budget is spent."""
        images = "full" if full else "small"
        asked = {c.key: c for c in candidates if (c.key, images) not in self.answers}
        self.candidates |= asked
        self._measure(list(asked.values()), full, images)
        return [self.answers[candidate.key, images].accuracy for candidate in candidates]

    def record(
        self, candidate: Candidate, images: str, cost: float, measure: Callable[[], float], quiet: bool = False
    ) -> float:
        """A number that an algorithm measures itself, kept like any other: on some of the images, say.

        quiet: it is no accuracy, and has no place in the trace.
        """
        if (candidate.key, images) in self.answers:
            return self.answers[candidate.key, images].accuracy
        self.candidates.setdefault(candidate.key, candidate)
        found = self._known(candidate, images)
        if found is None:
            self.check_time()
            began = time.perf_counter()
            value = measure()
            seconds = time.perf_counter() - began
            found = Evaluation(candidate.key, images, value, self.cost(candidate), cost, seconds, candidate.text)
            self.database.add(found)
        self._note(found, quiet)
        return found.accuracy

    def charge(self, images: float) -> None:
        """Count images that an algorithm ran without asking for an accuracy. Raises OutOfTime."""
        self.spent += images / (self.judge.images or 1)
        self.check_time()

    def check_time(self) -> None:
        """Raise OutOfTime if the deadline has passed."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise OutOfTime

    @property
    def best(self) -> Evaluation | None:
        """The cheapest candidate that reached its accuracy on the full set; of equal cost, the most accurate."""
        if True not in self._least:
            return None
        found = [e for e in self.trace if e.images == "full" and e.accuracy >= self._least[True]]
        return min(found, key=lambda e: (e.objective, -e.accuracy), default=None)

    @property
    def front(self) -> list[Evaluation]:
        """What was measured on the full set and is beaten in cost and accuracy by nothing, cheapest first."""
        return pareto(e for e in self.trace if e.images == "full")

    def _measure(self, candidates: list[Candidate], full: bool, images: str) -> None:
        known = [self._known(candidate, images) for candidate in candidates]
        waiting = [candidate for candidate, found in zip(candidates, known, strict=True) if found is None]
        if waiting:
            self.check_time()
        fresh = self.workers.measure([(candidate, full) for candidate in waiting])
        for candidate, evaluation in zip(candidates, known, strict=True):
            if evaluation is None:
                began = time.perf_counter()
                accuracy = next(fresh)
                seconds = time.perf_counter() - began
                cost = self.judge.share(full)
                made = (accuracy, self.cost(candidate), cost, seconds, candidate.text)
                evaluation = Evaluation(candidate.key, images, *made)
                self.database.add(evaluation)
                self._note(evaluation)
                self.check_time()
            else:
                self._note(evaluation)

    def _known(self, candidate: Candidate, images: str) -> Evaluation | None:
        """What an earlier run measured; its objective may have been another."""
        found = self.database.find(candidate.key, images)
        return None if found is None else replace(found, objective=self.cost(candidate))

    def _note(self, evaluation: Evaluation, quiet: bool = False) -> None:
        self.answers[evaluation.candidate, evaluation.images] = evaluation
        self.spent += evaluation.cost
        if not quiet:
            self.trace.append(evaluation)
            self.say(evaluation)


def pareto(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those that no other beats in both, cheapest first."""
    front: list[Evaluation] = []
    for evaluation in sorted(evaluations, key=lambda e: (e.objective, -e.accuracy)):
        if not front or evaluation.accuracy > front[-1].accuracy:
            front.append(evaluation)
    return front
