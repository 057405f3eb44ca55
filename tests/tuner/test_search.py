"""Whole searches: killed and resumed, out of time, on halved data, without labels, and what is said of their end."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nearest import SAME, clusters, rows

import bitwright
from bitwright.backends.simulation.score import simulate
from bitwright.cli.main import run
from bitwright.ir.errors import CompileError
from bitwright.ir.files import load
from bitwright.ir.formats.named import FLOAT32
from bitwright.models import datasets
from bitwright.tuner.algorithms import random
from bitwright.tuner.confidence import lower_bound
from bitwright.tuner.database import Evaluation
from bitwright.tuner.outputs import COLUMNS
from bitwright.tuner.problem import Constraint, OutOfTime
from bitwright.tuner.tune import Options, Samples, measured
from bitwright.tuning import split_of, tune

ROOT = Path(__file__).parents[2]
LENET = ROOT / "models" / "lenet5.onnx"
SRC = ROOT / "src"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 digits to search on and 100 others."""
    train, test = datasets.load("mnist", "train", 500), datasets.load("mnist", "test", 100)
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y)  # type: ignore[arg-type]
    return path


@pytest.fixture
def few(tmp_path: Path) -> str:
    """A platform of a few formats."""
    (tmp_path / "few.py").write_text('supported_formats = {"FEW": {"FLOAT": [32], "FIXED": [2, 4, 6, 8], "EXP": [3]}}')
    return str(tmp_path / "few.py")


def stored(folder: Path) -> int:
    """How many accuracies are in the database."""
    if not (folder / "tune.sqlite").exists():
        return 0
    with contextlib.closing(sqlite3.connect(folder / "tune.sqlite")) as connection:
        try:
            return int(connection.execute("select count(*) from evaluations").fetchone()[0])
        except sqlite3.OperationalError:  # there is no table yet
            return 0


# ---- killed and resumed

KILLED = """
import os, signal, sys
source, after = sys.argv.pop(1), int(sys.argv.pop(1))
sys.path.insert(0, source)
from bitwright.cli.main import main
from bitwright.tuner.database import Database
add = Database.add
def add_and_die(database, found):
    add(database, found)
    if database.connection.execute("select count(*) from evaluations").fetchone()[0] == after:
        os.kill(os.getpid(), signal.SIGKILL)
Database.add = add_and_die
main()
"""
"""The command line, killed in the instant in which it has stored so many accuracies."""


@pytest.mark.parametrize(
    ("more", "after"),
    [
        (["--images", "150", "--layers", "conv1,conv3"], 4),
        (
            ["--images", "100", "--algorithm", "libnumber", "--platform", "paper", "--layers", "conv2d"],
            30,
        ),
    ],
    ids=["whittle", "libnumber"],
)
def test_a_killed_search_ends_as_if_it_had_never_stopped(
    tmp_path: Path, digits: Path, more: list[str], after: int
) -> None:
    command = ["tune", str(LENET), "--data", str(digits), "--layerwise", "weights", "--json", *more]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run([*command, "-o", str(whole)]) == 0
    process = subprocess.run([sys.executable, "-c", KILLED, str(SRC), str(after), *command, "-o", str(killed)])
    assert process.returncode == -signal.SIGKILL
    assert stored(killed) == after < stored(whole)
    assert not (killed / "opt_conf.txt").exists()
    assert run([*command, "-o", str(killed), "--resume"]) == 0
    for name in SAME:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert rows(killed) == rows(whole)
    assert tuple(COLUMNS) == ("iteration", "images", "accuracy", "objective", "cost", "seconds", "formats")
    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, killed)]
    for report in reports:
        del report["command"], report["seconds"]
    assert reports[0] == reports[1]
    assert reports[0]["search"]["accuracy"] >= reports[0]["search"]["least"]


def tampered(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "tune.sqlite", isolation_level=None)) as connection:
        changed = connection.execute("update evaluations set accuracy = 0.125 where ordinal = 2").rowcount
    assert changed == 1


def test_without_resume_a_second_run_starts_anew(tmp_path: Path, network: Path, points: Path) -> None:
    command = ["tune", str(network), "--data", str(points), "--algorithm", "ristretto", "--json", "-o"]
    folder = tmp_path / "out"
    assert run([*command, str(folder)]) == 0
    first = rows(folder)
    tampered(folder)
    assert run([*command, str(folder)]) == 0
    assert rows(folder) == first
    tampered(folder)
    assert run([*command, str(folder), "--resume"]) == 0
    assert rows(folder)[1]["accuracy"] == "0.125" != first[1]["accuracy"]


# ---- out of time


@pytest.mark.parametrize("name", ["whittle", "libnumber", "ristretto", "stripes"])
def test_the_best_so_far_stands_when_time_is_over(
    tmp_path: Path, network: Path, points: Path, few: str, name: str
) -> None:
    whole = tune(network, str(points), Options(algorithm=name), platform=few, images=100)
    assert whole.complete
    for count in (1, len(whole.trace) - 2):
        seen = itertools.count(1)

        def say(evaluation: Evaluation, seen: Any = seen, count: int = count) -> None:
            if next(seen) == count:
                raise OutOfTime

        options = Options(algorithm=name, say=say)
        found = tune(network, str(points), options, platform=few, images=100, out=tmp_path / str(count))
        assert not found.complete
        assert found.accuracy >= found.least
        assert all(f == FLOAT32 for f in found.candidate.formats.values()) or found.cost < found.float_cost
        held = [e.objective for e in found.trace if e.images == "full" and e.accuracy >= found.least]
        assert found.cost == min(held) or count == 1  # the threshold was not known yet
        assert (tmp_path / str(count) / "tuned.npz").exists()
        assert len(found.trace) <= count + 2


def test_a_short_budget_still_gives_a_result(tmp_path: Path, network: Path, points: Path, few: str) -> None:
    command = ["tune", str(network), "--data", str(points), "--algorithm", "libnumber", "--platform", few, "--json"]
    command += ["-o", str(tmp_path / "out")]
    assert run([*command, "--budget", "0.01s"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert not report["complete"]
    assert report["search"]["accuracy"] >= report["search"]["least"]
    assert run([*command, "--resume"]) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["complete"]


# ---- the same again


@pytest.mark.parametrize("name", ["whittle", "random"])
def test_the_same_seed_gives_the_same_answer(
    network: Path, points: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "TRIES", 100)
    found = [tune(network, str(points), Options(algorithm=name, seed=seed)) for seed in (5, 5, 6)]
    assert found[0].candidate.key == found[1].candidate.key
    assert [replace(e, seconds=0) for e in found[0].trace] == [replace(e, seconds=0) for e in found[1].trace]
    assert found[0].held_out == found[1].held_out
    assert [e.accuracy for e in found[2].trace] != [e.accuracy for e in found[0].trace]  # of another half


# ---- data


def test_data_without_splits_are_halved(network: Path, points: Path) -> None:
    graph = bitwright.load(network)
    x, _ = clusters(600, 1)
    split = split_of(graph, str(points), 10_000, 0, "top1")
    assert len(split.search.x) == len(split.held_out.x) == 300
    both = np.concatenate([split.search.x, split.held_out.x])
    assert {row.tobytes() for row in both} == {row.tobytes() for row in x}
    assert "one half" in split.note
    fewer = split_of(graph, str(points), 40, 0, "top1")
    assert {row.tobytes() for row in fewer.search.x} < {row.tobytes() for row in split.search.x}
    np.testing.assert_array_equal(fewer.held_out.x, split.held_out.x)
    other = split_of(graph, str(points), 10_000, 1, "top1")
    assert not np.array_equal(other.search.x, split.search.x)
    lookup = {row.tobytes(): label for row, label in zip(x, clusters(600, 1)[1], strict=True)}
    for part in (split.search, split.held_out, fewer.search):
        assert part.y is not None
        assert [lookup[row.tobytes()] for row in part.x] == part.y.tolist()


def test_data_with_splits_are_searched_in_another_order(network: Path, tmp_path: Path) -> None:
    """The training split may be sorted by class: what a search takes first is drawn from all of it."""
    x_train, y_train = clusters(50, 2)
    x_test, y_test = clusters(30, 3)
    np.savez(tmp_path / "both.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    split = split_of(bitwright.load(network), str(tmp_path / "both.npz"), 40, 0, "top1")
    labels = {row.tobytes(): label for row, label in zip(x_train, y_train, strict=True)}
    assert len({row.tobytes() for row in split.search.x}) == 40
    assert split.search.y is not None
    assert [labels[row.tobytes()] for row in split.search.x] == split.search.y.tolist()
    assert not np.array_equal(split.search.x, x_train[:40])
    np.testing.assert_array_equal(split.held_out.x, x_test)
    assert "training split" in split.note


def test_agreement_needs_no_labels(network: Path, tmp_path: Path) -> None:
    x, _ = clusters(300, 4)
    np.savez(tmp_path / "bare.npz", x=x)
    with pytest.raises(CompileError, match="has no labels") as caught:
        tune(network, str(tmp_path / "bare.npz"))
    assert "agreement" in (caught.value.help or "")
    found = tune(network, str(tmp_path / "bare.npz"), Options(algorithm="ristretto"), metric="agreement")
    assert found.reference == 1
    assert found.held_out is not None
    assert found.held_out.float_accuracy == 1
    assert 0.99 <= found.accuracy <= 1
    assert found.cost < found.float_cost


@pytest.mark.parametrize(("labels", "said"), [(lambda y: y + 2, "from 2 to 5"), (lambda y: y - 1, "from -1 to 2")])
def test_labels_without_a_class_are_named(network: Path, tmp_path: Path, labels: Any, said: str) -> None:
    x, y = clusters(300, 4)
    np.savez(tmp_path / "odd.npz", x=x, y=labels(y))
    for name in ("whittle", "libnumber"):
        with pytest.raises(CompileError, match=f"labels run {said}, the network has 4 classes"):
            tune(network, str(tmp_path / "odd.npz"), Options(algorithm=name))


@pytest.mark.parametrize("prune", [False, True])
def test_labels_of_held_out_images_are_checked_before_the_search(network: Path, tmp_path: Path, prune: bool) -> None:
    (x, y), (x_test, _) = clusters(100, 4), clusters(50, 5)
    np.savez(tmp_path / "odd.npz", x_train=x, y_train=y, x_test=x_test, y_test=np.full(50, -1))
    with pytest.raises(CompileError, match="labels run from -1 to -1, the network has 4 classes"):
        tune(network, str(tmp_path / "odd.npz"), prune=prune, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CompileError, match="labels run from -1 to -1, the network has 4 classes"):
        measured(load(network), load(network), Samples(x_test, np.full(50, -1)), 1)


def test_other_metrics(network: Path, points: Path) -> None:
    with pytest.raises(CompileError, match="no metric 'top3' to tune for"):
        tune(network, str(points), metric="top3")
    with pytest.raises(CompileError, match="the 5 highest of 4 scores are always right"):
        tune(network, str(points), Options(algorithm="ristretto"), metric="top5")


@pytest.mark.parametrize("algorithm", ["whittle", "ristretto"])
@pytest.mark.parametrize("is_labelled", [True, False])
def test_a_network_of_one_score_has_two_classes(tmp_path: Path, algorithm: str, is_labelled: bool) -> None:
    rng = np.random.default_rng(0)
    shapes = {"a.weight": (8, 6), "a.bias": (8,), "b.weight": (1, 8)}
    numbers = {name: ",".join(f"{x:.4f}" for x in rng.normal(size=shape).ravel()) for name, shape in shapes.items()}
    weights = "".join(f"weight %{name} = [{numbers[name]}] : f32{list(shape)}\n" for name, shape in shapes.items())
    graph = bitwright.parse(f"""graph @one {{
        input %x : f32[N,6]
        {weights}
        %a = dense(%x, %a.weight, %a.bias) {{act=relu}} : f32[N,8]
        %b = dense(%a, %b.weight) : f32[N,1]
        %p = onnx.Sigmoid(%b) : f32[N,1]
        output %p
    }}""")
    arrays = {f"x_{part}": rng.normal(size=(600, 6)).astype(np.float32) for part in ("train", "test")}
    truth = {part: simulate(graph, arrays[f"x_{part}"], 1)["p"][:, 0] > 0.5 for part in ("train", "test")}
    assert 0.2 < truth["test"].mean() < 0.8
    if is_labelled:
        arrays |= {f"y_{part}": truth[part].astype(np.int64) for part in ("train", "test")}
    np.savez(tmp_path / "points.npz", **arrays)  # type: ignore[arg-type]
    metric = "top1" if is_labelled else "agreement"
    options = Options(algorithm=algorithm, constraint=Constraint(0.05))
    found = tune(graph, str(tmp_path / "points.npz"), options, metric=metric)
    assert found.graph is not None
    assert found.held_out is not None
    score = next(iter(simulate(found.graph, arrays["x_test"], 1).values()))[
        :, 0
    ]  # before the sigmoid, which is left out
    assert found.held_out.right == ((score > 0) == truth["test"]).sum() < 600
    assert found.held_out.accuracy > 0.9
    assert '"p" shows the scores before %p, which is left to the host' in found.notes
    assert found.cost < found.float_cost / 3


# ---- thresholds


def test_a_confidence_is_asked_of_the_lower_bound(network: Path, points: Path) -> None:
    constraint = Constraint(0.05, None, 0.9)
    plain, sure = (
        tune(network, str(points), Options(algorithm="ristretto", constraint=c))
        for c in (replace(constraint, confidence=None), constraint)
    )
    assert sure.least > plain.least == pytest.approx(plain.reference * 0.95, abs=1e-9)
    assert sure.accuracy >= sure.least
    assert lower_bound(round(sure.accuracy * 300), 300, 0.9) >= sure.reference * 0.95
    assert sure.cost >= plain.cost


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize(("tolerance", "is_said"), [(0.03, True), (0.9, False)])
def test_it_is_said_when_the_held_out_images_lose_more(
    network: Path, tmp_path: Path, tolerance: float, is_said: bool, prune: bool
) -> None:
    x, y = clusters(400, 1)  # the ranges that the search chooses are those of x / 4
    np.savez(tmp_path / "points.npz", x_train=x / 4, y_train=y, x_test=x, y_test=y)
    found = tune(network, str(tmp_path / "points.npz"), Options(constraint=Constraint(tolerance)), prune=prune)
    assert found.held_out is not None
    least = (1 - tolerance) * found.held_out.float_accuracy
    assert (found.held_out.accuracy < least) == is_said
    said = [note for note in found.notes if "held-out images" in note]
    assert said == is_said * [
        f"the accuracy on the held-out images is below the {least:.4f} asked for: "
        "search on more images, or with a larger --margin"
    ]


def test_it_is_said_when_nothing_is_accurate_enough(
    network: Path, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", str(network), "--data", str(points), "--algorithm", "ristretto", "--floor", "100%"]
    assert run([*command, "-o", str(tmp_path / "out")]) == 0
    assert "note: nothing found reaches an accuracy of 1.0000; FLOAT 32 itself has 0." in capsys.readouterr().out
