"""Where numbers are rounded when a concat joins them: once, by those who compute them."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.ir import edit
from bitwright.ir.assign import activation_values, assign, format_names, spread
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import parse as format_of
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.passes import Context, run_passes
from bitwright.passes.formats import AnnotateFormats

# %a is read by the concat alone, %b by another layer, too; the concat of concats is joined through both.
JOINED = """
graph @joined {
  input %x : f32[N,2]
  weight %a.w = [0.5,0.25,-0.5,1.0] : f32[2,2]
  weight %b.w = [3.0,5.0] : f32[1,2]
  weight %c.w = [1.0] : f32[1,1]
  weight %d.w = [1.0,2.0,3.0,4.0] : f32[1,4]
  %a = dense(%x, %a.w) : f32[N,2]
  %b = dense(%x, %b.w) : f32[N,1]
  %c = dense(%b, %c.w) : f32[N,1]
  %inner = concat(%a, %b) {axis=1} : f32[N,3]
  %both = concat(%inner, %c) {axis=1} : f32[N,4]
  %d = dense(%both, %d.w) : f32[N,1]
  output %d
}
"""


def formats(graph: Graph) -> dict[str, str]:
    return {value.name: str(value.tensor_type.format) for value in graph.values.values() if value.tensor is None}


def test_what_only_a_concat_reads_has_its_format() -> None:
    graph = parse(JOINED)
    assert [value.name for value in activation_values(graph)] == ["x", "b", "both", "d"]
    assign(graph, {"d.input": format_of("FIXED 6 -2")})
    found = formats(graph)
    assert {found[name] for name in ("a", "c", "inner", "both")} == {"FIXED<6,B=-2>"}
    assert found["b"] == found["d"] == found["x"] == "f32"


def test_a_later_format_of_the_concat_is_theirs_too_but_for_those_that_are_named() -> None:
    graph = parse(JOINED)
    assign(graph, {"d.input": format_of("FIXED 6 -2")})
    assign(graph, {"both": format_of("FIXED 4"), "a": format_of("FIXED 9")})
    found = formats(graph)
    assert (found["both"], found["inner"], found["c"], found["a"]) == ("FIXED<4>", "FIXED<4>", "FIXED<4>", "FIXED<9>")
    assign(graph, {"b": format_of("FIXED 3")})
    assert formats(graph) == found | {"b": "FIXED<3>"}


def test_the_names_are_still_all_there() -> None:
    assert {"a", "c", "inner", "both", "d.input"} <= set(format_names(parse(JOINED)))


def test_annotated_formats_cover_all_that_is_joined() -> None:
    x = np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)
    graph = run_passes(parse(JOINED), [AnnotateFormats()], Context(samples={"x": x}))
    found = formats(graph)
    assert found["a"] == found["inner"] == found["c"] == found["both"] == str(format_of("FIXED 8").covering(11.5))
    edit.set_type(graph.values["a"], graph.values["a"].tensor_type.with_format(format_of("FIXED 5")))
    again = run_passes(graph, [AnnotateFormats(keep=True)], Context(samples={"x": x}))
    assert formats(again) == found | {"a": "FIXED<5>"}


@pytest.mark.parametrize("width", [3, 5, 8])
def test_one_rounding(width: int) -> None:
    """What the concat holds is the exact sum's nearest number, not that of a number rounded before."""
    graph = parse(JOINED)
    weights = dict.fromkeys(("a.weight", "b.weight"), format_of("FIXED 8 -2"))
    assign(graph, weights | {"d.input": format_of(f"FIXED {width} -2"), "a.input": format_of("FIXED 12 -1")})
    x = np.random.default_rng(width).uniform(-2, 2, (500, 2)).astype(np.float32)
    held = format_of("FIXED 12 -1").quantize(x)
    exact = held.astype(np.float64) @ np.array([[0.5, 0.25], [-0.5, 1.0]]).T
    found = evaluate(graph, {"x": x}, ["both"])["both"]
    assert np.array_equal(found[:, :2], format_of(f"FIXED {width} -2").quantize(exact))


def test_scores_that_stay_float_are_not_rounded_before_their_concat() -> None:
    graph = parse(JOINED.replace("output %d", "output %both"))
    every = run_passes(graph, [AnnotateFormats()], Context(samples={"x": np.ones((2, 2), np.float32)}))
    both = every.values["both"]
    edit.set_type(both, graph.values["both"].tensor_type)
    spread(every, {id(both)})
    assert formats(every)["a"] == formats(every)["inner"] == "f32"
