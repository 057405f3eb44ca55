"""bitwright score: the accuracy of float and of formats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import Network, Result, Run, write


def test_score_measures_float_and_formats(tiny: Network, built: Path, run: Run) -> None:
    assert run("score", tiny.onnx, "--data", tiny.data) == Result(
        0, "top1 1.0000 on 60 samples (float32 arithmetic)\n", ""
    )
    result = run("score", tiny.onnx, "--data", tiny.data, "--formats", "FIXED 6")
    found = re.fullmatch(r"top1 (\d\.\d{4}) on 60 samples \(exact arithmetic\)\n", result.out)
    assert found
    assert float(found[1]) > 0.8
    assert run("score", built, "--data", tiny.data).out == result.out
    assert run("score", built / "model.ir", "--data", tiny.data).out == result.out
    report = json.loads((built / "report.json").read_text())
    assert report["accuracy"]["value"] == pytest.approx(float(found[1]), abs=1e-4)


def test_score_takes_formats_from_a_file(tiny: Network, tmp_path: Path, run: Run) -> None:
    file = write(tmp_path / "formats.txt", "conv1.weight FIXED 2 3\nfc2.weight EXP 2\n")
    result = run("score", tiny.onnx, "--data", tiny.data, "--formats", file, "--json")
    found = json.loads(result.out)
    assert found["value"] < 1
    assert found["exact"] is False


@pytest.mark.parametrize("limit", [1, 7])
def test_score_takes_the_first_samples(limit: int, tiny: Network, run: Run) -> None:
    result = run("score", tiny.onnx, "--data", tiny.data, "--limit", limit, "--json")
    assert json.loads(result.out) == {"metric": "top1", "value": 1.0, "samples": limit, "exact": False}


def test_score_agrees_with_the_float_network(tiny: Network, built: Path, tmp_path: Path, run: Run) -> None:
    """Agreement is with the network in float, also when the formats are the model's own."""
    np.savez(tmp_path / "x.npz", x=tiny.x)  # needs no labels
    values = {}
    for name, arguments in {
        "float": [tiny.onnx],
        "given": [tiny.onnx, "--formats", "FIXED 3"],
        "own": [built],
        "other": [built, "--formats", "FIXED 16"],
    }.items():
        result = run("score", *arguments, "--data", tmp_path / "x.npz", "--metric", "agreement", "--json")
        found = json.loads(result.out)
        assert (found["metric"], found["samples"]) == ("agreement", 60)
        values[name] = found["value"]
    assert values["float"] == 1
    assert values["given"] < 1
    top1 = json.loads(run("score", built, "--data", tiny.data, "--json").out)["value"]
    assert values["own"] == pytest.approx(top1)  # the labels are the float network's decisions
    assert values["other"] == 1


def test_score_knows_more_metrics(tiny: Network, tmp_path: Path, run: Run) -> None:
    def metric(name: str) -> Result:
        return run("score", tiny.onnx, "--data", tiny.data, "--metric", name)

    assert metric("top5").err == "error: the 5 highest of 3 scores are always right\n  help: --metric top1\n"
    own = write(
        tmp_path / "own.py", "def margin(scores, labels):\n    return len(labels) + (scores.shape == (60, 3))\n"
    )
    assert metric(f"{own}:margin").out == "margin 61.0000 on 60 samples (float32 arithmetic)\n"


@pytest.mark.parametrize(
    ("opset", "dtype", "first"),
    [(13, "uint8", "Cast <to=1>"), (9, "float", "Dropout <ratio=0.5>")],
    ids=["bytes that the network casts", "a dropout of an old operator set"],
)
def test_score_takes_what_compile_takes(opset: int, dtype: str, first: str, tmp_path: Path, run: Run) -> None:
    """A Dropout stands in inference models, and has another form in the set that formats are simulated in."""
    made = onnx.parser.parse_model(
        f'<ir_version: 4, opset_import: ["": {opset}]> g ({dtype}[N,2] x) => (float[N,2] y) '
        f"{{ f = {first} (x)  y = Relu (f) }}"
    )
    onnx.save(made, tmp_path / "net.onnx")
    x = np.uint8([[255, 0], [0, 1], [200, 100]])
    np.savez(tmp_path / "rows.npz", x=x, y=x.argmax(1))
    result = run("score", tmp_path / "net.onnx", "--data", tmp_path / "rows.npz")
    assert result == Result(0, "top1 1.0000 on 3 samples (exact arithmetic)\n", "")


def test_agreement_with_another_network(tiny: Network, tmp_path: Path, run: Run) -> None:
    np.savez(tmp_path / "x.npz", x=tiny.x)
    small = tmp_path / "small.onnx"
    assert run("opt", tiny.onnx, "--passes", "prune-channels{sparsity=0.5,layer=conv1,by=last}", "-o", small).code == 0
    command = ["score", small, "--data", tmp_path / "x.npz", "--metric", "agreement", "--json"]
    assert json.loads(run(*command).out)["value"] == 1  # with itself
    sessions = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in (small, tiny.onnx)
    ]
    ours, theirs = (session.run(None, {session.get_inputs()[0].name: tiny.x})[0].argmax(1) for session in sessions)
    found = json.loads(run(*command, "--reference", tiny.onnx).out)["value"]
    assert found == pytest.approx(np.mean(ours == theirs))
    assert found < 1
