"""Platform descriptors: the paper's, bitwright's own, and those of users, right and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.ir.errors import CompileError
from bitwright.ir.formats.text import short
from bitwright.tuner.platforms import BUILT_IN, KINDS, load_platform, platform_of

FIGURE_5 = """
supported_formats = {
    'FPGA': {                                # Platform name
        'FLOAT': [16, 32],                  # FLOAT 16 / 32 bits
        'FIXED': range(2, 33),              # FIXED 2 to 32 bits
        'EXP' : range(2, 10)}}              # EXP 2 to 9 bits
"""


def descriptor(tmp_path: Path, text: str) -> str:
    file = tmp_path / "fpga.py"
    file.write_text(text)
    return str(file)


def test_figure_5_lists_41_formats(tmp_path: Path) -> None:
    found = load_platform(descriptor(tmp_path, FIGURE_5), "FPGA")
    assert found.name == "FPGA"
    assert found.weight == found.input
    assert len(found.weight) == 41
    assert [short(format) for format in found.weight[:4]] == ["FLOAT 16", "FLOAT 32", "FIXED 2", "FIXED 3"]


def test_the_papers_platform_has_the_42_of_table_6() -> None:
    assert len(load_platform("paper").weight) == 42
    assert len(load_platform("paper", "FPGA").input) == 42  # a built-in one has no other name


def test_activations_may_differ_from_weights(tmp_path: Path) -> None:
    text = 'supported_formats = {"A": {"EXP": [4]}, "A.activation": {"FIXED": [8, 4]}, "B": {"BIN": [1]}}'
    found = load_platform(descriptor(tmp_path, text), "A")
    assert [short(format) for format in found.weight] == ["EXP 4"]
    assert [short(format) for format in found.input] == ["FIXED 4", "FIXED 8"]
    assert [short(format) for format in found.formats("input")] == ["FIXED 4", "FIXED 8"]


def test_the_only_platform_needs_no_name() -> None:
    assert platform_of({"GPU.weight": {"FLOAT": [16]}, "GPU.activation": {"FLOAT": [32]}}).name == "GPU"


def test_each_format_is_there_once() -> None:
    found = platform_of({"X": {"BIN": [1], "FIXED": [1, 2, 2], "EXP": [1]}})
    assert [short(format) for format in found.weight] == ["BIN 1", "FIXED 2"]


@given(st.dictionaries(st.sampled_from(KINDS[:3]), st.sets(st.integers(5, 9), min_size=1), min_size=1))
def test_what_is_listed_is_there_by_kind_and_width(kinds: dict[str, set[int]]) -> None:
    found = platform_of({"X": kinds}).weight
    assert [(f.kind, f.width) for f in found] == [(kind, width) for kind in kinds for width in sorted(kinds[kind])]


def test_built_in_platforms_go_by_their_names() -> None:
    assert all(platform.name == name for name, platform in BUILT_IN.items())
    assert all(platform.weight and platform.input for platform in BUILT_IN.values())
    assert not any(format.kind == "UFIXED" for format in BUILT_IN["full"].weight)


@pytest.mark.parametrize(
    ("supported", "name", "message"),
    [
        ({}, None, "supported_formats is empty"),
        ({"A": {"BIN": [1]}, "B": {"BIN": [1]}}, None, "has several platforms"),
        ({"FPGA": {"BIN": [1]}}, "FPGB", "has no platform 'FPGB', did you mean FPGA"),
        ({1: {"BIN": [1]}}, None, "the names of platforms are texts"),
        ({"A": {}}, "A", "lists no formats"),
        ({"A": ["FIXED"]}, "A", "lists no formats"),
        ({"A.weight": {"BIN": [1]}}, "A", "A.activation.*lists no formats"),
        ({"A": {"FIXED": []}}, "A", "lists no widths"),
        ({"A": {"POSIT": [8]}}, "A", "there is no number kind 'POSIT'"),
        ({"A": {"FIXED": 8}}, "A", "FIXED needs a list of widths, not 8"),
        ({"A": {"FIXED": "8"}}, "A", "FIXED needs a list of widths, not '8'"),
        ({"A": {"FIXED": ["8"]}}, "A", "FIXED: '8' is no width"),
        ({"A": {"FIXED": [[8]]}}, "A", r"FIXED: \[8\] is no width"),
        ({"A": {"FIXED": [True]}}, "A", "FIXED: True is no width"),
        ({"A": {"FIXED": [8.0]}}, "A", "FIXED: 8.0 is no width"),
        ({"A": {"FIXED": range(-1, 8)}}, "A", "FIXED: -1 is no width"),
        ({"A": {"FIXED": range(2, 10**12)}}, "A", "FIXED: 65 is no width"),
        ({"A": {"FLOAT": [2]}}, "A", "FLOAT 2 with 2 exponent bits has no fraction bits"),
        ({"A": {"EXP": [20]}}, "A", "do not all fit in a 64-bit float"),
        ({"A": {"BIN": [2]}}, "A", "BIN has 1 bit"),
    ],
)
def test_what_is_no_platform(supported: Any, name: str | None, message: str) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        platform_of(supported, name)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("formats = {}", "has no dictionary supported_formats"),
        ("supported_formats = []", "has no dictionary supported_formats"),
        ("supported_formats = {\n  'A': }", "fpga.py:2: "),
        ("width = 8\nsupported_formats = {'A': {'FIXED': widths}}", "fpga.py:2: running it raised NameError"),
        ("raise SystemExit('no')", "fpga.py:1: running it raised SystemExit: no"),
        ("raise ValueError('one\\ntwo')", "fpga.py:1: running it raised ValueError: one$"),
    ],
)
def test_files_that_are_no_descriptor(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        load_platform(descriptor(tmp_path, text), "A")
    assert caught.match(message)
    assert "\n" not in caught.value.message


def test_a_platform_that_is_neither_built_in_nor_a_file() -> None:
    with pytest.raises(CompileError, match=r"there is no platform 'fpga\.py'"):
        load_platform("fpga.py")
