"""bitwright prune: sizes counted by hand, accuracies by onnxruntime on what was written, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import bitwright
import bitwright.models
from bitwright.cli.main import run
from bitwright.models.datasets import load as load_data

LENET = Path(str(bitwright.models.__file__)).parent / "lenet5.onnx"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """400 training and 500 test images of MNIST."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    train, test = load_data("mnist", "train", 400), load_data("mnist", "test", 500)
    np.savez(path, x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y)  # type: ignore[arg-type]
    return str(path)


def top1(model: onnx.ModelProto, split: str, data: str) -> float:
    """By onnxruntime alone."""
    with np.load(data) as arrays:
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {session.get_inputs()[0].name: x})
    return float((np.asarray(scores).argmax(1) == y).mean())


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert run(["prune", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_a_smaller_network_is_written(digits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"
    found = said(capsys, str(LENET), "--data", digits, "--sparsity", "50%", "-o", str(out))
    model = onnx.load(out)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert sizes["conv5.weight"] == (60, 8, 5, 5)
    layers = {
        "conv1": (3, 1 * 25, 28 * 28),
        "conv3": (8, 3 * 25, 10 * 10),
        "conv5": (60, 8 * 25, 1),
        "fc6": (42, 60, 1),
        "fc7": (10, 42, 1),
    }
    assert found["after"] == {
        "parameters": sum(outputs * inputs + outputs for outputs, inputs, _ in layers.values()),
        "multiplications": sum(outputs * inputs * places for outputs, inputs, places in layers.values()),
    }
    accuracy = found["accuracy"]
    assert isinstance(accuracy, dict)
    assert accuracy["before"] == pytest.approx(top1(onnx.load(LENET), "test", digits))
    assert accuracy["after"] == pytest.approx(top1(model, "test", digits))
    assert accuracy["after"] > 0.95
    assert accuracy["images"] == 500


def test_nothing_goes(digits: str) -> None:
    found = bitwright.prune(LENET, digits, 0.001)
    assert (found.size, found.accuracy) == (found.whole, found.float_accuracy)
    assert "prune-channels{sparsity=0.001,by=hessian}: nothing goes" in found.notes
    assert not any("refitted" in note for note in found.notes)


def test_refitting_is_what_keeps_the_accuracy(digits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reached = {}
    for how in ("none", "biases", "weights"):
        options = ("--sparsity", "0.7", "--layer", "conv5", "--side", "input", "--refit", how)
        found = said(capsys, str(LENET), "--data", digits, *options, "-o", str(tmp_path / f"{how}.ir"))
        accuracy = found["accuracy"]
        assert isinstance(accuracy, dict)
        reached[how] = accuracy["after"]
    assert reached["none"] < reached["biases"] < reached["weights"]


def test_sensitivity_of_single_weights(digits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each accuracy is that of the network with the layer's smallest weights at zero, by numpy and onnxruntime."""
    found = said(capsys, str(LENET), "--data", digits, "--sensitivity", "--weights", "-o", str(tmp_path))
    points = found["points"]
    assert isinstance(points, list)
    assert [point["layer"] for point in points[::9]] == ["conv1", "conv3", "conv5", "fc6", "fc7"]
    for point in points[4::7]:
        model = onnx.load(LENET)
        (weight,) = (t for t in model.graph.initializer if t.name == f"{point['layer']}.weight")
        data = numpy_helper.to_array(weight).copy()
        limit = np.sort(np.abs(data), axis=None)[int(point["sparsity"] * data.size + 1e-9)]
        data[np.abs(data) < limit] = 0
        weight.CopyFrom(numpy_helper.from_array(data, weight.name))
        assert point["accuracy"] == pytest.approx(top1(model, "train", digits))
        assert (point["left"], point["of"]) == (np.count_nonzero(data), data.size)
    with (tmp_path / "sensitivity.csv").open() as stream:
        rows = [dict(row) for row in csv.DictReader(stream)]
    assert rows == [{key: str(value) for key, value in point.items()} for point in points]
    written = json.loads((tmp_path / "sensitivity.json").read_text())
    assert written["points"] == points
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")


def test_sensitivity_of_channels(digits: str) -> None:
    found = bitwright.sensitivity(LENET, digits, by="last", sparsities=(0.0, 0.5), images=100)
    assert [(point.layer, point.left, point.of) for point in found.points] == [
        ("conv1", 6, 6), ("conv1", 3, 6),
        ("conv3", 16, 16), ("conv3", 8, 16),
        ("conv5", 120, 120), ("conv5", 60, 120),
        ("fc6", 84, 84), ("fc6", 42, 84),
    ]  # fmt: skip
    assert {point.accuracy for point in found.points if not point.sparsity} == {found.float_accuracy}
    assert found.images == 100
    assert found.notes == ("the channels of fc7 cannot go: they reach the output logits",)
    fitted = bitwright.sensitivity(LENET, digits, by="last", sparsities=(0.01, 0.5), images=100, refit="weights")
    assert sum(p.accuracy for p in fitted.points if p.sparsity == 0.5) > sum(
        p.accuracy for p in found.points if p.sparsity
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give a --sparsity, or --sensitivity"),
        (("--sparsity", "0.5", "--sensitivity"), "give a --sparsity, or --sensitivity"),
        (("--sparsity", "0.5", "--weights", "--by", "last"), "--weights go by their magnitude"),
        (("--sensitivity", "--layer", "conv1"), "--sensitivity prunes the outputs of every layer"),
        (("--sparsity", "0.5", "--side", "input"), "--side input goes with a --layer"),
        (("--sparsity", "1.5"), "'1.5' is not between 0% and 100%"),
        (("--sparsity", "0.5", "-o", "small.txt"), "small.txt: a graph is saved as .onnx or .ir"),
        (("--sparsity", "0.5", "--layer", "conv9"), "no layer is named 'conv9'"),
        (("--sparsity", "0.5", "--metric", "f1"), "there is no metric 'f1' to prune for"),
    ],
)
def test_refusals(options: tuple[str, ...], message: str, digits: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prune", str(LENET), "--data", digits, *options]) == 2
    assert message in capsys.readouterr().err
