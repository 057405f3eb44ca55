"""ir/evaluate.py: every op on float32 against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
from graph_text import graph_of

from bitwright.ir.evaluate import MEANING, evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.write import to_model
from bitwright.ir.ops import OPS
from bitwright.ir.tensor import Array

Random = np.random.Generator


def pick(random: Random, *choices: Any) -> Any:
    return choices[int(random.integers(len(choices)))]


def dims(random: Random, rank: int, most: int = 5) -> list[int]:
    return [int(dim) for dim in random.integers(1, most + 1, rank)]


def one(op: str, shapes: list[list[int]], result: str = "f32", **attributes: Any) -> list[str]:
    """A graph of one node on inputs of these shapes."""
    inputs = [f"input %x{i} : f32{shape}".replace(" ", "") for i, shape in enumerate(shapes)]
    inputs = [line.replace("input%", "input %").replace(":f32", " : f32") for line in inputs]
    given = ", ".join(f"{key}={str(value).replace(' ', '')}" for key, value in attributes.items())
    operands = ", ".join(f"%x{i}" for i in range(len(shapes)))
    return [*inputs, f"%y = {op}({operands}) {{{given}}} : {result}[*]", "output %y"]


def window(random: Random, ceil: bool) -> tuple[list[int], dict[str, Any]]:
    """An image's height and width, and a window that fits in it."""
    kernel, strides = dims(random, 2, 3), dims(random, 2, 3)
    dilations = dims(random, 2, 2)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads = [int(random.integers(0, kernel[i % 2])) for i in range(4)]
    size = [int(random.integers(reach[i], reach[i] + 6)) for i in (0, 1)]
    attributes = {"kernel": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    return size, attributes | ({"ceil": int(random.integers(2))} if ceil else {})


def activation(random: Random) -> dict[str, Any]:
    act = pick(random, "none", "relu", "clip", "hardswish", "hardsigmoid")
    bounds = {"act_min": -0.75, "act_max": 1.5} if act == "clip" else {}
    return {"act": act, **bounds} if act != "none" else {}


def conv2d(random: Random) -> list[str]:
    size, attributes = window(random, ceil=False)
    groups, per_group, outputs = dims(random, 3, 3)
    shapes = [[2, groups * per_group, *size], [groups * outputs, per_group, *attributes["kernel"]]]
    shapes += [[groups * outputs]] * int(random.integers(2))
    pool: dict[str, Any] = {}
    lines = one("conv2d", shapes, **attributes, groups=groups)
    rows, cols = graph_of(*lines).nodes[0].result.tensor_type.static_shape[2:]
    if random.integers(2):
        pool["pool"] = [int(random.integers(1, rows + 1)), int(random.integers(1, cols + 1))]
        if random.integers(2):
            pool["pool_strides"] = dims(random, 2, 3)
    return one("conv2d", shapes, **attributes, groups=groups, **activation(random), **pool)


def dense(random: Random) -> list[str]:
    *rest, features = dims(random, int(random.integers(2, 4)))
    rows = dims(random, 1)
    bias = [rows] * int(random.integers(2))
    return one("dense", [[*rest, features], [*rows, features], *bias], **activation(random))


def maxpool2d(random: Random) -> list[str]:
    size, attributes = window(random, ceil=True)
    return one("maxpool2d", [[2, 3, *size]], **attributes)


def avgpool2d(random: Random) -> list[str]:
    size, attributes = window(random, ceil=True)
    return ["opset ai.onnx=19", *one("avgpool2d", [[2, 3, *size]], **attributes, count_pads=int(random.integers(2)))]


def batchnorm(random: Random) -> list[str]:
    shape = dims(random, int(random.integers(2, 5)))
    numbers = [shape[1:2]] * 4
    lines = one("batchnorm", [shape, *numbers], epsilon=float(pick(random, 1e-5, 0.25)))
    return [line.replace("%x4", "%variance") for line in lines]


def elementwise(op: str) -> Callable[[Random], list[str]]:
    def make(random: Random) -> list[str]:
        shape = dims(random, int(random.integers(1, 5)))
        other = [1 if random.integers(2) else dim for dim in shape][int(random.integers(len(shape) + 1)) :]
        shapes = [shape, other] if random.integers(2) else [other, shape]
        return one(op, shapes)

    return make


def unary(op: str, **choices: tuple[float, ...]) -> Callable[[Random], list[str]]:
    def make(random: Random) -> list[str]:
        given = {key: pick(random, *values) for key, values in choices.items() if random.integers(2)}
        return one(op, [dims(random, int(random.integers(1, 5)))], **given)

    return make


def concat(random: Random) -> list[str]:
    shape = dims(random, int(random.integers(1, 5)))
    axis = int(random.integers(-len(shape), len(shape)))
    shapes = []
    for _ in range(int(random.integers(1, 4))):
        shapes.append(list(shape))
        shapes[-1][axis] = int(random.integers(1, 4))
    return one("concat", shapes, axis=axis)


def flatten(random: Random) -> list[str]:
    shape = dims(random, int(random.integers(1, 5)))
    return one("flatten", [shape], axis=int(random.integers(-len(shape), len(shape) + 1)))


def reshape(random: Random) -> list[str]:
    a, b, c = dims(random, 3)
    target = pick(random, [0, -1], [a, 0, c], [-1, c], [b, -1], [0, b * c], [c, b, a], [0, 0, c, 1], [-1])
    return one("reshape", [[a, b, c]], shape=target)


def transpose(random: Random) -> list[str]:
    shape = dims(random, int(random.integers(1, 5)))
    return one("transpose", [shape], perm=[int(i) for i in random.permutation(len(shape))])


def pad(random: Random) -> list[str]:
    shape = dims(random, int(random.integers(1, 5)))
    pads = [int(p) for p in random.integers(0, 3, 2 * len(shape))]
    if random.integers(3) == 0:
        axis = int(random.integers(len(shape)))
        shape[axis] += 3
        pads[axis] = -int(random.integers(1, 3))
    return one("pad", [shape], pads=pads, value=float(pick(random, 0.0, -1.5)))


def softmax(random: Random) -> list[str]:
    shape = dims(random, int(random.integers(1, 5)))
    return one("softmax", [shape], axis=int(random.integers(-len(shape), len(shape))))


def argmax(random: Random) -> list[str]:
    shape = dims(random, int(random.integers(1, 5)))
    axis = int(random.integers(-len(shape), len(shape)))
    switches = {"keepdims": int(random.integers(2)), "last": int(random.integers(2))}
    return one("argmax", [shape], "i64", axis=axis, **switches)


CASES: dict[str, Callable[[Random], list[str]]] = {
    "add": elementwise("add"),
    "argmax": argmax,
    "avgpool2d": avgpool2d,
    "batchnorm": batchnorm,
    "clip": unary("clip", min=(-0.5, -1.0), max=(0.25, 2.0)),
    "concat": concat,
    "conv2d": conv2d,
    "dense": dense,
    "flatten": flatten,
    "globalavgpool": lambda random: one("globalavgpool", [dims(random, 4)]),
    "hardsigmoid": unary("hardsigmoid", alpha=(1 / 6, 0.5), beta=(0.25, 0.0)),
    "hardswish": unary("hardswish"),
    "maxpool2d": maxpool2d,
    "mul": elementwise("mul"),
    "pad": pad,
    "quantize": unary("quantize"),
    "relu": unary("relu"),
    "reshape": reshape,
    "softmax": softmax,
    "transpose": transpose,
}


def samples(graph: Graph, random: Random) -> dict[str, Array]:
    """Numbers with many ties; a variance is positive."""
    made = {}
    for value in graph.inputs:
        numbers = random.integers(-16, 17, value.tensor_type.static_shape) / np.float32(4)
        made[value.name] = np.asarray(np.abs(numbers) + 1 if value.name == "variance" else numbers, np.float32)
    return made


def onnxruntime_outputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = to_model(graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, dict(inputs)), strict=True))


def test_every_op_of_the_hardware_set_has_a_meaning_and_a_case() -> None:
    assert sorted(MEANING) == sorted(OPS) == sorted(CASES)


@pytest.mark.parametrize("op", sorted(CASES))
def test_float32_is_what_onnxruntime_computes(op: str) -> None:
    for seed in range(40):
        random = np.random.default_rng(seed)
        lines = CASES[op](random)
        graph = graph_of(*lines)
        inputs = samples(graph, random)
        (found,), (wanted,) = evaluate(graph, inputs).values(), onnxruntime_outputs(graph, inputs).values()
        told = f"seed {seed}\n{graph}"
        assert found.shape == wanted.shape == graph.outputs[0].value.tensor_type.static_shape, told
        assert found.dtype == wanted.dtype, told
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6, err_msg=told)


def test_other_ops_are_what_onnx_says() -> None:
    graph = graph_of(
        "opset ai.onnx=17",
        "input %x : f32[2,3]",
        "weight %w = [0.25] : f32[1]",
        "%a = onnx.LeakyRelu(%x) {alpha=0.5} : f32[2,3]",
        "%b = onnx.PRelu(%a, %w) : f32[2,3]",
        "%c = onnx.Clip(%b, _, %w) : f32[2,3]",
        "output %c",
    )
    x = np.array([[-8, -2, 0], [0.125, 1, 5]], np.float32)
    assert evaluate(graph, {"x": x})["c"].tolist() == [[-1, -0.25, 0], [0.125, 0.25, 0.25]]
