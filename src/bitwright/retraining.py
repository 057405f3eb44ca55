"""From a model and a source of data to a retrained network: reading, splits, and its score before and after."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitwright.backends.simulation.score import Score, score
from bitwright.ir import edit
from bitwright.ir.assign import MOVES, activation_values, spread, weight_values
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.formats import Canonical, best_bias
from bitwright.ir.graph import Graph
from bitwright.ir.scores import scores_of
from bitwright.ir.tensor import Array
from bitwright.ir.types import F32
from bitwright.passes import STRUCTURE, Context, run_passes
from bitwright.passes.formats import AnnotateFormats, AssignFormats

if TYPE_CHECKING:
    from bitwright.models.datasets import Dataset
    from bitwright.train.settings import Settings
    from bitwright.train.training import Augment, Epoch, Progress

# What makes a graph regular. Fusions are left to `compile`: the retrained network has the nodes that it had.
PREPARE = STRUCTURE.split(",fuse-")[0]
AUGMENTS = ("flip", "turn")
LEAST_SAMPLES = 4
"""Of data without splits: one to train on, one to hold back, and two that are scored."""


@dataclass(frozen=True)
class Retrained:
    """A network with other numbers in it, and what it is worth on samples that were never trained on.

    before, after: top1, or without labels agreement with the teacher; best: the epoch that the network is of (0: the
    start); epochs: all of them; note: where the samples come from.
    """

    graph: Graph
    before: Score
    after: Score
    best: int
    epochs: list[Epoch]
    note: str


def retrain(
    model: str | Path | Graph,
    data: str,
    settings: Settings | None = None,
    *,
    teacher: str | Path | Graph | None = None,
    labels: bool = True,
    augment: str | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    say: Callable[[Progress], None] = lambda progress: None,
) -> Retrained:
    """Train a network a little more in its formats, so that it gets over what was pruned or rounded away.

    data: a source of bitwright.models.datasets, whose training split is learned from and whose test split is only
    scored; a source without splits is halved. teacher: a float network whose scores are learned from; labels: whether
    the data's are used; augment: flip (and move pictures by up to 4 pixels) or turn (by up to 10 degrees); checkpoint:
    a file that `resume` goes on from. Needs torch. Raises CompileError for whatever the user can mend.
    """
    require_torch()
    from bitwright.train.module import Network
    from bitwright.train.training import train

    graph = _prepared(model)
    Network(graph)  # what cannot be trained is refused before anything is scored
    taught = None if teacher is None else _prepared(teacher)
    shown, held_out, note = _split(data, settings.seed if settings else 0)
    y = shown.y if labels else None
    if y is None and taught is None:
        raise CompileError(
            f"{data}: no labels to learn from" if labels else "without labels there is nothing to learn from",
            help="give the network before pruning or quantisation as --teacher",
        )
    if held_out.y is None and taught is None:
        raise CompileError(f"{data}: no labels to score with", help="give a --teacher to agree with")
    metric = "agreement" if held_out.y is None else "top1"
    before = score(graph, held_out.x, held_out.y, metric=metric, reference=taught)
    found = train(
        graph,
        shown.x,
        y,
        settings,
        teacher=taught,
        augment=None if augment is None else augmentation(augment),
        checkpoint=checkpoint,
        resume=resume,
        say=say,
    )
    after = score(found.graph, held_out.x, held_out.y, metric=metric, reference=taught)
    return Retrained(found.graph, before, after, found.best, found.epochs, note)


def in_formats(graph: Graph, formats: str, x: Array) -> Graph:
    """A float network with `formats` to be trained in: those of a file, or one kind and width, such as "FIXED 3".

    Then a weight has one bias a channel, an activation that is never negative no sign, biases are those of least
    squared error (on samples x for activations), and the scores stay float. Raises CompileError for a format that there
    is not.
    """
    samples = {graph.input_name(graph.inputs[0]): x}
    if Path(formats).is_file() or formats.endswith((".txt", ".conf")):
        return run_passes(graph, [AssignFormats(file=formats)])
    every = AnnotateFormats(weights=formats, activations=formats, per_channel=True, unsigned=True)
    made = run_passes(graph, [every], Context(samples=samples))
    seen = evaluate(graph, samples, [value.name for value in activation_values(made)])
    weights = {value.name: value.tensor.data for value in weight_values(made) if value.tensor is not None}
    for name, numbers in (seen | weights).items():
        value = made.values.get(name)
        number = None if value is None else value.tensor_type.number
        if value is not None and isinstance(number, Canonical):
            axis = 0 if name in weights else None
            edit.set_type(value, value.tensor_type.with_format(best_bias(number.at(0), numbers, axis=axis).format))
    last = scores_of(made)
    while last.producer is not None and last.producer.op in MOVES:
        last = last.producer.operand(0)
    edit.set_type(last, last.tensor_type.with_format(F32))
    spread(made, set(map(id, activation_values(made))))
    return made


def require_torch() -> None:
    """Raise CompileError if torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise CompileError("retraining needs torch, which is not installed: pip install 'bitwright[train]'")


def _prepared(model: str | Path | Graph) -> Graph:
    return run_passes(model if isinstance(model, Graph) else load(model), PREPARE)


def _split(source: str, seed: int) -> tuple[Dataset, Dataset, str]:
    """What is learned from, what is scored, and where they come from."""
    from bitwright.models.datasets import Dataset
    from bitwright.models.datasets import load as load_data

    shown, held_out = load_data(source, "train"), load_data(source, "test")
    if not np.array_equal(shown.x, held_out.x):
        return shown, held_out, f"trained on the training split, scored on the test split of {source}"
    order = np.random.default_rng(seed).permutation(len(shown.x))
    half = len(order) // 2
    if len(order) < LEAST_SAMPLES:
        raise CompileError(
            f"{source} has {len(order)} sample(s); a training on one half needs {LEAST_SAMPLES} at least"
        )

    def part(which: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Dataset:
        return Dataset(shown.name, shown.x[which], None if shown.y is None else shown.y[which])

    note = f"{source} is not split: trained on one half, scored on the other"
    return part(order[half:]), part(order[:half]), note


def augmentation(name: str) -> Augment:
    """What distorts a batch of pictures: flip or turn (models/recipes.py). Raises CompileError for another name."""
    from bitwright.models import recipes

    known = {"flip": recipes.flip, "turn": recipes.turn}
    if name not in known:
        raise CompileError(f"there is no augmentation {name!r}", help=f"there are {' and '.join(AUGMENTS)}")
    return known[name]
