"""Rounding outputs that make up for each other: against brute force, against each by itself, and its equations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitwright.ir.formats import Canonical, parse
from bitwright.tuner.whittle.coupled import MOST_COLUMNS, Coupling, coupled
from bitwright.tuner.whittle.curvature import Curvature
from bitwright.tuner.whittle.rounding import Grid, rounded


def format_of(text: str) -> Canonical:
    found = parse(text)
    assert isinstance(found, Canonical)
    return found


def moments(rng: np.random.Generator, count: int, rank: int) -> np.ndarray:
    x = rng.normal(size=(rank, count))
    return np.asarray(x.T @ x / rank)


def raised(m: np.ndarray) -> np.ndarray:
    """What is made small: M and as much of I."""
    return np.asarray(m / (np.trace(m) / len(m)) + np.eye(len(m)))


def total(m: np.ndarray, e: np.ndarray, h: np.ndarray) -> float:
    return float(np.trace(m @ e @ h @ e.T))


@pytest.mark.parametrize("text", ["FIXED 2", "BIN<1,B=0>", "EXP 2"])
def test_it_comes_near_the_best_of_all_numbers(text: str) -> None:
    """Three outputs of two inputs: all choices of numbers can be tried."""
    format = format_of(text)
    values = sorted({float(v) for v in np.asarray(format.quantize(np.linspace(-4, 4, 200)))})
    every = np.array(list(itertools.product(values, repeat=6))).reshape(-1, 3, 2)
    alone, together, best = 0.0, 0.0, 0.0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        w, m = rng.normal(size=(3, 2)), moments(rng, 3, 1)
        curvature = Curvature.of(moments(rng, 2, 5))
        coupling = Coupling.of(m, 2)
        assert coupling is not None
        (found,) = coupled(w, curvature, [format], coupling)
        assert np.isin(found, values).all()
        measure = raised(m)
        together += total(measure, found - w, curvature.h)
        alone += total(measure, rounded(w, curvature, Grid([(format, 3)]), 2) - w, curvature.h)
        e = every - w
        best += float(np.einsum("ab,nbi,ij,naj->n", measure, e, curvature.h, e).min())
    assert best <= together < 1.2 * best
    assert together < 0.95 * alone


def test_many_outputs_of_few_directions_lose_much_less() -> None:
    """Sixty-four outputs that ten classes look at: M has rank nine."""
    rng = np.random.default_rng(1)
    w, m = rng.normal(size=(64, 40)), moments(rng, 64, 9)
    curvature = Curvature.of(moments(rng, 40, 200))
    format = format_of("BIN<1,B=0>")
    coupling = Coupling.of(m, 40)
    assert coupling is not None
    (found,) = coupled(w, curvature, [format], coupling)
    alone = rounded(w, curvature, Grid([(format, 64)]), 2)
    assert total(m, found - w, curvature.h) < 0.6 * total(m, alone - w, curvature.h)


def test_several_formats_at_once_are_as_each_by_itself() -> None:
    rng = np.random.default_rng(2)
    w, curvature = rng.normal(size=(12, 20)), Curvature.of(moments(rng, 20, 60))
    coupling = Coupling.of(moments(rng, 12, 4), 20)
    assert coupling is not None
    formats = [format_of("FIXED 2"), format_of("FIXED 4 -1").at(tuple(range(-3, 9)), 0)]
    both = coupled(w, curvature, formats, coupling)
    for format, found in zip(formats, both, strict=True):
        assert np.array_equal(found, coupled(w, curvature, [format], coupling)[0])


def test_what_a_group_is_moved_by_is_least_damage() -> None:
    """P in full: the derivative of the damage by the group's own errors is nought, of it alone and with those after."""
    rng = np.random.default_rng(3)
    m = moments(rng, 12, 5)
    coupling, measure = Coupling.of(m, 20), raised(m)
    assert coupling is not None
    e = rng.normal(size=(12, 7))
    for (start, stop), before, others in zip(coupling.ends, coupling.before, coupling.others, strict=True):
        moved = e.copy()
        moved[start:stop] = -others @ e
        assert np.abs((measure @ moved)[start:stop]).max() < 1e-9
        free = e.copy()  # all from `start` on as is best
        free[start:] = -np.linalg.solve(measure[start:, start:], measure[start:, :start] @ e[:start])
        assert -before @ e[:start] == pytest.approx(free[start:stop], abs=1e-9)


def test_where_there_is_nothing_to_couple() -> None:
    m = np.eye(4)
    assert Coupling.of(np.zeros((4, 4)), 8) is None
    assert Coupling.of(np.full((4, 4), np.nan), 8) is None
    assert Coupling.of(np.eye(1), 8) is None
    assert Coupling.of(m, MOST_COLUMNS) is None
    few = Coupling.of(m, MOST_COLUMNS // 2)
    assert few is not None
    assert few.ends == [(0, 2), (2, 4)]


@pytest.mark.parametrize("text", ["FIXED 2", "BIN<1,B=0>", "EXP 3"])
def test_every_further_sweep_makes_it_no_worse(text: str) -> None:
    """Coordinate descent on tr(M E H E^T): it can only fall, until nothing moves any more."""
    rng = np.random.default_rng(3)
    w, m = rng.normal(size=(24, 30)), moments(rng, 24, 5)
    curvature, coupling = Curvature.of(moments(rng, 30, 90)), Coupling.of(m, 30)
    assert coupling is not None
    found = [coupled(w, curvature, [format_of(text)], coupling, sweeps)[0] for sweeps in range(12)]
    losses = [total(raised(m), q - w, curvature.h) for q in found]
    assert losses[1] < losses[0]
    assert all(after <= before * (1 + 1e-5) for before, after in itertools.pairwise(losses))
    assert np.array_equal(found[-1], found[-2])
