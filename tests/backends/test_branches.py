"""Networks with branches: every bit of every layer, FIFOs at their depths, and one word less where streams meet.

All run with bounded streams, where a stream that is too shallow stops the design as it would on the board. Depths are
set while it runs, so one compilation serves every depth.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from networks import BLOCKS

from bitwright.backends.hls.compare import compare_layers, input_format
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.estimate import estimate, processes
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.loops import Loop, loops_of
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import (
    ForkStage,
    JoinStage,
    MeanStage,
    PointStage,
    Stage,
    SumStage,
    ports_of,
    stages_of,
)
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

SEEDS = (5, 17, 26, 46)
GIVEN = {"inception": {"inception.c": Given(lanes=2)}}  # its sides one after the other, so that one waits


class Case:
    """A network, its folded stages, inputs, and what must come out."""

    def __init__(self, graph: Graph, stages: Sequence[Stage], x: Array) -> None:
        self.graph, self.stages, self.x = graph, list(stages), x
        (self.y,) = evaluate(graph, {"": x}).values()
        self.golden = tuple(
            (integers := port.format.integers(values))
            .transpose(0, *(axis + 1 for axis in port.order))
            .reshape(len(integers), -1)
            for port, values in zip(ports_of(self.stages), (x, self.y), strict=True)
        )


@pytest.fixture(scope="module")
def cases(networks: ModuleType) -> dict[str, Case]:
    found = {f"dag{seed}": Case(*networks.branching(seed)) for seed in SEEDS}
    rng = np.random.default_rng(2)
    for name, text in BLOCKS.items():
        graph = parse(text)
        shape = [dim for dim in (graph.inputs[0].tensor_type.shape or ())[1:] if isinstance(dim, int)]
        number = input_format(graph)
        x = rng.uniform(float(number.min), float(number.max), (6, *shape))
        found[name] = Case(graph, plan(stages_of(graph), networks.BOARD, given=GIVEN.get(name, {})).stages, x)
    return found


@pytest.fixture(scope="module")
def folders(networks: ModuleType, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("branches")
    for name, case in cases.items():
        networks.write(root / name, case.graph, case.stages, case.golden)
    return {name: root / name for name in cases}


@pytest.fixture(scope="module")
def accelerators(networks: ModuleType, folders: dict[str, Path]) -> dict[str, Accelerator]:
    """All of them with bounded streams, as one source."""
    library = next(iter(folders.values())).parent / "bounded.so"
    made = networks.bundled(list(folders.values()), library, "-O0", "-DBITWRIGHT_BOUNDED")
    return {accelerator.name: accelerator for accelerator in made}


NAMES = [*(f"dag{seed}" for seed in SEEDS), *BLOCKS]


@needs_compiler
@pytest.mark.parametrize("name", NAMES)
def test_every_bit_at_the_emitted_depths(
    name: str, cases: dict[str, Case], accelerators: dict[str, Accelerator]
) -> None:
    case, accelerator = cases[name], accelerators[name]
    np.testing.assert_array_equal(accelerator.run(case.golden[0]), case.golden[1])
    rows = compare_layers(accelerator, case.graph, case.x)
    assert {row.name: row.first for row in rows if row.differ} == {}
    computed = {stage.name for stage in case.stages if not isinstance(stage, ForkStage) and stage.writes}
    assert {row.name for row in rows} == {name for name in computed if not re.search(r"\.of\d+$", name)}


def joins(stages: Sequence[Stage]) -> Iterator[tuple[JoinStage, int]]:
    for stage in stages:
        if isinstance(stage, JoinStage):
            yield from ((stage, side) for side in (0, 1))


@needs_compiler
@pytest.mark.parametrize("name", NAMES)
def test_one_word_less_where_streams_meet_is_a_deadlock(
    name: str, cases: dict[str, Case], accelerators: dict[str, Accelerator]
) -> None:
    """The analysis is exact: at the least depth every frame comes out, one below it nothing moves any more."""
    case, accelerator = cases[name], accelerators[name]
    frames, results = case.golden[0][:2], case.golden[1][:2]
    if name in ("residual", "inception", "gated"):
        assert any(stage.least[side] > 2 for stage, side in joins(case.stages))
    try:
        for stage, side in joins(case.stages):
            stream, least = stage.reads[side], stage.least[side]
            assert stage.depth(side) >= least
            accelerator.bound({stream: least})
            np.testing.assert_array_equal(accelerator.run(frames), results, err_msg=f"{stream}: {least}")
            if least > 1:
                accelerator.bound({stream: least - 1})
                with pytest.raises(CompileError, match="frame 0: deadlock: full: ") as caught:
                    accelerator.run(frames)
                assert f"{stream} (depth {least - 1})" in caught.value.message
    finally:
        accelerator.bound({})


@needs_compiler
def test_a_deadlock_names_the_cycle(accelerators: dict[str, Accelerator], cases: dict[str, Case]) -> None:
    """The shortcut is full while the sum waits for what must come through the convolutions beside it."""
    case, accelerator = cases["residual"], accelerators["residual"]
    join = next(stage for stage in case.stages if isinstance(stage, JoinStage))
    shortcut = "residual.c0.to.residual.s"
    assert join.reads == ("residual.c2", shortcut)
    accelerator.bound({shortcut: 3})
    with pytest.raises(CompileError) as caught:
        accelerator.run(case.golden[0])
    accelerator.bound({})
    found = re.fullmatch(r"C simulation of residual: frame 0: deadlock: full: (.*); empty: (.*)", caught.value.message)
    assert found is not None
    full, empty = (set(part.split(", ")) for part in found.groups())
    assert f"{shortcut} (depth 3)" in full
    assert {"residual.c2", "residual.c1", "windows", "residual.c0.to.residual.c1"} <= empty | {"residual.c2"}
    assert not any(stream.startswith("residual.x") for stream in full), "only the streams of the cycle"


def test_the_networks_have_everything(cases: dict[str, Case]) -> None:
    found: set[str] = set()
    for case in cases.values():
        for stage in case.stages:
            found |= set(_features(stage))
    assert found == {
        *("fork", "add", "mul", "concat", "concat of three", "broadcast add", "broadcast mul", "one value twice"),
        *("regrouped left", "regrouped right", "aligned left", "aligned right", "deep", "shallow"),
        *("relu", "clip", "quantize", "grouped", "depthwise", "depthwise in parallel", "depthwise in chunks"),
        *("mean", "mean of the image", "mean with padding that counts", "mean with padding that does not"),
        *("mean to the left", "mean to the right", "several lanes", "one lane", "FIXED", "BIN", "EXP"),
    }


def _features(stage: Stage) -> list[str]:
    yes: dict[str, bool] = {}
    if isinstance(stage, ForkStage):
        yes = {"fork": True}
    elif isinstance(stage, JoinStage):
        name = ("broadcast " if stage.broadcast else "") + stage.op
        yes = {
            name: True,
            "concat of three": stage.name.endswith(".of2"),
            "one value twice": stage.op == "add" and stage.reads[0].split(".to.")[0] == stage.reads[1].split(".to.")[0],
            "regrouped left": stage.entering[0] != stage.side_lanes(0),
            "regrouped right": stage.entering[1] != stage.side_lanes(1),
            "aligned left": stage.ups[0] > 0,
            "aligned right": stage.ups[1] > 0,
            "deep": max(stage.least) > 10,
            "shallow": max(stage.least) <= 2,
            "several lanes": stage.lanes > 1,
            "one lane": stage.lanes == 1,
        }
    elif isinstance(stage, PointStage):
        yes = {re.split(r" = |\(", stage.line)[1]: True}
    elif isinstance(stage, MeanStage):
        padded = stage.scan is not None and any(stage.scan.pads)
        counts = stage.counted[:2] == (0, 0)
        yes = {
            "mean": stage.scan is not None,
            "mean of the image": stage.scan is None,
            "mean with padding that counts": padded and counts,
            "mean with padding that does not": padded and not counts,
            "mean to the left": stage.shift < 0,
            "mean to the right": stage.shift > 0,
        }
    elif isinstance(stage, SumStage):
        yes = {
            stage.weight_format.kind: True,
            "grouped": stage.groups > 1 and not stage.depthwise,
            "depthwise": stage.depthwise,
            "depthwise in parallel": stage.depthwise and stage.pe > 1,
            "depthwise in chunks": stage.depthwise and 1 < stage.simd < stage.inputs,
        }
    return [name for name, holds in yes.items() if holds]


# ---- other builds of the same sources -----------------------------------------------------------------------------


@needs_compiler
def test_sanitizers_find_nothing(networks: ModuleType, folders: dict[str, Path], tmp_path: Path) -> None:
    """Read and written out of bounds, shifted and overflowed: nothing, in every engine."""
    program = tmp_path / "sanitized"
    flags = ["-O0", "-g0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"]
    networks.testbenches([folders[name] for name in BLOCKS], program, *flags)
    vectors = [str(folders[name] / "tb" / f"golden_{side}.txt") for name in BLOCKS for side in ("input", "output")]
    done = subprocess.run([str(program), *vectors], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stdout.count("every output bit as it should be") == len(BLOCKS)


@needs_compiler
def test_ap_types_give_the_same_bits(
    networks: ModuleType, cases: dict[str, Case], folders: dict[str, Path], ap_flags: list[str], tmp_path: Path
) -> None:
    names = ("gated", "ends")
    made = networks.bundled([folders[name] for name in names], tmp_path / "ap.so", "-O0", *ap_flags)
    for name, accelerator in zip(names, made, strict=True):
        np.testing.assert_array_equal(accelerator.run(cases[name].golden[0]), cases[name].golden[1])


# ---- time ---------------------------------------------------------------------------------------------------------


class Process:
    """A pipelined loop, cycle by cycle: it stands still while a stream that it reads is empty, or one is full.

    A token is written `depth` cycles after its trip began. The next frame begins when the last token has left.
    """

    def __init__(self, loop: Loop, depth: int, fifos: Mapping[str, tuple[deque[int], int]]) -> None:
        self.depth = depth
        self.ins = [fifos[stream] for stream in loop.reads]
        self.outs = [fifos[stream] for stream in loop.writes]
        self.trips = loop.trips
        self.reads: list[list[int]] = [[] for _ in range(loop.trips)]
        self.writes = [False] * loop.trips
        for side, tokens in enumerate(loop.tokens_in):
            for trip in loop.read_trip(side, np.arange(tokens)).tolist():
                self.reads[trip].append(side)
        for trip in loop.write_trip(np.arange(loop.tokens_out)).tolist() if loop.writes else ():
            self.writes[trip] = True
        self.trip = self.clock = self.last = 0
        self.pipeline: deque[int] = deque()
        self.ends: list[int] = []

    def step(self, now: int) -> bool:
        """Whether anything moved."""
        due = bool(self.pipeline) and self.clock >= self.pipeline[0] + self.depth
        running = self.trip < self.trips
        if due and any(len(tokens) >= depth for tokens, depth in self.outs):
            return False
        if running and not all(self.ins[side][0] for side in self.reads[self.trip]):
            return False
        if due:
            self.pipeline.popleft()
            for tokens, _ in self.outs:
                tokens.append(now)
        if running:
            for side in self.reads[self.trip]:
                self.ins[side][0].popleft()
            if self.writes[self.trip]:
                self.pipeline.append(self.clock)
            self.trip, self.last = self.trip + 1, self.clock
        elif not self.pipeline and self.clock >= self.last + self.depth:
            self.trip = 0
            self.ends.append(now)
        self.clock += 1
        return True


def interval_of(stages: Sequence[Stage], depths: Mapping[str, int], frames: int = 5) -> int | None:
    """Cycles from frame to frame at these depths, or None if nothing moves any more."""
    loops = [
        (loop, process.depth)
        for stage in stages
        for loop, process in zip(loops_of(stage), processes(stage), strict=True)
    ]
    fifos = {stream: (deque[int](), depths.get(stream, 2)) for loop, _ in loops for stream in loop.writes}
    running = [Process(loop, depth, fifos) for loop, depth in loops]
    now = still = 0
    while len(running[-1].ends) < frames:
        moved = [process.step(now) for process in reversed(running)]
        still = 0 if any(moved) else still + 1
        if still > max(process.depth for process in running):
            return None
        now += 1
    return running[-1].ends[-1] - running[-1].ends[-2]


def emitted(stages: Sequence[Stage]) -> dict[str, int]:
    """The depth of every FIFO between stages."""
    return {stream: stage.depth(side) for stage in stages for side, stream in enumerate(stage.reads)}


def unbounded(stages: Sequence[Stage]) -> dict[str, int]:
    return dict.fromkeys(emitted(stages), 10**9)


def test_the_depths_keep_the_interval(networks: ModuleType, cases: dict[str, Case]) -> None:
    """Stepped through cycle by cycle, with pipelines that stand still: as fast as with FIFOs of any depth.

    The least depths, at which an untimed run goes through, stop such pipelines in most of these networks.
    """
    stopped = 0
    for name in (*BLOCKS, "dag5"):
        stages = cases[name].stages
        found = interval_of(stages, emitted(stages))
        assert found is not None
        assert found == interval_of(stages, unbounded(stages)), name
        least = emitted(stages) | {stage.reads[side]: stage.least[side] for stage, side in joins(stages)}
        stopped += interval_of(stages, least) is None
        claimed = estimate(stages, networks.BOARD).interval
        assert found <= 1.35 * claimed, name
    assert stopped >= 3


@pytest.mark.parametrize("name", ["residual", "inception", "gated"])
def test_the_depths_keep_the_interval_of_any_folding(name: str, networks: ModuleType) -> None:
    """Also where regroupings and products wait for each other, and where rows of weights take turns."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        stages = networks.randomly_folded(stages_of(parse(BLOCKS[name])), rng)
        found = interval_of(stages, emitted(stages), 4)
        assert found is not None
        assert found == interval_of(stages, unbounded(stages), 4)


FLOATS = """graph @floats {
  input %x : FLOAT<12>[N,4,6,6]
  weight %a.w = 000000b1 : FLOAT<10>[4,4,1,1]
  weight %b.w = 000000b2 : FLOAT<10>[4,4,1,1]
  %a = conv2d(%x, %a.w) {act=relu, kernel=[1,1]} : FLOAT<12>[N,4,6,6]
  %b = conv2d(%a, %b.w) {kernel=[1,1]} : FLOAT<12>[N,4,6,6]
  %s = add(%b, %x) : FLOAT<12>[N,4,6,6]
  %m = mul(%s, %a) : FLOAT<12>[N,4,6,6]
  output %m
}"""


def test_joins_of_floats_have_room_for_deep_pipelines(networks: ModuleType) -> None:
    """Pipelines of float32 are 20 cycles deep and more: with the FIFOs of the same network in FIXED they stop."""
    text = re.sub(r"FLOAT<(\d+)>", r"FIXED<\1>", FLOATS)

    def designs(source: str) -> Iterator[list[Stage]]:
        stages = stages_of(parse(source))
        for pe, simd in ((4, 4), (1, 4), (2, 2)):
            yield networks.folded(stages, lambda stage, pe=pe, simd=simd: (pe, simd), lambda stage: 4)

    slower = 0
    for floats, fixed in zip(designs(FLOATS), designs(text), strict=True):
        found = interval_of(floats, emitted(floats))
        assert found is not None
        assert found == interval_of(floats, unbounded(floats))
        assert found <= estimate(floats, networks.BOARD).interval
        slower += interval_of(floats, emitted(floats) | emitted(fixed)) != found
    assert slower >= 2
