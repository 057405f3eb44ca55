"""Tracebacks, and faults that are ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from complaints import command, snapshot

from bitwright.cli import main

pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint


def test_verbose_shows_the_traceback(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--verbose", "show", "nowhere.onnx"], ["show", "nowhere.onnx", "--verbose"]):
        assert main.run(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1] == "error: nowhere.onnx: there is no such file"


def test_a_fault_of_ours_asks_for_a_report(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr("bitwright.backends.hls.package.emit", broken)
    before = snapshot(place)
    assert main.run(command("compile", "tiny.onnx")) == 3
    assert capsys.readouterr().err.splitlines() == [
        "error: internal fault: ZeroDivisionError: a slip",
        "  help: please report it, with --verbose",
    ]
    assert main.run([*command("compile", "tiny.onnx"), "--verbose"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "  help: please report it, with --verbose" in lines
    assert snapshot(place) == before
