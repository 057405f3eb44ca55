"""Which number formats a platform has: libnumber's descriptor (Figure 5), its own and from files.

    supported_formats = {
        "FPGA": {"FLOAT": [8, 16, 32], "FIXED": range(2, 33), "EXP": range(2, 10)},
        "FPGA.activation": {"FIXED": range(2, 17)},
    }

A platform's name followed by `.weight` or `.activation` says what these take, if they differ.

The paper's Figure 5 lists 41 formats (FLOAT 16 and 32), but its Table 6 counts 42 a tensor; the one that is added here
is FLOAT 8. FULL is what bitwright's own hardware takes: any FIXED and EXP width up to 16 bits, with and without a sign,
and BIN.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, parse
from bitwright.tuner.descriptors import read_descriptor
from bitwright.tuner.targets import Role

WIDEST = 64
KINDS = ("FLOAT", "FIXED", "EXP", "BIN", "UFIXED", "UEXP", "UFLOAT")
PER_TENSOR: Mapping[str, Iterable[int]] = {"FLOAT": [8, 16, 32], "FIXED": range(2, 33), "EXP": range(2, 10)}
HARDWARE_WEIGHTS: Mapping[str, Iterable[int]] = {"BIN": [1], "FIXED": range(2, 17), "EXP": range(2, 9)}
HARDWARE_INPUTS: Mapping[str, Iterable[int]] = {"FIXED": range(2, 17), "UFIXED": range(1, 17)}


@dataclass(frozen=True)
class Platform:
    """The formats of weights and of inputs, each with its default bias, by kind and then by width.

    per_channel: whether weights may have a bias for each output channel.
    """

    name: str
    weight: tuple[Canonical, ...]
    input: tuple[Canonical, ...]
    per_channel: bool = False

    def formats(self, role: Role) -> tuple[Canonical, ...]:
        return self.weight if role == "weight" else self.input


def platform_of(supported: Mapping[str, Any], name: str | None = None, where: str = "supported_formats") -> Platform:
    """The platform called `name` (by default the only one). Raises CompileError for what is no descriptor."""
    if not all(isinstance(key, str) for key in supported):
        raise CompileError(f"{where}: the names of platforms are texts", help='write {"FPGA": {"FIXED": range(2, 33)}}')
    plain = sorted({key.removesuffix(".weight").removesuffix(".activation") for key in supported})
    if name is None and len(plain) == 1:
        name = plain[0]
    if name is None or name not in plain:
        close = difflib.get_close_matches(name or "", plain, n=1)
        meant = f", did you mean {close[0]}?" if close else ""
        what = f"has no platform {name!r}{meant}" if name else "has several platforms" if plain else "is empty"
        raise CompileError(f"{where} {what}", help=f"the platforms are {', '.join(plain) or 'none'}")
    both = supported.get(name, {})
    return Platform(
        name,
        _formats(supported.get(f"{name}.weight", both), f"{where}[{name}.weight]"),
        _formats(supported.get(f"{name}.activation", both), f"{where}[{name}.activation]"),
    )


def load_platform(source: str, name: str | None = None) -> Platform:
    """A built-in platform (`paper`, `full`), or that of a descriptor file. Raises CompileError as platform_of does."""
    if source in BUILT_IN:
        return BUILT_IN[source]
    path = Path(source)
    if not path.is_file():
        known = ", ".join(BUILT_IN)
        raise CompileError(
            f"there is no platform {source!r}", help=f"the platforms are {known}, or give a descriptor file"
        )
    found = read_descriptor(path).get("supported_formats")
    if not isinstance(found, Mapping):
        example = '{"FPGA": {"FIXED": range(2, 33)}}'
        raise CompileError(f"{path} has no dictionary supported_formats", help=f"write supported_formats = {example}")
    return platform_of(found, name, f"{path}: supported_formats")


def _formats(kinds: Any, where: str) -> tuple[Canonical, ...]:
    """The formats by kind and then by width, each once: FIXED 1 and EXP 1 are BIN."""
    if not isinstance(kinds, Mapping) or not kinds:
        raise CompileError(f"{where} lists no formats", help='write {"FIXED": range(2, 33), "EXP": [4]}')
    found = []
    for kind, widths in kinds.items():
        if kind not in KINDS:
            raise CompileError(f"{where}: there is no number kind {kind!r}", help=f"the kinds are {', '.join(KINDS)}")
        for width in _widths(widths, f"{where}: {kind}"):
            try:
                format = parse(f"{kind} {width}")
            except CompileError as error:
                raise CompileError(f"{where}: {error.message}", error.help) from error
            assert isinstance(format, Canonical)
            found.append(format)
    if not found:
        raise CompileError(f"{where} lists no widths", help='write {"FIXED": range(2, 33), "EXP": [4]}')
    return tuple(dict.fromkeys(found))


def _widths(widths: Any, where: str) -> list[int]:
    """The widths upwards, each once."""
    if not isinstance(widths, Iterable) or isinstance(widths, str | bytes):
        raise CompileError(f"{where} needs a list of widths, not {widths!r}")
    found = set()
    for width in widths:
        if not isinstance(width, Integral) or isinstance(width, bool) or not 1 <= int(width) <= WIDEST:
            raise CompileError(f"{where}: {width!r} is no width", help=f"a width is an integer from 1 to {WIDEST}")
        found.add(int(width))
    return sorted(found)


BUILT_IN = {
    "paper": platform_of({"paper": PER_TENSOR}),
    "full": replace(
        platform_of({"full.weight": HARDWARE_WEIGHTS, "full.activation": HARDWARE_INPUTS}), per_channel=True
    ),
}
