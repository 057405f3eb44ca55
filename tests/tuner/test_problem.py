"""A problem: thresholds, what is measured once, counted and kept, the front, and the end of the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.ir.formats.named import FLOAT32, fixed
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.confidence import lower_bound
from bitwright.tuner.database import Database, Evaluation
from bitwright.tuner.problem import Constraint, OutOfTime, Problem, pareto

Make = Callable[..., Problem]
KINDS = {"FLOAT": [32], "FIXED": range(2, 17)}


def by_width(formats: Mapping[str, Canonical]) -> float:
    return min(f.width for f in formats.values()) / 32


def of_width(problem: Problem, width: int) -> Candidate:
    return problem.formats({target.name: fixed(width) for target in problem.space.targets})


def measured(problem: Problem) -> list[tuple[int, bool]]:
    asked = problem.judge.asked  # type: ignore[attr-defined]
    return [(candidate.formats["a.weight"].width, full) for candidate, full in asked]


# ---- what is measured


def test_each_accuracy_is_measured_once_and_in_order(make_problem: Make) -> None:
    said: list[Evaluation] = []
    problem = make_problem(by_width, [(10, 20)], KINDS, say=said.append)
    three, five, four = (of_width(problem, width) for width in (3, 5, 4))
    assert problem.accuracies([three, five, three]) == [3 / 32, 5 / 32, 3 / 32]
    assert problem.accuracy(five, full=False) == 5 / 32
    assert problem.accuracies([four, five, of_width(problem, 3)]) == [4 / 32, 5 / 32, 3 / 32]
    assert problem.accuracies([]) == []
    assert measured(problem) == [(3, True), (5, True), (5, False), (4, True)]
    assert [(e.formats, e.images) for e in problem.trace] == [
        (c.text, "full" if full else "small")
        for c, full in problem.judge.asked  # type: ignore[attr-defined]
    ]
    assert said == problem.trace
    assert [e.objective for e in problem.trace] == [90, 150, 150, 120]
    assert problem.spent == pytest.approx(3.1)
    assert problem.candidates[four.key] == four


def test_other_numbers_are_other_candidates(make_problem: Make) -> None:
    import numpy as np

    problem = make_problem(by_width, [(10, 20)], KINDS)
    plain = of_width(problem, 3)
    numbers = [problem.formats(plain.formats, {"a.weight": np.array(v, np.float32)}) for v in ([1, 2], [1, 3], [1, 2])]
    assert plain.text == numbers[0].text
    assert len({plain.key, *(c.key for c in numbers)}) == 3
    problem.accuracies([plain, *numbers])
    assert len(problem.trace) == 3


def test_what_the_database_knows_is_not_measured_but_counted(make_problem: Make, tmp_path: Path) -> None:
    first = make_problem(by_width, [(10, 20)], KINDS, database=Database(tmp_path / "a.sqlite", "p"))
    first.accuracies([of_width(first, 3), of_width(first, 5)])
    database = Database(tmp_path / "a.sqlite", "p")
    again = make_problem(by_width, [(10, 20)], KINDS, database=database, objective=lambda formats: 7.0)
    assert again.accuracies([of_width(again, width) for width in (4, 3, 6, 5)]) == [w / 32 for w in (4, 3, 6, 5)]
    assert measured(again) == [(4, True), (6, True)]
    assert [e.accuracy for e in again.trace] == [w / 32 for w in (4, 3, 6, 5)]
    assert {e.objective for e in again.trace} == {7.0}
    assert again.spent == 4


def test_what_another_process_adds_meanwhile_does_not_shift_answers(make_problem: Make, tmp_path: Path) -> None:
    """Two searches in one folder: the second row appears while the first is measured."""
    other = Database(tmp_path / "a.sqlite", "p")
    problem = make_problem(by_width, [(10, 20)], KINDS, database=Database(tmp_path / "a.sqlite", "p"))
    candidates = [of_width(problem, width) for width in (3, 9, 5)]
    judge = problem.judge

    def accuracy(formats: Mapping[str, Canonical]) -> float:
        other.add(Evaluation(candidates[1].key, "full", 9 / 32, 0.0, 1.0, 0.0, candidates[1].text))
        return by_width(formats)

    judge.full = accuracy  # type: ignore[attr-defined]
    assert problem.accuracies(candidates) == [3 / 32, 9 / 32, 5 / 32]


def test_what_an_algorithm_measures_itself_is_kept_too(make_problem: Make) -> None:
    problem = make_problem(by_width, [(10, 20)], KINDS, images=50)
    three = of_width(problem, 3)
    answers = iter([0.25])
    for _ in range(3):
        assert problem.record(three, "first 10", 0.2, lambda: next(answers)) == 0.25
    assert [(e.images, e.accuracy, e.cost) for e in problem.trace] == [("first 10", 0.25, 0.2)]
    problem.charge(25)
    assert problem.spent == pytest.approx(0.7)
    assert not measured(problem)
    assert not problem.front


# ---- thresholds


def test_a_relative_tolerance(make_problem: Make) -> None:
    problem = make_problem(lambda formats: 0.8, [(10, 20)], KINDS, small=lambda formats: 0.6, tolerance=0.25)
    assert problem.least() == pytest.approx(0.6)
    assert problem.least(full=False) == pytest.approx(0.45)
    assert measured(problem) == [(32, True), (32, False)]
    assert problem.float32.formats == {"a.weight": FLOAT32, "a.input": FLOAT32}


def test_a_floor(make_problem: Make) -> None:
    problem = make_problem(lambda formats: 0.8, [(10, 20)], KINDS, tolerance=0.01, floor=0.7)
    assert (problem.least(), problem.least(full=False)) == (0.7, 0.7)


@pytest.mark.parametrize(("images", "confidence"), [(100, 0.9), (500, 0.95), (1000, 0.5)])
def test_a_confidence_asks_for_the_fewest_right_answers_that_show_it(images: int, confidence: float) -> None:
    least = Constraint(0.1, None, confidence).least(0.9, images)
    right = round(least * images)
    assert least == right / images
    assert lower_bound(right, images, confidence) >= 0.9 * (1 - 0.1) > lower_bound(right - 1, images, confidence)
    assert least >= 0.81


def test_a_confidence_is_not_asked_of_the_small_set(make_problem: Make) -> None:
    problem = make_problem(lambda formats: 0.9, [(10, 20)], KINDS, images=200, tolerance=0.1, confidence=0.99)
    assert problem.least(full=False) == pytest.approx(0.81)
    assert problem.least() > 0.85


def test_a_confidence_that_no_accuracy_can_give() -> None:
    with pytest.raises(CompileError, match=r"50 images cannot show an accuracy of 0\.9900 with confidence 0\.95"):
        Constraint(0.01, None, 0.95).least(1.0, 50)
    with pytest.raises(CompileError, match="cannot show"):
        Constraint(0.01, None, 1.0).least(0.9, 50)
    with pytest.raises(CompileError, match="a confidence is of a number of images"):
        Constraint(0.01, None, 0.95).least(1.0, None)


@given(images=st.integers(1, 20_000), right=st.integers(0, 20_000), percent=st.integers(0, 99))
@example(images=1000, right=910, percent=10)
def test_a_threshold_that_is_a_number_of_right_answers_is_reached_by_it(images: int, right: int, percent: int) -> None:
    """In binary 10 % off 910 of 1000 is a little more than 819; so many are enough all the same."""
    right = min(right, images)
    least = Constraint(percent / 100).least(right / images, images)
    for enough in {right * (100 - percent) // 100, -(-right * (100 - percent) // 100)}:
        assert (enough / images >= least) == (enough * 100 >= right * (100 - percent))


# ---- the best and the front

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def evaluation(cost: float, accuracy: float) -> Evaluation:
    return Evaluation(f"{cost} {accuracy}", "full", accuracy, cost, 1.0, 0.0, "")


@given(points)
def test_the_front_is_what_nothing_beats(given: list[tuple[int, int]]) -> None:
    found = [(e.objective, e.accuracy) for e in pareto(evaluation(*point) for point in given)]
    beaten = {one for one in given for other in given if other != one and other[0] <= one[0] and other[1] >= one[1]}
    assert found == sorted(set(given) - beaten)


def test_the_best_is_the_cheapest_that_holds(make_problem: Make) -> None:
    problem = make_problem(by_width, [(10, 20)], KINDS, floor=5 / 32)
    assert problem.best is None
    problem.accuracies([of_width(problem, width) for width in (9, 4, 6)])
    assert problem.best is None  # the threshold has not been asked for
    problem.least()
    assert problem.best is not None
    assert problem.best.objective == 6 * 30
    problem.accuracy(of_width(problem, 5), full=False)
    assert problem.best.objective == 6 * 30  # the small set shows nothing
    same = problem.formats({"a.weight": fixed(6, 3), "a.input": fixed(6)})
    problem.judge.full = lambda formats: 0.9  # type: ignore[attr-defined]
    problem.accuracy(same)
    assert problem.best.candidate == same.key  # as cheap and more accurate
    assert [e.objective for e in problem.front] == [120, 180, 960]


# ---- the budget


def test_the_budget_ends_a_search_between_measurements(make_problem: Make) -> None:
    problem = make_problem(by_width, [(10, 20)], KINDS, images=10)
    seen: list[Evaluation] = []

    def say(evaluation: Evaluation) -> None:
        seen.append(evaluation)
        if len(seen) == 2:
            problem.deadline = time.monotonic() - 1

    problem.say = say
    with pytest.raises(OutOfTime):
        problem.accuracies([of_width(problem, width) for width in (3, 4, 5, 6)])
    assert measured(problem) == [(3, True), (4, True)]
    assert [e.accuracy for e in problem.trace] == [3 / 32, 4 / 32]  # what was measured is kept
    assert problem.accuracy(of_width(problem, 4)) == 4 / 32  # and can still be had
    for call in (
        lambda: problem.accuracy(of_width(problem, 7)),
        lambda: problem.record(of_width(problem, 7), "some", 1.0, lambda: 1.0),
        lambda: problem.charge(0),
        problem.check_time,
    ):
        with pytest.raises(OutOfTime):
            call()
    assert len(measured(problem)) == 2
    problem.deadline = time.monotonic() + 1000
    assert problem.accuracy(of_width(problem, 7)) == 7 / 32


def test_a_resumed_search_passes_what_is_known_without_time(make_problem: Make, tmp_path: Path) -> None:
    first = make_problem(by_width, [(10, 20)], KINDS, database=Database(tmp_path / "a.sqlite", "p"))
    first.accuracy(of_width(first, 3))
    again = make_problem(
        by_width, [(10, 20)], KINDS, database=Database(tmp_path / "a.sqlite", "p"), deadline=time.monotonic() - 1
    )
    assert again.accuracy(of_width(again, 3)) == 3 / 32
    with pytest.raises(OutOfTime):
        again.accuracy(of_width(again, 4))


def test_costs_may_be_infinite(make_problem: Make) -> None:
    problem = make_problem(by_width, [(10, 20)], KINDS, floor=0.1, objective=lambda f: math.inf if len(f) else 0.0)
    problem.least()
    problem.accuracy(of_width(problem, 9))
    assert problem.best is not None
    assert problem.best.accuracy == 1  # FLOAT 32: the most accurate of the equally dear
    assert [e.accuracy for e in pareto([*problem.trace, replace(problem.trace[0], objective=1.0, accuracy=0.0)])] == [
        0,
        1,
    ]
