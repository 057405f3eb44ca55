"""Formats as quantiser nodes and back: qdq, qonnx and fake-quant of one graph compute and import to the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitwright.backends.simulation.export import save_fake_quant
from bitwright.backends.simulation.run import Simulation, session_of
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load, save
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.explicit import with_quantizers
from bitwright.ir.parse import parse
from bitwright.passes import run_passes

NETWORK = """
graph @net {{
  opset ai.onnx=17
  input %x : {x}[N,2,8,8]
  weight %conv.w = 01234567 : {w}[4,2,3,3]
  weight %conv.b = 01234568 : f32[4]
  weight %fc.w = 01234569 : {w}[5,36]
  %conv = conv2d(%x, %conv.w, %conv.b) {{act=relu, kernel=[3,3]}} : {y}[N,4,6,6]
  %pool = maxpool2d(%conv) {{kernel=[2,2], strides=[2,2]}} : {y}[N,4,3,3]
  %flat = flatten(%pool) : {y}[N,36]
  %fc = dense(%flat, %fc.w) : {y}[N,5]
  output %fc
}}
"""
FORMATS = {
    "FIXED 8": ("FIXED<8,B=-1>", "FIXED<8,B=1>", "FIXED<8,B=-1>"),
    "FIXED 5": ("FIXED<5,B=-1>", "FIXED<5,B=1>", "UFIXED<5,B=-1>"),
    "FIXED 12": ("FIXED<12,B=-1>", "FIXED<8,B=1>", "FIXED<12,B=-1>"),
    "AFFINE": (
        "AFFINE<8,scale=0.03125,zero=120>",
        "AFFINE<8,scale=0.01171875,signed,narrow>",
        "AFFINE<6,scale=0.0703125,zero=3>",
    ),
    "channels": ("FIXED<8,B=-1>", "FIXED<8,B={0,1,2,1}@0>", "FIXED<8,B=-1>"),
}
QONNX_ONLY = {
    "EXP": ("FIXED<8,B=-1>", "EXP<4,B=8>", "FIXED<8,B=-1>"),
    "FLOAT": ("FLOAT<8>", "FLOAT<8,B=9>", "FLOAT<9>"),
    "BIN": ("FIXED<8,B=-1>", "BIN<1,B=2>", "FIXED<8,B=-1>"),
}


def network(x: str, w: str, y: str) -> Graph:
    text = NETWORK.format(x=x, w=w, y=y)
    if "{" in w:  # five rows in the dense
        text = text.replace(f"{w}[5,36]", "FIXED<8,B={0,1,2,1,0}@0>[5,36]")
    return parse(text)


def inputs(count: int = 40) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 1.5, (count, 2, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_qdq_computes_the_contract_in_onnxruntime(name: str, tmp_path: Path) -> None:
    graph = network(*FORMATS[name])
    save(with_quantizers(graph, "qdq"), tmp_path / "q.onnx")
    found = session_of(str(tmp_path / "q.onnx"), 1).run(None, {"x": inputs()})[0]
    expected = evaluate(graph, {"x": inputs()})["fc"]
    if name == "AFFINE":  # float32 sums, which onnxruntime may order otherwise: within one step
        assert np.abs(found - expected).max() <= 0.0704
        assert (found != expected).mean() < 0.02
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", {**FORMATS, **QONNX_ONLY})
def test_qonnx_comes_back_as_the_same_formats(name: str, tmp_path: Path) -> None:
    graph = network(*{**FORMATS, **QONNX_ONLY}[name])
    save(with_quantizers(graph, "qonnx"), tmp_path / "q.onnx")
    back = run_passes(load(tmp_path / "q.onnx"), "recognise-quantizers,remove-identities")
    for value in ("x", "conv.w", "fc.w", "conv", "pool"):
        assert back.values[value].tensor_type.number == graph.values[value].tensor_type.number, value
    assert back.outputs[0].value.tensor_type.number == graph.outputs[0].value.tensor_type.number
    np.testing.assert_array_equal(evaluate(back, {"x": inputs()})["fc"], evaluate(graph, {"x": inputs()})["fc"])


@pytest.mark.parametrize("name", FORMATS)
def test_qdq_comes_back_computing_the_same(name: str, tmp_path: Path) -> None:
    graph = network(*FORMATS[name])
    save(with_quantizers(graph, "qdq"), tmp_path / "q.onnx")
    back = run_passes(load(tmp_path / "q.onnx"), "recognise-quantizers,remove-identities")
    assert not [node.op for node in back.nodes if "Linear" in node.op]
    if name != "AFFINE":
        assert back.values["conv"].tensor_type.number == graph.values["conv"].tensor_type.number
        assert not [node.op for node in back.nodes if node.op == "clip"]
    np.testing.assert_array_equal(evaluate(back, {"x": inputs()})["fc"], evaluate(graph, {"x": inputs()})["fc"])


@pytest.mark.parametrize("name", {**FORMATS, **QONNX_ONLY})
def test_fake_quant_is_the_simulation(name: str, tmp_path: Path) -> None:
    graph = network(*{**FORMATS, **QONNX_ONLY}[name])
    save_fake_quant(graph, tmp_path / "f.onnx")
    found = session_of(str(tmp_path / "f.onnx"), 1).run(None, {"x": inputs()})[0]
    np.testing.assert_array_equal(found, Simulation(graph, 1).run({"x": inputs()})["fc"])


def test_a_format_without_quantizelinear_is_refused_by_name() -> None:
    with pytest.raises(CompileError, match=r"%conv\.w: EXP<4,B=8> has no QuantizeLinear"):
        with_quantizers(network(*QONNX_ONLY["EXP"]), "qdq")
