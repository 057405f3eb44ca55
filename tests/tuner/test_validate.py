"""The sequential test: against the exact answer on networks whose hits are given, and its estimate by simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitwright.ir.formats.named import fixed
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Constraint, Problem
from bitwright.tuner.whittle.validate import ESTIMATE, STRATA, Validation, estimate, parts

IMAGES = 10_000


class Given:
    """A judge of images whose answers are given, and how often each was asked for."""

    images = IMAGES

    def __init__(self, right: np.ndarray) -> None:
        self.right = right
        self.asked = np.zeros(len(right), int)

    def share(self, full: bool) -> float:
        return 1.0 if full else 0.1

    def hits(self, candidate: Candidate, which: np.ndarray) -> np.ndarray:
        self.asked[which] += 1
        return self.right[which]


def made(
    make_problem: Callable[..., Problem], loss: float, tolerance: float, seed: int, margin: float = 0.0
) -> tuple[Validation, Given]:
    """A float network that is right on 98 %, and a candidate that loses this share, mostly where scores are close.

    margin: in deviations of the loss.
    """
    rng = np.random.default_rng(seed)
    apart = rng.exponential(size=IMAGES)
    before = rng.random(IMAGES) < 0.98
    weight = np.exp(-3 * apart)
    flipped = rng.random(IMAGES) < np.minimum(1, weight / weight.mean() * loss)
    judge = Given(np.where(flipped, ~before, before))
    problem = make_problem(lambda formats: 1.0, [(1, 1)], {"FIXED": [2]}, seed=seed)
    problem.judge, problem.constraint = judge, Constraint(tolerance, margin=margin)  # type: ignore[assignment]
    problem.record(problem.float32, "full", 1.0, lambda: float(before.mean()))
    scores = np.stack([apart, np.zeros(IMAGES)], 1)
    return Validation(problem, judge, scores, before), judge  # type: ignore[arg-type]


CANDIDATE = Candidate({"a.weight": fixed(2), "a.input": fixed(2)})


@pytest.mark.parametrize("tolerance", [0.01, 0.07])
@pytest.mark.parametrize("share", [0.5, 0.8, 1.25, 2.0])
def test_clear_answers_are_right_and_cheap(
    make_problem: Callable[..., Problem], tolerance: float, share: float
) -> None:
    looked = []
    for seed in range(8):
        test, judge = made(make_problem, tolerance * share, tolerance, seed)
        lost = int(test.reference.sum()) - int(judge.right.sum())
        assert test.tested(CANDIDATE).holds == (lost <= test.allowed)
        assert judge.asked.max() == 1
        looked.append(judge.asked.sum())
    assert np.mean(looked) < (0.33 if share in (0.5, 2.0) else 0.67) * IMAGES


def test_the_accuracy_is_exact_and_runs_no_image_twice(make_problem: Callable[..., Problem]) -> None:
    test, judge = made(make_problem, 0.005, 0.01, 1)
    assert test.tested(CANDIDATE).holds
    assert test.measured(CANDIDATE).holds
    assert test.problem.accuracy(CANDIDATE) == judge.right.mean()
    assert (judge.asked == 1).all()


def test_a_margin_is_so_many_deviations_of_the_loss(make_problem: Callable[..., Problem]) -> None:
    """The loss of right answers, and the deviation that it has if each change goes either way.

    On all images exactly, and in a test on some where the answer is clear, but for one in a hundred.
    """
    clear, wrong = 0, 0
    losses, margins = (0.004, 0.0075, 0.009, 0.012), (0.0, 1.0, 3.0)
    for seed, loss, margin in itertools.product(range(8), losses, margins):
        test, judge = made(make_problem, loss, 0.01, seed, margin)
        lost = int(test.reference.sum()) - int(judge.right.sum())
        deviation = math.sqrt(int((test.reference != judge.right).sum()))
        assert test.measured(CANDIDATE).holds == (lost + margin * deviation <= test.allowed)
        distance = (lost + margin * deviation - test.allowed) / deviation
        if abs(distance) > 1.5:
            clear += 1
            wrong += test.tested(CANDIDATE).holds != (distance < 0)
    assert clear > 40
    assert wrong <= 0.02 * clear


def test_the_margin_of_a_confidence_is_its_own(make_problem: Callable[..., Problem]) -> None:
    test, _ = made(make_problem, 0.005, 0.01, 1, margin=1.0)
    assert test.margin == 1.0
    test.problem.constraint = Constraint(0.01, confidence=0.95)
    assert Validation(test.problem, test.judge, np.zeros((IMAGES, 2)), test.reference).margin == 0.0


def test_losses_are_those_from_the_reference(make_problem: Callable[..., Problem]) -> None:
    """A network with fewer channels, say, that is wrong already where the whole one was right."""
    test, judge = made(make_problem, 0.005, 0.01, 1)
    whole = test.reference | (np.random.default_rng(0).random(IMAGES) < 0.5)
    test.problem.reference = whole
    again = Validation(test.problem, test.judge, np.zeros((IMAGES, 2)), test.reference)
    assert again.allowed - test.allowed == pytest.approx(int(whole.sum()) - int(test.reference.sum()))
    lost = int(whole.sum()) - int(judge.right.sum())
    assert again.measured(CANDIDATE).holds == (lost <= again.allowed)
    assert test.problem.accuracy(CANDIDATE) == judge.right.mean()


@pytest.mark.parametrize(("fitted", "holds"), [(0, True), (4000, False)])
def test_images_that_were_fitted_to_are_not_tested_on(
    make_problem: Callable[..., Problem], fitted: int, holds: bool
) -> None:
    """The first 4,000 lose nothing: what is lost is allowed on all images, and not on the others."""
    whole, judge = made(make_problem, 0.012, 0.01, 1)
    judge.right[:4000] = whole.reference[:4000]
    test = Validation(whole.problem, whole.judge, np.random.default_rng(0).random((IMAGES, 2)), whole.reference, fitted)
    assert test.allowed == pytest.approx((1 - fitted / IMAGES) * whole.allowed)
    assert test.tested(CANDIDATE).holds == holds
    assert judge.asked[:fitted].sum() == 0
    assert test.measured(CANDIDATE).holds == holds
    assert test.problem.accuracy(CANDIDATE) == judge.right.mean()
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
    limits = SimpleNamespace(least=lambda: 0.8, record=record, seed=0, reference=None, constraint=Constraint())
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
        losses.append(int(test.reference.sum()) - int(judge.right.sum()))
        scatters.append(test.tested(CANDIDATE).scatter)
    assert np.mean(scatters) == pytest.approx(np.std(losses), rel=0.3)


@pytest.mark.parametrize("count", [1, 3, 30, 399, 1234])
def test_parts_take_every_image_once(count: int) -> None:
    strata = np.split(np.random.default_rng(0).permutation(count), [int(end * count) for end in STRATA[:-1]])
    taken = [np.concatenate(part) for part in parts(strata, 0)]
    assert sorted(np.concatenate(taken).tolist()) == list(range(count))
    assert all(len(part) for part in taken)
