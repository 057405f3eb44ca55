"""Pipelines: `"fold-constants,fuse-pooling{only=conv1}"` <-> passes, and the manager that runs them.

The manager verifies the graph after every pass, times it, writes the pass into the trail of the nodes it changed, and
tells a callback.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.text import node_text
from bitwright.ir.verify import verify
from bitwright.passes.base import Context, Pass, build, split

ENTRY_POINT = "bitwright.passes"


@dataclass(frozen=True)
class Step:
    """What one pass did: the graphs before and after it (before: only if asked for), and its seconds."""

    ran: Pass
    changed: bool
    seconds: float
    before: Graph | None
    after: Graph


def known_passes() -> dict[str, type[Pass]]:
    """Every pass by name: our own, then those of other packages' entry points `bitwright.passes`."""
    from bitwright.passes.table import PASSES

    found = dict(PASSES)
    for point in entry_points(group=ENTRY_POINT):
        kind = point.load()
        if kind.name in found and found[kind.name] is not kind:
            raise CompileError(f"the pass {kind.name} of {point.value} has the name of another pass")
        found[kind.name] = kind
    return found


def parse_pipeline(text: str) -> list[Pass]:
    """The passes that `text` names. Raises CompileError with the nearest name for an unknown one."""
    known = known_passes()
    passes = []
    for item in split(text):
        name, _, rest = item.partition("{")
        name = name.strip()
        if rest and not rest.endswith("}"):
            raise CompileError(f"{item}: the options end in a brace", help="write name{option=value,...}")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "bitwright list passes names them all"
            raise CompileError(f"there is no pass {name!r}", help=hint)
        options: dict[str, str] = {}
        for option in split(rest[:-1]):
            key, equals, value = (part.strip() for part in option.partition("="))
            if not equals or key in options:
                what = "is given twice" if equals else "is no option=value"
                raise CompileError(f"{item}: {key!r} {what}")
            options[key] = value
        passes.append(build(known[name], options))
    return passes


def run_passes(
    graph: Graph,
    pipeline: str | Sequence[Pass],
    context: Context | None = None,
    on_step: Callable[[Step], None] | None = None,
    keep_before: bool = False,
) -> Graph:
    """A new graph: `graph` after the passes. `on_step` is told of each; `keep_before` copies the graph for it.

    Raises CompileError that says which pass left a graph that does not verify.
    """
    passes = parse_pipeline(pipeline) if isinstance(pipeline, str) else pipeline
    context = context or Context()
    graph = edit.copy(graph)
    for index, step in enumerate(passes):
        before = edit.copy(graph) if keep_before else None
        texts = {id(node): node_text(node) for node in graph.nodes}
        start = time.perf_counter()
        changed = step.run(graph, context)
        seconds = time.perf_counter() - start
        edit.note((node for node in graph.nodes if texts.get(id(node)) != node_text(node)), str(step))
        try:
            verify(graph)
        except CompileError as error:
            done = ", ".join(str(earlier) for earlier in passes[:index]) or "import"
            raise CompileError(f"{error.message}\n  while: verifying after {step}\n  made by: {done}") from error
        if on_step is not None:
            on_step(Step(step, changed, seconds, before, graph))
    return graph
