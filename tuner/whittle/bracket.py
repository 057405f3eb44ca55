"""Where along a front the loss reaches what is allowed: between a point that holds and one that does not.

The damage is predicted for every point, the loss is known of those that were tested, and grows with the damage. What it
is at other points is read from a line: through the points at both ends; through the origin while there is one end; with
a slope that is usual for networks before the first test. Losses are about as predicted, times exp(SPREAD e), e normal:

    chance     that a point holds:  P(loss <= allowed) = Phi(log(allowed / predicted) / SPREAD)
    believed   of a test that ended early, with the loss L and its deviation D: the most likely loss,
               argmin (log(loss / predicted) / SPREAD)^2 + ((loss - L) / D)^2

The next point to test is the last one whose predicted loss is within what is allowed; where such a step left more than
half of the points, the one in the middle is next. If its loss was nearly what is allowed, that comes a step later: the
line, now through that loss, is likely to tell where to go.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

SLOPE = 0.3
"""The share of answers that a damage of 1 costs, before any loss is known."""
SPREAD = 0.5
FACTORS = np.exp(np.linspace(-5, 5, 401))
"""Times what was predicted: the losses among which the most likely one is sought."""


class Bracket:
    """The points between `low`, which holds (or is -1), and `high`, which clearly does not (or is their number).

    A point that lost hardly more than is allowed says little of those behind it: it is `missed`, and they stay open.
    """

    def __init__(
        self,
        costs: Sequence[float],
        damages: Sequence[float],
        allowed: float,
        images: int,
        held: tuple[int, float] | None = None,
    ) -> None:
        """costs, damages: of the points, falling and growing; allowed: the loss of so many images that still holds;
        held: a point that does, and its loss.
        """
        self.costs = costs
        self.damages = damages
        self.allowed = allowed
        self.images = images
        self.low, self.high = -1, len(damages)
        self.missed: set[int] = set()
        self.ends: list[tuple[float, float] | None] = [None, None]
        if held is not None:
            self.low = held[0]
            self.ends[0] = damages[held[0]], held[1]
        self.long_steps = 0  # how many steps in a row left more than half of the points
        self.is_slow = False

    @property
    def open(self) -> list[int]:
        """The points that may be tested."""
        return [i for i in range(self.low + 1, self.high) if i not in self.missed]

    def next(self) -> int:
        """The point to test."""
        target = self._target()
        if self.is_slow or target is None:
            number = (self.low + self.high) // 2
        else:
            number = min(max(bisect_right(self.damages, target) - 1, self.low + 1), self.high - 1)
        return number if number in self.open else max(self.open, key=self.expected_saving)

    def narrow(self, number: int, holds: bool, loss: float, deviation: float = 0.0, scatter: float = 0.0) -> float:
        """Know a point's answer, and its loss within a deviation. Returns the loss that is believed.

        scatter: by how much the loss differs from one set of images to the next.
        """
        before = len(self.open)
        loss = believed(self.predicted(number), loss, deviation)
        self.ends[0 if holds else 1] = self.damages[number], loss
        if holds:
            self.low = number
        elif loss <= self.allowed + scatter:
            self.missed.add(number)
        else:
            self.high = number
        self.long_steps = 0 if self.is_slow or 2 * len(self.open) <= before else self.long_steps + 1
        self.is_slow = self.long_steps > (1 if self._is_near(loss) else 0)
        return loss

    def predicted(self, number: int) -> float:
        """The loss that a point is expected to have."""
        (damage, loss), slope = self._line()
        return loss + slope * (self.damages[number] - damage)

    def chance(self, number: int) -> float:
        """How likely an open point is to hold."""
        predicted = self.predicted(number)
        if predicted <= 0 or self.allowed <= 0:
            return float(predicted <= max(self.allowed, 0))
        return 0.5 * math.erfc((math.log(predicted) - math.log(self.allowed)) / (SPREAD * math.sqrt(2)))

    def expected_saving(self, number: int) -> float:
        """What an open point costs less than the one that holds, times the chance that it holds, too."""
        return self.chance(number) * (self.costs[max(self.low, 0)] - self.costs[number])

    def _is_near(self, loss: float) -> bool:
        """Whether a loss is what is allowed, but for what losses usually differ by from those predicted."""
        return loss > 0 and self.allowed > 0 and abs(math.log(loss) - math.log(self.allowed)) <= SPREAD

    def _line(self) -> tuple[tuple[float, float], float]:
        """A point of the line of loss by damage, and its slope."""
        held, failed = self.ends
        if held is not None and failed is not None:
            (d0, l0), (d1, l1) = held, failed
            return held, (l1 - l0) / (d1 - d0) if d1 > d0 else 0.0
        known = held or failed
        if known is None or known[0] <= 0:
            return known or (0.0, 0.0), SLOPE * self.images
        return known, known[1] / known[0]

    def _target(self) -> float | None:
        """The damage at which the loss is expected to be what is allowed; None where nothing tells."""
        (damage, loss), slope = self._line()
        if slope > 0:
            return damage + (self.allowed - loss) / slope
        return math.inf if self.ends[1] is None else None


def believed(predicted: float, loss: float, deviation: float) -> float:
    """The most likely loss, given what was predicted and what a test found."""
    if predicted <= 0 or deviation <= 0:
        return loss
    unlikely = (np.log(FACTORS) / SPREAD) ** 2 + ((predicted * FACTORS - loss) / deviation) ** 2
    return float(predicted * FACTORS[np.argmin(unlikely)])
