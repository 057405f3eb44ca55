"""Where along a front the loss reaches what is allowed: between a point that holds and one that does not.

The damage is predicted for every point, the loss is known of those that were tested, and grows with the damage. The
next point to test is the last one whose loss is within what is allowed on a line through the two ends (through the
origin, while there is one end); where such a step left more than half of the points, the one in the middle is next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence


class Bracket:
    """Points low + 1, ..., high - 1 are open; `low` holds (or is -1), `high` does not (or is the number of points)."""

    def __init__(self, damages: Sequence[float], allowed: float, held: tuple[int, float] | None = None) -> None:
        """damages: of the points, ascending; allowed: the loss that still holds; held: a point that does, its loss."""
        self.damages = damages
        self.allowed = allowed
        self.low, self.high = -1, len(damages)
        self.ends: list[tuple[float, float] | None] = [None, None]
        if held is not None:
            self.low = held[0]
            self.ends[0] = damages[held[0]], held[1]
        self.is_slow = False

    @property
    def is_open(self) -> bool:
        return self.high - self.low > 1

    def next(self) -> int:
        """The point to test."""
        target = self._target()
        if self.is_slow or target is None:
            return (self.low + self.high) // 2
        return min(max(bisect_right(self.damages, target) - 1, self.low + 1), self.high - 1)

    def narrow(self, number: int, holds: bool, loss: float) -> None:
        """Know a point's answer and its loss."""
        before = self.high - self.low - 1
        self.ends[0 if holds else 1] = self.damages[number], loss
        self.low, self.high = (number, self.high) if holds else (self.low, number)
        self.is_slow = not self.is_slow and 2 * (self.high - self.low - 1) > before

    def _target(self) -> float | None:
        """The damage at which the loss is expected to be what is allowed; None where nothing tells."""
        held, failed = self.ends
        if held is not None and failed is not None:
            (d0, l0), (d1, l1) = held, failed
            return d0 + (d1 - d0) * (self.allowed - l0) / (l1 - l0) if l1 > l0 else None
        damage, loss = held or failed or (0.0, 0.0)
        if loss <= 0:
            return math.inf if held is not None else None
        return damage * self.allowed / loss
