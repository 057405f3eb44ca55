"""Runs from any cut of a network equal the whole run, also where branches cross it."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.backends.simulation.run import Simulation
from bitwright.ir import edit
from bitwright.ir.assign import assign
from bitwright.ir.formats.named import fixed
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.tuner.whittle.cuts import Cuts

RNG = np.random.default_rng(4)


def numbers(count: int) -> str:
    return ",".join(f"{number:.3f}" for number in RNG.normal(size=count))


CHAIN = f"""
graph @chain {{
  input %x : f32[N,1,6,6]
  weight %c.weight = [{numbers(36)}] : f32[4,1,3,3]
  weight %d.weight = [{numbers(48)}] : f32[3,16]
  weight %d.bias = [{numbers(3)}] : f32[3]
  %c = conv2d(%x, %c.weight) {{act=relu, kernel=[3,3], pads=[0,0,0,0], strides=[1,1]}} : f32[N,4,4,4]
  %p = maxpool2d(%c) {{kernel=[2,2], strides=[2,2]}} : f32[N,4,2,2]
  %f = flatten(%p) {{axis=1}} : f32[N,16]
  %d = dense(%f, %d.weight, %d.bias) : f32[N,3]
  output %d
}}
"""
RESIDUAL = f"""
graph @residual {{
  input %x : f32[N,5]
  weight %a.weight = [{numbers(25)}] : f32[5,5]
  weight %b.weight = [{numbers(25)}] : f32[5,5]
  weight %s.weight = [{numbers(25)}] : f32[5,5]
  weight %e.weight = [{numbers(15)}] : f32[3,5]
  %a = dense(%x, %a.weight) {{act=relu}} : f32[N,5]
  %b = dense(%a, %b.weight) : f32[N,5]
  %s = dense(%x, %s.weight) : f32[N,5]
  %sum = add(%b, %s) : f32[N,5]
  %again = add(%sum, %a) : f32[N,5]
  %e = dense(%again, %e.weight) : f32[N,3]
  output %e
}}
"""
INPUTS = {"chain": (7, 1, 6, 6), "residual": (7, 5)}


@pytest.fixture(params=[CHAIN, RESIDUAL], ids=["chain", "residual"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return parse(request.param)


@pytest.fixture
def x(graph: Graph) -> np.ndarray:
    return np.random.default_rng(5).normal(size=INPUTS[graph.name]).astype(np.float32)


def in_formats(graph: Graph) -> Graph:
    made = edit.copy(graph)
    first = next(node for node in graph.nodes if node.op in ("conv2d", "dense"))
    assign(made, {f"{first.name}.weight": fixed(4, -1), f"{first.name}.input": fixed(5, -1)})
    return made


@pytest.mark.parametrize("formats", [False, True], ids=["float", "formats"])
def test_runs_from_any_cut_equal_the_whole_run(graph: Graph, x: np.ndarray, formats: bool) -> None:
    cuts = Cuts(graph, x)
    changed = in_formats(graph) if formats else graph
    cuts.use(changed)
    names = [node.result.name for node in graph.nodes]
    whole = Simulation(changed).run({"x": x}, wanted=names) | {"x": x}
    last = whole[graph.outputs[0].value.name]
    count = len(graph.nodes)
    for start in range(count + 1):
        values = {name: whole[name] for name in cuts.live[start]}
        np.testing.assert_allclose(cuts.outputs(values, start), last, rtol=1e-6, atol=1e-6)
        for stop in range(start, count + 1):
            found = cuts.forward(values, start, stop)
            assert list(found) == cuts.live[stop]
            for name, array in found.items():
                np.testing.assert_allclose(array, whole[name], rtol=1e-6, atol=1e-6)
    if formats:
        assert not np.allclose(last, Simulation(graph).run({"x": x})[graph.outputs[0].name])


def test_a_run_goes_on_where_the_last_one_stopped(graph: Graph, x: np.ndarray) -> None:
    cuts = Cuts(graph, x)
    values = cuts.inputs()
    for place in range(len(graph.nodes)):
        values = cuts.forward(values, place, place + 1)
    (expected,) = Simulation(graph).run({"x": x}).values()
    np.testing.assert_allclose(cuts.outputs(values, len(graph.nodes)), expected, rtol=1e-6, atol=1e-6)


def test_what_is_live_by_hand() -> None:
    x = np.ones((2, 5), np.float32)
    assert Cuts(parse(RESIDUAL), x).live == [
        ["x"],
        ["a", "x"],
        ["x", "b", "a"],
        ["b", "s", "a"],
        ["sum", "a"],
        ["again"],
        ["e"],
    ]


def test_shares_are_of_the_multiplications() -> None:
    cuts = Cuts(parse(CHAIN), np.ones((2, 1, 6, 6), np.float32))
    conv, dense = 4 * 9 * 16, 48
    assert cuts.share(0) == pytest.approx(1)
    assert cuts.share(0, 1) == pytest.approx(conv / (conv + dense))
    assert cuts.share(1) == pytest.approx(dense / (conv + dense))
    assert cuts.share(1, 3) == cuts.share(4) == 0
