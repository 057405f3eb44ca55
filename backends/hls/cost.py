"""Resources of a piece of hardware, which add up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Resources: LUT and FF as a range, blocks of 18 Kbit, DSP slices."""

    lut: tuple[float, float] = (0.0, 0.0)
    ff: tuple[float, float] = (0.0, 0.0)
    bram18: int = 0
    dsp: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            (self.lut[0] + other.lut[0], self.lut[1] + other.lut[1]),
            (self.ff[0] + other.ff[0], self.ff[1] + other.ff[1]),
            self.bram18 + other.bram18,
            self.dsp + other.dsp,
        )

    def __mul__(self, count: int) -> Cost:
        """So many of it."""
        return Cost(
            (self.lut[0] * count, self.lut[1] * count),
            (self.ff[0] * count, self.ff[1] * count),
            self.bram18 * count,
            self.dsp * count,
        )
