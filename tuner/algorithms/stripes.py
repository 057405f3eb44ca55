"""The quantizer of Stripes (Judd et al., 2016): a width for each layer's input, weights in FIXED 16.

All inputs start in FIXED 16. In every step each layer's input is tried with one bit fewer, the layer that keeps most
accuracy is taken, and so on while one holds; then the same with one integer bit fewer, that is with the bias one
higher. The search reads the full set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bitwright.ir.formats import Canonical
from bitwright.ir.formats.named import fixed
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem
from bitwright.tuner.space import covering

WEIGHTS = fixed(16)
NARROWEST, WIDEST = 2, 16
MOST_STEPS = 16


@dataclass(frozen=True)
class State:
    """Width, and bias above the covering one, of each layer's input."""

    widths: tuple[int, ...]
    steps: tuple[int, ...]


def search(problem: Problem) -> Candidate:
    """The narrowest inputs that hold; the reference if FIXED 16 everywhere does not."""
    count = len([target for target in problem.space.targets if target.role == "input"])
    state = State((WIDEST,) * count, (0,) * count)
    if problem.accuracy(_candidate(problem, state)) < problem.least():
        return problem.float32
    for moves in (_narrower, _less_range, _narrower):
        while True:
            tried = moves(state)
            accuracies = problem.accuracies([_candidate(problem, move) for move in tried])
            best = max(range(len(tried)), key=lambda i: accuracies[i], default=None)
            if best is None or accuracies[best] < problem.least():
                break
            state = tried[best]
    return _candidate(problem, state)


def _narrower(state: State) -> list[State]:
    widths = state.widths
    return [
        replace(state, widths=(*widths[:i], width - 1, *widths[i + 1 :]))
        for i, width in enumerate(widths)
        if width > NARROWEST
    ]


def _less_range(state: State) -> list[State]:
    steps = state.steps
    return [
        replace(state, steps=(*steps[:i], step + 1, *steps[i + 1 :]))
        for i, step in enumerate(steps)
        if step < MOST_STEPS
    ]


def _candidate(problem: Problem, state: State) -> Candidate:
    formats: dict[str, Canonical] = {}
    inputs = [target for target in problem.space.targets if target.role == "input"]
    for target, width, step in zip(inputs, state.widths, state.steps, strict=True):
        base = covering(fixed(width), target)
        formats[target.name] = base.at(int(base.biases) + step)
    for target in problem.space.targets:
        if target.role == "weight":
            formats[target.name] = covering(WEIGHTS, target)
    return problem.formats(formats)
