"""Boards as data: `boards/*.toml` and a user's own file of the same form. Holds no policy about what fits."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitwright.ir.errors import CompileError

_FOLDER = Path(__file__).parent / "boards"

_CHOICES = {
    "family": ("7series", "ultrascale", "ultrascale+"),
    "processor": ("zynq7000", "zynqmp"),
    "driver": ("pynq",),
    "dsp_kind": ("DSP48E1", "DSP48E2", "DSP58"),
}
_COUNTS = ("lut", "ff", "bram36", "uram", "dsp")


@dataclass(frozen=True)
class Board:
    """A device with its board: what Vivado calls it, how much it holds and how it is driven.

    `part` is the full part string, `board_part` Vivado's board file (None: the part alone), `processor` the
    hard processor beside the logic (None: there is none), `driver` the host software that can be shipped with
    the accelerator. `certainty` says where the resource figures come from: "report" (seen in a synthesis
    report), "public data", "recalled", or "user" for a file that does not say.
    """

    name: str
    part: str
    family: str
    lut: int
    ff: int
    bram36: int
    uram: int
    dsp: int
    dsp_kind: str
    clock_mhz: float
    aliases: tuple[str, ...] = ()
    board_part: str | None = None
    processor: str | None = None
    driver: str | None = None
    certainty: str = "user"

    @property
    def clock_ns(self) -> float:
        """The period of the default clock."""
        return 1000.0 / self.clock_mhz


_KEYS = {field.name: field for field in dataclasses.fields(Board)}


@functools.cache
def boards() -> tuple[Board, ...]:
    """All boards that come with bitwright, by name."""
    return tuple(_read(path) for path in sorted(_FOLDER.glob("*.toml")))


def load_board(name: str) -> Board:
    """The board of that name or alias, or of the .toml file at that path."""
    if name.endswith(".toml") or os.sep in name:
        return _read(Path(name))
    wanted = name.lower()
    for board in boards():
        if wanted == board.name or wanted in board.aliases:
            return board
    known = [spelling for board in boards() for spelling in (board.name, *board.aliases)]
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise CompileError(
        f"no board is called {name!r}",
        help=f"{hint}`bitwright list boards` shows all; a path to a .toml file describes your own",
    )


def _read(path: Path) -> Board:
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CompileError(f"cannot read the board file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CompileError(f"{path}: not a TOML file: {error}") from error
    for key in entries:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise CompileError(f"{path}: unknown key {key!r}", help=f"{hint}a board has the keys {', '.join(_KEYS)}")
    for key, field in _KEYS.items():
        if field.default is dataclasses.MISSING and key not in entries:
            raise CompileError(f"{path}: the key {key!r} is missing", help=f"add {_example(key)}")
    return Board(**{key: _checked(path, key, value) for key, value in entries.items()})


def _checked(path: Path, key: str, value: Any) -> Any:
    if key in _COUNTS:
        good, wanted = type(value) is int and value >= 0, "a whole number, 0 or more"
    elif key == "clock_mhz":
        good, wanted = type(value) in (int, float) and 0 < value < 10_000, "a number of MHz above 0"
    elif key == "aliases":
        good = isinstance(value, list) and all(isinstance(alias, str) for alias in value)
        wanted = "a list of strings"
    elif key in _CHOICES:
        good, wanted = value in _CHOICES[key], " or ".join(f'"{choice}"' for choice in _CHOICES[key])
    else:
        good, wanted = isinstance(value, str) and value.strip() != "", "a string that is not empty"
    if not good:
        raise CompileError(f"{path}: {key} must be {wanted}, not {value!r}", help=f"write {_example(key)}")
    if key == "aliases":
        return tuple(alias.lower() for alias in value)
    return float(value) if key == "clock_mhz" else value


def _example(key: str) -> str:
    """The line for `key` as a shipped board has it."""
    line = next(
        line
        for line in (_FOLDER / "pynq-z2.toml").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"{key} =")
    )
    return f"`{line}`, as pynq-z2 has it"
