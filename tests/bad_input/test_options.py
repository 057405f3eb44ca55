"""Names that do not exist, and values that do not fit an option."""

from __future__ import annotations

import pytest
from complaints import Refused, command

pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint


@pytest.mark.parametrize(
    ("arguments", "first", "way_out"),
    [
        (["compil", "tiny.onnx"], "No such command", "bitwright --help"),
        ([], "Missing command", "bitwright --help"),
        (["compile"], "Missing argument 'MODEL'", "bitwright compile --help"),
        (["compile", "tiny.onnx"], "Missing option '--target'", "bitwright compile --help"),
        (["compile", "tiny.onnx", "--target", "pynq", "--frobnicate"], "--frobnicate", "bitwright compile --help"),
        (["show", "tiny.onnx", "other"], "unexpected extra argument (other)", "bitwright show --help"),
        (["compile", "tiny.onnx", "--target", "pynk"], "no board is called 'pynk'", "did you mean pynq"),
        (["check", "tiny.onnx", "--target", "pynk"], "no board is called 'pynk'", "did you mean pynq"),
        (["opt", "tiny.onnx", "--passes", "fold-constnts"], "there is no pass 'fold-constnts'", "mean fold-constants?"),
        (["opt", "tiny.onnx", "--passes", "fuse-pooling{nly=a}"], "fuse-pooling has no option 'nly'", "only"),
        (["opt", "tiny.onnx", "--passes", "fuse-pooling{only=a"], "is not closed", "write name{option=value"),
        (["compile", "tiny.onnx", "--target", "pynq", "--passes", "x"], "there is no pass 'x'", "list passes"),
        (["compile", "tiny.onnx", "--target", "pynq", "--formats", "FIXD 8"], "no number kind 'FIXD'", "FLOAT, FIXED"),
        (["compile", "tiny.onnx", "--target", "pynq", "--formats", "FIXED"], "not a number format", "KIND width"),
        (["score", "tiny.onnx", "--data", "good.npz", "--formats", "FIXED 8 1 2"], "not a number format", "KIND width"),
        (["score", "tiny.onnx", "--data", "good.npz", "--metric", "top3"], "no metric 'top3'", "agreement, top1, top5"),
        (["score", "tiny.onnx", "--data", "minst"], 'no data set is called "minst"', "built-in name (mnist)"),
        (["compile", "tiny.onnx", "--target", "pynq", "--data", "x/y.npz"], "x/y.npz: no such file", "give an .npz"),
        (["list", "bords"], "'bords' is not one of", "bitwright list --help"),
        (["list"], "Missing argument", "bitwright list --help"),
        (["opt", "tiny.onnx", "--passes", "fuse-pooling{only=a}"], "no conv2d is named 'a'", "they are conv1"),
        (
            ["compile", "tiny.onnx", "--target", "pynq", "--fps", "1e12"],
            "1e+12 frames a second are more",
            "lower --fps",
        ),
    ],
)
def test_names_that_do_not_exist(arguments: list[str], first: str, way_out: str, refused: Refused) -> None:
    refusal = refused(*arguments)
    assert first in refusal.first
    assert way_out in refusal.help


@pytest.mark.parametrize("clock", ["0", "-5", "1000.5", "nan", "inf"])
def test_a_clock_out_of_range(clock: str, refused: Refused) -> None:
    refusal = refused(*command("compile", "tiny.onnx"), "--clock-mhz", clock)
    assert refusal.lines == [f"error: a clock of {clock} MHz is not from 1 to 1000 MHz"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--clock-mhz", "fast"),
        ("--tolerance", "101%"),
        ("--tolerance", "-1%"),
        ("--tolerance", "nan"),
        ("--tolerance", "little"),
        ("--utilisation", "2"),
    ],
)
def test_values_that_do_not_fit_an_option(option: str, value: str, refused: Refused) -> None:
    refusal = refused(*command("compile", "tiny.onnx"), option, value)
    assert refusal.first.startswith(f"error: Invalid value for '{option}': '{value}' is no")
    assert refusal.help == "bitwright compile --help"
