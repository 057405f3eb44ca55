"""What parts of second-order rounding are worth, by the divergence of a network's answers on all test images.

    python benchmarks/rounding.py --cifar10 cifar10.npz

coupling   the outputs of dense layers rounded by themselves, and making up for each other (tuner/whittle/coupled.py)
segments   layers of many inputs rounded as one, and in segments of inputs (tuner/whittle/curvature.py), with the
           seconds that building the network takes each time

For each network and width of its dense layers' weights; everything else is wide: inputs and convolutions have eight
bits. Numbers are fitted to half of the first 10,000 training images at most, as a search does. CIFAR-10 is an .npz as
of benchmarks/tuner.py, whose networks and images these are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import class_scores
from bitwright.ir.formats import Canonical
from bitwright.ir.formats.named import BIN, fixed
from bitwright.ir.graph import Graph
from bitwright.models.datasets import load
from bitwright.passes.base import Context
from bitwright.tuner.database import Database
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.objectives import objective_of
from bitwright.tuner.platforms import load_platform
from bitwright.tuner.problem import Constraint, Problem
from bitwright.tuner.space import Variable, space_of
from bitwright.tuner.targets import targets_of
from bitwright.tuner.tune import CALIBRATION_SAMPLES, Samples
from bitwright.tuner.whittle import curvature
from bitwright.tuner.whittle.network import Network
from bitwright.tuner.whittle.sensitivity import divergence, log_probabilities
from bitwright.tuner.workers import workers
from bitwright.tuning import prepared

MODELS = Path(__file__).parents[1] / "models"
MNIST = ("lenet5", "caffe_lenet", "mlp_m")
CIFAR10 = ("mlp_c", "cifar10_quick")
MANY_INPUTS = ("mlp_c",)
"""Networks with a layer of more than one segment."""
SEARCHED = 10_000
WIDTHS = (1, 2, 3, 4)
WIDE = 8


def images(name: str, cifar10: Path) -> tuple[Samples, Samples]:
    """Search and test images of a network, pixels in [0, 1]."""
    if name in MNIST:
        train, test = load("mnist", "train", SEARCHED), load("mnist", "test")
        assert train.y is not None
        assert test.y is not None
        return Samples(train.x, train.y.astype(np.int64)), Samples(test.x, test.y.astype(np.int64))
    with np.load(cifar10) as arrays:
        parts = [(arrays[f"x_{part}"][:SEARCHED], arrays[f"y_{part}"][:SEARCHED]) for part in ("train", "test")]
    train_part, test_part = (Samples(x.astype(np.float32) / np.float32(255), y.astype(np.int64)) for x, y in parts)
    return train_part, test_part


def scores_of(graph: Graph, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores of a network."""
    return class_scores(Simulation(graph), x)


def format_of(variable: Variable, width: int) -> Canonical:
    """FIXED of a width, BIN of one bit; for dense weights alone."""
    if variable.role == "weight" and all(target.kind == "dense" for target in variable.targets):
        return BIN if width == 1 else fixed(width)
    return fixed(WIDE, n_s=int(any(target.signed for target in variable.targets)))


@dataclass(frozen=True)
class Way:
    """How a network is rounded: with outputs that make up for each other, with so many inputs in one segment."""

    coupled: bool = True
    most_inputs: int = curvature.MOST_INPUTS


def divergences(name: str, search: Samples, test: Samples, way: Way) -> Iterator[tuple[float, float]]:
    """For each width, the divergence and the seconds that building the network took."""
    curvature.MOST_INPUTS = way.most_inputs
    graph = prepared(MODELS / f"{name}.onnx")
    targets = targets_of(graph, search.x[:CALIBRATION_SAMPLES], ())
    space = space_of(targets, load_platform("full"), "both", ())
    assert search.y is not None
    judge = SimulationJudge(graph, search.x, search.y)
    objective = objective_of("bits", graph, targets, "pynq-z2", Context())
    floating = log_probabilities(scores_of(graph, test.x))
    with workers(judge, 1, None) as pool, closing(Database(None, judge.identity())) as database:
        problem = Problem(space, objective, judge, Constraint(0.01), database, pool)
        network = Network(problem, graph, search.x, space.per_channel, fitted=len(search.x) // 2)
        if not way.coupled:
            network.influences = {}
        for width in WIDTHS:
            network.float_statistics, network.reached, network.states = {}, {}, {}
            network.starts, network.weight_formats = {}, {}
            began = time.perf_counter()
            built = network.build(tuple(format_of(variable, width) for variable in space.variables))
            seconds = time.perf_counter() - began
            yield divergence(floating, scores_of(built.apply(graph), test.x)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what coupled outputs and segments of inputs are worth.")
    parser.add_argument("--cifar10", type=Path, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--networks", nargs="*", default=[*MNIST, *CIFAR10])
    given = parser.parse_args()
    networks = {name: images(name, given.cifar10) for name in given.networks if name in MNIST or given.cifar10}
    print("| network | bits of dense weights | by themselves | coupled | ratio |", "| --- " * 5 + "|", sep="\n")
    for name, parts in networks.items():
        each = (divergences(name, *parts, way) for way in (Way(coupled=False), Way()))
        for width, (alone, _), (both, _) in zip(WIDTHS, *map(list, each), strict=True):
            print(f"| {name} | {width} | {alone:.4f} | {both:.4f} | {both / alone:.2f} |", flush=True)
    print()
    print("| network | bits of dense weights | as one | s | in segments | s |", "| --- " * 6 + "|", sep="\n")
    for name in [name for name in networks if name in MANY_INPUTS]:
        each = (divergences(name, *networks[name], way) for way in (Way(most_inputs=1 << 30), Way()))
        for width, (one, slow), (split, fast) in zip(WIDTHS, *map(list, each), strict=True):
            print(f"| {name} | {width} | {one:.4f} | {slow:.2f} | {split:.4f} | {fast:.2f} |", flush=True)


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        main()
