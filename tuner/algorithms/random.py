"""Random assignments of kinds and widths, biases covering: the floor that any search must pass.

As many are drawn as `DRAWS`, each cheaper than the best so far that holds; the same seed draws the same.
"""

from __future__ import annotations

import numpy as np

from bitwright.ir.formats import Canonical
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem
from bitwright.tuner.space import covering

DRAWS = 200
TRIES = 1000


def search(problem: Problem) -> Candidate:
    """The cheapest of the drawn candidates that hold; the reference if none does."""
    rng = np.random.default_rng(problem.seed)
    best = problem.float32
    problem.least()
    for _ in range(DRAWS):
        drawn = next(
            (c for c in (_draw(problem, rng) for _ in range(TRIES)) if problem.cost(c) < problem.cost(best)), None
        )
        if drawn is None:
            return best
        if problem.accuracy(drawn) >= problem.least():
            best = drawn
    return best


def _draw(problem: Problem, rng: np.random.Generator) -> Candidate:
    formats: dict[str, Canonical] = {}
    for variable in problem.space.variables:
        format = variable.formats[int(rng.integers(len(variable.formats)))]
        formats |= {target.name: covering(format, target) for target in variable.targets}
    return problem.formats(formats)
