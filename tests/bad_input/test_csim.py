"""Folders, inputs and tools that a C simulation cannot take."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from complaints import Refused, write

import bitwright
import bitwright.models.datasets

pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint


@pytest.fixture
def built(place: Path) -> str:
    """An output folder, which lies outside `place` so that what g++ makes in it does not count."""
    folder = place.parent / f"{place.name}-built"
    bitwright.compile("tiny.onnx", "pynq", out=folder)
    return str(folder)


def test_a_folder_that_is_no_output(place: Path, refused: Refused) -> None:
    (place / "folder").mkdir()
    for folder in ("folder", "nowhere", "tiny.onnx"):
        first = refused("csim", folder).first
        assert first.startswith(f"error: {folder} is no output folder of bitwright compile")


def test_inputs_that_csim_does_not_take(built: str, place: Path, refused: Refused) -> None:
    x = np.zeros((2, 1, 6, 6))
    np.save(place / "array.npy", x)
    np.savez(place / "several.npz", a=x, b=x)
    np.savez(place / "strings.npz", x=np.array(["a", "b"]))
    np.savez(place / "objects.npz", x=np.array([None, 1], object))
    np.savez(place / "flat.npz", x=x.reshape(2, -1))
    np.savez(place / "scalar.npz", x=np.float32(1))
    np.savez(place / "nan.npz", x=np.where(np.arange(36).reshape(6, 6) == 8, np.nan, x))
    np.savez(place / "beyond.npz", x=x + 1e300)
    write(place / "cut.npz", (place / "flat.npz").read_bytes()[:-30])
    write(place / "empty.npz", b"")
    for name, first in {
        "array.npy": "array.npy: not an .npz file of numbers",
        "several.npz": 'several.npz has arrays a, b, none is named "x"',
        "strings.npz": "strings.npz: its array holds <U1, not numbers",
        "objects.npz": "objects.npz: not an .npz file of numbers",
        "flat.npz": 'input "x" has shape [2, 36], the model takes FIXED<8>[N,1,6,6]',
        "scalar.npz": 'input "x" has shape [], the model takes FIXED<8>[N,1,6,6]',
        "nan.npz": "nan.npz: NaN at index [0, 0, 1, 2]",
        "beyond.npz": "beyond.npz: infinity at index [0, 0, 0, 0]",
        "cut.npz": "cut.npz: not an .npz file of numbers",
        "empty.npz": "empty.npz: not an .npz file of numbers",
        "nowhere.npz": "nowhere.npz: there is no such file",
    }.items():
        assert refused("csim", built, "--input", name, "--output", "y.npz").first.startswith(f"error: {first}")
    assert refused("csim", built, "--output", "y.npz").lines == ["error: --output needs --input"]


@pytest.mark.parametrize(
    ("content", "said", "help"),
    [
        (None, "{} is no output folder of bitwright compile (it has no report.json)", None),
        ("{", "{}/report.json is not a JSON file", "compile the network again"),
        (b"\xff\xfe", "{}/report.json is not a JSON file", "compile the network again"),
        ("[]", "{}/report.json holds no report", "compile the network again"),
        ("{}", "{}/report.json has no trips", "compile again: an older version wrote it"),
        ('{"trips": 3}', "{}/report.json has no trips", "compile again: an older version wrote it"),
    ],
)
def test_reports_that_compile_has_not_written(
    content: str | bytes | None, said: str, help: str | None, built: str, refused: Refused
) -> None:
    report = Path(built) / "report.json"
    report.unlink() if content is None else write(report, content)
    lines = [f"error: {said.format(built)}", *([f"  help: {help}"] if help else [])]
    assert refused("csim", built, "--trips").lines == lines
    for command in (["show", "--plan", built], ["report", built]):
        assert refused(*command).lines == [line.replace("no trips", "no layers") for line in lines]


def test_a_pass_that_lacks_options(refused: Refused) -> None:
    assert refused("opt", "tiny.onnx", "--passes", "split-channels").lines == [
        "error: split-channels needs layer, sizes",
        "  help: write split-channels{layer=...,sizes=...}",
    ]


def test_sources_that_do_not_compile(built: str, refused: Refused) -> None:
    (Path(built) / "src" / "shapes.hpp").write_text("this is no C++\n")
    first = refused("csim", built).first
    assert first.startswith(f"error: g++ does not compile {built}: ")
    assert "shapes.hpp:1:" in first


def test_tools_that_are_not_there(built: str, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    refusal = refused("csim", built)
    assert refusal.first == "error: g++ is not on the PATH"
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refusal = refused("csim", built, "--ap-types")
    assert refusal.first == "error: the ap_int headers are not installed"
    assert "pip install --no-deps hls4ml" in refusal.help
