"""Bad input: one or two clear lines, exit code 2, no traceback, and every file as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from complaints import Refusal, Refused, network, snapshot

from bitwright.cli import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands: a good model, good data, and an output folder that is there already."""
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "tiny.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, (20, 1, 6, 6)).astype(np.float32)
    np.savez("good.npz", x=x, y=np.arange(20) % 3)
    return tmp_path


@pytest.fixture
def refused(place: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command line that must be refused in at most `lines` lines, and leave every file as it was."""

    def call(*arguments: object, lines: int = 2) -> Refusal:
        before = snapshot(place)
        capsys.readouterr()
        code = main.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 2, err
        assert out == ""
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert len(err.splitlines()) <= lines, err
        assert snapshot(place) == before
        return Refusal(err.splitlines())

    return call
