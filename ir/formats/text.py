"""Formats as text: the short form of libnumber's files, `FIXED 15 -3`, and that of the graph, `FIXED<15,B=-3>`.

KIND<width>             defaults: n_e of FLOAT by width, B = 2^(n_e-1)-1 (FLOAT, EXP) or 0 (FIXED, BIN)
FLOAT<16,E=8,B=127>     exponent bits and bias where they are not the default
FIXED<8,B={-1,-2}@0>    one bias a channel of axis 0;  B=#name@0  where the list stands in a table
AFFINE<8,scale=0.1,zero=3>, AFFINE<8,scale={0.1,0.2}@1,signed,narrow>
UFIXED, UFLOAT, UEXP    unsigned
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bitwright.ir.errors import CompileError
from bitwright.ir.formats.affine import Affine
from bitwright.ir.formats.base import Format
from bitwright.ir.formats.canonical import Canonical
from bitwright.ir.formats.named import (
    NAMED,
    binary,
    default_bias,
    default_exponent_bits,
    exp,
    fixed,
    float_format,
)

FLAGS = ("signed", "narrow")
KINDS = ("FLOAT", "FIXED", "EXP", "BIN", "AFFINE", "UFLOAT", "UFIXED", "UEXP")
Table = tuple[float, ...]

_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_WIDTH = re.compile(r"[0-9]{1,4}")
_FIELD = re.compile(
    rf"(?P<name>[A-Za-z]+)=(?:(?P<number>{_NUMBER})"
    rf"|(?:\{{(?P<list>{_NUMBER}(?:,\s*{_NUMBER})*)\}}|#(?P<table>[\w.$:]+))@(?P<axis>-?[0-9]{{1,2}}))"
)
_UNSCALED = re.compile(r"(?i:AFFINE)(?: +|<)(?P<width>[0-9]{1,4})>?")
_LONG = re.compile(r"(?P<kind>[A-Z]+)<(?P<fields>.*)>$")


def to_text(format: Format, tables: str | None = None) -> str:
    """The form of the graph text. With `tables`, lists a channel are referred to as `#tables` (`#tables:zero`)."""
    if isinstance(format, Affine):
        fields = [str(format.n), "scale=" + _parameter(format.scale, format.axis, tables)]
        if format.zero:
            fields.append("zero=" + _parameter(format.zero, format.axis, tables and tables + ":zero"))
        fields += ["signed"] * format.signed + ["narrow"] * format.narrow
        return f"AFFINE<{','.join(fields)}>"
    assert isinstance(format, Canonical)
    fields = [str(format.width)]
    if format.kind.endswith("FLOAT") and format.n_e != default_exponent_bits(format.width):
        fields.append(f"E={format.n_e}")
    if format.bias != default_bias(format.n_e):
        fields.append("B=" + _parameter(format.bias, format.axis, tables))
    return f"{format.kind}<{','.join(fields)}>"


def short(format: Format) -> str:
    """libnumber's `KIND width [bias]`, one parameter a tensor; other formats keep the form of the graph text."""
    usual = isinstance(format, Canonical) and format.axis is None and "E=" not in to_text(format)
    if not usual or not isinstance(format, Canonical):
        return to_text(format)
    bias = "" if format.bias == default_bias(format.n_e) else f" {format.bias}"
    return f"{format.kind} {format.width}{bias}"


def tables_of(format: Format) -> dict[str, Table]:
    """The lists a channel that `to_text(format, tables=name)` refers to, by suffix of the name ("" or ":zero")."""
    if format.axis is None:
        return {}
    if isinstance(format, Affine):
        zero = {":zero": format.zero} if isinstance(format.zero, tuple) else {}
        return {"": format.scale, **zero} if isinstance(format.scale, tuple) else {}
    return {"": format.bias} if isinstance(format, Canonical) and isinstance(format.bias, tuple) else {}


def parse(text: str, tables: Mapping[str, Table] | None = None) -> Format:
    """The format that `text` names, in either form or one of the names of Table 1 (`HALF`, `LOGQUANT4`).

    `tables` resolves `#name`. Raises CompileError that says what is wrong.
    """
    text = text.strip()
    if text.upper() in NAMED:
        return NAMED[text.upper()]
    long = _LONG.match(text)
    if long:
        kind, fields = long["kind"], _split(long["fields"])
    else:
        kind, *fields = text.split() or [""]
        if len(fields) > 2:
            raise _malformed(text)
        fields = fields[:1] + [f"B={bias}" for bias in fields[1:]]
    if kind.upper() not in KINDS:
        raise CompileError(f'"{text}": there is no number kind {kind!r}', help="the kinds are " + ", ".join(KINDS))
    return _build(kind.upper(), fields, text, tables or {})


def parse_kind(text: str) -> Format:
    """As `parse`, but an AFFINE needs no scale, `AFFINE 8`: for whoever chooses the parameters for each tensor."""
    match = _UNSCALED.fullmatch(text.strip())
    return Affine(int(match["width"]), 1.0) if match else parse(text)


def _build(kind: str, fields: list[str], text: str, tables: Mapping[str, Table]) -> Format:
    if kind == "BIN" and (not fields or not _WIDTH.fullmatch(fields[0])):
        fields = ["1", *fields]
    if not fields or not _WIDTH.fullmatch(fields[0]):
        raise _malformed(text)
    width = int(fields[0])
    flags = {flag: flag in fields for flag in FLAGS if kind == "AFFINE"}
    for flag in (name for name, given_it in flags.items() if given_it):
        fields.remove(flag)
    given: dict[str, float | Table] = {}
    axes: set[int] = set()
    for field in fields[1:]:
        match = _FIELD.fullmatch(field)
        if not match or match["name"] in given:
            raise _malformed(text)
        name, table = match["name"], match["table"]
        if match["number"] is not None:
            given[name] = float(match["number"])
            continue
        if table is not None and table not in tables:
            raise CompileError(f'"{text}": there is no table #{table}')
        axes.add(int(match["axis"]))
        given[name] = tables[table] if table is not None else tuple(float(item) for item in match["list"].split(","))
    if len(axes) > 1:
        raise CompileError(f'"{text}": the lists are of different axes')
    axis = next(iter(axes), None)
    if kind == "AFFINE":
        return _affine(width, given, axis, flags, text)
    bias, n_e = given.pop("B", None), given.pop("E", None)
    if given or (n_e is not None and not kind.endswith("FLOAT")):
        raise _malformed(text)
    if n_e is not None and (isinstance(n_e, tuple) or not n_e.is_integer()):
        raise CompileError(f'"{text}": the number of exponent bits is an integer')
    n_s = 0 if kind.startswith("U") else 1
    if kind.endswith("FLOAT"):
        format = float_format(width, n_e=None if n_e is None else int(n_e), n_s=n_s)
    elif kind == "BIN":
        if width != 1:
            raise CompileError(f'"{text}": BIN has 1 bit')
        format = binary()
    else:
        format = (fixed if kind.endswith("FIXED") else exp)(width, n_s=n_s)
    if bias is None:
        return format
    values = bias if isinstance(bias, tuple) else (bias,)
    if not all(float(value).is_integer() for value in values):
        raise CompileError(f'"{text}": a bias is an integer')
    integers = tuple(int(value) for value in values)
    return format.at(integers, axis) if isinstance(bias, tuple) else format.at(integers[0])


def _affine(width: int, given: dict[str, float | Table], axis: int | None, flags: dict[str, bool], text: str) -> Affine:
    scale, zero = given.pop("scale", None), given.pop("zero", 0.0)
    if given or scale is None:
        raise CompileError(f'"{text}" is not an AFFINE format', help="write AFFINE<8,scale=0.05,zero=128>")
    return Affine(width, scale, zero, axis=axis, **flags)


def _parameter(value: float | Table, axis: int | None, table: str | None) -> str:
    if not isinstance(value, tuple):
        return _number(value)
    return f"#{table}@{axis}" if table else "{" + ",".join(map(_number, value)) + f"}}@{axis}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _split(fields: str) -> list[str]:
    """Split at the commas outside braces."""
    return [field.strip() for field in re.split(r",(?![^{]*\})", fields)]


def _malformed(text: str) -> CompileError:
    return CompileError(f'"{text}" is not a number format', help="write KIND width [bias], such as FIXED 8 -1 or EXP 4")
