"""Conv becomes conv2d: its pads, groups and dilations are onnxruntime's; what has no conv2d stays ONNX's."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import OPSETS, assert_same_outputs, lines, lowers, model, random, stays

from bitwright.ir.onnx.read import from_model
from bitwright.ir.verify import verify

W = random(4, 2, 3, 3)
B = random(4)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("attributes", "arguments", "attribute_text", "shape"),
    [
        ("", "x, w", "kernel=[3,3]", "[1,4,6,7]"),
        ("", "x, w, b", "kernel=[3,3]", "[1,4,6,7]"),
        ("kernel_shape=[3,3], group=1, strides=[1,1], dilations=[1,1]", "x, w, b", "kernel=[3,3]", "[1,4,6,7]"),
        ("strides=[2,1]", "x, w, b", "kernel=[3,3], strides=[2,1]", "[1,4,3,7]"),
        ("pads=[1,2,0,1]", "x, w, b", "kernel=[3,3], pads=[1,2,0,1]", "[1,4,7,10]"),
        ("dilations=[2,3]", "x, w, b", "dilations=[2,3], kernel=[3,3]", "[1,4,4,3]"),
        ('auto_pad="VALID", strides=[2,2]', "x, w, b", "kernel=[3,3], strides=[2,2]", "[1,4,3,4]"),
        ('auto_pad="NOTSET", pads=[1,1,1,1]', "x, w, b", "kernel=[3,3], pads=[1,1,1,1]", "[1,4,8,9]"),
        ('auto_pad="SAME_UPPER"', "x, w, b", "kernel=[3,3], pads=[1,1,1,1]", "[1,4,8,9]"),
        ('auto_pad="SAME_LOWER"', "x, w, b", "kernel=[3,3], pads=[1,1,1,1]", "[1,4,8,9]"),
        ('auto_pad="SAME_UPPER", strides=[2,2]', "x, w", "kernel=[3,3], pads=[0,1,1,1], strides=[2,2]", "[1,4,4,5]"),
        ('auto_pad="SAME_LOWER", strides=[2,2]', "x, w", "kernel=[3,3], pads=[1,1,0,1], strides=[2,2]", "[1,4,4,5]"),
        ('auto_pad="SAME_UPPER", strides=[3,5]', "x, w", "kernel=[3,3], pads=[0,0,1,0], strides=[3,5]", "[1,4,3,2]"),
    ],
)  # fmt: skip
def test_conv(opset: int, attributes: str, arguments: str, attribute_text: str, shape: str) -> None:
    made = model(
        "float[1,2,8,9] x", f"y = Conv <{attributes}> ({arguments})".replace("<>", ""), {"w": W, "b": B}, opset
    )
    names = ", ".join("%" + name for name in arguments.split(", "))
    lowers(made, f"%y = conv2d({names}) {{{attribute_text}}} : f32{shape}")


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_auto_pad_is_onnxruntimes(auto: str, stride: int, kernel: int) -> None:
    attributes = f'auto_pad="{auto}", kernel_shape=[{kernel},2], strides=[{stride},1]'
    for size in (5, 6, 7, 8):
        for op, hardware in (("Conv", "conv2d"), ("MaxPool", "maxpool2d"), ("AveragePool", "avgpool2d")):
            if op != "Conv" and kernel < stride:
                continue  # onnxruntime refuses: it would pad by less than nothing
            arguments, weights = ("x, w", {"w": random(2, 2, kernel, 2)}) if op == "Conv" else ("x", {})
            made = model(f"float[1,2,{size},9] x", f"y = {op} <{attributes}> ({arguments})", weights)
            graph = from_model(made)
            verify(graph)
            assert graph.nodes[0].op == hardware
            assert graph.values["y"].tensor_type.shape == (1, 2, -(-size // stride), 9)
            assert_same_outputs(made, graph)


@pytest.mark.parametrize(("auto", "pads"), [("SAME_UPPER", "[1,2,2,2]"), ("SAME_LOWER", "[2,2,1,2]")])
def test_auto_pad_counts_the_dilation(auto: str, pads: str) -> None:
    """7 in steps of 2 are 4 windows, which reach over 2 * 3 + 4 = 10 with a kernel of 2 and a dilation of 3."""
    attributes = f'auto_pad="{auto}", strides=[2,1], dilations=[3,4]'
    graph = from_model(model("float[1,2,7,9] x", f"y = Conv <{attributes}> (x, w)", {"w": random(4, 2, 2, 2)}))
    verify(graph)
    assert lines(graph) == [
        f"%y = conv2d(%x, %w) {{dilations=[3,4], kernel=[2,2], pads={pads}, strides=[2,1]}} : f32[1,4,4,9]"
    ]


def test_conv_in_groups_and_with_unknown_dimensions() -> None:
    weights = {"w": random(6, 1, 3, 3)}
    lowers(
        model("float[1,2,8,8] x", "y = Conv <group=2> (x, w)", weights),
        "%y = conv2d(%x, %w) {groups=2, kernel=[3,3]} : f32[1,6,6,6]",
    )
    made = model("float[N,2,H,8] x", "y = Conv <pads=[1,1,1,1]> (x, w)", {"w": W}, output="float[N,4,K,8] y")
    graph = from_model(made)
    assert lines(graph) == ["%y = conv2d(%x, %w) {kernel=[3,3], pads=[1,1,1,1]} : f32[N,4,K,8]"]
    made = model("float[1,2,8,8] x, float[4,2,3,3] w", "y = Conv (x, w)")
    lowers(made, "%y = conv2d(%x, %w) {kernel=[3,3]} : f32[1,4,6,6]")
    made = model("float[1,2,8,8] x, float[4,2,3,K] w", "y = Conv <kernel_shape=[3,3]> (x, w)")
    assert from_model(made).nodes[0].op == "onnx.Conv"


def test_conv_that_stays() -> None:
    stays(model("float[1,2,8] x", "y = Conv (x, w)", {"w": random(4, 2, 3)}), "Conv")
    stays(model("float[1,2,8,8,8] x", "y = Conv (x, w)", {"w": random(4, 2, 3, 3, 3)}), "Conv")
    same = 'y = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)'
    stays(model("float[1,2,H,8] x", same, {"w": W}), "Conv", runs=False)
    stays(model("float[] x", "y = Conv (x, w)", {"w": W}), "Conv", runs=False)
    made = model("double[1,2,8,8] x", "y = Conv (x, w)", {"w": W.astype(np.float64)}, output="double[] y")
    stays(made, "Conv", runs=False)
