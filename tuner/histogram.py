"""How the numbers of a tensor lie on the grid of a format: a histogram, what is lost at both ends, and the noise.

saturated   x > max + q/2 or x < min - q'/2: cut by more than rounding changes it; q, q' are the quanta at the ends
zeroed      x != 0 that became 0
SQNR        10 log10(sum x^2 / sum (x - x')^2) dB,   x' the number that stands for x
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats import Canonical
from bitwright.ir.formats.base import along
from bitwright.ir.tensor import Array

BINS = 24


@dataclass(frozen=True)
class Histogram:
    """Numbers of a tensor against a format.

    low, high: the range of `counts`, numbers in bins of equal width; least, most: the ends of the format (of one with a
    bias a channel the outermost); saturated, zeroed: shares of all numbers; used: distinct numbers of the format that
    occur, of the `codes` it has (with a bias a channel, multiples of the channel's step); sqnr: dB, or None without
    noise or without a signal.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    least: float
    most: float
    saturated: float
    zeroed: float
    used: int
    codes: int
    sqnr: float | None

    @property
    def beyond(self) -> tuple[bool, ...]:
        """For every bin whether all of it lies outside the format."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return tuple(bool(b < self.least or a > self.most) for a, b in itertools.pairwise(edges))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"counts": list(self.counts)}


def histogram_of(exact: Array, found: Array, format: Canonical) -> Histogram:
    """Of the float numbers `exact` and the numbers `found` of `format` that stand for them, of equal shape."""
    wide = np.asarray(exact, np.float64)
    low, high = float(wide.min(initial=math.inf)), float(wide.max(initial=-math.inf))
    counts, _ = np.histogram(wide, BINS, _range(low, high))
    error = wide - found
    signal, noise = float(np.vdot(wide, wide)), float(np.vdot(error, error))
    codes = format.encode(np.asarray(found) + 0.0)  # no -0, which would be a code of its own
    low, high = _range(low, high)
    return Histogram(
        low,
        high,
        tuple(int(count) for count in counts),
        float(np.min(format.min)),
        float(np.max(format.max)),
        float(saturates(wide, format).mean()),
        float(((wide != 0) & (found == 0)).mean()),
        len(np.unique(codes)),
        distinct(format),
        10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None,
    )


def saturates(x: Array, format: Canonical) -> NDArray[np.bool_]:
    """Whether each number lies beyond the ends of a format by more than rounding changes it."""
    last = np.ldexp(format.step, max((1 << format.n_e) - 2, 0))
    high, margin = (along(format.axis, x.ndim, np.asarray(part)) for part in (format.max, last / 2))
    if format.n_s:
        return np.asarray(np.abs(x) > high + margin)
    half = along(format.axis, x.ndim, np.asarray(format.step)) / 2
    return np.asarray((x > high + margin) | (x < -half))


def distinct(format: Canonical) -> int:
    """How many numbers a format has: a code each, but for -0."""
    return (1 << format.width) - (1 if format.n_s and format.width > 1 else 0)


def _range(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    return (low, high) if low < high else (low - 0.5, low + 0.5)
