"""Every bit pattern and every rounding of canonical formats against exact rationals."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rationals import SMALL, biases, finite, magnitudes, nearest, rationals, rounded, small_formats, wide_formats

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Affine, Canonical, binary, exp, fixed, float_format, parse


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
