"""What branching networks become: stages, the plan's own time, the interval, and the FIFOs that the branches need.

    python benchmarks/dataflow.py
    python benchmarks/dataflow.py resnet20.onnx zcu104 "FIXED 8" "FIXED 8"

Without arguments: the networks of the package onnx (shapes as published, weights made up) that have engines, in formats
narrow enough for the board's block RAM; with arguments a model, a board, and the formats of weights and activations.
Ranges are those of the weights, without data. Times are CPU seconds of this machine.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import onnx
from rich.console import Console
from rich.table import Table

from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.cost import memory
from bitwright.backends.hls.plan import DoesNotFit, Plan, plan
from bitwright.backends.hls.stages import ForkStage, JoinStage, stages_of, writers
from bitwright.ir.files import load
from bitwright.passes import run_passes
from bitwright.tuning import PREPARE

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NETWORKS = (
    (LIGHT / "light_squeezenet.onnx", "zcu102", "FIXED 6", "FIXED 6"),
    (LIGHT / "light_inception_v2.onnx", "alveo-u250", "FIXED 4", "FIXED 4"),
    (LIGHT / "light_resnet50.onnx", "alveo-u250", "FIXED 2", "FIXED 4"),
)
COLUMNS = ("network", "board", "weights, activations", "stages", "forks", "joins", "plan s", "cycles a frame")
FIFOS = ("deep FIFOs", "deepest", "at least", "BRAM18 of FIFOs", "BRAM18 of all")


def main() -> int:
    networks = [(Path(sys.argv[1]), *sys.argv[2:5])] if len(sys.argv) == 5 else NETWORKS
    table = Table(*COLUMNS, *FIFOS)
    for path, target, weights, activations in networks:
        graph = run_passes(load(path), PREPARE)
        formats = f"annotate-formats{{weights={weights},activations={activations}}},derive-accumulators"
        stages = stages_of(run_passes(graph, formats))
        begin = time.process_time()
        try:
            found = plan(stages, load_board(target))
        except DoesNotFit as error:
            print(error, file=sys.stderr)
            return 1
        seconds = time.process_time() - begin
        name = path.stem.removeprefix("light_")
        table.add_row(name, target, f"{weights}, {activations}", *_row(found, seconds))
    Console(width=200).print(table)
    return 0


def _row(found: Plan, seconds: float) -> list[str]:
    writer = writers(found.stages)
    deep, least, blocks = [2], [1], 0
    for stage in found.stages:
        for side, stream in enumerate(stage.reads):
            source = writer[stream]
            blocks += memory(stage.depth(side), source.out_lanes * source.format.width).bram18
            deep.append(stage.depth(side))
        least += stage.least if isinstance(stage, JoinStage) else ()
    kinds = [sum(isinstance(stage, kind) for stage in found.stages) for kind in (ForkStage, JoinStage)]
    count = sum(depth > 2 for depth in deep)
    numbers = [max(deep), max(least), blocks, found.estimate.total.bram18]
    return [
        *(f"{number}" for number in (len(found.stages), *kinds)),
        f"{seconds:.1f}",
        f"{found.estimate.interval:,}",
        f"{count}",
        *(f"{number:,}" for number in numbers),
    ]


if __name__ == "__main__":
    sys.exit(main())
