"""real.hpp against bitwright.ir.formats: widening and rounding to the last bit, in native integers and in ap_int."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bitwright.backends.hls.stages import as_integers, as_reals, flowing
from bitwright.ir.formats import Canonical, parse

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

HLS = Path(__file__).parents[2] / "backends" / "hls"
FORMATS = (
    *("FLOAT 32", "HALF", "BFLOAT16", "MS_FP9", "FP8_E4M3", "FP8_E5M2", "FLOAT 19", "FLOAT 24", "FLOAT 16 31"),
    *("FLOAT<4,E=2>", "FLOAT<3,E=1>", "FLOAT<29,E=5,B=20>", "UFLOAT 8", "UFLOAT<6,E=3,B=-4>", "FLOAT<16,E=7,B=125>"),
    *("EXP 4", "EXP 8", "EXP 9", "EXP 2", "UEXP 4", "EXP 5 3"),
    *("FIXED 16", "FIXED 11 3", "FIXED 8 -5", "FIXED 2", "FIXED 24 100", "UFIXED 8 1", "UFIXED 1", "UFIXED 24 -40"),
)
TYPES = {"FIXED": "Fixed<{0.width}, {0.bias}>", "UFIXED": "UFixed<{0.width}, {0.bias}>"}
FLOAT = "Float<{0.n_s}, {0.n_e}, {0.n_f}, {0.bias}>"
SMALLEST = 2.0**-126

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def format_of(text: str) -> Canonical:
    number = flowing(parse(text))
    assert isinstance(number, Canonical)
    return number


def source() -> str:
    lines = ['#include "bitwright/scaled_sums.hpp"', '#include "bitwright/real.hpp"', "using namespace bitwright;"]
    loop = "for (int i = 0; i < n; ++i)"
    for index, text in enumerate(FORMATS):
        number = format_of(text)
        lines += [
            f"using F{index} = {TYPES.get(number.kind, FLOAT).format(number)};",
            f'extern "C" void nearest{index}(const float* x, std::int64_t* y, int n) {{',
            f"    {loop} y[i] = static_cast<std::int64_t>(Real<F{index}>::nearest(x[i]));",
            "}",
            f'extern "C" void number{index}(const std::int64_t* x, float* y, int n) {{',
            f"    {loop} y[i] = Real<F{index}>::number(static_cast<F{index}::Type>(x[i]));",
            "}",
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module", params=["native", "ap_int"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("real")
    flags = request.getfixturevalue("ap_flags") if request.param == "ap_int" else []
    (folder / "real.cpp").write_text(source())
    strict = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
    places = [f"-I{HLS / 'include'}", f"-I{HLS / 'csim'}"]
    command = ["g++", *strict, *flags, *places, str(folder / "real.cpp"), "-o", str(folder / "real.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(folder / "real.so"))


def called(function: ctypes._NamedFuncPointer, x: Floats | Ints, kind: type) -> Floats | Ints:
    y = np.zeros(x.shape, kind)
    function(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_int(len(x)))
    return y


def every(number: Canonical) -> Ints:
    """All integers that flow, or many where there are more than 17 bits of them."""
    most = int(as_integers(number, np.array([3e38]))[0])
    least = -most if number.n_s else 0
    if most < 1 << 17:
        return np.arange(least, most + 1)
    ends = np.concatenate([np.arange(least, least + 99), np.arange(-99, 100), np.arange(most - 99, most + 1)])
    return np.unique(np.clip(np.concatenate([ends, np.random.default_rng(0).integers(least, most, 5000)]), least, most))


@pytest.mark.parametrize("index", range(len(FORMATS)), ids=FORMATS)
def test_every_number_is_widened_exactly(index: int, library: ctypes.CDLL) -> None:
    number = format_of(FORMATS[index])
    codes = every(number)
    expected = as_reals(number, codes)
    expected = np.where((np.abs(expected) < SMALLEST) & (number.bias != 127), 0.0, expected)
    np.testing.assert_array_equal(called(library[f"number{index}"], codes, np.float32), expected)


@pytest.mark.parametrize("index", range(len(FORMATS)), ids=FORMATS)
def test_every_float_is_rounded_as_the_formats_round(index: int, library: ctypes.CDLL) -> None:
    """Numbers, the middles between them with their neighbours, and floats of every size."""
    number = format_of(FORMATS[index])
    values = np.unique(as_reals(number, every(number)))
    values = values[np.abs(values) < 3.4e38]
    middles = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    rng = np.random.default_rng(index)
    sizes = rng.integers(0, 0x7F800000, 20000).astype(np.uint32).view(np.float32)
    near = np.exp2(rng.uniform(-12, 6, 5000)) * float(number.step) * rng.choice([-1, 1], 5000)
    around = [np.nextafter(middles, np.float32(end)) for end in (np.inf, -np.inf)]
    x = np.concatenate([values.astype(np.float32), middles, *around, sizes, -sizes, near, [0.0, -0.0]])
    x = x[np.isfinite(x.astype(np.float32))].astype(np.float32)
    np.testing.assert_array_equal(called(library[f"nearest{index}"], x, np.int64), as_integers(number, x))


def test_integers_that_flow_are_in_the_order_of_the_numbers() -> None:
    """By eq. (1) itself, in fractions, for small formats."""
    for text in ("FP8_E4M3", "FLOAT<4,E=2>", "EXP 4", "UFLOAT 8"):
        number = format_of(text)
        codes = every(number)
        reals = [Fraction(float(value)) for value in as_reals(number, codes)]
        assert reals == sorted(reals)
        assert len(set(reals)) == len(reals)
        for code, real in zip(codes.tolist(), reals, strict=True):
            exponent, fraction = abs(code) >> number.n_f, abs(code) & ((1 << number.n_f) - 1)
            share = Fraction(fraction, 1 << number.n_f)
            two = Fraction(2)
            value = (1 + share) * two ** (exponent - number.bias) if exponent else share * two ** (1 - number.bias)
            assert real == (-value if code < 0 else value)
