"""The search along a front: against the answer that looking at every point gives, and in how many looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.tuner.whittle.bracket import SPREAD, Bracket, believed

IMAGES = 1000


def bracket_of(damages: list[float], allowed: float, held: tuple[int, float] | None = None) -> Bracket:
    """Points of which each saves 1."""
    return Bracket([-float(i) for i in range(len(damages))], damages, allowed, IMAGES, held)


def walked(
    damages: list[float], losses: list[float], allowed: float, held: tuple[int, float] | None = None
) -> tuple[int, int]:
    """The last point that holds as the bracket finds it (-1: none), and how many points were tested."""
    bracket, tested = bracket_of(damages, allowed, held), 0
    while bracket.open:
        number = bracket.next()
        assert number in bracket.open
        bracket.narrow(number, losses[number] <= allowed, losses[number])
        tested += 1
    return bracket.low, tested


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    st.lists(st.floats(-5, 100), min_size=60, max_size=60),
    st.floats(0, 50),
)
def test_it_ends_where_the_loss_passes_what_is_allowed(
    damages: list[float], losses: list[float], allowed: float
) -> None:
    damages, losses = sorted(damages), sorted(losses)[: len(damages)]
    found, tested = walked(damages, losses, allowed)
    assert found == sum(loss <= allowed for loss in losses) - 1
    assert tested <= 2 * math.ceil(math.log2(len(damages) + 1)) + 1


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    st.lists(st.floats(-5, 100), min_size=60, max_size=60),
    st.floats(0, 50),
    st.integers(0, 59),
)
def test_what_is_known_to_hold_is_not_tested_again(
    damages: list[float], losses: list[float], allowed: float, known: int
) -> None:
    """From any point that holds on, to the same end, in looks beyond it alone."""
    damages, losses = sorted(damages), sorted(losses)[: len(damages)]
    last = sum(loss <= allowed for loss in losses) - 1
    if last < 0:
        return
    known %= last + 1
    found, tested = walked(damages, losses, allowed, (known, losses[known]))
    assert found == last
    assert tested <= 2 * math.ceil(math.log2(len(damages) - known)) + 1


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_loss_that_follows_the_damage_is_found_in_few_looks(noise: float) -> None:
    rng = np.random.default_rng(0)
    looks = []
    for _ in range(200):
        damages = np.cumsum(rng.exponential(size=100) * np.geomspace(1e-4, 1, 100))
        losses = np.maximum.accumulate(40 * damages * np.exp(noise * rng.normal(size=100)))
        allowed = float(rng.uniform(0.02, 0.8) * losses[-1])
        looks.append(walked(damages.tolist(), losses.tolist(), allowed)[1])
    assert np.mean(looks) < 5.5  # plain bisection takes 6.7


@pytest.mark.parametrize(
    ("allowed", "first", "loss", "then"),
    [(14, 28, 60.0, 13), (14, 28, 15.4, 25), (6, 12, 1.0, 26), (6, 12, -1.0, 26), (6, 12, 5.5, 13)],
)
def test_a_long_step_is_followed_by_the_middle_unless_its_loss_was_near(
    allowed: float, first: int, loss: float, then: int
) -> None:
    """Points that half an answer is lost between, as is expected before the first look, which leaves most of them."""
    bracket = bracket_of([max(i - 0.1, 0) / 600 for i in range(40)], allowed)
    assert bracket.next() == first
    bracket.narrow(first, loss <= allowed, loss)
    assert len(bracket.open) > 20
    assert bracket.next() == then


def test_the_second_long_step_is_followed_by_the_middle() -> None:
    bracket = bracket_of([max(i - 0.1, 0) / 600 for i in range(40)], 14)
    for number in (28, 25):
        assert bracket.next() == number
        bracket.narrow(number, False, 15.4)
    assert bracket.next() == 12


@pytest.mark.parametrize(("allowed", "loss"), [(20.0, 5e-324), (5e-324, 1e300)])
def test_losses_of_any_size_are_compared(allowed: float, loss: float) -> None:
    """Whose quotient is 0, or no number."""
    bracket = bracket_of([0.0, 1.0, 2.0, 3.0], allowed)
    bracket.narrow(1, loss <= allowed, loss)
    assert all(bracket.chance(number) in (0, 1) for number in bracket.open)


def test_points_behind_one_that_hardly_fails_stay_open() -> None:
    bracket = bracket_of([0.01, 0.02, 0.03, 0.04], 20, (0, 8.0))
    bracket.narrow(1, False, 25.0, scatter=6.0)
    assert bracket.open == [2, 3]
    bracket.narrow(2, False, 27.0, scatter=6.0)
    assert bracket.open == []
    assert bracket.low == 0


def test_a_hardly_failed_point_does_not_hide_a_cheaper_one_that_holds() -> None:
    bracket = bracket_of([0.01, 0.02, 0.03, 0.04], 20, (0, 8.0))
    bracket.narrow(2, False, 22.0, scatter=6.0)
    bracket.narrow(3, True, 19.0, scatter=6.0)
    assert (bracket.low, bracket.open) == (3, [])


@pytest.mark.parametrize("predicted", [5.0, 18.0, 25.0, 60.0])
def test_the_chance_is_that_of_a_loss_that_scatters_around_its_prediction(predicted: float) -> None:
    bracket = bracket_of([0.0, predicted, 100.0], 20, (0, 0.0))
    bracket.narrow(2, False, 100.0)
    losses = predicted * np.exp(SPREAD * np.random.default_rng(0).normal(size=200_000))
    assert bracket.chance(1) == pytest.approx((losses <= 20).mean(), abs=0.005)
    assert bracket.expected_saving(1) == bracket.chance(1)


@given(st.floats(3, 100), st.floats(-50, 300), st.floats(0.5, 60))
def test_the_loss_that_is_believed_is_the_most_likely_one(predicted: float, loss: float, deviation: float) -> None:
    """Against the density on a finer grid of that range; never farther from the test than the prediction is."""
    losses = predicted * np.exp(np.linspace(-5, 5, 60_000))
    unlikely = (np.log(losses / predicted) / SPREAD) ** 2 + ((losses - loss) / deviation) ** 2
    found = believed(predicted, loss, deviation)
    assert found == pytest.approx(losses[unlikely.argmin()], rel=0.03, abs=0.01)
    assert abs(found - loss) <= abs(predicted - loss) + 0.03 * predicted


def test_a_loss_that_is_known_is_believed() -> None:
    assert believed(20.0, 31.0, 0.0) == 31.0
    assert believed(0.0, 31.0, 5.0) == 31.0
