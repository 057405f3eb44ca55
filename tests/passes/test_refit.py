"""refit against numpy's least squares: each layer's weights are those that give its float sums back best.

The inputs of each layer are read off the result: they are what the refitted layers before it give. The sums of the
whole network are those of its nodes, which have no activations of their own here.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bitwright.models
from bitwright.backends.simulation.score import score
from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.graph import Graph, Node
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array, Tensor
from bitwright.models.datasets import load as load_data
from bitwright.passes import STRUCTURE, Context, Reference, run_passes
from bitwright.passes.moments import fitted

Matrix = NDArray[np.float64]
MODELS = Path(str(bitwright.models.__file__)).parent
RIDGE = 0.02

NETWORK = """graph @g {
  input %x : f32[N,2,5,5]
  weight %w1 = 00000001 : f32[6,2,3,3]
  weight %b1 = 00000002 : f32[6]
  weight %w2 = 00000003 : f32[8,3,2,2]
  weight %b2 = 00000004 : f32[8]
  weight %w3 = 00000005 : f32[8,1,3,3]
  weight %w4 = 00000006 : f32[6,8,1,1]
  weight %w5 = 00000007 : f32[4,96]
  weight %b5 = 00000008 : f32[4]
  %conv1 = conv2d(%x, %w1, %b1) {kernel=[3,3], pads=[1,1,1,1]} : f32[N,6,5,5]
  %relu1 = relu(%conv1) : f32[N,6,5,5]
  %conv2 = conv2d(%relu1, %w2, %b2) {groups=2, kernel=[2,2]} : f32[N,8,4,4]
  %relu2 = relu(%conv2) : f32[N,8,4,4]
  %deep = conv2d(%relu2, %w3) {groups=8, kernel=[3,3], pads=[1,1,1,1]} : f32[N,8,4,4]
  %conv4 = conv2d(%deep, %w4) {kernel=[1,1]} : f32[N,6,4,4]
  %relu4 = relu(%conv4) : f32[N,6,4,4]
  %flat = flatten(%relu4) : f32[N,96]
  %fc = dense(%flat, %w5, %b5) : f32[N,4]
  output %fc
}
"""
LAYERS = {"conv1": "x", "conv2": "relu1", "deep": "relu2", "conv4": "deep", "fc": "flat"}


def samples(count: int = 60, seed: int = 0) -> dict[str, Array]:
    return {"x": np.random.default_rng(seed).standard_normal((count, 2, 5, 5)).astype(np.float32)}


def numbers(node: Node, index: int) -> Matrix:
    tensor = node.operand(index).tensor
    assert tensor is not None
    return tensor.data.astype(np.float64)


def rows_by_hand(node: Node, x: Array) -> list[Matrix]:
    """The inputs of every sum [sums, inputs] of each group, window by window, in the order of `flat_sums`."""
    if node.op == "dense":
        return [x.astype(np.float64)]
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0)] + [(1, 1) if "pads" in node.attributes else (0, 0)] * 2)
    high, wide = numbers(node, 1).shape[2:]
    places = list(itertools.product(range(padded.shape[2] - high + 1), range(padded.shape[3] - wide + 1)))
    groups = node.attributes.get("groups", 1)
    assert isinstance(groups, int)
    seen = np.stack([padded[:, :, i : i + high, j : j + wide] for i, j in places])
    return [part.reshape(len(places) * len(x), -1) for part in np.split(seen, groups, axis=2)]


def flat_sums(sums: Array) -> Matrix:
    """[N, C, H, W] as [H * W * N, C]."""
    flat = sums if sums.ndim == 2 else sums.transpose(2, 3, 0, 1).reshape(-1, sums.shape[1])
    return flat.astype(np.float64)


def least_squares(w: Matrix, x: Matrix, target: Matrix) -> tuple[Matrix, Matrix]:
    """Weights and biases of least mean |target - W' x - b'|^2 + r |W' - W|^2, the bias free, by numpy's lstsq."""
    ridge = max(RIDGE * np.var(x, 0).mean(), 1e-12)  # inputs that are always zero keep their weights
    scale = 1 / np.sqrt(len(x))
    rows = np.block([[x * scale, np.full((len(x), 1), scale)], [np.sqrt(ridge) * np.eye(x.shape[1], x.shape[1] + 1)]])
    wanted = np.concatenate([target * scale, np.sqrt(ridge) * w.T])
    found = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return found[:-1].T, found[-1]


def pruned(pipeline: str, what: str = "weights") -> tuple[Graph, Graph, Graph, Context]:
    """The network, the pruned one, the refitted one, and the context, which knows what is left."""
    whole, context = parse(NETWORK), Context(samples(), seed=4)
    small = run_passes(whole, pipeline, context)
    return whole, small, run_passes(small, f"refit{{what={what},ridge={RIDGE}}}", context), context


def kept_rows(whole: Graph, small: Graph, name: str) -> list[int]:
    """The outputs of a layer that are left, found by their weights."""
    of = {graph: next(node for node in graph.nodes if node.name == name) for graph in (whole, small)}
    if name == "fc":
        return list(range(4))
    if name == "conv4":  # its inputs shrink too, so that its rows are found among those of its columns
        return [
            row
            for row in range(6)
            if any(set(r.flat) <= set(numbers(of[whole], 1)[row].flat) for r in numbers(of[small], 1))
        ]
    before, after = (numbers(of[g], 2) if name != "deep" else numbers(of[g], 1)[:, 0, 0, 0] for g in (whole, small))
    return [row for row, number in enumerate(before.tolist()) if number in after.tolist()]


@pytest.mark.parametrize(
    "pipeline",
    [
        "prune-channels{sparsity=0.5,by=random}",
        "prune-channels{sparsity=0.34,by=random,groups=inside}",
        "prune-channels{sparsity=0.4,by=last,layer=conv4},prune-channels{sparsity=0.4,layer=conv1,groups=inside}",
    ],
)
def test_every_layer_is_a_least_squares_fit(pipeline: str) -> None:
    whole, small, after, context = pruned(pipeline)
    sums = evaluate(whole, samples(), list(LAYERS))
    reads = evaluate(after, samples(), list(LAYERS.values()))
    assert context.reference is not None
    assert sum(v.tensor.size for v in small.weights if v.tensor) < sum(v.tensor.size for v in whole.weights if v.tensor)
    for name, read in LAYERS.items():
        before = next(node for node in small.nodes if node.name == name)
        node = next(node for node in after.nodes if node.name == name)
        target = flat_sums(sums[name])[:, kept_rows(whole, small, name)]
        groups = rows_by_hand(node, reads[read])
        weights = numbers(before, 1).reshape(len(groups), target.shape[1] // len(groups), -1)
        fits = [
            least_squares(w, x, t)
            for w, x, t in zip(weights, groups, np.split(target, len(groups), axis=1), strict=True)
        ]
        expected = np.concatenate([w for w, _ in fits])
        np.testing.assert_allclose(numbers(node, 1).reshape(expected.shape), expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(numbers(node, 2), np.concatenate([b for _, b in fits]), rtol=1e-3, atol=1e-4)


def test_more_inputs_than_samples() -> None:
    random = np.random.default_rng(0)
    w, x, target = random.standard_normal((3, 40)), random.standard_normal((25, 40)), random.standard_normal((25, 3))
    here, wanted = x - x.mean(0), target - target.mean(0)
    expected, _ = least_squares(w, here, wanted)
    np.testing.assert_allclose(fitted(w, here, wanted - here @ w.T, RIDGE), expected, atol=1e-9)


def test_biases_alone_keep_the_mean_of_every_sum() -> None:
    whole, small, after, _ = pruned("prune-channels{sparsity=0.5,by=random}", "biases")
    assert to_bytes(small) == to_bytes(after)
    ours, theirs = evaluate(after, samples(), list(LAYERS)), evaluate(whole, samples(), list(LAYERS))
    worse = evaluate(small, samples(), list(LAYERS))
    for name in LAYERS:
        rows = kept_rows(whole, small, name)
        wanted = flat_sums(theirs[name]).mean(0)[rows]
        np.testing.assert_allclose(flat_sums(ours[name]).mean(0), wanted, atol=1e-5)
        assert name not in ("conv4", "fc") or np.abs(flat_sums(worse[name]).mean(0) - wanted).max() > 1e-2


def to_bytes(graph: Graph) -> list[bytes]:
    """All weights of the layers."""
    return [numbers(node, 1).tobytes() for node in graph.nodes if node.op in ("conv2d", "dense")]


def test_a_network_that_another_pass_changed() -> None:
    """Weights that lost small numbers, with the whole network given as the reference."""
    whole = parse(NETWORK)
    small = edit.copy(whole)
    for node in small.nodes[2:]:
        if node.op in ("conv2d", "dense"):
            w = numbers(node, 1)
            edit.set_tensor(node.operand(1), Tensor(np.where(np.abs(w) > 0.1, w, 0).astype(np.float32)))
    after = run_passes(small, "refit", Context(samples(), reference=Reference(whole)))
    (a, b, c) = (evaluate(graph, samples(200, 1))["fc"] for graph in (whole, small, after))
    assert np.square(c - a).mean() < 0.5 * np.square(b - a).mean()


def test_nothing_to_mend_changes_nothing() -> None:
    whole = parse(NETWORK)
    after = run_passes(whole, "refit", Context(samples(), reference=Reference(whole)))
    for ours, theirs in zip(after.nodes, whole.nodes, strict=True):
        if ours.op in ("conv2d", "dense"):
            np.testing.assert_allclose(numbers(ours, 1), numbers(theirs, 1), atol=1e-6)


def test_shared_weights_stay() -> None:
    text = """graph @g {
      input %x : f32[N,4]
      weight %w0 = 00000001 : f32[4,4]
      weight %w = 00000002 : f32[4,4]
      %a = dense(%x, %w0) {act=relu} : f32[N,4]
      %b = dense(%a, %w) {act=relu} : f32[N,4]
      %c = dense(%b, %w) : f32[N,4]
      output %c
    }"""
    graph = parse(text)
    x = {"x": np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)}
    other = edit.copy(graph)
    edit.set_tensor(other.values["w0"], Tensor(np.eye(4, dtype=np.float32) + 1))
    after = run_passes(other, "refit", Context(x, reference=Reference(graph)))
    assert numbers(after.nodes[1], 1).tobytes() == numbers(graph.nodes[1], 1).tobytes()
    np.testing.assert_allclose(numbers(after.nodes[0], 1), numbers(graph.nodes[0], 1), atol=0.05)


@pytest.mark.parametrize(
    ("context", "message", "help"),
    [
        (Context(), "refit measures on samples, and there are none", "give --data"),
        (
            Context(samples()),
            "refit: nothing was pruned before it",
            "put it behind prune-channels or prune-weights",
        ),
    ],
)
def test_what_it_needs(context: Context, message: str, help: str) -> None:
    with pytest.raises(CompileError) as error:
        run_passes(parse(NETWORK), "refit", context)
    assert (error.value.message, error.value.help) == (message, help)


def test_outputs_that_nobody_knows_of() -> None:
    whole, small, _, _ = pruned("prune-channels{sparsity=0.5,layer=conv1,groups=inside,by=last}")
    with pytest.raises(CompileError, match="%conv1 has 4 outputs, 6 in the reference, and which are left is not known"):
        run_passes(small, "refit", Context(samples(), reference=Reference(whole)))


@pytest.mark.parametrize(
    ("pipeline", "least"),
    [
        ("prune-channels{sparsity=0.5,by=hessian},refit", 0.985),
        ("prune-channels{sparsity=0.7,by=hessian},refit", 0.970),
        ("prune-channels{sparsity=0.7,layer=conv5,side=input,by=hessian},refit", 0.980),
        ("prune-channels{sparsity=0.9,layer=conv5,side=input,by=hessian},refit", 0.930),
    ],
)
def test_lenet5_keeps_its_accuracy_without_labels(pipeline: str, least: float) -> None:
    """The claims of docs/pruning.md, on 1,000 training images without labels and all test images."""
    train, test = load_data("mnist", "train", 1000), load_data("mnist", "test")
    graph = run_passes(load(MODELS / "lenet5.onnx"), STRUCTURE)
    small = run_passes(graph, pipeline, Context({"image": train.x}))
    assert score(small, test.x, test.y).value >= least
