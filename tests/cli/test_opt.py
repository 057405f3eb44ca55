"""bitwright opt: the graph after passes, and what each of them changed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import Network, Result, Run

import bitwright


def test_opt_prints_the_graph_after_the_passes(tiny: Network, run: Run) -> None:
    result = run("opt", tiny.onnx, "--passes", "fuse-activations,fuse-pooling")
    assert (result.code, result.err) == (0, "")
    assert "{act=relu, kernel=[3,3], pool=[2,2]}" in result.out
    assert "relu(" not in result.out
    assert bitwright.diff(bitwright.parse(result.out), bitwright.parse(result.out)) == ""


@pytest.mark.parametrize("suffix", [".onnx", ".ir"])
def test_opt_writes_a_graph_that_computes_the_same(suffix: str, tiny: Network, tmp_path: Path, run: Run) -> None:
    target = tmp_path / f"fused{suffix}"
    result = run("opt", tiny.onnx, "--passes", "fuse-activations,fuse-pooling", "-o", target)
    assert result == Result(0, "", "")
    beside = ["fused.ir", "fused.npz"] if suffix == ".ir" else ["fused.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == beside
    graph = bitwright.load(target)
    expected = bitwright.simulate(bitwright.load(tiny.onnx), tiny.x)["scores"]
    np.testing.assert_allclose(bitwright.simulate(graph, tiny.x)["scores"], expected, atol=1e-6)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(["scores"], {"image": tiny.x})[0], expected, atol=1e-6)


def test_opt_shows_what_each_pass_changed(tiny: Network, tmp_path: Path, run: Run) -> None:
    result = run(
        "opt", tiny.onnx, "--passes", "fuse-activations,fuse-pooling{only=conv1}", "--print-diff", "--dump-after",
        tmp_path / "steps",
    )  # fmt: skip
    assert result.code == 0
    heads = [line for line in result.err.splitlines() if line.startswith("// ")]
    assert [re.sub(r"\(.*\)", "()", head) for head in heads] == [
        "// fuse-activations ()",
        "// fuse-pooling{only=conv1} ()",
    ]
    assert all(re.search(r"\(\d+\.\d ms\)$", head) for head in heads)
    assert any(line.startswith("-") and "relu(" in line for line in result.err.splitlines())
    assert any(line.startswith("+") and "pool=[2,2]" in line for line in result.err.splitlines())
    steps = sorted((tmp_path / "steps").iterdir())
    assert [path.name for path in steps] == ["01-fuse-activations.ir", "02-fuse-pooling.ir"]
    assert steps[-1].read_text() == result.out


def test_opt_measures_on_calibration_data(tiny: Network, run: Run) -> None:
    measured = run("opt", tiny.onnx, "--passes", "annotate-formats", "--data", tiny.data)
    assert (measured.code, measured.err) == (0, "")
    bounded = run("opt", tiny.onnx, "--passes", "annotate-formats")
    assert bounded.err.startswith("note: no data: formats cover every input in [-1, 1]")
    assert "FIXED<8" in bounded.out
    assert measured.out != bounded.out


@pytest.mark.parametrize("style", ["qdq", "qonnx", "fake-quant"])
def test_opt_writes_formats_as_quantisers(style: str, built: Path, tiny: Network, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "quantised.onnx"
    assert run("opt", built, "--passes", "remove-dead", "--as", style, "-o", target) == Result(0, "", "")
    ops = {node.op_type for node in onnx.load(target).graph.node}
    assert ops & {"qdq": {"QuantizeLinear"}, "qonnx": {"Quant"}, "fake-quant": {"Round", "Floor"}}[style]
    expected = bitwright.simulate(bitwright.load(built / "model.ir"), tiny.x)["scores"]
    if style != "qonnx":  # whose op no onnxruntime knows
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(session.run(["scores"], {"image": tiny.x})[0], expected)
    if style != "fake-quant":
        back = tmp_path / "back.ir"
        assert run("opt", target, "--passes", "recognise-quantizers", "-o", back).code == 0
        np.testing.assert_array_equal(bitwright.simulate(bitwright.load(back), tiny.x)["scores"], expected)
