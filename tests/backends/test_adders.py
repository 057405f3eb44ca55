"""Adder graphs compute the product with their matrix, in exact integers, with adders that pay."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.backends.hls.adders.by_da4ml import by_da4ml, is_installed
from bitwright.backends.hls.adders.graph import Adder, AdderGraph, Ints, Output, adder_luts
from bitwright.backends.hls.adders.sharing import EXTRA_DEPTH, shared, signed_digits, unshared
from bitwright.backends.hls.adders.solve import shared_graph

RANGES = ((-127, 127), (0, 255), (-1, 1), (0, 1), (-7, 7))


def computed(graph: AdderGraph, x: Ints) -> list[int]:
    """What the adders give for a vector, in Python's integers; every node is checked against its range."""
    nodes = [int(value) for value in x]
    for adder in graph.adders:
        left, right = nodes[adder.left] << adder.left_shift, nodes[adder.right] << adder.right_shift
        nodes.append(left - right if adder.subtracts else left + right)
        low, high = graph.ranges[len(nodes) - 1]
        assert low <= nodes[-1] <= high
    found = [0 if out.node is None else nodes[out.node] << out.shift for out in graph.outputs]
    return [-value if out.negative else value for value, out in zip(found, graph.outputs, strict=True)]


def digits_less_one(weights: Ints) -> int:
    """Adders of the rows one by one: each digit but the first of a row takes one."""
    return int(np.maximum(np.count_nonzero(signed_digits(weights), axis=(1, 2)) - 1, 0).sum())


def fewest_levels(weights: Ints) -> int:
    return max(0, int(np.count_nonzero(signed_digits(weights), axis=(1, 2)).max(initial=1)) - 1).bit_length()


@st.composite
def matrices(draw: st.DrawFn) -> Ints:
    """Dense ones, ternary ones, those with powers of two only, with rows that are multiples of others."""
    outputs, inputs = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    most = draw(st.sampled_from([1, 3, 7, 31, 127, 32767]))
    numbers = st.sampled_from([-64, -1, 0, 0, 2, 8]) if draw(st.booleans()) else st.integers(-most, most)
    found = draw(st.lists(numbers, min_size=outputs * inputs, max_size=outputs * inputs))
    matrix = np.array(found, np.int64).reshape(outputs, inputs)
    if outputs > 2 and draw(st.booleans()):
        matrix[1] = matrix[0] * draw(st.sampled_from([1, -1, 4, -2]))
    return matrix


@settings(max_examples=200, deadline=None)
@given(weights=matrices(), ends=st.sampled_from(RANGES), seed=st.integers(0, 1000))
def test_a_graph_is_its_matrix(weights: Ints, ends: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for graph in (shared(weights, *ends), unshared(weights, *ends), shared_graph(weights, *ends)):
        assert np.array_equal(graph.matrix, weights)
        for x in (*rng.integers(*ends, (5, graph.inputs), endpoint=True), np.full(graph.inputs, ends[0])):
            assert computed(graph, x) == (weights @ x).tolist()
        assert len(graph.adders) <= digits_less_one(weights)
        assert graph.depth <= fewest_levels(weights) + (EXTRA_DEPTH if graph.adders else 0)
    assert unshared(weights, *ends).depth == fewest_levels(weights)
    assert shared_graph(weights, *ends).luts <= unshared(weights, *ends).luts


@settings(max_examples=60, deadline=None)
@given(weights=matrices(), ends=st.sampled_from(RANGES))
def test_ranges_are_reached(weights: Ints, ends: tuple[int, int]) -> None:
    """By the inputs that are at one end wherever the node's weight is positive, and at the other elsewhere."""
    graph = shared(weights, *ends)
    for form, (low, high) in zip(graph.forms, graph.ranges, strict=True):
        signs = np.zeros(graph.inputs, np.int64)
        signs[list(form)] = np.sign(list(form.values()))
        row = np.zeros(graph.inputs, np.int64)
        row[list(form)] = list(form.values())
        assert row @ np.where(signs > 0, ends[0], ends[1]) == low
        assert row @ np.where(signs > 0, ends[1], ends[0]) == high


@given(st.integers(-(1 << 40), 1 << 40))
def test_digits_are_canonical(number: int) -> None:
    digits = signed_digits(np.array([number]))[0]
    assert sum(int(digit) << place for place, digit in enumerate(digits)) == number
    assert not (digits[1:] * digits[:-1]).any()


def test_blocks_of_columns() -> None:
    """A large matrix shares within blocks: with fewer adders than without sharing, and more than as a whole."""
    weights = np.random.default_rng(1).integers(-15, 16, (12, 40))
    whole = shared(weights, -7, 7)
    parts = shared(weights, -7, 7, 3000)
    assert np.array_equal(parts.matrix, weights)
    assert len(whole.adders) < len(parts.adders) < digits_less_one(weights)


# ---- optima -------------------------------------------------------------------------------------------------------


def fewest(weights: Ints, most: int) -> int | None:
    """The fewest adders that make every row up to a shift and a sign, by trying everything; None: more than `most`."""
    inputs = weights.shape[1]
    wanted = frozenset(normal(tuple(row)) for row in weights.tolist()) - {(0,) * inputs}
    start = frozenset(tuple(int(i == j) for j in range(inputs)) for i in range(inputs))
    bound = 2 * int(np.abs(weights).max())
    return next((count for count in range(most + 1) if made_with(count, start, wanted, bound)), None)


def made_with(count: int, forms: frozenset[tuple[int, ...]], wanted: frozenset[tuple[int, ...]], bound: int) -> bool:
    missing = wanted - forms
    if not missing or len(missing) > count:
        return not missing
    tried = sums(forms, bound)
    tried = tried & missing if len(missing) == count else tried
    return any(made_with(count - 1, forms | {made}, wanted, bound) for made in tried)


def sums(forms: frozenset[tuple[int, ...]], bound: int) -> set[tuple[int, ...]]:
    found = set()
    for one, two in itertools.combinations_with_replacement(sorted(forms), 2):
        for places in range(bound.bit_length() + 1):
            for left, right, sign in itertools.product((0, places), (0, places), (1, -1)):
                made = normal(tuple((a << left) + sign * (b << right) for a, b in zip(one, two, strict=True)))
                if any(made) and max(map(abs, made)) <= bound:
                    found.add(made)
    return found - forms


def normal(form: tuple[int, ...]) -> tuple[int, ...]:
    """Odd somewhere, and the first that is not 0 positive."""
    if not any(form):
        return form
    while all(number % 2 == 0 for number in form):
        form = tuple(number // 2 for number in form)
    return form if next(number for number in form if number) > 0 else tuple(-number for number in form)


KNOWN = {
    "one weight of two digits": ([[3]], 1),
    "one of three": ([[11]], 2),
    "a power of two is wires": ([[4, 0], [0, -8]], 0),
    "a row and its multiple": ([[1, 3], [-2, -6]], 2),
    "a shared pair": ([[1, 1, 0], [1, 1, 1]], 2),
    "a pair at two places": ([[5, 5]], 2),
    "a butterfly": ([[1, 1], [1, -1]], 2),
    "three sums with a pair": ([[1, 1, 1], [1, 1, -1], [2, 2, 1]], 4),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_optima(name: str) -> None:
    rows, adders = KNOWN[name]
    weights = np.array(rows)
    assert len(shared(weights, -7, 7).adders) == fewest(weights, adders) == adders


def test_greedy_is_not_always_best() -> None:
    """The fourth row is the sum of the first two, which no pattern of two digits shows."""
    weights = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [2, 2, 1]])
    assert (len(shared(weights, -7, 7).adders), fewest(weights, 5)) == (6, 5)


def test_small_matrices_are_near_their_optimum() -> None:
    """All 2 x 2 matrices with weights of 0 to 3: of 256, 38 take an adder too many, and none takes two."""
    above = []
    for numbers in itertools.product(range(4), repeat=4):
        weights = np.array(numbers).reshape(2, 2)
        least = fewest(weights, 3)
        assert least is not None
        above.append(len(shared(weights, -7, 7).adders) - least)
    assert min(above) == 0
    assert max(above) == 1
    assert sum(above) <= 38


def test_luts_of_an_adder() -> None:
    """What is above the bits that pass by; all where the lower operand is negated."""
    graph = AdderGraph(2, 0, 15, (Adder(0, 1, 0, 2, False), Adder(0, 1, 2, 0, True)), (Output(2), Output(3)))
    assert graph.ranges[2:] == [(0, 75), (-15, 60)]
    assert [adder_luts(a, *ends) for a, ends in zip(graph.adders, graph.ranges[2:], strict=True)] == [5, 7]


# ---- da4ml --------------------------------------------------------------------------------------------------------

needs_da4ml = pytest.mark.skipif(not is_installed(), reason="needs da4ml: pip install 'bitwright[da4ml]'")


@needs_da4ml
@settings(max_examples=60, deadline=None)
@given(weights=matrices(), ends=st.sampled_from(RANGES), seed=st.integers(0, 1000))
def test_da4ml_gives_a_graph_of_the_matrix(weights: Ints, ends: tuple[int, int], seed: int) -> None:
    graph = by_da4ml(weights, *ends)
    assert graph is not None
    x = np.random.default_rng(seed).integers(*ends, graph.inputs, endpoint=True)
    assert computed(graph, x) == (weights @ x).tolist()
    taken = graph.depth <= fewest_levels(weights) + EXTRA_DEPTH
    ours = shared(weights, *ends).luts
    assert shared_graph(weights, *ends).luts <= (min(graph.luts, ours) if taken else ours)


@needs_da4ml
def test_weights_that_float32_does_not_hold_are_not_given_to_da4ml() -> None:
    assert by_da4ml(np.array([[(1 << 24) + 1]]), -7, 7) is None
