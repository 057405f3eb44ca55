"""Adder graphs of a matrix as they are asked for: at once, quickly, or the best that is known how to find."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bitwright.backends.hls.adders.by_da4ml import by_da4ml, is_installed
from bitwright.backends.hls.adders.graph import AdderGraph, Ints
from bitwright.backends.hls.adders.sharing import EXTRA_DEPTH, QUICK_PAIRS, shared, unshared
from bitwright.ir.errors import InternalError

KEPT = 256  # matrices


def unshared_graph(weights: Ints, low: int, high: int) -> AdderGraph:
    """A tree for each row, found in no time. weights: [outputs, inputs]; low, high: of every input."""
    return _unshared(_key(weights), weights.shape, low, high)


def quick_graph(weights: Ints, low: int, high: int) -> AdderGraph:
    """One with some common sub-sums, in a tenth of a second for a thousand weights."""
    return _quick(_key(weights), weights.shape, low, high)


def shared_graph(weights: Ints, low: int, high: int) -> AdderGraph:
    """The best one, in half a second for a thousand weights; with da4ml, if that is installed, in seconds.

    Raises InternalError if it does not compute the product with these weights.
    """
    return _best(_key(weights), weights.shape, low, high)


def _key(weights: Ints) -> bytes:
    return np.ascontiguousarray(weights, np.int64).tobytes()


def _matrix(weights: bytes, shape: tuple[int, ...]) -> Ints:
    return np.frombuffer(weights, np.int64).reshape(shape)


@lru_cache(KEPT)
def _unshared(weights: bytes, shape: tuple[int, ...], low: int, high: int) -> AdderGraph:
    return unshared(_matrix(weights, shape), low, high)


@lru_cache(KEPT)
def _quick(weights: bytes, shape: tuple[int, ...], low: int, high: int) -> AdderGraph:
    graphs = shared(_matrix(weights, shape), low, high, QUICK_PAIRS), _unshared(weights, shape, low, high)
    return min(graphs, key=_worth)


@lru_cache(KEPT)
def _best(weights: bytes, shape: tuple[int, ...], low: int, high: int) -> AdderGraph:
    matrix = _matrix(weights, shape)
    plain = _unshared(weights, shape, low, high)
    graphs = [shared(matrix, low, high), _quick(weights, shape, low, high)]
    theirs = by_da4ml(matrix, low, high) if is_installed() else None
    if theirs is not None and theirs.depth <= plain.depth + EXTRA_DEPTH:
        graphs.append(theirs)
    best = min(graphs, key=_worth)
    if not np.array_equal(best.matrix, matrix):
        raise InternalError("an adder graph computes another matrix than that of its layer")
    return best


def _worth(graph: AdderGraph) -> tuple[int, int, int]:
    """Less is better: LUTs, then adders, then levels."""
    return graph.luts, len(graph.adders), graph.depth
