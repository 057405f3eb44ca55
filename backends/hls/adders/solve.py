"""The best adder graph of a matrix that is known how to find: the fewest LUTs, then adders, then levels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bitwright.backends.hls.adders.by_da4ml import by_da4ml, is_installed
from bitwright.backends.hls.adders.graph import AdderGraph, Ints
from bitwright.backends.hls.adders.sharing import EXTRA_DEPTH, shared, unshared
from bitwright.ir.errors import InternalError

KEPT = 256  # matrices


def unshared_graph(weights: Ints, low: int, high: int) -> AdderGraph:
    """A tree for each row, found in no time. weights: [outputs, inputs]; low, high: of every input."""
    return _unshared(np.ascontiguousarray(weights, np.int64).tobytes(), weights.shape, low, high)


def shared_graph(weights: Ints, low: int, high: int) -> AdderGraph:
    """The best one, in a second for a thousand weights: with common sub-sums, by this project's way or by da4ml's.

    Raises InternalError if it does not compute the product with these weights.
    """
    return _best(np.ascontiguousarray(weights, np.int64).tobytes(), weights.shape, low, high)


def _matrix(weights: bytes, shape: tuple[int, ...]) -> Ints:
    return np.frombuffer(weights, np.int64).reshape(shape)


@lru_cache(KEPT)
def _unshared(weights: bytes, shape: tuple[int, ...], low: int, high: int) -> AdderGraph:
    return unshared(_matrix(weights, shape), low, high)


@lru_cache(KEPT)
def _best(weights: bytes, shape: tuple[int, ...], low: int, high: int) -> AdderGraph:
    matrix = _matrix(weights, shape)
    plain = _unshared(weights, shape, low, high)
    graphs = [shared(matrix, low, high), plain]
    theirs = by_da4ml(matrix, low, high) if is_installed() else None
    if theirs is not None and theirs.depth <= plain.depth + EXTRA_DEPTH:
        graphs.append(theirs)
    best = min(graphs, key=lambda graph: (graph.luts, len(graph.adders), graph.depth))
    if not np.array_equal(best.matrix, matrix):
        raise InternalError("an adder graph computes another matrix than that of its layer")
    return best
