"""prune-channels against its meaning: what is left computes what the whole network does with those channels at zero.

The channels that went are found without passes/channels.py: all biases are different numbers, so that a bias (or a
scale, or a constant) that is no longer there names the row that went.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx.backend.test
import onnxruntime
import pytest

import bitwright.models
from bitwright.ir import edit
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.graph import Graph, Value
from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.text import to_text
from bitwright.ir.verify import verify
from bitwright.passes import STRUCTURE, Context, run_passes
from bitwright.passes.accumulators import DeriveAccumulators

assert bitwright.models.__file__ is not None
MODELS = Path(bitwright.models.__file__).parent
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


TOLD_BY = {"conv2d": 2, "dense": 2, "batchnorm": 1}
"""The operand whose numbers name the channels; it and operand 1 (or 2) are zero for those that went."""


def data_of(value: Value) -> Array:
    assert value.tensor is not None
    return value.tensor.data


def zeroed(before: Graph, after: Graph) -> tuple[Graph, int]:
    """`before` with zeros where `after` has no channels any more, and how many rows of layers these are."""
    graph, rows = edit.copy(before), 0
    for node in graph.nodes:
        if node.op in TOLD_BY:
            told, cleared = node.operand(TOLD_BY[node.op]), [node.operand(1), node.operand(2)]
        elif constants := [v for v in node.operands if v is not None and v.tensor and node.op in ("add", "mul")]:
            told, cleared = constants[0], constants
        else:
            continue
        gone = ~np.isin(data_of(told), data_of(after.values[told.name]))
        rows += int(gone.sum()) if node.op in ("conv2d", "dense") else 0
        for value in cleared:
            data = data_of(value).copy()
            data[gone] = 0
            edit.set_tensor(value, Tensor(data))
    return graph, rows


def images(graph: Graph, seed: int, count: int = 2) -> Mapping[str, Array]:
    (value,) = graph.inputs
    shape = [dim if isinstance(dim, int) else count for dim in value.tensor_type.shape or ()]
    return {graph.input_name(value): np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def assert_means(before: Graph, after: Graph, seed: int, exactly: bool = False) -> int:
    """Assert that the pruned graph is the whole one with zeros; how many rows went."""
    whole, rows = zeroed(before, after)
    inputs = images(before, seed)
    (ours,), (theirs,) = evaluate(after, inputs).values(), evaluate(whole, inputs).values()
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    assert np.abs(ours - theirs).max() <= (0 if exactly else 1e-5 * np.abs(theirs).max())
    return rows


def options(seed: int) -> str:
    """Options of prune-channels that take something of every network that is drawn."""
    random = np.random.default_rng(seed)
    chosen = {
        "sparsity": random.choice([0.3, 0.5, 0.8, 1.0]),
        "by": random.choice(["random", "random", "frobenius", "last"]),
        "side": random.choice(["output", "input"]),
        "groups": random.choice(["whole", "inside"]),
    }
    return "prune-channels{" + ",".join(f"{key}={value}" for key, value in chosen.items()) + "}"


@pytest.mark.parametrize("seed", range(120))
def test_random_networks(drawn: ModuleType, seed: int) -> None:
    before = drawn.Drawn(seed).graph()
    after = run_passes(before, options(seed), Context(seed=seed))
    assert assert_means(before, after, seed) > 0
    verify(parse(to_text(after)))


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        (path.stem, pipeline)
        for path in sorted(MODELS.glob("*.onnx"))
        for pipeline in ("", STRUCTURE)
        if pipeline or path.stem != "resnet20"  # before normalisation is folded its layers have no biases to compare by
    ],
)
def test_the_shipped_networks(name: str, pipeline: str) -> None:
    before = run_passes(load(MODELS / f"{name}.onnx"), pipeline)
    after = run_passes(before, "prune-channels{sparsity=0.6,by=random}", Context(seed=len(name)))
    *hidden, _ = [node.operand(1).tensor_type.shape for node in before.nodes if node.op in ("conv2d", "dense")]
    assert assert_means(before, after, 0) == sum(int(0.6 * shape[0]) for shape in hidden)


def test_formats_a_channel_and_accumulators_follow() -> None:
    made = f"{STRUCTURE},annotate-formats{{per_channel=true,weights=FIXED 6}},derive-accumulators"
    lenet = load(MODELS / "lenet5.onnx")
    before = run_passes(lenet, made, Context(images(lenet, 1)))
    after = run_passes(before, "prune-channels{sparsity=0.5,by=random}", Context(seed=3))
    assert assert_means(before, after, 1, exactly=True) == 3 + 8 + 60 + 42
    assert not DeriveAccumulators().run(after, Context())


def test_the_experiment_of_the_lenet_paper() -> None:
    """conv5 reads 2 of its 16 channels, and conv3 makes only these; nothing else changes."""
    before = load(MODELS / "lenet5.onnx")
    after = run_passes(before, "prune-channels{layer=conv5,side=input,sparsity=0.9}")
    shapes = {value.name: value.tensor_type.shape for value in after.weights}
    changed = {"conv3.weight": (2, 6, 5, 5), "conv3.bias": (2,), "conv5.weight": (120, 2, 5, 5)}
    assert shapes == {value.name: value.tensor_type.shape for value in before.weights} | changed


# known networks


def light(name: str) -> Graph:
    """A network of the ONNX project, with random weights instead of its constant ones and a bias in every layer.

    Its last softmax, which makes differences small, is left out.
    """
    graph = run_passes(from_model(onnx.load(LIGHT / f"light_{name}.onnx")), f"{STRUCTURE},drop-softmax")
    random = np.random.default_rng(0)
    for node in graph.nodes:
        if node.op == "conv2d" and node.optional(2) is None:
            zeros = Tensor(np.zeros(data_of(node.operand(1)).shape[0], np.float32))
            edit.give_weight(node, 2, zeros, node.name + ".bias")
    for value in graph.weights:
        if value.tensor_type.dtype == np.float32 and data_of(value).size > 1:
            shape = data_of(value).shape
            numbers = random.standard_normal(shape, np.float32) / np.sqrt(max(1, np.prod(shape[1:]) / 2))
            if shape[0] == numbers.size:  # a number a channel: no two alike, as they tell which channels went
                numbers = (random.permutation(shape[0]).reshape(shape) + 0.25) / shape[0] - 0.5
            is_variance = any(node.op == "batchnorm" and index == 4 for node, index in value.uses)
            edit.set_tensor(value, Tensor((np.abs(numbers) + 0.5 if is_variance else numbers).astype(np.float32)))
    return graph


def scores(graph: Graph) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    model = to_model(graph)
    model.ir_version = 8
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(images(graph, 0, 1)))
    return np.asarray(found)


KNOWN = [
    ("densenet121", "whole"),
    ("inception_v1", "whole"),
    ("resnet50", "whole"),
    ("shufflenet", "inside"),
    ("squeezenet", "whole"),
]


@pytest.mark.parametrize(("name", "groups"), KNOWN)
def test_known_networks_compute_what_they_mean(name: str, groups: str) -> None:
    before = light(name)
    after = run_passes(before, f"prune-channels{{sparsity=0.4,by=random,groups={groups}}}", Context(seed=1))
    whole, rows = zeroed(before, after)
    ours, theirs = scores(after), scores(whole)
    assert rows > 500
    assert ours.shape == theirs.shape
    assert np.ptp(theirs) > 0
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
