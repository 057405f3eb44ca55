"""What networks need and reach on a board, by the estimate: nothing here was synthesised.

    python benchmarks/hardware.py [--data mnist] [--frames 1000]

MNIST on pynq-z2 within 70 % of each resource, at 100 MHz: networks in formats that `bitwright tune` found, in plain
widths, and pruned ones (benchmarks/networks/README.md has the commands that made them), beside designs of others, whose
figures are quoted. Accuracies are measured on the 10,000 test images in the formats that are built; the C++ of every
design runs on --frames of them and is compared with the exact simulation in every bit. Then the LeNet paper's ladder as
far as the estimate models it, and networks with branches in plain FIXED 8.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitwright.backends.hls.board import Board, load_board
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.estimate import Estimate, estimate
from bitwright.backends.hls.package import write_package
from bitwright.backends.hls.plan import DoesNotFit, Plan, plan, shares
from bitwright.backends.hls.stages import WIDEST_BEAT, PoolStage, SumStage, ports_of, stages_of
from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import score
from bitwright.ir.files import load
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph
from bitwright.models.datasets import Dataset
from bitwright.models.datasets import load as load_data
from bitwright.passes import Context, run_passes
from bitwright.passes.accumulators import DeriveAccumulators
from bitwright.passes.formats import AnnotateFormats
from bitwright.retraining import in_formats
from bitwright.tuning import PREPARE

MODELS = Path(__file__).parents[1] / "models"
NETWORKS = Path(__file__).parent / "networks"
BOARD = "pynq-z2"
SHARE = 0.7
CLOCK = 100.0  # MHz
SAMPLES = 1000  # that choose the ranges of what has no format yet
WIDTHS = {"lenet5": ("FIXED 4",), "mlp_m": ("FIXED 3", "FIXED 4", "FIXED 5")}
UNSEARCHED = 16  # bits of tensors that no layer reads


@dataclass(frozen=True)
class Source:
    """Where a network comes from: what it is, its file, the formats it gets (one kind and width for all; None: it
    has its own), and its float network.
    """

    what: str
    file: Path
    formats: str | None
    floating: str


def sources() -> Iterator[Source]:
    """The networks for MNIST."""
    for name in ("lenet5", "mlp_m"):
        for width in WIDTHS[name]:
            yield Source(f"{name}, {width}", MODELS / f"{name}.onnx", width, name)
    for path in sorted(NETWORKS.glob("*.ir")):
        name, _, how = path.stem.partition("-")
        yield Source(f"{name}, {how.replace('-', ' ')}", path, None, name)


QUOTED = (
    # what, interval in cycles, MHz, accuracy, LUT, BRAM36, DSP
    ("LeNet paper, Table VII: baseline*", None, None, None, 42980, 140, 156),
    ("LeNet paper, + quantisation", None, None, None, 45453, 73, 184),
    ("LeNet paper, + pruning", None, None, None, 29549, 50.5, 159),
    ("hls4ml MNIST CNN (Gabriele-bot/PYNQ_IA, csynth)", 3923, 200, None, 58408, 57.5, 10),
    ("BNN-PYNQ LFC (Xilinx/BNN-PYNQ; 356,633 frames/s)", None, None, 0.984, 28360, 110, None),
)
PAPER_LADDER = (
    ("baseline*", 21.5),
    ("+ quantisation", 24.3),
    ("+ pruning", 30.7),
    ("+ pruning and interrupts", 63.7),
    ("computation at zero", 125.6),
)


@dataclass(frozen=True)
class Design:
    """A planned network and its accuracy on the test images; frames that the C++ got right in every bit."""

    source: Source
    graph: Graph
    made: Plan
    accuracy: float
    equal: int | None


def with_formats(source: Source, train: Dataset) -> Graph:
    """The network in the formats that are built."""
    graph = load(source.file)
    samples = train.x[:SAMPLES]
    context = Context(samples={graph.input_name(graph.inputs[0]): samples})
    if source.file.suffix == ".onnx":
        graph = run_passes(graph, PREPARE, context)
    if source.formats is not None:
        graph = in_formats(graph, source.formats, samples)
    wide = f"FIXED {UNSEARCHED}"
    rest = AnnotateFormats(weights=wide, activations=wide, keep=True)
    return run_passes(graph, [rest, DeriveAccumulators()], context)


def designed(source: Source, train: Dataset, test: Dataset, frames: int) -> Design:
    """The fastest design within the share of the board."""
    graph = with_formats(source, train)
    made = plan(stages_of(graph), load_board(BOARD), SHARE)
    accuracy = score(graph, test.x, test.y).value
    return Design(source, graph, made, accuracy, bit_equal(graph, made, test.x[:frames]) if frames else None)


def bit_equal(graph: Graph, made: Plan, x: np.ndarray) -> int:
    """How many frames the C++ gives as the exact simulation does."""
    entering, leaving = graph.inputs[0].tensor_type.number, graph.outputs[0].value.tensor_type.number
    assert isinstance(entering, Canonical)
    assert isinstance(leaving, Canonical)
    nothing = np.zeros((0, 1), np.int64)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "out"
        write_package(folder, graph, made, graph.name, "benchmark", (nothing, nothing), {}, CLOCK)
        accelerator = Accelerator(folder)
        found = accelerator.run(accelerator.input.to_stream(x, entering))
    wanted = Simulation(graph).run_exactly({graph.input_name(graph.inputs[0]): x})[graph.outputs[0].name]
    return int((found == leaving.integers(wanted)).all(1).sum())


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table on stdout."""
    print(f"| {' | '.join(heads)} |")
    print("| --- " * len(heads) + "|")
    for row in rows:
        print(f"| {' | '.join('' if cell is None else str(cell) for cell in row)} |", flush=True)
    print()


def resources(found: Estimate, board: Board) -> list[str]:
    """LUT as a range, then BRAM36 and DSP, with the share of the board that the upper end takes."""
    needs, total = shares(found.total, board), found.total
    share = {name: f"{need / max(have, 1):.0%}" for name, (need, have) in needs.items()}
    return [
        f"{total.lut[0]:,.0f} to {total.lut[1]:,.0f} ({share['LUT']})",
        f"{total.bram18 / 2:g} ({share['BRAM18']})",
        f"{total.dsp} ({share['DSP']})",
    ]


def mnist_rows(designs: Sequence[Design], floats: dict[str, float]) -> Iterator[Sequence[object]]:
    """Our designs, slowest first, then those of others."""
    for design in sorted(designs, key=lambda d: -d.made.estimate.interval):
        found = design.made.estimate
        first, _ = ports_of(design.made.stages)
        loss = 1 - design.accuracy / floats[design.source.floating]
        yield (
            design.source.what,
            f"{found.interval:,}",
            f"{found.frames_per_second(CLOCK):,.0f}",
            f"{design.accuracy:.4f}",
            f"{loss:.2%}",
            *resources(found, design.made.board),
            first.beat,
            f"%{found.bottleneck.name}",
            design.equal,
        )
    for what, interval, clock, accuracy, lut, bram, dsp in QUOTED:
        speed = None if interval is None or clock is None else f"{clock * 1e6 / interval:,.0f} at {clock} MHz"
        yield (what, interval, speed, accuracy, None, f"{lut:,}", bram, dsp, None, None, None)


def ladder(whole: Graph, formats: Graph, pruned: Graph) -> Iterator[Sequence[object]]:
    """The paper's rungs with our engines: cycles of a frame, one multiplier a layer before folding.

    Float engines are not modelled: the baseline is FIXED 16, layer after layer, each relu and pooling as a pass of its
    own. whole: FIXED 16; formats: the tuned one; pruned: tuned with channels. Up to the interrupts a frame starts when
    the one before has left, which takes the latency; with them it takes the interval.
    """
    board = load_board(BOARD)
    stages = stages_of(whole)
    layers = [stage for stage in stages if isinstance(stage, SumStage)]
    products = sum(stage.positions * stage.outputs * stage.inputs for stage in layers)
    relus = sum(stage.elements for stage in layers if stage.act != (None, None))
    pools = sum(stage.scan.channels * np.prod(stage.scan.size) for stage in stages if isinstance(stage, PoolStage))
    baseline = int(products + relus + pools)
    alone = estimate(stages, board)
    planned = [plan(stages_of(graph), board, SHARE).estimate for graph in (whole, formats, pruned)]
    beats = max(port.elements * port.container // WIDEST_BEAT for port in ports_of(stages_of(pruned)))
    rungs: list[tuple[str, int, Estimate | None]] = [
        ("FIXED 16, layer after layer, one multiplier each", baseline, None),
        ("+ fusion of relu and pooling", products, None),
        ("+ layers as a dataflow", alone.latency, alone),
        ("+ adder trees and partition (folding)", planned[0].latency, planned[0]),
        ("+ tuned formats", planned[1].latency, planned[1]),
        ("+ pruning", planned[2].latency, planned[2]),
        ("+ overlapped interrupts", planned[2].interval, planned[2]),
        (f"computation at zero: {WIDEST_BEAT}-bit beats in", beats, None),
    ]
    for what, cycles, found in rungs:
        needs = [None] * 3 if found is None else resources(found, board)
        yield (what, f"{cycles:,}", f"{baseline / cycles:.1f}x", *needs)


def branching(path: Path) -> Iterator[Sequence[object]]:
    """A network with branches in FIXED 8, on two boards; what limits it."""
    graph = load(path)
    shape = [dim for dim in (graph.inputs[0].tensor_type.shape or ())[1:] if isinstance(dim, int)]
    ranges = np.random.default_rng(0).uniform(0, 1, (16, *shape)).astype(np.float32)
    eight = AnnotateFormats(weights="FIXED 8", activations="FIXED 8")
    context = Context(samples={graph.input_name(graph.inputs[0]): ranges})
    graph = run_passes(run_passes(graph, PREPARE, context), [eight, DeriveAccumulators()], context)
    for name in (BOARD, "zcu104"):
        board = load_board(name)
        try:
            found = plan(stages_of(graph), board).estimate
        except DoesNotFit as error:
            yield (path.stem, name, "does not fit", " ".join(error.message.split()))
            continue
        full = max(shares(found.total, board).items(), key=lambda item: item[1][0] / max(item[1][1], 1))[0]
        speed = f"{found.frames_per_second(board.clock_mhz):,.0f} at {board.clock_mhz:g} MHz"
        stage = found.bottleneck
        folding = f", pe {stage.pe}, simd {stage.simd}" if isinstance(stage, SumStage) else ""
        yield (path.stem, name, f"{found.interval:,}", speed, *resources(found, board), f"%{stage.name}{folding}", full)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--frames", type=int, default=1000, help="compared bit by bit; 0: none")
    parser.add_argument("--branching", type=Path, nargs="*", default=sorted(MODELS.glob("resnet*.onnx")))
    given = parser.parse_args()
    train, test = load_data(given.data, "train"), load_data(given.data, "test")
    costs = ("LUT", "BRAM36", "DSP")

    print(f"MNIST on {BOARD}, {CLOCK:g} MHz, within {SHARE:.0%}; estimates, nothing was synthesised\n")
    designs = [designed(source, train, test, given.frames) for source in sources()]
    names = {design.source.floating for design in designs}
    floats = {name: score(run_passes(load(MODELS / f"{name}.onnx"), PREPARE), test.x, test.y).value for name in names}
    heads = ("design", "interval", "frames/s", "accuracy", "loss", *costs, "elements a beat", "slowest", "equal frames")
    table(heads, mnist_rows(designs, floats))

    print(f"The LeNet paper's ladder with engines of this generator on {BOARD}; estimates\n")
    by_name = {design.source.what: design.graph for design in designs}
    plain = Source("", MODELS / "lenet5.onnx", None, "lenet5")
    pruned = next(graph for what, graph in by_name.items() if what.startswith("lenet5, pruned"))
    steps = ladder(with_formats(plain, train), by_name["lenet5, tuned"], pruned)
    table(("rung", "cycles a frame", "speed-up", *costs), steps)
    table(("rung of the paper (Table VII)", "speed-up over the processor"), PAPER_LADDER)

    print("Branches, FIXED 8, within 80%; estimates\n")
    rows = [row for path in given.branching for row in branching(path)]
    table(("network", "board", "interval", "frames/s", *costs, "slowest", "fullest"), rows)


if __name__ == "__main__":
    main()
