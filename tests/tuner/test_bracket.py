"""The search along a front: against the answer that looking at every point gives, and in how many looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.tuner.whittle.bracket import Bracket


def walked(
    damages: list[float], losses: list[float], allowed: float, held: tuple[int, float] | None = None
) -> tuple[int, int]:
    """The last point that holds as the bracket finds it (-1: none), and how many points were tested."""
    bracket, tested = Bracket(damages, allowed, held), 0
    while bracket.is_open:
        number = bracket.next()
        assert bracket.low < number < bracket.high
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
