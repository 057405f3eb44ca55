"""The trips from which cycles and FIFOs are computed are those that the C++ makes, counted process by process."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from networks import BLOCKS

from bitwright.backends.hls import package
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import (
    ADDERS,
    FloatSumStage,
    ForkStage,
    JoinStage,
    MeanStage,
    PointStage,
    PoolStage,
    PortStage,
    RealMeanStage,
    RealPointStage,
    ScaledSumStage,
    Stage,
    SumStage,
    stages_of,
)
from bitwright.backends.hls.trips import ProcessTrips, compare_trips, estimated_trips
from bitwright.ir.errors import CompileError
from bitwright.ir.files import load
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.passes import Context, run_passes
from bitwright.tuning import PREPARE

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

ROOT = Path(__file__).parents[2]
HEADERS = Path(package.__file__).parent / "include" / "bitwright"
CHAINS, DAGS = (0, 2, 3, 4, 5, 8, 12, 15), (5, 17, 26, 46)
# The loops that FLOAT and AFFINE have of their own.
KINDS = """graph @kinds {
  input %kinds.x : FLOAT<12>[N,2,4,4]
  weight %kinds.a.w = 000000f1 : FLOAT<9>[3,2,3,3]
  weight %kinds.b.w = 000000f2 : AFFINE<4,scale=0.1,zero=7.5>[5,3]
  %kinds.a = conv2d(%kinds.x, %kinds.a.w) {kernel=[3,3]} : FLOAT<12>[N,3,2,2]
  %kinds.m = globalavgpool(%kinds.a) : FLOAT<12>[N,3,1,1]
  %kinds.f = flatten(%kinds.m) : FLOAT<12>[N,3]
  %kinds.q = quantize(%kinds.f) : FIXED<8>[N,3]
  %kinds.b = dense(%kinds.q, %kinds.b.w) : FIXED<8>[N,5]
  output %kinds.b
}"""
NAMES = [*(f"net{seed}" for seed in CHAINS), *(f"dag{seed}" for seed in DAGS), *BLOCKS, "kinds"]


def functions(stage: Stage) -> tuple[str, ...]:
    """What a stage is made of, by layers.hpp and the top function."""
    if isinstance(stage, PortStage):
        return ("read_axis" if stage.is_input else "write_axis",)
    if isinstance(stage, SumStage):
        arithmetic = {FloatSumStage: "float_", ScaledSumStage: "scaled_"}.get(type(stage), "")
        arithmetic = "constant_" if stage.products == ADDERS else arithmetic
        return ("window2d" if stage.scan is not None else "regroup", arithmetic + "matvec")
    if isinstance(stage, JoinStage):
        sides = sum(width != stage.side_lanes(side) for side, width in enumerate(stage.entering))
        return (*["regroup"] * sides, "concat" if stage.op == "concat" else "join")
    if isinstance(stage, RealMeanStage):
        return ("real_mean",)
    if isinstance(stage, MeanStage):
        return ("globalavgpool" if stage.scan is None else "avgpool2d",)
    points = {PointStage: "rescale", RealPointStage: "real_rescale"}
    return ({PoolStage: "maxpool2d", **points, ForkStage: "duplicate"}[type(stage)],)


@pytest.fixture(scope="module")
def counted(networks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[ProcessTrips]]:
    """What each network counts in a frame, all of them compiled as one source."""
    designs: dict[str, tuple[Graph, list[Stage]]] = {}
    for draw, seeds in ((networks.drawn, CHAINS), (networks.branching, DAGS)):
        for seed in seeds:
            graph, stages, _ = draw(seed)
            designs[graph.name] = graph, stages
    for text in (*BLOCKS.values(), KINDS):
        graph = parse(text)
        designs[graph.name] = graph, list(plan(stages_of(graph), networks.BOARD).stages)
    root = tmp_path_factory.mktemp("trips")
    for name, (graph, stages) in designs.items():
        networks.write(root / name, graph, stages)
    made = networks.bundled([root / name for name in designs], root / "all.so", "-O0", "-DBITWRIGHT_TRIPS")
    found = {}
    for accelerator in made:
        graph, stages = designs[accelerator.name]
        frame = np.zeros((1, accelerator.input.elements), np.int64)
        found[accelerator.name] = compare_trips(accelerator, estimated_trips(stages), frame)
        names = [name for stage in stages for name in functions(stage)]
        assert [entry.process for entry in found[accelerator.name]] == names
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_takes_the_trips_that_the_processes_make(
    name: str, counted: dict[str, list[ProcessTrips]]
) -> None:
    assert {(c.stage, c.process): c.counted for c in counted[name]} == {
        (c.stage, c.process): c.estimated for c in counted[name]
    }


def test_every_loop_of_the_library_counts_and_is_counted(counted: dict[str, list[ProcessTrips]]) -> None:
    text = "".join(path.read_text() for path in HEADERS.glob("*.hpp"))
    named = re.findall(r"#pragma HLS PIPELINE II=1\n +BITWRIGHT_TRIP\(i, (\w+)\);", text)
    assert len(named) == text.count("#pragma HLS PIPELINE")
    assert set(named) == {entry.process for entries in counted.values() for entry in entries}


def test_lenet5(networks: ModuleType, tmp_path: Path) -> None:
    """In its plan's folding, on two frames: what a frame holds changes nothing."""
    graph = run_passes(load(ROOT / "models" / "lenet5.onnx"), PREPARE)
    formats = "annotate-formats{weights=FIXED 8,activations=FIXED 8},derive-accumulators"
    graph = run_passes(graph, formats, Context())
    stages = plan(stages_of(graph), networks.BOARD).stages
    networks.write(tmp_path / "out", graph, stages)
    accelerator = Accelerator(tmp_path / "out", count=True, flags=["-O0"])
    for frame in np.random.default_rng(3).integers(-127, 128, (2, 1, accelerator.input.elements)):
        found = compare_trips(accelerator, estimated_trips(stages), frame)
        assert [entry.counted for entry in found] == [entry.estimated for entry in found]
        assert [entry.process for entry in found] == [name for stage in stages for name in functions(stage)]
        assert sum(entry.process.endswith("matvec") for entry in found) == 5
    message = f"{len(found)} processes ran, but 1 loops were estimated\n.*compile again: they are of different designs"
    with pytest.raises(CompileError, match=message):
        compare_trips(accelerator, [("conv1", 5)], frame)
