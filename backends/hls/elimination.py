"""The least sum of tables that share variables, by eliminating one variable after the other.

A table has an axis for each of its variables, named by numbers; entry [i, j, ...] is what it adds where they have these
values. A variable goes by putting the sum of all tables that have it into one table of their other variables, least
over it. That is exact, and quick as long as no such table has many axes (Bertele and Brioschi, "Nonserial Dynamic
Programming", 1972).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def elimination_order(tables: Sequence[tuple[int, ...]], count: int) -> list[int]:
    """The variables in an order in which to eliminate them: that with the fewest neighbours first."""
    near: dict[int, set[int]] = {variable: set() for variable in range(count)}
    for axes in tables:
        for axis in axes:
            near[axis] |= set(axes) - {axis}
    order: list[int] = []
    while near:
        variable = min(near, key=lambda v: (len(near[v]), v))
        others = near.pop(variable)
        for other in others:
            near[other] = (near[other] | others) - {other, variable}
        order.append(variable)
    return order


def eliminated(tables: Sequence[tuple[tuple[int, ...], Floats]], order: Sequence[int]) -> dict[int, int] | None:
    """For each variable the value that makes the sum of the tables least, or None if every sum is infinite."""
    left = list(tables)
    steps: list[tuple[int, tuple[int, ...], NDArray[np.int64]]] = []
    for variable in order:
        mine = [table for table in left if variable in table[0]]
        left = [table for table in left if variable not in table[0]]
        axes = tuple(sorted({axis for of_table, _ in mine for axis in of_table} - {variable}))
        total = sum((_spread(*table, (*axes, variable)) for table in mine), np.zeros(()))
        steps.append((variable, axes, total.argmin(-1)))
        left.append((axes, total.min(-1)))
    if not np.isfinite(sum(float(table) for _, table in left)):
        return None
    picked: dict[int, int] = {}
    for variable, axes, best in reversed(steps):
        picked[variable] = int(best[tuple(picked[axis] for axis in axes)])
    return picked


def _spread(axes: tuple[int, ...], table: Floats, onto: tuple[int, ...]) -> Floats:
    """A table with its axes in the order of `onto`, of length 1 where it has none."""
    order = [axes.index(axis) for axis in onto if axis in axes]
    shape = [table.shape[axes.index(axis)] if axis in axes else 1 for axis in onto]
    return table.transpose(order).reshape(shape)
