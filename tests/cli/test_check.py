"""bitwright check: which ops, and which boards, a network fits."""

from __future__ import annotations

import json
import re
from pathlib import Path

from command_line import HUGE, LENET, TINY, Run, cells, save

GATED = TINY.replace("relu(%conv1)", "onnx.Sigmoid(%conv1)")


def test_check_says_yes_to_every_op_of_the_lenet(run: Run) -> None:
    result = run("check", LENET, "--target", "pynq")
    assert result.code == 0
    rows = [cells(line) for line in result.lines[1:-2]]
    assert [row[0] for row in rows] == ["conv1", "conv3", "conv5", "flatten", "fc6", "fc7"]
    assert rows[0] == ["conv1", "conv2d", 'Conv "conv1"', "yes"]
    assert all(row[-1] == "yes" for row in rows)
    assert re.fullmatch(r"with 8-bit numbers it fits pynq-z2: estimated [\d,]+ frames/s at 100 MHz", result.lines[-2])
    assert result.lines[-1].startswith("all 6 can be built (after the passes ")


def test_check_names_an_unsupported_op_and_the_reason(tmp_path: Path, run: Run) -> None:
    model = save(GATED, tmp_path / "gated.onnx")
    result = run("check", model)
    assert result.code == 1
    row = next(line for line in result.lines if line.startswith("relu1"))
    assert cells(row)[:3] == ["relu1", "onnx.Sigmoid", 'Sigmoid "relu1"']
    assert "no: onnx.Sigmoid has no engine; there are conv2d, dense, maxpool2d" in row
    assert result.lines[-1].startswith("1 of 5 cannot be built; there are engines for conv2d, dense, maxpool2d")
    found = json.loads(run("check", model, "--json").out)
    assert found["possible"] is False
    assert [op["name"] for op in found["ops"] if op["why"]] == ["relu1"]


def test_check_says_which_board_is_too_small(tmp_path: Path, run: Run) -> None:
    model = save(HUGE, tmp_path / "huge.onnx")
    result = run("check", model, "--target", "arty-a7-35t")
    assert result.code == 1
    assert "the design does not fit arty-a7-35t at 80%" in result.out
    assert "BRAM18" in result.out
    assert "help: %fc1 weighs most" in result.out
    assert "cannot be built" not in result.out
    assert run("check", model).code == 0
    assert json.loads(run("check", model, "--target", "arty-a7-35t", "--json").out)["possible"] is False
