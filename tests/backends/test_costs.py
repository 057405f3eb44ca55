"""The estimate of cycles and resources: against the headers, stepped through, and by hand."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from by_hand import BIG

from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.cost import Cost, bram18, memory
from bitwright.backends.hls.cpp import Names
from bitwright.backends.hls.estimate import (
    CALL,
    cost,
    estimate,
    multipliers,
    processes,
    products_in_dsp,
    rom,
    rom_in_bram,
    rom_shape,
    stage_cycles,
)
from bitwright.backends.hls.loops import DEPTH
from bitwright.backends.hls.stages import (
    ForkStage,
    JoinStage,
    MeanStage,
    PointStage,
    PoolStage,
    PortStage,
    Stage,
    SumStage,
    stages_of,
)
from bitwright.ir.formats import Canonical
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse

# ---- trips, as the headers have them ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def printed(
    networks: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[list[Stage], list[list[int]]]]:
    """The numbers that g++ finds in the emitted shapes, a list a stage."""
    root = tmp_path_factory.mktemp("trips")
    made, lines, folders = [], ["#include <cstdio>"], []
    for drawn, seed in [*((networks.drawn, seed) for seed in range(20)), *((networks.branching, n) for n in range(12))]:
        graph, stages, _ = drawn(seed)
        folders.append(root / graph.name)
        networks.write(folders[-1], graph, stages)
        made.append(stages)
        lines.append(f'#include "{folders[-1]}/src/shapes.hpp"')
    lines += ["using namespace bitwright;", "int main() {"]
    for folder, stages in zip(folders, made, strict=True):
        names = Names()
        names.of(networks.top(folder))
        for stage in stages:
            names.of(stage.name)
        for stage in stages:
            for stream in stage.writes:
                names.of(stream)
        for stage in stages:
            struct = f"{networks.top(folder)}_net::{names.struct(stage.name)}"
            asked = ", ".join(re.sub(r"\bL\b", struct, item) for item in _asked(stage))
            lines.append(f'std::printf("{"%d " * len(_asked(stage))}\\n", {asked});')
    lines.append("}")
    program = root / "trips"
    networks.compile_cpp(lines, folders, program, "-O0")
    answers = iter(subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines())
    return [(stages, [list(map(int, next(answers).split())) for _ in stages]) for stages in made]


def _asked(stage: Stage) -> list[str]:
    if isinstance(stage, PortStage):
        return ["Port<L>::trips"]
    if isinstance(stage, ForkStage | PointStage):
        return ["TokensOf<L>::trips"]
    if isinstance(stage, MeanStage):
        return ["Scan<L>::steps" if stage.scan else "GlobalMean<L>::trips"]
    if isinstance(stage, JoinStage):
        regrouped = [
            f"Regroup<L::{side}, {stage.entering[index]}, {stage.side_lanes(index)}, "
            f"{stage.side_positions(index) * stage.channels[index]}>::trips"
            for index, side in enumerate(("Left", "Right"))
            if stage.entering[index] != stage.side_lanes(index)
        ]
        return [*regrouped, "ConcatOf<L>::trips" if stage.op == "concat" else "JoinOf<L>::trips"]
    if isinstance(stage, PoolStage):
        return ["Pool<L>::trips"]
    assert isinstance(stage, SumStage)
    first = (
        "Window<L>::trips"
        if stage.scan
        else "Regroup<L::In, L::lanes, Fold<L>::width, L::positions * L::conv_groups * L::inputs>::trips"
    )
    return [first, "Fold<L>::trips", "Fold<L>::folds", "L::pe * L::simd * L::Weight::bits"]


def test_the_estimate_has_the_trips_of_the_headers(printed: list[tuple[list[Stage], list[list[int]]]]) -> None:
    kinds = set()
    for stages, numbers in printed:
        for stage, found in zip(stages, numbers, strict=True):
            trips = [process.trips for process in processes(stage)]
            assert found[: len(trips)] == trips, stage.line
            if isinstance(stage, SumStage):
                assert rom_shape(stage) == (found[3], found[2])
            kinds.add(_asked(stage)[-1] if isinstance(stage, JoinStage) else _asked(stage)[0])
    assert len(kinds) == 9


# ---- cycles -------------------------------------------------------------------------------------------------------


def test_the_interval_is_the_slowest_stage_and_one(networks: ModuleType) -> None:
    for seed in range(40):
        _, stages, _ = networks.drawn(seed)
        found = estimate(stages, networks.BOARD)
        assert found.interval == 1 + max(map(stage_cycles, stages))
        assert found.interval == 1 + stage_cycles(found.bottleneck)
        assert [cycles for _, _, cycles in found.stages] == list(map(stage_cycles, stages))
        assert found.interval > max(process.trips for stage in stages for process in processes(stage))
        assert found.latency >= max(process.cycles for stage in stages for process in processes(stage))
        assert found.frames_per_second(100.0) == pytest.approx(1e8 / found.interval)


def test_a_loop_takes_its_trips_and_the_depth_of_its_pipeline() -> None:
    """As real reports have it: II (trip - 1) + IL - 1 cycles, 2 for the function around it."""
    (port, *_) = stages_of(parse(BIG))
    (process,) = processes(port)
    assert process.trips == 4 * 12 * 12
    assert process.cycles == process.trips - 1 + DEPTH - 1 + CALL
    assert 2 <= DEPTH <= 5
    assert CALL == 2


def test_a_window_and_a_product_that_wait_for_each_other_take_no_longer_than_estimated(networks: ModuleType) -> None:
    """Stepped through cycle by cycle with the FIFO of two words that layers.hpp has between them."""
    found = []
    for seed in range(60):
        _, stages, _ = networks.drawn(seed)
        for stage in stages:
            if isinstance(stage, SumStage) and stage.scan is not None:
                took, longest = networks.paired_interval(stage), max(process.trips for process in processes(stage))
                assert longest <= took <= stage_cycles(stage), stage.line
                found.append((took > longest, (stage_cycles(stage) - took) / took))
    assert len(found) > 30
    assert any(waited for waited, _ in found)
    assert float(np.median([spread for _, spread in found])) < 0.25


# ---- resources ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "width", "blocks"),
    [
        (16384, 1, 1), (8192, 2, 1), (4096, 4, 1), (2048, 9, 1), (1024, 18, 1), (512, 36, 1),
        (512, 72, 2), (1024, 36, 2), (513, 36, 2), (16385, 1, 2), (2048, 18, 2), (1, 37, 2), (1, 1, 1),
        (2049, 9, 2),    # two of 2048 x 9; three of 4096 x 4 would do as well
        (5000, 8, 3),    # three of 2048 x 9
        (30000, 10, 20), # 10 bits of 16384 x 1, twice
        (600, 100, 6),   # six of 1024 x 18
    ],
)  # fmt: skip
def test_block_rams_by_hand(depth: int, width: int, blocks: int) -> None:
    """The aspect ratios of RAMB18: 16Kx1, 8Kx2, 4Kx4, 2Kx9, 1Kx18, 512x36."""
    assert bram18(depth, width) == blocks


def test_a_memory_of_more_than_1024_bits_is_block_ram() -> None:
    assert memory(32, 32).bram18 == 0
    assert memory(2, 512).bram18 == 0
    assert memory(2, 513).bram18 == bram18(2, 513) == 15
    assert memory(1025, 1).bram18 == 1
    for depth, width in ((1, 1), (2, 8), (64, 16), (4096, 9)):
        low, high = memory(depth, width).lut
        assert 0 <= low <= high


def layer(weights: str, activations: str, outputs: int = 8, inputs: int = 16, pe: int = 4, simd: int = 8) -> SumStage:
    text = f"""graph @one {{
      input %x : {parse_format(activations)}[N,{inputs}]
      weight %w = 000000b3 : {parse_format(weights)}[{outputs},{inputs}]
      %y = dense(%x, %w) : FIXED<8>[N,{outputs}]
      output %y
    }}"""
    stage = stages_of(parse(text))[1]
    assert isinstance(stage, SumStage)
    return replace(stage, pe=pe, simd=simd)


@pytest.mark.parametrize(
    ("weights", "activations", "slices"),
    [
        ("FIXED 5", "FIXED 16", 0),
        ("FIXED 16", "FIXED 5", 0),
        ("FIXED 6", "FIXED 16", 1),
        ("FIXED 16", "FIXED 6", 1),
        ("FIXED 10", "FIXED 5", 0),
        ("FIXED 8", "FIXED 8", 1),
        ("FIXED 18", "FIXED 25", 1),
        ("FIXED 25", "FIXED 18", 1),
        ("FIXED 19", "FIXED 25", 2),
        ("FIXED 18", "FIXED 26", 2),
        ("FIXED 19", "FIXED 26", 4),
        ("BIN", "FIXED 16", 0),
        ("EXP 5", "FIXED 16", 0),
    ],
)
def test_products_in_dsp_slices(weights: str, activations: str, slices: int) -> None:
    """Seen in real reports: 16 x 5 in LUTs, 16 x 6 in a DSP, 10 x 5 in LUTs; 25 x 18 is one slice's."""
    stage = layer(weights, activations)
    assert products_in_dsp(stage) == slices
    assert cost(stage, load_board("pynq-z2")).dsp == slices * stage.pe * stage.simd


@pytest.mark.parametrize(
    ("weights", "activations", "products", "slices", "luts"),
    [
        ("FIXED 8", "FIXED 8", "lut", 0, (128, 197)),  # 2 w a to 3 w a + 5
        ("FIXED 8", "FIXED 8", "dsp", 1, (14, 32)),
        ("FIXED 4", "FIXED 4", "", 0, (32, 53)),
        ("FIXED 4", "FIXED 4", "dsp", 1, (14, 32)),
        ("FIXED 4", "FIXED 4", "lut", 0, (32, 53)),
        ("FIXED 25", "FIXED 18", "lut", 0, (900, 1355)),
        ("EXP 5", "FIXED 16", "dsp", 0, (80, 139)),  # a shift, whatever is said of multipliers
    ],
)
def test_products_where_the_plan_has_them(
    weights: str, activations: str, products: str, slices: int, luts: tuple[float, float]
) -> None:
    stage = replace(layer(weights, activations), products=products)
    assert products_in_dsp(stage) == slices
    one, more = (multipliers(replace(stage, pe=1, simd=simd)) for simd in (1, 2))
    assert more.dsp - one.dsp == slices
    assert tuple(b - a for a, b in zip(one.lut, more.lut, strict=True)) == luts


def test_luts_of_a_multiplier_span_what_was_counted() -> None:
    """What yosys counted lies in the range, give or take a fifth at its upper end."""
    counted = {
        ("BIN", 1): 6.7, ("BIN", 4): 17.6, ("BIN", 8): 29.3,
        ("FIXED 2", 2): 13.9, ("FIXED 2", 8): 36.5, ("EXP 2", 4): 22.2,
        ("FIXED 3", 4): 41.8, ("FIXED 4", 4): 57.8, ("FIXED 4", 8): 99.7, ("FIXED 6", 4): 91.7,
        ("EXP 3", 4): 46.1, ("EXP 3", 8): 73.3, ("EXP 4", 8): 88.1,
    }  # fmt: skip
    for (weights, bits), luts in counted.items():
        one, two = (layer(weights, f"UFIXED {bits}", inputs=16, simd=simd, pe=4) for simd in (8, 16))
        low = (multipliers(two).lut[0] - multipliers(one).lut[0]) / 32
        high = (multipliers(two).lut[1] - multipliers(one).lut[1]) / 32
        assert low <= luts * 1.05, (weights, bits)
        assert high >= luts * 0.8, (weights, bits)


def test_the_memory_of_weights() -> None:
    """Every weight takes the bits of its format; a small or shallow one stays in LUTs."""
    board = load_board("pynq-z2")
    deep = layer("FIXED 8", "FIXED 8", outputs=64, inputs=512, pe=1, simd=4)
    assert rom_shape(deep) == (32, 8192)
    assert rom_in_bram(deep, board)
    assert rom(deep, board).bram18 >= bram18(8192, 32) == 16
    assert rom_shape(replace(deep, weight_format=Canonical(1, 2, 0))) == (12, 8192)
    assert rom_shape(replace(deep, weight_format=Canonical(1, 0, 0))) == (4, 8192)
    shallow = replace(deep, pe=64, simd=512)
    assert not rom_in_bram(shallow, board)
    tiny = layer("FIXED 8", "FIXED 8", outputs=8, inputs=16, pe=1, simd=1)
    assert not rom_in_bram(tiny, board)
    assert not rom_in_bram(deep, replace(board, bram36=0))


def test_costs_are_ranges_and_add_up(networks: ModuleType) -> None:
    for seed in range(40):
        _, stages, _ = networks.drawn(seed)
        found = estimate(stages, networks.BOARD)
        for _, part, _ in found.stages:
            assert 0 <= part.lut[0] <= part.lut[1]
            assert 0 <= part.ff[0] <= part.ff[1]
            assert min(part.bram18, part.dsp) >= 0
        total = found.total
        assert total.lut[1] == pytest.approx(sum(part.lut[1] for _, part, _ in found.stages))
        assert total.bram18 == sum(part.bram18 for _, part, _ in found.stages)
        assert total.dsp == sum(part.dsp for _, part, _ in found.stages)
    assert Cost() + Cost((1, 2), (3, 4), 5, 6) == Cost((1, 2), (3, 4), 5, 6)


def test_line_buffers_are_sized_by_hand(networks: ModuleType) -> None:
    """Over 1,024 bits in block RAM: 2 rows of 30 pixels of 16 channels of 8 bits in words of one pixel."""
    text = """graph @lines {
      input %x : FIXED<8>[N,16,28,28]
      weight %w = 000000b4 : FIXED<4>[8,16,3,3]
      %y = conv2d(%x, %w) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<8>[N,8,28,28]
      output %y
    }"""
    graph: Graph = parse(text)
    board = load_board("pynq-z2")
    conv = stages_of(graph)[1]
    assert isinstance(conv, SumStage)
    narrow = cost(replace(conv, lanes=1, simd=9), board)
    wide = cost(replace(conv, lanes=16, simd=9), board)
    flat = cost(replace(conv, scan=None, simd=9), board)
    assert narrow.bram18 - flat.bram18 == bram18(30 * 16, 2 * 8) == 1
    assert wide.bram18 - flat.bram18 == bram18(30, 2 * 8 * 16) == 8
