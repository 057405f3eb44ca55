"""Bad input: one or two clear lines, exit code 2, no traceback, and every file as it was."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bitwright
import bitwright.models.datasets
from bitwright.cli import main

BOARDS = Path(__file__).parents[1] / "backends" / "hls" / "boards"
pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint

READERS = ("compile", "check", "opt", "show", "diff", "score")


@dataclass(frozen=True)
class Refusal:
    """The lines of a complaint."""

    lines: list[str]

    @property
    def first(self) -> str:
        return self.lines[0]

    @property
    def help(self) -> str:
        assert self.lines[-1].startswith("  help: "), self.lines
        return self.lines[-1].removeprefix("  help: ")


Refused = Callable[..., Refusal]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands: a good model, good data, and an output folder that is there already."""
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "tiny.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, (20, 1, 6, 6)).astype(np.float32)
    np.savez("good.npz", x=x, y=np.arange(20) % 3)
    return tmp_path


@pytest.fixture
def refused(place: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command line that must be refused in at most `lines` lines, and leave every file as it was."""

    def call(*arguments: object, lines: int = 2) -> Refusal:
        before = snapshot(place)
        capsys.readouterr()
        code = main.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 2, err
        assert out == ""
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert len(err.splitlines()) <= lines, err
        assert snapshot(place) == before
        return Refusal(err.splitlines())

    return call


def snapshot(place: Path) -> dict[str, bytes | None]:
    """Every file with its content, and every folder."""
    return {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in place.rglob("*")
    }


def command(name: str, model: str) -> list[str]:
    """A command line that reads `model`."""
    return {
        "compile": ["compile", model, "--target", "pynq", "-o", "out"],
        "check": ["check", model],
        "opt": ["opt", model, "--passes", "remove-dead", "-o", "made.onnx"],
        "show": ["show", model],
        "diff": ["diff", "tiny.onnx", model],
        "score": ["score", model, "--data", "good.npz"],
    }[name]


def model_of(nodes: Sequence[onnx.NodeProto], weights: dict[str, Any], outputs: str = "y") -> onnx.ModelProto:
    """A model of one image."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 6, 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(data, np.float32), name) for name, data in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def network(middle: str = "Relu", **other: Any) -> onnx.ModelProto:
    """conv, `middle`, flatten, gemm; `other` replaces weights."""
    random = np.random.default_rng(7)
    weights = {
        "conv1.w": random.uniform(-1, 1, (2, 1, 3, 3)),
        "conv1.b": random.uniform(-1, 1, 2),
        "fc2.w": random.uniform(-1, 1, (3, 32)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv1.w", "conv1.b"], ["conv1"], "conv1"),
        helper.make_node(middle, ["conv1"], ["act1"], "act1"),
        helper.make_node("Flatten", ["act1"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc2.w"], ["y"], "fc2", transB=1),
    ]
    return model_of(nodes, weights | other)


def dense(rows: int, columns: int) -> str:
    """A dense layer with made-up weights, as text."""
    return (
        f"graph @dense {{\n  input %x : f32[N,{columns}]\n  weight %w = 00000003 : f32[{rows},{columns}]\n"
        f"  %fc1 = dense(%x, %w) : f32[N,{rows}]\n  output %fc1\n}}\n"
    )


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Models

TEXT_FORMS = (".json", ".textproto", ".onnxtxt", ".pbtxt")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", ["text", "picture", "zip"])
def test_a_file_that_is_no_onnx(name: str, content: str, place: Path, refused: Refused) -> None:
    other = {
        "text": b"# A readme\n\nNot a network.\n" * 9,
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "zip": (place / "good.npz").read_bytes(),
    }
    write(place / "other.onnx", other[content])
    assert refused(*command(name, "other.onnx")).first.startswith("error: other.onnx: not an ONNX model, or cut short")


@pytest.mark.parametrize("suffix", [".txt", ".pb", "", *TEXT_FORMS])
def test_a_file_of_another_suffix(suffix: str, place: Path, refused: Refused) -> None:
    write(place / f"other{suffix}", "{ this is no network }")
    assert refused("show", f"other{suffix}").first.startswith(f"error: other{suffix}: not an ONNX model")


@pytest.mark.parametrize("name", READERS)
def test_an_empty_file(name: str, place: Path, refused: Refused) -> None:
    write(place / "empty.onnx", b"")
    assert refused(*command(name, "empty.onnx")).first.startswith("error: empty.onnx: not an ONNX model")


def test_a_model_cut_short_at_any_byte(place: Path, refused: Refused) -> None:
    whole = (place / "tiny.onnx").read_bytes()
    for length in (*range(0, len(whole), 37), len(whole) - 1):
        write(place / "cut.onnx", whole[:length])
        assert refused(*command("compile", "cut.onnx")).first.startswith("error: cut.onnx: not an ONNX model")


def test_a_model_with_random_bytes_is_never_our_fault(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (place / "tiny.onnx").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), random.integers(1, 4)):
            damaged[at] = random.integers(256)
        write(place / "damaged.onnx", bytes(damaged))
        code = main.run(["check", "damaged.onnx"])
        assert code in (0, 1, 2), capsys.readouterr().err


@pytest.mark.parametrize("name", READERS)
def test_a_folder_as_a_model(name: str, place: Path, refused: Refused) -> None:
    (place / "folder").mkdir()
    refusal = refused(*command(name, "folder"))
    assert refusal.first == "error: folder is a folder without a model.ir"
    assert refusal.help == "give an .onnx or .ir file"


@pytest.mark.parametrize("name", READERS)
def test_a_model_that_is_not_there(name: str, refused: Refused) -> None:
    assert refused(*command(name, "nowhere.onnx")).first == "error: nowhere.onnx: there is no such file"


@pytest.mark.parametrize("name", READERS)
def test_a_cyclic_graph(name: str, place: Path, refused: Refused) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], "add1"),
        helper.make_node("Relu", ["a"], ["b"], "relu2"),
        helper.make_node("Flatten", ["b"], ["y"], "flat3"),
    ]
    onnx.save(model_of(nodes, {}), place / "cycle.onnx")
    expected = 'error: cycle.onnx: the graph has a cycle through "add1", "relu2", "flat3"'
    assert refused(*command(name, "cycle.onnx")).first == expected


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kept", [None, 100])
def test_external_data_that_are_missing_or_cut_short(
    name: str, kept: int | None, place: Path, refused: Refused
) -> None:
    onnx.save(network(), place / "outside.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    data = (place / "w.bin").read_bytes()
    (place / "w.bin").unlink()
    if kept is not None:
        write(place / "w.bin", data[:kept])
    first = refused(*command(name, "outside.onnx")).first
    if kept is None:
        assert first == 'error: outside.onnx: external data "w.bin" of tensor "conv1.w" is not beside the model'
    else:
        assert first.startswith('error: outside.onnx: external data "w.bin" ends before tensor "')


@pytest.mark.parametrize("name", ["compile", "check"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(name: str, bad: float, place: Path, refused: Refused) -> None:
    weights = np.ones((3, 32))
    weights[1, 7] = bad
    onnx.save(network(**{"fc2.w": weights}), place / "bad.onnx")
    what = "NaN" if np.isnan(bad) else "infinity"
    first = refused(*command(name, "bad.onnx")).first
    assert first == f"error: %fc2.w: {what} at index [1, 7] (1 of 96 elements are not finite)"


def test_a_bias_that_is_not_finite(place: Path, refused: Refused) -> None:
    onnx.save(network(**{"conv1.b": [0, np.nan]}), place / "bad.onnx")
    for arguments in (
        [],
        ["--data", "good.npz"],
        ["--formats", "FIXED 4"],
        ["--data", "good.npz", "--tolerance", "1%"],
    ):
        assert "%conv1.b: NaN at index [1]" in refused(*command("compile", "bad.onnx"), *arguments).first


@pytest.mark.parametrize("data", [[], ["--data", "good.npz"], ["--data", "good.npz", "--tolerance", "1%"]])
def test_an_op_that_the_backend_cannot_emit(data: list[str], place: Path, refused: Refused) -> None:
    onnx.save(network("Sigmoid"), place / "gated.onnx")
    refusal = refused(*command("compile", "gated.onnx"), *data)
    assert refusal.first.startswith(
        'error: %act1 (Sigmoid "act1"): onnx.Sigmoid has no engine; there are conv2d, dense'
    )
    assert refusal.help == "`bitwright check` lists every op"


def test_an_attribute_that_the_backend_cannot_emit(place: Path, refused: Refused) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "spread", dilations=[2, 2]),
        helper.make_node("Flatten", ["c"], ["y"], "flat"),
    ]
    onnx.save(model_of(nodes, {"w": np.ones((1, 1, 2, 2))}), place / "dilated.onnx")
    first = refused(*command("compile", "dilated.onnx")).first
    assert first == 'error: %c (Conv "spread"): dilated convolutions have no engine yet'


def test_branches(place: Path, refused: Refused) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "left"),
        helper.make_node("Conv", ["x", "w"], ["b"], "right"),
        helper.make_node("Sub", ["a", "b"], ["y"], "join"),
    ]
    onnx.save(model_of(nodes, {"w": np.ones((1, 1, 3, 3))}), place / "branch.onnx")
    assert '(Sub "join"): onnx.Sub has no engine' in refused(*command("compile", "branch.onnx")).first
    onnx.save(model_of(nodes[:2], {"w": np.ones((1, 1, 3, 3))}, "a b"), place / "two.onnx")
    assert "1 inputs and 2 outputs" in refused(*command("compile", "two.onnx")).first
    assert "1 inputs and 2 outputs" in refused(*command("compile", "two.onnx"), "--data", "good.npz").first


def test_a_shape_that_is_not_fixed(place: Path, refused: Refused) -> None:
    model = network()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "S"
    onnx.save(model, place / "open.onnx")
    first = refused(*command("compile", "open.onnx")).first
    assert first.startswith('error: %conv1 (Conv "conv1"): its result has no fixed shape: ')


def test_a_network_of_other_inputs_than_one(place: Path, refused: Refused) -> None:
    write(
        place / "two.ir",
        "graph @two {\n  input %a : f32[2]\n  input %b : f32[2]\n  %c = add(%a, %b) : f32[2]\n  output %c\n}\n",
    )
    write(place / "none.ir", "graph @none {\n  weight %w = [1.0] : f32[1]\n  %c = relu(%w) : f32[1]\n  output %c\n}\n")
    for name, count in (("two", 2), ("none", 0)):
        file = f"{name}.ir"
        assert f"@{name} has {count} inputs" in refused(*command("compile", file), "--data", "good.npz").first
        assert f"@{name} has {count} inputs" in refused("score", file, "--data", "good.npz").first
        assert f"@{name} has {count} inputs" in refused(
            "score", file, "--data", "good.npz", "--formats", "FIXED 8"
        ).first  # fmt: skip
        assert f"@{name} has {count} inputs" in refused(
            "opt", file, "--passes", "annotate-formats", "--data", "good.npz"
        ).first  # fmt: skip
    assert refused(*command("compile", "none.ir")).first.startswith("error: @none ")


def test_text_that_does_not_parse_shows_the_place(place: Path, refused: Refused) -> None:
    write(place / "bad.ir", dense(2, 3).replace("dense(%x", "dense(%z"))
    refusal = refused("show", "bad.ir", lines=4)
    assert refusal.first.startswith("error: bad.ir:4:")
    assert "%z" in refusal.first
    assert refusal.lines[-1].strip() == "^"


# Names that do not exist


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


# Data


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


# Formats and tolerances


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("conv1.weight FIXED 6\n\nfc2.weight FIXD 6\n", "formats.txt:3: \"FIXD 6\": there is no number kind 'FIXD'"),
        ("# sizes\nconv1.weight\n", "formats.txt:2: conv1.weight has no format"),
        ("conv1.weight FIXED 6\nconv1.weight FIXED 7\n", "formats.txt:2: conv1.weight is given twice"),
        ("conv1.weight FIXED 6 1 2", 'formats.txt:1: "FIXED 6 1 2" is not a number format'),
        ("conv9.weight FIXED 6", "no tensor is named 'conv9.weight'"),
        ("conv1.weight FIXED 6\nconv1.w FIXED 7", "conv1.weight and conv1.w are the same tensor"),
        (b"\xff\xfe\x00", "formats.txt: cannot be read as a file of formats"),
    ],
)
def test_a_malformed_file_of_formats(text: str | bytes, first: str, place: Path, refused: Refused) -> None:
    write(place / "formats.txt", text)
    for arguments in (command("compile", "tiny.onnx"), command("score", "tiny.onnx")):
        assert refused(*arguments, "--formats", "formats.txt").first.startswith(f"error: {first}")


def test_a_file_of_formats_that_is_not_there(refused: Refused) -> None:
    first = refused(*command("compile", "tiny.onnx"), "--formats", "nowhere.txt").first
    assert first.startswith("error: nowhere.txt: cannot be read as a file of formats")


@pytest.mark.parametrize("format", ["FLOAT<20,E=9>", "FIXED 33", "BIN"])
def test_formats_without_an_engine(format: str, refused: Refused) -> None:
    refusal = refused(*command("compile", "tiny.onnx"), "--formats", format)
    assert refusal.first.startswith("error: input %x is ")
    assert "engines take FIXED and UFIXED" in refusal.first
    assert refusal.help == 'choose formats with --formats "FIXED 8"'


@pytest.mark.parametrize("format", ["FLOAT<20,E=9>", "UFIXED 8"])
def test_weights_without_an_engine(format: str, place: Path, refused: Refused) -> None:
    write(place / "formats.txt", f"conv1.weight {format}\n")
    refusal = refused(*command("compile", "tiny.onnx"), "--formats", "formats.txt")
    assert refusal.first.startswith('error: %conv1 (Conv "conv1"): weights of ')
    assert "have no engine" in refusal.first
    assert "there are F" in refusal.first
    assert refusal.lines[1].startswith("  %conv1 = conv2d(")


def test_formats_and_a_tolerance(refused: Refused) -> None:
    refusal = refused(
        *command("compile", "tiny.onnx"), "--data", "good.npz", "--formats", "FIXED 8", "--tolerance", "1%"
    )  # fmt: skip
    assert refusal.first == "error: formats are given or searched for, not both"
    assert refusal.help == "leave out --formats or --tolerance"


def test_a_tolerance_without_data(refused: Refused) -> None:
    refusal = refused(*command("compile", "tiny.onnx"), "--tolerance", "1%")
    assert refusal.first == "error: a tolerance needs labelled data to measure accuracy on"
    assert refusal.help == "give --data"


def test_a_tolerance_that_cannot_be_met(place: Path, refused: Refused) -> None:
    """What decides is a small difference of large inputs: 16 bits do not hold it."""
    write(place / "fine.ir", dense(2, 2).replace("00000003", "[1.0,-1.0,-1.0,1.0]"))
    small = np.resize([0.001, -0.001], 40)
    np.savez(place / "fine.npz", x=np.stack([1000 + small, np.full(40, 1000)], 1), y=(small < 0).astype(int))
    refusal = refused(*command("compile", "fine.ir"), "--data", "fine.npz", "--tolerance", "1%")
    assert refusal.first == "error: no formats of up to 16 bits keep 99.00% of the accuracy 1.0000"
    assert refusal.help == "allow a larger tolerance"


# Boards


def test_a_design_that_does_not_fit(place: Path, refused: Refused) -> None:
    write(place / "huge.ir", dense(1000, 2000))
    refusal = refused("compile", "huge.ir", "--target", "arty-a7-35t", "-o", "out", lines=6)
    assert refusal.first.startswith("error: the design does not fit arty-a7-35t at 80%, even at its smallest")
    (row,) = [line.split() for line in refusal.lines if line.startswith("  BRAM18")]
    assert int(row[1]) > 80
    assert row[3] == "80"
    assert "%fc1 weighs most" in refusal.help


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ('name = "pynq-z2"', 'name = "pynq-z2', "mine.toml: not a TOML file: "),
        ("dsp = 220\n", "", "mine.toml: the key 'dsp' is missing"),
        ("lut = 53_200", "lut = -1", "mine.toml: lut must be a whole number, 0 or more, not -1"),
        ("clock_mhz = 100", 'clock_mhz = "fast"', "mine.toml: clock_mhz must be a number of MHz above 0, not 'fast'"),
        ("clock_mhz = 100", "clock_mhz = 0.25", "a clock of 0.25 MHz is not from 1 to 1000 MHz"),
        ("dsp = 220", "dsps = 220", "mine.toml: unknown key 'dsps'"),
    ],
)
def test_a_malformed_board_of_the_users(old: str, new: str, first: str, place: Path, refused: Refused) -> None:
    text = (BOARDS / "pynq-z2.toml").read_text()
    assert old in text
    write(place / "mine.toml", text.replace(old, new))
    refusal = refused("compile", "tiny.onnx", "--target", "mine.toml", "-o", "out")
    assert refusal.first.startswith(f"error: {first}")


def test_a_board_file_that_is_not_there(refused: Refused) -> None:
    first = refused("compile", "tiny.onnx", "--target", "nowhere.toml").first
    assert first == "error: cannot read the board file nowhere.toml: No such file or directory"


# Output


def test_an_output_below_a_file(place: Path, refused: Refused) -> None:
    for below in ("tiny.onnx/out", "tiny.onnx/a/b"):
        first = refused("compile", "tiny.onnx", "--target", "pynq", "-o", below).first
        assert first == f"error: {below} cannot be written: {place / 'tiny.onnx'} is a file"


def test_an_output_that_is_a_file(refused: Refused) -> None:
    refusal = refused("compile", "tiny.onnx", "--target", "pynq", "-o", "good.npz")
    assert refusal.lines == ["error: good.npz is a file", "  help: give a folder with -o"]


@pytest.mark.parametrize("content", ["notes.txt", "report.json"])
def test_an_output_folder_that_holds_something_else(content: str, place: Path, refused: Refused) -> None:
    (place / "mine").mkdir()
    write(place / "mine" / content, "{}")
    refusal = refused("compile", "tiny.onnx", "--target", "pynq", "-o", "mine")
    assert refusal.lines == [
        "error: mine is not empty and no output of bitwright",
        "  help: give another folder with -o",
    ]


def test_the_folder_one_stands_in(place: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    bitwright.compile("tiny.onnx", "pynq", out=place / "earlier")
    monkeypatch.chdir(place / "earlier" / "src")
    for folder in (".", ".."):
        refusal = refused("compile", place / "tiny.onnx", "--target", "pynq", "-o", folder)
        assert refusal.help == "give another folder with -o"


def test_an_output_that_may_not_be_written(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/proc").is_dir():  # where not even root makes a folder
        first = refused("compile", "tiny.onnx", "--target", "pynq", "-o", "/proc/made/here").first
        assert first.startswith("error: /proc/made/here cannot be written: ")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    first = refused(*command("compile", "tiny.onnx")).first
    assert first.startswith("error: out cannot be written: no permission to write in ")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_made(code: int, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "here")

    monkeypatch.setattr(tempfile, "_os", _Fake(os, mkdir=mkdir))
    for arguments in (command("compile", "tiny.onnx"), command("opt", "tiny.onnx")):
        assert refused(*arguments).first == f"error: {arguments[-1]} cannot be written: {os.strerror(code)}"


class _Fake:
    """A module with some functions replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self.module = module
        self.replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self.replaced.get(name) or getattr(self.module, name)


def _full_after(monkeypatch: pytest.MonkeyPatch, writes: int, error: BaseException) -> list[int]:
    """Make the disk full after so many files; how many were begun."""
    begun = [0]

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            begun[0] += 1
            if begun[0] > writes:
                raise error
            return function(*arguments, **options)

        return call

    for where, name in (
        (Path, "write_text"),
        (Path, "write_bytes"),
        (shutil, "copyfile"),
        (np.lib.format, "write_array"),
    ):
        monkeypatch.setattr(where, name, watched(getattr(where, name)))
    return begun


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_what_was_there(earlier: bool, place: Path, refused: Refused) -> None:
    if earlier:
        bitwright.compile("tiny.onnx", "pynq", formats="FIXED 5", out=place / "out")
    with pytest.MonkeyPatch.context() as monkeypatch:
        begun = _full_after(monkeypatch, 10**6, FULL)
        bitwright.compile("tiny.onnx", "pynq", out=place / "counted")
    files = begun[0]
    assert files > 30
    for writes in (0, 1, files // 2, files - 2, files - 1):
        with pytest.MonkeyPatch.context() as monkeypatch:
            _full_after(monkeypatch, writes, FULL)
            for folder in ("out", "new/deep"):
                refusal = refused("compile", "tiny.onnx", "--target", "pynq", "-o", folder)
                assert refusal.lines == [f"error: {folder} cannot be written: No space left on device"]


@pytest.mark.parametrize("renames", [0, 1])
def test_an_output_that_cannot_take_its_place(renames: int, place: Path, refused: Refused) -> None:
    """The earlier output comes back when the new one cannot be put there."""
    bitwright.compile("tiny.onnx", "pynq", formats="FIXED 5", out=place / "out")
    before = Path.rename
    done = [0]

    def rename(path: Path, target: Path) -> Path:
        done[0] += 1
        if done[0] == renames + 1:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return before(path, target)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Path, "rename", rename)
        assert refused(*command("compile", "tiny.onnx")).first.startswith("error: out cannot be written: ")


def test_an_interrupt_leaves_what_was_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bitwright.compile("tiny.onnx", "pynq", formats="FIXED 5", out=place / "out")
    before = snapshot(place)
    with pytest.MonkeyPatch.context() as monkeypatch:
        _full_after(monkeypatch, 12, KeyboardInterrupt())
        assert main.run(command("compile", "tiny.onnx")) == 130
    assert capsys.readouterr().err.strip() == "error: stopped"
    assert snapshot(place) == before


@pytest.mark.parametrize("name", ["made.onnx", "made.ir"])
@pytest.mark.parametrize("writes", [0, 1])
def test_a_full_disk_leaves_an_earlier_graph(name: str, writes: int, place: Path, refused: Refused) -> None:
    bitwright.save(bitwright.load("tiny.onnx"), place / name)
    if name.endswith(".onnx") and writes:
        return  # it is one file
    with pytest.MonkeyPatch.context() as monkeypatch:
        _full_after(monkeypatch, writes, FULL)
        for target in (name, f"new{Path(name).suffix}"):
            refusal = refused("opt", "tiny.onnx", "--passes", "fuse-activations", "-o", target)
            assert refusal.lines == [f"error: {target} cannot be written: No space left on device"]


def test_a_graph_of_another_suffix_or_in_no_folder(place: Path, refused: Refused) -> None:
    first = refused("opt", "tiny.onnx", "--passes", "remove-dead", "-o", "x.txt").first
    assert first == "error: x.txt: a graph is saved as .onnx or .ir"
    first = refused("opt", "tiny.onnx", "--passes", "remove-dead", "-o", "nowhere/x.onnx").first
    assert first == "error: nowhere/x.onnx cannot be written: No such file or directory"
    for output in (["-o", "x.ir"], []):
        refusal = refused("opt", "tiny.onnx", "--passes", "remove-dead", "--as", "qdq", *output)
        assert refusal.lines == ["error: --as qdq writes an .onnx file", "  help: give one with -o"]
    (place / "folder.onnx").mkdir()
    first = refused("opt", "tiny.onnx", "--passes", "remove-dead", "-o", "folder.onnx").first
    assert first.startswith("error: folder.onnx cannot be written: ")


# Metrics of the user's


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


# C simulation


@pytest.fixture
def built(place: Path) -> str:
    """An output folder, which lies outside `place` so that what g++ makes in it does not count."""
    folder = place.parent / f"{place.name}-built"
    bitwright.compile("tiny.onnx", "pynq", out=folder)
    return str(folder)


def test_a_folder_that_is_no_output(place: Path, refused: Refused) -> None:
    (place / "folder").mkdir()
    for folder in ("folder", "nowhere", "tiny.onnx"):
        first = refused("csim", folder).first
        assert first.startswith(f"error: {folder} is no output folder of bitwright compile")


def test_inputs_that_csim_does_not_take(built: str, place: Path, refused: Refused) -> None:
    x = np.zeros((2, 1, 6, 6))
    np.save(place / "array.npy", x)
    np.savez(place / "several.npz", a=x, b=x)
    np.savez(place / "strings.npz", x=np.array(["a", "b"]))
    np.savez(place / "objects.npz", x=np.array([None, 1], object))
    np.savez(place / "flat.npz", x=x.reshape(2, -1))
    np.savez(place / "scalar.npz", x=np.float32(1))
    np.savez(place / "nan.npz", x=np.where(np.arange(36).reshape(6, 6) == 8, np.nan, x))
    np.savez(place / "beyond.npz", x=x + 1e300)
    write(place / "cut.npz", (place / "flat.npz").read_bytes()[:-30])
    write(place / "empty.npz", b"")
    for name, first in {
        "array.npy": "array.npy: not an .npz file of numbers",
        "several.npz": 'several.npz has arrays a, b, none is named "x"',
        "strings.npz": "strings.npz: its array holds <U1, not numbers",
        "objects.npz": "objects.npz: not an .npz file of numbers",
        "flat.npz": 'input "x" has shape [2, 36], the model takes FIXED<8>[N,1,6,6]',
        "scalar.npz": 'input "x" has shape [], the model takes FIXED<8>[N,1,6,6]',
        "nan.npz": "nan.npz: NaN at index [0, 0, 1, 2]",
        "beyond.npz": "beyond.npz: infinity at index [0, 0, 0, 0]",
        "cut.npz": "cut.npz: not an .npz file of numbers",
        "empty.npz": "empty.npz: not an .npz file of numbers",
        "nowhere.npz": "nowhere.npz: there is no such file",
    }.items():
        assert refused("csim", built, "--input", name, "--output", "y.npz").first.startswith(f"error: {first}")
    assert refused("csim", built, "--output", "y.npz").lines == ["error: --output needs --input"]


@pytest.mark.parametrize(
    ("content", "said", "help"),
    [
        (None, "{} is no output folder of bitwright compile (it has no report.json)", None),
        ("{", "{}/report.json is not a JSON file", "compile the network again"),
        (b"\xff\xfe", "{}/report.json is not a JSON file", "compile the network again"),
        ("[]", "{}/report.json holds no report", "compile the network again"),
        ("{}", "{}/report.json has no trips", "compile again: an older version wrote it"),
        ('{"trips": 3}', "{}/report.json has no trips", "compile again: an older version wrote it"),
    ],
)
def test_reports_that_compile_has_not_written(
    content: str | bytes | None, said: str, help: str | None, built: str, refused: Refused
) -> None:
    report = Path(built) / "report.json"
    report.unlink() if content is None else write(report, content)
    lines = [f"error: {said.format(built)}", *([f"  help: {help}"] if help else [])]
    assert refused("csim", built, "--trips").lines == lines
    for command in (["show", "--plan", built], ["report", built]):
        assert refused(*command).lines == [line.replace("no trips", "no layers") for line in lines]


def test_a_pass_that_lacks_options(refused: Refused) -> None:
    assert refused("opt", "tiny.onnx", "--passes", "split-channels").lines == [
        "error: split-channels needs layer, sizes",
        "  help: write split-channels{layer=...,sizes=...}",
    ]


def test_sources_that_do_not_compile(built: str, refused: Refused) -> None:
    (Path(built) / "src" / "shapes.hpp").write_text("this is no C++\n")
    first = refused("csim", built).first
    assert first.startswith(f"error: g++ does not compile {built}: ")
    assert "shapes.hpp:1:" in first


def test_tools_that_are_not_there(built: str, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    refusal = refused("csim", built)
    assert refusal.first == "error: g++ is not on the PATH"
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refusal = refused("csim", built, "--ap-types")
    assert refusal.first == "error: the ap_int headers are not installed"
    assert "pip install --no-deps hls4ml" in refusal.help


# Tracebacks and faults of ours


def test_verbose_shows_the_traceback(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--verbose", "show", "nowhere.onnx"], ["show", "nowhere.onnx", "--verbose"]):
        assert main.run(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1] == "error: nowhere.onnx: there is no such file"


def test_a_fault_of_ours_asks_for_a_report(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr("bitwright.backends.hls.package.emit", broken)
    before = snapshot(place)
    assert main.run(command("compile", "tiny.onnx")) == 3
    assert capsys.readouterr().err.splitlines() == [
        "error: internal fault: ZeroDivisionError: a slip",
        "  help: please report it, with --verbose",
    ]
    assert main.run([*command("compile", "tiny.onnx"), "--verbose"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "  help: please report it, with --verbose" in lines
    assert snapshot(place) == before
