"""bitwright csim: the generated sources against the simulation, layer by layer."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import Network, Result, Run, cells

import bitwright


@pytest.mark.parametrize("formats", ["FLOAT 16", "AFFINE 8"])
def test_csim_says_how_far_float_and_affine_are(formats: str, tiny: Network, tmp_path: Path, run: Run) -> None:
    arguments = ("--target", "pynq", "--data", tiny.data, "--formats", formats, "-o", tmp_path / "made")
    made = run("compile", tiny.onnx, *arguments)
    assert made.code == 0, made.err
    assert "note: FLOAT and AFFINE are compared within a tolerance: `bitwright csim` prints it" in made.out + made.err
    result = run("csim", tmp_path / "made", "--layers")
    assert (result.code, result.err) == (0, "")
    assert "every layer is within one quantum of its format\n" in result.out
    found = re.search(
        r"tiny: all 180 outputs of 60 samples are within the tolerance of ([\d.e-]+): (\d+) are equal, "
        r"the others off by at most ([\d.e-]+) \(the test split of split; native integers\)\n$",
        result.out,
    )
    assert found, result.out
    assert float(found[3]) <= float(found[1])
    assert int(found[2]) > 150
    entry = json.loads(run("csim", tmp_path / "made", "--json").out)
    assert 0 <= entry["largest_error"] <= entry["tolerance"]
    assert json.loads((tmp_path / "made" / "driver" / "network.json").read_text())["input"]["kind"] == "float32"


def test_csim_says_that_all_is_equal(built: Path, run: Run) -> None:
    result = run("csim", built)
    assert result == Result(
        0,
        "tiny: all 180 outputs of 60 samples equal the simulation (the test split of split; native integers)\n",
        "",
    )
    found = json.loads(run("csim", built, "--limit", "5", "--json").out)
    assert found == {
        "samples": 5,
        "data": "the test split of split",
        "differ": 0,
        "ap_types": False,
        "bounded": False,
        "tolerance": 0.0,
        "largest_error": 0.0,
        "layers": [],
        "trips": [],
    }


def test_csim_counts_trips(built: Path, tmp_path: Path, run: Run) -> None:
    result = run("csim", built, "--trips", "--limit", "3")
    assert result.code == 0
    columns, *rows = [cells(line) for line in result.lines[:-2]]
    assert columns == ["stage", "process", "counted", "estimated"]
    steps = [["%image", "read_axis"], ["%conv1", "window2d"], ["%conv1", "constant_matvec"]]
    assert [row[:2] for row in rows[:3]] == steps
    assert rows[0][2:] == ["18", "18"]  # 36 numbers, two a beat
    assert all(row[2] == row[3] for row in rows)
    assert result.lines[-2] == "every process makes the trips of the estimate"
    wrong = tmp_path / "wrong"
    shutil.copytree(built, wrong)
    report = json.loads((wrong / "report.json").read_text())
    report["trips"][2]["trips"] += 1
    (wrong / "report.json").write_text(json.dumps(report))
    result = run("csim", wrong, "--trips", "--limit", "3")
    assert (result.code, result.lines[-2]) == (1, "%conv1 does not make the trips of the estimate")
    found = json.loads(run("csim", wrong, "--trips", "--limit", "3", "--json").out)["trips"]
    assert found[2] == {"stage": "conv1", "process": "constant_matvec", "counted": found[2]["estimated"] - 1} | {
        "estimated": report["trips"][2]["trips"]
    }


def test_csim_refuses_trips_that_it_cannot_count(built: Path, tmp_path: Path, run: Run) -> None:
    assert "not with bounded FIFOs" in run("csim", built, "--trips", "--bounded").err
    old = tmp_path / "old"
    shutil.copytree(built, old)
    report = json.loads((old / "report.json").read_text())
    del report["trips"]
    (old / "report.json").write_text(json.dumps(report))
    result = run("csim", old, "--trips")
    assert result.code == 2
    assert "compile again: an older version wrote it" in result.err


def test_csim_with_fifos_at_their_depths(built: Path, run: Run) -> None:
    result = run("csim", built, "--bounded", "--limit", "7")
    how = "the test split of split; native integers, FIFOs at their depths"
    assert result == Result(0, f"tiny: all 21 outputs of 7 samples equal the simulation ({how})\n", "")


def test_csim_compares_every_layer(built: Path, run: Run) -> None:
    result = run("csim", built, "--layers")
    assert result.code == 0
    columns, *rows = [cells(line) for line in result.lines[:-2]]
    assert columns == ["layer", "values", "differ", "saturated", "first difference"]
    assert [row[:3] for row in rows] == [
        ["image", "2,160", "0"],
        ["conv1", "1,920", "0"],
        ["conv1.pool", "480", "0"],
        ["fc2", "180", "0"],
    ]
    assert result.lines[-2] == "every layer is equal"
    found = json.loads(run("csim", built, "--layers", "--json").out)
    assert [layer["name"] for layer in found["layers"]] == [row[0] for row in rows]


@pytest.mark.parametrize("name", ["image", "anything"])
def test_csim_runs_a_users_own_data(name: str, tiny: Network, built: Path, tmp_path: Path, run: Run) -> None:
    x = np.random.default_rng(1).normal(0, 2, (1001, 1, 6, 6))  # float64, and beyond the formats' range
    np.savez(tmp_path / "mine.npz", **{name: x})
    result = run("csim", built, "--input", tmp_path / "mine.npz", "--output", tmp_path / "results")
    assert result.code == 0, result.out
    assert "all 3,003 outputs of 1,001 samples equal" in result.out
    with np.load(tmp_path / "results") as arrays:
        assert arrays.files == ["scores"]
        scores = arrays["scores"]
    assert scores.dtype == np.float32
    expected = bitwright.simulate(bitwright.load(built / "model.ir"), x.astype(np.float32))["scores"]
    np.testing.assert_array_equal(scores, expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.npz", "results"]
    assert "of 4 samples" in run("csim", built, "--input", tmp_path / "mine.npz", "--limit", "4").out
    assert "of 1,000 samples" in run("csim", built, "--input", tmp_path / "mine.npz", "--limit", "1000").out


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.bool_])
def test_csim_takes_numbers_of_any_type(dtype: type, built: Path, tmp_path: Path, run: Run) -> None:
    np.savez(tmp_path / "x.npz", image=np.eye(6).astype(dtype)[None, None])
    assert "all 3 outputs of 1 samples equal" in run("csim", built, "--input", tmp_path / "x.npz").out


def test_csim_counts_what_saturates(built: Path, tmp_path: Path, run: Run) -> None:
    np.savez(tmp_path / "x.npz", image=np.full((2, 1, 6, 6), 50.0))
    found = json.loads(run("csim", built, "--input", tmp_path / "x.npz", "--layers", "--json").out)
    assert found["differ"] == 0
    assert sum(layer["saturated"] for layer in found["layers"]) > 0


@pytest.mark.usefixtures("ap_headers")
def test_csim_gives_the_same_bits_with_the_vendors_types(built: Path, run: Run) -> None:
    result = run("csim", built, "--ap-types", "--layers")
    assert result.code == 0
    assert result.lines[-2] == "every layer is equal"
    assert result.lines[-1].endswith("(the test split of split; ap_int)")


def test_csim_finds_the_first_layer_that_differs(tiny: Network, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "out"
    assert run("compile", tiny.onnx, "--target", "pynq", "--data", tiny.data, "-o", folder).code == 0
    _tamper(folder / "src" / "weights" / "fc2.hpp")
    result = run("csim", folder)
    assert result.code == 1
    assert re.fullmatch(
        r"tiny: \d+ of 60 samples differ, first sample \d+ \(the test split of split; native integers\)\n", result.out
    )
    _tamper(folder / "src" / "weights" / "conv1.hpp")
    result = run("csim", folder, "--layers")
    assert result.code == 1
    assert result.lines[-2] == "the first layer that differs is conv1"
    rows = {row[0]: row for row in map(cells, result.lines)}
    assert int(rows["image"][2]) == 0 < int(rows["conv1"][2])
    assert re.fullmatch(r"frame \d+, element \d+: -?\d+, not -?\d+", rows["conv1"][-1])


def _tamper(header: Path) -> None:
    """Put another number in the place of the first weight."""
    text = header.read_text()
    table = re.search(r"=\s*\{[^-\d]*(-?\d+)", text)
    assert table, text
    weight = int(table[1])
    header.write_text(text[: table.start(1)] + str(-weight if weight else 3) + text[table.end(1) :])
