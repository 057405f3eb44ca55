"""bitwright compile: its report, its formats, its notes and the folder that it writes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from command_line import HUGE, LENET, TINY, Network, Result, Run, cells, save, write

import bitwright
from bitwright.ir import edit
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Tensor
from bitwright.passes import Context, Pass
from bitwright.passes.table import PASSES

LAYERS = ["image", "conv1", "conv1.pool", "conv3", "conv3.pool", "conv5", "fc6", "fc7", "logits"]


def sources(folder: Path) -> dict[str, str]:
    """What was generated, without the first lines, which say from what."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".cpp", ".hpp", ".h", ".txt")]
    return {str(path.relative_to(folder)): path.read_text().split("\n", 1)[1] for path in files}


def test_the_lenet_has_a_row_for_every_layer(lenet: tuple[Path, Result]) -> None:
    folder, result = lenet
    assert (result.code, result.err) == (0, "")
    columns, *rows = [cells(line) for line in result.lines[:-2]]
    assert columns == [
        "layer", "op", "shape", "weights", "result", "folding", "cycles", "LUT", "FF", "BRAM18", "DSP"
    ]  # fmt: skip
    assert [row[0] for row in rows] == [*LAYERS, "total", "pynq-z2"]
    report = json.loads((folder / "report.json").read_text())
    for row, layer in zip(rows, report["layers"], strict=False):
        assert layer["name"] == row[0]
        assert row[-5].replace(",", "") == str(layer["cycles"])
        assert row[-2:] == [str(layer["bram18"]), str(layer["dsp"])]
        assert layer["format"] in row
    by_name = {row[0]: row for row in rows}
    assert by_name["conv3"][1:3] == ["conv", "100 x 16 x 150"]
    assert re.fullmatch(r"pe \d+ simd \d+", by_name["conv3"][5])
    assert by_name["conv1.pool"][1] == "maxpool"
    assert by_name["fc7"][1:3] == ["dense", "1 x 10 x 84"]
    assert by_name["total"][1:] == [f"{report['interval_cycles']:,}", *by_name["total"][2:]]
    assert by_name["pynq-z2"][1:] == ["53,200", "106,400", "280", "220"]
    assert report["resources"]["dsp"] == int(by_name["total"][-1]) <= 220


def test_the_lenet_ends_in_one_line_of_what_it_is_worth(lenet: tuple[Path, Result]) -> None:
    folder, result = lenet
    found = re.fullmatch(
        r"accuracy (0\.\d{4}) -> (0\.\d{4}) on 10,000 test samples; fits pynq-z2; "
        r"estimated a frame every ([\d,]+) cycles, ([\d,]+) frames/s at 100 MHz; written to (.+)",
        result.lines[-1],
    )
    assert found, result.lines[-1]
    before, after = float(found[1]), float(found[2])
    assert before >= 0.989
    assert after >= 0.99 * before
    interval, speed = (int(found[i].replace(",", "")) for i in (3, 4))
    assert speed == pytest.approx(100e6 / interval, abs=1)
    assert found[5] == str(folder)


def test_the_lenets_cpp_equals_the_simulation_on_a_thousand_digits(lenet: tuple[Path, Result], run: Run) -> None:
    result = run("csim", lenet[0])
    assert result == Result(
        0,
        "lenet5: all 10,000 outputs of 1,000 samples equal the simulation (the test split of mnist; native integers)\n",
        "",
    )


def test_json_is_the_report_and_the_folder(tiny: Network, tmp_path: Path, run: Run) -> None:
    result = run("compile", tiny.onnx, "--target", "pynq", "--data", tiny.data, "-o", tmp_path / "out", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert found.pop("folder") == str(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    pragmas, trips = written.pop("pragmas"), written.pop("trips")
    assert written == found | {"data": str(tiny.data), "bitwright": bitwright.__version__}
    assert pragmas
    assert all(entry["pragma"] and entry["reason"] and entry["where"] for entry in pragmas)
    assert trips[0] == {"stage": "image", "trips": 18}  # 36 numbers, two a beat
    assert found["network"] == "tiny"
    assert found["board"] == "pynq-z2"
    assert found["float_accuracy"] == {"metric": "top1", "value": 1.0, "samples": 60, "exact": False}
    assert found["accuracy"]["exact"] is True
    assert [layer["name"] for layer in found["layers"]] == ["image", "conv1", "conv1.pool", "fc2", "scores"]


def test_one_format_is_given_to_all_tensors(tiny: Network, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "out"
    result = run(
        "compile", tiny.onnx, "--target", "pynq", "--data", tiny.data, "--formats", "FIXED 6", "-o", folder
    )  # fmt: skip
    assert result.code == 0
    report = json.loads((folder / "report.json").read_text())
    assert all(layer["format"].startswith("FIXED<6") for layer in report["layers"])
    graph = bitwright.load(folder / "model.ir")
    assert all(str(graph.values[name].type).startswith("FIXED<6") for name in ("image", "conv1", "conv1.w", "fc2.w"))
    assert "FIXED<6" in result.out
    assert "FIXED<8" not in result.out


@pytest.mark.parametrize("name", ["formats.txt", "formats", "a,b{c}.conf"])
def test_a_file_gives_tensors_their_formats(name: str, tiny: Network, tmp_path: Path, run: Run) -> None:
    file = write(tmp_path / name, "# by hand\nconv1.weight FIXED 5 1\n\nfc2.input  FIXED 7 -2   // wide\n")
    folder = tmp_path / "out"
    result = run("compile", tiny.onnx, "--target", "pynq", "--data", tiny.data, "--formats", file, "-o", folder)
    assert result.code == 0, result.err
    assert f"note: tensors that {file} does not name are FIXED 8" in result.lines
    rows = {cells(line)[0]: line for line in result.lines}
    assert "FIXED<5,B=1>" in rows["conv1"]
    assert "FIXED<7,B=-2>" in rows["conv1"]
    assert rows["fc2"].count("FIXED<8") == 2


def test_a_tolerance_finds_few_bits(tiny: Network, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "out"
    result = run("compile", tiny.onnx, "--target", "pynq", "--data", tiny.data, "--tolerance", "5%", "-o", folder)
    assert result.code == 0
    notes = [line for line in result.lines if line.startswith("note: formats of ")]
    assert len(notes) == 1
    found = re.fullmatch(
        r"note: formats of (\d+\.\d) times fewer bits than FLOAT 32, accuracy (\d\.\d{4}) on the 60 training samples "
        r"they were searched on; `bitwright tune` says more", notes[0]
    )  # fmt: skip
    assert found
    assert float(found[1]) > 5
    assert float(found[2]) >= 0.95
    report = json.loads((folder / "report.json").read_text())
    widths = [int(re.findall(r"<(\d+)", layer["weights"])[0]) for layer in report["layers"] if layer["weights"]]
    assert widths
    assert max(widths) < 8


def test_it_is_said_when_the_test_samples_lose_more(tiny: Network, tmp_path: Path, run: Run) -> None:
    data = tmp_path / "apart.npz"  # what the search chose its ranges on is smaller
    np.savez(data, x_train=tiny.x / 16, y_train=tiny.y, x_test=tiny.x, y_test=tiny.y)
    result = run("compile", tiny.onnx, "--target", "pynq", "--data", data, "--tolerance", "5%", "-o", tmp_path / "out")
    assert result.code == 0
    said = re.search(r"note: the accuracy on the test samples is below the (0\.\d{4}) asked for: give more", result.out)
    reached = re.search(r"accuracy (\d\.\d{4}) -> (\d\.\d{4}) on", result.lines[-1])
    assert said
    assert reached
    assert float(reached[2]) < float(said[1]) == pytest.approx(0.95 * float(reached[1]), abs=1e-4)


def _only_train(tiny: Network, place: Path) -> str:
    with np.load(tiny.data) as arrays:
        np.savez(place / "train.npz", x=arrays["x_train"], y=arrays["y_train"])
    return str(place / "train.npz")


def test_more_passes_run_before_formats_are_chosen(
    tiny: Network, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Negate(Pass):
        """Turn the sign of a weight."""

        name: ClassVar[str] = "negate"
        weight: str = "fc2.w"

        def run(self, graph: Graph, context: Context) -> bool:
            tensor = graph.values[self.weight].tensor
            assert tensor is not None
            edit.set_tensor(graph.values[self.weight], Tensor(-tensor.data))
            return True

    monkeypatch.setitem(PASSES, "negate", Negate)
    folder = tmp_path / "out"
    result = run("compile", tiny.onnx, "--target", "pynq", "--passes", "negate,negate{weight=conv1.w}", "-o", folder)
    assert result.code == 0, result.err
    before, after = bitwright.load(tiny.onnx), bitwright.load(folder / "model.ir")
    for name in ("conv1.w", "fc2.w"):
        old, new = before.values[name].tensor, after.values[name].tensor
        assert old is not None
        assert new is not None
        np.testing.assert_array_equal(new.data, -old.data)


def test_the_clock_goes_into_the_scripts_and_the_estimate(tiny: Network, tmp_path: Path, run: Run) -> None:
    result = run("compile", tiny.onnx, "--target", "pynq", "--clock-mhz", "62.5", "-o", tmp_path / "out")
    assert "frames/s at 62.5 MHz" in result.lines[-1]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["clock_mhz"] == 62.5
    assert report["frames_per_second"] == pytest.approx(62.5e6 / report["interval_cycles"], abs=0.1)
    assert re.search(r"clock\w* 16(\.0+)?\b", (tmp_path / "out" / "scripts" / "settings.tcl").read_text())


def test_a_smaller_share_of_the_board_gives_a_slower_design(tmp_path: Path, run: Run) -> None:
    model = save(HUGE.replace("2000", "256").replace("1000", "64"), tmp_path / "dense.onnx")
    intervals = {}
    for share in ("80%", "0.05"):
        found = run(
            "compile", model, "--target", "pynq", "--utilisation", share, "-o", tmp_path / "out", "--json"
        )  # fmt: skip
        report = json.loads(found.out)
        intervals[share] = report["interval_cycles"]
    assert report["resources"]["dsp"] <= 0.05 * 220
    assert report["resources"]["lut"][1] <= 0.05 * 53_200
    assert intervals["0.05"] > intervals["80%"]


def test_without_data_ranges_are_wide_and_the_design_right(tmp_path: Path, run: Run) -> None:
    model = save(TINY.replace('"scores"', '"file"'), tmp_path / "tiny.onnx")
    result = run("compile", model, "--target", "pynq", "-o", tmp_path / "out")
    assert result.code == 0
    assert "note: no data: formats cover every input in [-1, 1], wider than data ask" in result.lines
    assert result.lines[-1].startswith("accuracy not measured (no labelled data); fits pynq-z2; ")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["accuracy"], report["float_accuracy"], report["data"]) == (None, None, None)
    result = run("csim", tmp_path / "out")
    assert result.out == (
        "tiny: all 300 outputs of 100 samples equal the simulation "
        "(random inputs (compiled without data); native integers)\n"
    )
    assert run("csim", tmp_path / "out", "--limit", "120").out.startswith("tiny: all 360 outputs of 120 samples")
    np.savez(tmp_path / "x.npz", np.zeros((2, 1, 6, 6)))
    assert run("csim", tmp_path / "out", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz").code == 0
    with np.load(tmp_path / "y.npz") as arrays:
        assert arrays["file"].shape == (2, 3)  # a name that numpy's own function does not take


def test_text_compiles_to_the_same_sources_as_onnx(tiny: Network, tmp_path: Path, run: Run) -> None:
    bitwright.save(bitwright.load(tiny.onnx), tmp_path / "tiny.ir")
    for model, out in ((tiny.onnx, "a"), (tmp_path / "tiny.ir", "b")):
        assert run("compile", model, "--target", "pynq", "--data", tiny.data, "-o", tmp_path / out).code == 0
    assert sources(tmp_path / "a") == sources(tmp_path / "b")
    assert run("compile", tmp_path / "a", "--target", "pynq", "--data", tiny.data, "-o", tmp_path / "c").code == 0
    assert sources(tmp_path / "a") == sources(tmp_path / "c")


def test_a_second_run_replaces_the_folder(tiny: Network, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "deep" / "out"
    assert run("compile", tiny.onnx, "--target", "pynq", "-o", folder).code == 0
    first = sources(folder)
    write(folder / "src" / "weights" / "stale.hpp", "of another network")
    assert run("compile", tiny.onnx, "--target", "pynq", "--formats", "FIXED 5", "-o", folder).code == 0
    second = sources(folder)
    assert "src/weights/stale.hpp" not in second
    assert second.keys() == first.keys()
    assert second["src/weights/conv1.hpp"] != first["src/weights/conv1.hpp"]
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_an_empty_folder_and_a_link_are_written_into(tiny: Network, tmp_path: Path, run: Run) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for _ in range(2):
        assert run("compile", tiny.onnx, "--target", "pynq", "-o", tmp_path / "link").code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "report.json").is_file()


@pytest.mark.parametrize(
    ("name", "folder"), [("tiny", "tiny"), ("../../up", "up"), ("/etc", "etc"), ("main graph: x", "main_graph_x")]
)
def test_the_default_folder_lies_in_build(
    name: str, folder: str, tiny: Network, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = bitwright.load(tiny.onnx)
    graph.name = name
    bitwright.save(graph, tmp_path / "named.onnx")
    monkeypatch.chdir(tmp_path)
    result = run("compile", "named.onnx", "--target", "pynq")
    assert result.lines[-1].endswith(f"written to build/{folder}")
    assert (tmp_path / "build" / folder / "src" / f"{folder}.cpp").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "named.onnx"]


def test_a_users_board_is_a_file(tiny: Network, tmp_path: Path, run: Run) -> None:
    board = (LENET.parents[1] / "backends" / "hls" / "boards" / "pynq-z2.toml").read_text()
    mine = write(tmp_path / "mine.toml", board.replace('name = "pynq-z2"', 'name = "mine"'))
    result = run("compile", tiny.onnx, "--target", mine, "-o", tmp_path / "out")
    assert "; fits mine; " in result.lines[-1]


def test_notes_say_what_makes_the_figures_worth_less(tiny: Network, tmp_path: Path, run: Run) -> None:
    text = write(tmp_path / "made_up.ir", TINY)
    np.savez(tmp_path / "one.npz", x=tiny.x, y=tiny.y)
    result = run(
        "compile", text, "--target", "pynq", "--data", tmp_path / "one.npz", "--formats", "FIXED 2", "-o",
        tmp_path / "out",
    )  # fmt: skip
    assert [line for line in result.lines if line.startswith("note: ")] == [
        f"note: there is no {tmp_path / 'made_up.npz'}: the weights are made up",
        "note: the data are not split: accuracy is measured on the samples that ranges are chosen on",
        "note: the formats cost much accuracy: try wider ones, or --tolerance",
    ]


def test_unlabelled_data_choose_ranges_only(tiny: Network, tmp_path: Path, run: Run) -> None:
    np.savez(tmp_path / "x.npz", x=tiny.x)
    result = run("compile", tiny.onnx, "--target", "pynq", "--data", tmp_path / "x.npz", "-o", tmp_path / "out")
    assert result.lines[-1].startswith("accuracy not measured (no labelled data); ")
    assert "note:" not in result.out
