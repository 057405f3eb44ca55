"""The front of cost against damage: every point against brute force over all choices."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.tuner.whittle.knapsack import NARROW, WIDE, Option, Point, filled, front, hull

whole = st.builds(Option, st.integers(0, 40), st.integers(0, 40))
real = st.builds(Option, st.floats(0, 1e6), st.floats(-1e-3, 10))


def tables(option: st.SearchStrategy[Option]) -> st.SearchStrategy[list[list[Option]]]:
    return st.lists(st.lists(option, min_size=1, max_size=5), min_size=1, max_size=4)


def everything(table: list[list[Option]]) -> list[tuple[float, float]]:
    """Cost and damage of every choice."""
    return [(sum(o.cost for o in chosen), sum(o.damage for o in chosen)) for chosen in itertools.product(*table)]


@given(tables(whole))
def test_the_points_are_the_lower_convex_hull(table: list[list[Option]]) -> None:
    """Whole numbers: all comparisons are exact. A choice is on the hull if some price makes it the best."""
    points, all_of_them = front(table), everything(table)
    least_damage = min(damage for _, damage in all_of_them)
    assert (points[0].damage, points[0].cost) == (least_damage, min(c for c, d in all_of_them if d == least_damage))
    least_cost = min(cost for cost, _ in all_of_them)
    assert (points[-1].cost, points[-1].damage) == (least_cost, min(d for c, d in all_of_them if c == least_cost))
    for point in points:
        assert (point.cost, point.damage) in all_of_them
        assert point.cost == sum(options[i].cost for options, i in zip(table, point.choice, strict=True))
    for before, after in itertools.pairwise(points):
        assert before.cost > after.cost
        assert before.damage < after.damage
        saved, added = before.cost - after.cost, after.damage - before.damage
        assert after.price == pytest.approx(saved / added)
        # at this price of damage nothing is better than the two, and they are equally good
        assert all(
            cost * added + damage * saved >= after.cost * added + after.damage * saved for cost, damage in all_of_them
        )


@given(tables(whole))
def test_every_corner_of_the_hull_is_a_point(table: list[list[Option]]) -> None:
    corners = hull([Option(*pair) for pair in everything(table)])
    found = {(point.cost, point.damage) for point in front(table)}
    assert {everything(table)[i] for i in corners} <= found


@given(tables(real))
def test_points_descend_with_any_numbers(table: list[list[Option]]) -> None:
    points = front(table)
    chains = [hull(options) for options in table]
    seen = [[chain[0]] for chain in chains]
    for before, after in itertools.pairwise(points):
        moved = [i for i, (a, b) in enumerate(zip(before.choice, after.choice, strict=True)) if a != b]
        assert len(moved) == 1
        seen[moved[0]].append(after.choice[moved[0]])
    assert seen == chains


@given(st.lists(whole, min_size=1, max_size=8))
def test_a_hull_is_convex_and_below_everything(options: list[Option]) -> None:
    chain = [options[i] for i in hull(options)]
    for a, b in itertools.pairwise(chain):
        assert (a.damage < b.damage, a.cost > b.cost) == (True, True)
        saved, added = a.cost - b.cost, b.damage - a.damage
        assert all(o.cost * added + o.damage * saved >= a.cost * added + a.damage * saved for o in options)
    assert {min((o.cost, o.damage) for o in options), min((o.damage, o.cost)[::-1] for o in options)} & {
        (o.cost, o.damage) for o in chain
    }


def test_by_hand() -> None:
    """4 bits save 40 for 1, 3 bits 10 more for 4 more; of the other variable the middle is never worth it."""
    first = [Option(100, 0), Option(60, 1), Option(50, 5)]
    second = [Option(30, 0), Option(29, 3), Option(20, 4)]
    assert front([first, second]) == [
        Point((0, 0), 130, 0, 0),
        Point((1, 0), 90, 1, 40),
        Point((2, 0), 80, 5, 2.5),
        Point((2, 2), 70, 9, 2.5),
    ]


def test_less_damage_that_costs_nothing_comes_first() -> None:
    assert hull([Option(5, 3), Option(5, 1), Option(9, 1), Option(4, 1)]) == [3]
    assert hull([Option(5, -1), Option(7, -2), Option(1, 10)]) == [1, 0, 2]


@given(tables(whole))
def test_wide_steps_are_filled(table: list[list[Option]]) -> None:
    """All points of the front stay; what is put between costs and damages less than the step, and is a real choice."""
    points = front(table)
    found, all_of_them = filled(table, points), everything(table)
    assert [point for point in found if point in points] == points
    for before, after in itertools.pairwise(points):
        inside = found[found.index(before) + 1 : found.index(after)]
        assert not inside or before.cost - after.cost > WIDE * before.cost
        for low, high in itertools.pairwise([before, *inside, after] if inside else []):
            assert low.cost - high.cost > NARROW * before.cost
            assert low.damage < high.damage
        assert all((point.cost, point.damage) in all_of_them for point in inside)


def test_a_step_can_be_had_without_the_steps_before_it() -> None:
    """Two small savings, then a large one: the large one alone, and with one of the small ones, lie between."""
    small = [Option(10, 0), Option(7, 1)]
    table = [small, [Option(10, 0), Option(7, 2)], [Option(100, 0), Option(20, 60)]]
    assert [point.choice for point in filled(table, front(table))] == [
        (0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1)
    ]  # fmt: skip
