"""What it is worth that the outputs of dense layers make up for each other (tuner/whittle/coupled.py).

    python benchmarks/coupling.py --cifar10 cifar10.npz

For each network and width of its dense layers' weights: the divergence of the answers from the float network's on all
test images, with outputs rounded by themselves, and with outputs that make up for each other. Everything else is wide:
inputs and convolutions have eight bits. Numbers are fitted to half of the first 10,000 training images at most, as a
search does. CIFAR-10 is an .npz as of benchmarks/tuner.py, whose networks and images these are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
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
from bitwright.tuner.whittle.network import Network
from bitwright.tuner.whittle.sensitivity import divergence, log_probabilities
from bitwright.tuner.workers import workers
from bitwright.tuning import prepared

MODELS = Path(__file__).parents[1] / "models"
MNIST = ("lenet5", "caffe_lenet", "mlp_m")
CIFAR10 = ("mlp_c", "cifar10_quick")
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


def divergences(name: str, search: Samples, test: Samples) -> Iterator[tuple[int, float, float]]:
    """For each width, the divergence without and with coupling."""
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
        known = dict(network.influences)
        for width in WIDTHS:
            found = []
            for influences in ({}, known):
                network.influences = influences
                network.couplings, network.float_statistics, network.reached, network.states = {}, {}, {}, {}
                built = network.build(tuple(format_of(variable, width) for variable in space.variables))
                scores = scores_of(built.apply(graph), test.x)
                found.append(divergence(floating, scores))
            yield width, found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what coupled outputs are worth.")
    parser.add_argument("--cifar10", type=Path, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--networks", nargs="*", default=[*MNIST, *CIFAR10])
    given = parser.parse_args()
    print("| network | bits of dense weights | by themselves | coupled | ratio |", "| --- " * 5 + "|", sep="\n")
    for name in given.networks:
        if name in CIFAR10 and given.cifar10 is None:
            continue
        for width, alone, coupled in divergences(name, *images(name, given.cifar10)):
            print(f"| {name} | {width} | {alone:.4f} | {coupled:.4f} | {coupled / alone:.2f} |", flush=True)


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        main()
