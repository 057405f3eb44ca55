"""Data, labels and metrics that do not fit the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from complaints import Refused, command, write

pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint


def test_data_of_the_wrong_shape(place: Path, refused: Refused) -> None:
    np.savez(place / "flat.npz", x=np.zeros((4, 36)), y=np.zeros(4))
    expected = 'error: input "x" has shape [4, 36], the model takes f32[N,1,6,6]'
    for arguments in (
        [*command("compile", "tiny.onnx"), "--data", "flat.npz"],
        ["score", "tiny.onnx", "--data", "flat.npz"],
        ["score", "tiny.onnx", "--data", "flat.npz", "--formats", "FIXED 8"],
        ["opt", "tiny.onnx", "--passes", "annotate-formats", "--data", "flat.npz"],
    ):
        assert refused(*arguments).lines == [expected]


def test_data_that_are_not_finite(place: Path, refused: Refused) -> None:
    x = np.zeros((9, 1, 6, 6))
    x[5, 0, 1, 1] = np.nan
    np.savez(place / "bad.npz", x=x, y=np.zeros(9))
    expected = "error: bad.npz: x has NaN or infinity in 1 of 9 samples, the first is sample 5"
    for arguments in (command("compile", "tiny.onnx"), ["score", "tiny.onnx"]):
        assert refused(*arguments, "--data", "bad.npz").first == expected


def test_labels_that_are_missing_or_no_classes(place: Path, refused: Refused) -> None:
    x = np.zeros((3, 1, 6, 6))
    np.savez(place / "unlabelled.npz", x=x)
    np.savez(place / "beyond.npz", x=x, y=[0, 1, 3])
    refusal = refused("score", "tiny.onnx", "--data", "unlabelled.npz")
    assert refusal.lines == [
        "error: top1 needs labels, and the data have none",
        "  help: --metric agreement needs none",
    ]
    expected = "error: labels run from 0 to 3, the network has 3 classes"
    assert refused("score", "tiny.onnx", "--data", "beyond.npz").first == expected
    assert refused(*command("compile", "tiny.onnx"), "--data", "beyond.npz").first == expected
    refusal = refused(*command("compile", "tiny.onnx"), "--data", "unlabelled.npz", "--tolerance", "1%")
    assert refusal.first == "error: a tolerance needs labels, and the data have none"


@pytest.mark.parametrize(
    ("code", "first"),
    [
        ("def own(scores, labels): raise KeyError('k')", "own.py: own() raised KeyError: 'k'"),
        ("def own(scores, labels): return 'high'", "own.py: own() gave 'high', which is no number"),
        ("def other(scores, labels): return 1", "own.py: no function own"),
        ("def own(scores, labels:", "own.py: importing it raised SyntaxError: "),
        ("import no_such_module", "own.py: importing it raised ModuleNotFoundError: "),
        (None, "own.py: no such file"),
    ],
)
def test_a_metric_that_does_not_work(code: str | None, first: str, place: Path, refused: Refused) -> None:
    if code is not None:
        write(place / "own.py", code)
    refusal = refused("score", "tiny.onnx", "--data", "good.npz", "--metric", "own.py:own")
    assert refusal.first.startswith(f"error: {first}")
