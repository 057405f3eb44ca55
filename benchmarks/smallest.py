"""How small a network becomes: formats and channels chosen together, without and with retraining.

    python benchmarks/smallest.py --data mnist.npz [--cifar10 cifar10.npz] [--networks lenet5 cifar10_quick resnet20]
    python benchmarks/smallest.py --show

The .npz hold x_train, y_train, x_test, y_test (uint8). For each network and loss of accuracy:

searched    `bitwright tune --prune auto` with that tolerance (without channels where WHOLE says so), on the first
            10,000 (resnet20: 5,000) training images: nothing is trained
retrained   the same with looser tolerances, then `bitwright retrain` on all training images but those it holds back,
            with labels and the float network as teacher. The tolerances were fixed before; every one of them is a row

Bits are those of the default objective over all layers, parameters and multiplications those of the layers. Accuracies
are on all 10,000 test images. Results are written after each case, and a case whose result is there is not run again;
a training takes its network from --keep, or searches for it anew.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from bitwright.backends.simulation.score import score
from bitwright.ir.files import load, save
from bitwright.ir.graph import Graph
from bitwright.pruning import Size
from bitwright.retraining import augmentation
from bitwright.train.settings import Settings
from bitwright.train.training import Progress, held_back, train
from bitwright.tuner.joint import tune_channels
from bitwright.tuner.platforms import load_platform
from bitwright.tuner.problem import Constraint
from bitwright.tuner.tune import Options, Samples, Tuned, tune_network
from bitwright.tuning import prepared

MODELS = Path(__file__).parents[1] / "models"


@dataclass(frozen=True)
class Network:
    """Where a network's pictures come from, how many are searched on, and how they are distorted in a training."""

    source: str
    searched: int
    augment: str | None


NETWORKS = {
    "lenet5": Network("mnist", 10_000, None),
    "cifar10_quick": Network("cifar10", 10_000, "flip"),
    "resnet20": Network("cifar10", 5_000, "flip"),
}
LOSSES = {"lenet5": (0.01,), "cifar10_quick": (0.01,), "resnet20": (0.01, 0.07)}
LOOSER = {
    "lenet5": {0.02: Settings(epochs=10), 0.04: Settings(epochs=10)},
    "cifar10_quick": {0.03: Settings(epochs=15, rate=0.01, keep="last")},
    "resnet20": {
        0.015: Settings(epochs=8, rate=0.005, keep="last"),
        0.02: Settings(epochs=10, rate=0.005, keep="last"),
        0.15: Settings(epochs=10, rate=0.01, keep="last"),
    },
}
"""Looser tolerances, from whose networks a training gives accuracy back, and its settings.

The networks for CIFAR-10 saw the images that are held back when they were first trained: these speak for the start, and
the last epoch is kept.
"""
WHOLE = {("resnet20", 0.015), ("resnet20", 0.02)}
"""Formats alone: no channel pays at 1 % and at 4 %, and to find that out again takes an hour."""
BUDGETS: dict[str, tuple[float | None, ...]] = {"lenet5": (None,), "cifar10_quick": (None,), "resnet20": (None,)}
"""Seconds of a search, which then ends with the best that it has found: a row says so. None: it ends by itself."""


@dataclass(frozen=True)
class Row:
    """One network. tolerance: of the search; held, float_held: right on held-back images, where it was retrained.

    parameters: that are not zero; None where nobody counted.
    """

    network: str
    stage: str
    tolerance: float
    bits: float
    float_bits: float
    parameters: int | None
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

    @property
    def key(self) -> tuple[str, str, float, float | None]:
        """What it is the result of."""
        return self.network, self.stage, self.tolerance, self.budget


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


def searched(name: str, graph: Graph, data: Data, tolerance: float, budget: float | None) -> tuple[Row, Graph]:
    """Formats and channels for a tolerance; without a margin where a training is to give accuracy back."""
    assert data.train.y is not None
    constraint = Constraint(tolerance, margin=0.0 if tolerance in LOOSER[name] else 1.0)
    count = NETWORKS[name].searched
    part = Samples(data.train.x[:count], data.train.y[:count])

    def tune(network: Graph, samples: Samples, options: Options) -> Tuned:
        return tune_network(network, samples, None, load_platform("full"), options)

    options = Options(constraint=constraint, budget=budget)
    if (name, tolerance) in WHOLE:
        found = tune_network(graph, part, data.test, load_platform("full"), options)
    else:
        found = tune_channels(graph, part, data.test, options, tune)
    assert found.graph is not None
    assert found.held_out is not None
    sizes = Size.of(graph), Size.of(found.graph)
    made = Row(
        name,
        "searched",
        tolerance,
        found.cost,
        found.float_cost,
        sizes[1].parameters,
        sizes[0].parameters,
        sizes[1].multiplications,
        sizes[0].multiplications,
        dict(found.channels),
        found.held_out.accuracy,
        found.held_out.float_accuracy,
        None,
        None,
        round(found.seconds, 1),
        found.complete,
        budget,
    )
    return made, found.graph


def retrained(made: Row, graph: Graph, small: Graph, data: Data) -> Row:
    """The row of a searched network after its training; tells of each epoch as it ends."""
    assert data.train.y is not None
    settings = LOOSER[made.network][made.tolerance]
    kept, _ = held_back(len(data.train.x), settings.seed)
    float_held = score(graph, data.train.x[kept], data.train.y[kept]).value
    augment = NETWORKS[made.network].augment
    distort = None if augment is None else augmentation(augment)
    told: set[int] = set()

    def say(progress: Progress) -> None:
        epoch = progress.epoch
        if epoch.number not in told:
            told.add(epoch.number)
            share = epoch.agreeing / float_held
            print(f"  epoch {epoch.number}: loss {epoch.loss:.4f}, held back {share:.4f} of float", flush=True)

    learned = train(small, data.train.x, data.train.y, settings, teacher=graph, augment=distort, say=say)
    held = learned.epochs[learned.best].agreeing
    size = Size.of(learned.graph)
    return replace(
        made,
        stage="retrained",
        parameters=size.parameters,
        multiplications=size.multiplications,
        accuracy=score(learned.graph, data.test.x, data.test.y).value,
        held=held,
        float_held=float_held,
    )


def rows_of(name: str, data: Data, rows: list[Row], keep: Path) -> Iterator[Row]:
    """The rows of one network that are not among those given; searched networks are written to `keep`."""
    graph = prepared(MODELS / f"{name}.onnx")
    done = {row.key: row for row in rows}
    for budget, tolerance in itertools.product(BUDGETS[name], (*LOSSES[name], *LOOSER[name])):
        made = done.get((name, "searched", tolerance, budget))
        path = keep / f"{name}-{tolerance:g}{'' if budget is None else f'-{budget:g}s'}.ir"
        wanted = tolerance in LOOSER[name] and (name, "retrained", tolerance, budget) not in done
        if made is None or (wanted and not path.is_file()):
            made, small = searched(name, graph, data, tolerance, budget)
            keep.mkdir(parents=True, exist_ok=True)
            save(small, path)
            yield made
        if wanted:
            yield retrained(made, graph, load(path), data)


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


def table(rows: list[Row]) -> Iterator[str]:
    """The rows as a Markdown table."""
    yield f"| {' | '.join(HEADS)} |"
    yield "| --- " * len(HEADS) + "|"
    for r in rows:
        stopped = "" if r.complete else f" (stopped after {r.budget:g} s)"
        training = LOOSER[r.network].get(r.tolerance) if r.stage == "retrained" else None
        trained = "" if training is None else f" ({training.epochs} epochs at {training.rate:g})"
        cells = (
            f"{r.network}, {r.stage}{trained}{stopped}",
            f"{r.tolerance:.1%}".replace(".0%", "%"),
            f"{r.bits:,.0f}",
            f"1/{r.float_bits / r.bits:.1f}",
            "" if r.parameters is None else f"{r.parameters:,} of {r.float_parameters:,}",
            f"{r.multiplications:,} of {r.float_multiplications:,}",
            "" if r.held is None or r.float_held is None else f"{r.held / r.float_held:.4f}",
            f"{r.accuracy:.4f}",
            f"{r.accuracy / r.float_accuracy:.4f}",
            ", ".join(f"{x:.0%}" for x in LOSSES[r.network] if r.accuracy >= (1 - x) * r.float_accuracy),
        )
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="MNIST as .npz")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as .npz")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--show", action="store_true", help="print the table of --output and run nothing")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--keep", type=Path, default=Path("searched"), help="folder of the searched networks")
    given = parser.parse_args()
    read = json.loads(given.output.read_text()) if given.output.is_file() else []
    rows = [Row(**row) for row in read]
    sources = {"mnist": given.data, "cifar10": given.cifar10}
    for name in [] if given.show else given.networks:
        path = sources[NETWORKS[name].source]
        if path is None:
            continue
        for made in rows_of(name, Data.read(path), list(rows), given.keep):
            rows = [row for row in rows if row.key != made.key] + [made]
            given.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
            print(list(table(rows))[-1], flush=True)
    print(*table(rows), sep="\n")


if __name__ == "__main__":
    main()
