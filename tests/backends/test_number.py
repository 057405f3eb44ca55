"""number.hpp: the rounding of bitwright.ir.formats to the last bit, and the rules of libnumber's section 4."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bitwright.ir.assign import read_formats
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, parse, to_text

HERE = Path(__file__).parent
INCLUDE = HERE.parents[1] / "backends" / "hls" / "include"
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{INCLUDE}")

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

FORMATS = (
    *("FLOAT 32", "HALF", "BFLOAT16", "MS_FP9", "FP8_E4M3", "FP8_E5M2", "FLOAT 19", "FLOAT 24", "FLOAT 16 20"),
    *("FLOAT<4,E=2>", "FLOAT<3,E=1>", "FLOAT<32,E=5,B=20>", "FLOAT<12,E=10>", "FLOAT<12,E=8,B=140>", "UFLOAT 8"),
    *("FIXED 16", "FIXED 11 3", "FIXED 8", "FIXED 8 -5", "FIXED 15 -3", "FIXED 2", "FIXED 32", "FIXED 24 100"),
    *("UFIXED 8 1", "UFIXED 32 -40", "UFIXED 1", "EXP 4", "EXP 9", "EXP 8 127", "EXP 2", "EXP 11", "UEXP 4", "EXP 5 3"),
    *("BIN", "BIN 1 3"),
)

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


class Library:
    """tests/backends/number/library.cpp."""

    def __init__(self, file: Path) -> None:
        self.functions = ctypes.CDLL(str(file))
        for name in ("combine", "parse_config", "format_of", "parse_format"):
            getattr(self.functions, name).restype = ctypes.c_char_p

    def quantise(self, format: str, x: Floats) -> Doubles:
        out = np.empty(x.shape, np.float64)
        self.functions.quantise(format.encode(), _pointer(x), _pointer(out), ctypes.c_size_t(x.size))
        return out

    def combine(self, op: str, formats: tuple[str, str], a: Doubles, b: Doubles) -> tuple[str, Doubles]:
        out = np.empty(a.shape, np.float64)
        left, right = (format.encode() for format in formats)
        pointers = (_pointer(array) for array in (a, b, out))
        result = self.functions.combine(ctypes.c_char(op.encode()), left, right, *pointers, ctypes.c_size_t(a.size))
        return result.decode(), out

    def text(self, function: str, argument: str | Path) -> str:
        text: str = getattr(self.functions, function)(str(argument).encode()).decode()
        return text


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def build(name: str, folder: Path, *flags: str) -> Path:
    """One of the programs in number/, compiled without a warning."""
    to = folder / name
    done = subprocess.run(
        ["g++", *FLAGS, *flags, str(HERE / "number" / f"{name}.cpp"), "-o", str(to)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return to


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(build("library", tmp_path_factory.mktemp("library"), "-O1", "-shared", "-fPIC"))


def canonical(text: str) -> Canonical:
    format = parse(text)
    assert isinstance(format, Canonical)
    return format


def finite(x: Doubles) -> Floats:
    high = float(np.finfo(np.float32).max)
    return np.clip(x, -high, high).astype(np.float32)


# ---- rounding


def samples(format: Canonical, rng: np.random.Generator) -> Floats:
    """A million floats: any bit pattern, the format's own range, its values, half way between them, next to that."""
    patterns = rng.integers(0, 1 << 32, 400_000, dtype=np.uint32).view(np.float32)
    sign = rng.choice([-1.0, 1.0], 200_000)
    octaves = 2 + format.n_f + 2 ** min(format.n_e, 6)
    own = finite(sign * float(format.max) * 1.2 * 2.0 ** -rng.uniform(0, octaves, sign.size))
    values = np.abs(np.asarray(format.quantize(own), np.float64))
    step = float(format.step)
    quantum = np.maximum(step, 2.0 ** np.floor(np.log2(np.maximum(values, step))) * 2.0**-format.n_f)
    if format.n_e == 0:
        quantum = np.full_like(values, step)
    halves = finite(np.copysign(values + quantum * rng.choice([-0.5, 0.5], values.size), own))
    with np.errstate(over="ignore"):
        beside = np.nextafter(halves, rng.choice([-np.inf, np.inf], halves.size).astype(np.float32))
    tiny = np.finfo(np.float32).smallest_subnormal
    edges = [0.0, tiny, 3 * tiny, np.finfo(np.float32).tiny, np.finfo(np.float32).max, 0.5, 1.0, 1.5, 2.5]
    bounds = [float(format.max), float(format.max) + step / 2, step, step / 2, step * 0.75, step * 1.5]
    fixed = finite(np.array([*edges, *bounds]))
    x = np.concatenate([patterns, own, finite(np.copysign(values, own)), halves, beside, fixed, -fixed])
    return np.ascontiguousarray(x[np.isfinite(x)])


@pytest.mark.parametrize("text", FORMATS)
def test_rounding_is_that_of_the_formats_in_python(library: Library, text: str) -> None:
    format = canonical(text)
    x = samples(format, np.random.default_rng(zlib.crc32(text.encode())))
    assert x.size >= 1_000_000 - 10_000  # some patterns are NaN
    expected, actual = np.asarray(format.quantize(x), np.float64), library.quantise(text, x)
    if format.n_s == 0:
        expected += 0.0  # an unsigned format has one zero
    wrong = np.flatnonzero(expected.view(np.int64) != actual.view(np.int64))
    assert wrong.size == 0, f"{x[wrong[0]]!r}: {actual[wrong[0]]!r} in C++, {expected[wrong[0]]!r} in Python"


# ---- + and *


def nearest(x: Fraction, format: Canonical) -> float:
    """The nearest value of the format, in exact arithmetic."""
    exponent = int(format.step_exponents)
    if format.n_e > 0 and x != 0:
        log = abs(x).numerator.bit_length() - abs(x).denominator.bit_length()
        log -= abs(x) < Fraction(2) ** log
        exponent = max(exponent, log - format.n_f)
    rounded = round(x / Fraction(2) ** exponent) * Fraction(2) ** exponent  # ties to even
    high = Fraction(float(format.max))
    return float(min(max(rounded, -high if format.n_s else Fraction(0)), high))


EXACT = (
    *("FLOAT 32", "HALF", "FP8_E4M3", "FLOAT<32,E=5>", "FLOAT<30,E=2,B=-3>"),
    *("FIXED 8", "FIXED 32 3", "UFIXED 32", "EXP 6"),
)


def operands(format: Canonical, rng: np.random.Generator, count: int) -> Doubles:
    """Values of the format, of mixed magnitudes."""
    size = min(float(format.max), 2.0**30) * 2.0 ** -rng.uniform(0, 20, count)
    return np.asarray(format.quantize(size * rng.choice([-1.0, 1.0], count)), np.float64)


@pytest.mark.parametrize("op", ["+", "*"])
@pytest.mark.parametrize("text", EXACT)
def test_equal_formats_round_the_exact_result_once(library: Library, op: str, text: str) -> None:
    format, rng = canonical(text), np.random.default_rng(7)
    a, b = operands(format, rng, 1500), operands(format, rng, 1500)
    result, actual = library.combine(op, (text, text), a, b)
    assert result == to_text(format)
    pairs = [(Fraction(x), Fraction(y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert actual.tolist() == [nearest(x + y if op == "+" else x * y, format) for x, y in pairs]


@pytest.mark.parametrize("beyond_half", [-1, 0, 1])
def test_products_that_no_double_holds_are_rounded_once(library: Library, beyond_half: int) -> None:
    # In steps of 2^-30 the products of these are k + 1/2 + beyond_half * 2^-30; a double drops the last term.
    rng = np.random.default_rng(3)
    odd = [int(n) | 1 for n in rng.integers(1 << 30, 1 << 31, 1000)]
    other = [pow(n, -1, 1 << 30) * ((1 << 29) + beyond_half) % (1 << 30) for n in odd]
    a, b = (np.array(integers, np.float64) * 2.0**-30 for integers in (odd, other))
    _, actual = library.combine("*", ("FIXED 32", "FIXED 32"), a, b)
    steps = [Fraction(m * n, 1 << 30) for m, n in zip(odd, other, strict=True)]
    assert {step % 1 for step in steps} == {Fraction(1, 2) + Fraction(beyond_half, 1 << 30)}
    assert actual.tolist() == [min(round(step), (1 << 31) - 1) * 2.0**-30 for step in steps]


WIDER = [
    ("FLOAT 16", "FLOAT 32", "FLOAT 32"),
    ("FLOAT 16", "BFLOAT16", "BFLOAT16"),
    ("FLOAT 8", "EXP 9", "FLOAT 8"),  # FLOAT before EXP, although EXP 9 reaches further
    ("FLOAT 8", "EXP 9 -50", "FLOAT 8"),
    ("FLOAT 16", "FIXED 8", "FLOAT 16"),
    ("FLOAT 16", "FIXED 32 -30", "FIXED 32 -30"),
    ("FIXED 8", "EXP 4", "EXP 4"),
    ("FIXED 8 -5", "EXP 4", "FIXED 8 -5"),
    ("FIXED 8", "FIXED 8 -1", "FIXED 8 -1"),
    ("FIXED 16", "FIXED 8 -3", "FIXED 8 -3"),  # the larger maximum, not the larger ratio to the step
    ("EXP 4", "EXP 5", "EXP 5"),
    ("EXP 4", "EXP 5 12", "EXP 4"),
    ("EXP 4 3", "EXP 5 11", "EXP 5 11"),  # equal maxima: the finer
    ("BIN", "FIXED 8", "FIXED 8"),
    ("BIN", "BIN 1 -1", "BIN 1 -1"),
    ("UFIXED 7", "FIXED 8", "FIXED 8"),
    ("UFIXED 8 -4", "FIXED 8", "FIXED 9 -4"),  # a signed operand keeps its sign
    ("UFLOAT 8", "FIXED 4", "FLOAT<9,E=4>"),
    ("UFIXED 8", "UFIXED 8 -1", "UFIXED 8 -1"),
]


@pytest.mark.parametrize(("one", "other", "expected"), WIDER)
def test_different_formats_compute_in_float32_and_take_the_wider(
    library: Library, one: str, other: str, expected: str
) -> None:
    wide, rng = canonical(expected), np.random.default_rng(5)
    for formats in ((one, other), (other, one)):
        a, b = (operands(canonical(text), rng, 5000) for text in formats)
        x, y = a.astype(np.float32), b.astype(np.float32)
        for op, computed in (("+", x + y), ("*", x * y)):
            result, actual = library.combine(op, formats, a, b)
            assert result == to_text(wide)
            np.testing.assert_array_equal(actual, wide.quantize(computed))


# ---- names, assignment, conversion


RULES = re.findall(r"^RULE\((\w+)\)", (HERE / "number" / "rules.cpp").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rules")
    (folder / "config.txt").write_text("a FIXED 8\nb EXP 4\nc FLOAT 16\n")
    (folder / "other.txt").write_text("b FIXED 4\n")
    (folder / "wrong.txt").write_text("b FIXED 4\nc FIXED\n")
    return build("rules", folder, "-O0")


@pytest.mark.parametrize("rule", RULES)
def test_rule(rules: Path, rule: str) -> None:
    done = subprocess.run([str(rules), rule], cwd=rules.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# ---- the configuration file


CONFIG = """\
// as in Figure 6(b)
conv1.weight    EXP 8
conv1.input     EXP 6      // a comment
\t
fc1.weight      FIXED 15 -3   # another
fc1.input\tFLOAT 32\r
# the longer forms
a FLOAT<16, E=8, B=100>
b half
c UFIXED<8,B=-1>
d bin
e BIN 1 2
f FP8_E5M2
g FIXED 5"""


def test_a_file_is_read_as_python_reads_it(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "config.txt"
    file.write_bytes(CONFIG.encode())
    assert library.text("parse_config", file) == ""
    formats = read_formats(file)
    assert len(formats) == 11
    assert {name: library.text("format_of", name) for name in formats} == {n: to_text(f) for n, f in formats.items()}
    assert library.text("format_of", "conv1.weight") == to_text(Canonical(1, 7, 0, 63))
    assert library.text("format_of", "conv1.input") == to_text(Canonical(1, 5, 0, 15))
    assert library.text("format_of", "fc1.weight") == to_text(Canonical(1, 0, 14, -3))
    assert library.text("format_of", "fc1.input") == to_text(Canonical(1, 8, 23, 127))
    assert library.text("format_of", "conv1") == "FLOAT<32>"


HOW = "write KIND width [bias], such as FIXED 8 -1 or EXP 4"
WRONG = [
    ("x", "x has no format"),
    ("y EXP 4", "y is given twice"),
    ("x FIXD 8", '"FIXD 8": there is no number kind FIXD; there are [U]FLOAT, [U]FIXED, [U]EXP and BIN'),
    ("x 8", '"8": there is no number kind 8; there are [U]FLOAT, [U]FIXED, [U]EXP and BIN'),
    ("x UBIN 1", '"UBIN 1": there is no number kind UBIN; there are [U]FLOAT, [U]FIXED, [U]EXP and BIN'),
    ("x FIXED", f'"FIXED": {HOW}'),
    ("x FIXED eight", f'"FIXED eight": {HOW}'),
    ("x FIXED 8 1 2", f'"FIXED 8 1 2": {HOW}'),
    ("x FIXED<8", f'"FIXED<8": {HOW}'),
    ("x FIXED<>", f'"FIXED<>": {HOW}'),
    ("x FIXED<8,>", f'"FIXED<8,>": {HOW}'),
    ("x FIXED<8,E=2>", f'"FIXED<8,E=2>": {HOW}'),
    ("x FIXED<8,B=1,B=2>", f'"FIXED<8,B=1,B=2>": {HOW}'),
    ("x FLOAT<16,E=8=8>", f'"FLOAT<16,E=8=8>": {HOW}'),
    ("x FIXED 8 1.5", '"FIXED 8 1.5": B is an integer'),
    ("x FIXED<8,B={1,2}@0>", '"FIXED<8,B={1,2}@0>": B is an integer'),
    ("x FLOAT<16,E=five>", '"FLOAT<16,E=five>": E is an integer'),
    ("x FIXED 0", '"FIXED 0": a Number has 1 to 32 bits'),
    ("x FIXED 33", '"FIXED 33": a Number has 1 to 32 bits'),
    ("x FIXED -8", '"FIXED -8": a Number has 1 to 32 bits'),
    ("x BIN 2", '"BIN 2": BIN has 1 bit'),
    ("x FLOAT 3", '"FLOAT 3": no fraction bits are left; EXP has none'),
    ("x FLOAT<16,E=15>", '"FLOAT<16,E=15>": no fraction bits are left; EXP has none'),
    ("x EXP 12", '"EXP 12": its values are not all normal doubles'),
    ("x UEXP 32", '"UEXP 32": its values are not all normal doubles'),
    ("x FIXED 8 1020", '"FIXED 8 1020": its values are not all normal doubles'),
    ("x FIXED 8 -999999999", '"FIXED 8 -999999999": its values are not all normal doubles'),
    ("x AFFINE 8", '"AFFINE 8": a Number has a canonical format <n_s, n_e, n_f, B>, and AFFINE is none'),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_a_wrong_line(library: Library, tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "config.txt"
    file.write_text(f"y FIXED 8\n\n{line} // comment\nz FIXED 8\n")
    assert library.text("parse_config", file) == f"{file}:3: {message}"
    if "33" not in line and "AFFINE" not in line and "{" not in line:
        with pytest.raises(CompileError, match=r"config\.txt:3: "):
            read_formats(file)


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_that_cannot_be_read(library: Library, tmp_path: Path, name: str) -> None:
    assert library.text("parse_config", tmp_path / name) == f"{tmp_path / name}: cannot be read"


@pytest.mark.parametrize("text", FORMATS)
def test_formats_print_as_in_python(library: Library, text: str) -> None:
    assert library.text("parse_format", text) == to_text(canonical(text))
    assert library.text("parse_format", to_text(canonical(text))) == to_text(canonical(text))
