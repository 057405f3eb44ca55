"""Throughput of the simulated LeNet-5 beside plain float onnxruntime, on the test images of MNIST.

    python benchmarks/simulation.py
    python benchmarks/simulation.py --threads 1 --batches 50 --rounds 21

All weights and activations are FIXED 8, their ranges from 1,000 training images. Three sessions of equal options take
the same images in the same batches: the network in float, the simulation with the formats' numbers inside (what a run
over a whole test set uses) and the simulation with them as inputs (what a small run uses). A second table has what a
new assignment of formats costs before its first image.

Every round runs every contender once, in turn, so that a busy machine is slow for all of them. Times are medians over
the rounds; a ratio is the median of each round's own ratio, simulation / float, more is better. A CPU ratio is that of
CPU seconds of all threads, which other jobs disturb less.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table

import bitwright
from bitwright.backends.simulation.run import BATCH, Simulation, session_of
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array
from bitwright.models.datasets import Dataset, load
from bitwright.passes import STRUCTURE, Context

MODEL = Path(__file__).parents[1] / "models" / "lenet5.onnx"
CALIBRATION_SAMPLES = 1000
DEMAND = 0.7
ALL_CORES = 0
NEVER = 10**9

FLOAT, INSIDE, GIVEN, SCORE = "float", "formats inside", "formats given", "score"


@dataclass(frozen=True)
class Contender:
    """One way to run all images."""

    side: str
    threads: int
    batch: int
    run: Callable[[], object]


@dataclass
class Times:
    """What each round took, in seconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


Key = tuple[str, int, int]
"""Side, threads and batch."""


def quantised(graph: Graph, width: int, samples: Array) -> Graph:
    """All weights and activations FIXED of this width, with ranges from these samples."""
    context = Context(samples={graph.input_name(graph.inputs[0]): samples})
    pipeline = f"{STRUCTURE},annotate-formats{{weights=FIXED {width},activations=FIXED {width}}},derive-accumulators"
    return bitwright.run_passes(graph, pipeline, context)


def in_batches(session: onnxruntime.InferenceSession, name: str, x: Array, batch: int) -> Array:
    """The first output of a session for all of `x`."""
    return np.concatenate([session.run(None, {name: x[i : i + batch]})[0] for i in range(0, len(x), batch)])


def contenders(graph: Graph, model: bytes, test: Dataset, threads: list[int], batches: list[int]) -> list[Contender]:
    """The three sides for all threads and batches, then what `score` does. Sessions are made at the first run."""
    name, x = graph.input_name(graph.inputs[0]), test.x
    found = []
    for count in [*threads, ALL_CORES]:
        plain = session_of(model, count)
        for batch in batches if count != ALL_CORES else sorted({*batches, BATCH}):
            found.append(Contender(FLOAT, count, batch, partial(in_batches, plain, name, x, batch)))
            for side, bake_from in ((INSIDE, 1), (GIVEN, NEVER)):
                found.append(
                    Contender(side, count, batch, partial(Simulation(graph, count, batch, bake_from).run, {name: x}))
                )
    found.append(Contender(SCORE, ALL_CORES, BATCH, lambda: bitwright.score(graph, x, test.y)))
    return found


def measure(entries: Sequence[Contender], rounds: int, console: Console) -> dict[Key, Times]:
    """The times of every contender, all in turn in every round; the round before the first warms up."""
    times = {(entry.side, entry.threads, entry.batch): Times() for entry in entries}
    with console.status("warming up") as status:
        for number in range(-1, rounds):
            status.update(f"round {number + 1} of {rounds}")
            for entry in entries:
                wall, cpu = time.perf_counter(), time.process_time()
                entry.run()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                if number >= 0:
                    times[entry.side, entry.threads, entry.batch].wall.append(wall)
                    times[entry.side, entry.threads, entry.batch].cpu.append(cpu)
    return times


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the rounds' own ratios."""
    return median(n / d for n, d in zip(numerators, denominators, strict=True))


def fastest(times: dict[Key, Times], side: str, threads: int) -> Key:
    return min((key for key in times if key[:2] == (side, threads)), key=lambda key: median(times[key].wall))


def speeds(times: dict[Key, Times], threads: list[int], images: int) -> Table:
    """Images a second of the three sides, at equal batch and each at its own best."""
    table = Table(title="images/s and their ratio to float; best: each side at its own best batch")
    table.add_column("threads")
    for name in ("batch", FLOAT, INSIDE, "ratio", "CPU ratio", GIVEN, "ratio", "CPU ratio"):
        table.add_column(name, justify="right")
    for count in [*threads, ALL_CORES]:
        label = "all" if count == ALL_CORES else str(count)
        for batch in sorted({key[2] for key in times if key[:2] == (FLOAT, count)}):
            keys = [(side, count, batch) for side in (FLOAT, INSIDE, GIVEN)]
            table.add_row(label, str(batch), *cells(times, keys, images))
        keys = [fastest(times, side, count) for side in (FLOAT, INSIDE, GIVEN)]
        table.add_row(label, "best: " + ", ".join(str(key[2]) for key in keys), *cells(times, keys, images))
        table.add_section()
    return table


def cells(times: dict[Key, Times], keys: Sequence[Key], images: int) -> list[str]:
    """Float's images a second, then those of each other side with its ratios."""
    plain = times[keys[0]]
    found = [f"{images / median(plain.wall):,.0f}"]
    for key in keys[1:]:
        own = times[key]
        found += [f"{images / median(own.wall):,.0f}", f"{ratio(plain.wall, own.wall):.2f}"]
        found += [f"{ratio(plain.cpu, own.cpu):.2f}"]
    return found


def verdict(times: dict[Key, Times], images: int) -> list[str]:
    """The demand: the simulation in the settings of `score` against float, at its batch and at float's best."""
    own, whole = times[INSIDE, ALL_CORES, BATCH], times[SCORE, ALL_CORES, BATCH]
    best = fastest(times, FLOAT, ALL_CORES)
    reached = [ratio(times[key].wall, own.wall) for key in ((FLOAT, ALL_CORES, BATCH), best)]
    met = "met" if min(reached) >= DEMAND else "MISSED"
    return [
        f"the simulation as score runs it (all cores, batch {BATCH}, formats inside): {reached[0]:.2f} of float at "
        f"equal batch, {reached[1]:.2f} of float at its best batch ({best[2]}); demand {DEMAND}: {met}",
        f"score as a whole, with export, building the session and top-1: {images / median(whole.wall):,.0f} images/s, "
        f"{ratio(times[best].wall, whole.wall):.2f} of a float session that is there already",
    ]


def milliseconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def assignments(graph: Graph, other: Graph, model: bytes, x: Array, repeats: int, threads: int) -> Table:
    """What comes before the first image of a structure, and of other formats of the same structure."""
    name = graph.input_name(graph.inputs[0])
    one = {name: x[:1]}
    rows: dict[str, list[float]] = {}

    def note(row: str, act: Callable[[], object]) -> None:
        rows.setdefault(row, []).append(milliseconds(act))

    for _ in range(repeats):
        note("float: session and an image", lambda: session_of(model, threads).run(None, one))
        given, inside = Simulation(graph, threads, bake_from=NEVER), Simulation(graph, threads, bake_from=1)
        note(f"first assignment, {GIVEN}: session and an image", partial(given.run, one))
        note(f"first assignment, {INSIDE}: session and an image", partial(inside.run, one))
        note("use() of other formats alone", partial(given.use, other))
        note(f"other formats, {GIVEN}: no session, an image", partial(given.run, one))
        inside.use(other)
        note(f"other formats, {INSIDE}: session and an image", partial(inside.run, one))
        note(f"an image more, {GIVEN}", partial(given.run, one))
        note(f"an image more, {INSIDE}", partial(inside.run, one))
    table = Table(title=f"what an assignment costs, median of {repeats}")
    table.add_column("step")
    table.add_column("ms", justify="right")
    for row, found in rows.items():
        table.add_row(row, f"{median(found):.2f}")
    return table


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Throughput of the simulated LeNet-5 beside plain float onnxruntime.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="besides all cores (default: 1 2)")
    parser.add_argument("--batches", type=int, nargs="+", default=[20, 50, 100], help="default: 20 50 100")
    parser.add_argument("--rounds", type=int, default=9, help="how often each contender runs (default: 9)")
    parser.add_argument("--images", type=int, default=10000, help="of the test set (default: all 10,000)")
    given = parser.parse_args()
    if min(*given.threads, *given.batches, given.rounds, given.images) < 1:
        parser.error("all of these are 1 or more")
    return given


def main() -> None:
    given = parsed()
    console = Console(width=None if os.isatty(1) else 120, highlight=False)
    train, test = load("mnist", "train", CALIBRATION_SAMPLES), load("mnist", "test", given.images)
    plain, model = bitwright.load(MODEL), MODEL.read_bytes()
    graph, other = (quantised(plain, width, train.x) for width in (8, 6))
    before, after = bitwright.score(plain, test.x, test.y), bitwright.score(graph, test.x, test.y)
    console.print(
        f"LeNet-5, FIXED 8, {len(test.x):,} images: top-1 {before.value:.4f} in float, {after.value:.4f} simulated; "
        f"onnxruntime {onnxruntime.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start",
        soft_wrap=True,
    )
    times = measure(contenders(graph, model, test, given.threads, given.batches), given.rounds, console)
    console.print(speeds(times, given.threads, len(test.x)))
    console.print("\n".join(verdict(times, len(test.x))), soft_wrap=True)
    console.print(assignments(graph, other, model, test.x, 3 * given.rounds, ALL_CORES))
    console.print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
