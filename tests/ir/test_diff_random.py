"""ir/diff.py on random graphs: other names and another order do not count, another computation does."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.ir import edit
from bitwright.ir.diff import diff
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import F32, Type
from bitwright.ir.verify import verify


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Values [3,3] of a few ops and few different weights, so that many are equal; some are dead."""
    graph = Graph("random", {"": 17})
    type = Type(F32, (3, 3))
    values = [edit.add_input(graph, f"x{i}", type, draw(st.sampled_from([None, f"in{i}"]))) for i in range(2)]
    for i in range(draw(st.integers(1, 4))):
        number = draw(st.integers(0, 1))
        vector = draw(st.booleans())
        data = np.full((3,) if vector else (3, 3), number / 4 + 0.25, np.float32) + (0 if vector else np.eye(3))
        values.append(edit.add_weight(graph, f"w{i}", Tensor(data.astype(np.float32))))
    for i in range(draw(st.integers(1, 8))):
        op = draw(st.sampled_from(["relu", "clip", "onnx.Sub", "add", "dense", "transpose"]))
        square = [value for value in values if value.tensor_type.shape == (3, 3)]
        operands: list[Value | None] = [draw(st.sampled_from(square))]
        if op in ("onnx.Sub", "add"):
            operands.append(draw(st.sampled_from(values)))
        elif op == "dense":
            operands += [draw(st.sampled_from(square)), draw(st.sampled_from([*_vectors(values), None]))]
            operands = operands if operands[2] is not None else operands[:2]
        attributes = {"clip": {"max": draw(st.sampled_from([0.5, 1.0]))}, "transpose": {"perm": (1, 0)}}.get(op, {})
        values.append(edit.add_node(graph, op, operands, {f"n{i}": type}, attributes).result)
    for i in range(draw(st.integers(1, 2))):
        edit.add_output(graph, draw(st.sampled_from(values)), f"out{i}")
    verify(graph)
    return graph


def _vectors(values: list[Value]) -> list[Value]:
    return [value for value in values if value.tensor_type.shape == (3,)]


def shuffled(graph: Graph, random: np.random.Generator) -> Graph:
    """The same graph with its names dealt out anew and its nodes, weights and inputs in another order."""
    other = edit.copy(graph)
    values = list(other.values.values())
    names = [value.name for value in values]
    for index, value in enumerate(values):
        edit.rename(other, value, f"temporary{index}")
    for value, index in zip(values, random.permutation(len(values)), strict=True):
        edit.rename(other, value, names[index])
    ordered: list[Node] = []
    while len(ordered) < len(other.nodes):
        made = [
            node for node in other.nodes if node not in ordered and all(_is_ready(v, ordered) for v in node.operands)
        ]
        ordered.append(made[int(random.integers(len(made)))])
    other.nodes = ordered
    other.values = {values[i].name: values[i] for i in random.permutation(len(values))}
    other.inputs = [other.inputs[i] for i in random.permutation(len(other.inputs))]
    verify(other)
    return other


def _is_ready(value: Value | None, made: list[Node]) -> bool:
    return value is None or value.producer is None or value.producer in made


@settings(max_examples=200)
@given(graphs(), st.integers(0, 2**32 - 1))
def test_names_and_order_do_not_count(graph: Graph, seed: int) -> None:
    other = shuffled(graph, np.random.default_rng(seed))
    assert diff(graph, other) == ""
    assert diff(other, graph) == ""


@settings(max_examples=200)
@given(graphs(), st.integers(0, 2**32 - 1), st.data())
def test_graphs_that_compute_otherwise_differ(graph: Graph, seed: int, data: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    other = shuffled(graph, random)
    kind = data.draw(st.sampled_from(["operand", "weight", "bound", "output", "format"]))
    values = list(other.values.values())
    if kind == "operand":
        node = data.draw(st.sampled_from(other.nodes))
        index = data.draw(st.integers(0, len(node.operands) - 1))
        before = other.nodes[: other.nodes.index(node)]
        shape = node.operand(index).tensor_type.shape
        fitting = [v for v in values if _is_ready(v, before) and v.tensor_type.shape == shape]
        edit.set_operand(node, index, data.draw(st.sampled_from(fitting)))
    elif kind == "weight":
        weight = data.draw(st.sampled_from(other.weights))
        assert weight.tensor is not None
        edit.set_tensor(weight, Tensor(weight.tensor.data + np.float32(0.25)))
    elif kind == "bound":
        for node in other.nodes:
            if node.op == "clip":
                edit.set_attribute(node, "max", 0.75)
    elif kind == "output":
        other.outputs[0].value = data.draw(st.sampled_from([v for v in values if v.tensor_type.shape == (3, 3)]))
    else:
        value = data.draw(st.sampled_from(values))
        edit.set_type(value, value.tensor_type.with_format(parse_format("FIXED 3")))
    verify(other)
    inputs = {name: random.standard_normal((3, 3)).astype(np.float32) for name in map(graph.input_name, graph.inputs)}
    ours, theirs = evaluate(graph, inputs), evaluate(other, inputs)
    if diff(graph, other) == "":
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
