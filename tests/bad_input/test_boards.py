"""Boards that are malformed, missing or too small."""

from __future__ import annotations

from pathlib import Path

import pytest
from complaints import Refused, dense, write

BOARDS = Path(__file__).parents[2] / "backends" / "hls" / "boards"
pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint


def test_a_design_that_does_not_fit(place: Path, refused: Refused) -> None:
    write(place / "huge.ir", dense(1000, 2000))
    refusal = refused("compile", "huge.ir", "--target", "arty-a7-35t", "-o", "out", lines=6)
    assert refusal.first.startswith("error: the design does not fit arty-a7-35t at 80%, even at its smallest")
    (row,) = [line.split() for line in refusal.lines if line.startswith("  BRAM18")]
    assert int(row[1]) > 80
    assert row[3] == "80"
    assert "%fc1 weighs most" in refusal.help


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ('name = "pynq-z2"', 'name = "pynq-z2', "mine.toml: not a TOML file: "),
        ("dsp = 220\n", "", "mine.toml: the key 'dsp' is missing"),
        ("lut = 53_200", "lut = -1", "mine.toml: lut must be a whole number, 0 or more, not -1"),
        ("clock_mhz = 100", 'clock_mhz = "fast"', "mine.toml: clock_mhz must be a number of MHz above 0, not 'fast'"),
        ("clock_mhz = 100", "clock_mhz = 0.25", "a clock of 0.25 MHz is not from 1 to 1000 MHz"),
        ("dsp = 220", "dsps = 220", "mine.toml: unknown key 'dsps'"),
    ],
)
def test_a_malformed_board_of_the_users(old: str, new: str, first: str, place: Path, refused: Refused) -> None:
    text = (BOARDS / "pynq-z2.toml").read_text()
    assert old in text
    write(place / "mine.toml", text.replace(old, new))
    refusal = refused("compile", "tiny.onnx", "--target", "mine.toml", "-o", "out")
    assert refusal.first.startswith(f"error: {first}")


def test_a_board_file_that_is_not_there(refused: Refused) -> None:
    first = refused("compile", "tiny.onnx", "--target", "nowhere.toml").first
    assert first == "error: cannot read the board file nowhere.toml: No such file or directory"
