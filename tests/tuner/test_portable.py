"""The portable mode end to end: the examples in C++ and PyTorch through their descriptors, and by the command line."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bitwright
from bitwright.backends.simulation.score import score
from bitwright.cli.main import run
from bitwright.ir.assign import read_formats
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.ir.formats import parse as parse_format
from bitwright.models import datasets
from bitwright.models.lenet5_cpp import export
from bitwright.passes import STRUCTURE, run_passes
from bitwright.tuner.algorithms import libnumber
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.command import CommandJudge, NetworkDescriptor, load_network
from bitwright.tuner.database import Database
from bitwright.tuner.platforms import Platform, load_platform
from bitwright.tuner.problem import Constraint, Problem
from bitwright.tuner.space import uniform, with_aliases
from bitwright.tuner.targets import targets_of
from bitwright.tuner.workers import workers

ROOT = Path(__file__).parents[2]
CPP, TORCH = ROOT / "models" / "lenet5_cpp", ROOT / "models" / "lenet5_torch"
SMALL, FULL = 25, 500

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="needs torch: pip install 'bitwright[train]'"
)


def platform() -> Platform:
    return load_platform(str(CPP / "fpga.py"), "FPGA")


def with_fewer(file: Path, small: int, full: int) -> Path:
    """The descriptor with other numbers of pictures."""
    text = file.read_text()
    assert " 1000 {" in text
    assert " 10000 {" in text
    file.write_text(text.replace(" 1000 {", f" {small} {{").replace(" 10000 {", f" {full} {{"))
    return file


def candidate(descriptor: NetworkDescriptor, text: str) -> Candidate:
    """Every tensor in a kind and width, with covering biases."""
    format = parse_format(text)
    assert isinstance(format, Canonical)
    space = descriptor.space(platform())
    return Candidate(with_aliases(space, uniform(space, format)))


def build_cpp(folder: Path) -> None:
    """The C++ example, its data and its descriptors in a folder."""
    for name in ("net.py", "fpga.py"):
        shutil.copy(CPP / name, folder)
    include = ROOT / "backends" / "hls" / "include"
    source = CPP / "lenet5_number.cpp"
    build = ["g++", "-std=c++17", "-O2", f"-I{include}", str(source), "-o", str(folder / "lenet5_number")]
    subprocess.run(build, check=True)
    export.main([str(folder)])


def copy_torch(place: Path) -> Path:
    """The PyTorch example with what it reads beside it."""
    folder = place / "lenet5_torch"
    shutil.copytree(TORCH, folder)
    for name in ("lenet5.onnx", "data"):
        (place / name).symlink_to(ROOT / "models" / name)
    return folder


def searched(folder: Path, formats: str, algorithm: str) -> tuple[dict[str, object], dict[str, Canonical]]:
    """The report and the formats of `bitwright tune` on the example in a folder, in a space of few formats."""
    (folder / "few.py").write_text(f"supported_formats = {{'FPGA': {formats}}}\n")
    options = ["--platform", str(folder / "few.py"), "--algorithm", algorithm, "-o", str(folder / "out")]
    assert run(["tune", "--network", str(folder / "net.py"), *options]) == 0
    return json.loads((folder / "out" / "report.json").read_text()), read_formats(folder / "out" / "opt_conf.txt")


@pytest.mark.parametrize("folder", [CPP, TORCH], ids=["cpp", "torch"])
def test_the_examples_say_what_the_network_is(folder: Path) -> None:
    graph = run_passes(bitwright.load(ROOT / "models" / "lenet5.onnx"), STRUCTURE)
    descriptor = load_network(folder / "net.py")
    actual = {target.name: target for target in descriptor.targets()}
    expected = targets_of(graph, datasets.load("mnist", "train").x)
    assert set(actual) == {target.name for target in expected}
    for target in expected:
        assert actual[target.name].size == target.size
        assert actual[target.name].max_abs == pytest.approx(target.max_abs, rel=1e-5)
    assert descriptor.space(platform()).size == 41**6
    assert CommandJudge(descriptor).parallel


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")
def test_the_program_in_cpp_is_measured_as_by_hand_and_tuned(tmp_path: Path) -> None:
    build_cpp(tmp_path)
    descriptor = load_network(with_fewer(tmp_path / "net.py", SMALL, 2 * SMALL))
    judge = CommandJudge(descriptor)
    accuracies = []
    for text in ("FLOAT 32", "FIXED 8", "FIXED 2"):
        made = candidate(descriptor, text)
        (tmp_path / "mine.txt").write_text(made.text)
        for full, pictures in ((False, SMALL), (True, 2 * SMALL)):
            command = ["./lenet5_number", "weights.bin", "data.bin", str(pictures), "mine.txt"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
            accuracies.append(judge.accuracy(made, full))
            assert done.stdout == f"Accuracy : {accuracies[-1]:.6f}\n"
    assert accuracies[1] > 0.95
    assert accuracies[-1] < accuracies[1]

    (tmp_path / "net.py").write_text((tmp_path / "net.py").read_text() + "layerwise_opt = 'NONE'\n")
    report, formats = searched(tmp_path, "{'FIXED': [2, 8]}", "exhaustive")
    assert report["search"]["accuracy"] == accuracies[3]  # type: ignore[index]
    assert {format.width for format in formats.values()} == {8}


@needs_torch
def test_a_search_tunes_the_program_in_pytorch(tmp_path: Path) -> None:
    folder = copy_torch(tmp_path)
    file = with_fewer(folder / "net.py", SMALL, FULL)
    file.write_text(file.read_text() + "layerwise_opt = 'NONE'\n")
    report, formats = searched(folder, "{'FIXED': [2, 5]}", "exhaustive")
    graph = run_passes(bitwright.load(ROOT / "models" / "lenet5.onnx"), STRUCTURE)
    digits = datasets.load("mnist", "test", FULL)
    expected = score(graph, digits.x, digits.y, formats).value
    assert report["search"]["accuracy"] == pytest.approx(expected, abs=0.005)  # type: ignore[index]
    assert {format.width for format in formats.values()} == {5}


@needs_torch
def test_the_program_in_pytorch_agrees_with_the_simulation(tmp_path: Path) -> None:
    folder = copy_torch(tmp_path)
    descriptor = load_network(with_fewer(folder / "net.py", SMALL, FULL))
    judge = CommandJudge(descriptor)
    graph = run_passes(bitwright.load(ROOT / "models" / "lenet5.onnx"), STRUCTURE)
    digits = datasets.load("mnist", "test", FULL)
    for text in ("FLOAT 32", "FIXED 8", "EXP 4"):
        made = candidate(descriptor, text)
        expected = score(graph, digits.x, digits.y, made.formats).value
        assert judge.accuracy(made, full=True) == pytest.approx(expected, abs=0.005)
        assert expected > 0.97


@needs_torch
def test_the_roundings_in_pytorch_are_the_formats(tmp_path: Path) -> None:
    import torch

    spec = importlib.util.spec_from_file_location("lenet5_torch", TORCH / "lenet5_torch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rng = np.random.default_rng(5)
    x = (rng.normal(size=2000) * 2.0 ** rng.integers(-12, 6, 2000)).astype(np.float32)
    x = np.concatenate([x, np.array([0, 1, -1, 0.375, 0.75, 1.5, 3, 1e30, -1e30, 1e-30], np.float32)])
    file = tmp_path / "config.txt"
    for text in (
        "FIXED 8",
        "FIXED 8 -3",
        "FIXED 2 1",
        "EXP 4",
        "EXP 6 20",
        "EXP 2 1",
        "FLOAT 8",
        "FLOAT 16",
        "BIN 1 2",
    ):
        file.write_text(f"// formats\n\na.weight   {text} // of a\n")
        actual = module.nearest(torch.from_numpy(x), module.read_config(file)["a.weight"]).numpy()
        np.testing.assert_array_equal(actual, np.asarray(parse_format(text).quantize(x), np.float32), err_msg=text)


@needs_torch
def test_the_program_in_pytorch_refuses_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "config.txt").write_text("a POSIT 8\n")
    command = [sys.executable, str(TORCH / "lenet5_torch.py"), "5", "config.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ValueError: a is POSIT, which is not FLOAT, FIXED, EXP or BIN" in done.stderr


# ---- a whole search, with a program that takes no time

PROGRAM = """
import sys

MOST = {"conv1.weight": 1, "conv2.weight": 3, "conv1.input": 1, "conv2.input": -2}
images, file = sys.argv[1:]
loss = 0.0
for line in open(file):
    name, kind, width, *bias = line.split()
    bias = int(bias[0]) if bias else 0
    if kind == "EXP":
        loss += 0.5
    if kind == "FIXED":  # the finer the step the better, until the largest number does not fit any more
        loss += 0.05 * 2.0 ** -(int(width) + bias) + 0.02 * max(0, bias - MOST[name])
print(f"Accuracy : {max(0.0, 0.99 - loss):.6f} on {images} images")
"""
NET = f"""
platform = "FPGA"
cmd_smallset = "{sys.executable} -S -E program.py 10 {{config}}"
cmd_fullset = "{sys.executable} -S -E program.py 100 {{config}}"
err_margin = 0.01
layer_name = ["conv1", "conv2"]
layerwise_opt = "WEIGHT-ONLY"
wgt_size = [500, 25000]
act_size = [784, 2880]
act_max_abs = [0.996094, 5.05664]
wgt_max_abs = [0.5794976, 0.16474459]
get_result_regex = r"Accuracy : ([0-9.]+) on"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A descriptor and its program."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def test_a_search_drives_a_program(folder: Path) -> None:
    descriptor = load_network(folder / "net.py")
    space, judge = descriptor.space(platform()), CommandJudge(descriptor)
    traces = []
    for jobs in (1, 2):
        database = Database(None, judge.identity())
        with workers(judge, jobs) as found:
            problem = Problem(space, descriptor.objective(), judge, Constraint(descriptor.err_margin), database, found)
            best = libnumber.search(problem)
        assert problem.accuracy(best) >= 0.99 * (1 - descriptor.err_margin)
        assert problem.cost(best) < problem.cost(problem.float32) / 8
        assert all(line.split()[1] == "FIXED" for line in best.text.splitlines())
        traces.append([(one.candidate, one.images, one.accuracy, one.cost) for one in problem.trace])
    assert traces[0] == traces[1]
    assert {(images, cost) for _, images, _, cost in traces[0]} == {("small", 0.1), ("full", 1.0)}


@pytest.mark.parametrize(
    ("fault", "timeout", "message"),
    [
        ("sys.exit('no memory')", 60, 'ended with exit status 1; its last line was "no memory"'),
        ("time.sleep(60)", 5, "was still running when its time was over (5 s)"),
        ("sys.exit()", 60, "it printed nothing at all"),
    ],
)
def test_a_search_goes_on_after_a_program_that_failed(folder: Path, fault: str, timeout: int, message: str) -> None:
    """It ends with the error; once the program is mended, what was measured is not measured again."""
    count = "import sys, time\nlines = sum(1 for _ in open('runs'))\n"
    (folder / "net.py").write_text(NET + f"timeout = {timeout}\n")
    (folder / "program.py").write_text(
        f"{count}if lines > 12:\n    {fault}\n{PROGRAM}\nprint(file=open('runs', 'a'))\n"
    )
    (folder / "runs").touch()
    with pytest.raises(CompileError) as caught:
        search(folder)
    assert message in caught.value.message
    assert _lines(folder / "runs") == 13
    (folder / "program.py").write_text(f"{PROGRAM}\nprint(file=open('runs', 'a'))\n")
    mended = search(folder)
    assert _lines(folder / "runs") == len(mended.trace)


def search(folder: Path) -> Problem:
    """A search whose accuracies are kept in the folder."""
    descriptor = load_network(folder / "net.py")
    judge = CommandJudge(descriptor)
    database = Database(folder / "found.db", judge.identity())
    with workers(judge) as found:
        constraint = Constraint(descriptor.err_margin)
        objective = descriptor.objective()
        problem = Problem(descriptor.space(platform()), objective, judge, constraint, database, found)
        libnumber.search(problem)
    database.close()
    return problem


def _lines(file: Path) -> int:
    return len(file.read_text().splitlines())


# ---- by the command line


def tuned(folder: Path, *more: str) -> int:
    (folder / "fpga.py").write_text((CPP / "fpga.py").read_text())
    files = ["--network", str(folder / "net.py"), "--platform", str(folder / "fpga.py"), "-o", str(folder / "out")]
    return run(["tune", *files, *more])


def test_the_command_line_tunes_a_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuned(folder) == 0
    printed = capsys.readouterr().out
    assert "conv2.weight" in printed
    assert "accuracy 0.9900 -> 0.98" in printed
    (folder / "program.py").write_text("raise SystemExit('it is asked again')")
    assert tuned(folder, "--resume") == 0  # all is known
    assert tuned(folder) == 2


@pytest.mark.parametrize(
    ("program", "timeout", "message"),
    [
        ("raise SystemExit('no memory')", 60, 'ended with exit status 1; its last line was "no memory"'),
        ("import time\ntime.sleep(60)", 1, "was still running when its time was over (1 s)"),
        ("", 60, "it printed nothing at all"),
    ],
)
def test_the_command_line_says_how_a_program_failed(
    folder: Path, capsys: pytest.CaptureFixture[str], program: str, timeout: int, message: str
) -> None:
    (folder / "program.py").write_text(program)
    (folder / "net.py").write_text(NET + f"timeout = {timeout}\n")
    assert tuned(folder) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("error: net.py: cmd_")
    assert message in said[0]
    assert len(said) <= 2


def test_the_command_line_refuses_a_wrong_descriptor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "net.py").write_text(NET + "wgt_size = [1]\n")
    assert tuned(folder) == 2
    assert capsys.readouterr().err.startswith("error: net.py: wgt_size: has 1 elements for 2 layers\n")
