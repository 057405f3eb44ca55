"""Ristretto's search (Gysel et al., 2018): fixed-point widths that are powers of two, one a group of tensors.

The groups are the weights of all convolutions, the weights of all fully connected layers, and all inputs. For each the
narrowest width is found that holds while everything else is float; then all three are taken together, and while they
miss the threshold, all are widened to the next power of two. Radix points come from the largest magnitudes (its dynamic
fixed point), a tensor at a time. The search reads the full set.
"""

from __future__ import annotations

from collections.abc import Sequence

from bitwright.ir.formats.named import FLOAT32, fixed
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem
from bitwright.tuner.space import covering
from bitwright.tuner.targets import Target

WIDTHS = (2, 4, 8, 16)


def search(problem: Problem) -> Candidate:
    """The narrowest widths that hold together; the reference if FIXED 16 does not hold."""
    groups = [group for group in _groups(problem.space.targets) if group]
    chosen = [_narrowest(problem, group) for group in groups]
    while True:
        found = _candidate(problem, groups, chosen)
        if problem.accuracy(found) >= problem.least():
            return found
        if all(width == WIDTHS[-1] for width in chosen):
            return problem.float32
        chosen = [min(2 * width, WIDTHS[-1]) for width in chosen]


def _groups(targets: Sequence[Target]) -> list[list[Target]]:
    weights = [target for target in targets if target.role == "weight"]
    return [
        [target for target in weights if target.kind == "conv2d"],
        [target for target in weights if target.kind != "conv2d"],
        [target for target in targets if target.role == "input"],
    ]


def _narrowest(problem: Problem, group: list[Target]) -> int:
    """The narrowest width of a group alone: halved while it holds."""
    found = WIDTHS[-1]
    for width in reversed(WIDTHS):
        if problem.accuracy(_candidate(problem, [group], [width])) < problem.least():
            break
        found = width
    return found


def _candidate(problem: Problem, groups: list[list[Target]], widths: list[int]) -> Candidate:
    formats = {target.name: FLOAT32 for target in problem.space.targets}
    for group, width in zip(groups, widths, strict=True):
        formats |= {target.name: covering(fixed(width), target) for target in group}
    return problem.formats(formats)
