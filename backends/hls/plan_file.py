"""A plan as a TOML file: a table a layer, written by compile and taken back in whole or in part.

[layers.conv1]
pe = 6                       # output channels in a cycle
simd = 5                     # inputs of each in a cycle
pixels = 1                   # for which they work side by side
partition = [6, 5]           # of the weights, dimensions 2 and 3: pe and simd
adder_tree = true            # false: a chain of adders
multipliers = "dsp"          # of what the products are made; dsp-packed, lut, or adders of constants for all of them
storage = "bram"             # of the weights; lut, or logic where all work in every cycle
fusion = ["relu", "maxpool"]
fifo = [2]                   # words of the FIFO that enters; two of an add, mul or concat, which has lanes, too
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from bitwright.backends.hls.estimate import products_in_dsp, rom_in_bram
from bitwright.backends.hls.given import FUSED, MULTIPLIERS, STORAGES, Decisions, Given, fusion_of, keys_of, storage_of
from bitwright.backends.hls.packing import PACKED
from bitwright.backends.hls.plan import Plan
from bitwright.backends.hls.stages import ADDERS, JoinStage, Stage, SumStage
from bitwright.ir.errors import CompileError

KEYS = tuple(field.name for field in fields(Given))


def _number(value: Any) -> bool:
    return type(value) is int and value > 0


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_number, value))


# What each key must be: a test, and the words for it.
_WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "pe": (_number, "a whole number above 0"),
    "simd": (_number, "a whole number above 0"),
    "pixels": (_number, "a whole number above 0"),
    "lanes": (_number, "a whole number above 0"),
    "partition": (lambda value: _numbers(value) and len(value) == 2, "two whole numbers above 0, [pe, simd]"),
    "fifo": (lambda value: _number(value) or _numbers(value), "a number of words, or a list of one an input"),
    "adder_tree": (lambda value: type(value) is bool, "true, or false for a chain"),
    "multipliers": (lambda value: value in MULTIPLIERS, " or ".join(f'"{name}"' for name in MULTIPLIERS)),
    "storage": (lambda value: value in STORAGES, " or ".join(f'"{name}"' for name in STORAGES)),
    "fusion": (
        lambda value: isinstance(value, list) and all(item in FUSED for item in value),
        f"a list of {', '.join(FUSED)}",
    ),
}


def read_plan(path: Path) -> Decisions:
    """What a plan file decides, by layer. Raises CompileError for what is no plan, naming the key."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CompileError(f"cannot read the plan {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CompileError(f"{path}: not a TOML file: {error}") from error
    for key in entries:
        if key != "layers":
            raise CompileError(f"{path}: unknown key {key!r}", help="a plan has tables [layers.NAME] and nothing else")
    layers = entries.get("layers", {})
    if not isinstance(layers, dict):
        raise CompileError(f"{path}: layers must be tables", help="write [layers.NAME]")
    return {name: _given(path, name, table) for name, table in layers.items()}


def _given(path: Path, name: str, table: Any) -> Given:
    if not isinstance(table, dict):
        raise CompileError(f"{path}: layers.{name} must be a table", help=f"write [layers.{_quoted(name)}]")
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _WANTED:
            close = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            dotted = " (a name with a dot stands in quotes)" if isinstance(value, dict) else ""
            raise CompileError(
                f"{path}: unknown key {key!r} of layer {name!r}{dotted}", help=f"{hint}a layer has {', '.join(KEYS)}"
            )
        good, wanted = _WANTED[key]
        if not good(value):
            raise CompileError(f"{path}: {key} of layer {name!r} must be {wanted}, not {value!r}")
        if key == "fifo" and isinstance(value, int):
            value = [value]
        found[key] = tuple(value) if isinstance(value, list) else value
    return Given(**found)


def plan_text(plan: Plan, origin: str) -> str:
    """The plan as its file."""
    found = plan.estimate
    lines = [
        f"# {origin}: the plan, of which `compile --plan` takes back the whole or a part",
        f"# {plan.board.name} at {plan.utilisation:.0%}: a frame every {found.interval:,} cycles,"
        f" the slowest is {json.dumps(found.bottleneck.name, ensure_ascii=False)}",
    ]
    for stage, _, cycles in found.stages:
        if keys_of(stage):
            lines += ["", f"[layers.{_quoted(stage.name)}]  # {cycles:,} cycles"]
            lines += [f"{key} = {_value(value)}" for key, value in _entries(stage, plan).items()]
    return "\n".join(lines) + "\n"


def _entries(stage: Stage, plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(stage, SumStage):
        found = {"pe": stage.pe, "simd": stage.simd, "pixels": stage.pixels, "partition": [stage.pe, stage.simd]}
        found["adder_tree"] = stage.adder_tree
        if "multipliers" in keys_of(stage):
            found["multipliers"] = _made_of(stage)
        found["storage"] = storage_of(stage, rom_in_bram(stage, plan.board))
        found["fusion"] = list(fusion_of(stage, plan.stages))
    elif isinstance(stage, JoinStage):
        found = {"lanes": stage.lanes}
    return found | {"fifo": [stage.depth(side) for side in range(len(stage.reads))]}


def _made_of(stage: SumStage) -> str:
    if stage.products == ADDERS:
        return ADDERS
    return PACKED if stage.packing > 1 else "dsp" if products_in_dsp(stage) else "lut"


def _value(value: Any) -> str:
    return json.dumps(value)


def _quoted(name: str) -> str:
    """A name as a TOML key."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
