"""Formats that are malformed or have no engine, and tolerances that cannot be met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from complaints import Refused, command, dense, write

pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("conv1.weight FIXED 6\n\nfc2.weight FIXD 6\n", "formats.txt:3: \"FIXD 6\": there is no number kind 'FIXD'"),
        ("# sizes\nconv1.weight\n", "formats.txt:2: conv1.weight has no format"),
        ("conv1.weight FIXED 6\nconv1.weight FIXED 7\n", "formats.txt:2: conv1.weight is given twice"),
        ("conv1.weight FIXED 6 1 2", 'formats.txt:1: "FIXED 6 1 2" is not a number format'),
        ("conv9.weight FIXED 6", "no tensor is named 'conv9.weight'"),
        ("conv1.weight FIXED 6\nconv1.w FIXED 7", "conv1.weight and conv1.w are the same tensor"),
        (b"\xff\xfe\x00", "formats.txt: cannot be read as a file of formats"),
    ],
)
def test_a_malformed_file_of_formats(text: str | bytes, first: str, place: Path, refused: Refused) -> None:
    write(place / "formats.txt", text)
    for arguments in (command("compile", "tiny.onnx"), command("score", "tiny.onnx")):
        assert refused(*arguments, "--formats", "formats.txt").first.startswith(f"error: {first}")


def test_a_file_of_formats_that_is_not_there(refused: Refused) -> None:
    refusal = refused(*command("compile", "tiny.onnx"), "--formats", "nowhere.txt")
    assert refusal.first == "error: nowhere.txt: cannot be read as a file of formats (No such file or directory)"
    assert refusal.help == 'give a file, or a format for all such as "FIXED 8"'


@pytest.mark.parametrize("format", ["FLOAT<20,E=9>", "FIXED 33"])
def test_formats_without_an_engine(format: str, refused: Refused) -> None:
    refusal = refused(*command("compile", "tiny.onnx"), "--formats", format)
    assert refusal.first.startswith("error: input %x is ")
    assert "engines take FIXED and UFIXED" in refusal.first
    assert refusal.help == 'choose formats with --formats "FIXED 8"'


@pytest.mark.parametrize("format", ["FLOAT<20,E=9>", "UFIXED 8"])
def test_weights_without_an_engine(format: str, place: Path, refused: Refused) -> None:
    write(place / "formats.txt", f"conv1.weight {format}\n")
    refusal = refused(*command("compile", "tiny.onnx"), "--formats", "formats.txt")
    assert refusal.first.startswith('error: %conv1 (Conv "conv1"): weights of ')
    assert "have no engine" in refusal.first
    assert "there are F" in refusal.first
    assert refusal.lines[1].startswith("  %conv1 = conv2d(")


def test_formats_and_a_tolerance(refused: Refused) -> None:
    refusal = refused(
        *command("compile", "tiny.onnx"), "--data", "good.npz", "--formats", "FIXED 8", "--tolerance", "1%"
    )  # fmt: skip
    assert refusal.first == "error: formats are given or searched for, not both"
    assert refusal.help == "leave out --formats or --tolerance"


def test_a_tolerance_without_data(refused: Refused) -> None:
    refusal = refused(*command("compile", "tiny.onnx"), "--tolerance", "1%")
    assert refusal.first == "error: a tolerance needs labelled data to measure accuracy on"
    assert refusal.help == "give --data"


def test_a_tolerance_that_cannot_be_met(place: Path, refused: Refused) -> None:
    """What decides is a small difference of large inputs: 16 bits do not hold it."""
    write(place / "fine.ir", dense(2, 2).replace("00000003", "[1.0,-1.0,-1.0,1.0]"))
    small = np.resize([0.001, -0.001], 40)
    np.savez(place / "fine.npz", x=np.stack([1000 + small, np.full(40, 1000)], 1), y=(small < 0).astype(int))
    refusal = refused(*command("compile", "fine.ir"), "--data", "fine.npz", "--tolerance", "1%")
    assert refusal.first == "error: no formats of up to 16 bits keep 99.00% of the accuracy 1.0000"
    assert refusal.help == "allow a larger tolerance"
