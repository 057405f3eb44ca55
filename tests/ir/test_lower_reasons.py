"""Why ONNX nodes whose op has a rule stay: which condition failed, and the way out."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import model, random, stays

from bitwright.ir.onnx.lower import why_stays
from bitwright.ir.onnx.read import from_model
from bitwright.ir.text import to_text

IMAGE, ROWS = "float[2,3,8,8] x", "float[2,6] x"
W = {"w": random(4, 3, 3, 3)}
CHANNELS = {name: np.ones(3, np.float32) for name in ("s", "b", "m", "v")}

# model, reason; on onnxruntime each computes what it did.
STAYS = {
    "ceil_mode of an average": (
        model(IMAGE, "y = AveragePool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (x)"),
        "its ceil_mode would average fewer numbers at the edge: export it without, or with whole windows",
    ),
    "a window of three dimensions": (
        model("float[1,2,4,4,4] x", "y = MaxPool <kernel_shape=[2,2,2]> (x)"),
        "only windows over images and lines are taken",
    ),
    "weights of three dimensions": (
        model("float[1,3,4,4,4] x", "y = Conv (x, w)", {"w": random(4, 3, 3, 3, 3)}),
        "only convolutions over images and lines are taken, with weights [M,C,H,W] or [M,C,L]",
    ),
    "auto_pad of an open size": (
        model("float[1,3,h,8] x", "y = Conv <auto_pad=\"SAME_UPPER\"> (x, w)", W),
        "its auto_pad depends on the size of the image: export the model with fixed sizes",
    ),
    "the order of indices": (
        model(IMAGE, "y = MaxPool <kernel_shape=[2,2], storage_order=1> (x)"),
        "its storage_order is 1, not 0",
    ),
    "float64": (
        model("double[2,6] x", "y = Relu (x)", output="double[2,6] y"),
        "its input is f64, not f32: export the model in float32",
    ),
    "float16": (
        model("float16[2,6] x", "y = Relu (x)", output="float16[2,6] y"),
        "its input is f16, not f32: export the model in float32",
    ),
    "indices": (
        model(IMAGE, "y, i = MaxPool <kernel_shape=[2,2]> (x)", output="float[] y, int64[] i"),
        "it has 2 results, as in training or for unpooling: export it for inference",
    ),
    "a transposed input": (
        model(ROWS, "y = Gemm <transA=1> (x, w)", {"w": random(2, 5)}),
        "only one row a sample is taken, with weights [K,M] or [M,K] and without transA",
    ),
    "a bias a sample": (
        model(ROWS, "y = Gemm (x, w, b)", {"w": random(6, 5), "b": random(2, 5)}),
        "its bias is computed, or not one number an output",
    ),
    "computed weights": (
        model(f"{ROWS}, float[6,5] w", "y = Gemm (x, w)"),
        "its weights are computed, or in a format that alpha would change",
    ),
    "computed bounds": (
        model(f"{ROWS}, float low", "y = Clip (x, low)"),
        "its bounds are computed, not constant",
    ),
    "a sum of three": (
        model(ROWS, "y = Sum (x, x, x)"),
        "it adds 3 tensors: write it as Adds of two",
    ),
    "a reflecting pad": (
        model(IMAGE, "y = Pad <mode=\"reflect\"> (x, p)", {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
        "its mode is 'reflect': only constants are taken, around all axes",
    ),
    "computed pads": (
        model(f"{ROWS}, int64[4] p", "y = Pad (x, p)"),
        "its pads or their value are computed, not constant",
    ),
    "computed axes": (
        model(f"{ROWS}, int64[1] a", "y = Unsqueeze (x, a)"),
        "its axes are computed, or not given",
    ),
    "two open sizes": (
        model("float[a,2,b] x", "y = Unsqueeze (x, a)", {"a": np.array([0])}),
        "more than one size of its result is open: export the model with fixed sizes",
    ),
    "a softmax of several axes": (
        model("float[2,3,4] x", "y = Softmax <axis=1> (x)", opset=11),
        "it normalises over several axes, as before operator set 13: convert the model with onnx.version_converter",
    ),
}  # fmt: skip

# Models that onnxruntime refuses, or computes in another way.
ODD = {
    "training": (
        model(IMAGE, "y, p, q = BatchNormalization <training_mode=1> (x, s, b, m, v)", CHANNELS, opset=17),
        "it has 3 results, as in training or for unpooling: export it for inference",
    ),
    "training with one result": (
        model(IMAGE, "y = BatchNormalization <training_mode=1> (x, s, b, m, v)", CHANNELS, opset=17),
        "its training_mode is 1: export the model after model.eval()",
    ),
    "weights of other channels": (
        model(IMAGE, "y = Conv (x, w)", {"w": random(4, 2, 3, 3)}),
        "3 channels for weights of 1 x 2",
    ),
    "a window that is larger than the image": (
        model("float[1,3,2,2] x", "y = Conv (x, w)", W),
        "a window of 3 does not fit 2 + 0 + 0",
    ),
    "a window of padding alone": (
        model("float[1,3,4,4] x", "y = MaxPool <ceil_mode=1, kernel_shape=[1,1], strides=[2,2], pads=[0,0,1,1]> (x)"),
        "its result is [1,3,2,2], and by the model's types [1,3,3,3]: export it without ceil_mode",
    ),
    "a squeeze of an open size": (
        model("float[2,n] x", "y = Squeeze (x, a)", {"a": np.array([1])}),
        "its axes [1] of [2,n] are not known to have the size 1",
    ),
    "an old broadcast": (
        model(ROWS, "y = Add (x, b)", {"b": random(2, 6)}, opset=6),
        "operator set 6 is older than 7: convert the model with onnx.version_converter",
    ),
    "negative pads": (
        model(IMAGE, "y = Conv <pads=[-1,0,0,0]> (x, w)", W),
        "its pads are [-1, 0, 0, 0], not four that are not negative",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*STAYS, *ODD])
def test_a_node_that_stays_has_a_reason_and_stays_as_it_was(name: str) -> None:
    made, reason = (STAYS | ODD)[name]
    op = made.graph.node[-1].op_type
    graph = stays(made, op, runs=name in STAYS)
    (node,) = (node for node in graph.nodes if node.op == f"onnx.{op}")
    before = to_text(graph)
    assert why_stays(node) == reason
    assert to_text(graph) == before


def test_ops_without_a_rule_have_no_reason() -> None:
    (node,) = from_model(model(ROWS, "y = Selu (x)")).nodes
    assert why_stays(node) is None
