"""Scores of simulated networks, and that of the LeNet-5 on digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated import SMALL, images, with_formats

import bitwright.models
from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import Score, score, simulate
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.models import datasets
from bitwright.passes import STRUCTURE, Context, run_passes

assert bitwright.models.__file__ is not None
LENET = Path(bitwright.models.__file__).parent / "lenet5.onnx"


# score


def scores_of(x: Array) -> Graph:
    """A network that gives its input."""
    return parse(
        f"graph @same {{ input %x : f32[N,{x.shape[1]}]\n %y = quantize(%x) : f32[N,{x.shape[1]}]\n output %y }}"
    )


@pytest.mark.parametrize(("metric", "k"), [("top1", 1), ("top5", 5)])
def test_scores_are_those_of_a_stable_sort(metric: str, k: int) -> None:
    """Of equal scores, the lower class is taken first, as argmax does."""
    random = np.random.default_rng(0)
    x = random.integers(0, 4, (500, 8)).astype(np.float32)
    y = random.integers(0, 8, 500)
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    found = score(scores_of(x), x, y, metric=metric)
    assert found == Score(
        metric, float(np.mean([label in row for label, row in zip(y, order, strict=True)])), 500, True
    )
    assert 0.1 < found.value < 0.9
    if k == 1:
        assert found.value == np.mean(x.argmax(1) == y)


def test_scores_that_are_no_numbers_are_wrong() -> None:
    x = np.array([[np.nan, np.nan], [1, np.nan], [0, 1]], np.float32)
    assert score(scores_of(x), x, np.array([0, 0, 1])).value == 1 / 3


def test_agreement_is_with_the_other_networks_choice() -> None:
    graph = parse(SMALL)
    coarse = with_formats(graph, {"w": "FIXED 2", "v": "BIN 1 2"})
    x = images(0, 200)["image"]
    ours, theirs = (Simulation(g, 1).run({"image": x})["scores"].argmax(1) for g in (coarse, graph))
    found = score(coarse, x, None, metric="agreement", reference=graph)
    assert found == Score("agreement", float((ours == theirs).mean()), 200, True)
    assert 0.1 < found.value < 0.9
    assert score(graph, x, None, metric="agreement", reference=graph).value == 1


@pytest.mark.parametrize(("op", "threshold"), [("relu", 0.0), ("onnx.Sigmoid", 0.5), ("onnx.Neg", 0.0)])
def test_one_score_decides_between_two_classes(op: str, threshold: float) -> None:
    graph = parse(f"graph @one {{\n input %x : f32[N,1]\n %y = {op}(%x) : f32[N,1]\n output %y }}")
    x = np.random.default_rng(0).normal(size=(200, 1)).astype(np.float32)
    x[:3] = 0
    y = np.random.default_rng(1).integers(0, 2, 200)
    own = {"relu": np.maximum(x, 0), "onnx.Sigmoid": 1 / (1 + np.exp(-x.astype(np.float64))), "onnx.Neg": -x}[op]
    found = score(graph, x, y)
    assert found.value == np.mean((own[:, 0] > threshold) == (y == 1))
    assert 0.3 < found.value < 0.7
    other = parse("graph @all {\n input %x : f32[N,1]\n %y = onnx.Abs(%x) : f32[N,1]\n output %y }")
    agreeing = score(graph, x, None, metric="agreement", reference=other).value
    assert agreeing == np.mean((own[:, 0] > threshold) == (x[:, 0] != 0))


def test_a_metric_may_be_a_function() -> None:
    def worst(scores: Array, labels: Array) -> float:
        return float(scores[np.arange(len(labels)), labels].min())

    x = np.array([[1, 2], [3, 4]], np.float32)
    assert score(scores_of(x), x, np.array([1, 0]), metric=worst) == Score("worst", 2.0, 2, True)


def test_formats_for_the_score_leave_the_graph_alone() -> None:
    graph = parse(SMALL)
    before = str(graph)
    x = images(0, 50)["image"]
    formats = {"conv.weight": parse_format("FIXED 2"), "fc.input": parse_format("BIN")}
    found = score(graph, x, np.zeros(50, np.int64), formats)
    assert str(graph) == before
    other = with_formats(graph, {"w": "FIXED 2", "scaled": "BIN"})
    assert found.value == np.mean(Simulation(other, 1).run({"image": x})["scores"].argmax(1) == 0)


@pytest.mark.parametrize(
    ("arguments", "message", "help"),
    [
        ({"metric": "top3"}, "there is no metric 'top3'", "the metrics are agreement, top1, top5"),
        ({"y": None}, "top1 needs labels, and the data have none", "--metric agreement needs none"),
        ({"metric": "agreement"}, "agreement compares with another graph, and none is given", None),
        ({"y": np.array([0, 4])}, "labels run from 0 to 4, the network has 4 classes", None),
        ({"y": np.array([-1, 0])}, "labels run from -1 to 0, the network has 4 classes", None),
        ({"y": np.array([0])}, "2 samples and 1 labels make no score", None),
        ({"metric": "top5"}, "the 5 highest of 4 scores are always right", "--metric top1"),
        ({"x": np.zeros((0, 2, 7, 7)), "y": np.zeros(0, np.int64)}, "0 samples and 0 labels make no score", None),
    ],
)
def test_scores_that_cannot_be(arguments: dict[str, Any], message: str, help: str | None) -> None:
    given = {"x": images(0, 2)["image"], "y": np.array([0, 1]), **arguments}
    with pytest.raises(CompileError) as error:
        score(parse(SMALL), given.pop("x"), given.pop("y"), **given)
    assert (error.value.message, error.value.help) == (message, help)


def test_a_network_of_two_inputs_has_no_score() -> None:
    graph = parse("graph @two { input %x : f32[N,2]\n input %z : f32[N,2]\n %y = add(%x, %z) : f32[N,2]\n output %y }")
    with pytest.raises(CompileError, match=r"^@two has 2 inputs; a score takes networks of one$"):
        score(graph, np.ones((1, 2), np.float32), np.array([0]))


def test_simulate_takes_an_array_for_a_lone_input() -> None:
    graph, x = parse(SMALL), images(0)
    assert np.array_equal(simulate(graph, x["image"], 1)["scores"], Simulation(graph, 1).run(x)["scores"])
    assert np.array_equal(simulate(graph, x, 1)["scores"], Simulation(graph, 1).run(x)["scores"])


# LeNet-5


def test_lenet_in_fixed_8_reads_digits_as_well_as_in_float() -> None:
    train, test = datasets.load("mnist", "train", limit=500), datasets.load("mnist", "test")
    assert test.y is not None
    plain = run_passes(load(LENET), STRUCTURE)
    context = Context({"image": train.x})
    narrow = run_passes(plain, "annotate-formats,derive-accumulators", context)
    before, after = score(plain, test.x, test.y), score(narrow, test.x, test.y)
    assert (before.samples, after.samples) == (10_000, 10_000)
    assert before.value >= 0.989
    assert after.value >= before.value - 0.003
    assert after.exact
    few = {"image": test.x[:100]}
    assert np.array_equal(Simulation(narrow, 1).run(few)["logits"], evaluate(narrow, few)["logits"])
