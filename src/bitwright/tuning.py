"""From a model and a source of data to a search: reading, structure passes, splits, and the outputs folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitwright.ir import edit
from bitwright.ir.assign import in_float, layers
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import check_shape
from bitwright.ir.files import load
from bitwright.ir.graph import Graph
from bitwright.passes import STRUCTURE, Context, run_passes
from bitwright.tuner.groups import tune_groups
from bitwright.tuner.joint import tune_channels
from bitwright.tuner.outputs import DATABASE, write
from bitwright.tuner.platforms import load_platform
from bitwright.tuner.space import Layerwise
from bitwright.tuner.tune import Options, Samples, Tuned, check_classes, tune_command, tune_network

if TYPE_CHECKING:
    from bitwright.models.datasets import Dataset

PREPARE = f"float-inputs,{STRUCTURE},drop-softmax"
MOST_IMAGES = 10_000
METRICS = {"top1": 1, "top5": 5, "agreement": 1}


@dataclass(frozen=True)
class Split:
    """Images of the search, and images that it never sees; `note` says where they come from."""

    search: Samples
    held_out: Samples
    note: str


def tune(
    model: str | Path | Graph,
    data: str,
    options: Options | None = None,
    *,
    platform: str = "full",
    objective: str = "bits",
    layerwise: Layerwise = "both",
    layers: Sequence[str] = (),
    groups: Sequence[Sequence[str]] = (),
    board: str = "pynq-z2",
    metric: str = "top1",
    images: int = MOST_IMAGES,
    prune: bool = False,
    channel_groups: bool = False,
    out: Path | None = None,
    command: str = "",
) -> Tuned:
    """Find the cheapest formats of a network that keep its accuracy.

    data: a source of bitwright.models.datasets, whose training split is searched on and whose test split is held out; a
    source without splits is halved. metric: top1, top5, or agreement with the float network (no labels needed);
    images: at most so many are searched on; prune: whether channels may go as well; channel_groups: whether
    output channels of a layer may have several widths; out: a folder for the outputs.
    Raises CompileError for whatever the user can mend.
    """
    options = options or Options()
    passes_say: list[str] = []
    graph = prepared(model, passes_say)
    if metric not in METRICS:
        raise CompileError(f"there is no metric {metric!r} to tune for", help=f"the metrics are {', '.join(METRICS)}")
    split = split_of(graph, data, images, options.seed, metric)
    if out is not None:
        options = replace(options, database=out / DATABASE)

    def search(network: Graph, samples: Samples, options: Options, held_out: Samples | None = None) -> Tuned:
        return tune_network(
            network,
            samples,
            held_out,
            load_platform(*platform_name(platform)),
            options,
            objective=objective,
            layerwise=layerwise,
            layers=layers,
            groups=groups,
            board=board,
            k=METRICS[metric],
        )

    if prune:
        found = tune_channels(graph, split.search, split.held_out, options, search, METRICS[metric])
    else:
        found = search(graph, split.search, options, split.held_out)
    if channel_groups:
        found = tune_groups(found, graph, split.search, split.held_out, options, search, METRICS[metric])
    notes = [*passes_say, split.note, *shortfall(found), *missed(found, options)]
    if out is not None:
        notes += write(found, out, command)
    return replace(found, notes=tuple(notes))


def tune_portable(
    network: Path, platform: str, options: Options, *, out: Path | None = None, command: str = ""
) -> Tuned:
    """The same for a network that a descriptor describes and command lines measure. Raises CompileError."""
    from bitwright.tuner.command import CommandJudge, load_network

    if options.constraint.floor is not None or options.constraint.confidence is not None:
        raise CompileError("a floor or a confidence does not go with a network descriptor", "its err_margin decides")
    descriptor = load_network(network)
    file, name = platform_name(platform)
    space = descriptor.space(load_platform(file, name or descriptor.platform))
    if out is not None:
        options = replace(options, database=out / DATABASE)
    constraint = replace(options.constraint, tolerance=descriptor.err_margin)
    options = replace(options, constraint=constraint)
    found = tune_command(space, descriptor.objective(), CommandJudge(descriptor), options)
    notes = shortfall(found) + ([] if out is None else write(found, out, command))
    return replace(found, notes=tuple(notes))


def shortfall(found: Tuned) -> list[str]:
    """A note if not even FLOAT 32, which a search falls back on, is as accurate as was asked for."""
    if found.accuracy >= found.least:
        return []
    return [f"nothing found reaches an accuracy of {found.least:.4f}; FLOAT 32 itself has {found.reference:.4f}"]


def prepared(model: str | Path | Graph, notes: list[str] | None = None) -> Graph:
    """The network after the structure passes, in float, with a bias of its own for each layer that has one.

    notes: takes what the passes say. Raises CompileError as loading does.
    """
    graph, context = model if isinstance(model, Graph) else load(model), Context()
    made = in_float(run_passes(in_float(graph), PREPARE, context))  # a pass may recognise formats in its operators
    for node in layers(made):
        bias = node.optional(2)
        if bias is not None and bias.tensor is not None and len(bias.uses) > 1:  # it is fitted layer by layer
            edit.give_weight(node, 2, bias.tensor, f"{node.name}.bias")
    if notes is not None:
        notes += context.notes
    return made


def split_of(graph: Graph, source: str, images: int, seed: int, metric: str) -> Split:
    """The images of the search and the held-out ones.

    Raises CompileError if there are too few, no labels, or labels that are no classes.
    """
    from bitwright.models.datasets import load as load_data

    train, test = load_data(source, "train"), load_data(source, "test")
    if len(graph.inputs) != 1:
        raise CompileError(f"@{graph.name} has {len(graph.inputs)} inputs; the tuner takes networks of one")
    for part in (train, test):
        check_shape(graph.inputs[0], graph.input_name(graph.inputs[0]), part.x)
    if metric != "agreement" and (train.y is None or test.y is None):
        raise CompileError(f"{source} has no labels", help="--metric agreement needs none")
    random = np.random.default_rng(seed)  # data may be sorted by class, and a search looks at the first ones first
    if not np.array_equal(train.x, test.x):
        search, held_out = random.permutation(len(train.x))[:images], np.arange(len(test.x))
        note = "searched on the training split; the accuracy is that of the test split"
    else:
        if len(test.x) < 2:
            raise CompileError(f"{source} has {len(test.x)} sample; a search needs some, and its check others")
        order = random.permutation(len(test.x))
        half = len(order) // 2
        search, held_out = order[half:][:images], order[:half]
        note = "the data are not split: one half was searched on, the accuracy is that of the other"
    split = Split(_samples(train, search, metric), _samples(test, held_out, metric), note)
    for samples in (split.search, split.held_out):
        check_classes(graph, samples, METRICS.get(metric, 1))
    return split


def _samples(data: Dataset, which: np.ndarray[tuple[int], np.dtype[np.int64]], metric: str) -> Samples:
    return Samples(data.x[which], None if data.y is None or metric == "agreement" else data.y[which])


def platform_name(text: str) -> tuple[str, str | None]:
    """`fpga.py:FPGA` as file and name."""
    file, colon, name = text.rpartition(":")
    return (file, name) if colon and file.endswith(".py") else (text, None)


def missed(found: Tuned, asked: Options) -> list[str]:
    """A note if the accuracy that was asked for is reached on the images of the search, and not on those held out."""
    held = found.held_out
    if held is None or found.accuracy < found.least:
        return []
    least = replace(asked.constraint, confidence=None).least(held.float_accuracy, held.images)
    if held.accuracy >= least:
        return []
    way_out = "search on more images" + (", or with a larger --margin" if asked.algorithm == "whittle" else "")
    return [f"the accuracy on the held-out images is below the {least:.4f} asked for: {way_out}"]
