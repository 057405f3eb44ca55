"""How small a network becomes: formats and channels chosen together, without and with retraining.

    python benchmarks/smallest.py --data mnist.npz [--cifar10 cifar10.npz] [--networks lenet5 resnet20]
    python benchmarks/smallest.py --show

The .npz hold x_train, y_train, x_test, y_test (uint8). For each network and loss of accuracy:

searched    `bitwright tune --prune auto` with that tolerance, on the first 10,000 (MNIST) or 5,000 (CIFAR-10) training
            images: nothing is trained
retrained   the same with looser tolerances, then `bitwright retrain` on all training images but those it holds back,
            with labels and the float network as teacher. The tolerances were fixed before; every one of them is a row

Bits are those of the default objective over all layers, parameters and multiplications those of the layers. Accuracies
are on all 10,000 test images. Results are written after each case, and a case whose result is there is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bitwright.backends.simulation.score import score
from bitwright.ir.graph import Graph
from bitwright.pruning import Size
from bitwright.retraining import augmentation
from bitwright.train.settings import Settings
from bitwright.train.training import held_back, train
from bitwright.tuner.joint import tune_channels
from bitwright.tuner.platforms import load_platform
from bitwright.tuner.problem import Constraint
from bitwright.tuner.tune import Options, Samples, Tuned, tune_network
from bitwright.tuning import prepared

MODELS = Path(__file__).parents[1] / "models"
NETWORKS = {"lenet5": ("mnist", None, 10), "resnet20": ("cifar10", "flip", 5)}
"""The data, how pictures are distorted in training, and epochs."""
SEARCHED = {"mnist": 10_000, "cifar10": 5_000}
LOSSES = {"lenet5": (0.01,), "resnet20": (0.01, 0.07)}
LOOSER = {"lenet5": (0.02, 0.04), "resnet20": (0.04, 0.15)}
BUDGETS: dict[str, tuple[float | None, ...]] = {"lenet5": (None,), "resnet20": (None,)}
"""Seconds of a search, which then ends with the best that it has found: a row says so. None: it ends by itself."""


@dataclass(frozen=True)
class Row:
    """One network. tolerance: of the search; held, float_held: right on held-back images, where it was retrained."""

    network: str
    stage: str
    tolerance: float
    bits: float
    float_bits: float
    parameters: int
    float_parameters: int
    multiplications: int
    float_multiplications: int
    channels: dict[str, tuple[int, int]]
    accuracy: float
    float_accuracy: float
    held: float | None
    float_held: float | None
    seconds: float
    complete: bool = True
    budget: float | None = None


@dataclass(frozen=True)
class Data:
    """Training and test images, pixels in [0, 1], with labels."""

    train: Samples
    test: Samples

    @classmethod
    def read(cls, path: Path) -> Data:
        with np.load(path) as arrays:
            parts = [
                Samples(_pixels(arrays[f"x_{name}"]), arrays[f"y_{name}"].astype(np.int64))
                for name in ("train", "test")
            ]
        return cls(*parts)


def _pixels(x: np.ndarray) -> np.ndarray:
    return (x[:, None] if x.ndim == 3 else x).astype(np.float32) / np.float32(255)


def searched(graph: Graph, data: Data, count: int, tolerance: float, budget: float | None) -> Tuned:
    """Formats and channels for a tolerance."""
    assert data.train.y is not None
    part = Samples(data.train.x[:count], data.train.y[:count])

    def tune(network: Graph, samples: Samples, options: Options) -> Tuned:
        return tune_network(network, samples, None, load_platform("full"), options)

    return tune_channels(graph, part, data.test, Options(constraint=Constraint(tolerance), budget=budget), tune)


def row(name: str, stage: str, tolerance: float, graph: Graph, found: Tuned, data: Data, small: Graph) -> Row:
    sizes = Size.of(graph), Size.of(small)
    held = found.held_out
    assert held is not None
    accuracy = held.accuracy if small is found.graph else score(small, data.test.x, data.test.y).value
    return Row(
        name,
        stage,
        tolerance,
        found.cost,
        found.float_cost,
        sizes[1].parameters,
        sizes[0].parameters,
        sizes[1].multiplications,
        sizes[0].multiplications,
        dict(found.channels),
        accuracy,
        held.float_accuracy,
        None,
        None,
        round(found.seconds, 1),
        found.complete,
    )


def rows_of(name: str, data: Data, done: set[tuple[str, str, float, float | None]]) -> Iterator[Row]:
    """The rows of one network that are not done."""
    graph = prepared(MODELS / f"{name}.onnx")
    source, augment, epochs = NETWORKS[name]
    settings = Settings(epochs=epochs)
    for budget, tolerance in itertools.product(BUDGETS[name], (*LOSSES[name], *LOOSER[name])):
        stage = "searched" if tolerance in LOSSES[name] else "retrained"
        if (name, stage, tolerance, budget) in done:
            continue
        found = searched(graph, data, SEARCHED[source], tolerance, budget)
        assert found.graph is not None
        yield replace(row(name, "searched", tolerance, graph, found, data, found.graph), budget=budget)
        if stage == "searched":
            continue
        assert data.train.y is not None
        kept, _ = held_back(len(data.train.x), settings.seed)
        float_held = score(graph, data.train.x[kept], data.train.y[kept]).value
        distort = None if augment is None else augmentation(augment)
        learned = train(found.graph, data.train.x, data.train.y, settings, teacher=graph, augment=distort)
        made = row(name, "retrained", tolerance, graph, found, data, learned.graph)
        held = learned.epochs[learned.best].agreeing
        yield replace(made, held=held, float_held=float_held, budget=budget)


HEADS = (
    "network, stage",
    "tolerance of the search",
    "bits",
    "of float",
    "parameters",
    "multiplications",
    "held back, of float",
    "test accuracy",
    "of float",
    "loses at most",
)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows as a Markdown table."""
    yield f"| {' | '.join(HEADS)} |"
    yield "| --- " * len(HEADS) + "|"
    for r in rows:
        stopped = "" if r["complete"] else f" (stopped after {r['budget']:g} s)"
        cells = (
            f"{r['network']}, {r['stage']}{stopped}",
            f"{r['tolerance']:.0%}",
            f"{r['bits']:,.0f}",
            f"1/{r['float_bits'] / r['bits']:.1f}",
            f"{r['parameters']:,} of {r['float_parameters']:,}",
            f"{r['multiplications']:,} of {r['float_multiplications']:,}",
            "" if r["held"] is None else f"{r['held'] / r['float_held']:.4f}",
            f"{r['accuracy']:.4f}",
            f"{r['accuracy'] / r['float_accuracy']:.4f}",
            ", ".join(f"{x:.0%}" for x in LOSSES[r["network"]] if r["accuracy"] >= (1 - x) * r["float_accuracy"]),
        )
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="MNIST as .npz")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as .npz")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--show", action="store_true", help="print the table of --output and run nothing")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(given.output.read_text()) if given.output.is_file() else []
    sources = {"mnist": given.data, "cifar10": given.cifar10}
    for name in [] if given.show else given.networks:
        path = sources[NETWORKS[name][0]]
        if path is None:
            continue
        done = {(r["network"], r["stage"], r["tolerance"], r["budget"]) for r in rows}
        for made in rows_of(name, Data.read(path), done):
            rows.append(asdict(made))
            given.output.write_text(json.dumps(rows, indent=1) + "\n")
            print(list(table(rows))[-1], flush=True)
    print(*table(rows), sep="\n")


if __name__ == "__main__":
    main()
