"""backends/simulation of odd graphs: other ops in the middle, subgraphs, outputs that are inputs or weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from simulated import images

from bitwright.backends.simulation.run import Simulation
from bitwright.ir.evaluate import evaluate
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.ir.verify import verify


def assert_runs_as_evaluated(text: str, inputs: Mapping[str, Array], tolerance: float = 0) -> dict[str, Array]:
    graph = parse(text)
    verify(graph)
    wanted = evaluate(graph, inputs)
    for bake_from in (1, 10**9):
        found = Simulation(graph, 1, bake_from=bake_from).run(inputs)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert found[name].shape == array.shape
            assert np.abs(found[name] - array).max(initial=0) <= tolerance, f"{name}:\n{found[name]}\n{array}"
    return found


def test_ops_outside_the_hardware_set_in_the_middle() -> None:
    """With operands that are integers, none, and computed; several results, some with formats; named as the output."""
    assert_runs_as_evaluated(
        """graph @g {
          opset ai.onnx=17
          input %x as "image" : FIXED<8,B=-2>[N,2,7,7]
          weight %w = 00000001 : FIXED<4>[4,2,3,3]
          weight %v = 00000002 : FIXED<4>[2,2,1,1]
          weight %starts = [1] : i64[1]
          weight %ends = [5] : i64[1]
          weight %axes = [2] : i64[1]
          weight %halves = [2,2] : i64[2]
          weight %indices = [1,0,0] : i64[3]
          weight %low = [-0.5] : f32[]
          %c = conv2d(%x, %w) {kernel=[3,3]} : FIXED<7,B=-3>[N,4,5,5]
          %s = onnx.Slice(%c, %starts, %ends, %axes) : FIXED<6,B=-3>[N,4,4,5]
          %a, %b = onnx.Split(%s, %halves) {axis=1} : FIXED<5,B=-3>[N,2,4,5], f32[N,2,4,5]
          %clipped = onnx.Clip(%b, %low) : FIXED<8,B=-2>[N,2,4,5]
          %d = conv2d(%a, %v) {kernel=[1,1]} : FIXED<8,B=-2>[N,2,4,5]
          %sum = add(%d, %clipped) : FIXED<8,B=-3>[N,2,4,5]
          %picked = onnx.Gather(%sum, %indices) {axis=1} : FIXED<8,B=-3>[N,3,4,5]
          %y = onnx.Neg(%picked) : FIXED<7,B=-3>[N,3,4,5]
          output %y
          output %a
        }""",
        images(0),
    )


def test_weights_where_activations_are_expected() -> None:
    """relu and dense of a weight, a computed bias, weights that a caller may replace: as before any pass."""
    text = """graph @g {
      input %x : FIXED<6,B=-2>[N,2]
      input %w.given = [1.0,0.5,0.25,-1.0] : FIXED<6,B=-2>[2,2]
      weight %w = [1.0,2.0,-1.0,0.5] : FIXED<6,B=-2>[2,2]
      weight %k = [0.5,-0.75] : f32[2]
      %positive = relu(%w) : FIXED<6,B=-2>[2,2]
      %b = clip(%k) {min=-0.25} : f32[2]
      %fc = dense(%x, %positive) : FIXED<6,B=-3>[N,2]
      %fc2 = dense(%fc, %w, %b) : FIXED<8,B=-3>[N,2]
      %fc3 = dense(%w, %w) : FIXED<8,B=-3>[2,2]
      %fc4 = dense(%x, %w.given) {act=clip, act_max=1.0} : FIXED<8,B=-3>[N,2]
      output %fc2
      output %fc3
      output %fc4
    }"""
    x = np.array([[1.25, -0.5], [3.0, 2.0], [0.125, -4.0]], np.float32)
    found = assert_runs_as_evaluated(text, {"x": x})
    other = assert_runs_as_evaluated(text, {"x": x, "w.given": np.array([[0.5, 0.5], [2, 1]], np.float32)})
    assert not np.array_equal(found["fc4"], other["fc4"])
    assert np.array_equal(found["fc2"], other["fc2"])


def test_outputs_that_are_inputs_or_weights() -> None:
    text = """graph @g {
      input %x as "image" : FIXED<4>[2]
      weight %w = [0.3,0.7] : FIXED<4>[2]
      output %x as "y"
      output %w
    }"""
    found = assert_runs_as_evaluated(text, {"image": np.array([0.3, 9], np.float32)})
    assert {name: array.tolist() for name, array in found.items()} == {"y": [0.25, 1.75], "w": [0.25, 0.75]}


def test_an_output_with_the_name_of_its_node() -> None:
    """onnxruntime takes a node's name once."""
    text = """graph @g {
      opset ai.onnx=17
      input %x : f32[N,2]
      %y = onnx.Sigmoid(%x) : f32[N,2]
      %z = onnx.Abs(%y) : f32[N,2]
      output %y
      output %z as "x.1"
    }"""
    assert_runs_as_evaluated(text, {"x": np.array([[1, -1]], np.float32)}, 1e-6)


def test_subgraphs_see_real_numbers() -> None:
    graph = parse("""graph @g {
      opset ai.onnx=17
      input %x : FIXED<6,B=-2>[2]
      input %c : bool[]
      weight %w = [2.0,4.0] : f32[2]
      %r = relu(%x) : FIXED<6,B=-2>[2]
      %y = onnx.If(%c) {else_branch=graph @e { %p = onnx.Neg(%r) : f32[2]
          output %p
        }, then_branch=graph @t { %m = onnx.Mul(%r, %w) : f32[2]
          output %m
        }} : FIXED<4,B=-3>[2]
      output %y
    }""")
    x = np.array([0.8, -1], np.float32)
    run = Simulation(graph, 1).run
    assert run({"x": x, "c": np.array(True)})["y"].tolist() == [2, 0]
    assert run({"x": x, "c": np.array(False)})["y"].tolist() == [0, 0]


def test_a_sum_for_old_operator_sets() -> None:
    """The quantisers need operator set 13, hardswish 14."""
    text = """graph @g {
      opset ai.onnx=7
      input %x : FIXED<6,B=-2>[N,3]
      weight %w = 00000001 : FIXED<4>[2,3]
      %y = dense(%x, %w) {act=relu} : EXP<4>[N,2]
      output %y
    }"""
    assert_runs_as_evaluated(text, {"x": np.array([[1, -1, 2], [0.3, 3, -2]], np.float32)})
