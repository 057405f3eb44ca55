"""The sums of conv2d and dense in fractions, from the definitions of formats and rounding, and random cases of them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.ir import edit
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical, binary, exp, fixed, float_format
from bitwright.ir.graph import Graph
from bitwright.ir.ops import integers, result_shape
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Type
from bitwright.ir.verify import verify


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
