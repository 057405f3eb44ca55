"""The ranges that formats are chosen from: bounds that no input leaves, and ranges measured on samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph, Value
from bitwright.ir.ops import result_shape
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Type
from bitwright.ir.verify import verify
from bitwright.passes import Context, run_passes
from bitwright.passes.ranges import Range, bounded, measured

LOW, HIGH = -0.5, 2.0


def drawn(seed: int) -> Graph:
    """A random network of every op that has a bound."""
    random = np.random.default_rng(seed)
    graph = Graph("drawn", {"": 17})
    value = edit.add_input(graph, "x", Type(F32, (2, 2, 6, 6)))

    def weight(*shape: int) -> Value:
        data = np.asarray(random.standard_normal(shape), np.float32)
        return edit.add_weight(graph, f"w{len(graph.values)}", Tensor(data))

    def add(op: str, *operands: Value, **attributes: Any) -> Value:
        node = edit.add_node(graph, op, operands, {f"v{len(graph.nodes)}": Type(F32)}, attributes)
        edit.set_type(node.result, Type(F32, result_shape(node)))
        return node.result

    def activation() -> dict[str, Any]:
        act = str(random.choice(["none", "relu", "clip", "hardswish", "hardsigmoid"]))
        return {"act": act, **({"act_min": -0.25, "act_max": 3.0} if act == "clip" else {})}

    before = value
    for kind in random.choice(KINDS, int(random.integers(3, 9))):
        _, channels, *size = value.tensor_type.static_shape or ()
        if min(size) < 2 and kind in ("avgpool2d", "maxpool2d"):
            continue
        padded = {"pads": (1, 0, 0, 1)} if random.integers(2) else {}
        skip, before = before, value
        if kind == "conv2d":
            bias = [weight(3)] * int(random.integers(2))
            value = add("conv2d", value, weight(3, channels, 1, 1), *bias, kernel=(1, 1), **padded, **activation())
        elif kind == "avgpool2d":
            value = add(kind, value, kernel=(2, 2), count_pads=int(random.integers(2)), **padded)
        elif kind == "maxpool2d":
            value = add(kind, value, kernel=(2, 2), **padded)
        elif kind == "clip":
            value = add(kind, value, min=float(random.choice([-np.inf, 0.5])), max=float(random.choice([np.inf, 1.5])))
        elif kind in ("add", "mul"):
            same = skip.tensor_type.shape == value.tensor_type.shape
            value = add(kind, value, skip if same else weight(channels, 1, 1))
        elif kind == "concat":
            value = add(kind, value, add("relu", value), axis=1)
        elif kind == "pad":
            value = add(kind, value, pads=(0, 0, 1, 0, 0, 0, 0, 1), value=float(random.choice([0.0, -7.0])))
        elif kind == "softmax":
            value = add(kind, value, axis=1)
        elif kind == "transpose":
            value = add(kind, value, perm=(0, 1, 3, 2))
        else:
            value = add(kind, value)
    flat = add("flatten", add("reshape", value, shape=(0, -1)))
    edit.add_output(graph, add("dense", flat, weight(3, (flat.tensor_type.static_shape or ())[1]), **activation()))
    verify(graph)
    return graph


KINDS = (
    *("conv2d", "conv2d", "avgpool2d", "maxpool2d", "clip", "add", "mul", "concat", "pad", "softmax", "transpose"),
    *("relu", "hardswish", "hardsigmoid", "quantize", "globalavgpool"),
)


def inputs(random: np.random.Generator) -> dict[str, Array]:
    """Numbers within the bounds, half of them at an end."""
    x = random.uniform(LOW, HIGH, (2, 2, 6, 6))
    return {"x": np.where(random.integers(2, size=x.shape), x, random.choice([LOW, HIGH], x.shape)).astype(np.float32)}


@pytest.mark.parametrize("seed", range(60))
def test_nothing_leaves_its_bounds(seed: int) -> None:
    graph = drawn(seed)
    ranges = bounded(graph, LOW, HIGH)
    names = [node.name for node in graph.nodes]
    assert set(names) <= set(ranges)
    random = np.random.default_rng(seed)
    for _ in range(8):
        found = evaluate(graph, inputs(random), names)
        for name in names:
            slack = 1e-5 * (1 + ranges[name].magnitude)
            assert found[name].min() >= ranges[name].low - slack, f"%{name} in\n{graph}"
            assert found[name].max() <= ranges[name].high + slack, f"%{name} in\n{graph}"


def test_every_op_with_a_bound_was_drawn() -> None:
    drawn_ops = {node.op for seed in range(60) for node in drawn(seed).nodes}
    assert drawn_ops == {*KINDS, "flatten", "reshape", "dense"}


def test_the_bounds_of_a_sum_are_reached() -> None:
    graph = parse("""
        graph @g {
          input %x : f32[1,2]
          weight %w = [1.0,-3.0] : f32[1,2]
          weight %b = [0.5] : f32[1]
          %y = dense(%x, %w, %b) : f32[1,1]
          output %y
        }""")
    assert bounded(graph, LOW, HIGH)["y"] == Range(-0.5 - 6 + 0.5, 2 + 1.5 + 0.5)


def test_an_average_over_padding_comes_nearer_to_zero() -> None:
    text = """
        graph @g {
          input %x : f32[1,1,2,2]
          %y = avgpool2d(%x) {count_pads=1, kernel=[2,2], pads=[1,1,1,1]} : f32[1,1,3,3]
          output %y
        }"""
    assert bounded(parse(text), 4.0, 8.0)["y"] == Range(0.0, 8.0)
    assert bounded(parse(text.replace("count_pads=1, ", "")), 4.0, 8.0)["y"] == Range(4.0, 8.0)


@pytest.mark.parametrize(
    ("line", "op"),
    [
        ("%y = onnx.Exp(%x) : f32[2]", "onnx.Exp"),
        ("%y, %z = onnx.Split(%x) : f32[1], f32[1]", "onnx.Split"),
        ("%y = dense(%x, %v) : f32[2]", "dense"),
    ],
)
def test_what_has_no_bound_is_named(line: str, op: str) -> None:
    graph = parse(f"graph @g {{ opset ai.onnx=17\n input %x : f32[2]\n input %v : f32[2,2]\n {line}\n output %y }}")
    with pytest.raises(CompileError) as error:
        bounded(graph, -1, 1)
    assert error.value.message == f"%y: no bound is known for the range of {op}"
    assert error.value.help == "measure it instead: give --data"


def test_ranges_are_those_of_the_samples() -> None:
    graph = parse('graph @g { input %x as "image" : f32[N,2]\n %y = relu(%x) : f32[N,2]\n output %y as "x" }')
    samples = {"image": np.array([[-3, 1], [2, 0.5]], np.float32)}
    assert measured(graph, Context(samples)) == {"x": Range(-3, 2), "y": Range(0, 2)}


def test_samples_that_overflow_name_the_value() -> None:
    graph = parse("graph @g { input %x : f32[2]\n %y = add(%x, %x) : f32[2]\n output %y }")
    with np.errstate(over="ignore"), pytest.raises(CompileError) as error:
        measured(graph, Context({"x": np.array([3e38, 1], np.float32)}))
    assert error.value.message == "%y is not finite on the calibration samples"


def test_the_contexts_executor_runs_the_samples() -> None:
    graph = parse("graph @g { input %x : f32[2]\n %y = relu(%x) : f32[2]\n output %y }")

    def executor(*given: Any) -> dict[str, Array]:
        assert given == (graph, {"x": [1]}, ["x", "y"])
        return {"x": np.array([-4.0, 4.0]), "y": np.array([0.0, 4.0])}

    context = Context({"x": [1]}, executor)  # type: ignore[dict-item]
    assert measured(graph, context) == {"x": Range(-4, 4), "y": Range(0, 4)}


@pytest.mark.parametrize("seed", range(20))
def test_formats_without_data_saturate_nowhere(seed: int) -> None:
    graph = run_passes(drawn(seed), "annotate-formats{weights=FIXED 20,activations=FIXED 20,input_max=2}")
    names = [node.name for node in graph.nodes if node.result.tensor_type.number is not None]
    random = np.random.default_rng(seed)
    plain = drawn(seed)
    for _ in range(4):
        x = inputs(random)
        ours, theirs = evaluate(plain, x, names), evaluate(graph, x, names)
        for name in names:
            number = graph.values[name].tensor_type.number
            assert isinstance(number, Canonical)
            assert np.abs(ours[name] - theirs[name]).max() < 1e-3 * (1 + float(number.max)), f"%{name}"


def test_formats_can_be_chosen_again() -> None:
    graph = run_passes(drawn(3), "annotate-formats")
    again = run_passes(graph, "annotate-formats{activations=FIXED 12}")
    values = (*again.inputs, *(node.result for node in again.nodes))
    assert {value.tensor_type.number.width for value in values if value.tensor_type.number} == {12}


def test_samples_are_measured_in_parts_that_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = drawn(1)
    values = [*graph.inputs, *(node.result for node in graph.nodes)]
    numbers = sum(int(np.prod((value.tensor_type.static_shape or ())[1:])) for value in values)
    x = np.random.default_rng(0).normal(size=(7, 2, 6, 6)).astype(np.float32)
    runs: list[int] = []

    def executor(graph: Graph, inputs: Any, names: Any) -> dict[str, Array]:
        parts = [evaluate(graph, {"x": inputs["x"][i : i + 2]}, names) for i in range(0, len(inputs["x"]), 2)]
        runs.append(len(inputs["x"]))
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    whole = measured(graph, Context({"x": x[:6]}, executor))
    monkeypatch.setattr("bitwright.passes.ranges.MOST_BYTES", 4 * numbers * 2)
    assert measured(graph, Context({"x": x[:6]}, executor)) == whole
    assert runs == [6, 2, 2, 2]
    x[5] = np.nan
    with pytest.raises(CompileError, match="%x is not finite"):
        measured(graph, Context({"x": x[:6]}, executor))
