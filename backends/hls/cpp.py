"""Prints C++: identifiers, indentation, includes, tables. Knows nothing of networks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

INDENT = "    "
LINE = 120

_KEYWORDS = """
    alignas alignof and asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype
    default delete do double else enum explicit export extern false float for friend goto if inline int long main
    mutable namespace new noexcept not nullptr operator or private protected public register return short signed
    sizeof static struct switch template this throw true try typedef typeid typename union unsigned using virtual
    void volatile wchar_t while xor and_eq char16_t char32_t const_cast dynamic_cast not_eq or_eq reinterpret_cast
    static_assert static_cast thread_local xor_eq bitwright csim errno formats hls nn process run shapes std testbench
    addition real
    char16 char32 clock dev div error gid id int16 int32 int64 int8 key locale mode off pid ptrdiff quad size time timer
    uid uint16 uint32 uint64 uint8 wchar
"""
_LIBRARY = """
    Activation AdderTree Affine Axis Beat Bin ConcatOf Const Counter Exp Fixed Float FloatTree Flowing Fold Format
    GlobalMean In Inputs Int JoinOf Left LeftOf Linear MeanOf MeanSums Out Outputs PlusOf Pool Port Real RealPlusOf
    RealTimesOf Regroup Right RightOf Rounding Scan TimesOf TokensOf Turns UConst UFixed UInt Vec Weight Window Wire
"""
KEYWORDS = frozenset(_KEYWORDS.split())  # of the language, of names that generated code uses, of C's types without _t
LIBRARY = frozenset(_LIBRARY.split())  # types that generated code sees beside its own
DERIVED = (
    "_t",
    "_weight_t",
    "_weights",
    "_bias",
    "_shift",
    "_reciprocals",
    "_multiplier",
    "_offset",
    "_left",
    "_right",
)  # emit.py names more things after a layer


class Names:
    """C++ identifiers for the names of a graph: each once, never a keyword or a name of the header library."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The identifier of a name: `conv1.pool` is conv1_pool."""
        if name not in self.given:
            base = re.sub(r"_+", "_", re.sub(r"\W", "_", name, flags=re.ASCII)).strip("_") or "value"
            base = f"n{base}" if base[0].isdigit() else f"n_{base}" if base in KEYWORDS | LIBRARY else base
            candidate, number = base, 2
            taken = {claim for known in self.given.values() for claim in _claims(known)}
            while _claims(candidate) & taken:
                candidate, number = f"{base}_{number}", number + 1
            self.given[name] = candidate
        return self.given[name]

    def struct(self, name: str) -> str:
        """The name of its struct: `conv1_pool` is Conv1Pool; `Input3` would be its own struct, and is Input3Stage."""
        made = "".join(word[:1].upper() + word[1:] for word in self.of(name).split("_"))
        clear = made != self.of(name) and made not in LIBRARY
        return made if clear else self.of(name + " Stage").replace("_", "")


class Printer:
    """Lines with an indentation that blocks own."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str = "") -> None:
        """One line; blank ones do not pile up."""
        if text or not self.lines or self.lines[-1]:
            self.lines.append((INDENT * self.depth + text).rstrip())

    def block(self, text: str) -> None:
        """Several lines, each indented."""
        for line in text.split("\n"):
            self.line(line)

    @contextmanager
    def braces(self, head: str, tail: str = "}") -> Iterator[None]:
        self.line(head + " {")
        self.depth += 1
        yield
        self.depth -= 1
        self.line(tail)

    @contextmanager
    def namespace(self, name: str) -> Iterator[None]:
        """Not indented, as is usual."""
        self.line(f"namespace {name} {{")
        self.line()
        yield
        self.line()
        self.line(f"}}  // namespace {name}")

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


def header(comment: Sequence[str], guard: str, includes: Sequence[str]) -> Printer:
    """The head of a header file: what it is, its guard, what it includes. `end_header` closes it."""
    printer = Printer()
    for line in comment:
        printer.line(f"// {line}".rstrip())
    printer.line(f"#ifndef {guard}")
    printer.line(f"#define {guard}")
    printer.line()
    for include in includes:
        printer.line(f'#include "{include}"')
    if includes:
        printer.line()
    return printer


def end_header(printer: Printer) -> str:
    """The text of a header file, with its guard closed."""
    printer.line()
    printer.line("#endif")
    return str(printer)


def table(values: NDArray[Any]) -> str:
    """Nested braces of any rank, of integers or of words; the innermost lists are filled into lines."""
    if values.ndim == 1:
        return _filled([str(value) for value in values.tolist()])
    inner = [table(part) for part in values]
    if values.ndim == 2 and all("\n" not in part for part in inner):
        joined = "{" + ", ".join(inner) + "}"
        if len(joined) <= LINE - 8:
            return joined
    return "{\n" + ",\n".join(_indented(part) for part in inner) + "\n}"


def _filled(items: Sequence[str]) -> str:
    rows, row = [], ""
    for item in items:
        if row and len(row) + len(item) + 2 > LINE - 16:
            rows.append(row)
            row = ""
        row = f"{row}, {item}" if row else item
    rows.append(row)
    return "{" + ",\n ".join(rows) + "}"


def _indented(text: str) -> str:
    return "\n".join(" " + line for line in text.split("\n"))


def _claims(identifier: str) -> set[str]:
    """What no other identifier may be: one derived from it, or one that only case and `_` tell apart."""
    return {identifier, identifier.replace("_", "").lower(), *(identifier + suffix for suffix in DERIVED)}
