"""Descriptor files: Python files of plain assignments, as libnumber's auto-tuner reads them (Table 3)."""

from __future__ import annotations

import difflib
import math
import runpy
import traceback
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from bitwright.ir.errors import CompileError

_MISSING = object()


def read_descriptor(path: Path) -> dict[str, Any]:
    """The names that the file assigns. The file is run; what it raises is reported as a CompileError with its line."""
    if not path.is_file():
        raise CompileError(f"{path}: no such file", help="give a descriptor, such as net.py")
    try:
        names = runpy.run_path(str(path))
    except SyntaxError as error:
        raise CompileError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        said = (str(error).splitlines() or [""])[0]
        raise CompileError(f"{path}:{_line(error, path)}: running it raised {type(error).__name__}: {said}") from error
    return {name: value for name, value in names.items() if not name.startswith("__")}


def _line(error: BaseException, path: Path) -> int:
    """The line of the file at which it was raised."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] or 1 if lines else 1


class Fields:
    """The fields of a descriptor, each checked when it is asked for; CompileErrors name file and field."""

    def __init__(self, file: str, given: Mapping[str, Any]) -> None:
        self.file = file
        self.given = given

    def wrong(self, name: str, what: str, help: str | None = None) -> CompileError:
        """The error that a field is not as it must be."""
        return CompileError(f"{self.file}: {name}: {what}", help)

    def optional(self, name: str, default: Any = _MISSING) -> Any:
        """A field as it is given, or its default if it has one."""
        value = self.given.get(name, default)
        if value is _MISSING:
            close = difflib.get_close_matches(name, self.given, n=1, cutoff=0.8)
            meant = f"; it has {close[0]}" if close else ""
            raise CompileError(f"{self.file} has no {name}{meant}", help="docs/portable.md has the fields")
        return value

    def text(self, name: str, default: Any = _MISSING) -> str:
        """A string that is not blank."""
        value = self.optional(name, default)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, f"must be a text, not {_shown(value)}")
        return value

    def number(
        self,
        name: str,
        low: float,
        high: float,
        default: Any = _MISSING,
        open_below: bool = False,
        open_above: bool = False,
    ) -> float:
        """A number of low to high, which are themselves allowed but for open ends."""
        value = self.optional(name, default)
        inside = _is_number(value) and low <= value <= high
        if not inside or (open_below and value == low) or (open_above and value == high):
            first, last = "above" if open_below else "from", "below" if open_above else "to"
            raise self.wrong(name, f"must be a number {first} {low:g} and {last} {high:g}, not {_shown(value)}")
        return float(value)

    def sequence(self, name: str, count: int | None = None, default: Any = _MISSING) -> list[Any]:
        """A list or a tuple, of so many elements as there are layers."""
        value = self.optional(name, default)
        if not isinstance(value, list | tuple | range):
            raise self.wrong(name, f"must be a list, not {_shown(value)}")
        if count is not None and len(value) != count:
            raise self.wrong(name, f"has {len(value)} elements for {count} layers", "give one for every layer_name")
        return list(value)

    def names(self, name: str, listed: Any = None) -> tuple[str, ...]:
        """Names of layers that a configuration file can hold, each once."""
        found = self.sequence(name) if listed is None else listed
        if not isinstance(found, list | tuple):
            raise self.wrong(name, f"must be a list of names for every layer, not {_shown(found)}", 'write ["a", "b"]')
        for item in found:
            if not isinstance(item, str) or not item or any(c.isspace() for c in item) or "#" in item or "//" in item:
                raise self.wrong(name, f"{_shown(item)} is no name for a line of a configuration file")
            if found.count(item) > 1:
                raise self.wrong(name, f"{item!r} is there twice")
        return tuple(found)

    def sizes(self, name: str, count: int) -> tuple[int, ...]:
        """A positive integer for every layer."""
        found = self.sequence(name, count)
        for item in found:
            if not isinstance(item, Integral) or isinstance(item, bool) or item < 1:
                raise self.wrong(name, f"{_shown(item)} is no size", "a size is an integer from 1 on")
        return tuple(int(item) for item in found)

    def magnitudes(self, name: str, count: int) -> tuple[float, ...]:
        """A finite number of 0 or more for every layer."""
        found = self.sequence(name, count)
        for item in found:
            if not _is_number(item) or item < 0:
                raise self.wrong(name, f"{_shown(item)} is no magnitude", "it is the largest absolute value")
        return tuple(float(item) for item in found)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    """A value in a message of one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
