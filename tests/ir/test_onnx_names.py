"""The names that values have in a model and in a graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper
from onnx_models import graph_of, random, run

from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.text import to_text
from bitwright.ir.verify import verify


def test_outside_names_that_are_also_names_inside() -> None:
    graph = graph_of(
        'input %y as "a" : f32[2]',
        'input %out.sum as "b" : f32[2]',
        "weight %w = [1.0,2.0] : f32[2]",
        "%a = add(%y, %w) : f32[2]",
        "%b = mul(%a, %out.sum) : f32[2]",
        'output %b as "y"',
        'output %a as "w"',
        'output %a as "second"',
        'output %w as "third"',
        'output %y as "copy"',
    )
    made = to_model(graph)
    onnx.checker.check_model(made)
    assert [info.name for info in made.graph.input] == ["a", "b"]
    assert [info.name for info in made.graph.output] == ["y", "w", "second", "third", "copy"]
    a, b = np.array([3, 5], np.float32), np.array([2, 4], np.float32)
    found = run(made, {"a": a, "b": b})
    total = a + np.array([1, 2])
    for array, wanted in zip(found, (total * b, total, total, [1, 2], a), strict=True):
        assert array.tolist() == list(wanted)
    again = from_model(made)
    verify(again)
    assert [array.tolist() for array in run(to_model(again), {"a": a, "b": b})] == [array.tolist() for array in found]


def test_names_made_by_the_writer_meet_none_of_the_graphs() -> None:
    graph = graph_of(
        "input %x : f32[1,7]",
        "weight %w = 00000001 : f32[5,7]",
        "%y = dense(%x, %w) {act=relu} : f32[1,5]",
        "output %y",
        'output %w as "y.sum"',
        'output %x as "y.act"',
    )
    made = to_model(graph)
    onnx.checker.check_model(made)
    assert len(run(made, {"x": random(1, 7)})) == 3


def test_onnx_names_become_names_once() -> None:
    nodes = [
        helper.make_node("Relu", ["image:0"], ["/conv1/Relu_output_0"], "/conv1/Relu"),
        helper.make_node("Relu", ["/conv1/Relu_output_0"], ["node 3:0"], ""),
        helper.make_node("Relu", ["node 3:0"], ["node_3_0"], "n"),
        helper.make_node("Split", ["node_3_0"], ["", "b"], "s", axis=0),
        helper.make_node("Relu", ["b"], ["score"], "last"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "main graph", [info("image:0", 1, [4])], [info("score", 1, [2])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    found = from_model(made)
    verify(found)
    assert to_text(found).split("\n") == [
        'graph @"main graph" {',
        "  opset ai.onnx=11",
        '  input %image_0 as "image:0" : f32[4]',
        "  %conv1 = relu(%image_0) : f32[4]",
        "  %node_3_0 = relu(%conv1) : f32[4]",
        "  %node_3_0.1 = relu(%node_3_0) : f32[4]",
        "  %_onnx.Split_.unread0, %b = onnx.Split(%node_3_0.1) {axis=0} : ?, f32[2]",
        "  %last = relu(%b) : f32[2]",
        '  output %last as "score"',
        "}",
        "",
    ]
    assert [node.source for node in found.nodes] == [
        'Relu "/conv1/Relu"',
        "Relu",
        'Relu "n"',
        'Split "s"',
        'Relu "last"',
    ]
