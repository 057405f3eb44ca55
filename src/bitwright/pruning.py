"""From a model and a source of data to a smaller network, and to what pruning each of its layers alone costs.

Channels are chosen and layers refitted on training images without their labels; accuracies are measured on labelled
ones, or as agreement with the float network where there are no labels.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import score
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array
from bitwright.passes import Context, Pass, run_passes
from bitwright.passes.channels import Side, find_channels, layers
from bitwright.passes.fine import PruneWeights
from bitwright.passes.pruning import By, PruneChannels
from bitwright.passes.refit import Refit, What
from bitwright.passes.walk import MOST_SAMPLES
from bitwright.tuner.objectives import macs
from bitwright.tuner.tune import Samples
from bitwright.tuning import MOST_IMAGES, Split, prepared, split_of

Unit = Literal["channels", "weights"]
Say = Callable[[str], None]

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SENSITIVITY_IMAGES = 2000
METRICS = ("top1", "top5", "agreement")


@dataclass(frozen=True)
class Size:
    """A network's weights and biases of layers that are not zero, and its multiplications for one sample."""

    parameters: int
    multiplications: int

    @classmethod
    def of(cls, graph: Graph) -> Size:
        nodes = layers(graph)
        values = {id(v): v for node in nodes for v in node.operands[1:] if v is not None and v.tensor is not None}
        numbers = [value.tensor.data for value in values.values() if value.tensor is not None]
        return cls(sum(int(np.count_nonzero(data)) for data in numbers), sum(map(macs, nodes)))


@dataclass(frozen=True)
class Pruned:
    """A smaller network: the graph, sizes and accuracies before and after on held-out images, and notes to the user."""

    graph: Graph
    whole: Size
    size: Size
    metric: str
    float_accuracy: float
    accuracy: float
    images: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """One layer pruned alone: how many of its units (channels or weights) are left, and the accuracy."""

    layer: str
    sparsity: float
    left: int
    of: int
    accuracy: float


@dataclass(frozen=True)
class Sensitivity:
    """Accuracy against sparsity, layer by layer, and that of the whole network."""

    metric: str
    images: int
    float_accuracy: float
    points: tuple[Point, ...]
    notes: tuple[str, ...]


def prune(
    model: str | Path | Graph,
    data: str,
    sparsity: float,
    *,
    by: By = "hessian",
    layer: str = "",
    side: Side = "output",
    unit: Unit = "channels",
    refit: What | Literal["none"] = "weights",
    metric: str = "top1",
    seed: int = 0,
) -> Pruned:
    """Take a share of the channels (or of single weights) out of a network, and refit what is left.

    data: a source of bitwright.models.datasets: 1,000 images of its training split are used without labels, the
    accuracies are those of its test split. layer: only this one. Raises CompileError for whatever the user can mend.
    """
    said: list[str] = []
    graph = prepared(model, said)
    split = _split(graph, data, metric, seed)
    context = context_of(graph, split.search.x, seed)
    one = pruner(sparsity, unit, by, layer, side)
    small = _shrunk(graph, one, refit, context)
    if context.reference is None:
        context.notes.append(f"{one}: nothing goes")
    whole, left = (_accuracy(g, split.held_out, metric, graph) for g in (graph, small))
    sizes = Size.of(graph), Size.of(small)
    used = "looked at" if refit == "none" or context.reference is None else "refitted on"
    notes = (*said, *context.notes, split.note.replace("searched on", used))
    return Pruned(small, *sizes, metric, whole, left, len(split.held_out.x), notes)


def sensitivity(
    model: str | Path | Graph,
    data: str,
    *,
    by: By = "random",
    unit: Unit = "channels",
    refit: What | Literal["none"] = "none",
    sparsities: Sequence[float] = SPARSITIES,
    metric: str = "top1",
    images: int = SENSITIVITY_IMAGES,
    seed: int = 0,
    say: Say = lambda message: None,
) -> Sensitivity:
    """The accuracy on training images when one layer alone is pruned, for each layer and sparsity.

    images: at most so many are measured on. Layers whose output channels cannot go are left out, with a note. Raises
    CompileError for whatever the user can mend.
    """
    graph = prepared(model)
    split = _split(graph, data, metric, seed)
    measured = Samples(split.search.x[:images], None if split.search.y is None else split.search.y[:images])
    found, notes, points = find_channels(graph), [], []
    for node in layers(graph):
        refusal = found.refusal(node, "output") if unit == "channels" else ""
        if refusal:
            notes.append(f"the channels of {node.name} cannot go: {refusal}")
            continue
        weight = node.operand(1).tensor_type.static_shape or ()
        count = weight[0] if unit == "channels" else math.prod(weight)
        for sparsity in sorted(set(sparsities)):
            say(f"{node.name} at {sparsity:g}")
            one = pruner(sparsity, unit, by, node.name, "output")
            context = context_of(graph, split.search.x, seed)
            small = _shrunk(graph, one, refit, context)
            tensor = next(n for n in layers(small) if n.name == node.name).operand(1).tensor
            assert tensor is not None
            left = tensor.shape[0] if unit == "channels" else int(np.count_nonzero(tensor.data))
            points.append(Point(node.name, sparsity, left, count, _accuracy(small, measured, metric, graph)))
    whole = _accuracy(graph, measured, metric, graph)
    return Sensitivity(metric, len(measured.x), whole, tuple(points), tuple(notes))


def write(found: Sensitivity, folder: Path) -> list[str]:
    """Write sensitivity.json, .csv and .png; the notes are what could not be written, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sensitivity.json").write_text(json.dumps(asdict(found), indent=2) + "\n")
    with (folder / "sensitivity.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(field.name for field in fields(Point))
        rows.writerows(astuple(point) for point in found.points)
    return _plot(found, folder / "sensitivity.png")


def _plot(found: Sensitivity, path: Path) -> list[str]:
    """Accuracy against sparsity, a line a layer, as the LeNet paper's Figure 10, if matplotlib is there."""
    try:
        figure_module = importlib.import_module("matplotlib.figure")
    except ImportError:
        return [f"no {path.name}: it needs matplotlib (pip install 'bitwright[report]')"]
    figure = figure_module.Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for layer in dict.fromkeys(point.layer for point in found.points):
        own = [point for point in found.points if point.layer == layer]
        axes.plot([point.sparsity for point in own], [point.accuracy for point in own], marker="o", label=layer)
    axes.axhline(found.float_accuracy, color="grey", linewidth=1, label="not pruned")
    axes.set_xlabel("sparsity")
    axes.set_ylabel(found.metric)
    axes.legend(fontsize="small")
    figure.savefig(path, format="png", dpi=120)
    return []


def pruner(sparsity: float, unit: Unit, by: By, layer: str, side: Side) -> Pass:
    """The pass that prunes. Raises CompileError for a sparsity that is none."""
    if not 0 <= sparsity <= 1:
        raise CompileError(f"a sparsity of {sparsity:g} is not from 0 to 1")
    if unit == "weights":
        return PruneWeights(sparsity, layer)
    return PruneChannels(sparsity, layer, by, side)


def context_of(graph: Graph, x: Array, seed: int = 0) -> Context:
    """A context with these samples, as many as passes take, whose executor is the simulation."""
    return Context({graph.input_name(graph.inputs[0]): x[:MOST_SAMPLES]}, simulated, seed)


def simulated(graph: Graph, inputs: Mapping[str, Array], watch: Collection[str]) -> dict[str, Array]:
    """An executor of passes: onnxruntime."""
    simulation = Simulation(graph)
    found = simulation.run(inputs)
    return {**found, **simulation.run(inputs, wanted=watch)} if watch else found


def _shrunk(graph: Graph, one: Pass, refit: What | Literal["none"], context: Context) -> Graph:
    """The network after a pass that prunes, refitted if anything went and that is wanted."""
    small = run_passes(graph, [one], context)
    if refit == "none" or context.reference is None:
        return small
    return run_passes(small, [Refit(refit)], context)


def _split(graph: Graph, data: str, metric: str, seed: int) -> Split:
    if metric not in METRICS:
        raise CompileError(f"there is no metric {metric!r} to prune for", help=f"the metrics are {', '.join(METRICS)}")
    return split_of(graph, data, MOST_IMAGES, seed, metric)


def _accuracy(graph: Graph, samples: Samples, metric: str, reference: Graph) -> float:
    return score(graph, samples.x, samples.y, metric=metric, reference=reference).value
