"""Models that are damaged, missing, or of what cannot be built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from complaints import READERS, Refused, command, dense, model_of, network, write
from onnx import helper

from bitwright.cli import main

pytestmark = pytest.mark.filterwarnings("error")  # a warning would stand above the complaint
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


@pytest.mark.parametrize("name", READERS)
def test_a_bias_of_another_length(name: str, place: Path, refused: Refused) -> None:
    onnx.save(network(**{"conv1.b": np.ones(3)}), place / "bad.onnx")
    expected = 'error: bad.onnx: %conv1 (Conv "conv1"): bias %conv1.b of 3 for 2 outputs'
    assert refused(*command(name, "bad.onnx")).first == expected


@pytest.mark.parametrize("name", ["Relu", "GlobalAveragePool"])
def test_an_image_without_channels_or_pixels(name: str, place: Path, refused: Refused) -> None:
    for axis in (1, 2):
        model = model_of([helper.make_node(name, ["x"], ["y"], "only")], {})
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 0
        onnx.save(model, place / "empty.onnx")
        first = refused(*command("compile", "empty.onnx")).first
        shape = {1: "N,0,6,6", 2: "N,1,0,6"}[axis]
        assert first == f'error: %only ({name} "only"): there are no numbers in %x : f32[{shape}]'
        assert main.run(["check", "empty.onnx"]) == 1


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
