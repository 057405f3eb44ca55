"""How much a layer's outputs matter to the answers: slopes against differences of the judge, M against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.ir import edit
from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.scores import scores_of
from bitwright.ir.tensor import Tensor
from bitwright.tuner.whittle import influence
from bitwright.tuner.whittle.influence import influences, watched, way_back

RNG = np.random.default_rng(5)


def numbers(*shape: int) -> str:
    return "[" + ",".join(f"{number:.3f}" for number in RNG.normal(size=shape).ravel()) + "]"


BRANCHES = f"""graph @branches {{
  opset ai.onnx=17
  input %x : f32[N,2,3]
  weight %a.weight = {numbers(5, 6)} : f32[5,6]
  weight %a.bias = {numbers(5)} : f32[5]
  weight %b.weight = {numbers(4, 5)} : f32[4,5]
  weight %b.bias = {numbers(4)} : f32[4]
  weight %c.weight = {numbers(5, 5)} : f32[5,5]
  weight %c.bias = {numbers(5)} : f32[5]
  weight %d.weight = {numbers(3, 9)} : f32[3,9]
  weight %d.bias = {numbers(3)} : f32[3]
  %f = flatten(%x) : f32[N,6]
  %a = dense(%f, %a.weight, %a.bias) {{act=relu}} : f32[N,5]
  %b = dense(%a, %b.weight, %b.bias) {{act=clip, act_max=2.0, act_min=-1.0}} : f32[N,4]
  %c = dense(%a, %c.weight, %c.bias) : f32[N,5]
  %s = add(%c, %a) : f32[N,5]
  %r = relu(%s) : f32[N,5]
  %j = concat(%b, %r) {{axis=1}} : f32[N,9]
  %d = dense(%j, %d.weight, %d.bias) : f32[N,3]
  %p = softmax(%d) : f32[N,3]
  output %p
}}
"""
X = RNG.normal(size=(6, 2, 3)).astype(np.float32)


def scores_with(graph: Graph, layer: str, output: int, step: float) -> np.ndarray:
    """The scores with a step added to one of a layer's sums."""
    made = edit.copy(graph)
    bias = made.values[f"{layer}.bias"]
    assert bias.tensor is not None
    data = bias.tensor.data.copy()
    data[output] += step
    edit.set_tensor(bias, Tensor(data))
    return np.asarray(evaluate(made, {"x": X}, ["d"])["d"], np.float64)


def by_differences(graph: Graph, layer: str) -> np.ndarray:
    """M by its formula: mean of J^T (diag(p) - p p^T) J, J from differences of the judge's scores."""
    count = len(graph.values[f"{layer}.bias"].tensor.data)  # type: ignore[union-attr]
    step = 2.0**-8
    changes = [scores_with(graph, layer, i, step) - scores_with(graph, layer, i, -step) for i in range(count)]
    jacobian = np.stack(changes, -1) / (2 * step)  # [N, scores, outputs]
    z = scores_with(graph, layer, 0, 0.0)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    fisher = np.einsum("ni,ij->nij", p, np.eye(p.shape[1])) - np.einsum("ni,nj->nij", p, p)
    return np.asarray(np.einsum("nki,nkl,nlj->ij", jacobian, fisher, jacobian) / len(p))


def found_in(graph: Graph) -> dict[str, np.ndarray]:
    way = way_back(graph)
    return dict(influences(graph, way, evaluate(graph, {"x": X}, watched(graph, way))))


def test_influences_are_those_of_small_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through branches, two activations, a sum and a concat; many signs, so that their mean is near."""
    monkeypatch.setattr(influence, "DRAWS", 3000)
    graph = parse(BRANCHES)
    found = found_in(graph)
    assert list(found) == ["d", "c", "b", "a"]
    for layer, m in found.items():
        wanted = by_differences(graph, layer)
        assert np.abs(m - wanted).max() < 0.05 * np.abs(wanted).max(), layer


def test_what_all_classes_have_in_common_does_not_matter() -> None:
    """Softmax does not see it: exact for every single draw."""
    m = found_in(parse(BRANCHES))["d"]
    assert np.abs(m.sum(0)).max() < 1e-6 * np.abs(m).max()
    assert np.linalg.matrix_rank(m, tol=1e-6) == 2


@pytest.mark.parametrize("end", ["output %d", "%p = onnx.Sigmoid(%d) : f32[N,1]\n  output %p"])
def test_a_single_score_stands_against_nought(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(influence, "DRAWS", 3000)
    graph = parse(f"""graph @one {{
  opset ai.onnx=17
  input %x : f32[N,2]
  weight %d.weight = [1.0,-2.0] : f32[1,2]
  %d = dense(%x, %d.weight) : f32[N,1]
  {end}
}}
""")
    x = np.array([[0.5, 0.25], [1, -1]], np.float32)
    way = way_back(graph)
    (m,) = influences(graph, way, evaluate(graph, {"x": x}, watched(graph, way))).values()
    p = 1 / (1 + np.exp(-(x @ np.array([1, -2]))))
    assert m[0, 0] == pytest.approx(float((p * (1 - p)).mean()), rel=0.05)


@pytest.mark.parametrize(
    ("between", "known"),
    [
        ("%m = relu(%a)", ["b", "a"]),
        ("%m = hardswish(%a)", ["b"]),
        ("%m = softmax(%a)", ["b"]),
        ("%m = add(%a, %k)", ["b"]),
    ],
)
def test_nothing_is_said_behind_what_bends_otherwise(between: str, known: list[str]) -> None:
    graph = parse(f"""graph @g {{
  opset ai.onnx=17
  input %x : f32[N,3]
  weight %a.weight = {numbers(4, 3)} : f32[4,3]
  weight %b.weight = {numbers(2, 4)} : f32[2,4]
  weight %k = [1.0,2.0,3.0,4.0] : f32[4]
  %a = dense(%x, %a.weight) : f32[N,4]
  {between} : f32[N,4]
  %b = dense(%m, %b.weight) : f32[N,2]
  output %b
}}
""")
    assert [node.name for node in way_back(graph) if node.op == "dense"] == known


def test_a_second_reader_that_bends_otherwise_hides_a_layer() -> None:
    """%a is read by a dense and by hard-swish: part of its slope is not known, and so none is."""
    graph = parse(f"""graph @g {{
  opset ai.onnx=17
  input %x : f32[N,3]
  weight %a.weight = {numbers(4, 3)} : f32[4,3]
  weight %b.weight = {numbers(4, 4)} : f32[4,4]
  %a = dense(%x, %a.weight) : f32[N,4]
  %h = hardswish(%a) : f32[N,4]
  %b = dense(%a, %b.weight) : f32[N,4]
  %s = add(%b, %h) : f32[N,4]
  output %s
}}
""")
    assert [node.name for node in way_back(graph)] == ["s", "b"]


def test_convolutions_and_feature_maps_have_none() -> None:
    graph = parse(f"""graph @g {{
  opset ai.onnx=17
  input %x : f32[N,1,4,4]
  weight %c.weight = {numbers(2, 1, 3, 3)} : f32[2,1,3,3]
  %c = conv2d(%x, %c.weight) {{kernel=[3,3]}} : f32[N,2,2,2]
  output %c
}}
""")
    assert way_back(graph) == []
    assert watched(graph, []) == []
    assert influences(graph, [], {}) == {}
    assert scores_of(graph).name == "c"


def test_a_layer_of_very_many_outputs_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(influence, "MOST_OUTPUTS", 4)
    assert list(found_in(parse(BRANCHES))) == ["d", "b"]
