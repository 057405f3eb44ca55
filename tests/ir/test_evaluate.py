"""ir/evaluate.py: every op on float32 against onnxruntime, exact sums against fractions, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.ir import edit
from bitwright.ir.accumulate import accumulator
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import MEANING, evaluate
from bitwright.ir.formats import Canonical, binary, exp, fixed, float_format
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.write import to_model
from bitwright.ir.ops import OPS, integers, result_shape
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Native, Type
from bitwright.ir.verify import verify

Random = np.random.Generator


def graph_of(*lines: str) -> Graph:
    """The graph of these lines; results of type `f32[*]` take the shape that their op gives."""
    graph = parse("graph @test {\n" + "\n".join(lines) + "\n}")
    for node in graph.nodes:
        type = node.result.tensor_type
        if type.shape is None:
            edit.set_type(node.result, type.with_shape(result_shape(node)))
    verify(graph)
    return graph


# on float32, against onnxruntime


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


# exact sums, against fractions


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def rounded(x: Fraction, format: Canonical, bias: int) -> Fraction:
    """The contract's rounding, from its definition: to nearest, half to even (EXP: to the larger power), saturated."""
    if format.n_e == format.n_f == 0:
        return power(-bias) if x >= 0 else -power(-bias)
    size = abs(x)
    quantum = smallest = power(1 - bias - format.n_f)
    if format.n_e:
        while size >= quantum * 2 ** (format.n_f + 1):
            quantum *= 2
        highest = power((1 << format.n_e) - 1 - bias) * (2 - power(-format.n_f))
    else:
        highest = smallest * max((1 << format.n_f) - 1, 1)
    result = min(round(size / quantum) * quantum, highest)
    return max(result if x >= 0 else -result, -highest if format.n_s else Fraction(0))


def fractions(array: Array) -> NDArray[np.object_]:
    return np.asarray(np.frompyfunc(Fraction, 1, 1)(array.astype(np.float64)), object)


def in_format(array: Array, format: Canonical) -> NDArray[np.object_]:
    """The exact numbers of a format, a bias a channel of axis 0."""
    exact = fractions(array)
    result = np.empty_like(exact)
    for index in np.ndindex(exact.shape):
        bias = format.bias if isinstance(format.bias, int) else format.bias[index[0]]
        result[index] = rounded(exact[index], format, bias)
    return result


def exact_sums(graph: Graph, x: Array) -> NDArray[np.object_]:
    """What the one conv2d or dense of a graph gives, in fractions, before the rounding into its format."""
    node = graph.nodes[0]
    weight, bias = node.operand(1), node.optional(2)
    x_format, w_format = node.operand(0).tensor_type.number, weight.tensor_type.number
    assert isinstance(x_format, Canonical)
    assert isinstance(w_format, Canonical)
    assert weight.tensor is not None
    numbers, w = in_format(x, x_format), in_format(weight.tensor.data, w_format)
    channels = len(w)
    steps = [step_of(x_format, 0) * weight_step(w_format, w, c) for c in range(channels)]
    b = [Fraction(0)] * channels
    if bias is not None:
        assert bias.tensor is not None
        b = [round(number / step) * step for number, step in zip(fractions(bias.tensor.data), steps, strict=True)]
    if node.op == "dense":
        sums = np.array([[sum(w[c] * row) + b[c] for c in range(channels)] for row in numbers], object)
    else:
        sums = conv_fractions(node.attributes, numbers, w, b)
    act = node.attributes.get("act", "none")
    if act == "relu":
        sums = np.maximum(sums, 0)
    elif act == "clip":
        low, high = (Fraction(node.attributes[key]) for key in ("act_min", "act_max"))
        for index in np.ndindex(sums.shape):
            step = steps[index[1]]
            least, most = round(low / step) * step, round(high / step) * step
            sums[index] = min(max(sums[index], least), most)
    pool = integers(node, "pool")
    return pooled(sums, pool, integers(node, "pool_strides") or pool) if pool else sums


def step_of(format: Canonical, channel: int) -> Fraction:
    """What every number of a format is a multiple of."""
    bias = format.bias if isinstance(format.bias, int) else format.bias[channel]
    return power(-bias if format.n_e == format.n_f == 0 else 1 - bias - format.n_f)


def weight_step(format: Canonical, w: NDArray[np.object_], channel: int) -> Fraction:
    """The weights' part of the accumulator's step: that of the format, of EXP the smallest weight of the channel."""
    sizes = [abs(number) for number in w[channel].flat if number]
    return min(sizes) if format.n_e and sizes else step_of(format, channel)


def conv_fractions(attributes: Mapping[str, Any], x: Array, w: Array, b: list[Fraction]) -> NDArray[np.object_]:
    (sy, sx), (top, left, bottom, right) = attributes.get("strides", (1, 1)), attributes.get("pads", (0, 0, 0, 0))
    groups = int(attributes.get("groups", 1))
    n, _, rows, cols = x.shape
    channels, depth, kh, kw = w.shape
    out = np.empty((n, channels, (rows + top + bottom - kh) // sy + 1, (cols + left + right - kw) // sx + 1), object)
    for i, c, r, q in np.ndindex(out.shape):
        total = b[c]
        first = c // (channels // groups) * depth
        for d, u, v in product(range(depth), range(kh), range(kw)):
            y, z = r * sy + u - top, q * sx + v - left
            if 0 <= y < rows and 0 <= z < cols:
                total += x[i, first + d, y, z] * w[c, d, u, v]
        out[i, c, r, q] = total
    return out


def pooled(x: Array, kernel: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[np.object_]:
    rows, cols = ((x.shape[2 + i] - kernel[i]) // strides[i] + 1 for i in (0, 1))
    out = np.empty((*x.shape[:2], rows, cols), object)
    for n, c, r, q in np.ndindex(out.shape):
        y, z = r * strides[0], q * strides[1]
        out[n, c, r, q] = x[n, c, y : y + kernel[0], z : z + kernel[1]].max()
    return out


def assert_exact(graph: Graph, x: Array) -> None:
    """The graph's output is the exact sum, rounded once into the output's format."""
    found = evaluate(graph, {"x": x})["y"]
    type = graph.nodes[0].result.tensor_type
    sums = exact_sums(graph, x)
    if type.number is None:
        assert found.dtype == np.float32
        wanted = np.frompyfunc(lambda fraction: to_float32(fraction), 1, 1)(sums)
    else:
        assert isinstance(type.number, Canonical)
        wanted = np.frompyfunc(lambda fraction: rounded(fraction, type.number, type.number.bias), 1, 1)(sums)
    assert (fractions(found) == wanted).all(), f"{graph}\n{found}\n{wanted.astype(float)}"


def to_float32(x: Fraction) -> Fraction:
    return rounded(x, float_format(32), 127)


widths = st.integers(2, 9)
biases = st.integers(-3, 6)
activations = st.one_of(
    st.builds(fixed, widths, biases),
    st.builds(fixed, widths, biases, st.just(0)),
    st.builds(exp, st.integers(2, 4), st.integers(0, 9)),
    st.builds(exp, st.integers(2, 4), st.integers(0, 9), st.just(0)),
    st.builds(binary, biases),
)
results = st.one_of(activations, st.builds(float_format, st.integers(6, 16)), st.just(None))


@st.composite
def weights(draw: st.DrawFn, channels: int) -> Canonical:
    format = draw(activations)
    if draw(st.booleans()):
        return format.at(tuple(format.bias + draw(st.integers(-2, 2)) for _ in range(channels)), 0)
    return format


@st.composite
def sums(draw: st.DrawFn) -> tuple[Graph, Array]:
    """A graph of one conv2d or dense of exact formats, and inputs; numbers are often half way between two steps."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def numbers(*shape: int) -> Array:
        return np.asarray(random.integers(-40, 41, shape) / draw(st.sampled_from([4, 8, 32, 1])), np.float32)

    act = draw(st.sampled_from(["none", "relu", "clip"]))
    attributes: dict[str, Any] = {} if act == "none" else {"act": act}
    if act == "clip":
        attributes |= {
            "act_min": draw(st.sampled_from([-3.3, -0.5, 0.0])),
            "act_max": draw(st.sampled_from([0.7, 6.0])),
        }
    if draw(st.booleans()):
        features, channels = draw(st.integers(1, 6)), draw(st.integers(1, 4))
        x, w = numbers(2, features), numbers(channels, features)
        op = "dense"
    else:
        op, groups = "conv2d", draw(st.sampled_from([1, 1, 2]))
        depth, per_group = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        kernel = draw(st.integers(1, 2)), draw(st.integers(1, 3))
        channels = groups * per_group
        x, w = numbers(1, groups * depth, 4, 5), numbers(channels, depth, *kernel)
        attributes |= {"kernel": kernel, "groups": groups}
        if draw(st.booleans()):
            attributes["pads"] = tuple(draw(st.integers(0, 1)) for _ in range(4))
        if draw(st.booleans()):
            attributes["strides"] = (draw(st.integers(1, 2)), 1)
        if draw(st.booleans()):
            attributes["pool"] = (1, 2)
            if draw(st.booleans()):
                attributes["pool_strides"] = (2, 1)
    bias = numbers(channels) if draw(st.booleans()) else None
    return sum_graph(op, x, w, bias, draw(activations), draw(weights(channels)), draw(results), attributes), x


def sum_graph(
    op: str,
    x: Array,
    w: Array,
    bias: Array | None,
    x_format: Canonical,
    w_format: Canonical,
    y_format: Canonical | None,
    attributes: Mapping[str, Any] | None = None,
) -> Graph:
    graph = Graph("sum", {"": 17})
    operands = [edit.add_input(graph, "x", Type(x_format, x.shape))]
    operands.append(edit.add_weight(graph, "w", Tensor(w), Type(w_format, w.shape)))
    if bias is not None:
        operands.append(edit.add_weight(graph, "b", Tensor(bias)))
    node = edit.add_node(graph, op, operands, {"y": Type(y_format or F32)}, attributes)
    edit.set_type(node.result, node.result.tensor_type.with_shape(result_shape(node)))
    edit.add_output(graph, node.result)
    verify(graph)
    return graph


@settings(max_examples=200)
@given(sums())
def test_sums_of_formats_are_exact_and_rounded_once(case: tuple[Graph, Array]) -> None:
    graph, x = case
    assert accumulator(graph.nodes[0]) is not None
    assert_exact(graph, x)


@pytest.mark.parametrize(
    ("x_format", "w_format", "least_bits", "most_bits"),
    [
        ("FIXED 24", "FIXED 24", 0, 53),
        ("FIXED 30", "FIXED 30", 53, 63),
        ("FIXED 31 -4", "FIXED<31,B={2,-3,0}@0>", 53, 64),
        ("FIXED 40", "FIXED 40", 63, 90),
        ("EXP 8", "EXP 8", 63, 300),
        ("EXP 5", "FIXED 30", 40, 53),
        ("EXP 6 20", "FIXED 40", 63, 80),
        ("EXP 11", "EXP 11", 1023, 2100),
        ("BIN", "FIXED 53", 52, 63),
    ],
)
@pytest.mark.parametrize("result", ["FIXED 8 -3", "FIXED 45 -2", "EXP 6", "BIN", None])
def test_wide_sums_are_exact(x_format: str, w_format: str, least_bits: int, most_bits: int, result: str | None) -> None:
    formats = [parse_format(text) for text in (x_format, w_format)]
    y_format = None if result is None else parse_format(result)
    for seed in range(3):
        random = np.random.default_rng(seed)
        x, w, b = (random.standard_normal(shape) * 2 for shape in ((2, 5), (3, 5), (3,)))
        graph = sum_graph("dense", x, w, b.astype(np.float32), *formats, y_format)
        exact = accumulator(graph.nodes[0])
        assert exact is not None
        assert 2**least_bits <= exact.bound < 2**most_bits
        assert_exact(graph, x)
        w_format, weight = formats[1], graph.values["w"].tensor
        assert isinstance(formats[0], Canonical)
        assert isinstance(w_format, Canonical)
        assert weight is not None
        rows = in_format(weight.data, w_format)
        steps = [weight_step(w_format, rows, channel) for channel in range(len(rows))]
        sums = [sum(abs(row)) / step * formats[0].max_code for row, step in zip(rows, steps, strict=True)]
        most = max(total + abs(int(b)) for total, b in zip(sums, exact.bias, strict=True))
        assert most <= exact.bound <= most * (1 + Fraction(1, 2**19)), "the bound is no bound, or a loose one"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("width", [30, 33])
def test_a_sum_beyond_53_bits_just_past_a_tie_is_not_rounded_twice(width: int, sign: int) -> None:
    """2^56 + 1 steps, into a format with a step of 2^57: float64 would see the tie and go to 0."""
    half = 2.0 ** (width - 2)
    x_format = fixed(width, 2 - width)  # a step of 1
    far = 2 * (width - 2) + 1
    graph = sum_graph(
        "dense",
        np.array([[half, 1.0]]),
        np.array([[half * sign, sign]]),
        None,
        x_format,
        x_format,
        fixed(8, 2 - 8 - far),
    )
    assert evaluate(graph, {"x": np.array([[half, 1.0]])})["y"] == sign * 2.0**far
    assert evaluate(graph, {"x": np.array([[half, 0.0]])})["y"] == 0


def test_a_bias_half_way_between_two_steps_goes_to_the_even_one() -> None:
    bias = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.75], np.float32) * 2.0**-4
    graph = sum_graph("dense", np.zeros((1, 1)), np.zeros((6, 1)), bias.astype(np.float32), fixed(4), fixed(4), None)
    assert (evaluate(graph, {"x": np.zeros((1, 1))})["y"] * 2**4).tolist() == [[0, 2, 2, 0, -2, 1]]


def test_a_sum_of_far_apart_steps_is_rounded_once() -> None:
    """float32 would round 1 + 2^-27, in steps of 2, to the tie 1 and from there to 0."""
    graph = graph_of(
        "input %x : FIXED<4,B=-2>[1]",
        "input %y : FIXED<4,B=25>[1]",
        "%s = add(%x, %y) : FIXED<8,B=-7>[*]",
        "output %s",
    )

    def total(x: float, y: float) -> float:
        return evaluate(graph, {"x": np.array([x], np.float32), "y": np.array([y], np.float32)})["s"].item()

    assert [total(1, 2.0**-27), total(1, 0), total(1, -(2.0**-27))] == [2, 0, 0]
    assert [total(3, 2.0**-27), total(3, 0), total(3, -(2.0**-27))] == [4, 4, 2]


def test_a_result_without_a_format_is_float32() -> None:
    graph = graph_of("input %x : FIXED<8>[1,3]", "%y = softmax(%x) : f32[*]", "output %y")
    assert evaluate(graph, {"x": np.ones((1, 3))})["y"].dtype == np.float32


def test_a_bias_that_is_computed_is_added() -> None:
    graph = graph_of(
        "input %x : FIXED<8,B=-2>[1,1]",
        "input %b : FIXED<8,B=-2>[2]",
        "weight %w = [1,0.5] : FIXED<8,B=-2>[2,1]",
        "%c = relu(%b) : FIXED<8,B=-2>[2]",
        "%y = dense(%x, %w, %c) : FIXED<8,B=-2>[*]",
        "output %y",
    )
    given = {"x": np.array([[2.0]]), "b": np.array([1.0, -5.0])}
    assert evaluate(graph, given)["y"].tolist() == [[3, 1]]


# the accumulator


@settings(max_examples=200)
@given(sums())
def test_no_input_leaves_the_accumulator(case: tuple[Graph, Array]) -> None:
    graph, x = case
    node = graph.nodes[0]
    exact = accumulator(node)
    assert exact is not None
    for key in ("act", "act_min", "act_max", "pool", "pool_strides"):
        edit.set_attribute(node, key, None)
    for index, total in np.ndenumerate(exact_sums(graph, x)):
        steps = total / power(int(exact.exponents[index[1]]))
        assert steps.denominator == 1
        assert abs(steps) <= exact.bound
    assert 2 ** (exact.bits - 2) <= max(exact.bound, 0.5) < 2 ** (exact.bits - 1)


@given(st.data())
def test_the_accumulator_is_as_small_as_it_can_be(data: st.DataObject) -> None:
    """The input of the largest numbers with the signs of the worst channel's weights reaches the bound."""
    channels, features = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 8))
    signed = activations.filter(lambda format: format.n_s == 1)
    x_format, w_format = data.draw(signed), data.draw(weights(channels))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    w = random.standard_normal((channels, features)) * 2
    bias = (random.standard_normal(channels) * 3).astype(np.float32) if data.draw(st.booleans()) else None
    graph = sum_graph("dense", np.zeros((1, features)), w, bias, x_format, w_format, None)
    exact = accumulator(graph.nodes[0])
    assert exact is not None
    reached = Fraction(0)
    for channel, row in enumerate(w_format.quantize(w)):
        for sign in (1, -1):
            x = sign * float(x_format.max) * np.where(row >= 0, 1.0, -1.0)
            total = exact_sums(graph, x[None])[0, channel]
            reached = max(reached, abs(total) / power(int(exact.exponents[channel])))
    assert reached == exact.bound


@pytest.mark.parametrize(
    ("x_format", "w_format"),
    [("FLOAT 16", "FIXED 8"), ("FIXED 8", "FLOAT 16"), ("AFFINE<8,scale=0.1>", "FIXED 8"), ("FIXED 8", "FLOAT 32")],
)
def test_float_and_affine_operands_have_no_accumulator(x_format: str, w_format: str) -> None:
    formats = [parse_format(text) for text in (x_format, w_format)]
    graph = sum_graph("dense", np.ones((1, 2)), np.ones((3, 2), np.float32), None, *formats, None)
    assert accumulator(graph.nodes[0]) is None
    found = evaluate(graph, {"x": np.ones((1, 2), np.float32)})["y"]
    assert found.dtype == np.float32
    assert np.allclose(found, [[2, 2, 2]], atol=0.3)


# what it is given


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
