"""Every command, run in this process on a network of two layers, and on the LeNet-5 where it is about that one."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest

import bitwright
from bitwright.cli import main
from bitwright.cli.list_command import KINDS
from bitwright.ir import edit
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Tensor
from bitwright.passes import Context, Pass
from bitwright.passes.table import PASSES

LENET = Path(__file__).parents[1] / "models" / "lenet5.onnx"
LAYERS = ["image", "conv1", "conv1.pool", "conv3", "conv3.pool", "conv5", "fc6", "fc7", "logits"]

TINY = (Path(__file__).parent / "tiny.ir").read_text()
GATED = TINY.replace("relu(%conv1)", "onnx.Sigmoid(%conv1)")
HUGE = """\
graph @huge {
  input %x : f32[N,2000]
  weight %w = 00000003 : f32[1000,2000]
  %fc1 = dense(%x, %w) : f32[N,1000]
  output %fc1
}
"""


@dataclass(frozen=True)
class Result:
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main.run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


@dataclass(frozen=True)
class Network:
    """The tiny network as files, and data that it gets all right in float."""

    onnx: Path
    data: Path
    x: np.ndarray
    """The test split."""
    y: np.ndarray


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Network:
    place = tmp_path_factory.mktemp("tiny")
    graph = bitwright.load(save(TINY, place / "tiny.onnx"))
    x = np.random.default_rng(6).uniform(-1, 1, (120, 1, 6, 6)).astype(np.float32)
    y = bitwright.simulate(graph, x)["scores"].argmax(1)
    np.savez(place / "split.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return Network(place / "tiny.onnx", place / "split.npz", x[60:], y[60:])


@pytest.fixture(scope="session")
def built(tiny: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the tiny network in FIXED 6."""
    folder = tmp_path_factory.mktemp("built") / "tiny"
    bitwright.compile(tiny.onnx, "pynq", data=str(tiny.data), formats="FIXED 6", out=folder)
    return folder


@pytest.fixture(scope="session")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The output folder of the first command of the README, and what it said."""
    folder = tmp_path_factory.mktemp("lenet") / "lenet5"
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(["compile", str(LENET), "--target", "pynq", "--data", "mnist", "-o", str(folder)])
    return folder, Result(code, out.getvalue(), err.getvalue())


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def save(text: str, path: Path) -> Path:
    """A network with made-up weights as an .onnx that holds them, whose nodes have the names of the text."""
    graph = bitwright.parse(text)
    bitwright.save(graph, path)
    model = onnx.load(path)
    for proto, node in zip(model.graph.node, graph.nodes, strict=True):
        proto.name = node.name
    onnx.save(model, path)
    return path


def sources(folder: Path) -> dict[str, str]:
    """What was generated, without the first lines, which say from what."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".cpp", ".hpp", ".h", ".txt")]
    return {str(path.relative_to(folder)): path.read_text().split("\n", 1)[1] for path in files}


def cells(line: str) -> list[str]:
    """The cells of a table's row."""
    return re.split(r"\s{2,}", line.strip())


# compile


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
    assert trips[0] == {"stage": "image", "trips": 18}  # 36 pixels, two a beat
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


# check


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


# opt


def test_opt_prints_the_graph_after_the_passes(tiny: Network, run: Run) -> None:
    result = run("opt", tiny.onnx, "--passes", "fuse-activations,fuse-pooling")
    assert (result.code, result.err) == (0, "")
    assert "{act=relu, kernel=[3,3], pool=[2,2]}" in result.out
    assert "relu(" not in result.out
    assert bitwright.diff(bitwright.parse(result.out), bitwright.parse(result.out)) == ""


@pytest.mark.parametrize("suffix", [".onnx", ".ir"])
def test_opt_writes_a_graph_that_computes_the_same(suffix: str, tiny: Network, tmp_path: Path, run: Run) -> None:
    target = tmp_path / f"fused{suffix}"
    result = run("opt", tiny.onnx, "--passes", "fuse-activations,fuse-pooling", "-o", target)
    assert result == Result(0, "", "")
    beside = ["fused.ir", "fused.npz"] if suffix == ".ir" else ["fused.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == beside
    graph = bitwright.load(target)
    expected = bitwright.simulate(bitwright.load(tiny.onnx), tiny.x)["scores"]
    np.testing.assert_allclose(bitwright.simulate(graph, tiny.x)["scores"], expected, atol=1e-6)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(["scores"], {"image": tiny.x})[0], expected, atol=1e-6)


def test_opt_shows_what_each_pass_changed(tiny: Network, tmp_path: Path, run: Run) -> None:
    result = run(
        "opt", tiny.onnx, "--passes", "fuse-activations,fuse-pooling{only=conv1}", "--print-diff", "--dump-after",
        tmp_path / "steps",
    )  # fmt: skip
    assert result.code == 0
    heads = [line for line in result.err.splitlines() if line.startswith("// ")]
    assert [re.sub(r"\(.*\)", "()", head) for head in heads] == [
        "// fuse-activations ()",
        "// fuse-pooling{only=conv1} ()",
    ]
    assert all(re.search(r"\(\d+\.\d ms\)$", head) for head in heads)
    assert any(line.startswith("-") and "relu(" in line for line in result.err.splitlines())
    assert any(line.startswith("+") and "pool=[2,2]" in line for line in result.err.splitlines())
    steps = sorted((tmp_path / "steps").iterdir())
    assert [path.name for path in steps] == ["01-fuse-activations.ir", "02-fuse-pooling.ir"]
    assert steps[-1].read_text() == result.out


def test_opt_measures_on_calibration_data(tiny: Network, run: Run) -> None:
    measured = run("opt", tiny.onnx, "--passes", "annotate-formats", "--data", tiny.data)
    assert (measured.code, measured.err) == (0, "")
    bounded = run("opt", tiny.onnx, "--passes", "annotate-formats")
    assert bounded.err.startswith("note: no data: formats cover every input in [-1, 1]")
    assert "FIXED<8" in bounded.out
    assert measured.out != bounded.out


@pytest.mark.parametrize("style", ["qdq", "qonnx", "fake-quant"])
def test_opt_writes_formats_as_quantisers(style: str, built: Path, tiny: Network, tmp_path: Path, run: Run) -> None:
    target = tmp_path / "quantised.onnx"
    assert run("opt", built, "--passes", "remove-dead", "--as", style, "-o", target) == Result(0, "", "")
    ops = {node.op_type for node in onnx.load(target).graph.node}
    assert ops & {"qdq": {"QuantizeLinear"}, "qonnx": {"Quant"}, "fake-quant": {"Round", "Floor"}}[style]
    expected = bitwright.simulate(bitwright.load(built / "model.ir"), tiny.x)["scores"]
    if style != "qonnx":  # whose op no onnxruntime knows
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(session.run(["scores"], {"image": tiny.x})[0], expected)
    if style != "fake-quant":
        back = tmp_path / "back.ir"
        assert run("opt", target, "--passes", "recognise-quantizers", "-o", back).code == 0
        np.testing.assert_array_equal(bitwright.simulate(bitwright.load(back), tiny.x)["scores"], expected)


# show and diff


def test_show_prints_text_that_parses_back(tiny: Network, built: Path, run: Run) -> None:
    result = run("show", tiny.onnx)
    assert result.code == 0
    assert result.out == bitwright.show(bitwright.load(tiny.onnx))
    assert run("show", built).out == (built / "model.ir").read_text()


def test_show_lists_nodes_for_programs(built: Path, run: Run) -> None:
    found = json.loads(run("show", built, "--json").out)
    assert found["name"] == "tiny"
    assert list(found["inputs"]) == ["image"]
    assert found["inputs"]["image"].startswith("FIXED<6")
    assert list(found["outputs"]) == ["scores"]
    assert [(node["name"], node["op"], node["operands"][0]) for node in found["nodes"]] == [
        ("conv1", "conv2d", "image"),
        ("flat", "flatten", "conv1"),
        ("fc2", "dense", "flat"),
    ]


def test_diff_finds_networks_the_same_whatever_their_names(tiny: Network, tmp_path: Path, run: Run) -> None:
    graph = bitwright.load(tiny.onnx)
    edit.rename(graph, graph.values["conv1"], "first")
    bitwright.save(graph, tmp_path / "renamed.ir")
    assert run("diff", tiny.onnx, tmp_path / "renamed.ir") == Result(0, "", "")
    assert json.loads(run("diff", tiny.onnx, tiny.onnx, "--json").out) == {"same": True, "changes": []}


def test_diff_prints_what_differs(tiny: Network, built: Path, tmp_path: Path, run: Run) -> None:
    other = save(TINY.replace("strides=[2,2]", "strides=[1,1]").replace("2,2,2]", "2,3,3]")
                 .replace("N,8", "N,18").replace("3,8", "3,18"), tmp_path / "other.onnx")  # fmt: skip
    result = run("diff", tiny.onnx, other)
    assert result.code == 1
    assert any(line.startswith("-") and "maxpool2d" in line for line in result.lines)
    assert any(line.startswith("+") and "maxpool2d" in line for line in result.lines)
    found = json.loads(run("diff", tiny.onnx, other, "--json").out)
    assert found == {"same": False, "changes": result.lines}
    assert run("diff", tiny.onnx, built).code == 1
    assert run("diff", built, built / "model.ir").code == 0


# score


def test_score_measures_float_and_formats(tiny: Network, built: Path, run: Run) -> None:
    assert run("score", tiny.onnx, "--data", tiny.data) == Result(
        0, "top1 1.0000 on 60 samples (float32 arithmetic)\n", ""
    )
    result = run("score", tiny.onnx, "--data", tiny.data, "--formats", "FIXED 6")
    found = re.fullmatch(r"top1 (\d\.\d{4}) on 60 samples \(exact arithmetic\)\n", result.out)
    assert found
    assert float(found[1]) > 0.8
    assert run("score", built, "--data", tiny.data).out == result.out
    assert run("score", built / "model.ir", "--data", tiny.data).out == result.out
    report = json.loads((built / "report.json").read_text())
    assert report["accuracy"]["value"] == pytest.approx(float(found[1]), abs=1e-4)


def test_score_takes_formats_from_a_file(tiny: Network, tmp_path: Path, run: Run) -> None:
    file = write(tmp_path / "formats.txt", "conv1.weight FIXED 2 3\nfc2.weight EXP 2\n")
    result = run("score", tiny.onnx, "--data", tiny.data, "--formats", file, "--json")
    found = json.loads(result.out)
    assert found["value"] < 1
    assert found["exact"] is False


@pytest.mark.parametrize("limit", [1, 7])
def test_score_takes_the_first_samples(limit: int, tiny: Network, run: Run) -> None:
    result = run("score", tiny.onnx, "--data", tiny.data, "--limit", limit, "--json")
    assert json.loads(result.out) == {"metric": "top1", "value": 1.0, "samples": limit, "exact": False}


def test_score_agrees_with_the_float_network(tiny: Network, built: Path, tmp_path: Path, run: Run) -> None:
    """Agreement is with the network in float, also when the formats are the model's own."""
    np.savez(tmp_path / "x.npz", x=tiny.x)  # needs no labels
    values = {}
    for name, arguments in {
        "float": [tiny.onnx],
        "given": [tiny.onnx, "--formats", "FIXED 3"],
        "own": [built],
        "other": [built, "--formats", "FIXED 16"],
    }.items():
        result = run("score", *arguments, "--data", tmp_path / "x.npz", "--metric", "agreement", "--json")
        found = json.loads(result.out)
        assert (found["metric"], found["samples"]) == ("agreement", 60)
        values[name] = found["value"]
    assert values["float"] == 1
    assert values["given"] < 1
    top1 = json.loads(run("score", built, "--data", tiny.data, "--json").out)["value"]
    assert values["own"] == pytest.approx(top1)  # the labels are the float network's decisions
    assert values["other"] == 1


def test_score_knows_more_metrics(tiny: Network, tmp_path: Path, run: Run) -> None:
    def metric(name: str) -> Result:
        return run("score", tiny.onnx, "--data", tiny.data, "--metric", name)

    assert metric("top5").out == "top5 1.0000 on 60 samples (float32 arithmetic)\n"
    own = write(
        tmp_path / "own.py", "def margin(scores, labels):\n    return len(labels) + (scores.shape == (60, 3))\n"
    )
    assert metric(f"{own}:margin").out == "margin 61.0000 on 60 samples (float32 arithmetic)\n"


# csim


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
    assert [row[:2] for row in rows[:3]] == [["%image", "read_axis"], ["%conv1", "window2d"], ["%conv1", "matvec"]]
    assert rows[0][2:] == ["18", "18"]  # two of 36 pixels a beat
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
    assert found[2] == {"stage": "conv1", "process": "matvec", "counted": found[2]["estimated"] - 1} | {
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


# list, help and the way in


def test_every_kind_is_listed(run: Run) -> None:
    expected = {
        "algorithms": ["whittle", "libnumber", "random"],
        "boards": ["pynq-z2", "zcu104", "arty-a7-35t"],
        "datasets": ["mnist"],
        "formats": ["FIXED N [B]", "HALF"],
        "metrics": ["top1", "top5", "agreement"],
        "models": ["lenet5.onnx"],
        "objectives": ["bits", "energy", "latency", "interval"],
        "passes": ["fuse-batchnorm", "annotate-formats", "normalise"],
        "platforms": ["paper", "full", "file.py:NAME"],
    }
    assert expected.keys() == KINDS.keys()
    for kind, names in expected.items():
        result = run("list", kind)
        assert result.code == 0
        rows = [cells(line)[0] for line in result.lines[1:] if not line.startswith(" ")]
        assert set(names) <= set(rows), kind
        found = json.loads(run("list", kind, "--json").out)
        first = next(iter(found[0]))
        assert [row[first] for row in found] == rows, kind
        assert all(row.keys() == found[0].keys() for row in found)


def test_every_pass_is_listed_with_what_it_does(run: Run) -> None:
    rows = json.loads(run("list", "passes", "--json").out)
    assert {row["pass"] for row in rows} >= set(PASSES)
    assert all(len(row["what it does"]) > 10 for row in rows)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], *([name, "--help"] for name in main.COMMANDS)])
def test_help_is_there(arguments: Sequence[str], run: Run) -> None:
    result = run(*arguments)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: bitwright ")


def test_names_that_a_terminal_cannot_show_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "named.ir"
    model.write_text(TINY.replace("fc2", "größe"), "utf-8")
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    with pytest.raises(SystemExit) as ended:
        main.main(["check", str(model)])
    assert ended.value.code == 0
    terminal.seek(0)
    assert "gr\\xf6\\xdfe  dense" in terminal.read()


def test_the_way_in_ends_with_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"bitwright, version {bitwright.__version__}\n"
    with pytest.raises(SystemExit) as ended:
        main.main(["show", "nothing.onnx"])
    assert ended.value.code == 2
