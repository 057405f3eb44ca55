"""What a pass is: a frozen dataclass with a name, typed fields that are its parameters, and `run`.

The fields are at once the options in a pipeline's text, the log line and the tuner's search axes: `Annotated[float,
Span(0, 1)]` and `Literal["a", "b"]` bound them. The docstring shows the graph before (-) and after (+).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array

Executor = Callable[[Graph, Mapping[str, Array], Collection[str]], dict[str, Array]]


@dataclass(frozen=True)
class Span:
    """The bounds of a number."""

    least: float
    most: float


@dataclass(frozen=True)
class Reference:
    """The network that a smaller one was made from, and what is left of it.

    rows: for each layer that has fewer outputs than there, the indices there of those it has, by the layer's name.
    """

    graph: Graph
    rows: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def without(self, kept: Mapping[str, NDArray[np.int64]]) -> Reference:
        """The same when layers keep only some of the outputs that they still have."""
        left = {name: self.rows[name][rows] if name in self.rows else rows for name, rows in kept.items()}
        return Reference(self.graph, {**self.rows, **left})


@dataclass
class Context:
    """What a pass needs from outside the graph.

    samples: calibration inputs by name, batch first, or None; executor: runs a graph and returns watched values;
    notes: what passes have to say to the user; seed: of every random choice; reference: the network as it was before
    passes took something out of it, whose outputs `refit` wants back (the first such pass sets it).
    """

    samples: Mapping[str, Array] | None = None
    executor: Executor = evaluate
    seed: int = 0
    notes: list[str] = field(default_factory=list)
    reference: Reference | None = None


@dataclass(frozen=True)
class Pass:
    """One change of a graph. Subclasses are frozen dataclasses with a `name` and a docstring of before and after."""

    name: ClassVar[str] = ""

    def run(self, graph: Graph, context: Context) -> bool:
        """Change `graph` in place; whether it changed. The graph verifies before and must verify after."""
        raise InternalPassError(self)

    def __str__(self) -> str:
        """The pass as pipeline text, defaults left out."""
        given = [
            f"{f.name}={_value_text(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return self.name + ("{" + ",".join(given) + "}" if given else "")


class InternalPassError(Exception):
    """A pass class without `run`."""

    def __init__(self, made: Pass) -> None:
        super().__init__(f"{type(made).__name__} has no run()")


def split(text: str) -> list[str]:
    """The parts between commas that stand outside braces, brackets and quotes. Raises CompileError if one is open."""
    items, depth, start, quoted, escaped = [], 0, 0, False, False
    for index, char in enumerate(text):
        if quoted:
            quoted, escaped = escaped or char != '"', char == "\\" and not escaped
            continue
        quoted = char == '"'
        depth += (char in "{<[") - (char in "}>]")
        if depth < 0:
            break
        if char == "," and depth == 0:
            items.append(text[start:index].strip())
            start = index + 1
    if depth or quoted:
        raise CompileError(f"{text}: a brace, bracket or quote is not closed", help="write name{option=value,...}")
    items.append(text[start:].strip())
    return [item for item in items if item]


def build(kind: type[Pass], options: Mapping[str, str]) -> Pass:
    """The pass with options as text. Raises CompileError naming an unknown option or a value that does not fit."""
    hints = get_type_hints(kind, include_extras=True)
    known = {f.name: f for f in dataclasses.fields(kind)}
    for name in options:
        if name not in known:
            has = ", ".join(known) or "none"
            raise CompileError(f"{kind.name} has no option {name!r}", help=f"its options: {has}")
    values = {name: _converted(kind, name, hints[name], text) for name, text in options.items()}
    missing = [f.name for f in known.values() if f.default is dataclasses.MISSING and f.name not in values]
    if missing:
        wanted = ",".join(f"{name}=..." for name in missing)
        raise CompileError(f"{kind.name} needs {', '.join(missing)}", help=f"write {kind.name}{{{wanted}}}")
    return kind(**values)


def _converted(kind: type[Pass], name: str, hint: Any, text: str) -> Any:
    fail = CompileError(f"{kind.name}{{{name}={text}}}: {_wanted(hint)} expected")
    span = next((item for item in get_args(hint)[1:] if isinstance(item, Span)), None) if _annotated(hint) else None
    base = get_args(hint)[0] if _annotated(hint) else hint
    if text.startswith('"'):
        try:
            text = str(json.loads(text))
        except ValueError as error:
            raise fail from error
    if get_origin(base) is Literal:
        if text not in get_args(base):
            raise fail
        return text
    try:
        if get_origin(base) is tuple:
            return tuple(get_args(base)[0](item) for item in text.strip("[]").split("+") if item)
        value = {"true": True, "false": False}[text] if base is bool else base(text)
    except (KeyError, ValueError) as error:
        raise fail from error
    if span and not span.least <= value <= span.most:
        raise fail
    return value


def _annotated(hint: Any) -> bool:
    return hasattr(hint, "__metadata__")


def _wanted(hint: Any) -> str:
    if _annotated(hint):
        base, *extra = get_args(hint)
        spans = [f"{item.least:g} to {item.most:g}" for item in extra if isinstance(item, Span)]
        return f"{base.__name__} from {spans[0]}" if spans else base.__name__
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    if get_origin(hint) is tuple:
        return ("whole numbers" if get_args(hint)[0] is int else "names") + " joined by +"
    return "true or false" if hint is bool else getattr(hint, "__name__", str(hint))


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(map(str, value))
    return str(value) if _is_plain(str(value)) else json.dumps(str(value), ensure_ascii=False)


def _is_plain(text: str) -> bool:
    """Whether a text stands for itself among the options, without quotes."""
    try:
        return split(text) == [text] and '"' not in text
    except CompileError:
        return False
