"""Formats as text: what prints parses back, mistakes are named, table 1 has its names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
