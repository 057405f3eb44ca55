"""models/lenet5_cpp: the float program against onnxruntime, the Number program against a model of what it rounds."""

from __future__ import annotations

import difflib
import re
import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import bitwright
from bitwright.backends.simulation.score import score
from bitwright.ir.assign import read_formats
from bitwright.ir.formats import Canonical, Format
from bitwright.ir.graph import Graph
from bitwright.models import datasets
from bitwright.models.lenet5_cpp import export

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "models" / "lenet5_cpp"
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{ROOT / 'backends' / 'hls' / 'include'}")
PICTURES, FEWER = 500, 200  # float is fast
LAYERS = ("conv1", "conv3", "conv5", "fc6", "fc7")

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

# Biases that cover the largest magnitudes of LeNet-5.
WEIGHT_BIASES = {"FIXED 8": (1, 2, 3, 2, 1), "EXP 4": (7, 8, 9, 8, 7)}
INPUT_BIASES = {"FIXED 8": (0, -2, -3, -2, -2), "EXP 4": (7, 4, 3, 4, 4)}

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both programs, and what they read."""
    folder = tmp_path_factory.mktemp("lenet5")
    for name in ("lenet5", "lenet5_number"):
        command = ["g++", *FLAGS, str(SOURCES / f"{name}.cpp"), "-o", str(folder / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    export.main([str(folder)])
    return folder


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
    return datasets.load("mnist", "test", PICTURES)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return bitwright.load(SOURCES.parent / "lenet5.onnx")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program, *rest = arguments
    return subprocess.run([str(folder / program), *rest], cwd=folder, capture_output=True, text=True, check=False)


def accuracy(done: subprocess.CompletedProcess[str]) -> float:
    assert done.returncode == 0, done.stderr
    found = re.search(r"Accuracy : (.*)\n", done.stdout)
    assert found, done.stdout
    return float(found[1])


def number_accuracy(folder: Path, config: str, pictures: int = PICTURES) -> float:
    (folder / "config.txt").write_text(config)
    return accuracy(run(folder, "lenet5_number", "weights.bin", "data.bin", str(pictures), "config.txt"))


def config_of(weights: str, inputs: str | None) -> str:
    lines = [f"{layer}.weight {weights} {bias}" for layer, bias in zip(LAYERS, WEIGHT_BIASES[weights], strict=True)]
    if inputs is not None:
        lines += [f"{layer}.input {inputs} {bias}" for layer, bias in zip(LAYERS, INPUT_BIASES[inputs], strict=True)]
    return "\n".join(lines)


def test_the_port_to_number_takes_fewer_than_seventy_lines() -> None:
    before, after = ((SOURCES / name).read_text().splitlines() for name in ("lenet5.cpp", "lenet5_number.cpp"))
    changes = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert len(changes) == 46  # README.md says so


@pytest.mark.skipif(shutil.which("diff") is None, reason="needs diff: apt-get install diffutils")
def test_all_that_diff_prints_is_fewer_than_seventy_lines() -> None:
    done = subprocess.run(["diff", "lenet5.cpp", "lenet5_number.cpp"], cwd=SOURCES, capture_output=True, check=False)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) < 70


def test_float_has_the_accuracy_of_onnxruntime(folder: Path, digits: datasets.Dataset) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(SOURCES.parent / "lenet5.onnx"), options)
    scores = session.run(None, {"image": digits.x})[0]
    expected = (scores.argmax(1) == digits.y).mean()
    done = run(folder, "lenet5", "weights.bin", "data.bin", str(PICTURES))
    assert done.stdout == f"Accuracy : {expected:.6f}\n"


def test_number_without_formats_is_float(folder: Path) -> None:
    expected = accuracy(run(folder, "lenet5", "weights.bin", "data.bin", str(FEWER)))
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert number_accuracy(folder, "// nothing\n", FEWER) == expected
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used
    assert used / FEWER < 0.05


# What differs from bitwright's simulation: there sums are exact, here they are float; and section 4 of libnumber
# rounds each product to the wider of its operands' formats, which costs accuracy where inputs are narrow.
@pytest.mark.parametrize(
    ("weights", "inputs", "margin"),
    [("FIXED 8", None, 0.005), ("EXP 4", None, 0.005), ("FIXED 8", "FIXED 8", 0.01), ("EXP 4", "FIXED 8", 0.03)],
)
def test_formats_score_as_in_the_simulation(
    folder: Path, graph: Graph, digits: datasets.Dataset, weights: str, inputs: str | None, margin: float
) -> None:
    actual = number_accuracy(folder, config_of(weights, inputs), FEWER)
    assert digits.y is not None
    simulated = score(graph, digits.x[:FEWER], digits.y[:FEWER], read_formats(folder / "config.txt")).value
    assert simulated > 0.95
    assert actual == pytest.approx(simulated, abs=margin)


@pytest.mark.parametrize(("weights", "inputs"), [("FIXED 8", "FIXED 8"), ("EXP 4", "EXP 4")])
def test_the_accuracy_is_that_of_every_rounding_in_numpy(
    folder: Path, digits: datasets.Dataset, weights: str, inputs: str
) -> None:
    actual = number_accuracy(folder, config_of(weights, inputs), 50)
    scores = lenet5(digits.x[:50], read_formats(folder / "config.txt"))
    assert digits.y is not None
    assert actual == pytest.approx((scores.argmax(1) == digits.y[:50]).mean(), abs=1e-9)


def lenet5(x: Floats, formats: Mapping[str, Format]) -> Floats:
    """The program in numpy, in its order: inputs, weights and products are rounded, sums are float32."""
    model = onnx.load(SOURCES.parent / "lenet5.onnx")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def layer(name: str, x: Floats) -> Floats:
        input, weight = formats[f"{name}.input"], formats[f"{name}.weight"]
        assert isinstance(input, Canonical)
        assert isinstance(weight, Canonical)
        wide = max(input, weight, key=lambda format: (format.max, -float(format.step)))
        filter = weight.quantize(weights[f"{name}.weight"])
        filter = filter.reshape(*filter.shape, *(1,) * (4 - filter.ndim))
        x = input.quantize(x)
        rows, columns = (x.shape[axis] - filter.shape[axis] + 1 for axis in (2, 3))
        sums = np.broadcast_to(weights[f"{name}.bias"][:, None, None], (len(x), len(filter), rows, columns)).copy()
        for c, i, j in np.ndindex(filter.shape[1:]):
            sums += wide.quantize(filter[:, c, i, j][:, None, None] * x[:, None, c, i : i + rows, j : j + columns])
        return sums

    def pool(x: Floats) -> Floats:
        count, channels, rows, columns = x.shape
        return np.asarray(x.reshape(count, channels, rows // 2, 2, columns // 2, 2).max((3, 5)))

    x = pool(np.maximum(layer("conv1", np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))), 0))
    x = pool(np.maximum(layer("conv3", x), 0))
    for name in ("conv5", "fc6"):
        x = np.maximum(layer(name, x), 0)
    return layer("fc7", x).reshape(len(x), -1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lenet5", "usage: lenet5 weights.bin data.bin PICTURES"),
        ("lenet5_number weights.bin data.bin 5", "usage: lenet5_number weights.bin data.bin PICTURES config.txt"),
        ("lenet5 weights.bin data.bin none", "PICTURES is a number from 1 on"),
        ("lenet5 missing.bin data.bin 5", "missing.bin: cannot be opened"),
        ("lenet5 short.bin data.bin 5", "the weights end early"),
        ("lenet5 weights.bin short.bin 5", "the data end early"),
        ("lenet5_number weights.bin data.bin 5 wrong.txt", "wrong.txt:1: conv1.weight has no format"),
        ("lenet5_number weights.bin data.bin 5 missing.txt", "missing.txt: cannot be read"),
    ],
)
def test_wrong_arguments(folder: Path, arguments: str, message: str) -> None:
    (folder / "short.bin").write_bytes(b"\0" * 1000)
    (folder / "wrong.txt").write_text("conv1.weight\n")
    done = run(folder, *arguments.split())
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message + "\n")
