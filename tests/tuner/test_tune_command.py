"""`bitwright tune` on the command line: what it refuses, what it writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from nearest import SAME, rows

import bitwright
from bitwright.cli.main import run
from bitwright.ir.errors import CompileError
from bitwright.tuner.problem import Constraint
from bitwright.tuner.tune import Options, Tuned
from bitwright.tuning import tune


def tuned(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(["tune", *arguments])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (["--tolerance", "1%"], "its err_margin decides"),
        (["--tolerance", "0.01"], "its err_margin decides"),
        (["--floor", "90%"], "its err_margin decides"),
        (["--confidence", "0.95"], "how many images"),
        (["--objective", "bits"], "its f_obj decides"),
        (["--layerwise", "both"], "its layerwise_opt decides"),
        (["--layers", "conv1"], "its layer_name decides"),
        (["--data", "mnist"], "its commands have their data"),
        (["--metric", "top1"], "its program computes the accuracy"),
        (["--images", "10000"], "its cmd_fullset decides"),
        (["--target", "pynq-z2"], "hardware objectives need the network itself"),
    ],
)
def test_the_descriptor_decides(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: list[str], why: str
) -> None:
    """Also where the value given is the default."""
    code, said = tuned(capsys, "--network", str(tmp_path / "net.py"), "--platform", "paper", *option)
    assert code == 2
    assert f"error: {option[0]} does not go with --network: " in said
    assert why in said
    assert "\n  help: " in said


def test_the_descriptor_decides_in_python_too(tmp_path: Path) -> None:
    from bitwright.tuning import tune_portable

    for constraint in (Constraint(floor=0.9), Constraint(confidence=0.9)):
        with pytest.raises(CompileError, match="does not go with a network descriptor"):
            tune_portable(tmp_path / "net.py", "paper", Options(constraint=constraint), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a MODEL, or a descriptor with --network"),
        (["a.onnx", "--network", "net.py"], "give a MODEL, or a descriptor with --network"),
        (["a.onnx"], "give --data"),
        (["--network", "net.py"], "--network needs --platform"),
        (["a.onnx", "--data", "mnist", "--tolerance", "1%", "--floor", "0.9"], "give --tolerance or --floor, not both"),
        (["a.onnx", "--data", "mnist", "--tolerance", "150%"], "is not between 0% and 100%"),
        (["a.onnx", "--data", "mnist", "--tolerance", "1"], "'1' is 100%, which allows anything; write 1% or 0.01"),
        (["a.onnx", "--data", "mnist", "--budget", "soon"], "'soon' is no duration"),
        (["a.onnx", "--data", "mnist"], "there is no such file"),
    ],
)
def test_what_is_missing_or_contradicts(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, error = tuned(capsys, *arguments)
    assert code == 2
    assert said in error


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--algorithm", "whitle"], "there is no algorithm 'whitle', did you mean whittle?"),
        (["--objective", "bit"], "there is no objective 'bit'"),
        (["--objective", "1.2.3*bits"], "there is no objective '1.2.3*bits'"),
        (["--platform", "papers"], "there is no platform 'papers'"),
        (["--layerwise", "all"], "there is no layer-wise mode 'all'"),
        (["--layers", "turn,conv9"], "no layer is called 'conv9'"),
        (["--metric", "top3"], "there is no metric 'top3'"),
        (["--confidence", "100%"], "300 images cannot show an accuracy"),
    ],
)
def test_what_is_not_known_is_named(
    capsys: pytest.CaptureFixture[str], network: Path, points: Path, tmp_path: Path, option: list[str], said: str
) -> None:
    code, error = tuned(capsys, str(network), "--data", str(points), "-o", str(tmp_path / "out"), *option)
    assert code == 2
    assert f"error: {said}" in error
    assert option[0] == "--confidence" or not (tmp_path / "out").exists()  # which is known only once it was measured


def test_a_search_does_not_write_among_others_files(
    capsys: pytest.CaptureFixture[str], network: Path, points: Path, tmp_path: Path
) -> None:
    command = [str(network), "--data", str(points), "--algorithm", "ristretto", "-o"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    code, error = tuned(capsys, *command, str(tmp_path / "mine"))
    assert code == 2
    assert "mine is not empty and no output of bitwright tune\n  help: give another folder with -o" in error
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    code, error = tuned(capsys, *command, str(tmp_path / "mine" / "notes.txt"))
    assert (code, "notes.txt is a file\n  help: give a folder with -o" in error) == (2, True)
    for _ in range(2):
        assert tuned(capsys, *command, str(tmp_path / "new"))[0] == 0


def test_an_objective_may_be_zero(
    capsys: pytest.CaptureFixture[str], network: Path, points: Path, tmp_path: Path
) -> None:
    command = ["tune", str(network), "--data", str(points), "--algorithm", "ristretto", "--objective", "0*bits"]
    assert run([*command, "-o", str(tmp_path / "out")]) == 0
    assert "objective 0, of FLOAT 32 0;" in capsys.readouterr().out


def test_hardware_is_searched_from_the_floats_engines_on(network: Path, points: Path, tmp_path: Path) -> None:
    command = ["tune", str(network), "--data", str(points), "--objective", "lut", "--algorithm", "ristretto", "--json"]
    assert run([*command, "-o", str(tmp_path / "out")]) == 0
    report: dict[str, Any] = json.loads((tmp_path / "out" / "report.json").read_text())
    assert 0 < report["objective"] < 1e5
    assert report["objective"] < report["float_objective"]
    assert bitwright.load(tmp_path / "out" / "tuned.ir").values["turn.weight"].tensor_type.number is not None


def test_outputs_by_name(network: Path, points: Path, tmp_path: Path) -> None:
    found: Tuned = tune(network, str(points), Options(algorithm="ristretto"), out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"front.csv", "report.json", "trace.csv", "tune.sqlite", *SAME}
    assert (tmp_path / "opt_conf.txt").read_text() == found.candidate.text + "\n"
    assert not list(tmp_path.glob("*.part"))
    trace = rows(tmp_path)
    assert [int(row["iteration"]) for row in trace] == list(range(1, len(found.trace) + 1))
    assert [float(row["accuracy"]) for row in trace] == [e.accuracy for e in found.trace]
    with (tmp_path / "front.csv").open() as stream:
        front = list(csv.DictReader(stream))
    assert [float(row["objective"]) for row in front] == [e.objective for e in found.problem.front]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["formats"]["turn.weight"] == str(found.candidate.formats["turn.weight"])
    assert report["search"]["images"] == 300
    assert report["measurements"] == len(trace)
