"""Every assignment of kinds and widths, cheapest first, until one holds: the optimum, for tiny spaces.

Biases are the covering ones. Of equally cheap assignments that hold, the most accurate is taken.
"""

from __future__ import annotations

import itertools

from bitwright.ir.errors import CompileError
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem
from bitwright.tuner.space import covering

LARGEST = 100_000


def search(problem: Problem) -> Candidate:
    """The cheapest candidate that holds. Raises CompileError if there are more than 100,000."""
    space = problem.space
    if space.size > LARGEST:
        raise CompileError(
            f"the space has {space.size:.3g} assignments; exhaustive search takes {LARGEST:,}",
            help="give a smaller platform or fewer layers, or another --algorithm",
        )
    candidates = [
        problem.formats(
            {
                target.name: covering(format, target)
                for variable, format in zip(space.variables, chosen, strict=True)
                for target in variable.targets
            }
        )
        for chosen in itertools.product(*(variable.formats for variable in space.variables))
    ]
    candidates.sort(key=problem.cost)
    for _, equal in itertools.groupby(candidates, key=problem.cost):
        same = list(equal)
        accuracies = problem.accuracies(same)
        best = max(range(len(same)), key=lambda i: accuracies[i])
        if accuracies[best] >= problem.least():
            return same[best]
    return problem.float32
