"""Of what products are made, and what that gives: a DSP each, packed and in LUTs, or adders of constants.

    python benchmarks/multipliers.py

Plans for 80 % of a board, by the estimate: nothing here was synthesised. The first columns are plans in which all
products are of one kind (`multipliers` of plan.toml), the last has what `bitwright compile` chooses. Ranges of
activations are those of MNIST's first 1,000 training images, and of weights alone for the networks on other pictures.
LUTs are at the upper end.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from bitwright.backends.hls.board import Board, load_board
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.plan import Plan, plan
from bitwright.backends.hls.stages import Stage, SumStage, stages_of
from bitwright.ir.errors import CompileError
from bitwright.ir.files import load
from bitwright.models.datasets import load as load_data
from bitwright.passes import Context, run_passes
from bitwright.passes.accumulators import DeriveAccumulators
from bitwright.passes.formats import AnnotateFormats
from bitwright.tuning import PREPARE

ROOT = Path(__file__).parents[1]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SAMPLES = 1000


@dataclass(frozen=True)
class Case:
    """A network, the width of its FIXED formats (those that it has none for, if tuned), and the boards it is for."""

    what: str
    file: Path
    width: int
    boards: tuple[str, ...]
    is_mnist: bool = True
    is_tuned: bool = False


CASES = (
    Case("LeNet-5", ROOT / "models" / "lenet5.onnx", 8, ("pynq-z2", "zcu104")),
    Case("LeNet-5", ROOT / "models" / "lenet5.onnx", 4, ("pynq-z2",)),
    Case("LeNet-5, tuned", ROOT / "benchmarks" / "networks" / "lenet5-tuned.ir", 8, ("pynq-z2",), is_tuned=True),
    Case("SqueezeNet", LIGHT / "light_squeezenet.onnx", 6, ("zcu102",), is_mnist=False),
    Case("ResNet-20", ROOT / "models" / "resnet20.onnx", 8, ("zcu104",), is_mnist=False),
)
HEADS = ("network", "board", "each product a DSP", "packed, as fast", "packed", "as compile chooses")


def plans(case: Case, target: str) -> Iterator[str]:
    """What each kind of product gives on a board."""
    board, graph = load_board(target), load(case.file)
    context = Context()
    if case.is_mnist:
        context = Context(samples={graph.input_name(graph.inputs[0]): load_data("mnist", "train", SAMPLES).x})
    kind = f"FIXED {case.width}"
    formats = AnnotateFormats(weights=kind, activations=kind, keep=case.is_tuned)
    graph = run_passes(run_passes(graph, PREPARE, context), [formats, DeriveAccumulators()], context)
    stages = stages_of(graph)
    sums = [stage.name for stage in stages if isinstance(stage, SumStage)]
    alone, packed = ({name: Given(multipliers=kind) for name in sums} for kind in ("dsp", "dsp-packed"))
    first = tried(stages, board, alone)
    yield said(first)
    yield said(None if first is None else tried(stages, board, packed, first.estimate.interval))
    yield said(tried(stages, board, packed))
    yield said(plan(stages, board))


def tried(stages: list[Stage], board: Board, given: dict[str, Given], interval: int | None = None) -> Plan | None:
    """A plan with what is given; None if there is none: BIN has no products that could take a DSP, say."""
    try:
        return plan(stages, board, given=given, interval=interval)
    except CompileError:
        return None


def said(made: Plan | None) -> str:
    if made is None:
        return "none"
    total = made.estimate.total
    return f"{made.estimate.interval:,} cycles, {total.dsp:,} DSP, {total.lut[1]:,.0f} LUT"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"| {' | '.join(HEADS)} |")
    print("|---" * len(HEADS) + "|")
    for case in CASES:
        for board in case.boards:
            what = case.what if case.is_tuned else f"{case.what}, FIXED {case.width}"
            print(f"| {' | '.join((what, board, *plans(case, board)))} |", flush=True)


if __name__ == "__main__":
    main()
