"""Every command runs in this process, on a network of two layers, and on the LeNet-5 where it is about that one."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from command_line import LENET, TINY, Network, Result, Run, save

import bitwright
from bitwright.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main.run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Network:
    place = tmp_path_factory.mktemp("tiny")
    graph = bitwright.load(save(TINY, place / "tiny.onnx"))
    x = np.random.default_rng(6).uniform(-1, 1, (120, 1, 6, 6)).astype(np.float32)
    y = bitwright.simulate(graph, x)["scores"].argmax(1)
    np.savez(place / "split.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return Network(place / "tiny.onnx", place / "split.npz", x[60:], y[60:])


@pytest.fixture(scope="session")
def built(tiny: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the tiny network in FIXED 6."""
    folder = tmp_path_factory.mktemp("built") / "tiny"
    bitwright.compile(tiny.onnx, "pynq", data=str(tiny.data), formats="FIXED 6", out=folder)
    return folder


@pytest.fixture(scope="session")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The output folder of the first command of the README, and what it said."""
    folder = tmp_path_factory.mktemp("lenet") / "lenet5"
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(["compile", str(LENET), "--target", "pynq", "--data", "mnist", "-o", str(folder)])
    return folder, Result(code, out.getvalue(), err.getvalue())
