"""by=hessian against brute force: take a channel out, solve the least squares anew, measure the error."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph, Node
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.passes import Context, damage, run_passes
from bitwright.passes.damage import Sums, WideSums
from bitwright.passes.moments import RIDGE

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]


def best_error(w: Matrix, x: Matrix, kept: Sequence[int]) -> tuple[float, Matrix]:
    """The least of mean |W x - W' x|^2 and a ridge over W' that is zero outside `kept`, and W'; x has mean 0.

    The ridge adds RIDGE to the power of each input, and a millionth of all inputs' mean power.
    """
    powers = np.square(x).mean(0)
    rows = np.concatenate([x / np.sqrt(len(x)), np.diag(np.sqrt(RIDGE * powers + 1e-6 * powers.mean()))])
    wanted = rows @ w.T
    found = np.linalg.lstsq(rows[:, list(kept)], wanted, rcond=None)[0]
    made = np.zeros_like(w)
    made[:, list(kept)] = found.T
    return float(np.square(wanted - rows @ made.T).sum()), made


@given(st.lists(st.integers(1, 3), min_size=2, max_size=5), st.integers(1, 4), st.integers(0, 10**6))
def test_the_cost_is_the_increase_of_the_least_error(sizes: list[int], outputs: int, seed: int) -> None:
    """Channel by channel, in any order; what is left is the least-squares solution."""
    random = np.random.default_rng(seed)
    count = sum(sizes)
    x = random.standard_normal((40, count)) @ random.standard_normal((count, count))
    x -= x.mean(0)
    w = random.standard_normal((outputs, count))
    places = random.permutation(count)
    columns = dict(enumerate(np.split(places, np.cumsum(sizes)[:-1])))
    sums = Sums.of(w, x.T @ x / len(x), columns, {})
    power = np.square(x @ w.T).sum() / len(x)
    gone: list[int] = []
    before = 0.0
    for channel in random.permutation(len(sizes))[:-1].tolist():
        costs = sums.costs([channel, 99])
        sums.remove(channel)
        gone += columns[channel].tolist()
        error, left = best_error(w, x, sorted(set(range(count)) - set(gone)))
        np.testing.assert_allclose(costs * power, [error - before, 0.0], rtol=1e-6, atol=1e-9 * power)
        np.testing.assert_allclose(sums.w, left, atol=1e-6 * np.abs(w).max())
        before = error


def test_outputs_that_go_with_a_channel_do_not_count() -> None:
    random = np.random.default_rng(0)
    w, h = random.standard_normal((3, 2)), np.eye(2)
    columns = {7: np.array([0]), 8: np.array([1])}
    alone = Sums.of(w[[0, 2]], h, columns, {})
    with_row = Sums.of(w, h, columns, {7: np.array([1])})
    whole = Sums.of(w, h, columns, {})
    assert with_row.costs([7])[0] * with_row.power == pytest.approx(alone.costs([7])[0] * alone.power)
    assert with_row.costs([8])[0] == pytest.approx(whole.costs([8])[0])
    with_row.remove(7)
    assert with_row.costs([8])[0] * with_row.power == pytest.approx(alone.costs([8])[0] * alone.power)


def test_wide_layers_cost_what_each_channel_does_alone() -> None:
    random = np.random.default_rng(1)
    x, w = random.standard_normal((30, 5)), random.standard_normal((3, 5))
    columns, rows = {4: np.array([0, 2]), 9: np.array([3])}, {9: np.array([1])}
    without = np.where(np.isin(np.arange(5), [0, 2]), 0.0, w), np.where(np.arange(5) == 3, 0.0, w)
    errors = [np.square(x @ (w - left).T).sum(0) for left in without]
    expected = [errors[0].sum(), errors[1][[0, 2]].sum(), 0.0]
    found = WideSums.of(w, x, columns, rows).costs([4, 9, 5])
    np.testing.assert_allclose(found * np.square(x @ w.T).sum(), expected)


def test_a_wide_layer_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "MOST_INPUTS", 10)
    head = HEAD.replace("%b1 = 00000004 : f32[4]", "%b1 = [1.0,2.0,-1000.0,4.0] : f32[4]")
    inputs = {"x": np.random.default_rng(0).standard_normal((50, 2, 4, 4)).astype(np.float32)}
    options = "prune-channels{layer=conv1,sparsity=0.25,by=hessian}"
    after = run_passes(parse(head + GRAPHS["both"] + "\n}"), options, Context(inputs))
    assert numbers(after.nodes[0], 2).tolist() == [1.0, 2.0, 4.0]


# the pass


HEAD = """graph @g {
  input %x : f32[N,2,4,4]
  weight %w1 = 00000001 : f32[4,2,3,3]
  weight %w2 = 00000002 : f32[3,4,3,3]
  weight %w3 = 00000003 : f32[4,4,1,1]
  weight %b1 = 00000004 : f32[4]
  weight %wf = 00000005 : f32[5,64]
  weight %wg = 00000006 : f32[4,2,1,1]
  weight %wd = 00000007 : f32[4,1,3,3]
  %conv1 = conv2d(%x, %w1, %b1) {act=relu, kernel=[3,3], pads=[1,1,1,1]} : f32[N,4,4,4]
"""
TWO = "  %conv2 = conv2d(%conv1, %w2) {kernel=[3,3], pads=[1,1,0,0], strides=[2,2]} : f32[N,3,2,2]\n"
FLAT = "  %flat = flatten(%conv1) : f32[N,64]\n  %fc = dense(%flat, %wf) : f32[N,5]\n"
GRAPHS = {
    "a convolution": TWO + "output %conv2",
    "a dense": FLAT + "output %fc",
    "both": TWO + FLAT + "output %conv2\noutput %fc",
    "a residual": "  %conv3 = conv2d(%conv1, %w3) {kernel=[1,1]} : f32[N,4,4,4]\n"
    "  %sum = add(%conv3, %conv1) : f32[N,4,4,4]\n  %flat = flatten(%sum) : f32[N,64]\n"
    "  %fc = dense(%flat, %wf) : f32[N,5]\noutput %fc",
    "a depthwise": "  %deep = conv2d(%conv1, %wd) {groups=4, kernel=[3,3], pads=[1,1,1,1]} : f32[N,4,4,4]\n"
    "  %flat = flatten(%deep) : f32[N,64]\n  %fc = dense(%flat, %wf) : f32[N,5]\noutput %fc",
}


def numbers(value_of: Node, index: int) -> Matrix:
    tensor = value_of.operand(index).tensor
    assert tensor is not None
    return tensor.data.astype(np.float64)


def rows_by_hand(node: Node, x: Array) -> Matrix:
    """The inputs of every sum of a layer of one group [sums, inputs], window by window."""
    if node.op == "dense":
        return x.astype(np.float64)
    pads, strides = node.attributes.get("pads", (0, 0, 0, 0)), node.attributes.get("strides", (1, 1))
    assert isinstance(pads, tuple)
    assert isinstance(strides, tuple)
    top, left, bottom, right = (int(pad) for pad in pads)  # type: ignore[arg-type]
    down, across = (int(stride) for stride in strides)  # type: ignore[arg-type]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    high, wide = numbers(node, 1).shape[2:]
    places = itertools.product(range(0, padded.shape[2] - high + 1, down), range(0, padded.shape[3] - wide + 1, across))
    return np.concatenate([padded[:, :, i : i + high, j : j + wide].reshape(len(x), -1) for i, j in places])


def errors_by_hand(graph: Graph, inputs: Mapping[str, Array], readers: Mapping[str, tuple[str, bool]]) -> list[float]:
    """For each channel of conv1 the sum over its readers of their relative error without it."""
    totals = [0.0] * 4
    found = evaluate(graph, inputs, [value for value, _ in readers.values()])
    nodes = {node.name: node for node in graph.nodes}
    for name, (value, own_row) in readers.items():
        x = rows_by_hand(nodes[name], found[value])
        x -= x.mean(0)
        w = numbers(nodes[name], 1).reshape(len(numbers(nodes[name], 1)), -1)
        power = np.square(x @ w.T).sum() / len(x)
        for channel in range(4):
            block = w.shape[1] // 4
            kept = [i for i in range(w.shape[1]) if i // block != channel]
            counted = [row for row in range(len(w)) if not own_row or row != channel]
            totals[channel] += best_error(w[counted], x, kept)[0] / power
    return totals


@pytest.mark.parametrize(
    ("kind", "readers"),
    [
        ("a convolution", {"conv2": ("conv1", False)}),
        ("a dense", {"fc": ("flat", False)}),
        ("both", {"conv2": ("conv1", False), "fc": ("flat", False)}),
        ("a residual", {"conv3": ("conv1", True), "fc": ("flat", False)}),
        ("a depthwise", {"fc": ("flat", False)}),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_channel_that_goes_is_missed_least(kind: str, readers: dict[str, tuple[str, bool]], seed: int) -> None:
    text = HEAD.replace("= 0000000", f"= 000000{seed + 1}") + GRAPHS[kind] + "\n}"
    graph = parse(text)
    inputs = {"x": np.random.default_rng(seed).standard_normal((200, 2, 4, 4)).astype(np.float32)}
    after = run_passes(graph, "prune-channels{layer=conv1,sparsity=0.25,by=hessian}", Context(inputs))
    biases = numbers(graph.nodes[0], 2).tolist()
    left = numbers(after.nodes[0], 2).tolist()
    (gone,) = [channel for channel, bias in enumerate(biases) if bias not in left]
    totals = errors_by_hand(graph, inputs, readers)
    assert np.ptp(totals) > 0
    assert gone == int(np.argmin(totals))


def test_a_dead_channel_costs_nothing_whatever_its_weights_are() -> None:
    graph = parse(
        HEAD.replace("%b1 = 00000004 : f32[4]", "%b1 = [0.0,0.0,-1000.0,0.0] : f32[4]") + TWO + "output %conv2}"
    )
    inputs = {"x": np.random.default_rng(0).standard_normal((50, 2, 4, 4)).astype(np.float32)}
    after = run_passes(graph, "prune-channels{layer=conv1,sparsity=0.25,by=hessian}", Context(inputs))
    assert numbers(after.nodes[0], 2).tolist() == [0.0, 0.0, 0.0]


def test_it_needs_samples() -> None:
    with pytest.raises(CompileError, match="measures on samples, and there are none") as error:
        run_passes(parse(HEAD + GRAPHS["both"] + "\n}"), "prune-channels{sparsity=0.5,by=hessian}")
    assert error.value.help == "give --data"
