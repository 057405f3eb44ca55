"""Canonical formats in rationals, with nothing of the code under test: eq. (1), and the rounding that it gives."""

from __future__ import annotations

import math
from bisect import bisect_left
from fractions import Fraction
from functools import cache

from hypothesis import strategies as st

from bitwright.ir.formats import Canonical

WIDEST = 10
SMALL = [
    (n_s, n_e, n_f)
    for n_s in (0, 1)
    for n_e in range(WIDEST + 1)
    for n_f in range(WIDEST + 1 - n_e - n_s)
    if n_s + n_e + n_f >= 1
]


def biases(n_e: int) -> list[int]:
    usual = (1 << (n_e - 1)) - 1 if n_e else 0
    return [usual, usual + 5, usual - 3 if n_e != 10 else usual + 2]


@cache
def rationals(n_s: int, n_e: int, n_f: int, bias: int) -> tuple[Fraction, ...]:
    """The value of every bit pattern, in order of the patterns (of -0: 0)."""
    two, found = Fraction(2), []
    for code in range(1 << (n_s + n_e + n_f)):
        fraction = code & ((1 << n_f) - 1)
        exponent = code >> n_f & ((1 << n_e) - 1)
        sign = code >> (n_e + n_f)
        if n_e == n_f == 0:
            magnitude = two**-bias
        elif exponent:
            magnitude = (1 + fraction * two**-n_f) * two ** (exponent - bias)
        else:
            magnitude = fraction * two**-n_f * two ** (1 - bias)
        found.append(-magnitude if sign else magnitude)
    return tuple(found)


@cache
def magnitudes(n_s: int, n_e: int, n_f: int, bias: int) -> tuple[Fraction, ...]:
    """The values that are not negative, ascending: the patterns without sign count them up."""
    return rationals(n_s, n_e, n_f, bias)[: 1 << (n_e + n_f)]


def nearest(f: Canonical, x: float) -> Fraction:
    """The value that the docstring of canonical.py promises, found by looking at all of them."""
    assert isinstance(f.bias, int)
    ladder = magnitudes(f.n_s, f.n_e, f.n_f, f.bias)
    size, negative = abs(Fraction(x)), x < 0
    if f.n_e == f.n_f == 0:
        return -ladder[0] if negative else ladder[0]
    if negative and not f.n_s:
        return Fraction(0)
    above = bisect_left(ladder, size)
    if above == len(ladder):
        return -ladder[-1] if negative else ladder[-1]
    if above == 0:
        return Fraction(0)
    low, high = ladder[above - 1], ladder[above]
    if size - low != high - size:
        down = size - low < high - size
    elif f.n_f:
        down = (above - 1) % 2 == 0  # to even
    else:
        down = low == 0  # EXP: to the larger power, and to 0 below the smallest
    found = low if down else high
    return -found if negative else found


def rounded(f: Canonical, x: float) -> Fraction:
    """The same by the formula q(x) = max(2^(floor(log2 |x|) - n_f), 2^(1-B-n_f)), for formats of any width."""
    assert isinstance(f.bias, int)
    size = abs(Fraction(x))
    if not size or (x < 0 and not f.n_s):
        return Fraction(0)
    least = Fraction(2) ** (1 - f.bias - f.n_f)
    quantum = least
    if f.n_e:
        power = math.frexp(x)[1] - 1
        quantum = max(Fraction(2) ** (power - f.n_f), least)
        top = (2 - Fraction(2) ** -f.n_f) * Fraction(2) ** ((1 << f.n_e) - 1 - f.bias)
    else:
        top = ((1 << f.n_f) - 1) * least
    found = min(round(size / quantum) * quantum, top)  # round() of a rational is half to even
    return -found if x < 0 else found


small_formats = st.sampled_from(SMALL).flatmap(
    lambda fields: st.sampled_from(biases(fields[1])).map(lambda bias: Canonical(*fields, bias))
)


@st.composite
def wide_formats(draw: st.DrawFn) -> Canonical:
    """Any format with an exponent or a fraction, up to float64's own limits."""
    n_e = draw(st.integers(0, 10))
    n_f = draw(st.integers(0 if n_e else 1, 52))
    least, most = ((1 << n_e) - 1 if n_e else 0) - 1023, 1023 - n_f
    bias = draw(st.integers(least, most) | st.integers(max(least, -20), max(min(most, 150), least)))
    return Canonical(draw(st.integers(0, 1)), n_e, n_f, bias)


finite = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-100, 100)
