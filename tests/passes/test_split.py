"""split-channels: the split network gives what the whole one gave, bit by bit where formats are exact."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import parse as format_of
from bitwright.ir.graph import Graph, Node
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.ir.text import to_text
from bitwright.ir.verify import verify
from bitwright.passes import Context, run_passes
from bitwright.passes.accumulators import DeriveAccumulators
from bitwright.passes.channels import find_channels, layers
from bitwright.passes.formats import AnnotateFormats
from bitwright.passes.reorder import why_not
from bitwright.passes.split import SplitChannels
from bitwright.passes.split import why_not as why_not_split


def images(graph: Graph, seed: int) -> dict[str, Array]:
    (value,) = graph.inputs
    shape = [dim if isinstance(dim, int) else 2 for dim in value.tensor_type.shape or ()]
    return {graph.input_name(value): np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def outputs(graph: Graph, seed: int) -> Array:
    (found,) = evaluate(graph, images(graph, seed)).values()
    return found


def drawn_split(random: np.random.Generator, node: Node, may_move: bool) -> SplitChannels:
    """Two to four groups of random sizes and, where channels may change places, in a random order."""
    count = (node.operand(1).tensor_type.static_shape or (0,))[0]
    ends = np.sort(random.choice(np.arange(1, count), min(int(random.integers(1, 4)), count - 1), replace=False))
    sizes = tuple(np.diff([0, *ends, count]).tolist())
    order = tuple(random.permutation(count)[: int(random.integers(1, count + 1))].tolist()) if may_move else ()
    return SplitChannels(node.name, sizes, order)


@pytest.mark.parametrize("seed", range(80))
def test_random_networks(drawn: ModuleType, seed: int) -> None:
    """Layer by layer, in float: the same sums, in another order of their terms."""
    random = np.random.default_rng(seed)
    graph = drawn.Drawn(seed).graph()
    whole = outputs(graph, seed)
    moved = 0
    for name in [node.name for node in layers(graph)]:
        node = next(node for node in layers(graph) if node.name == name)
        if why_not_split(node):
            with pytest.raises(CompileError, match="cannot be split: its groups"):
                run_passes(graph, [SplitChannels(name, (1, 1))])
            continue
        may_move = not why_not(graph, find_channels(graph), node)
        moved += may_move
        graph = run_passes(graph, [drawn_split(random, node, may_move)])
        assert graph.values[name].producer is not None
        assert graph.values[name].producer.op == "concat"
    assert moved >= 1  # the hidden dense, at least
    verify(parse(to_text(graph)))
    assert np.abs(outputs(graph, seed) - whole).max() <= 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_in_formats(drawn: ModuleType, seed: int) -> None:
    """Every bit: exact sums do not depend on the order of their terms."""
    random = np.random.default_rng(seed)
    before = run_passes(
        drawn.Drawn(seed).graph(),
        [AnnotateFormats("FIXED 7", "FIXED 6", per_channel=bool(seed % 2)), DeriveAccumulators()],
        Context(samples=images(drawn.Drawn(seed).graph(), 1000 + seed)),
    )
    whole, graph = outputs(before, seed), before
    for name in [node.name for node in layers(before)]:
        node = next(node for node in layers(graph) if node.name == name)
        if not why_not_split(node):
            may_move = not why_not(graph, find_channels(graph), node)
            graph = run_passes(graph, [drawn_split(random, node, may_move)])
    assert len(graph.nodes) > len(before.nodes)
    assert np.array_equal(outputs(graph, seed), whole)
    exact = {node.name for node in layers(before) if node.attributes.get("acc")}
    assert exact
    for node in layers(graph):
        assert bool(node.attributes.get("acc")) == (node.name.partition("_")[0] in exact)
    names = {node.name for node in layers(before)}
    for concat in (node for node in graph.nodes if node.op == "concat" and node.name in names):
        assert {v.tensor_type.number for v in concat.operands if v is not None} == {concat.result.tensor_type.number}


CHAIN = """
graph @chain {
  input %x : f32[N,1,4,4]
  weight %a.w = [1.0,2.0,3.0,4.0] : f32[4,1,1,1]
  weight %b.w = 00000001 : f32[2,4,1,1]
  %a = conv2d(%x, %a.w) {kernel=[1,1]} : f32[N,4,4,4]
  %b = conv2d(%a, %b.w) {kernel=[1,1]} : f32[N,2,4,4]
  output %b
}
"""


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(4)), st.sampled_from([(1, 3), (2, 2), (1, 1, 2), (1, 1, 1, 1)]))
def test_the_parts_have_the_channels_that_were_asked_for(order: list[int], sizes: tuple[int, ...]) -> None:
    graph = run_passes(parse(CHAIN), [SplitChannels("a", sizes, tuple(order))])
    parts = [node.operand(1).tensor for node in layers(graph) if node.name.startswith("a_")]
    rows = [part.data.reshape(-1).tolist() for part in parts if part is not None]
    assert [len(own) for own in rows] == list(sizes)
    assert [number for own in rows for number in own] == [order[i] + 1.0 for i in range(4)]
    assert np.allclose(outputs(graph, 0), outputs(parse(CHAIN), 0), atol=1e-5)


def test_a_part_can_be_split_again() -> None:
    graph = run_passes(parse(CHAIN), "split-channels{layer=a,sizes=1+3,order=2},split-channels{layer=a_1,sizes=2+1}")
    assert [node.name for node in graph.nodes] == ["a_0", "a_1_0", "a_1_1", "a_1", "a", "b"]
    assert np.allclose(outputs(graph, 0), outputs(parse(CHAIN), 0), atol=1e-5)


def test_weights_that_others_read_stay_for_them() -> None:
    """Two layers with the same weights, one of which is split: both give their channels in the new order."""
    shared = parse(
        CHAIN.replace(
            "output %b",
            "%c = conv2d(%x, %a.w) {kernel=[1,1]} : f32[N,4,4,4]\n"
            "%s = add(%a, %c) : f32[N,4,4,4]\n%d = conv2d(%s, %b.w) {kernel=[1,1]} : f32[N,2,4,4]\noutput %d",
        ).replace("%b = conv2d(%a, %b.w) {kernel=[1,1]} : f32[N,2,4,4]\n", "")
    )
    graph = run_passes(shared, "split-channels{layer=a,sizes=2+2,order=3+0}")
    assert graph.values["a.w"].tensor is not None
    assert graph.values["a.w"].tensor.data.reshape(-1).tolist() == [4.0, 1.0, 2.0, 3.0]
    assert np.allclose(outputs(graph, 0), outputs(shared, 0), atol=1e-5)


HALVES = """
graph @halves {
  opset ai.onnx=17
  input %x : f32[N,1,2,2]
  weight %a.w = [1.0,2.0,3.0,4.0] : f32[4,1,1,1]
  weight %b.w = 00000001 : f32[1,4,1,1]
  %a = conv2d(%x, %a.w) {kernel=[1,1]} : f32[N,4,2,2]
  %l, %r = onnx.Split(%a) {axis=1} : f32[N,2,2,2], f32[N,2,2,2]
  %n = relu(%r) : f32[N,2,2,2]
  %j = concat(%l, %n) {axis=1} : f32[N,4,2,2]
  %b = conv2d(%j, %b.w) {kernel=[1,1]} : f32[N,1,2,2]
  output %b
}
"""


@pytest.mark.parametrize(
    ("text", "pipeline", "said"),
    [
        (CHAIN, "split-channels{layer=e,sizes=2+2}", "no layer is named 'e'"),
        (CHAIN, "split-channels{layer=a,sizes=2+1}", "a has 4 output channels"),
        (CHAIN, "split-channels{layer=a,sizes=4}", "a has 4 output channels"),
        (CHAIN, "split-channels{layer=a,sizes=4+0}", "a has 4 output channels"),
        (CHAIN, "split-channels{layer=a,sizes=2+x}", "whole numbers joined by + expected"),
        (CHAIN, "split-channels{layer=a,sizes=2+2,order=1+1}", "1 is given twice"),
        (CHAIN, "split-channels{layer=a,sizes=2+2,order=4}", "4 is given twice, or no channel of a"),
        (CHAIN, "split-channels{layer=b,sizes=1+1,order=1}", "cannot change places: they reach the output b"),
        (HALVES, "split-channels{layer=a,sizes=2+2,order=2}", "cannot change places: %l has only some of them"),
        (
            CHAIN.replace("[4,1,1,1]\n", "[4,1,1,1]\ninput %v : f32[4]\n").replace("(%x, %a.w)", "(%x, %a.w, %v)"),
            "split-channels{layer=a,sizes=2+2}",
            "its bias %v is computed",
        ),
    ],
)
def test_refused_by_name(text: str, pipeline: str, said: str) -> None:
    with pytest.raises(CompileError) as caught:
        run_passes(parse(text), pipeline)
    assert said in caught.value.message


def test_what_cannot_change_places_can_be_split_as_it_comes() -> None:
    for text, layer, sizes in ((CHAIN, "b", (1, 1)), (HALVES, "a", (1, 3))):
        graph = run_passes(parse(text), [SplitChannels(layer, sizes)])
        assert np.allclose(outputs(graph, 0), outputs(parse(text), 0), atol=1e-5)


def test_refit_must_come_before() -> None:
    samples = Context(samples={"x": np.random.default_rng(0).normal(size=(20, 1, 4, 4)).astype(np.float32)})
    pruned = "prune-channels{layer=a,sparsity=0.25}"
    run_passes(parse(CHAIN), f"{pruned},refit,split-channels{{layer=a,sizes=1+2}}", samples)
    with pytest.raises(CompileError, match="nothing was pruned before it"):
        run_passes(parse(CHAIN), f"{pruned},split-channels{{layer=a,sizes=1+2}},refit", samples)


def test_parts_may_have_formats_of_their_own() -> None:
    """What the pass is for: rows of one layer in weights of different widths."""
    graph = run_passes(parse(CHAIN), [SplitChannels("a", (1, 3), (2,))])
    for name, text in (("a_0.w", "FIXED 2 -1"), ("a_1.w", "FIXED 6 -2")):
        edit.set_type(graph.values[name], graph.values[name].tensor_type.with_format(format_of(text)))
    x = images(graph, 3)
    found = evaluate(graph, x, ["a"])["a"][:, :, 0, 0] / x["x"][:, :, 0, 0]
    assert np.allclose(found[0], [2.0, 1.0, 2.0, 4.0])
