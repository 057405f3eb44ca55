"""The narrowest uniform FIXED width that keeps the accuracy asked for: one width for all tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bitwright.backends.simulation.score import Score, score
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array

NARROWEST, WIDEST = 2, 16


@dataclass(frozen=True)
class UniformWidth:
    """The width found, its graph, and the scores on the search data: of the float network and of this one."""

    width: int
    graph: Graph
    reference: Score
    found: Score


def narrowest_width(
    graph: Graph, annotate: Callable[[int], Graph], x: Array, y: Array, tolerance: float
) -> UniformWidth:
    """The least width whose accuracy on `x`, `y` is at least (1 - tolerance) of the float network's.

    annotate: gives the graph in a width. Widths are tried upwards, so that a lucky narrow one is not missed. Raises
    CompileError if none up to 16 bits keeps it.
    """
    reference = score(graph, x, y)
    floor = reference.value * (1 - tolerance)
    for width in range(NARROWEST, WIDEST + 1):
        made = annotate(width)
        found = score(made, x, y)
        if found.value >= floor:
            return UniformWidth(width, made, reference, found)
    raise CompileError(
        f"no uniform FIXED width up to {WIDEST} bits keeps {1 - tolerance:.2%} of the accuracy {reference.value:.4f}",
        help="allow a larger tolerance",
    )
