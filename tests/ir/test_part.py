"""Parts of a graph: run one after the other they give what the whole gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.part import live, part
from bitwright.ir.text import to_text
from bitwright.ir.verify import verify

TEXT = """graph @g {
  opset ai.onnx=18
  input %x as "image" : f32[N,2,4,4]
  weight %w1 = 00000001 : f32[2,2,3,3]
  weight %w2 = 00000002 : f32[2,2,3,3]
  weight %w3 = 00000003 : f32[3,32]
  weight %constant = 00000004 : f32[2,1,1]
  %a = conv2d(%x, %w1) {kernel=[3,3], pads=[1,1,1,1]} : f32[N,2,4,4]
  %b = relu(%a) : f32[N,2,4,4]
  %c = conv2d(%b, %w2) {kernel=[3,3], pads=[1,1,1,1]} : f32[N,2,4,4]
  %d = add(%c, %a) : f32[N,2,4,4]
  %e = mul(%d, %constant) : f32[N,2,4,4]
  %f = add(%e, %x) : f32[N,2,4,4]
  %g, %h = onnx.Split(%f) {axis=1, num_outputs=2} : f32[N,1,4,4], f32[N,1,4,4]
  %i = concat(%h, %g) {axis=1} : f32[N,2,4,4]
  %j = flatten(%i) : f32[N,32]
  %k = dense(%j, %w3) : f32[N,3]
  output %k as "scores"
  output %b
}
"""


def test_what_is_live() -> None:
    graph = parse(TEXT)
    names = [sorted(value.name for value in live(graph, place)) for place in range(len(graph.nodes) + 1)]
    assert names[:4] == [["x"], ["a", "x"], ["a", "b", "x"], ["a", "b", "c", "x"]]
    assert names[4:7] == [["b", "d", "x"], ["b", "e", "x"], ["b", "f"]]
    assert names[7:] == [["b", "g", "h"], ["b", "i"], ["b", "j"], ["b", "k"]]


@pytest.mark.parametrize("places", list(itertools.combinations(range(1, 10), 2)))
def test_three_parts_are_the_whole(places: tuple[int, int], check: Callable[[Graph], None]) -> None:
    graph = parse(TEXT)
    text = to_text(graph)
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype(np.float32)
    values = {"x": x}
    for start, stop in itertools.pairwise((0, *places, len(graph.nodes))):
        one = part(graph, start, stop)
        verify(one)
        check(one)
        assert len(one.nodes) == stop - start
        assert {value.name for value in one.inputs} == {value.name for value in live(graph, start)}
        values |= evaluate(one, values)
    assert to_text(graph) == text
    whole = evaluate(graph, {"image": x})
    np.testing.assert_array_equal(values["k"], whole["scores"])
    np.testing.assert_array_equal(values["b"], whole["b"])


def test_what_a_subgraph_reads_is_live(check: Callable[[Graph], None]) -> None:
    graph = parse("""graph @g {
      input %x : f32[2]
      input %flag : bool[]
      weight %k = [5.0,6.0] : f32[2]
      %a = relu(%x) : f32[2]
      %b = onnx.Neg(%x) : f32[2]
      %c = onnx.If(%flag) {else_branch=graph @else {
        output %k
      }, then_branch=graph @then {
        %q = add(%a, %b) : f32[2]
        output %q
      }} : f32[2]
      output %c
    }""")
    assert sorted(value.name for value in live(graph, 2)) == ["a", "b", "flag"]
    last = part(graph, 2, 3)
    check(last)
    assert [value.name for value in last.inputs] == ["a", "b", "flag"]
    assert [value.name for value in last.weights] == ["k"]
    first = part(graph, 0, 2)
    check(first)
    assert {output.name for output in first.outputs} == {"a", "b"}
    assert first.weights == []
