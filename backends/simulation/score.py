"""The accuracy of a network in its formats, on labelled data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.simulation.run import Simulation
from bitwright.ir import edit
from bitwright.ir.assign import assign
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Format
from bitwright.ir.graph import Graph, Value
from bitwright.ir.scores import scores_of
from bitwright.ir.tensor import Array

Metric = Callable[[Array, Array], float]


@dataclass(frozen=True)
class Score:
    """A metric's value on `samples` samples, and whether every layer's arithmetic was exact."""

    metric: str
    value: float
    samples: int
    exact: bool


def hits(k: int, scores: Array, labels: Array) -> NDArray[np.bool_]:
    """Whether each sample's label is among its `k` highest scores; scores [N, classes], labels int [N].

    Ties go to the lower class, as argmax takes them; scores that are no numbers are wrong.
    """
    flat = scores.reshape(len(scores), -1)
    own = flat[np.arange(len(flat)), labels][:, None]
    before = (flat > own).sum(1) + ((flat == own) & (np.arange(flat.shape[1]) < labels[:, None])).sum(1)
    return np.asarray((before < k) & ~np.isnan(flat).any(1))


def top(k: int, scores: Array, labels: Array) -> float:
    """The share of samples whose label is among the `k` highest scores."""
    return float(hits(k, scores, labels).mean())


METRICS: dict[str, Metric] = {
    "top1": lambda scores, labels: top(1, scores, labels),
    "top5": lambda scores, labels: top(5, scores, labels),
}


def simulate(graph: Graph, inputs: Mapping[str, Array] | Array, threads: int = 0) -> dict[str, Array]:
    """The outputs of a graph in its formats, float32, by their outside names; a lone input may be an array."""
    arrays = inputs if isinstance(inputs, Mapping) else {"": inputs}
    return Simulation(graph, threads).run(arrays)


def score(
    graph: Graph,
    x: Array,
    y: NDArray[np.int64] | None,
    formats: Mapping[str, Format] | None = None,
    metric: str | Metric = "top1",
    reference: Graph | None = None,
) -> Score:
    """The metric of a network of one input and (first) output on samples `x` with labels `y`.

    formats: an assignment by tensor name (ir/assign.py), on top of the graph's own; metric: top1, top5, agreement (the
    share of samples on which the highest score is that of `reference`, which needs no labels), or a function of scores
    and labels. Raises CompileError for an unknown metric, missing labels or labels that are no classes.
    """
    if formats:
        graph = edit.copy(graph)
        assign(graph, formats)
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
    if metric == "agreement":
        if reference is None:
            raise CompileError("agreement compares with another graph, and none is given")
        y = class_scores(Simulation(reference), x).argmax(1)
    function = METRICS["top1"] if metric == "agreement" else metric if callable(metric) else METRICS.get(metric)
    if function is None:
        raise CompileError(f"there is no metric {metric!r}", help=f"the metrics are agreement, {', '.join(METRICS)}")
    if y is None:
        raise CompileError(f"{name} needs labels, and the data have none", help="--metric agreement needs none")
    if not len(x) or len(x) != len(y):
        raise CompileError(f"{len(x)} samples and {len(y)} labels make no score")
    simulation = Simulation(graph)
    scores = class_scores(simulation, x) if isinstance(metric, str) else first_output(simulation, x)
    if isinstance(metric, str):
        check_labels(y, scores.shape[1], 5 if metric == "top5" else 1)
    return Score(name, function(scores, y), len(x), all(simulation.exact.values()))


def check_labels(labels: NDArray[np.int64], classes: int, k: int = 1) -> None:
    """Raise CompileError if a label is none of so many classes, or if every label is among the k highest scores."""
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise CompileError(f"labels run from {labels.min()} to {labels.max()}, the network has {classes} classes")
    if k >= classes:
        raise CompileError(f"the {k} highest of {classes} scores are always right", help="--metric top1")


def class_scores(simulation: Simulation, x: Array) -> Array:
    """The scores [N, classes] that the first output is decided on. Raises CompileError if there are several inputs."""
    scores = scores_of(simulation.graph)
    return by_class(scores, _found(simulation, x, scores))


def by_class(value: Value, scores: Array) -> Array:
    """Scores [N, ...], a value's, as [N, classes].

    One score a sample decides between two classes: it stands behind its threshold, which is 1/2 for what a sigmoid
    gives and 0 for anything else.
    """
    flat = scores.reshape(len(scores), -1)
    if flat.shape[1] != 1:
        return flat
    threshold = 0.5 if value.producer is not None and value.producer.op == "onnx.Sigmoid" else 0.0
    return np.concatenate([np.full_like(flat, threshold), flat], 1)


def first_output(simulation: Simulation, x: Array) -> Array:
    """The first output's numbers [N, ...]. Raises CompileError if the network has several inputs."""
    return _found(simulation, x, simulation.graph.outputs[0].value)


def _found(simulation: Simulation, x: Array, value: Value) -> Array:
    """A value's numbers [N, ...]."""
    graph = simulation.graph
    if len(graph.inputs) != 1:
        raise CompileError(f"@{graph.name} has {len(graph.inputs)} inputs; a score takes networks of one")
    inputs, output = {graph.input_name(graph.inputs[0]): x}, graph.outputs[0]
    if value is output.value:
        return simulation.run(inputs)[output.name]
    return simulation.run(inputs, wanted=[value.name])[value.name]
