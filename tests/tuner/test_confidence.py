"""Clopper and Pearson's intervals, against rational arithmetic, against scipy, and by their coverage."""

from __future__ import annotations

import importlib.util
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.tuner.confidence import clopper_pearson, lower_bound, upper_bound


def at_most(successes: int, trials: int, probability: Fraction) -> Fraction:
    """P(X <= successes), exactly."""
    p, q = probability, 1 - probability
    return sum(math.comb(trials, k) * p**k * q ** (trials - k) for k in range(successes + 1)) + Fraction(0)


@pytest.mark.parametrize("confidence", [Fraction(1, 20), Fraction(1, 2), Fraction(9, 10), Fraction(95, 100)])
@pytest.mark.parametrize("trials", [1, 2, 5, 12])
def test_bounds_solve_their_equations(trials: int, confidence: Fraction) -> None:
    near = Fraction(1, 10**12)
    for successes in range(trials):
        bound = Fraction(upper_bound(successes, trials, float(confidence)))
        assert at_most(successes, trials, bound + near) <= 1 - confidence <= at_most(successes, trials, bound - near)
    for successes in range(1, trials + 1):
        bound = Fraction(lower_bound(successes, trials, float(confidence)))
        at_least_below = 1 - at_most(successes - 1, trials, bound - near)
        at_least_above = 1 - at_most(successes - 1, trials, bound + near)
        assert at_least_below <= 1 - confidence <= at_least_above


def test_closed_forms_at_the_ends() -> None:
    assert lower_bound(0, 7) == 0
    assert upper_bound(7, 7) == 1
    assert upper_bound(0, 7, 0.95) == pytest.approx(1 - 0.05 ** (1 / 7), rel=1e-12)
    assert lower_bound(7, 7, 0.95) == pytest.approx(0.05 ** (1 / 7), rel=1e-12)
    assert upper_bound(0, 100_000, 0.95) == pytest.approx(-math.expm1(math.log(0.05) / 100_000), rel=1e-9)
    low, high = clopper_pearson(0, 20, 0.9)
    assert (low, high) == (0, pytest.approx(1 - 0.05 ** (1 / 20), rel=1e-12))


@pytest.mark.parametrize("successes", [0, 1, 3, 4])
def test_no_and_full_confidence(successes: int) -> None:
    assert upper_bound(successes, 4, 1.0) == 1
    assert lower_bound(successes, 4, 1.0) == 0
    assert upper_bound(successes, 4, 0.0) == pytest.approx(1 if successes == 4 else 0, abs=1e-3)


def test_a_published_interval() -> None:
    """Three of ten at 95 %: a textbook's (0.0667, 0.6525)."""
    assert clopper_pearson(3, 10) == pytest.approx((0.06673951, 0.65245285), abs=1e-8)


@pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="needs scipy: pip install scipy")
def test_as_the_quantiles_of_beta() -> None:
    from scipy.stats import beta

    for trials in (1, 10, 333, 10_000):
        for successes in sorted({0, 1, trials // 3, trials - 1, trials}):
            for confidence in (0.5, 0.95, 0.999):
                if successes < trials:
                    expected = beta.ppf(confidence, successes + 1, trials - successes)
                    assert upper_bound(successes, trials, confidence) == pytest.approx(expected, rel=1e-8)
                if successes:
                    expected = beta.ppf(1 - confidence, successes, trials - successes + 1)
                    assert lower_bound(successes, trials, confidence) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("trials", [1, 2, 3, 7, 15, 30])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_coverage_is_never_less_than_promised(trials: int, confidence: float) -> None:
    """For every true probability, the chance of outcomes whose interval has it is at least the confidence."""
    intervals = [clopper_pearson(k, trials, confidence) for k in range(trials + 1)]
    edges = [edge for interval in intervals for edge in interval]
    for probability in [*(i / 256 for i in range(257)), *(e + d for e in edges for d in (-1e-9, 1e-9) if 0 < e < 1)]:
        chances = [
            math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k)
            for k, (low, high) in enumerate(intervals)
            if low <= probability <= high
        ]
        assert sum(chances) >= confidence - 1e-9


@given(st.integers(1, 3000), st.data())
def test_bounds_grow_with_successes_and_stand_around_the_share(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials - 1))
    low, high = clopper_pearson(successes, trials)
    after = clopper_pearson(successes + 1, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert (low, high) < after
    assert after[1] >= high
    assert 1 - high == pytest.approx(clopper_pearson(trials - successes, trials)[0], abs=1e-12)
