"""The manager that runs passes, those of other packages, and what every pass must have."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from bitwright import passes
from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text
from bitwright.passes import STRUCTURE, Context, Pass, known_passes, parse_pipeline, run_passes
from bitwright.passes.base import InternalPassError
from bitwright.passes.constants import RemoveDead
from bitwright.passes.identities import RemoveIdentities
from bitwright.passes.table import PASSES

# the manager


def small() -> Graph:
    return parse("""
        graph @small {
          opset ai.onnx=17
          input %x : f32[1,4]
          weight %w = 00000001 : f32[4,4]
          %same = onnx.Identity(%x) : f32[1,4]
          %fc = dense(%same, %w) : f32[1,4]
          %relu = relu(%fc) : f32[1,4]
          %dead = relu(%x) : f32[1,4]
          output %relu
        }""")


@dataclass(frozen=True)
class Broken(Pass):
    """Leaves a wrong shape."""

    name: ClassVar[str] = "broken"
    size: int = 7

    def run(self, graph: Graph, context: Context) -> bool:
        node = next(node for node in graph.nodes if node.op == "dense")
        node.source = 'Gemm "fc"'
        edit.set_type(node.result, node.result.tensor_type.with_shape((1, self.size)))
        return True


def test_a_pass_that_breaks_the_graph_is_named_with_its_trail() -> None:
    with pytest.raises(CompileError) as error:
        run_passes(small(), [RemoveDead(), RemoveIdentities(), Broken(9)])
    assert str(error.value).splitlines() == [
        'node Gemm "fc" (%fc): the result has shape [1,4], not [1,9]',
        "  %fc = dense(%x, %w) : f32[1,9]",
        "  changed by: remove-identities, broken{size=9}",
        "  while: verifying after broken{size=9}",
        "  made by: remove-dead, remove-identities",
    ]


def test_the_first_pass_follows_the_import() -> None:
    with pytest.raises(CompileError, match=r"made by: import$"):
        run_passes(small(), [Broken()])


def test_every_step_is_told_of() -> None:
    steps: list[passes.Step] = []
    texts: list[str] = []

    def on_step(step: passes.Step) -> None:
        steps.append(step)
        texts.append(to_text(step.after))

    graph = small()
    pipeline = "remove-dead,fuse-activations,fuse-pooling,remove-identities"
    result = run_passes(graph, pipeline, on_step=on_step, keep_before=True)
    assert [str(step.ran) for step in steps] == pipeline.split(",")
    assert [step.changed for step in steps] == [True, True, False, True]
    assert all(step.seconds >= 0 for step in steps)
    befores = [to_text(step.before) for step in steps if step.before is not None]
    assert befores == [to_text(graph), *texts[:-1]]
    assert texts[-1] == to_text(result) != to_text(graph)


def test_before_is_kept_only_if_asked_for() -> None:
    steps: list[passes.Step] = []
    run_passes(small(), "remove-dead", on_step=steps.append)
    assert [step.before for step in steps] == [None]


def test_the_given_graph_stays_as_it_is() -> None:
    graph = small()
    before = to_text(graph)
    assert to_text(run_passes(graph, STRUCTURE)) != before
    assert to_text(graph) == before
    assert all(node.trail == () for node in graph.nodes)


def test_nodes_know_the_passes_that_changed_them() -> None:
    result = run_passes(small(), "remove-dead,remove-identities,fuse-activations,fuse-pooling")
    assert [(node.name, node.trail) for node in result.nodes] == [("fc", ("remove-identities", "fuse-activations"))]


def test_what_a_pass_has_to_say_is_in_the_context() -> None:
    context = Context()
    run_passes(run_passes(small(), STRUCTURE), "annotate-formats{input_max=2}", context)
    assert context.notes == ["no data: formats cover every input in [-2, 2], wider than data ask"]


# passes of other packages


@dataclass(frozen=True)
class Foreign(Pass):
    """Somebody else's.

    - %r = relu(%x) : f32[1,4]
    + %r = hardswish(%x) : f32[1,4]
    """

    name: ClassVar[str] = "foreign"
    to: str = "hardswish"

    def run(self, graph: Graph, context: Context) -> bool:
        for node in graph.nodes:
            if node.op == "relu":
                edit.set_op(node, self.to, {})
        return True


@dataclass(frozen=True)
class Impostor(Pass):
    """Has the name of another."""

    name: ClassVar[str] = "remove-dead"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Pass]], None]:
    """Makes a pass known as that of an installed package."""

    def install(kind: type[Pass]) -> None:
        monkeypatch.setitem(globals(), "installed_kind", kind)
        monkeypatch.setattr("sys.modules", {**__import__("sys").modules, "their_package": _module(kind)})
        point = importlib.metadata.EntryPoint("any", "their_package:Kind", "bitwright.passes")

        def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
            return [point] if group == "bitwright.passes" else []

        monkeypatch.setattr("bitwright.passes.pipeline.entry_points", entry_points)

    return install


def _module(kind: type[Pass]) -> Any:
    import types

    module = types.ModuleType("their_package")
    module.Kind = kind  # type: ignore[attr-defined]
    return module


def test_an_installed_package_adds_its_passes(installed: Callable[[type[Pass]], None]) -> None:
    installed(Foreign)
    assert known_passes() == {**PASSES, "foreign": Foreign}
    result = run_passes(small(), "foreign{to=quantize},remove-dead")
    assert [node.op for node in result.nodes] == ["onnx.Identity", "dense", "quantize"]


def test_an_installed_pass_cannot_take_the_name_of_another(installed: Callable[[type[Pass]], None]) -> None:
    installed(Impostor)
    with pytest.raises(CompileError) as error:
        parse_pipeline("remove-dead")
    assert error.value.message == "the pass remove-dead of their_package:Kind has the name of another pass"


def test_without_other_packages_there_are_our_own() -> None:
    assert known_passes() == PASSES


# what every pass must have


@pytest.mark.parametrize("kind", PASSES.values(), ids=str)
def test_a_pass_is_frozen_and_shows_what_it_does(kind: type[Pass]) -> None:
    assert PASSES[kind.name] is kind
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.name)
    assert kind.__dataclass_params__.frozen
    lines = [line.strip() for line in (kind.__doc__ or "").splitlines()]
    assert len(lines[0]) > 20, "the docstring does not say what it does"
    assert any(line.startswith("- ") for line in lines), "the docstring shows no line before"
    assert any(line.startswith("+ ") for line in lines) or kind is RemoveDead, "the docstring shows no line after"
    for line in lines:
        if line.startswith(("- ", "+ ")):
            assert re.match(r"[-+] (%[\w.]+ = [\w.]+\(|(input|weight|output) %|#)", line), line


def test_a_pass_class_without_run_is_named() -> None:
    class Empty(Pass):
        name = "empty"

    with pytest.raises(InternalPassError, match=r"^Empty has no run\(\)$"):
        Empty().run(small(), Context())
