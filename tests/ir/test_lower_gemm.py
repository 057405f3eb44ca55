"""Gemm becomes dense, with alpha, beta and the transposition folded into weights that nobody else reads."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import lowers, model, random, stays


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, -2.0])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(5,), (1, 5), (1,), (), (1, 1)])
def test_gemm(opset: int, alpha: float, beta: float, transposed: int, bias: tuple[int, ...]) -> None:
    w, b = random(*((5, 7) if transposed else (7, 5))), random(*bias, seed=1)
    made = model(
        "float[3,7] x", f"y = Gemm <alpha={alpha}, beta={beta}, transB={transposed}> (x, w, b)", {"w": w, "b": b}, opset
    )
    graph = lowers(made, "%y = dense(%x, %w, %b) : f32[3,5]")
    tensors = [graph.values[name].tensor for name in ("w", "b")]
    assert tensors[0] is not None
    assert tensors[1] is not None
    assert np.array_equal(tensors[0].data, np.float32(alpha) * (w if transposed else w.T))
    assert np.array_equal(tensors[1].data, np.broadcast_to(np.float32(beta) * b.reshape(-1), 5))
    assert list(graph.values) == ["x", "w", "b", "y"]


@pytest.mark.parametrize("opset", [11, 13])
def test_gemm_without_bias(opset: int) -> None:
    graph = lowers(
        model("float[N,7] x", "y = Gemm (x, w)", {"w": random(7, 5)}, opset), "%y = dense(%x, %w) : f32[N,5]"
    )
    assert graph.values["w"].tensor_type.shape == (5, 7)
    made = model("float[3,7] x", "y = Gemm <transB=1, beta=0.5> (x, w)", {"w": random(5, 7)}, opset)
    made.graph.node[0].input.append("")
    lowers(made, "%y = dense(%x, %w, _) : f32[3,5]")


def test_gemm_that_stays() -> None:
    w, b = random(7, 5), random(5)
    stays(model("float[7,3] x", "y = Gemm <transA=1> (x, w, b)", {"w": w, "b": b}), "Gemm")
    stays(model("float[3,7] x", "y = Gemm (x, w, b)", {"w": w, "b": random(3, 5)}), "Gemm")
    stays(model("float[3,7] x", "y = Gemm (x, w, b)", {"w": w, "b": random(3, 1)}), "Gemm")
    stays(model("float[3,7] x, float[7,5] w", "y = Gemm (x, w, b)", {"b": b}), "Gemm")
    stays(model("float[3,7] x, float[5,7] w", "y = Gemm <alpha=0.5, transB=1> (x, w, b)", {"b": b}), "Gemm")
    stays(model("float[3,7] x, float[5] b", "y = Gemm <beta=0.5> (x, w, b)", {"w": w}), "Gemm")
    stays(model("float[3,7] x, float[1] b", "y = Gemm (x, w, b)", {"w": w}), "Gemm")
    stays(model("double[3,7] x", "y = Gemm (x, w)", {"w": w.astype(np.float64)}, output="double[] y"), "Gemm")
    stays(model("float[3,7] x", "y = MatMul (x, w)", {"w": w}), "MatMul")


def test_gemm_of_computed_operands() -> None:
    made = model("float[3,7] x, float[5,7] w, float[5] b", "y = Gemm <transB=1> (x, w, b)")
    lowers(made, "%y = dense(%x, %w, %b) : f32[3,5]")
    made = model("float[3,7] x, float[5] b", "y = Gemm <alpha=2.0> (x, w, b)", {"w": random(7, 5)})
    lowers(made, "%y = dense(%x, %w, %b) : f32[3,5]")


def test_gemm_leaves_weights_alone_that_others_read() -> None:
    weights = {"w": random(7, 7), "b": random(7)}
    body = "a = Gemm <beta=2.0> (x, w, b)  c = Gemm (a, w, b)  d = Gemm <transB=1> (c, w, b)  y = Add(d, w)"
    graph = lowers(
        model("float[7,7] x", body, weights),
        "%a = dense(%x, %w.1, %b.1) : f32[7,7]",
        "%c = dense(%a, %w.2, %b) : f32[7,7]",
        "%d = dense(%c, %w, %b) : f32[7,7]",
        "%y = add(%d, %w) : f32[7,7]",
    )
    assert [v.name for v in graph.weights] == ["w", "b", "b.1", "w.1", "w.2"]
    made = model(
        "float[7,7] x", "y = Gemm (x, w, w2)", {"w": random(7, 7), "w2": random(1, 7)}, output="float[] y, float[7,7] w"
    )
    lowers(made, "%y = dense(%x, %w.1, %w2) : f32[7,7]")
