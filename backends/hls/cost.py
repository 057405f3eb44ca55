"""Resources, which add up, and those of memories and products, by the laws that estimate.py states."""

from __future__ import annotations

import math
from dataclasses import dataclass

BRAM_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
REGISTERS_BELOW = 1024  # bits of a memory that stays in LUTs
DSP_LEAST_BITS = 6
DSP_PORTS = (18, 25)


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


def dsp_slices(w: int, a: int, least: int = DSP_LEAST_BITS) -> int:
    """DSP slices for a product of numbers of w and a bits; 0: one is narrower than `least`, and it is built of LUTs."""
    if min(w, a) < least:
        return 0
    return math.ceil(min(w, a) / DSP_PORTS[0]) * math.ceil(max(w, a) / DSP_PORTS[1])


def fabric_luts(kind: str, w: int, a: int) -> tuple[float, float]:
    """LUTs of a product with its share of the adder tree, as a range."""
    if kind == "BIN":
        return 2.5 * a, 3.3 * a + 3.5
    if w == 2:
        return 3.0 * a, 4.1 * a + 4.5
    if kind == "EXP":
        return 5.0 * a, 6.5 * a + 7.0 * w
    return 2.0 * w * a, 3.0 * w * a + 5.0


def rom_luts(depth: int, width: int) -> int:
    """LUTs of a memory that is read only: 64 words of a bit each."""
    return width * math.ceil(depth / 64)


def memory(depth: int, width: int) -> Cost:
    """A small RAM or FIFO: registers or LUTs up to 1,024 bits, else block RAM."""
    if depth * width > REGISTERS_BELOW:
        return Cost((10.0, 60.0), (10.0, 2.0 * width), bram18(depth, width))
    luts = width * math.ceil(depth / 32)
    return Cost((0.5 * luts, 1.5 * luts + 20), (1.0 * width, 2.0 * width))


def bram18(depth: int, width: int) -> int:
    """Blocks of 18 Kbit for a memory of `depth` words of `width` bits, in the best aspect ratio."""
    return min(math.ceil(width / w) * math.ceil(depth / d) for d, w in BRAM_SHAPES)
