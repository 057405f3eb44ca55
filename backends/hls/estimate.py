"""What a stage costs and how long it takes, before any synthesis. Figures of the accelerator alone, without DMA and PS.

Cycles. Every process is one pipelined loop of interval 1: trips - 1 + DEPTH - 1 cycles, 2 for the call around it; a
dataflow region takes a new frame every (slowest process + 1) cycles. The trip counts are those of the C++ headers.
    window     padded places x groups of channels + positions x (chunks - 1)
    product    positions x (outputs / pe) x (inputs / simd)
    pooling    padded places x groups of channels            port  elements, one a beat
    A convolution's window and product share a FIFO of 2 words, so the product waits at the ends of rows and frames:
    between two windows pass max(folds, steps of the walk to the next + chunks - 1) cycles, summed over a frame.
Latency. A process starts when its first token comes, ends no earlier than the one before it and its own last tokens.
BRAM. ROMs, line buffers and FIFOs of more than 1,024 bits, by the aspect ratios of RAMB18; a shallow ROM goes to LUTs
    where that is the smaller share of the board.
DSP. A product of FIXED numbers of at least 6 bits on both sides takes one DSP (16 x 5 was seen in LUTs, 16 x 6 in a
    DSP), and one more for each 18 x 25 bits beyond; BIN, EXP and narrower ones take none.
LUT. A range, per multiplier with its share of the adder tree: 14 to 32 with a DSP; without, 2 w a to 3 w a + 5 for
    FIXED, by kind for BIN and EXP (counted by yosys on small arrays). Real reports spread as widely; so do placers.
FF.  Operands, sums and FIFO words once (low) or products too (high).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitwright.backends.hls.board import Board
from bitwright.backends.hls.stages import PoolStage, PortStage, Scan, Stage, SumStage

DEPTH = 5  # cycles from an iteration's read to its write; 2 to 5 in reports of fixed-point stages
CALL = 2
BRAM_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
REGISTERS_BELOW = 1024  # bits of a memory that stays in LUTs
DSP_LEAST_BITS = 6
DSP_PORTS = (18, 25)


@dataclass(frozen=True)
class Cost:
    """Resources: LUT and FF as a range, blocks of 18 Kbit, DSP slices."""

    lut: tuple[float, float] = (0.0, 0.0)
    ff: tuple[float, float] = (0.0, 0.0)
    bram18: int = 0
    dsp: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            (self.lut[0] + other.lut[0], self.lut[1] + other.lut[1]),
            (self.ff[0] + other.ff[0], self.ff[1] + other.ff[1]),
            self.bram18 + other.bram18,
            self.dsp + other.dsp,
        )


@dataclass(frozen=True)
class Process:
    """One loop: its trips, the trip that gives its first token, and those it needs after its last input."""

    trips: int
    first: int
    tail: int

    @property
    def cycles(self) -> int:
        return self.trips - 1 + DEPTH - 1 + CALL


@dataclass(frozen=True)
class Estimate:
    """A design: its cost stage by stage, the interval between frames and the latency of one, in cycles."""

    stages: tuple[tuple[Stage, Cost, int], ...]
    interval: int
    latency: int

    @property
    def total(self) -> Cost:
        return sum((cost for _, cost, _ in self.stages), Cost())

    @property
    def bottleneck(self) -> Stage:
        """The stage whose cycles are the interval."""
        return max(self.stages, key=lambda entry: entry[2])[0]

    def frames_per_second(self, clock_mhz: float) -> float:
        return clock_mhz * 1e6 / self.interval


def estimate(stages: Sequence[Stage], board: Board) -> Estimate:
    """Cost and time of folded stages on a board."""
    entries = []
    start = finish = 0
    slowest = 0
    for stage in stages:
        steps = processes(stage)
        for process in steps:
            finish = max(start + process.cycles, finish + process.tail + DEPTH)
            start += process.first + DEPTH
        busiest = stage_cycles(stage)
        slowest = max(slowest, busiest)
        entries.append((stage, cost(stage, board), busiest))
    return Estimate(tuple(entries), slowest + 1, finish)


def stage_cycles(stage: Stage) -> int:
    """Cycles of a stage from frame to frame, when others never make it wait."""
    own = max(process.cycles for process in processes(stage))
    if not isinstance(stage, SumStage) or stage.scan is None:
        return own
    return max(own, _coupled(stage, stage.scan) + DEPTH)


def _coupled(stage: SumStage, scan: Scan) -> int:
    """Cycles of a window and a product that wait for each other: the walk's steps between windows, or the folds."""
    chunks = stage.inputs // stage.simd
    folds = stage.outputs // stage.pe * chunks
    top, left, bottom, right = scan.pads
    group = scan.channels // stage.lanes
    row = (left + scan.size[1] + right) * group
    right_step, back = scan.strides[1] * group, (scan.out[1] - 1) * scan.strides[1] * group
    down = row * scan.strides[0] - back
    around = (top + scan.size[0] + bottom) * row - (scan.out[0] - 1) * scan.strides[0] * row - back
    within = scan.out[0] * (scan.out[1] - 1) * max(folds, right_step + chunks - 1)
    return within + (scan.out[0] - 1) * max(folds, down + chunks - 1) + max(folds, around + chunks - 1)


def processes(stage: Stage) -> list[Process]:
    """The loops of a stage, in the order of its stream."""
    if isinstance(stage, PortStage):
        return [Process(stage.elements, stage.lanes, stage.lanes)]
    if isinstance(stage, PoolStage):
        return [_scanning(stage.scan, stage.lanes, 0, 0)]
    assert isinstance(stage, SumStage)
    chunks, groups = stage.inputs // stage.simd, stage.outputs // stage.pe
    product = Process(stage.positions * groups * chunks, chunks, groups * chunks)
    if stage.scan is not None:
        return [_scanning(stage.scan, stage.lanes, stage.positions, chunks - 1), product]
    piece = math.gcd(stage.lanes, stage.simd)
    return [Process(stage.positions * stage.inputs // piece, stage.simd // piece, stage.simd // piece), product]


def _scanning(scan: Scan, lanes: int, positions: int, extra: int) -> Process:
    """The walk over a padded image, with `extra` trips at each of `positions`."""
    top, left, bottom, right = scan.pads
    groups = scan.channels // lanes
    places = (left + scan.size[1] + right) * groups
    steps = (top + scan.size[0] + bottom) * places
    fill = (scan.kernel[0] - 1) * places + scan.kernel[1] * groups - top * places - left * groups
    return Process(steps + positions * extra, max(fill, 1), bottom * places + right * groups + extra + 1)


def cost(stage: Stage, board: Board) -> Cost:
    """Resources of one stage, its output FIFO included."""
    fifo = memory(2, stage.out_lanes * stage.format.width)
    if isinstance(stage, PortStage):
        bits = stage.format.width
        return Cost((20.0 + bits, 60.0 + 4 * bits), (20.0 + bits, 60.0 + 4 * bits)) + fifo
    if isinstance(stage, PoolStage):
        return _line_buffer(stage.scan, stage.lanes, stage.format.width) + _comparators(stage) + fifo
    assert isinstance(stage, SumStage)
    chunk_bits = stage.simd * stage.in_format.width
    total = multipliers(stage) + rom(stage, board) + fifo + memory(2, chunk_bits)
    total += memory(stage.inputs // stage.simd, chunk_bits)
    if stage.scan is not None:
        total += _line_buffer(stage.scan, stage.lanes, stage.in_format.width) + _window_registers(stage)
    return total + Cost((60.0, 250.0), (60.0, 250.0))


def multipliers(stage: SumStage) -> Cost:
    """pe x simd products, their adder trees, the accumulators and the rounding."""
    count, pe = stage.pe * stage.simd, stage.pe
    w, a, acc = stage.weight_format.width, stage.in_format.width, stage.acc_bits
    dsp = products_in_dsp(stage)
    low, high = (14.0, 32.0) if dsp else _fabric_luts(stage.weight_format.kind, w, a)
    spread = int(stage.shift.max()) - int(stage.shift.min()) if stage.shift.size else 0
    rounding = (1.0 * acc, 3.0 * acc + acc * math.ceil(math.log2(spread + 1)))
    return Cost(
        (count * low + pe * rounding[0], count * high + pe * rounding[1]),
        (pe * acc + stage.simd * a, 2.0 * pe * acc + stage.simd * a + count * (w + a)),
        0,
        count * dsp,
    )


def products_in_dsp(stage: SumStage) -> int:
    """DSP slices for one product; 0: it is built of LUTs."""
    w, a = stage.weight_format.width, stage.in_format.width
    if stage.weight_format.kind != "FIXED" or min(w, a) < DSP_LEAST_BITS:
        return 0
    return math.ceil(min(w, a) / DSP_PORTS[0]) * math.ceil(max(w, a) / DSP_PORTS[1])


def _fabric_luts(kind: str, w: int, a: int) -> tuple[float, float]:
    if kind == "BIN":
        return 2.5 * a, 3.3 * a + 3.5
    if w == 2:
        return 3.0 * a, 4.1 * a + 4.5
    if kind == "EXP":
        return 5.0 * a, 6.5 * a + 7.0 * w
    return 2.0 * w * a, 3.0 * w * a + 5.0


def rom(stage: SumStage, board: Board) -> Cost:
    """The weights' memory and the tables of bias and shift."""
    groups = stage.outputs // stage.pe
    width, depth = rom_shape(stage)
    tables = memory(groups, stage.pe * (stage.acc_bits + 8))
    if rom_in_bram(stage, board):
        return Cost((0.0, 20.0), (0.0, 0.0), bram18(depth, width)) + tables
    return Cost((0.5 * _rom_luts(depth, width), 1.0 * _rom_luts(depth, width)), (width, width)) + tables


def rom_shape(stage: SumStage) -> tuple[int, int]:
    """Bits of a word of the weights' memory, and words: each weight takes exactly the bits of its format."""
    folds = (stage.outputs // stage.pe) * (stage.inputs // stage.simd)
    return stage.pe * stage.simd * stage.weight_format.width, folds


def rom_in_bram(stage: SumStage, board: Board) -> bool:
    """Whether the weights' memory is block RAM: it is large, and block RAM is the smaller share of the board."""
    width, depth = rom_shape(stage)
    if width * depth <= REGISTERS_BELOW or not board.bram36:
        return False
    return bram18(depth, width) / (2 * board.bram36) <= _rom_luts(depth, width) / board.lut


def _rom_luts(depth: int, width: int) -> int:
    return width * math.ceil(depth / 64)


def memory(depth: int, width: int) -> Cost:
    """A small RAM or FIFO: registers or LUTs up to 1,024 bits, else block RAM."""
    if depth * width > REGISTERS_BELOW:
        return Cost((10.0, 60.0), (10.0, 2.0 * width), bram18(depth, width))
    luts = width * math.ceil(depth / 32)
    return Cost((0.5 * luts, 1.5 * luts + 20), (1.0 * width, 2.0 * width))


def bram18(depth: int, width: int) -> int:
    """Blocks of 18 Kbit for a memory of `depth` words of `width` bits, in the best aspect ratio."""
    return min(math.ceil(width / w) * math.ceil(depth / d) for d, w in BRAM_SHAPES)


def _line_buffer(scan: Scan, lanes: int, bits: int) -> Cost:
    held = scan.kernel[0] - 1
    if held == 0:
        return Cost()
    _, left, _, right = scan.pads
    return memory((left + scan.size[1] + right) * (scan.channels // lanes), held * lanes * bits)


def _window_registers(stage: SumStage) -> Cost:
    """The registers under the kernel, and the multiplexers that cut them into chunks."""
    bits, chunks = stage.inputs * stage.in_format.width, stage.inputs // stage.simd
    select = stage.simd * stage.in_format.width * (chunks - 1) / 3.0
    return Cost((select, 2 * select + bits), (1.0 * bits, 1.2 * bits))


def _comparators(stage: PoolStage) -> Cost:
    count = stage.lanes * (stage.scan.kernel[0] + stage.scan.kernel[1] - 2) * stage.format.width
    return Cost((0.75 * count + 40, 2.0 * count + 200), (1.0 * count + 40, 2.0 * count + 200))
