"""The front of cost against predicted damage: a multiple-choice knapsack, solved for every budget at once.

Each variable takes one of its options; costs and damages add up. For every price of damage (the Lagrange multiplier),
the best assignment takes in each variable the option of least cost + price x damage, which lies on the lower convex
hull of its options. Walking all hulls together, steepest first, gives every such assignment, cheapest last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDE, NARROW = 0.2, 0.01
"""Shares of the cost: a step that saves more than WIDE is filled with points that save NARROW more than each other."""


@dataclass(frozen=True)
class Option:
    """What one choice costs, and the damage that is predicted of it."""

    cost: float
    damage: float


@dataclass(frozen=True)
class Point:
    """An option (its index) for every variable, what it costs, its predicted damage, and the price that led to it.

    price: what was saved for a unit of damage in the step that gave this point, lambda; 0 at the start.
    """

    choice: tuple[int, ...]
    cost: float
    damage: float
    price: float


def front(variables: Sequence[Sequence[Option]]) -> list[Point]:
    """All points of the front, from least damage to least cost."""
    hulls = [hull(options) for options in variables]
    steps = []
    for number, chain in enumerate(hulls):
        for before, after in itertools.pairwise(chain):
            first, second = variables[number][before], variables[number][after]
            saved, added = first.cost - second.cost, second.damage - first.damage
            steps.append((-saved / added if added > 0 else float("-inf"), number, after))
    choice = [chain[0] for chain in hulls]
    points = [_point(variables, choice, 0.0)]
    for slope, number, after in sorted(steps, key=lambda step: step[0]):
        choice[number] = after
        points.append(_point(variables, choice, -slope))
    return points


def filled(variables: Sequence[Sequence[Option]], points: Sequence[Point]) -> list[Point]:
    """The points of a front, and others within its wide steps.

    A wide step is one variable's. With that one changed already, and some of the steps before not yet taken, an
    assignment costs and damages less than the step does: what there is to try where the whole step is too much.
    """
    found = list(points[:1])
    for number, (before, after) in enumerate(itertools.pairwise(points)):
        if before.cost - after.cost > WIDE * before.cost:
            found += _between(variables, points[:number], before, after)
        found.append(after)
    return found


def _between(
    variables: Sequence[Sequence[Option]], earlier: Sequence[Point], before: Point, after: Point
) -> Iterator[Point]:
    """The step from `before` to `after` taken from earlier points, as far as that falls between the two."""
    (changed,) = [i for i, (a, b) in enumerate(zip(before.choice, after.choice, strict=True)) if a != b]
    last = before.cost
    for point in earlier:
        choice = (*point.choice[:changed], after.choice[changed], *point.choice[changed + 1 :])
        tried = _point(variables, choice, after.price)
        apart = last - tried.cost > NARROW * before.cost and tried.cost - after.cost > NARROW * before.cost
        if apart and before.damage < tried.damage < after.damage:
            last = tried.cost
            yield tried


def hull(options: Sequence[Option]) -> list[int]:
    """The options on the lower convex hull, from least damage to least cost; none that costs infinitely much."""
    possible = [i for i in range(len(options)) if math.isfinite(options[i].cost)] or [0]
    order = sorted(possible, key=lambda i: (options[i].damage, options[i].cost))
    chain: list[int] = []
    for i in order:
        if chain and options[i].cost >= options[chain[-1]].cost:
            continue
        while len(chain) > 1 and not _convex(options[chain[-2]], options[chain[-1]], options[i]):
            chain.pop()
        chain.append(i)
    return chain


def _convex(a: Option, b: Option, c: Option) -> bool:
    """Whether b lies below the line from a to c."""
    return (a.cost - b.cost) * (c.damage - a.damage) > (a.cost - c.cost) * (b.damage - a.damage)


def _point(variables: Sequence[Sequence[Option]], choice: Sequence[int], price: float) -> Point:
    chosen = [options[i] for options, i in zip(variables, choice, strict=True)]
    return Point(tuple(choice), sum(o.cost for o in chosen), sum(o.damage for o in chosen), price)
