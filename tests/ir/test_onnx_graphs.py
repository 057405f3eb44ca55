"""A model as a whole: which nodes are lowered, functions, branches, order, metadata, results that nobody reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import helper, parser
from onnx_models import assert_same_outputs, lines, model, network, random, stays

from bitwright.ir.graph import Graph
from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.verify import verify

Check = Callable[[Graph], None]


def test_a_rule_that_fails_changes_nothing() -> None:
    """The shape that the model declares is not the one that the operands give: the node and its weights stay."""
    weights = {"w": random(7, 5), "b": random(1, 5)}
    made = model("float[3,7] x", "y = Gemm <alpha=2.0> (x, w, b)", weights, output="float[3,6] y")
    graph = from_model(made)
    assert lines(graph) == ["%y = onnx.Gemm(%x, %w, %b) {alpha=2.0} : f32[3,6]"]
    for name, array in weights.items():
        tensor = graph.values[name].tensor
        assert tensor is not None
        assert np.array_equal(tensor.data, array)
        assert graph.values[name].tensor_type.shape == array.shape
    assert len(graph.values) == 4


def test_nodes_of_other_domains_and_types_stay() -> None:
    made = model("float[2] x", "y = custom.Relu (x)")
    made.opset_import.append(helper.make_opsetid("custom", 1))
    made.graph.node[0].domain = "custom"
    made.graph.node[0].op_type = "Relu"
    graph = from_model(made)
    assert graph.nodes[0].op == "onnx.custom::Relu"
    stays(model("float16[2] x", "y = Relu (x)", output="float16[] y"), "Relu")
    stays(model("double[2] x", "y = Relu (x)", output="double[] y"), "Relu")


def test_nodes_in_branches_are_lowered_too() -> None:
    body = (
        "y = If (c) <then_branch = t () => (float[] a) { a = Relu (x) },"
        " else_branch = e () => (float[] b) { b = Gemm <alpha=2.0> (x, w) }>"
    )
    made = model("float[3,3] x, bool c", body, {"w": random(3, 3)})
    graph = from_model(made)
    verify(graph)
    assert [node.op for inner in graph.walk() for node in inner.nodes] == ["onnx.If", "relu", "dense"]
    for c in (True, False):
        assert_same_outputs(made, graph, {"x": random(3, 3, seed=4), "c": np.array(c)})


def test_functions_of_a_model_are_inlined() -> None:
    made = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13, "local" : 1]>
        g (float[2,7] x) => (float[] y) { h = local.twice (x)  y = local.twice (h) }
        <opset_import: ["" : 13], domain: "local"> twice (a) => (b) { r = Relu (a)  b = Add (r, r) }"""
    )
    graph = from_model(made)
    verify(graph)
    assert [node.op for node in graph.nodes] == ["relu", "add", "relu", "add"]
    assert_same_outputs(made, graph)


def test_metadata_operator_sets_and_names_of_the_default_domain() -> None:
    made = model("float[2] x", "y = Relu (x)")
    made.opset_import[0].domain = "ai.onnx"
    made.graph.node[0].domain = "ai.onnx"
    made.opset_import.append(helper.make_opsetid("custom", 3))
    helper.set_model_props(made, {"author": "me", "bitwright.format.gone": "FIXED 8"})
    graph = from_model(made)
    assert graph.opsets == {"": 13, "custom": 3}
    assert graph.metadata == {"author": "me", "bitwright.format.gone": "FIXED 8"}
    assert lines(graph) == ["%y = relu(%x) : f32[2]"]
    again = to_model(graph)
    assert {(entry.domain, entry.version) for entry in again.opset_import} == {("", 13), ("custom", 3)}
    assert {entry.key: entry.value for entry in again.metadata_props} == graph.metadata
    assert (again.producer_name, again.graph.name) == ("bitwright", "g")


def test_results_that_nobody_reads() -> None:
    """An optional one is left out, as it was; one that must be there stays."""
    made = model("float[4] x", "a, b = Split <axis=0> (x)  y = Relu (b)", opset=11)
    graph = from_model(made)
    assert list(to_model(graph).graph.node[0].output) == ["a", "b"]
    assert_same_outputs(made, graph)
    made = model("float[1,2,8,8] x", "p, i = MaxPool <kernel_shape=[2,2]> (x)  y = Relu (p)")
    graph = from_model(made)
    assert list(to_model(graph).graph.node[0].output) == ["p", ""]
    assert_same_outputs(made, graph)


def test_nodes_in_any_order(check: Check) -> None:
    made = network()
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    graph = from_model(made)
    check(graph)
    verify(graph)
    assert [node.name for node in graph.nodes] == ["c", "r", "p", "f", "y"]
