"""Number formats against exact rationals, ml_dtypes, numpy, onnxruntime and the ap_fixed of the HLS headers."""

from __future__ import annotations

import math
import shutil
import subprocess
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import (
    NAMED,
    Affine,
    Canonical,
    Format,
    binary,
    exp,
    fixed,
    float_format,
    parse,
    short,
    to_text,
)
from bitwright.ir.formats.text import tables_of

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


# The reference: eq. (1) in rationals, with nothing of the code under test


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


@pytest.mark.parametrize(("n_s", "n_e", "n_f"), SMALL)
def test_every_bit_pattern_has_the_value_of_eq_1(n_s: int, n_e: int, n_f: int) -> None:
    for bias in biases(n_e):
        f = Canonical(n_s, n_e, n_f, bias)
        expected = rationals(n_s, n_e, n_f, bias)
        codes = np.arange(len(expected), dtype=np.uint64)
        decoded = f.decode(codes)
        assert [Fraction(value) for value in decoded.tolist()] == list(expected)
        assert [Fraction(value) for value in f.values().tolist()] == sorted(set(expected))
        assert not np.signbit(f.values()[f.values() == 0]).any()
        assert np.array_equal(np.signbit(decoded), codes >= (1 << (n_e + n_f)))  # -0 is not +0
        assert np.array_equal(f.encode(decoded), codes)
        assert np.array_equal(f.quantize(decoded), decoded)
        assert f.width == n_s + n_e + n_f
        assert Fraction(f.max) == max(expected)
        assert Fraction(f.min) == (min(expected) if n_s else 0)
        step = min(abs(value) for value in expected if value)
        assert Fraction(f.step) == step
        assert f.max_code == max(expected) / step
        if f.is_integer:
            assert np.array_equal(f.integers(decoded), [int(value / step) for value in expected])


@pytest.mark.parametrize(("n_s", "n_e", "n_f"), SMALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_between_any_two_neighbours_the_nearest_wins_and_a_tie_goes_as_written(
    n_s: int, n_e: int, n_f: int, dtype: type[np.floating]
) -> None:
    f = Canonical(n_s, n_e, n_f, biases(n_e)[0] if n_e < 8 else biases(n_e)[1])
    assert isinstance(f.bias, int)
    ladder = np.array([float(m) for m in magnitudes(n_s, n_e, n_f, f.bias)])
    if n_e == n_f == 0:
        x = np.array([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30], dtype)
        one = 2.0**-f.bias
        assert f.quantize(x).tolist() == [one, one, one, -one, one, -one]
        return
    low, high = ladder[:-1], ladder[1:]
    middle = low + (high - low) / 2  # exact: one bit more than the format has
    even = np.arange(len(low)) % 2 == 0
    winner = np.where(even, low, high) if n_f else np.where(low > 0, high, low)
    with np.errstate(over="ignore", under="ignore"):  # what float32 cannot hold is left out below
        points = middle.astype(dtype)
        exact = points == middle
        exact &= (points > np.finfo(dtype).tiny) & (points < np.finfo(dtype).max / 2)
    assert n_e > 6 or exact.all()
    points, low, high, winner = points[exact], low[exact], high[exact], winner[exact]
    infinity = dtype(np.inf)
    for x, expected in (
        (points, winner),
        (np.nextafter(points, infinity), high),
        (np.nextafter(points, -infinity), low),
    ):
        assert np.array_equal(f.quantize(x), expected)
        mirrored = f.quantize(-x)
        assert np.array_equal(mirrored, -expected if n_s else 0 * expected)
    top = ladder[-1]
    if top < 1e30:
        for x in (1.01 * top, 4 * top, float(np.finfo(dtype).max)):
            assert f.quantize(np.array([x, -x], dtype)).tolist() == [top, -top if n_s else 0.0]
    tiny = np.array([0.0, np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny], dtype)
    if ladder[1] > 1e-30:
        assert f.quantize(tiny).tolist() == [0.0, 0.0, 0.0]


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


@given(small_formats, st.lists(finite, min_size=1, max_size=20))
def test_any_float64_goes_to_the_nearest_value(f: Canonical, numbers: list[float]) -> None:
    found = f.quantize(np.array(numbers))
    assert found.dtype == np.float64
    assert [Fraction(value) for value in found.tolist()] == [nearest(f, x) for x in numbers]


@given(small_formats, st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_any_float32_goes_to_the_nearest_value(f: Canonical, numbers: list[float]) -> None:
    found = f.quantize(np.array(numbers, np.float32))
    assert [Fraction(value) for value in found.tolist()] == [nearest(f, x) for x in numbers]


@given(wide_formats(), st.data())
def test_wide_formats_round_as_the_formula_says(f: Canonical, data: st.DataObject) -> None:
    near = st.builds(lambda scale: float(f.max) * scale, st.floats(-1.5, 1.5)).filter(math.isfinite)
    fine = st.builds(lambda scale: float(f.step) * scale, st.floats(-1e4, 1e4)).filter(math.isfinite)
    numbers = data.draw(st.lists(finite | near | fine, min_size=1, max_size=20))
    found = f.quantize(np.array(numbers))
    assert [Fraction(value) for value in found.tolist()] == [rounded(f, x) for x in numbers]
    assert np.array_equal(f.decode(f.encode(found)), found)
    singles = np.clip(numbers, -3e38, 3e38).astype(np.float32)
    found = f.quantize(singles)
    if (f.n_s, f.n_e, f.n_f, f.bias) != (1, 8, 23, 127):
        assert [Fraction(value) for value in found.tolist()] == [rounded(f, float(x)) for x in singles]


def test_data_of_no_dimension_and_of_none_at_all() -> None:
    for f in (fixed(8), exp(4), float_format(8), binary(), Affine(8, 0.1, 3)):
        for x in (0.3, np.float32(0.3), np.array(0.3), 1):
            value = f.quantize(x)  # type: ignore[arg-type]
            assert isinstance(value, np.ndarray)
            assert value.shape == ()
            code = f.encode(value)
            assert isinstance(code, np.ndarray)
            assert code.dtype == np.uint64
            assert code.shape == ()
            assert f.decode(code) == pytest.approx(value)
        empty = np.zeros((0, 3), np.float32)
        assert f.quantize(empty).shape == f.decode(f.encode(empty)).shape == (0, 3)


def test_float32_stays_where_the_values_fit_in_it() -> None:
    x = np.array([0.3, -1e30, 1e-40, 3e38], np.float32)
    for f in (fixed(8), fixed(24, 5), exp(4), float_format(16), parse("FLOAT<16,E=7>"), binary(), Affine(8, 0.1)):
        assert f.quantize(x).dtype == np.float32
        assert f.quantize(x.astype(np.float64)).dtype == np.float64
    assert np.array_equal(parse("FLOAT 32").quantize(x), x)
    for f in (fixed(32), Canonical(1, 10, 3, 511), fixed(8, 200), fixed(8, -200), parse("UFLOAT 31")):
        assert f.quantize(x).dtype == np.float64
        wanted = [float(rounded(f, float(value))) for value in x]  # type: ignore[arg-type]
        assert f.quantize(x).tolist() == wanted
    for x in (np.array([1, -7], np.int64), np.array([True]), np.array([0.3], np.float16)):
        for f in (fixed(8, -3), exp(4), binary(), Affine(8, 0.1)):
            assert f.quantize(x).dtype == np.float64


def test_quantising_is_silent_about_what_saturates() -> None:
    x = np.array([np.finfo(np.float64).max, -np.finfo(np.float64).max, 5e-324])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for f in (fixed(8, 50), fixed(8, -50), exp(5), float_format(8), Affine(8, 1e-20), Affine(8, 1e-300, 7)):
            found = f.quantize(x)
            assert np.isfinite(found).all()
            assert found[0] == f.decode(f.encode(x))[0] == found.max()
            single = np.array([3e38, -3e38, 1e-45], np.float32)
            assert np.isfinite(f.quantize(single)).all()


@pytest.mark.parametrize(
    ("fields", "bias"),
    [((1, 0, 7), 1024), ((1, 0, 7), -1024), ((1, 8, 3), -769), ((1, 11, 4), 1030), ((0, 0, 53), 0), ((1, 10, 4), 1020)],
)
def test_values_beyond_float64_are_refused(fields: tuple[int, int, int], bias: int) -> None:
    with pytest.raises(CompileError, match=r"^\w+<.*>: its values do not all fit in a 64-bit float$"):
        Canonical(*fields, bias)


# Per channel


@st.composite
def channelled(draw: st.DrawFn) -> tuple[Format, list[Format], int, tuple[int, ...]]:
    """A format a channel, the format of each channel, the axis and a shape."""
    rank = draw(st.integers(1, 4))
    axis = draw(st.integers(-rank, rank - 1))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    count = shape[axis]
    if draw(st.booleans()):
        n_s, n_e, n_f = draw(st.sampled_from(SMALL))
        many = tuple(draw(st.lists(st.sampled_from(biases(n_e)), min_size=count, max_size=count)))
        whole: Format = Canonical(n_s, n_e, n_f, many, axis)
        return whole, [Canonical(n_s, n_e, n_f, bias) for bias in many], axis, shape
    n, signed = draw(st.integers(1, 32)), draw(st.booleans())
    scales = tuple(draw(st.lists(st.floats(1e-3, 1e3), min_size=count, max_size=count)))
    zeros = tuple(draw(st.lists(st.integers(-9, 300) | st.floats(-9, 300), min_size=count, max_size=count)))
    one = draw(st.booleans())
    whole = Affine(n, scales, zeros[0] if one else zeros, signed, axis)
    pairs = zip(scales, zeros, strict=True)
    return whole, [Affine(n, s, zeros[0] if one else z, signed) for s, z in pairs], axis, shape


@given(channelled(), st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]))
def test_per_channel_is_per_tensor_on_each_slice(
    made: tuple[Format, list[Format], int, tuple[int, ...]], seed: int, dtype: type[np.floating]
) -> None:
    whole, singles, axis, shape = made
    x = (np.random.default_rng(seed).standard_normal(shape) * 20).astype(dtype)
    values, codes = whole.quantize(x), whole.encode(x)
    decoded = whole.decode(codes)
    assert whole.channels == len(singles)
    for channel, single in enumerate(singles):
        part = np.take(x, channel, axis)
        assert np.array_equal(np.take(values, channel, axis), single.quantize(part.astype(values.dtype)))
        assert np.array_equal(np.take(codes, channel, axis), single.encode(part.astype(values.dtype)))
        assert np.array_equal(np.take(decoded, channel, axis), single.decode(np.take(codes, channel, axis)))
    if isinstance(whole, Canonical):
        for name in ("max", "min", "step"):
            assert np.array_equal(getattr(whole, name), [getattr(single, name) for single in singles])
        if whole.is_integer:
            parts = [single.integers(np.take(x, i, axis)) for i, single in enumerate(singles)]  # type: ignore[attr-defined]
            assert np.array_equal(whole.integers(x), np.stack(parts, axis if axis >= 0 else axis + len(shape)))


def test_channels_that_do_not_fit_the_data() -> None:
    for f in (fixed(8).at((1, 2), 1), Affine(8, (0.1, 0.2), 0, axis=1)):
        for x in (np.zeros(2), np.zeros((2, 3)), np.zeros((2, 1)), np.zeros(())):
            shape = list(x.shape)
            with pytest.raises(CompileError) as caught:
                f.quantize(x, "conv1.w")
            assert str(caught.value) == f"conv1.w: 2 channel parameters on axis 1 do not fit shape {shape}"
            with pytest.raises(CompileError) as caught:
                f.decode(x)
            assert str(caught.value) == f"codes: 2 channel parameters on axis 1 do not fit shape {shape}"


# Covering


@given(wide_formats(), st.floats(1e-300, 1e300) | st.floats(1e-3, 1e3) | st.integers(1, 4096).map(float))
def test_covering_is_the_finest_step_that_holds_the_magnitude(f: Canonical, magnitude: float) -> None:
    found = f.covering(magnitude)
    assert isinstance(found.bias, int)
    assert (found.n_s, found.n_e, found.n_f) == (f.n_s, f.n_e, f.n_f)
    lowest, highest = ((1 << f.n_e) - 1 if f.n_e else 0) - 1023, 1023 - f.n_f
    assert found.max >= magnitude or found.bias == lowest
    if found.bias < highest:
        assert found.at(found.bias + 1).max < magnitude
    own = float(f.max)
    assert f.covering(own).bias == f.bias
    above = math.nextafter(own, math.inf)
    if math.isfinite(above) and f.bias > lowest:
        assert f.covering(above).bias == f.bias - 1  # type: ignore[operator]


def test_covering_covers_everything_that_lenet_could_ask_for() -> None:
    """No clipping at the ends for magnitudes of this world."""
    for n_s, n_e, n_f in SMALL:
        if n_e == n_f == 0:
            continue
        for magnitude in (1e-20, 1e-3, 0.5, 1.0, 1.0 + 2**-50, 2.0, 255.0, 256.0, 1e20):
            found = Canonical(n_s, n_e, n_f, biases(n_e)[0]).covering(magnitude)
            assert isinstance(found.bias, int)
            assert found.max >= magnitude
            try:
                finer = found.at(found.bias + 1)
            except CompileError:
                continue  # as fine as float64 goes
            assert finer.max < magnitude


def test_covering_per_channel_zero_and_bin() -> None:
    sizes = np.array([0.0, 0.3, 5.0, 1000.0])
    for f in (fixed(8), exp(4), float_format(8), parse("UFIXED 6"), binary()):
        whole = f.covering(sizes, 2)  # type: ignore[attr-defined]
        assert whole.axis == 2
        assert whole.bias == tuple(f.covering(float(size)).bias for size in sizes)  # type: ignore[attr-defined]
        assert whole.bias[0] == 0
    assert [binary().covering(m).bias for m in (1.0, 1.4, 1.5, 2.0, 0.3, 1e-3)] == [0, 0, -1, -1, 2, 10]


# Mistakes


@pytest.mark.parametrize("f", [fixed(8), exp(4), float_format(8), binary(), Affine(8, 0.1)], ids=str)
def test_nan_and_infinity_name_the_tensor(f: Format) -> None:
    x = np.zeros((2, 3), np.float32)
    x[1, 2] = np.nan
    help = "a number format has neither NaN nor infinity; check how the model or the data was made"
    with pytest.raises(CompileError) as caught:
        f.quantize(x, "conv1.weight")
    assert caught.value.message == "conv1.weight: NaN at index [1, 2] (1 of 6 elements are not finite)"
    assert caught.value.help == help
    x[0, 1] = -np.inf
    with pytest.raises(CompileError) as caught:
        f.quantize(x, "conv1.weight")
    assert caught.value.message == "conv1.weight: infinity at index [0, 1] (2 of 6 elements are not finite)"
    for infinity in (np.inf, -np.inf):
        with pytest.raises(CompileError, match=r"^w: infinity at index \[2\] \(1 of 3 elements are not finite\)"):
            f.quantize(np.array([1.0, 2.0, infinity]), "w")
    with pytest.raises(CompileError, match=r"^tensor: infinity at index \[\]"):
        f.encode(np.array(np.inf))


def raises(text: str, make: object) -> None:
    with pytest.raises(CompileError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == text


def test_records_that_are_no_format() -> None:
    raises("<2,3,4> is not a number format", lambda: Canonical(2, 3, 4))
    raises("<1,-1,4> is not a number format", lambda: Canonical(1, -1, 4))
    raises("<1,3,-4> is not a number format", lambda: Canonical(1, 3, -4))
    raises("<0,0,0> is not a number format", lambda: Canonical(0, 0, 0))
    unequal = "a bias a channel needs an axis, and an axis a bias a channel"
    raises(f"FIXED<8,B={{1,2}}@None>: {unequal}", lambda: Canonical(1, 0, 7, (1, 2)))
    raises(f"FIXED<8,B=1>: {unequal}", lambda: Canonical(1, 0, 7, 1, 0))
    raises("FIXED<8,B={}@0>: no channels", lambda: Canonical(1, 0, 7, (), 0))
    raises("AFFINE has 1 to 32 bits, not 33", lambda: Affine(33, 0.1))
    raises("AFFINE has 1 to 32 bits, not 0", lambda: Affine(0, 0.1))
    unequal = "AFFINE: a scale a channel needs an axis, and an axis a scale a channel"
    raises(unequal, lambda: Affine(8, (0.1,)))
    raises(unequal, lambda: Affine(8, 0.1, axis=0))
    raises("AFFINE: no channels", lambda: Affine(8, (), axis=0))
    raises("AFFINE: 3 zero points for 2 scales", lambda: Affine(8, (0.1, 0.2), (1, 2, 3), axis=0))
    raises("AFFINE: 3 zero points for 1 scales", lambda: Affine(8, 0.1, (1, 2, 3)))
    for scale in (0.0, -1.0, math.inf, math.nan):
        raises("AFFINE: a scale must be positive and finite", lambda scale=scale: Affine(8, scale))
    for zero in (math.inf, math.nan):
        raises("AFFINE: a zero point must be finite", lambda zero=zero: Affine(8, 0.1, zero))


def test_what_a_format_cannot_answer() -> None:
    raises("w: EXP values are not multiples of one step", lambda: exp(4).integers(np.zeros(1), "w"))
    raises(
        "FIXED<8,B={1,2}@0>: values() lists one tensor's format of at most 20 bits",
        lambda: fixed(8).at((1, 2), 0).values(),
    )
    raises("FIXED<21>: values() lists one tensor's format of at most 20 bits", lambda: fixed(21).values())
    assert len(fixed(20).values()) == 2**20 - 1
    raises("0x100 is not a 8-bit pattern of FIXED<8>", lambda: fixed(8).decode(np.array([1, 256])))
    raises("FLOAT 3 with 2 exponent bits has no fraction bits; use EXP 3", lambda: float_format(3))


# Other people's formats


def spread(dtype: np.dtype[np.generic], low: float, high: float) -> np.ndarray:
    """Random numbers over all binades from low to high, the ends and 0 among them."""
    random = np.random.default_rng(7)
    sizes = np.exp2(random.uniform(np.log2(low), np.log2(high), 100_000))
    x = np.concatenate([sizes * random.choice([-1, 1], sizes.size), [0.0, -0.0, low, -low, high, -high]])
    return x.astype(dtype)


@pytest.mark.parametrize(
    ("text", "theirs", "largest"),
    [
        ("FLOAT<16,E=8>", ml_dtypes.bfloat16, 3.3e38),
        ("FLOAT 16", np.float16, 65504.0),
        ("FLOAT 8", ml_dtypes.float8_e4m3, 240.0),
        ("FLOAT 8", ml_dtypes.float8_e4m3fn, 448.0),
        ("FLOAT<8,E=5>", ml_dtypes.float8_e5m2, 57344.0),
        ("FLOAT<8,E=3>", ml_dtypes.float8_e3m4, 15.5),
        ("FLOAT<6,E=2>", ml_dtypes.float6_e2m3fn, math.inf),
        ("FLOAT<6,E=3>", ml_dtypes.float6_e3m2fn, math.inf),
        ("FLOAT<4,E=2>", ml_dtypes.float4_e2m1fn, math.inf),
    ],
)
def test_small_floats_are_theirs_bit_for_bit(text: str, theirs: type, largest: float) -> None:
    f = parse(text)
    assert isinstance(f, Canonical)
    # ml_dtypes goes from float64 through float32, which rounds twice; from float32 it rounds once
    dtype = np.dtype(np.float64 if theirs is np.float16 else np.float32)
    with np.errstate(over="ignore"):
        values = f.decode(np.arange(1 << f.width)).astype(dtype)
    ours = np.sort(values[np.abs(values) <= largest])
    middles = ours[:-1] + np.diff(ours) / 2
    points = np.concatenate([ours, middles, *(np.nextafter(middles, dtype.type(end)) for end in (-np.inf, np.inf))])
    random = spread(dtype, float(f.step) / 8, min(float(f.max), largest))
    assert ours.size > 0.8 * values.size
    for x in (points, random):
        wanted = x.astype(theirs)
        assert np.array_equal(f.quantize(x), wanted.astype(np.float64))
        assert np.array_equal(f.encode(x), wanted.view(np.uint16 if f.width == 16 else np.uint8))


AP_FIXED = [
    (2, 0), (2, 2), (3, -3), (4, 1), (5, 4), (6, -1), (7, -5), (8, 0), (8, 3), (8, -4),
    (9, -2), (10, 1), (11, 0), (12, -4), (14, 6), (16, 0), (16, -6), (18, -1), (20, -8), (24, 0), (32, -3),
]  # fmt: skip

PROGRAM = """
#include <cstdio>
#include <vector>
#include "ap_fixed.h"
template <int N, int I> void convert(const std::vector<double>& x) {{
    std::vector<double> y;
    for (double value : x) y.push_back(ap_fixed<N, I, AP_RND_CONV, AP_SAT_SYM>(value).to_double());
    std::fwrite(y.data(), sizeof(double), y.size(), stdout);
}}
int main() {{
    std::vector<double> x({count});
    if (std::fread(x.data(), sizeof(double), x.size(), stdin) != x.size()) return 1;
    {calls}
}}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")
def test_fixed_is_ap_fixed_with_a_symmetric_range(ap_headers: Path, tmp_path: Path) -> None:
    """FIXED(N) with bias B is ap_fixed<N, 2-B, AP_RND_CONV, AP_SAT_SYM>."""
    random = np.random.default_rng(3)
    sizes = np.exp2(random.uniform(-30, 16, 60_000)) * random.choice([-1, 1], 60_000)
    ties = random.integers(-(2**15), 2**15, 40_000) / np.exp2(random.integers(0, 30, 40_000))
    x = np.concatenate([sizes, ties])
    calls = "\n    ".join(f"convert<{n}, {2 - bias}>(x);" for n, bias in AP_FIXED)
    source, binary_file = tmp_path / "convert.cpp", tmp_path / "convert"
    source.write_text(PROGRAM.format(count=x.size, calls=calls))
    command = ["g++", "-std=c++14", "-O1", "-w", f"-I{ap_headers}", str(source), "-o", str(binary_file)]
    subprocess.run(command, check=True)
    output = subprocess.run([str(binary_file)], input=x.tobytes(), stdout=subprocess.PIPE, check=True).stdout
    theirs = np.frombuffer(output).reshape(len(AP_FIXED), x.size)
    for (n, bias), wanted in zip(AP_FIXED, theirs, strict=True):
        f = fixed(n, bias)
        found = f.quantize(x)
        differ = np.flatnonzero(found != wanted)
        assert not differ.size, f"{f}: {x[differ[:3]]} gave {found[differ[:3]]}, ap_fixed {wanted[differ[:3]]}"
        steps = x / float(f.step)
        assert np.count_nonzero(np.abs(steps) % 1 == 0.5) > 100, f"{f} saw no ties"
        assert np.count_nonzero(np.abs(wanted) == f.max) > 100, f"{f} never saturated"


def quantize_model(dtype: int, scale: np.ndarray, zero: np.ndarray, axis: int) -> onnxruntime.InferenceSession:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis),
    ]
    graph = helper.make_graph(
        nodes,
        "affine",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("q", dtype, None), helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(zero, "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_affine_is_quantizelinear(signed: bool, axis: int | None) -> None:
    random = np.random.default_rng(5)
    shape = (3, 40, 50)
    count = 1 if axis is None else shape[axis]
    kind = np.int8 if signed else np.uint8
    scale = random.uniform(0.005, 0.3, count).astype(np.float32)
    scale[0] = 0.25  # x / 0.25 meets ties
    zero = random.integers(np.iinfo(kind).min, np.iinfo(kind).max, count, endpoint=True).astype(kind)
    x = (random.standard_normal(shape) * 40).astype(np.float32)
    x = np.where(random.random(shape) < 0.3, np.round(x * 8) / 8, x).astype(np.float32)
    if axis is None:
        f = Affine(8, float(scale[0]), int(zero[0]), signed)
        scale, zero = scale.reshape(()), zero.reshape(())
    else:
        f = Affine(8, tuple(scale.tolist()), tuple(zero.tolist()), signed, axis)
    proto = onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8
    codes, values = quantize_model(proto, scale, zero, axis or 0).run(None, {"x": x})
    assert np.array_equal(f.encode(x), codes.view(np.uint8))
    assert np.array_equal(f.quantize(x), values)
    assert f.quantize(x).dtype == np.float32
    assert np.array_equal(f.decode(codes.view(np.uint8)).astype(np.float32), values)
    assert {int(codes.min()), int(codes.max())} == {f.low, f.high} == {np.iinfo(kind).min, np.iinfo(kind).max}


def test_affine_spanning_is_the_papers_quantisation() -> None:
    """Zero = min W, Scale = (max W - Zero) / (2^n - 1), W_Q = (W - Zero) / Scale, W* = W_Q Scale + Zero."""
    random = np.random.default_rng(9)
    for bits in (1, 2, 3, 4, 8, 12):
        for axis in (None, 0, 1):
            w = random.normal(0.2, 0.5, (6, 7))
            axes = None if axis is None else tuple(i for i in range(2) if i != axis)
            low, high = w.min(axes, keepdims=True), w.max(axes, keepdims=True)
            scale = (high - low) / (2**bits - 1)
            codes = np.rint((w - low) / scale)
            f = Affine.spanning(bits, low.squeeze(), high.squeeze(), axis)
            assert f.axis == axis
            assert np.array_equal(f.encode(w), codes)
            np.testing.assert_allclose(f.quantize(w), codes * scale + low, rtol=0, atol=1e-12)
            np.testing.assert_allclose(f.decode(f.encode(w)), f.quantize(w), rtol=0, atol=1e-12)
            assert f.encode(w).max() == 2**bits - 1
            assert f.encode(w).min() == 0
            assert np.abs(f.quantize(w) - w).max() <= scale.max() / 2 + 1e-12


def test_a_narrow_range_leaves_out_one_end() -> None:
    x = np.array([-1000.0, -128.0, -127.0, 0.0, 127.0, 254.0, 255.0, 1000.0])
    for signed, low, high in ((True, -127, 127), (False, 0, 254)):
        f = Affine(8, 1.0, 0, signed, narrow=True)
        assert (f.low, f.high) == (low, high)
        assert np.array_equal(f.quantize(x), np.clip(x, low, high))
        assert np.array_equal(f.decode(f.encode(x)), np.clip(x, low, high))
    assert parse("AFFINE<8,scale=1,signed,narrow>") == Affine(8, 1.0, 0, True, narrow=True)
    assert str(Affine(8, 1.0, 0, narrow=True)) == "AFFINE<8,scale=1,narrow>"


def test_affine_spanning_one_number() -> None:
    f = Affine.spanning(4, 3.0, 3.0)
    assert f.quantize(np.array([3.0, 3.0])).tolist() == [3.0, 3.0]


# Text


whole_numbers = st.integers(-9, 300)


@st.composite
def formats(draw: st.DrawFn) -> Format:
    """Any format."""
    axis = draw(st.none() | st.integers(-4, 4))
    count = draw(st.integers(1, 12))

    def parameter(one: st.SearchStrategy[float]) -> float | tuple[float, ...]:
        return draw(one) if axis is None else tuple(draw(st.lists(one, min_size=count, max_size=count)))

    if draw(st.booleans()):
        scale = parameter(st.floats(1e-12, 1e12) | st.integers(1, 99) | st.floats(2.0**-1074, 1e308))
        zero = parameter(whole_numbers | st.floats(-1e20, 1e20)) if draw(st.booleans()) else draw(whole_numbers)
        n = draw(st.integers(2, 32))
        return Affine(n, scale, zero, draw(st.booleans()), axis, draw(st.booleans()))
    n_s, n_e = draw(st.integers(0, 1)), draw(st.integers(0, 10))
    n_f = draw(st.integers(0 if n_s or n_e else 1, 52))
    least, most = ((1 << n_e) - 1 if n_e else 0) - 1023, 1023 - n_f
    usual = (1 << (n_e - 1)) - 1 if n_e else 0
    bias = parameter(st.integers(least, most) | st.just(usual) | st.integers(max(least, usual - 9), usual + 9))
    return Canonical(n_s, n_e, n_f, bias, axis)  # type: ignore[arg-type]


@given(formats())
def test_a_format_prints_and_parses_itself(f: Format) -> None:
    for text in (str(f), short(f), f"  {f} "):
        again = parse(text)
        assert again == f
        assert type(again) is type(f)
        assert str(again) == str(f)
    tables = {"t.w" + suffix: table for suffix, table in tables_of(f).items()}
    text = to_text(f, "t.w")
    assert "{" not in text
    assert parse(text, tables) == f
    assert bool(tables) == (f.axis is not None)


def test_formats_as_text() -> None:
    for text, form, f in (
        ("FIXED<15,B=-3>", "FIXED 15 -3", Canonical(1, 0, 14, -3)),
        ("FIXED<8>", "FIXED 8", Canonical(1, 0, 7, 0)),
        ("EXP<8>", "EXP 8", Canonical(1, 7, 0, 63)),
        ("EXP<3,B=0>", "EXP 3 0", Canonical(1, 2, 0, 0)),
        ("FLOAT<16>", "FLOAT 16", Canonical(1, 5, 10, 15)),
        ("FLOAT<16,E=8>", "FLOAT<16,E=8>", Canonical(1, 8, 7, 127)),
        ("FLOAT<16,E=8,B=100>", "FLOAT<16,E=8,B=100>", Canonical(1, 8, 7, 100)),
        ("BIN<1>", "BIN 1", Canonical(1, 0, 0, 0)),
        ("BIN<1,B=4>", "BIN 1 4", Canonical(1, 0, 0, 4)),
        ("UFIXED<8,B=2>", "UFIXED 8 2", Canonical(0, 0, 8, 2)),
        ("UEXP<3>", "UEXP 3", Canonical(0, 3, 0, 3)),
        ("UFLOAT<8>", "UFLOAT 8", Canonical(0, 4, 4, 7)),
        ("FIXED<8,B={-1,2}@0>", "FIXED<8,B={-1,2}@0>", Canonical(1, 0, 7, (-1, 2), 0)),
        ("AFFINE<8,scale=0.1,zero=3>", "AFFINE<8,scale=0.1,zero=3>", Affine(8, 0.1, 3)),
        ("AFFINE<8,scale=0.1>", "AFFINE<8,scale=0.1>", Affine(8, 0.1)),
        (
            "AFFINE<4,scale={0.1,2}@1,zero={0,1.5}@1,signed>",
            "AFFINE<4,scale={0.1,2}@1,zero={0,1.5}@1,signed>",
            Affine(4, (0.1, 2.0), (0, 1.5), True, 1),
        ),
    ):
        assert (str(f), short(f)) == (text, form)
        assert parse(text) == parse(form) == f
    for text, f in (
        ("BIN", binary()),
        ("BIN<B=2>", binary(2)),
        ("FIXED 1", binary()),
        ("EXP 1", binary()),
        ("fixed 8 -1", fixed(8, -1)),
        ("  EXP   4  ", exp(4)),
        ("FIXED< 8 , B=3 >", fixed(8, 3)),
        ("FIXED<8,B={1, 2}@-1>", fixed(8).at((1, 2), -1)),
        ("AFFINE<8,scale=5e-3,zero=+.5>", Affine(8, 0.005, 0.5)),
        ("half", Canonical(1, 5, 10, 15)),
    ):
        assert parse(text) == f


MALFORMED = "write KIND width [bias], such as FIXED 8 -1 or EXP 4"
KINDS = "the kinds are FLOAT, FIXED, EXP, BIN, AFFINE, UFLOAT, UFIXED, UEXP"


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("", "\"\": there is no number kind ''", KINDS),
        ("FOO 3", "\"FOO 3\": there is no number kind 'FOO'", KINDS),
        ("UBIN 1", "\"UBIN 1\": there is no number kind 'UBIN'", KINDS),
        ("fixed<8>", "\"fixed<8>\": there is no number kind 'fixed<8>'", KINDS),
        *(
            (text, f'"{text}" is not a number format', MALFORMED)
            for text in (
                "FIXED",
                "FIXED x",
                "FIXED -3",
                "FIXED ²",
                "FIXED 8 x",
                "FIXED 8 1 2",
                "FIXED<>",
                "FIXED<8,>",
                "FIXED<8,B>",
                "FIXED<8,C=3>",
                "FIXED<8,b=3>",
                "FIXED<8,B=1,B=1>",
                "FIXED<8,B={}@0>",
                "FIXED<8,B={1,}@0>",
                "FIXED<8,B={1,a}@0>",
                "FIXED<8,B={1,2}>",
                "FIXED<8,signed>",
                "EXP<8,E=3>",
                "FIXED " + "9" * 5000,
                "AFFINE<8,scale>",
                "AFFINE<8,scale=0.1,narrowly>",
                "FIXED<8,narrow>",
            )
        ),
        ("FIXED<8,B=#t@0>", '"FIXED<8,B=#t@0>": there is no table #t', None),
        ("BIN 3", '"BIN 3": BIN has 1 bit', None),
        ("FIXED 8 1.5", '"FIXED 8 1.5": a bias is an integer', None),
        ("FIXED<8,B={1,1.5}@0>", '"FIXED<8,B={1,1.5}@0>": a bias is an integer', None),
        ("FIXED 8 1e999", '"FIXED 8 1e999": a bias is an integer', None),
        ("FLOAT<16,E=5.5>", '"FLOAT<16,E=5.5>": the number of exponent bits is an integer', None),
        ("FLOAT<16,E={5}@0>", '"FLOAT<16,E={5}@0>": the number of exponent bits is an integer', None),
        (
            "AFFINE<8,scale=0.1,signed=1>",
            '"AFFINE<8,scale=0.1,signed=1>" is not an AFFINE format',
            "write AFFINE<8,scale=0.05,zero=128>",
        ),
        ("AFFINE 8", '"AFFINE 8" is not an AFFINE format', "write AFFINE<8,scale=0.05,zero=128>"),
        (
            "AFFINE<8,scale=0.1,B=3>",
            '"AFFINE<8,scale=0.1,B=3>" is not an AFFINE format',
            "write AFFINE<8,scale=0.05,zero=128>",
        ),
        (
            "AFFINE<8,scale={1,2}@0,zero={1,2}@1>",
            '"AFFINE<8,scale={1,2}@0,zero={1,2}@1>": the lists are of different axes',
            None,
        ),
        ("EXP 0", "<1,-1,0> is not a number format", None),
        ("FIXED 0", "<1,0,-1> is not a number format", None),
        ("FIXED 64", "FIXED<64>: its values do not all fit in a 64-bit float", None),
        ("EXP 9999", "EXP<9999>: its values do not all fit in a 64-bit float", None),
        ("FIXED 8 99999", "FIXED<8,B=99999>: its values do not all fit in a 64-bit float", None),
        ("FLOAT 64", "FLOAT<64>: its values do not all fit in a 64-bit float", None),
        ("FLOAT<8,E=7>", "FLOAT 8 with 7 exponent bits has no fraction bits; use EXP 8", None),
    ],
)
def test_what_is_wrong_with_a_format(text: str, message: str, help: str | None) -> None:
    with pytest.raises(CompileError) as caught:
        parse(text)
    assert (caught.value.message, caught.value.help) == (message, help)


@given(st.text(alphabet="FLOATIXEDPBNU<>=,{}@#. 0123456789-+eEscalzronigd", max_size=30))
def test_any_text_is_a_format_or_a_compile_error(text: str) -> None:
    try:
        f = parse(text, {"t": (1.0, 2.0)})
    except CompileError:
        return
    assert parse(str(f)) == f


def table_1() -> Iterator[tuple[str, Canonical]]:
    """libnumber's Table 1, the rows that give the record (- is 0 here), and the small floats beside it."""
    yield "FLOAT32", Canonical(1, 8, 23, 127)
    yield "HALF", Canonical(1, 5, 10, 15)
    yield "MS_FP9", Canonical(1, 5, 3, 15)
    yield "FIXED16", Canonical(1, 0, 15, 0)
    yield "FIXED11", Canonical(1, 0, 10, 0)
    yield "FIXED8", Canonical(1, 0, 7, 0)
    yield "LOGQUANT4", Canonical(1, 3, 0, 3)
    yield "BIN", Canonical(1, 0, 0, 0)
    yield "BFLOAT16", Canonical(1, 8, 7, 127)
    yield "FP8_E4M3", Canonical(1, 4, 3, 7)
    yield "FP8_E5M2", Canonical(1, 5, 2, 15)


def test_the_names_of_table_1() -> None:
    assert dict(table_1()) == NAMED
    for name, f in table_1():
        assert parse(name) == parse(name.lower()) == f
    assert parse("LOGQUANT4").values().tolist() == [  # type: ignore[attr-defined]
        -16.0, -8.0, -4.0, -2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0
    ]  # fmt: skip
    assert parse("BIN").values().tolist() == [-1.0, 1.0]  # type: ignore[attr-defined]


def test_the_kinds_and_their_defaults() -> None:
    fields = {1: "BIN", 2: "FIXED"}
    for width in range(1, 32):
        assert fixed(width).kind == fields.get(width, "FIXED")
        assert (fixed(width).n_f, fixed(width).step) == (width - 1, 2.0 ** (2 - width) if width > 1 else 1.0)
    bits = {4: 2, 5: 2, 6: 4, 8: 4, 9: 5, 16: 5, 18: 5, 19: 8, 32: 8, 48: 8}
    assert {width: float_format(width).n_e for width in bits} == bits
    assert [exp(n).bias for n in (2, 3, 4, 8)] == [0, 1, 3, 63]
    assert [f.kind for f in map(parse, ("UFIXED 8", "UFLOAT 8", "UEXP 4", "BIN", "AFFINE<8,scale=1>"))] == [
        "UFIXED", "UFLOAT", "UEXP", "BIN", "AFFINE"
    ]  # fmt: skip
