"""Constants of a model become weights; what a caller may override does not."""

from __future__ import annotations

import numpy as np
from onnx import helper
from onnx_models import assert_same_outputs, feeds, lowers, model, random, run

from bitwright.ir.onnx.read import from_model
from bitwright.ir.ops import OPS
from bitwright.ir.text import to_text
from bitwright.ir.verify import verify


def test_constants_become_weights() -> None:
    for attribute, text in (
        ("value = float[2] {1.5, 2.5}", "[1.5,2.5] : f32[2]"),
        ("value_float=1.5", "[1.5] : f32[]"),
        ("value_floats=[1.5,2.0]", "[1.5,2.0] : f32[2]"),
        ("value_int=3", "[3] : i64[]"),
        ("value_ints=[3,4]", "[3,4] : i64[2]"),
    ):
        made = model("float[2] x", f"c = Constant <{attribute}> ()  y = Foo (x, c)")
        made.graph.node[1].domain = "custom"
        weight = from_model(made).values["c"]
        assert weight.tensor is not None
        assert f"weight %c = {text}" in to_text(from_model(made))
    for attribute, wanted in (('value_string="é"', np.array("é", object)), ('value_strings=["a","b"]', ["a", "b"])):
        made = model("float[2] x", f"c = Constant <{attribute}> ()  y = Foo (x, c)")
        weight = from_model(made).values["c"]
        assert weight.tensor is not None
        assert weight.tensor.data.tolist() == np.array(wanted, object).tolist()
        assert str(weight.type).startswith("str[")
    values = helper.make_tensor("v", 1, [2], [5.0, 7.0])
    for indices in (helper.make_tensor("i", 7, [2], [1, 5]), helper.make_tensor("i", 7, [2, 2], [0, 1, 1, 2])):
        sparse = helper.make_sparse_tensor(values, indices, [2, 3])
        made = model("float[2] x", "y = Foo (x, c)")
        made.graph.node.insert(0, helper.make_node("Constant", [], ["c"], sparse_value=sparse))
        weight = from_model(made).values["c"]
        assert weight.tensor is not None
        assert weight.tensor.data.tolist() == [[0, 5, 0], [0, 0, 7]]


def test_an_initialiser_that_is_an_input_too() -> None:
    made = model("float[3,7] x, float[5,7] w", "y = Gemm <transB=1> (x, w)", {"w": random(5, 7)})
    graph = lowers(made, "%y = dense(%x, %w) : f32[3,5]")
    assert [value.name for value in graph.inputs] == ["x", "w"]
    assert "input %w = " in to_text(graph)
    assert graph.weights == []
    other = feeds(made) | {"w": random(5, 7, seed=9)}
    assert_same_outputs(made, graph, other)
    assert not np.allclose(run(made, feeds(made))[0], run(made, other)[0])
    made.ir_version = 3
    graph = from_model(made)
    assert [value.name for value in graph.inputs] == ["x"]
    assert [value.name for value in graph.weights] == ["w"]
    assert_same_outputs(made, graph)


def test_what_a_caller_may_override_is_no_constant() -> None:
    """A default that another value may replace is not folded into the op."""
    w, b = random(7, 5), random(5)
    for inputs, body, weights, other in (
        ("float[3,7] x, float[7,5] w", "y = Gemm (x, w)", {"w": w}, {"w": w + 1}),
        ("float[3,7] x, float[5] b", "y = Gemm <beta=2.0> (x, w, b)", {"w": w, "b": b}, {"b": b + 1}),
        ("float[3,7] x, int64[2] s", "y = Reshape (x, s)", {"s": np.array([7, 3])}, {"s": np.array([-1, 1])}),
        ("float[3,7] x, float m", "y = Clip (x, m)", {"m": np.float32(0)}, {"m": np.float32(1)}),
        ("float[3,7] x, int64[4] p", "y = Pad (x, p)", {"p": np.zeros(4, np.int64)}, {"p": np.ones(4, np.int64)}),
    ):
        made = model(inputs, body, weights)
        graph = from_model(made)
        verify(graph)
        for data in (feeds(made), feeds(made) | other):
            assert_same_outputs(made, graph, data)
        made.ir_version = 3
        assert from_model(made).nodes[0].op in OPS
