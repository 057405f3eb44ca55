"""How the numbers of each kind flow: as integers in the order of the numbers, with zero at 0.

    FIXED, UFIXED   q              value q 2^step
    BIN             1, -1          value q 2^-B; in two bits, since the padding of a convolution is 0
    FLOAT, EXP      +-code         the code without its sign, which grows with the number, made negative by the sign
    AFFINE          q - zero       value (q - zero) scale; the zero point is whole

Largest, smallest and padding are therefore the same in every kind, and so are the engines that compare or move. What
multiplies and adds FLOAT does so in float32 (include/bitwright/real.hpp), where a format must have its values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats import Affine, Canonical, Format, float_format
from bitwright.ir.tensor import Array

Ints = NDArray[np.int64]

SINGLE = float_format(32)
WIDEST = 32
WIDEST_MIXED = 24  # bits of a FIXED that meets FLOAT: float32 has its integers
QUANTA = 4  # of the output's format that float32's roundings may move an output, after all layers
RELATIVE = 2.0**-14


@dataclass(frozen=True)
class Scaled:
    """AFFINE of n bits as it flows: integers of low .. high, times a scale."""

    n: int
    low: int
    high: int
    scale: float

    @property
    def kind(self) -> str:
        return "AFFINE"

    @property
    def axis(self) -> None:
        return None

    @property
    def n_s(self) -> int:
        """Whether there are negative numbers."""
        return int(self.low < 0)

    @property
    def max_code(self) -> int:
        """The largest size of an integer."""
        return max(-self.low, self.high)

    @property
    def width(self) -> int:
        """Bits of an integer, two's complement if there are negative ones."""
        return max(self.high.bit_length(), (-self.low - 1).bit_length()) + 1 if self.n_s else self.high.bit_length()

    def __str__(self) -> str:
        return f"AFFINE<{self.n},scale={self.scale!r}>"


@dataclass(frozen=True)
class Signs(Canonical):
    """BIN as it flows: 1 and -1, and 0 as the padding around an image."""

    @property
    def width(self) -> int:
        return 2

    def __str__(self) -> str:
        return str(Canonical(self.n_s, self.n_e, self.n_f, self.bias))


Number = Canonical | Scaled


def flowing(format: Format | None) -> Number | None:
    """How numbers of a format flow, or None if no engine takes them."""
    if isinstance(format, Affine):
        if format.axis is not None or not float(format.zeros).is_integer():
            return None
        zero = int(format.zeros)
        return Scaled(format.n, min(format.low - zero, 0), max(format.high - zero, 1), float(format.scales))
    if not isinstance(format, Canonical) or format.axis is not None or format.width > WIDEST:
        return None
    if format.kind == "BIN":
        return Signs(1, 0, 0, format.bias)
    return format if format.kind in ("FIXED", "UFIXED") or in_single(format) else None


def in_single(format: Canonical) -> bool:
    """Whether float32 has the numbers of a FLOAT or EXP, but for those beyond its largest and below its normal ones."""
    fits = 1 <= format.n_e <= 8 and format.n_f <= 23 and format.width <= WIDEST
    return fits and isinstance(format.bias, int) and -126 <= format.bias <= 127


def is_integer(number: Number) -> bool:
    """Whether a number flows as an integer times one power of two."""
    return isinstance(number, Canonical) and number.n_e == 0


def takes_sign(number: Number) -> bool:
    """Whether rounding to a format takes the sign alone, wherever the point is; that of 0 is +1."""
    return isinstance(number, Signs)


def computes_in_float(number: Number) -> bool:
    """Whether arithmetic on such numbers is that of float32."""
    return isinstance(number, Canonical) and number.n_e > 0


def step_of(number: Number) -> float:
    """What an integer that flows stands for; FIXED and AFFINE only."""
    return number.scale if isinstance(number, Scaled) else float(number.step)


def as_integers(number: Number, x: Array) -> Ints:
    """Real numbers as the integers that flow: the nearest, saturated."""
    if isinstance(number, Scaled):
        steps = np.rint(np.asarray(x, np.float32) / np.float32(number.scale))
        return np.asarray(np.clip(steps, number.low, number.high), np.int64)
    if number.n_e == 0:
        return number.integers(x)
    codes = number.encode(x).astype(np.int64)
    size = np.minimum(codes & ((1 << (number.n_e + number.n_f)) - 1), largest(number))
    negative = (codes >> (number.n_e + number.n_f)) > 0 if number.n_s else np.False_
    return np.asarray(np.where(negative, -size, size))


def as_reals(number: Number, integers: Ints) -> Array:
    """The integers that flow as real numbers in float64."""
    if isinstance(number, Scaled) or number.n_e == 0:
        return np.asarray(integers * step_of(number))
    codes = np.abs(integers) + np.where(integers < 0, 1 << (number.width - 1), 0)
    return number.decode(codes)


def largest(number: Canonical) -> int:
    """The largest integer that flows; of FLOAT and EXP that of the largest number that float32 has."""
    if number.n_e == 0:
        return number.max_code
    top = min((1 << number.n_e) - 1, 127 + int(number.biases))
    return ((top + 1) << number.n_f) - 1


def ends_of(number: Number) -> tuple[int, int]:
    """The least and the largest integer that flows."""
    if isinstance(number, Scaled):
        return number.low, number.high
    return -largest(number) if number.n_s else 0, largest(number)


def quantum(number: Number, magnitude: Array) -> Array:
    """The distance of the numbers of a format around a magnitude."""
    if isinstance(number, Scaled) or number.n_e == 0:
        return np.full(np.shape(magnitude), step_of(number))
    exponent = np.frexp(np.asarray(magnitude, np.float64))[1] - 1
    return np.asarray(np.maximum(np.ldexp(1.0, exponent - number.n_f), float(number.step)))


def deviation(number: Number) -> tuple[float, float]:
    """How far the outputs of a network with FLOAT or AFFINE may be from the judge's: an amount, and a share of the
    largest output of the sample; the larger one counts.
    """
    if isinstance(number, Scaled) or number.n_e == 0:
        return QUANTA * step_of(number), RELATIVE
    return QUANTA * float(number.step), max(QUANTA * 2.0**-number.n_f, RELATIVE)


def span(format: Format) -> tuple[float, float]:
    """A range of inputs that have sense in a format; of FLOAT and EXP, that reach further, within -1 .. 1."""
    if isinstance(format, Affine):
        low, high = ((end - float(format.zeros)) * float(format.scales) for end in (format.low, format.high))
        return low, high
    assert isinstance(format, Canonical)
    most = min(float(format.max), 1.0) if format.n_e else float(format.max)
    return (-most if format.n_s else 0.0), most
