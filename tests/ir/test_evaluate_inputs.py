"""ir/evaluate.py: what it is given and asked for, and its errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from exact_sums import sum_graph
from graph_text import graph_of

from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import fixed
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.ir.types import Native


def lone() -> Graph:
    return graph_of(
        'input %x as "image:0" : FIXED<8,B=-3>[1,2]', "%y = relu(%x) : FIXED<8,B=-3>[1,2]", 'output %y as "logits:0"'
    )


def test_outputs_go_by_outside_names_and_watched_values_by_their_own() -> None:
    found = evaluate(lone(), {"image:0": np.array([[-1.0, 2.0]])}, ["x", "y"])
    assert {name: array.tolist() for name, array in found.items()} == {
        "x": [[-1, 2]],
        "y": [[0, 2]],
        "logits:0": [[0, 2]],
    }


def test_a_watched_value_wins_over_an_output_of_the_same_outside_name() -> None:
    graph = graph_of("input %x : f32[1]", "%y = relu(%x) : f32[1]", 'output %y as "x"')
    assert evaluate(graph, {"x": np.array([-1.0], np.float32)})["x"] == 0
    assert evaluate(graph, {"x": np.array([-1.0], np.float32)}, ["x"])["x"] == -1


def test_a_lone_input_may_have_any_name_and_batch() -> None:
    assert evaluate(lone(), {"": np.ones((7, 2))})["logits:0"].shape == (7, 2)


def test_an_input_with_data_may_be_left_out() -> None:
    graph = graph_of("input %x : f32[2]", "input %k = [3.0,4.0] : f32[2]", "%y = add(%x, %k) : f32[2]", "output %y")
    x = np.array([1, 1], np.float32)
    assert evaluate(graph, {"x": x})["y"].tolist() == [4, 5]
    assert evaluate(graph, {"x": x, "k": x})["y"].tolist() == [2, 2]


def test_an_output_may_be_an_input_or_a_weight() -> None:
    graph = graph_of("input %x : f32[1]", "weight %w = [2.5] : f32[1]", "output %x", "output %w")
    assert evaluate(graph, {"x": np.array([1], np.float32)}) == {"x": [1], "w": [2.5]}


def message(graph: Graph, inputs: Mapping[str, Array]) -> str:
    with pytest.raises(CompileError) as error:
        evaluate(graph, inputs)
    return error.value.message


def test_missing_input() -> None:
    graph = graph_of("input %x : f32[1]", "input %k : f32[1]", "%y = add(%x, %k) : f32[1]", "output %y")
    assert message(graph, {"x": np.ones(1)}) == 'input "k" is missing; given: x'
    assert message(graph, {}) == 'input "x" is missing; given: nothing'


@pytest.mark.parametrize("shape", [(1, 3), (2,), (1, 2, 1), ()])
def test_input_of_another_shape(shape: tuple[int, ...]) -> None:
    wanted = f'input "image:0" has shape {list(shape)}, the model takes FIXED<8,B=-3>[1,2]'
    assert message(lone(), {"": np.ones(shape)}) == wanted


@pytest.mark.parametrize(("number", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_input_that_is_not_finite(number: float, name: str) -> None:
    wanted = f"%x: {name} at index [1, 0] (1 of 4 elements are not finite)"
    assert message(lone(), {"": np.array([[1, 2], [number, 3]])}) == wanted


@pytest.mark.parametrize("name", ["w", "b"])
def test_weights_that_are_not_finite(name: str) -> None:
    w, b = np.ones((3, 2)), np.ones(3, np.float32)
    {"w": w, "b": b}[name][0] = np.nan
    graph = sum_graph("dense", np.ones((1, 2)), w, b, fixed(8), fixed(8), fixed(8))
    assert message(graph, {"x": np.ones((1, 2))}).startswith(f"%{name}: NaN at index [0")


def test_float_networks_may_compute_with_infinity() -> None:
    graph = graph_of("input %x : f32[1]", "%y = relu(%x) : f32[1]", "output %y")
    assert evaluate(graph, {"x": np.array([np.inf], np.float32)})["y"] == np.inf


def test_ops_with_subgraphs_are_refused() -> None:
    graph = parse(
        """graph @g {
             opset ai.onnx=17
             input %c : bool[]
             %y = onnx.If(%c) {else_branch=graph @e { weight %a = [1.0] : f32[1]
                 output %a
               }, then_branch=graph @t { weight %b = [2.0] : f32[1]
                 output %b
               }} : f32[1]
             output %y
           }"""
    )
    assert message(graph, {"c": np.array(True)}) == "%y: onnx.If has subgraphs, which are not evaluated"


def test_native_types_other_than_float32_stay_what_they_are() -> None:
    graph = graph_of("opset ai.onnx=17", "input %x : i64[2]", "%y = onnx.Neg(%x) : i64[2]", "output %y")
    found = evaluate(graph, {"x": np.array([1, 2])})["y"]
    assert (found.tolist(), found.dtype) == ([-1, -2], np.int64)
    assert isinstance(graph.nodes[0].result.tensor_type.format, Native)


@pytest.mark.parametrize(
    ("shape", "way"),
    [
        ((5, 6, 7), "they lack the axis of channels: x[:, None]"),
        ((5, 6, 7, 1), "channels come first: x.transpose(0, 3, 1, 2)"),
        ((5, 7, 6), None),
        ((5, 42), None),
    ],
)
def test_pictures_without_their_axis_of_channels(shape: tuple[int, ...], way: str | None) -> None:
    graph = graph_of("input %x : f32[N,1,6,7]", "%y = relu(%x) : f32[N,1,6,7]", "output %y")
    with pytest.raises(CompileError, match="has shape") as caught:
        evaluate(graph, {"x": np.zeros(shape, np.float32)})
    assert caught.value.help == way
