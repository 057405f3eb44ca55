"""All search algorithms on the same networks, images and machine, in one run.

    python benchmarks/tuner.py --cifar10 cifar10.npz -o benchmarks/tuner.json

For each network and tolerance: bits of the default objective over all layers, accuracy on held-out images,
measurements, cost in full-set equivalents (images x share of the network that was run / images of the search), wall
time. Searched on the first 10,000 training images, measured on all 10,000 test images.
`paper` is libnumber's own space (42 formats a tensor, weights layer by layer, one format for all inputs), `full` what
bitwright's hardware takes, layer by layer, `channels` the same with pruning of channels (`--prune auto`), `groups` with
groups of channels that have widths of their own (`--channel-groups auto`), `channels+groups` with both; `tiny` has
FIXED 2, 4 and 8, weights layer by layer, so few that `exhaustive` can look at all. whittle runs in one process, the
others measure candidates in two. `margin 0` asks whittle for as little as the others are asked for. stripes and random
are stopped after a minute.

CIFAR-10 is an .npz of x_train, y_train, x_test, y_test (uint8 pixels, N,3,32,32); without it only the MNIST networks
run. Results are written after each case, and a case whose result is there is not run again; `--show` only prints the
tables of a file.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitwright.ir.graph import Graph
from bitwright.models.datasets import load as load_data
from bitwright.tuner.groups import tune_groups
from bitwright.tuner.joint import tune_channels
from bitwright.tuner.platforms import load_platform, platform_of
from bitwright.tuner.problem import Constraint
from bitwright.tuner.tune import Options, Samples, Tuned, tune_network
from bitwright.tuning import prepared

MODELS = Path(__file__).parents[1] / "models"
NETWORKS = {
    "lenet5": "mnist",
    "caffe_lenet": "mnist",
    "mlp_m": "mnist",
    "mlp_c": "cifar10",
    "cifar10_quick": "cifar10",
}
TOLERANCES = (0.07, 0.01)
JOBS = 2
SEARCHED = 10_000
CASES = (
    ("whittle", "channels+groups", "both"),
    ("whittle", "channels", "both"),
    ("whittle", "groups", "both"),
    ("whittle", "full", "both"),
    ("whittle", "paper", "weights"),
    ("whittle", "full, margin 0", "both"),
    ("whittle", "paper, margin 0", "weights"),
    ("libnumber", "paper", "weights"),
    ("ristretto", "paper", "weights"),
    ("stripes", "paper", "weights"),
    ("random", "paper", "weights"),
    ("whittle", "tiny", "weights"),
    ("libnumber", "tiny", "weights"),
    ("exhaustive", "tiny", "weights"),
)
MARGIN = ", margin "
"""Between a space and the margin of whittle, where that is not its own."""
TINY = "mlp_m"
"""The network of the tiny space, which has 81 assignments there."""
BUDGETS = {"stripes": 60.0, "random": 60.0}
PLATFORMS = {
    "paper": load_platform("paper"),
    "tiny": platform_of({"tiny": {"FIXED": [2, 4, 8]}}),
}


@dataclass(frozen=True)
class Row:
    """One search and what it came to."""

    network: str
    tolerance: float
    algorithm: str
    space: str
    bits: float
    float_bits: float
    accuracy: float
    low: float
    high: float
    float_accuracy: float
    search_accuracy: float
    least: float
    measurements: int
    full_sets: float
    seconds: float
    complete: bool


def images(name: str, cifar10: Path | None) -> tuple[Samples, Samples] | None:
    """Search and held-out images of a data set, or None if it is not there."""
    if name == "mnist":
        train, test = load_data("mnist", "train"), load_data("mnist", "test")
        parts = (train.x, train.y, test.x, test.y)
    elif cifar10 is None:
        return None
    else:
        with np.load(cifar10) as arrays:
            parts = tuple(arrays[key] for key in ("x_train", "y_train", "x_test", "y_test"))  # type: ignore[assignment]
    scale = np.float32(1 if parts[0].dtype == np.float32 else 255)
    x_train, x_test = (part.astype(np.float32) / scale for part in (parts[0][:SEARCHED], parts[2]))
    assert parts[1] is not None
    assert parts[3] is not None
    return Samples(x_train, parts[1][:SEARCHED].astype(np.int64)), Samples(x_test, parts[3].astype(np.int64))


def run(
    network: str, tolerance: float, algorithm: str, space: str, layerwise: Any, parts: tuple[Samples, Samples]
) -> Row:
    """One search."""
    jobs = 1 if algorithm == "whittle" else JOBS
    space, _, margin = space.partition(MARGIN)
    constraint = Constraint(tolerance, margin=float(margin or 1))
    options = Options(algorithm, constraint, budget=BUDGETS.get(algorithm), jobs=jobs)
    graph = prepared(MODELS / f"{network}.onnx")
    described = PLATFORMS.get(space) or load_platform("full")

    def search(network: Graph, samples: Samples, options: Options, held_out: Samples | None = None) -> Tuned:
        return tune_network(network, samples, held_out, described, options, layerwise=layerwise)

    pruned = space.startswith("channels")
    found = tune_channels(graph, *parts, options, search) if pruned else search(graph, parts[0], options, parts[1])
    if space.endswith("groups"):
        found = tune_groups(found, graph, *parts, options, search)
    held = found.held_out
    assert held is not None
    return Row(
        network,
        tolerance,
        algorithm,
        space + (MARGIN + margin if margin else ""),
        found.cost,
        found.float_cost,
        held.accuracy,
        *held.interval,
        held.float_accuracy,
        found.accuracy,
        found.least,
        len(found.trace),
        round(found.spent, 2),
        round(found.seconds, 2),
        found.complete,
    )


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows as a Markdown table."""
    heads = ("network", "loss", "algorithm, space", "bits", "of float", "held-out accuracy [95 %]")
    yield "| " + " | ".join((*heads, "float", "measured", "full sets", "s")) + " |"
    yield "| --- " * 10 + "|"
    for r in rows:
        smaller, interval = r["float_bits"] / r["bits"], f"[{r['low']:.4f}, {r['high']:.4f}]"
        ended = "" if r["complete"] else " (stopped)"
        missed = "" if r["accuracy"] >= r["float_accuracy"] * (1 - r["tolerance"]) else " (misses the target)"
        yield (
            f"| {r['network']} | {r['tolerance']:.0%} | {r['algorithm']}, {r['space']} | {r['bits']:,.0f}"
            f" | 1/{smaller:.1f} | {r['accuracy']:.4f} {interval}{missed} | {r['float_accuracy']:.4f}"
            f" | {r['measurements']} | {r['full_sets']:.1f} | {r['seconds']:.1f}{ended} |"
        )


def comparisons(rows: list[dict[str, Any]]) -> Iterator[str]:
    """whittle against each rival, case by case, and in geometric mean."""
    found = {(r["network"], r["tolerance"], r["algorithm"], r["space"]): r for r in rows}
    for space in ("paper", "full", "paper, margin 0", "full, margin 0", "channels", "groups", "channels+groups"):
        for rival in ("libnumber", "ristretto", "stripes", "random"):
            for tolerance in TOLERANCES:
                pairs = [
                    (found[name, tolerance, "whittle", space], found[name, tolerance, rival, "paper"])
                    for name in NETWORKS
                    if (name, tolerance, "whittle", space) in found and (name, tolerance, rival, "paper") in found
                ]
                if pairs:
                    yield f"whittle, {space}, against {rival} at {tolerance:.0%}: " + "; ".join(
                        f"{what} {_mean(pairs, key):.3f} ({', '.join(f'{a[key] / b[key]:.3f}' for a, b in pairs)})"
                        for what, key in (("bits", "bits"), ("full sets", "full_sets"), ("time", "seconds"))
                    )


def _mean(pairs: list[tuple[dict[str, Any], dict[str, Any]]], key: str) -> float:
    return math.exp(sum(math.log(a[key] / b[key]) for a, b in pairs) / len(pairs))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare search algorithms.")
    parser.add_argument("--cifar10", type=Path, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--algorithms", nargs="*", default=[f"{a}:{s}" for a, s, _ in CASES], help="as whittle:full")
    parser.add_argument("--tolerances", nargs="*", type=float, default=TOLERANCES)
    parser.add_argument("--show", action="store_true", help="print the tables of the file, run nothing")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/tuner.json"))
    given = parser.parse_args()
    stored = (
        json.loads(given.output.read_text())
        if given.output.is_file()
        else {"machine": platform.processor(), "rows": []}
    )
    rows: list[dict[str, Any]] = stored["rows"]
    done = {(r["network"], r["tolerance"], r["algorithm"], r["space"]) for r in rows}
    for network in [] if given.show else given.networks:
        parts = images(NETWORKS[network], given.cifar10)
        for tolerance in given.tolerances:
            for algorithm, space, layerwise in CASES:
                case = (network, tolerance, algorithm, space)
                is_here = parts is not None and (space != "tiny" or network == TINY)
                if not is_here or case in done or f"{algorithm}:{space}" not in given.algorithms:
                    continue
                assert parts is not None
                rows.append(asdict(run(*case, layerwise, parts)))
                given.output.write_text(json.dumps(stored, indent=1) + "\n")
                print(list(table(rows[-1:]))[-1], flush=True)
    order = {name: i for i, name in enumerate(NETWORKS)}
    rows.sort(key=lambda r: (order[r["network"]], -r["tolerance"]))
    print(*table(rows), "", *comparisons(rows), sep="\n")


if __name__ == "__main__":
    main()
