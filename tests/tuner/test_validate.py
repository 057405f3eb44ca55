"""The sequential test: against the exact answer on networks whose hits are given, and its estimate by simulation."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitwright.ir.formats.named import fixed
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem
from bitwright.tuner.whittle.validate import ESTIMATE, STRATA, Validation, estimate, parts

IMAGES = 10_000


class Given:
    """A judge of images whose answers are given, and how often each was asked for."""

    images = IMAGES

    def __init__(self, right: np.ndarray) -> None:
        self.right = right
        self.asked = np.zeros(len(right), int)

    def hits(self, candidate: Candidate, which: np.ndarray) -> np.ndarray:
        self.asked[which] += 1
        return self.right[which]


def made(make_problem: Callable[..., Problem], loss: float, tolerance: float, seed: int) -> tuple[Validation, Given]:
    """A float network that is right on 98 %, and a candidate that loses this share, mostly where margins are small."""
    rng = np.random.default_rng(seed)
    margin = rng.exponential(size=IMAGES)
    before = rng.random(IMAGES) < 0.98
    weight = np.exp(-3 * margin)
    flipped = rng.random(IMAGES) < np.minimum(1, weight / weight.mean() * loss)
    judge = Given(np.where(flipped, ~before, before))
    problem = make_problem(lambda formats: 1.0, [(1, 1)], {"FIXED": [2]}, seed=seed)
    limits = SimpleNamespace(least=lambda: (1 - tolerance) * before.mean(), record=problem.record, seed=seed)
    scores = np.stack([margin, np.zeros(IMAGES)], 1)
    return Validation(limits, judge, scores, before), judge  # type: ignore[arg-type]


CANDIDATE = Candidate({"a.weight": fixed(2), "a.input": fixed(2)})


@pytest.mark.parametrize("tolerance", [0.01, 0.07])
@pytest.mark.parametrize("share", [0.5, 0.8, 1.25, 2.0])
def test_clear_answers_are_right_and_cheap(
    make_problem: Callable[..., Problem], tolerance: float, share: float
) -> None:
    looked = []
    for seed in range(8):
        test, judge = made(make_problem, tolerance * share, tolerance, seed)
        lost = int(test.float_right.sum()) - int(judge.right.sum())
        assert test.tested(CANDIDATE).holds == (lost <= test.allowed)
        assert judge.asked.max() == 1
        looked.append(judge.asked.sum())
    assert np.mean(looked) < (0.33 if share in (0.5, 2.0) else 0.67) * IMAGES


def test_the_accuracy_is_exact_and_runs_no_image_twice(make_problem: Callable[..., Problem]) -> None:
    test, judge = made(make_problem, 0.005, 0.01, 1)
    assert test.tested(CANDIDATE).holds
    assert test.accuracy(CANDIDATE) == judge.right.mean()
    assert (judge.asked == 1).all()


def test_what_holds_is_recorded_with_its_estimate() -> None:
    recorded: dict[str, float] = {}

    def record(
        candidate: Candidate, images: str, cost: float, measure: Callable[[], float], quiet: bool = False
    ) -> Any:
        return recorded.setdefault(images, measure())

    rng = np.random.default_rng(3)
    before = rng.random(IMAGES) < 0.9
    judge = Given(before & (rng.random(IMAGES) > 0.01))
    limits = SimpleNamespace(least=lambda: 0.8, record=record, seed=0)
    test = Validation(limits, judge, rng.random((IMAGES, 2)), before)  # type: ignore[arg-type]
    assert test.tested(CANDIDATE).holds
    assert recorded[ESTIMATE] == pytest.approx(judge.right.mean(), abs=0.02)


def test_the_estimate_has_the_spread_that_it_says() -> None:
    """Samples of strata with known rates: within one deviation in about two of three, within three nearly always."""
    rng = np.random.default_rng(5)
    sizes, seen = np.array([500, 1000, 2500, 6000]), np.array([100.0, 200, 200, 300])
    off = []
    for _ in range(400):
        population = [rng.random(size) < rate for size, rate in zip(sizes, (0.3, 0.1, 0.03, 0.004), strict=True)]
        lost = np.array([rng.choice(own, int(n), False).sum() for own, n in zip(population, seen, strict=True)], float)
        expected, deviation = estimate(sizes, seen, lost, lost)
        off.append((expected - sum(own.sum() for own in population)) / deviation)
    assert 0.6 < np.mean(np.abs(off) < 1) < 0.85
    assert np.mean(np.abs(off) < 3) > 0.99
    assert abs(np.mean(off)) < 0.2


def test_the_scatter_is_that_of_the_loss_on_other_images(make_problem: Callable[..., Problem]) -> None:
    losses, scatters = [], []
    for seed in range(40):
        test, judge = made(make_problem, 0.01, 0.01, seed)
        losses.append(int(test.float_right.sum()) - int(judge.right.sum()))
        scatters.append(test.tested(CANDIDATE).scatter)
    assert np.mean(scatters) == pytest.approx(np.std(losses), rel=0.3)


@pytest.mark.parametrize("count", [1, 3, 30, 399, 1234])
def test_parts_take_every_image_once(count: int) -> None:
    strata = np.split(np.random.default_rng(0).permutation(count), [int(end * count) for end in STRATA[:-1]])
    taken = [np.concatenate(part) for part in parts(strata, 0)]
    assert sorted(np.concatenate(taken).tolist()) == list(range(count))
    assert all(len(part) for part in taken)
