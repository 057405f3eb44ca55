"""Eliminating variables, against looking at every assignment."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitwright.backends.hls.elimination import eliminated, elimination_order

SIZES = (3, 2, 4, 2, 3)


def drawn(seed: int) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Tables of one to three variables, some entries infinite."""
    rng = np.random.default_rng(seed)
    tables = []
    for _ in range(int(rng.integers(1, 7))):
        axes = tuple(int(axis) for axis in rng.permutation(len(SIZES))[: rng.integers(1, 4)])
        table = rng.integers(0, 50, [SIZES[axis] for axis in axes]).astype(float)
        tables.append((axes, np.where(rng.random(table.shape) < 0.2, np.inf, table)))
    return tables


def total(tables: list[tuple[tuple[int, ...], np.ndarray]], values: dict[int, int] | tuple[int, ...]) -> float:
    return sum(float(table[tuple(values[axis] for axis in axes)]) for axes, table in tables)


@pytest.mark.parametrize("seed", range(60))
def test_the_sum_is_the_least_of_all_assignments(seed: int) -> None:
    tables = drawn(seed)
    picked = eliminated(tables, elimination_order([axes for axes, _ in tables], len(SIZES)))
    best = min(total(tables, values) for values in itertools.product(*map(range, SIZES)))
    if best == np.inf:
        assert picked is None
    else:
        assert picked is not None
        assert total(tables, picked) == best


def test_a_chain_is_eliminated_from_its_ends() -> None:
    """So that no table has more than two variables."""
    order = elimination_order([(0, 1), (1, 2), (2, 3), (3, 4)], 5)
    left = {0: {1}, 1: {0, 2}, 2: {1, 3}, 3: {2, 4}, 4: {3}}
    for variable in order:
        assert len(left[variable]) <= 1
        for other in left.pop(variable):
            left[other].discard(variable)
