"""Concat, Flatten, Transpose, Reshape, Squeeze, Unsqueeze and Pad of every operator set."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import OPSETS, assert_same_outputs, lines, lowers, model, stays

from bitwright.ir.onnx.read import from_model


@pytest.mark.parametrize("opset", OPSETS)
def test_concat_flatten_and_transpose(opset: int) -> None:
    body = "y = Concat <axis=1> (x, z, x)"
    made = model("float[2,3] x, float[2,1] z", body, opset=opset)
    lowers(made, "%y = concat(%x, %z, %x) {axis=1} : f32[2,7]")
    lowers(model("float[2,3,4] x", "y = Flatten (x)", opset=opset), "%y = flatten(%x) : f32[2,12]")
    lowers(model("float[2,3,4] x", "y = Flatten <axis=0> (x)", opset=opset), "%y = flatten(%x) {axis=0} : f32[1,24]")
    lowers(model("float[N,3,1] x", "y = Flatten <axis=1> (x)", opset=opset), "%y = flatten(%x) : f32[N,3]")
    made = model("float[2,3,4] x", "y = Transpose (x)", opset=opset)
    lowers(made, "%y = transpose(%x) {perm=[2,1,0]} : f32[4,3,2]")
    made = model("float[2,N,4] x", "y = Transpose <perm=[0,2,1]> (x)", opset=opset)
    lowers(made, "%y = transpose(%x) {perm=[0,2,1]} : f32[2,4,N]")
    if opset >= 11:
        made = model("float[2,3,4] x", "y = Flatten <axis=-1> (x)", opset=opset)
        lowers(made, "%y = flatten(%x) {axis=-1} : f32[6,4]")
        made = model("float[2,3] x", "y = Concat <axis=-2> (x, x)", opset=opset)
        lowers(made, "%y = concat(%x, %x) {axis=-2} : f32[4,3]")
    for op, attributes in (("Concat", "<axis=0>"), ("Transpose", "")):
        stays(model("int64[2,3] x", f"y = {op} {attributes} (x)", opset=opset, output="int64[] y"), op)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("source", "target", "shape"),
    [
        ("[2,3,4]", [4, 6], "[4,6]"),
        ("[2,3,4]", [0, -1], "[2,12]"),
        ("[2,3,4]", [-1], "[24]"),
        ("[N,3,4]", [0, 2, -1], "[N,2,6]"),
        ("[2,3,4]", [2, 0, -1, 2], "[2,3,2,2]"),
        ("[1]", [1, 1, 1], "[1,1,1]"),
    ],
)
def test_reshape(opset: int, source: str, target: list[int], shape: str) -> None:
    text = ",".join(map(str, target))
    made = model(f"float{source} x", "y = Reshape (x, s)", {"s": np.array(target)}, opset)
    graph = lowers(made, f"%y = reshape(%x) {{shape=[{text}]}} : f32{shape}")
    assert graph.weights == []


def test_allowzero_is_of_zeros_alone() -> None:
    made = model("float[2,3] x", "y = Reshape <allowzero=1> (x, s)", {"s": np.array([3, -1])}, 17)
    lowers(made, "%y = reshape(%x) {shape=[3,-1]} : f32[3,2]")


def test_reshape_that_stays() -> None:
    stays(model("float[2,3] x, int64[1] s", "y = Reshape (x, s)"), "Reshape", runs=False)
    stays(model("int64[2,3] x", "y = Reshape (x, s)", {"s": np.array([6])}, output="int64[] y"), "Reshape")
    zero = np.array([0, 3])
    stays(model("float[0,3] x", "y = Reshape <allowzero=1> (x, s)", {"s": zero}, 17), "Reshape", runs=False)
    graph = stays(model("float[1,1] x", "y = Reshape (x, s)", {"s": np.zeros(0, np.int64)}), "Reshape")
    assert "s" in graph.values


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize(
    ("op", "source", "axes", "shape"),
    [
        ("Unsqueeze", "N,3", [2, 3], "[0,0,1,1]"),
        ("Unsqueeze", "N,3", [0], "[1,-1,3]"),
        ("Unsqueeze", "N,3", [1, -1], "[0,1,3,1]"),
        ("Squeeze", "N,3,1,1", [2, 3], "[0,0]"),
        ("Squeeze", "N,1,3", [-2], "[0,3]"),
        ("Squeeze", "1,N,3", [0], "[-1,3]"),
    ],
)
def test_squeeze_and_unsqueeze(opset: int, op: str, source: str, axes: list[int], shape: str) -> None:
    if opset < 13:
        made = model(f"float[{source}] x", f"y = {op} <axes = {axes}> (x)", opset=opset)
    else:
        made = model(f"float[{source}] x", f"y = {op} (x, axes)", {"axes": np.array(axes)}, opset)
    graph = from_model(made)
    assert [node.op for node in graph.nodes] == ["reshape"]
    assert f"{{shape={shape}}}" in lines(graph)[0]
    assert_same_outputs(made, graph)


def test_squeeze_that_stays() -> None:
    stays(model("float[N,1,3] x, int64[1] axes", "y = Squeeze (x, axes)"), "Squeeze", runs=False)
    stays(model("float[N,1,3] x", "y = Squeeze (x)"), "Squeeze")
    stays(model("float[A,B] x", "y = Unsqueeze (x, axes)", {"axes": np.array([0, 2])}), "Unsqueeze")


@pytest.mark.parametrize("index", [0, -1])
@pytest.mark.parametrize(("axis", "target", "shape"), [(1, "[0,4,1]", "[2,4,1]"), (-1, "[0,0,0]", "[2,1,4]")])
def test_the_entry_of_an_axis_of_size_1_is_a_squeeze(index: int, axis: int, target: str, shape: str) -> None:
    made = model("float[2,1,4,1] x", f"y = Gather <axis={axis}> (x, i)", {"i": np.array(index)})
    lowers(made, f"%y = reshape(%x) {{shape={target}}} : f32{shape}")


def test_other_gathers_stay() -> None:
    indices = {"two": np.array([0, 0]), "one": np.array([0]), "last": np.array(3)}
    stays(model("float[2,1,4] x", "y = Gather <axis=1> (x, i)", {"i": indices["two"]}), "Gather")
    stays(model("float[2,1,4] x", "y = Gather <axis=1> (x, i)", {"i": indices["one"]}), "Gather")
    stays(model("float[2,1,4] x", "y = Gather <axis=2> (x, i)", {"i": indices["last"]}), "Gather")
    stays(model("float[2,1,4] x, int64 i", "y = Gather <axis=1> (x, i)"), "Gather", runs=False)


@pytest.mark.parametrize("opset", [7, 9])
def test_pad_by_attributes(opset: int) -> None:
    made = model("float[2,3] x", "y = Pad <pads=[0,1,2,3]> (x)", opset=opset)
    lowers(made, "%y = pad(%x) {pads=[0,1,2,3]} : f32[4,7]")
    made = model("float[2,3] x", 'y = Pad <mode="constant", pads=[0,-1,0,1], value=1.5> (x)', opset=opset)
    lowers(made, "%y = pad(%x) {pads=[0,-1,0,1], value=1.5} : f32[2,3]")
    stays(model("float[3,3] x", 'y = Pad <mode="reflect", pads=[0,1,1,0]> (x)', opset=opset), "Pad")


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_pad_by_inputs(opset: int) -> None:
    weights: dict[str, np.ndarray] = {"p": np.array([0, 1, 2, 3]), "v": np.array(1.5, np.float32)}
    made = model("float[2,N] x", "y = Pad (x, q)", {"q": np.array([1, 0, 0, 0])}, opset)
    lowers(made, "%y = pad(%x) {pads=[1,0,0,0]} : f32[3,N]")
    made = model("float[2,3] x", "y = Pad (x, p)", {"p": weights["p"]}, opset)
    lowers(made, "%y = pad(%x) {pads=[0,1,2,3]} : f32[4,7]")
    graph = lowers(
        model("float[2,3] x", "y = Pad (x, p, v)", weights, opset),
        "%y = pad(%x) {pads=[0,1,2,3], value=1.5} : f32[4,7]",
    )
    assert graph.weights == []
    stays(model("float[3,3] x", 'y = Pad <mode="edge"> (x, p)', {"p": weights["p"]}, opset), "Pad")
    stays(model("float[2,3] x, float v", "y = Pad (x, p, v)", {"p": weights["p"]}, opset), "Pad")
    stays(model("float[2,3] x, int64[4] p", "y = Pad (x, p)", None, opset), "Pad", runs=False)


def test_pad_of_some_axes_stays() -> None:
    weights = {"p": np.array([1, 2]), "a": np.array([1])}
    stays(model("float[2,3] x", "y = Pad (x, p, , a)", weights, 18), "Pad")
