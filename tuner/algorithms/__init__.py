"""The search algorithms by name: each a function of a Problem that gives the candidate it ends with."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from bitwright.ir.errors import CompileError
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem

Search = Callable[[Problem], Candidate]


@dataclass(frozen=True)
class Algorithm:
    """A search and what is said of it; `needs_network`: it asks more of a network than its accuracy."""

    summary: str
    module: str
    needs_network: bool = False

    def load(self) -> Search:
        """The function, imported when it is needed."""
        search: Search = import_module(self.module).search
        return search


ALGORITHMS = {
    "whittle": Algorithm(
        "bitwright's own: measure in closed form, solve a knapsack, validate", "bitwright.tuner.whittle.search", True
    ),
    "libnumber": Algorithm(
        "the four phases of libnumber's auto-tuner: greedy, two passes", "bitwright.tuner.algorithms.libnumber"
    ),
    "ristretto": Algorithm(
        "FIXED widths that are powers of two, one a group of tensors", "bitwright.tuner.algorithms.ristretto"
    ),
    "stripes": Algorithm("a FIXED width a layer's input, weights FIXED 16", "bitwright.tuner.algorithms.stripes"),
    "exhaustive": Algorithm(
        "every assignment, cheapest first, for tiny spaces", "bitwright.tuner.algorithms.exhaustive"
    ),
    "random": Algorithm("200 random assignments, each cheaper than the best", "bitwright.tuner.algorithms.random"),
}


def algorithm(name: str) -> Algorithm:
    """The algorithm of a name. Raises CompileError if there is none."""
    if name not in ALGORITHMS:
        close = difflib.get_close_matches(name, ALGORITHMS, n=1)
        meant = f", did you mean {close[0]}?" if close else ""
        raise CompileError(f"there is no algorithm {name!r}{meant}", help=f"they are {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]
