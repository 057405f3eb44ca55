"""Networks over lines (sensors, audio), from ONNX to C++: onnxruntime for floats, the exact judge for the bits."""

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

BLOCK = """
  weighed = Mul (x, factor)
  normal = BatchNormalization (weighed, scale, shift, mean, var)
  stem = Conv <kernel_shape = [5], pads = [2,2], strides = [2]> (normal, w1, b1)
  first = Relu (stem)
  deep = Conv <kernel_shape = [3], pads = [1,1], group = 2> (first, w2)
  squeezed = GlobalAveragePool (deep)
  gate = Conv <kernel_shape = [1]> (squeezed, w3)
  open = HardSigmoid (gate)
  gated = Mul (deep, open)
  sum = Add (gated, first)
  last = Relu (sum)
  pooled = MaxPool <kernel_shape = [3], pads = [1,1], strides = [2]> (last)
"""
ENDS = {
    "scores": ("float[N,3] y", "means = ReduceMean <axes = [2], keepdims = 0> (pooled) y = Gemm (means, w4)"),
    "rows": ("float[N,3] y", "flat = Flatten (pooled) each = Mul (flat, elements) y = Gemm (each, w6)"),
    "line": ("float[N,2,4] y", "y = Conv <kernel_shape = [1]> (pooled, w5)"),
}
SHAPES = {"w1": (4, 2, 5), "b1": (4,), "w2": (4, 2, 3), "w3": (4, 4, 1), "w4": (4, 3), "w5": (2, 4, 1)}
SHAPES |= {"factor": (2, 1), "elements": (16,), "w6": (16, 3)}  # one number a channel, or an element
NORMAL = {"scale": [1.5, 0.5], "shift": [0.25, -0.5], "mean": [0.5, 0.25], "var": [0.5, 2.0]}


def written(folder: Path, end: str) -> Path:
    output, last = ENDS[end]
    head = '<ir_version: 8, opset_import: ["": 13]> lines (float[N,2,16] x) => '
    model = parser.parse_model(f"{head} ({output}) {{ {BLOCK} {last} }}")
    random = np.random.default_rng(7)
    weights = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in SHAPES.items()}
    weights |= {name: np.float32(numbers) for name, numbers in NORMAL.items()}
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(weights[name], name) for name in weights if name in read)
    onnx.save(model, folder / "lines.onnx")
    return folder / "lines.onnx"


def by_onnxruntime(path: Path, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def lines(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 2, 16), np.float32)


@pytest.mark.parametrize("end", list(ENDS))
def test_every_op_has_an_engine_and_the_float_network_stays(end: str, tmp_path: Path) -> None:
    model = written(tmp_path, end)
    graph = bitwright.run_passes(bitwright.load(model), STRUCTURE)
    assert not [node.op for node in graph.nodes if node.op.startswith("onnx.")]
    assert [node.name for node in graph.nodes if node.op == "reshape"] == {
        "scores": ["normal.in", "means"],
        "rows": ["normal.in", "flat"],
        "line": ["normal.in", "y.line"],
    }[end]
    x = lines(20)
    np.testing.assert_allclose(simulate(graph, x)["y"], by_onnxruntime(model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")
@pytest.mark.parametrize("end", list(ENDS))
def test_the_accelerator_computes_the_network(end: str, tmp_path: Path) -> None:
    """Bit for bit the simulation, and with 16 bits close to the float network."""
    model = written(tmp_path, end)
    graph = bitwright.compile(model, "zcu104", formats="FIXED 16", out=tmp_path / "out").graph
    x = lines(20)
    accelerator = Accelerator(tmp_path / "out")
    frames = accelerator.input.to_stream(x, input_format(graph))
    y = accelerator.output.from_stream(accelerator.run(frames))
    np.testing.assert_array_equal(y, evaluate(graph, {"x": x})["y"])
    np.testing.assert_allclose(y, by_onnxruntime(model, x), atol=0.02)
