"""bitwright retrain, from the command line and from Python, and killed half way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bitwright
from bitwright.cli import main
from bitwright.ir.errors import CompileError
from bitwright.models.datasets import load as load_data

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'bitwright[train]'")

from bitwright.train.settings import Settings  # noqa: E402

ROOT = Path(__file__).parents[2]
LENET = ROOT / "models" / "lenet5.onnx"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """550 digits to train on and 300 others, with labels, and a copy without."""
    place = tmp_path_factory.mktemp("digits") / "digits.npz"
    train, test = load_data("mnist", "train", 550), load_data("mnist", "test", 300)
    np.savez(place, x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y)
    np.savez(place.with_name("unlabelled.npz"), x_train=train.x, x_test=test.x)
    return place


def run(*arguments: object) -> int:
    return main.run(["retrain", *map(str, arguments)])


def files(output: Path) -> list[bytes]:
    return [output.read_bytes(), output.with_suffix(".npz").read_bytes()]


def test_a_quantised_network_recovers(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "lenet5.ir"
    assert run(LENET, "--data", digits, "--formats", "FIXED 2", "--epochs", 2, "--json", "-o", out) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metric"] == "top1"
    assert told["samples"] == 300
    assert told["before"] + 0.1 < told["after"] > 0.9
    assert [epoch["epoch"] for epoch in told["epochs"]] == [0, 1, 2]
    assert sorted(path.name for path in out.parent.iterdir()) == ["lenet5.ir", "lenet5.npz"]
    graph = bitwright.load(out)
    test = load_data(str(digits), "test")
    assert bitwright.score(graph, test.x, test.y).value == told["after"]
    assert "FIXED<2" in str(graph)
    assert {"conv1", "conv3", "conv5", "fc6", "fc7"} <= set(graph.values)


def test_a_training_that_gives_nothing_says_what_may(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.ir"
    assert run(LENET, "--data", digits, "--epochs", 1, "--rate", 1, "-o", out) == 0
    told = capsys.readouterr().out
    assert "no epoch is better on held samples: the network is the one that was given\nhelp: a rate below 1 " in told
    before, after = re.search(r"accuracy (\S+) -> (\S+) on 300 samples", told).groups()  # type: ignore[union-attr]
    assert before == after


def test_without_labels_a_teacher_is_needed(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, bare = tmp_path / "out.onnx", digits.with_name("unlabelled.npz")
    pruned = tmp_path / "pruned.ir"
    opt = ["opt", LENET, "--passes", "fold-constants,prune-channels{sparsity=0.5,layer=conv1}", "-o", pruned]
    assert main.run([str(word) for word in opt]) == 0
    assert run(pruned, "--data", bare, "-o", out) == 2
    assert "no labels to learn from\n  help: give the network before pruning" in capsys.readouterr().err
    assert run(pruned, "--data", digits, "--no-labels", "-o", out) == 2
    assert "without labels there is nothing to learn from" in capsys.readouterr().err
    assert not out.exists()
    assert run(pruned, "--data", digits, "--teacher", ROOT / "models" / "mlp_c.onnx", "-o", out) == 2
    assert 'error: the teacher: input "image" has shape ' in capsys.readouterr().err
    assert run(pruned, "--data", bare, "--teacher", LENET, "--epochs", 1, "-o", out) == 0
    said = capsys.readouterr()
    assert "trained on the training split, scored on the test split" in said.out
    assert "agreement 0." in said.out
    assert "epoch   1  loss" in said.err
    assert bitwright.load(out).values["conv1.weight"].tensor.shape == (3, 1, 5, 5)


def test_the_test_split_is_never_trained_on(digits: Path) -> None:
    with np.load(digits) as arrays:
        given = dict(arrays)
    other = digits.with_name("other.npz")
    np.savez(other, **given | {"x_test": given["x_test"][::-1] * 0.5, "y_test": (given["y_test"] + 1) % 10})
    graph = bitwright.retraining.in_formats(bitwright.load(LENET), "FIXED 2", given["x_train"][:64])
    one, two = (bitwright.retrain(graph, str(file), Settings(epochs=1)) for file in (digits, other))
    assert str(one.graph) == str(two.graph)
    assert one.before.value > two.before.value


def test_data_without_splits_are_halved(digits: Path) -> None:
    with np.load(digits) as arrays:
        np.savez(digits.with_name("one.npz"), x=arrays["x_test"], y=arrays["y_test"])
    found = bitwright.retrain(LENET, str(digits.with_name("one.npz")), Settings(epochs=1))
    assert found.after.samples == 150
    assert found.note.endswith("is not split: trained on one half, scored on the other")
    assert found.after.value >= 0.98


@pytest.mark.parametrize("count", [1, 3])
def test_data_too_few_to_halve_are_counted(digits: Path, count: int) -> None:
    with np.load(digits) as arrays:
        np.savez(digits.with_name("few.npz"), x=arrays["x_test"][:count], y=arrays["y_test"][:count])
    with pytest.raises(CompileError, match=rf"has {count} sample\(s\); a training on one half needs 4 at least"):
        bitwright.retrain(LENET, str(digits.with_name("few.npz")), Settings(epochs=1))


@pytest.mark.parametrize("augment", ["flip", "turn"])
def test_pictures_can_be_distorted(digits: Path, augment: str) -> None:
    found = bitwright.retrain(LENET, str(digits), Settings(epochs=1), augment=augment)
    assert found.epochs[1].loss > 0


def test_biases_of_formats_are_learned_if_asked(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def retrain(graph: object, data: str, settings: Settings, **others: object) -> None:
        asked.append(settings)
        raise CompileError("seen")

    monkeypatch.setattr("bitwright.retraining.retrain", retrain)
    for more in ([], ["--learn-biases"]):
        assert run(LENET, "--data", digits, "-o", tmp_path / "x.ir", *more) != 0
    assert asked == [Settings(), Settings(learn_biases=True)]


def test_a_missing_torch_is_one_line(
    digits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bitwright.retraining.importlib.util.find_spec", lambda name: None)
    assert run(LENET, "--data", digits) == 2
    expected = "error: retraining needs torch, which is not installed: pip install 'bitwright[train]'\n"
    assert capsys.readouterr().err == expected


def test_mistakes_are_said_before_anything_is_done(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(LENET, "--data", digits, "-o", "x.txt") == 2
    assert "x.txt: a graph is saved as .ir or .onnx" in capsys.readouterr().err
    assert run(LENET, "--data", "no.npz") == 2
    assert "no.npz: no such file or folder" in capsys.readouterr().err
    assert run(LENET, "--data", digits, "--epochs", 0) == 2
    assert run(LENET, "--data", digits, "--rate", 0) == 2


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch in one thread, as in another process that is told so."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


KILLED = """
import os, signal
from bitwright.cli.main import main
from bitwright.train import checkpoint
write = checkpoint.write
def write_and_die(*state):
    write(*state)
    os.kill(os.getpid(), signal.SIGKILL)
checkpoint.write = write_and_die
main()
"""
"""The command line, killed in the instant in which it has written its first checkpoint."""


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_goes_on_to_the_same_bytes(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def arguments(out: Path) -> list[str]:
        given = ["--data", str(digits), "--formats", "FIXED 3", "--augment", "turn", "--epochs", "3", "-o", str(out)]
        return [str(LENET), *given]

    whole, killed = tmp_path / "whole" / "net.ir", tmp_path / "killed" / "net.ir"
    assert run(*arguments(whole)) == 0

    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, "retrain", *arguments(killed)]
    process = subprocess.run(command, env=environment, capture_output=True)
    assert process.returncode == -signal.SIGKILL
    assert not killed.exists()

    capsys.readouterr()
    assert run(*arguments(killed), "--resume") == 0
    said = capsys.readouterr().err
    assert re.match(r"going on after step 8 of 24\n", said)
    assert "epoch   3" in said
    assert "epoch   1" not in said
    assert files(killed) == files(whole)
    assert sorted(path.name for path in killed.parent.iterdir()) == ["net.ir", "net.npz"]
