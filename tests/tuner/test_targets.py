"""Targets of a network: names, sizes and magnitudes as numpy finds them, tensors that several layers read, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bitwright
from bitwright.ir.assign import assign
from bitwright.ir.errors import CompileError
from bitwright.ir.files import save
from bitwright.ir.formats.named import fixed
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.explicit import with_quantizers
from bitwright.ir.parse import parse
from bitwright.models import datasets
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.objectives import Bits
from bitwright.tuner.platforms import load_platform
from bitwright.tuner.space import space_of, uniform, with_aliases
from bitwright.tuner.targets import target_layers, targets_of
from bitwright.tuning import prepared

LENET = Path(__file__).parents[2] / "models" / "lenet5.onnx"
IMAGES = 200

RESIDUAL = """
graph @branches {
  input %x : f32[N,3]
  weight %a.weight = [1,0,0, 0,1,0, 0,0,-4] : f32[3,3]
  weight %b.weight = [1,1,0, 0,1,1, 1,0,1] : f32[3,3]
  weight %c.weight = [0.5,0,0, 0,2,0] : f32[2,3]
  %a = dense(%x, %a.weight) : f32[N,3]
  %b = dense(%x, %b.weight) : f32[N,3]
  %sum = add(%a, %b) : f32[N,3]
  %c = dense(%sum, %c.weight) : f32[N,2]
  output %c
}
"""


@pytest.fixture(scope="module")
def lenet() -> Graph:
    return prepared(LENET)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return datasets.load("mnist", "train", IMAGES).x


def test_lenet_as_numpy_finds_it(lenet: Graph, x: np.ndarray) -> None:
    targets = {target.name: target for target in targets_of(lenet, x)}
    assert [t.name for t in targets.values()] == [
        f"{layer}.{role}" for layer in ("conv1", "conv3", "conv5", "fc6", "fc7") for role in ("weight", "input")
    ]
    sizes = {"conv1": (150, 784), "conv3": (2400, 1176), "conv5": (48_000, 400), "fc6": (10_080, 120), "fc7": (840, 84)}
    for layer, pair in sizes.items():
        assert (targets[f"{layer}.weight"].size, targets[f"{layer}.input"].size) == pair
        weight = lenet.values[f"{layer}.weight"].tensor
        assert weight is not None
        assert targets[f"{layer}.weight"].max_abs == np.abs(weight.data).max()
        assert targets[f"{layer}.weight"].signed
        assert targets[f"{layer}.weight"].kind == ("conv2d" if layer.startswith("conv") else "dense")
    assert targets["conv1.input"].max_abs == x.max() == 1.0
    producers = {"conv3": "conv1", "conv5": "conv3", "fc6": "conv5", "fc7": "fc6"}
    wanted = list(producers.values())
    seen = bitwright.ir.evaluate.evaluate(lenet, {lenet.input_name(lenet.inputs[0]): x[:50]}, wanted)
    here = {target.name: target for target in targets_of(lenet, x[:50])}
    for layer, before in producers.items():
        assert here[f"{layer}.input"].max_abs == pytest.approx(float(np.abs(seen[before]).max()), rel=1e-5)
        assert here[f"{layer}.input"].signed == bool((seen[before] < 0).any())


def test_the_paper_tunes_two_layers_of_its_lenet(lenet: Graph, x: np.ndarray) -> None:
    targets = targets_of(lenet, x, ["conv1", "conv3"])
    assert space_of(targets, load_platform("paper"), "weights").size == 74_088


def test_layers_by_name_and_by_op(lenet: Graph) -> None:
    assert [node.name for node in target_layers(lenet)] == ["conv1", "conv3", "conv5", "fc6", "fc7"]
    assert [node.name for node in target_layers(lenet, ["dense"])] == ["fc6", "fc7"]
    assert [node.name for node in target_layers(lenet, ["fc7", "conv2d", "conv1"])] == [
        "conv1",
        "conv3",
        "conv5",
        "fc7",
    ]


def test_a_tensor_that_two_layers_read_is_one_target() -> None:
    graph = parse(RESIDUAL)
    x = np.array([[1, 2, 3], [-5, 0, 1]], np.float32)
    targets = {target.name: target for target in targets_of(graph, x)}
    assert list(targets) == ["a.weight", "a.input", "b.weight", "c.weight", "c.input"]
    assert targets["a.input"].aliases == ("b.input",)
    assert (targets["a.input"].max_abs, targets["a.input"].signed) == (5, True)
    sums = x @ np.array([[1, 0, 0], [0, 1, 0], [0, 0, -4]]).T + x @ np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]]).T
    assert targets["c.input"].max_abs == np.abs(sums).max()
    space = space_of(list(targets.values()), load_platform("full"), "both")
    assert [v.name for v in space.variables if v.role == "input"] == ["a.input", "c.input"]
    formats = with_aliases(space, uniform(space, space.variables[0].formats[5]))
    made = Candidate(formats).apply(graph)
    assert made.values["x"].tensor_type.number == formats["b.input"]
    assert Bits(space.targets)(formats) == formats["a.input"].width * (9 + 3 + 9 + 6 + 3)


def test_wanted_layers_decide_whose_name_a_tensor_has() -> None:
    targets = targets_of(parse(RESIDUAL), np.ones((2, 3), np.float32), ["b"])
    assert [(target.name, target.aliases) for target in targets] == [("b.weight", ()), ("b.input", ())]


def test_unsigned_and_zero_tensors() -> None:
    found = {target.name: target for target in targets_of(parse(RESIDUAL), np.zeros((2, 3), np.float32))}
    assert (found["a.input"].max_abs, found["a.input"].signed) == (0, False)
    assert (found["b.weight"].signed, found["a.weight"].signed, found["a.weight"].max_abs) == (False, True, 4)


def test_unknown_layers_are_named(lenet: Graph, x: np.ndarray) -> None:
    with pytest.raises(CompileError, match="no layer is called 'conv9'") as caught:
        targets_of(lenet, x, ["conv1", "conv9"])
    assert "conv1, conv3, conv5, fc6, fc7" in (caught.value.help or "")


def test_a_network_without_layers_is_refused() -> None:
    graph = parse("graph @none {\n  input %x : f32[N,3]\n  %y = relu(%x) : f32[N,3]\n  output %y\n}")
    with pytest.raises(CompileError, match="@none has no conv2d or dense"):
        targets_of(graph, np.ones((1, 3), np.float32))


def test_what_is_not_finite_is_named() -> None:
    graph = parse(RESIDUAL.replace("[0.5,0,0,", "[nan,0,0,"))
    with pytest.raises(CompileError, match=r"c\.weight is not finite"):
        targets_of(graph, np.ones((2, 3), np.float32))


def test_ranges_are_those_of_all_samples() -> None:
    """They are run a batch at a time, of 50 at most where there are windows."""
    graph = parse("""graph @windows {
      input %x : f32[N,1,2,2]
      weight %c.weight = [1,-1] : f32[2,1,1,1]
      weight %d.weight = [1,1,1,1,1,1,1,1] : f32[1,8]
      %c = conv2d(%x, %c.weight) {kernel=[1,1]} : f32[N,2,2,2]
      %f = flatten(%c) {axis=1} : f32[N,8]
      %d = dense(%f, %d.weight) : f32[N,1]
      output %d
    }""")
    x = np.ones((173, 1, 2, 2), np.float32)
    x[3], x[120], x[171] = 9, -5, 3
    found = {target.name: target for target in targets_of(graph, x)}
    assert (found["c.input"].max_abs, found["c.input"].signed, found["d.input"].max_abs) == (9, True, 9)
    assert targets_of(graph, x[:0])[1].max_abs == 0
    x[130, 0, 0, 0] = np.nan
    with pytest.raises(CompileError, match=r"c\.input is not finite"):
        targets_of(graph, x)


def test_formats_that_a_model_brings_are_forgotten(tmp_path: Path) -> None:
    """Also those that only a pass recognises, in the operators of a quantised .onnx."""
    graph = parse(RESIDUAL)
    assign(graph, {"a.weight": fixed(8), "a.input": fixed(9, 2)})
    save(with_quantizers(graph, "qdq"), tmp_path / "quantised.onnx")
    found = prepared(tmp_path / "quantised.onnx")
    assert [node.op for node in found.nodes] == [node.op for node in graph.nodes]
    assert all(value.tensor_type.number is None for value in found.values.values())
