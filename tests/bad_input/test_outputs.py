"""Outputs that cannot be written; what was there stays."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from complaints import Refused, command, snapshot, write

import bitwright
import bitwright.models.datasets
from bitwright.cli import main

pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint


def test_an_output_below_a_file(place: Path, refused: Refused) -> None:
    for below in ("tiny.onnx/out", "tiny.onnx/a/b"):
        first = refused("compile", "tiny.onnx", "--target", "pynq", "-o", below).first
        assert first == f"error: {below} cannot be written: {place / 'tiny.onnx'} is a file"


def test_an_output_that_is_a_file(refused: Refused) -> None:
    refusal = refused("compile", "tiny.onnx", "--target", "pynq", "-o", "good.npz")
    assert refusal.lines == ["error: good.npz is a file", "  help: give a folder with -o"]


@pytest.mark.parametrize("content", ["notes.txt", "report.json"])
def test_an_output_folder_that_holds_something_else(content: str, place: Path, refused: Refused) -> None:
    (place / "mine").mkdir()
    write(place / "mine" / content, "{}")
    refusal = refused("compile", "tiny.onnx", "--target", "pynq", "-o", "mine")
    assert refusal.lines == [
        "error: mine is not empty and no output of bitwright",
        "  help: give another folder with -o",
    ]


def test_the_folder_one_stands_in(place: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    bitwright.compile("tiny.onnx", "pynq", out=place / "earlier")
    monkeypatch.chdir(place / "earlier" / "src")
    for folder in (".", ".."):
        refusal = refused("compile", place / "tiny.onnx", "--target", "pynq", "-o", folder)
        assert refusal.help == "give another folder with -o"


def test_an_output_that_may_not_be_written(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/proc").is_dir():  # where not even root makes a folder
        first = refused("compile", "tiny.onnx", "--target", "pynq", "-o", "/proc/made/here").first
        assert first.startswith("error: /proc/made/here cannot be written: ")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    first = refused(*command("compile", "tiny.onnx")).first
    assert first.startswith("error: out cannot be written: no permission to write in ")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_made(code: int, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "here")

    monkeypatch.setattr(tempfile, "_os", _Fake(os, mkdir=mkdir))
    for arguments in (command("compile", "tiny.onnx"), command("opt", "tiny.onnx")):
        assert refused(*arguments).first == f"error: {arguments[-1]} cannot be written: {os.strerror(code)}"


class _Fake:
    """A module with some functions replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self.module = module
        self.replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self.replaced.get(name) or getattr(self.module, name)


def _full_after(monkeypatch: pytest.MonkeyPatch, writes: int, error: BaseException) -> list[int]:
    """Make the disk full after so many files; how many were begun."""
    begun = [0]

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            begun[0] += 1
            if begun[0] > writes:
                raise error
            return function(*arguments, **options)

        return call

    for where, name in (
        (Path, "write_text"),
        (Path, "write_bytes"),
        (shutil, "copyfile"),
        (np.lib.format, "write_array"),
    ):
        monkeypatch.setattr(where, name, watched(getattr(where, name)))
    return begun


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_what_was_there(earlier: bool, place: Path, refused: Refused) -> None:
    if earlier:
        bitwright.compile("tiny.onnx", "pynq", formats="FIXED 5", out=place / "out")
    with pytest.MonkeyPatch.context() as monkeypatch:
        begun = _full_after(monkeypatch, 10**6, FULL)
        bitwright.compile("tiny.onnx", "pynq", out=place / "counted")
    files = begun[0]
    assert files > 30
    for writes in (0, 1, files // 2, files - 2, files - 1):
        with pytest.MonkeyPatch.context() as monkeypatch:
            _full_after(monkeypatch, writes, FULL)
            for folder in ("out", "new/deep"):
                refusal = refused("compile", "tiny.onnx", "--target", "pynq", "-o", folder)
                assert refusal.lines == [f"error: {folder} cannot be written: No space left on device"]


@pytest.mark.parametrize("renames", [0, 1])
def test_an_output_that_cannot_take_its_place(renames: int, place: Path, refused: Refused) -> None:
    """The earlier output comes back when the new one cannot be put there."""
    bitwright.compile("tiny.onnx", "pynq", formats="FIXED 5", out=place / "out")
    before = Path.rename
    done = [0]

    def rename(path: Path, target: Path) -> Path:
        done[0] += 1
        if done[0] == renames + 1:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return before(path, target)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Path, "rename", rename)
        assert refused(*command("compile", "tiny.onnx")).first.startswith("error: out cannot be written: ")


def test_an_interrupt_leaves_what_was_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bitwright.compile("tiny.onnx", "pynq", formats="FIXED 5", out=place / "out")
    before = snapshot(place)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _full_after(monkeypatch, 12, KeyboardInterrupt())
        assert main.run(command("compile", "tiny.onnx")) == 130
    assert capsys.readouterr().err.strip() == "error: stopped"
    assert snapshot(place) == before


@pytest.mark.parametrize("name", ["made.onnx", "made.ir"])
@pytest.mark.parametrize("writes", [0, 1])
def test_a_full_disk_leaves_an_earlier_graph(name: str, writes: int, place: Path, refused: Refused) -> None:
    bitwright.save(bitwright.load("tiny.onnx"), place / name)
    if name.endswith(".onnx") and writes:
        return  # it is one file
    with pytest.MonkeyPatch.context() as monkeypatch:
        _full_after(monkeypatch, writes, FULL)
        for target in (name, f"new{Path(name).suffix}"):
            refusal = refused("opt", "tiny.onnx", "--passes", "fuse-activations", "-o", target)
            assert refusal.lines == [f"error: {target} cannot be written: No space left on device"]


def test_a_graph_of_another_suffix_or_in_no_folder(place: Path, refused: Refused) -> None:
    first = refused("opt", "tiny.onnx", "--passes", "remove-dead", "-o", "x.txt").first
    assert first == "error: x.txt: a graph is saved as .onnx or .ir"
    first = refused("opt", "tiny.onnx", "--passes", "remove-dead", "-o", "nowhere/x.onnx").first
    assert first == "error: nowhere/x.onnx cannot be written: No such file or directory"
    for output in (["-o", "x.ir"], []):
        refusal = refused("opt", "tiny.onnx", "--passes", "remove-dead", "--as", "qdq", *output)
        assert refusal.lines == ["error: --as qdq writes an .onnx file", "  help: give one with -o"]
    (place / "folder.onnx").mkdir()
    first = refused("opt", "tiny.onnx", "--passes", "remove-dead", "-o", "folder.onnx").first
    assert first.startswith("error: folder.onnx cannot be written: ")
