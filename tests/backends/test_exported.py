"""What exporters write of a MobileNet-like network, from ONNX to C++: onnxruntime for floats, csim for the bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import bitwright
from bitwright.backends.hls.compare import input_format
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.simulation.score import simulate
from bitwright.ir.evaluate import evaluate
from bitwright.passes.table import STRUCTURE

TEXT = """<ir_version: 8, opset_import: ["": 18]>
exported (float[N,3,8,8] x) => (float[N,4] y) {
  centred = Sub (x, mean)
  scaled = Div (centred, deviation)
  stem = Conv <pads = [1,1,1,1]> (scaled, w1, b1)
  swish = HardSwish (stem)
  depth = Conv <pads = [1,1,1,1], group = 4> (swish, w2)
  leaky = LeakyRelu <alpha = 0.125> (depth)
  squeezed = ReduceMean <keepdims = 0> (leaky, axes)
  small = Gemm <transB = 1> (squeezed, w3, b3)
  active = PRelu (small, slope)
  wide = Gemm <transB = 1> (active, w4)
  gate = HardSigmoid (wide)
  one = Unsqueeze (gate, two)
  both = Unsqueeze (one, three)
  gated = Mul (leaky, both)
  pooled = ReduceMean (gated, axes)
  flat = Squeeze (pooled, axes)
  y = Gemm <transB = 1> (flat, w5)
}"""
SHAPES = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 1, 3, 3), "w3": (2, 4), "b3": (2,), "w4": (4, 2), "w5": (4, 4)}
AXES = {"axes": [2, 3], "two": [2], "three": [3]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = parser.parse_model(TEXT)
    random = np.random.default_rng(7)
    weights = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in SHAPES.items()}
    weights |= {"mean": np.full((3, 1, 1), 0.5, np.float32), "deviation": np.float32([[[0.25]], [[0.3]], [[0.2]]])}
    weights["slope"] = np.float32([0.25, 0.1])
    weights |= {name: np.int64(axes) for name, axes in AXES.items()}
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    path = tmp_path_factory.mktemp("exported") / "exported.onnx"
    onnx.save(made, path)
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 3, 8, 8), np.float32)


def by_onnxruntime(path: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_every_op_has_an_engine_and_the_float_network_stays(model: Path) -> None:
    graph = bitwright.run_passes(bitwright.load(model), STRUCTURE)
    assert not [node.op for node in graph.nodes if node.op.startswith("onnx.")]
    x = images(20)
    np.testing.assert_allclose(simulate(graph, x)["y"], by_onnxruntime(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")
def test_the_accelerator_computes_the_network(model: Path, tmp_path: Path) -> None:
    """Bit for bit the simulation, and with 16 bits close to the float network."""
    graph = bitwright.compile(model, "zcu104", formats="FIXED 16", out=tmp_path / "out").graph
    x = images(20)
    accelerator = Accelerator(tmp_path / "out")
    frames = accelerator.input.to_stream(x, input_format(graph))
    y = accelerator.output.from_stream(accelerator.run(frames))
    np.testing.assert_array_equal(y, evaluate(graph, {"x": x})["y"])
    np.testing.assert_allclose(y, by_onnxruntime(model, x), atol=0.02)
