"""Boards: the shipped table, names and aliases, and every mistake a user's own file can hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bitwright.backends.hls.board import Board, boards, load_board
from bitwright.ir.errors import CompileError

# name: part begins with, LUT, FF, BRAM36, URAM, DSP
TABLE = {
    "pynq-z1": ("xc7z020", 53_200, 106_400, 140, 0, 220),
    "pynq-z2": ("xc7z020", 53_200, 106_400, 140, 0, 220),
    "zedboard": ("xc7z020", 53_200, 106_400, 140, 0, 220),
    "arty-a7-35t": ("xc7a35t", 20_800, 41_600, 50, 0, 90),
    "arty-a7-100t": ("xc7a100t", 63_400, 126_800, 135, 0, 240),
    "ultra96": ("xczu3eg", 70_560, 141_120, 216, 0, 360),
    "kv260": ("xck26", 117_120, 234_240, 144, 64, 1_248),
    "zcu104": ("xczu7ev", 230_400, 460_800, 312, 96, 1_728),
    "zcu102": ("xczu9eg", 274_080, 548_160, 912, 0, 2_520),
    "alveo-u200": ("xcu200", 1_182_240, 2_364_480, 2_160, 960, 6_840),
    "alveo-u250": ("xcu250", 1_728_000, 3_456_000, 2_688, 1_280, 12_288),
    "alveo-u280": ("xcu280", 1_303_680, 2_607_360, 2_016, 960, 9_024),
    "ku115": ("xcku115", 663_360, 1_326_720, 2_160, 0, 5_520),
}

MINE = """
name = "mine"
part = "xc7z010clg400-1"
family = "7series"
clock_mhz = 125
lut = 17600
ff = 35200
bram36 = 60
uram = 0
dsp = 80
dsp_kind = "DSP48E1"
"""


def mine(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def refusal(name: str) -> str:
    with pytest.raises(CompileError) as caught:
        load_board(name)
    return str(caught.value)


def test_the_shipped_boards_are_the_table() -> None:
    shipped = {b.name: (b.part, b.lut, b.ff, b.bram36, b.uram, b.dsp) for b in boards()}
    assert set(shipped) == set(TABLE)
    for name, (part, *counts) in TABLE.items():
        assert shipped[name][0].startswith(part)
        assert list(shipped[name][1:]) == counts


def test_names_and_aliases_are_unique_and_all_load() -> None:
    spellings = [spelling for board in boards() for spelling in (board.name, *board.aliases)]
    assert len(spellings) == len(set(spellings))
    for board in boards():
        for spelling in (board.name, *board.aliases, board.name.upper()):
            assert load_board(spelling) is board


def test_every_file_is_named_as_its_board() -> None:
    folder = Path(__file__).parents[2] / "backends" / "hls" / "boards"
    assert sorted(path.stem for path in folder.glob("*.toml")) == sorted(TABLE)
    for path in folder.glob("*.toml"):
        assert load_board(str(path)).name == path.stem


def test_pynq_means_pynq_z2() -> None:
    assert load_board("pynq").name == "pynq-z2"
    assert load_board("pynq").part == "xc7z020clg400-1"
    assert load_board("pynq").clock_ns == 10.0


def test_facts_agree_with_each_other() -> None:
    for board in boards():
        assert (board.dsp_kind == "DSP48E1") == (board.family == "7series")
        assert board.ff == 2 * board.lut
        assert board.driver is None or board.processor is not None
        assert board.processor is None or (board.processor == "zynq7000") == (board.family == "7series")
        assert board.certainty in ("report", "reports", "partly report", "public data", "recalled")
        assert board.board_part is not None
        assert re.fullmatch(r"[\w.]+:[\w-]+:part0:\d\.\d", board.board_part)
    assert {b.name for b in boards() if b.driver == "pynq"} == {
        "pynq-z1", "pynq-z2", "ultra96", "kv260", "zcu104",
    }  # fmt: skip


def test_an_unknown_board_names_close_ones() -> None:
    message = refusal("pynqz2")
    assert "no board is called 'pynqz2'" in message
    assert "pynq-z2" in message
    assert "bitwright list boards" in message
    assert "did you mean" not in refusal("qqqqqqqq")


def test_a_users_file_is_read(tmp_path: Path) -> None:
    assert load_board(mine(tmp_path, MINE)) == Board(
        name="mine", part="xc7z010clg400-1", family="7series", clock_mhz=125.0,
        lut=17600, ff=35200, bram36=60, uram=0, dsp=80, dsp_kind="DSP48E1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dsp = 80\n", "", r"mine\.toml: the key 'dsp' is missing"),
        ("lut = 17600", 'lut = "many"', r"mine\.toml: lut must be a whole number, 0 or more, not 'many'"),
        ("lut = 17600", "lut = true", r"mine\.toml: lut must be a whole number"),
        ("lut = 17600", "lut = -1", r"mine\.toml: lut must be a whole number"),
        ("lut = 17600", "luts = 17600", r"mine\.toml: unknown key 'luts'\n  help: did you mean 'lut'\?"),
        ("clock_mhz = 125", "clock_mhz = 0", r"mine\.toml: clock_mhz must be a number of MHz above 0, not 0"),
        ('"7series"', '"virtex"', r'mine\.toml: family must be "7series" or'),
        ('"DSP48E1"', '"DSP47"', r"mine\.toml: dsp_kind must be"),
        ('name = "mine"', "name = 7", r"mine\.toml: name must be a string"),
        ('part = "xc7z010clg400-1"', 'part = ""', r"mine\.toml: part must be a string that is not empty"),
        ('name = "mine"', 'name = "mine"\naliases = "x"', r"mine\.toml: aliases must be a list of strings"),
        ('name = "mine"', "name = ", r"mine\.toml: not a TOML file: .*line 2"),
        ('name = "mine"', 'name = "mine"\nprocessor = "arm"', r"mine\.toml: processor must be"),
    ],
)
def test_a_mistake_in_a_users_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINE
    assert re.search(message, refusal(mine(tmp_path, MINE.replace(old, new))))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere.toml: No such file" in refusal(str(tmp_path / "nowhere.toml"))
