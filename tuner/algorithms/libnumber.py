"""libnumber's auto-tuner: Algorithms 1 and 2 of the paper, two passes of two phases each.

    small set   1. coarse-grained search: all tensors together, half the width while the accuracy holds
                2. fine-tuning of bias, bit width and kind
    full set    3. recovery: a bit more, or a bias less, at one place at a time, until the accuracy holds
                4. fine-tuning again

Where the paper is silent, this is what is done:

Coarse search   FLOAT widths of the platform from the widest down, each half the one before where there is such a width;
                then FIXED, and EXP below the narrowest FIXED that holds. After a violation the width in the middle of
                the last two is tried, until they are neighbours (Figure 7: F32 F16 I8 I4 I2 I3 E2).
Biases          are each tensor's own, also where kind and width are shared (as in Figure 7). Those of FIXED start at
                -ceil(log2(max_abs)): with Table 3's magnitudes that gives the biases of Figure 7 (0, 2 for weights and
                0, -3 for inputs; its Iteration 10 is 2 + 1). Those of EXP start where they just cover. A new width
                keeps the bias of FIXED, as in the figure, and for EXP its distance from the first; a new kind starts
                anew.
Moves           widths and kinds move one variable of the space (a layer's weights; all inputs where these are tied),
                biases one tensor. One bit fewer is the next narrower width that the platform has of the kind.
SelectBest      of the candidates above the threshold: for biases the most accurate (the paper's Iteration 10); for
                widths the largest gain in objective per loss of accuracy, a gain without loss counting as infinite and
                the larger gain first; ties go to the earlier variable.
Type changes    to the other kind of the same width. They do not change the default objective, so a change is taken only
                if it was not taken before, and if it makes the accuracy larger or the objective smaller: without this
                the loop of Algorithm 2 does not end.
Recovery        the candidate that gains most accuracy per cost is taken while all are below the threshold; at the first
                that is not, the most accurate of those is taken. When nothing can be widened any more, the search
                ends with the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from bitwright.ir.formats import Canonical
from bitwright.ir.formats.named import FLOAT32
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem
from bitwright.tuner.space import Variable, covering
from bitwright.tuner.targets import Target

TUNED = ("FIXED", "EXP")
MOST_BIAS_STEPS = 16


@dataclass(frozen=True)
class State:
    """A format for every variable, and for every tensor the steps its bias is above that of value profiling."""

    formats: tuple[Canonical, ...]
    steps: tuple[tuple[int, ...], ...]


def search(problem: Problem) -> Candidate:
    """The configuration that Algorithm 1 ends with."""
    tuner = _Tuner(problem)
    state = tuner.coarse()
    state = tuner.fine(state, full=False)
    state = tuner.recover(state)
    return tuner.candidate(tuner.fine(state, full=True))


def profiled(format: Canonical, target: Target) -> Canonical:
    """The format with the bias that a search starts with."""
    if format.kind != "FIXED" or not target.max_abs:
        return covering(format, target)
    return format.at(-math.ceil(math.log2(target.max_abs)))


class _Tuner:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.variables = problem.space.variables

    def candidate(self, state: State) -> Candidate:
        formats = {}
        for variable, format, steps in zip(self.variables, state.formats, state.steps, strict=True):
            for target, step in zip(variable.targets, steps, strict=True):
                base = profiled(format, target)
                formats[target.name] = base.at(int(base.biases) + step) if step else base
        return self.problem.formats(formats)

    def accuracy(self, state: State, full: bool) -> float:
        return self.problem.accuracy(self.candidate(state), full)

    def holds(self, state: State, full: bool) -> bool:
        return self.accuracy(state, full) >= self.problem.least(full)

    # ---- phase 1

    def coarse(self) -> State:
        """All tensors in one format, as narrow as holds on the small set."""
        state = self.uniform(FLOAT32)
        self.problem.least(full=False)
        found = FLOAT32
        narrowest = _Narrowing(self.variables)
        for kind in ("FLOAT", *TUNED):
            good, bad = found.width, 0
            while good - 1 > bad:
                format = narrowest.next(kind, good, bad)
                if format is None:
                    break
                if self.holds(self.uniform(format), full=False):
                    good, state, found = format.width, self.uniform(format), format
                else:
                    bad = format.width
        return state

    def uniform(self, format: Canonical) -> State:
        """Every variable in the format, or the narrowest of the kind that is as wide and that it may take."""
        formats = tuple(_nearest(variable, format) for variable in self.variables)
        return State(formats, tuple((0,) * len(variable.targets) for variable in self.variables))

    # ---- phases 2 and 4: Algorithm 2

    def fine(self, state: State, full: bool) -> State:
        seen = {state.formats}
        while True:
            state = self.repeat(state, self.biases_up, self.most_accurate, full)
            state = self.repeat(state, self.narrower, self.best_ratio, full)
            changed = self.change_kind(state, seen, full)
            if changed is None:
                return state
            state = changed
            seen.add(state.formats)

    def repeat(
        self,
        state: State,
        moves: Callable[[State], Iterator[State]],
        select: Callable[[State, list[State], bool], State],
        full: bool,
    ) -> State:
        """Take the best of the moves while one of them holds."""
        while True:
            good = self.holding(list(moves(state)), full)
            if not good:
                return state
            state = select(state, good, full)

    def change_kind(self, state: State, seen: set[tuple[Canonical, ...]], full: bool) -> State | None:
        moves = [move for move in self.other_kinds(state) if move.formats not in seen]
        better = [move for move in self.holding(moves, full) if self.improves(state, move, full)]
        return self.best_ratio(state, better, full) if better else None

    def improves(self, state: State, move: State, full: bool) -> bool:
        before, after = self.problem.cost(self.candidate(state)), self.problem.cost(self.candidate(move))
        if after != before:
            return after < before
        return self.accuracy(move, full) > self.accuracy(state, full)

    def holding(self, moves: list[State], full: bool) -> list[State]:
        """The moves whose accuracy is at least the threshold; all are measured together."""
        accuracies = self.problem.accuracies([self.candidate(move) for move in moves], full)
        least = self.problem.least(full)
        return [move for move, accuracy in zip(moves, accuracies, strict=True) if accuracy >= least]

    def most_accurate(self, state: State, moves: list[State], full: bool) -> State:
        return max(moves, key=lambda move: self.accuracy(move, full))

    def best_ratio(self, state: State, moves: list[State], full: bool) -> State:
        """The most gained in objective for the accuracy lost."""
        cost, accuracy = self.problem.cost(self.candidate(state)), self.accuracy(state, full)

        def benefit(move: State) -> tuple[float, float]:
            gain = _saved(cost, self.problem.cost(self.candidate(move)))
            loss = accuracy - self.accuracy(move, full)
            return (gain / loss if loss > 0 else float("inf"), gain - loss)

        return max(moves, key=benefit)

    # ---- phase 3

    def recover(self, state: State) -> State:
        if self.holds(state, full=True):
            return state
        while True:
            moves = [*self.wider(state), *self.biases_down(state)]
            if not moves:
                return self.uniform(FLOAT32)
            good = self.holding(moves, full=True)
            if good:
                return self.most_accurate(state, good, full=True)
            state = self.most_gained(state, moves)

    def most_gained(self, state: State, moves: list[State]) -> State:
        cost, accuracy = self.problem.cost(self.candidate(state)), self.accuracy(state, True)

        def benefit(move: State) -> tuple[float, float]:
            price = _saved(self.problem.cost(self.candidate(move)), cost)
            gain = self.accuracy(move, True) - accuracy
            return (gain / price if price > 0 else gain * float("inf") if gain else 0.0, gain)

        return max(moves, key=benefit)

    # ---- moves

    def biases_up(self, state: State) -> Iterator[State]:
        return self.biases(state, 1)

    def biases_down(self, state: State) -> Iterator[State]:
        return self.biases(state, -1)

    def biases(self, state: State, by: int) -> Iterator[State]:
        """One tensor's bias a step further, for FIXED and EXP."""
        for i, (format, steps) in enumerate(zip(state.formats, state.steps, strict=True)):
            if format.kind not in TUNED:
                continue
            for j, step in enumerate(steps):
                if abs(step + by) <= MOST_BIAS_STEPS:
                    moved = (*steps[:j], step + by, *steps[j + 1 :])
                    yield replace(state, steps=(*state.steps[:i], moved, *state.steps[i + 1 :]))

    def narrower(self, state: State) -> Iterator[State]:
        return self.widths(state, -1)

    def wider(self, state: State) -> Iterator[State]:
        return self.widths(state, 1)

    def widths(self, state: State, by: int) -> Iterator[State]:
        """One variable in the next width of its kind."""
        for i, (variable, format) in enumerate(zip(self.variables, state.formats, strict=True)):
            same = sorted((f for f in variable.formats if f.kind == format.kind), key=lambda f: by * f.width)
            further = [f for f in same if by * f.width > by * format.width]
            if further:
                yield replace(state, formats=(*state.formats[:i], further[0], *state.formats[i + 1 :]))

    def other_kinds(self, state: State) -> Iterator[State]:
        """One variable in another kind of the same width, its biases where profiling starts them."""
        for i, (variable, format) in enumerate(zip(self.variables, state.formats, strict=True)):
            for other in variable.formats:
                if other.width == format.width and other.kind != format.kind:
                    zeros = (0,) * len(variable.targets)
                    formats = (*state.formats[:i], other, *state.formats[i + 1 :])
                    yield State(formats, (*state.steps[:i], zeros, *state.steps[i + 1 :]))


class _Narrowing:
    """The widths that phase 1 tries: those that every variable may take."""

    def __init__(self, variables: Iterable[Variable]) -> None:
        offered = [{(f.kind, f.width): f for f in variable.formats} for variable in variables]
        common = set(offered[0]).intersection(*offered) if offered else set()
        self.formats = {key: offered[0][key] for key in sorted(common)}

    def next(self, kind: str, good: int, bad: int) -> Canonical | None:
        """Half the last width that held, or the middle of the last two; None if there is no width left to try."""
        widths = [width for known, width in self.formats if known == kind and bad < width < good]
        if not widths:
            return None
        wanted = (good + bad) // 2 if bad else good // 2
        at_least = [width for width in widths if width >= wanted]
        return self.formats[kind, min(at_least) if at_least else max(widths)]


def _saved(before: float, after: float) -> float:
    """Their difference; none between two that cannot be built."""
    return 0.0 if before == after else before - after


def _nearest(variable: Variable, format: Canonical) -> Canonical:
    same = [f for f in variable.formats if f.kind == format.kind and f.width >= format.width]
    return min(same, key=lambda f: f.width, default=format)
