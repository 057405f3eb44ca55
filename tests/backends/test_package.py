"""The output folder: whole or not at all, never in place of something else, of one piece with driver and scripts."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bitwright.backends.hls import package
from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.csim import Port as StreamPort
from bitwright.backends.hls.plan import Plan, plan
from bitwright.backends.hls.stages import stages_of
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text

HLS = Path(package.__file__).resolve().parent
TEXT = """graph @small_net {
  input %x as "image" : UFIXED<7>[N,2,5,4]
  weight %conv.w = 000000d1 : FIXED<6,B={0,1,0}@0>[3,2,2,2]
  weight %conv.b = [0.5,-0.25,0.0] : f32[3]
  %conv = conv2d(%x, %conv.w, %conv.b) {kernel=[2,2], strides=[2,1]} : FIXED<12,B=-1>[N,3,2,3]
  output %conv as "scores"
}
"""


def written(folder: Path, networks: ModuleType, board: str = "pynq-z2", **changes: Any) -> Graph:
    graph = parse(TEXT)
    made = plan(stages_of(graph), load_board(board))
    x = np.random.default_rng(3).uniform(0, 2, (4, 2, 5, 4))
    y = evaluate(graph, {"image": x})["scores"]
    numbers = [value.tensor_type.number for value in (graph.inputs[0], graph.outputs[0].value)]
    golden = [
        number.integers(values).transpose(0, 2, 3, 1).reshape(4, -1)  # type: ignore[union-attr]
        for number, values in zip(numbers, (x, y), strict=True)
    ]
    report = {"network": graph.name, "accuracy": None}
    given = {"folder": folder, "graph": graph, "plan": made, "name": graph.name, "origin": "bitwright test"}
    package.write_package(**(given | {"golden": golden, "report": report, "clock_mhz": 100.0} | changes))
    return graph


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- what is in it ------------------------------------------------------------------------------------------------


def test_the_folder_has_all_that_a_board_needs(networks: ModuleType, tmp_path: Path) -> None:
    graph = written(tmp_path / "out", networks)
    files = set(content(tmp_path / "out"))
    headers = {f"include/bitwright/{path.name}" for path in (HLS / "include" / "bitwright").glob("*.hpp")}
    assert files - headers == {
        *("src/formats.hpp", "src/shapes.hpp", "src/weights/conv.hpp", "src/small_net.hpp", "src/small_net.cpp"),
        *("csim/csim.cpp", "csim/csim.hpp", "csim/hls_stream.h", "csim/hls_fibers.h", "csim/ap_axi_sdata.h"),
        *("tb/testbench.cpp", "tb/golden_input.txt", "tb/golden_output.txt"),
        *("scripts/build.tcl", "scripts/block_design.tcl", "scripts/settings.tcl"),
        *("driver/accelerator.py", "driver/network.json", "model.ir", "model.npz", "report.json"),
        "plan.toml",
    }
    assert headers <= files
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    again = load(tmp_path / "out" / "model.ir")
    key = again.values["conv.w"].tensor.key  # type: ignore[union-attr]
    assert to_text(again) == to_text(graph).replace("000000d1", key)
    np.testing.assert_array_equal(again.values["conv.w"].tensor.data, graph.values["conv.w"].tensor.data)  # type: ignore[union-attr]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report.pop("pragmas")
    assert [entry["stage"] for entry in report.pop("trips")] == ["x", "conv", "conv", "scores"]
    assert report == {"network": "small_net", "accuracy": None}
    vectors = (tmp_path / "out" / "tb" / "golden_output.txt").read_text().splitlines()
    assert [len(line.split()) for line in vectors] == [18] * 4


def test_copied_files_are_the_librarys(networks: ModuleType, tmp_path: Path) -> None:
    written(tmp_path / "out", networks)
    copied = 0
    for folder in ("include/bitwright", "csim", "scripts", "driver"):
        for path in (HLS / folder).iterdir():
            if path.is_file() and path.suffix != ".pyc":
                assert (tmp_path / "out" / folder / path.name).read_bytes() == path.read_bytes(), path
                copied += 1
    assert copied > 15


def test_the_folder_can_be_read_by_others(networks: ModuleType, tmp_path: Path) -> None:
    """It is made in a private folder, but is none."""
    plain = tmp_path / "plain"
    plain.mkdir()
    written(tmp_path / "out", networks)
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")):
        wanted = plain.stat().st_mode & 0o777 if path.is_dir() else plain.stat().st_mode & 0o666
        assert path.stat().st_mode & 0o777 == wanted, path


def test_folders_above_are_made(networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("build") / "deep" / "out", networks)
    assert (tmp_path / "build" / "deep" / "out" / "report.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["build"]
    assert [path.name for path in (tmp_path / "build" / "deep").iterdir()] == ["out"]


# ---- whole or not at all ------------------------------------------------------------------------------------------


def test_a_second_run_replaces_the_first(networks: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(out, networks)
    first = content(out)
    (out / "csim" / "small_net-0123456789abcdef.so").write_text("kept from an earlier run")
    (out / "src" / "weights" / "gone.hpp").write_text("a layer that was there before")
    written(out, networks, report={"second": True})
    second = content(out)
    assert json.loads(second.pop("report.json"))["second"] is True
    assert first.pop("report.json") != second
    assert second == first
    assert list(tmp_path.iterdir()) == [out]


def failing(after: int, error: BaseException) -> Callable[..., None]:
    """As shutil.copyfile, but it fails after so many files."""
    copied = 0

    def copy(source: Path, target: Path) -> None:
        nonlocal copied
        if copied == after:
            raise error
        copied += 1
        target.write_bytes(source.read_bytes())

    return copy


@pytest.mark.parametrize("there_before", [True, False])
@pytest.mark.parametrize("after", [0, 7, 20])
def test_a_failure_leaves_what_was_there(
    there_before: bool, after: int, networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "above" / "out"
    if there_before:
        written(out, networks)
        before = content(out)
    monkeypatch.setattr(shutil, "copyfile", failing(after, OSError(28, "No space left on device")))
    with pytest.raises(CompileError, match=f"^{out} cannot be written: No space left on device$"):
        written(out, networks)
    if there_before:
        assert content(out) == before
        assert list(out.parent.iterdir()) == [out]
    else:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(28, "No space left on device")])
def test_whatever_interrupts_leaves_what_was_there(
    error: BaseException, networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between the two renames, when the old folder is away and the new one not there yet."""
    out = tmp_path / "out"
    written(out, networks)
    before = content(out)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(CompileError if isinstance(error, OSError) else type(error)):
        written(out, networks)
    monkeypatch.undo()
    assert content(out) == before
    assert list(tmp_path.iterdir()) == [out]


def test_an_emitter_that_fails_writes_nothing(
    networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> dict[str, str]:
        raise ZeroDivisionError

    monkeypatch.setattr(package, "emit", fails)
    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "out", networks)
    assert list(tmp_path.iterdir()) == []


# ---- never in place of something else -----------------------------------------------------------------------------


@pytest.mark.parametrize("foreign", [["notes.txt"], ["report.json"], ["driver/network.json"], ["src/a.cpp", "README"]])
def test_a_foreign_folder_is_refused_and_stays(foreign: list[str], networks: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    for name in foreign:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("precious")
    before = content(out)
    message = f"^{out} is not empty and no output of bitwright\n  help: give another folder with -o$"
    with pytest.raises(CompileError, match=message):
        written(out, networks)
    assert content(out) == before
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_is_taken(networks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    written(tmp_path / "out", networks)
    assert (tmp_path / "out" / "report.json").is_file()


def test_a_file_in_the_way_is_refused(networks: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(CompileError, match=f"^{file} is a file\n  help: give a folder with -o$"):
        written(file, networks)
    with pytest.raises(CompileError, match=f"^{file}/out cannot be written: "):
        written(file / "out", networks)
    assert file.read_text() == "precious"


def test_the_folder_one_is_in_is_refused(networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    written(out, networks)
    before = content(out)
    monkeypatch.chdir(out / "src")
    for folder in (out, Path(), Path("..")):
        with pytest.raises(CompileError):
            written(folder, networks)
    assert content(out) == before


@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None,
    reason="root may write anywhere, and there is no setpriv to take that away: apt-get install util-linux",
)
def test_no_permission_is_said(tmp_path: Path) -> None:
    """By a process of its own, which root runs without the right to pass over permissions."""
    (tmp_path / "net.ir").write_text(TEXT)
    (tmp_path / "locked").mkdir(mode=0o500)
    less = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    command = [sys.executable, "-m", "bitwright", "compile", "net.ir", "--target", "pynq", "-o", "locked/out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([*less, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no permission to write" in done.stderr
    assert not list((tmp_path / "locked").iterdir())


def test_a_link_leads_to_the_folder(networks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    written(link, networks)
    assert link.is_symlink()
    assert (tmp_path / "real" / "report.json").is_file()


# ---- of one piece with the driver ---------------------------------------------------------------------------------


def loaded(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def out(networks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "out"
    written(folder, networks)
    return folder


def test_the_driver_packs_what_the_accelerator_takes(out: Path) -> None:
    """Integers of csim's stream, as the driver's bytes; results of csim's stream, as the driver's numbers."""
    driver = loaded(out / "driver" / "accelerator.py", "copied_driver")
    network, folder, _ = driver._network(out / "driver" / "network.json")
    assert folder == out / "driver"
    assert (network["name"], network["bitstream"]) == ("small_net", "small_net.bit")
    into, back = (driver.Port(network[side], side) for side in ("input", "output"))
    ends = [StreamPort.read(network[side]) for side in ("input", "output")]
    assert (into.name, into.shape, into.dtype, into.frame_bytes) == ("image", (2, 5, 4), np.dtype("u1"), 40)
    assert (back.name, back.shape, back.dtype, back.frame_bytes) == ("scores", (3, 2, 3), np.dtype("<i2"), 36)
    graph = parse(TEXT)
    number = graph.inputs[0].tensor_type.number
    x = np.random.default_rng(0).uniform(-1, 3, (6, 2, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(into.pack(x).view(into.dtype), ends[0].to_stream(x, number))  # type: ignore[arg-type]
    integers = np.random.default_rng(1).integers(-2047, 2048, (6, 18))
    raw = integers.astype("<i2").view(np.uint8)
    np.testing.assert_array_equal(back.unpack(raw), ends[1].from_stream(integers))


def test_the_driver_runs_the_accelerator(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From real numbers to real numbers, through the driver and a stand-in for the board, into the C++ and back."""
    stand_in = loaded(Path(__file__).with_name("stand_in.py"), "hls_driver_stand_in")
    driver = loaded(out / "driver" / "accelerator.py", "copied_driver")
    simulated = Accelerator(out, flags=("-O0",))

    def compute(raw: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return simulated.run(raw.view("u1").astype(np.int64)[None])[0].astype("<i2").view(np.uint8)

    monkeypatch.setitem(sys.modules, "pynq", types.SimpleNamespace(allocate=stand_in.allocate, Overlay=None))
    hardware = stand_in.Hardware(compute, 450e-6, 100e-6)
    net = driver.Accelerator(overlay=stand_in.Overlay(hardware), loop=hardware.loop)
    try:
        x = np.random.default_rng(2).uniform(-0.5, 2.5, (9, 2, 5, 4)).astype(np.float32)
        wanted = evaluate(parse(TEXT), {"image": x})["scores"]
        np.testing.assert_array_equal(net.predict(x), wanted)
        np.testing.assert_array_equal(net.predict_naive(x), wanted)
        assert len(np.unique(wanted)) > 50
    finally:
        net.close()


# ---- of one piece with the scripts --------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh to run the Tcl scripts: apt-get install tcl")
@pytest.mark.parametrize("board", ["pynq-z2", "zcu104", "arty-a7-35t"])
def test_the_scripts_run_with_the_settings(board: str, networks: ModuleType, tmp_path: Path) -> None:
    """The shipped Tcl against the stand-ins for the tools: names, widths and files are those of the folder."""
    scripts = loaded(Path(__file__).with_name("test_scripts.py"), "hls_scripts_stand_in")
    folder = tmp_path / "out"
    written(folder, networks, board, clock_mhz=125.0)
    run = scripts.hls(folder)
    assert run.code == 0, run.errors
    assert run.of("set_top") == [("small_net",)]
    assert run.of("set_part") == [(load_board(board).part,)]
    assert run.of("create_clock") == [("-period", "8", "-name", "default")]
    files = [next(word for word in call if word.startswith("/")) for call in run.of("add_files")]
    assert files == [
        str(folder / path)
        for path in ("src/small_net.cpp", "tb/testbench.cpp", "tb/golden_input.txt", "tb/golden_output.txt")
    ]
    assert all(Path(file).is_file() for file in files)
    settings = (folder / "scripts" / "settings.tcl").read_text()
    assert "set in_bits 16\nset out_bits 16\n" in settings
    if load_board(board).processor is None:
        return
    (folder / "hls" / "solution1" / "impl" / "ip").mkdir(parents=True)
    bits = folder / "vivado" / "small_net.runs" / "impl_1"
    bits.mkdir(parents=True)
    (bits / "design_1_wrapper.bit").write_bytes(b"bits")
    handoff = folder / "vivado" / "small_net.gen" / "sources_1" / "bd" / "design_1" / "hw_handoff"
    handoff.mkdir(parents=True)
    (handoff / "design_1.hwh").write_text("<hwh/>")
    design = scripts.vivado(folder)
    assert design.code == 0, design.errors
    dma = design.settings("dma")
    assert dma["c_m_axis_mm2s_tdata_width"] == "16"
    assert dma["c_s_axis_s2mm_tdata_width"] == "16"


@pytest.mark.parametrize(
    ("name", "bits"), [("UFIXED<1>", 8), ("FIXED<8>", 8), ("UFIXED<9>", 16), ("FIXED<17>", 32), ("FIXED<32>", 32)]
)
def test_a_number_travels_in_the_narrowest_container(
    name: str, bits: int, networks: ModuleType, tmp_path: Path
) -> None:
    graph = parse(f"""graph @one {{
      input %x : {name}[N,1,2,4]
      %y = maxpool2d(%x) {{kernel=[1,2]}} : {name}[N,1,2,3]
      output %y
    }}""")
    networks.write(tmp_path / "out", graph, stages_of(graph))
    network = json.loads((tmp_path / "out" / "driver" / "network.json").read_text())
    for side in ("input", "output"):
        entry = network[side]
        number = graph.inputs[0].tensor_type.number
        assert entry["container_bits"] == entry["beat_bits"] == bits
        assert entry["signed"] == name.startswith("FIXED")
        assert entry["range"][1] == number.max_code  # type: ignore[union-attr]
        assert entry["range"][0] == (-entry["range"][1] if entry["signed"] else 0)
        assert entry["order"] == [1, 2, 0]
    assert f"set in_bits {bits}\nset out_bits {bits}\n" in (tmp_path / "out" / "scripts" / "settings.tcl").read_text()


def test_several_numbers_travel_in_a_beat(networks: ModuleType, tmp_path: Path) -> None:
    """Three of them take 32 bits, the next width that a DMA has."""
    graph = parse("""graph @one {
      input %x : FIXED<5>[N,3,2,4]
      %y = maxpool2d(%x) {kernel=[1,2]} : FIXED<5>[N,3,2,3]
      output %y
    }""")
    networks.write(tmp_path / "out", graph, networks.folded(stages_of(graph), lambda _: (1, 1), port=lambda _: (3, 3)))
    network = json.loads((tmp_path / "out" / "driver" / "network.json").read_text())
    for side in ("input", "output"):
        entry = network[side]
        assert (entry["container_bits"], entry["beat_elements"], entry["beat_bits"]) == (8, 3, 32)
    assert "set in_bits 32\nset out_bits 32\n" in (tmp_path / "out" / "scripts" / "settings.tcl").read_text()
    top = next((tmp_path / "out" / "src").glob("*.cpp")).read_text()
    assert "void one(hls::stream<Beat<x_t, 3>>& x, hls::stream<Beat<x_t, 3>>& y" in top


def test_a_plan_is_what_is_written(networks: ModuleType, tmp_path: Path) -> None:
    """The numbers of the folder are those of the plan that was given, whatever its foldings."""
    graph = parse(TEXT)
    stages = networks.folded(stages_of(graph), lambda _: (3, 2))
    networks.write(tmp_path / "out", graph, stages)
    shapes = (tmp_path / "out" / "src" / "shapes.hpp").read_text()
    assert "simd = 2, pe = 3;  // 6 multipliers" in shapes
    made = Plan(tuple(stages), networks.estimate(stages, networks.BOARD), networks.BOARD, 0.8)
    top = (tmp_path / "out" / "src" / "small_net.hpp").read_text()
    assert f"a frame every {made.estimate.interval:,} cycles" in top
