"""A search from its inputs to its result: problem, algorithm, budget, and accuracy on images that it never saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import check_labels, class_scores, hits
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array
from bitwright.passes.base import Context
from bitwright.tuner.algorithms import algorithm
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.confidence import clopper_pearson
from bitwright.tuner.database import Database, Evaluation
from bitwright.tuner.judge import Judge, SimulationJudge
from bitwright.tuner.objectives import Objective, objective_of
from bitwright.tuner.platforms import Platform
from bitwright.tuner.problem import Constraint, OutOfTime, Problem
from bitwright.tuner.space import Layerwise, Space, space_of
from bitwright.tuner.targets import targets_of
from bitwright.tuner.workers import workers

CALIBRATION_SAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Options:
    """What a search is asked for.

    budget: seconds, or None; jobs: processes; cluster: a Dask scheduler's address; refine: whether the answer is worked
    on once there is one (an algorithm that does not know the difference always does); reference: where the network
    was made from another one, by taking channels say, which images [N] that one is right on: whittle compares with it.
    """

    algorithm: str = "whittle"
    constraint: Constraint = field(default_factory=Constraint)
    budget: float | None = None
    seed: int = 0
    jobs: int = 1
    cluster: str | None = None
    database: Path | None = None
    resume: bool = False
    refine: bool = True
    reference: NDArray[np.bool_] | None = None
    say: Callable[[Evaluation], None] = lambda evaluation: None


@dataclass(frozen=True)
class Samples:
    """Images [N, ...] and labels int [N]; without labels the float network's own answers stand for them."""

    x: Array
    y: NDArray[np.int64] | None


@dataclass(frozen=True)
class HeldOut:
    """Accuracies on images that the search never saw: right answers of so many, and the interval of Clopper-Pearson."""

    right: int
    float_right: int
    images: int

    @property
    def accuracy(self) -> float:
        return self.right / self.images

    @property
    def float_accuracy(self) -> float:
        return self.float_right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """In which the accuracy lies with 95 % confidence."""
        return clopper_pearson(self.right, self.images, CONFIDENCE)


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    accuracy, reference, least: of the candidate, of the float network, and the least that was asked for, on the search
    images; float_cost: the objective of FLOAT 32 everywhere; seconds: of wall time; complete: False if the budget ended
    it; graph: the network in the candidate's formats and numbers, None in the portable mode; notes: what a person
    should know; channels: output channels left, and of how many, by layer; groups: of a layer that was split, its parts
    and their output channels; others: searches of the same network with other channels (tuner/joint.py) or other groups
    of them (tuner/groups.py), which count in what was spent.
    """

    problem: Problem
    candidate: Candidate
    accuracy: float
    reference: float
    least: float
    float_cost: float
    seconds: float
    complete: bool
    graph: Graph | None = None
    held_out: HeldOut | None = None
    notes: tuple[str, ...] = ()
    channels: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    others: tuple[Tuned, ...] = ()

    @property
    def cost(self) -> float:
        """The objective of the candidate."""
        return self.problem.cost(self.candidate)

    @property
    def spent(self) -> float:
        """Images run, in full-set equivalents."""
        return self.problem.spent + sum(other.spent for other in self.others)

    @property
    def trace(self) -> list[Evaluation]:
        """Every measurement, search by search."""
        return [row for other in self.others for row in other.trace] + self.problem.trace


def tune_network(
    graph: Graph,
    search: Samples,
    held_out: Samples | None,
    platform: Platform,
    options: Options,
    *,
    objective: str = "bits",
    layerwise: Layerwise = "both",
    layers: Sequence[str] = (),
    groups: Sequence[Sequence[str]] = (),
    board: str = "pynq-z2",
    k: int = 1,
) -> Tuned:
    """Search the formats of a prepared float network on `search`, and measure the result on `held_out`.

    layers: the target layers by name or op, all by default; groups: layers that share formats; board: of hardware
    objectives; k: a label among the k highest scores is right. Raises CompileError for whatever the user can mend.
    """
    targets = targets_of(graph, search.x[:CALIBRATION_SAMPLES], layers)
    space = space_of(targets, platform, layerwise, groups)
    context = Context(samples={graph.input_name(graph.inputs[0]): search.x[:CALIBRATION_SAMPLES]})
    judge = SimulationJudge(graph, search.x, labels(graph, search), k)
    found = _searched(space, objective_of(objective, graph, targets, board, context), judge, options)
    made = found.candidate.apply(graph)
    return replace(found, graph=made, held_out=None if held_out is None else measured(graph, made, held_out, k))


def tune_command(space: Space, objective: Objective, judge: Judge, options: Options) -> Tuned:
    """Search by an accuracy that a command prints (the portable mode). Raises CompileError as that command fails."""
    if algorithm(options.algorithm).needs_network:
        raise CompileError(f"{options.algorithm} needs the network itself, not a command", help="--algorithm libnumber")
    return _searched(space, objective, judge, options)


def check_classes(graph: Graph, samples: Samples, k: int = 1) -> None:
    """Raise CompileError if a label is none of the network's classes, or if these are no more than k."""
    if samples.y is not None:
        check_labels(samples.y, class_scores(Simulation(graph), samples.x[:1]).shape[1], k)


def labels(graph: Graph, samples: Samples) -> NDArray[np.int64]:
    """The labels, or the float network's answers where there are none."""
    if samples.y is not None:
        return samples.y
    return np.asarray(class_scores(Simulation(graph), samples.x).argmax(1), np.int64)


def _searched(space: Space, objective: Objective, judge: Judge, options: Options) -> Tuned:
    began = time.monotonic()
    search = algorithm(options.algorithm).load()
    with workers(judge, options.jobs, options.cluster) as pool, closing(_database(options, judge)) as database:
        if not options.resume:
            database.forget()
        deadline = None if options.budget is None else began + options.budget
        problem = Problem(
            space,
            objective,
            judge,
            options.constraint,
            database,
            pool,
            options.seed,
            deadline,
            options.refine,
            options.reference,
            options.say,
        )
        candidate, complete = _within(problem, search)
        problem.deadline = None
        accuracy, reference = problem.accuracy(candidate), problem.accuracy(problem.float32)
        least, float_cost = problem.least(), problem.cost(problem.float32)
    return Tuned(problem, candidate, accuracy, reference, least, float_cost, time.monotonic() - began, complete)


def _database(options: Options, judge: Judge) -> Database:
    """Where accuracies are kept; its folder is made now that nothing else can be wrong."""
    if options.database is not None:
        options.database.parent.mkdir(parents=True, exist_ok=True)
    return Database(options.database, "" if options.database is None else judge.identity())


def _within(problem: Problem, search: Callable[[Problem], Candidate]) -> tuple[Candidate, bool]:
    """What the search ends with, or the best it had found when its time was over."""
    try:
        return search(problem), True
    except OutOfTime as end:
        problem.deadline = None
        if end.found is not None:
            return end.found, False
        problem.least()
        best = problem.best
        return (problem.float32 if best is None else problem.candidates[best.candidate]), False


def measured(whole: Graph, network: Graph, samples: Samples, k: int) -> HeldOut:
    """How often a network is right on samples, beside the float network that it was made from.

    Raises CompileError if a label is none of its classes.
    """
    check_classes(whole, samples)
    known = Samples(samples.x, labels(whole, samples))
    right, float_right = (int(right_answers(graph, known, k).sum()) for graph in (network, whole))
    return HeldOut(right, float_right, len(samples.x))


def right_answers(graph: Graph, samples: Samples, k: int) -> NDArray[np.bool_]:
    """Which samples [N] a network is right on: their label is among its k highest scores."""
    assert samples.y is not None
    return hits(k, class_scores(Simulation(graph), samples.x), samples.y)
