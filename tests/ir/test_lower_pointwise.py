"""Batch normalisation, activations, sums, products, softmax and argmax of every operator set."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import OPSETS, assert_same_outputs, lowers, model, random, stays

from bitwright.ir.onnx.read import from_model


@pytest.mark.parametrize("opset", OPSETS)
def test_batchnorm(opset: int) -> None:
    weights = {name: np.abs(random(3, seed=i)) + 0.1 for i, name in enumerate(("s", "t", "m", "v"))}
    for shape in ("[2,3,5,6]", "[2,3]", "[2,3,4]"):
        made = model(f"float{shape} x", "y = BatchNormalization (x, s, t, m, v)", weights, opset)
        lowers(made, f"%y = batchnorm(%x, %s, %t, %m, %v) : f32{shape}")
    made = model("float[2,3] x", "y = BatchNormalization <epsilon=0.5, momentum=0.1> (x, s, t, m, v)", weights, opset)
    lowers(made, "%y = batchnorm(%x, %s, %t, %m, %v) {epsilon=0.5} : f32[2,3]")
    if opset >= 15:
        body = "y, a, b = BatchNormalization <training_mode=1> (x, s, t, m, v)"
        made = model("float[2,3] x", body, weights, opset, "float[] y, float[] a, float[] b")
        stays(made, "BatchNormalization")
    if opset == 7:
        per_element = {name: np.abs(random(3, 2, 2, seed=i)) + 0.1 for i, name in enumerate(("s", "t", "m", "v"))}
        made = model("float[2,3,2,2] x", "y = BatchNormalization <spatial=0> (x, s, t, m, v)", per_element, opset)
        stays(made, "BatchNormalization", runs=False)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("low", [None, -1.0])
@pytest.mark.parametrize("high", [None, 2.5])
def test_clip(opset: int, low: float | None, high: float | None) -> None:
    bounds = {key: value for key, value in (("min", low), ("max", high)) if value is not None}
    if opset < 11:
        given = ", ".join(f"{key}={value}" for key, value in bounds.items())
        made = model("float[4,5] x", f"y = Clip <{given}> (x)".replace("<>", ""), opset=opset)
    else:
        names = [key if key in bounds else "" for key in ("min", "max")]
        weights = {key: np.float32(value) for key, value in bounds.items()}
        made = model("float[4,5] x", f"y = Clip (x, {', '.join(names)})", weights, opset)
        while made.graph.node[0].input[-1] == "":
            made.graph.node[0].input.pop()
    block = ", ".join(f"{key}={bounds[key]!r}" for key in sorted(bounds))
    graph = lowers(made, f"%y = clip(%x) {{{block}}} : f32[4,5]".replace(" {}", ""))
    assert graph.weights == []


def test_clip_that_stays() -> None:
    bound = {"low": np.float32(-1)}
    stays(model("float[4] x, float high", "y = Clip (x, low, high)", bound), "Clip")
    stays(model("int32[4] x", "y = Clip (x, low)", {"low": np.int32(-1)}, output="int32[] y"), "Clip")


@pytest.mark.parametrize("opset", OPSETS)
def test_activations(opset: int) -> None:
    lowers(model("float[4,N] x", "y = Relu (x)", opset=opset), "%y = relu(%x) : f32[4,N]")
    lowers(model("float[4] x", "y = HardSigmoid (x)", opset=opset), "%y = hardsigmoid(%x) : f32[4]")
    made = model("float[4] x", "y = HardSigmoid <alpha=0.5, beta=0.25> (x)", opset=opset)
    lowers(made, "%y = hardsigmoid(%x) {alpha=0.5, beta=0.25} : f32[4]")
    if opset >= 14:
        lowers(model("float[4] x", "y = HardSwish (x)", opset=opset), "%y = hardswish(%x) : f32[4]")


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("op", "hardware"), [("Add", "add"), ("Mul", "mul")])
def test_elementwise(opset: int, op: str, hardware: str) -> None:
    made = model("float[2,3,4] x, float[3,1] z", f"y = {op} (x, z)", opset=opset)
    lowers(made, f"%y = {hardware}(%x, %z) : f32[2,3,4]")
    made = model("float[1] x", f"y = {op} (x, w)", {"w": random(2, 3)}, opset)
    lowers(made, f"%y = {hardware}(%x, %w) : f32[2,3]")
    made = model("float[N,1] x", f"y = {op} (x, x)", opset=opset)
    lowers(made, f"%y = {hardware}(%x, %x) : f32[N,1]")
    stays(model("int64[2] x", f"y = {op} (x, x)", opset=opset, output="int64[] y"), op)
    stays(model("float[] x", f"y = {op} (x, x)", opset=opset), op)
    stays(model("float[2] x, float[] z", f"y = {op} (x, z)", opset=opset), op)


def test_a_sum_of_two_is_an_addition() -> None:
    lowers(model("float[2,3] x, float[3] z", "y = Sum (x, z)"), "%y = add(%x, %z) : f32[2,3]")
    stays(model("float[3] x", "y = Sum (x)"), "Sum")
    stays(model("float[3] x", "y = Sum (x, x, x)"), "Sum")


def test_softmax() -> None:
    for opset in OPSETS:
        lowers(model("float[2,5] x", "y = Softmax (x)", opset=opset), "%y = softmax(%x) : f32[2,5]")
        made = model("float[2,3,5] x", "y = Softmax <axis=2> (x)", opset=opset)
        lowers(made, "%y = softmax(%x) : f32[2,3,5]")
    for opset in (7, 11):  # axis 1 of more dimensions means all from there on, together
        stays(model("float[2,3,5] x", "y = Softmax (x)", opset=opset), "Softmax")
        stays(model("float[2,3,5] x", "y = Softmax <axis=1> (x)", opset=opset), "Softmax")
    for opset in (13, 17):
        lowers(model("float[2,3,5] x", "y = Softmax (x)", opset=opset), "%y = softmax(%x) : f32[2,3,5]")
        made = model("float[2,3,5] x", "y = Softmax <axis=1> (x)", opset=opset)
        lowers(made, "%y = softmax(%x) {axis=1} : f32[2,3,5]")
    lowers(model("float[2,3,5] x", "y = Softmax <axis=-1> (x)", opset=11), "%y = softmax(%x) : f32[2,3,5]")


@pytest.mark.parametrize("opset", OPSETS)
def test_argmax(opset: int) -> None:
    made = model("float[4,5] x", "y = ArgMax (x)", opset=opset, output="int64[] y")
    lowers(made, "%y = argmax(%x) : i64[1,5]")
    made = model("float[4,5] x", "y = ArgMax <axis=1, keepdims=0> (x)", opset=opset, output="int64[] y")
    lowers(made, "%y = argmax(%x) {axis=1, keepdims=0} : i64[4]")
    if opset >= 13:
        body = "y = ArgMax <axis=-1, select_last_index=1> (x)"
        made = model("float[4,5] x", body, opset=opset, output="int64[] y")
        lowers(made, "%y = argmax(%x) {axis=-1, last=1} : i64[4,1]")
        ties = {"x": np.zeros((4, 5), np.float32)}
        assert_same_outputs(made, from_model(made), ties)
        stays(model("int32[4,5] x", "y = ArgMax (x)", opset=opset, output="int64[] y"), "ArgMax")
