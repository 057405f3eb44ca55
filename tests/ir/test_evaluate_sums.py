"""ir/evaluate.py: exact sums against fractions, and how wide an accumulator must be."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from exact_sums import activations, assert_exact, exact_sums, in_format, power, sum_graph, sums, weight_step, weights
from graph_text import graph_of
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.ir import edit
from bitwright.ir.accumulate import accumulator
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical, fixed
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array

# exact sums, against fractions


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
