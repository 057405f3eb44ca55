"""What a stage costs and how long it takes, before any synthesis. Figures of the accelerator alone, without DMA and PS.

Cycles. Every process is one pipelined loop of interval 1: trips - 1 + DEPTH - 1 cycles, 2 for the call around it; a
dataflow region takes a new frame every (slowest process + 1) cycles. The trip counts are those of the C++ headers.
    window     steps of the walk (stages/scan.py) + tokens of windows x (chunks of a window - 1)
    product    positions / pixels x (outputs / pe) x (inputs / simd)
    pooling    steps of the walk                             port  elements / elements of a beat
    others     a token a trip; concat the tokens of both sides, global pooling those that enter
    A convolution's window and product share a FIFO of 2 words, so the product waits at the ends of rows and frames:
    between two windows pass max(folds, steps of the walk to the next + chunks - 1) cycles, summed over a frame, less
    what a quicker walk has put into the FIFO by then.
Latency. A process starts when its first token comes, ends no earlier than those before it and its own last tokens.
BRAM. ROMs, line buffers and FIFOs of more than 1,024 bits, by the aspect ratios of RAMB18; a shallow ROM goes to LUTs
    where that is the smaller share of the board. FIFOs count where they are read from, at the depths of fifos.py.
DSP. A product of FIXED numbers of at least 6 bits on both sides takes one DSP (16 x 5 was seen in LUTs, 16 x 6 in a
    DSP), and one more for each 18 x 25 bits beyond; BIN, EXP and narrower ones take none, nor do those of a layer that
    the plan builds of LUTs (products.py). Packed products share one, ceil(pe / packing) x simd x pixels (packing.py).
LUT. A range, per multiplier with its share of the adder tree: 14 to 32 with a DSP, and what splits packed products
    (packing.py); without, 2 w a to 3 w a + 5 for
    FIXED, by kind for BIN and EXP (counted by yosys on small arrays). Real reports spread as widely; so do placers.
    The division of an average is two constant products and a comparison of its numbers' width. BIN takes two bits as it
    flows, and a mean in BIN no division. Adders of constant weights take the place of products by adder_cost.py.
FLOAT and AFFINE. real_cost.py. A float32 addition takes 6 cycles before its sum can be added to: with fewer rows to
    take turns, some trips are idle.
FF.  Operands, sums and FIFO words once (low) or products too (high).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.adder_cost import adder_cost
from bitwright.backends.hls.board import Board
from bitwright.backends.hls.cost import (
    DSP_LEAST_BITS,
    REGISTERS_BELOW,
    Cost,
    bram18,
    dsp_slices,
    fabric_luts,
    memory,
    rom_luts,
)
from bitwright.backends.hls.loops import DEPTH, Loop, loops_of
from bitwright.backends.hls.packing import split_luts
from bitwright.backends.hls.real_cost import FloatStage, float_arithmetic, float_depth, scaling, sum_depth
from bitwright.backends.hls.stages import (
    ADDERS,
    ADDITION,
    DEFAULT_DEPTH,
    FloatSumStage,
    ForkStage,
    JoinStage,
    MeanStage,
    PointStage,
    PoolStage,
    PortStage,
    ScaledSumStage,
    Scan,
    Stage,
    SumStage,
    takes_sign,
)

Ints = NDArray[np.int64]
_Count = TypeVar("_Count", int, Ints)

CALL = 2
CONTROL = Cost((60.0, 250.0), (60.0, 250.0))  # of a layer's loops


@dataclass(frozen=True)
class Process:
    """One loop: its trips, the trip that gives its first token, and those it needs after its last input."""

    trips: int
    first: int
    tail: int
    depth: int = DEPTH

    @property
    def cycles(self) -> int:
        return loop_cycles(self.trips) + self.depth - DEPTH


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


def loop_cycles(trips: _Count) -> _Count:
    """Cycles of a pipelined loop of interval 1, with the function around it."""
    return trips - 1 + DEPTH - 1 + CALL


def estimate(stages: Sequence[Stage], board: Board) -> Estimate:
    """Cost and time of folded stages on a board."""
    entries = []
    starts: dict[str, tuple[int, int]] = {}  # of each stream: when its first token comes, and its last
    slowest = finish = 0
    for stage in stages:
        start = max((starts[stream][0] for stream in stage.reads), default=0)
        finish = max((starts[stream][1] for stream in stage.reads), default=0)
        for process in processes(stage):
            finish = max(start + process.cycles, finish + process.tail + process.depth)
            start += process.first + process.depth
        starts |= dict.fromkeys(stage.writes, (start, finish))
        busiest = stage_cycles(stage)
        slowest = max(slowest, busiest)
        entries.append((stage, cost(stage, board), busiest))
    return Estimate(tuple(entries), slowest + 1, finish)


def stage_cycles(stage: Stage) -> int:
    """Cycles of a stage from frame to frame, when others never make it wait."""
    if isinstance(stage, SumStage):
        folding = (stage.lanes, stage.pe, stage.simd, stage.pixels)
        return int(sum_cycles(stage, *(np.array(number) for number in folding)))
    return loop_cycles(max(loop.trips for loop in loops_of(stage))) + float_depth(stage)


def sum_cycles(stage: SumStage, lanes: Ints, pe: Ints, simd: Ints, pixels: Ints) -> Ints:
    """The same of a sum in many foldings at once: a window and a product wait for each other, until both end."""
    chunks = stage.inputs // simd
    own = stage.outputs // pe if stage.depthwise else np.full_like(pe, stage.groups)  # vectors of a position
    turns = stage.outputs // pe // own
    if isinstance(stage, FloatSumStage):
        turns = np.where(chunks == 1, turns, np.maximum(turns, ADDITION))
    folds, tokens = own * chunks * turns, own * chunks
    depth = sum_depth(stage, simd)
    scan = stage.scan
    if scan is None:
        width = pixels * (pe * simd if stage.depthwise else simd)
        gathering = stage.positions * stage.groups * stage.inputs // np.gcd(lanes, width)
        apart = np.maximum(gathering, stage.positions // pixels * folds)
        return np.asarray(loop_cycles(apart) + depth)
    windows, total, row, right = _walked(scan, lanes)
    folds = folds * (windows // pixels)  # of a token of windows
    ends = scan.out[1] // windows  # in a row
    back = (ends - 1) * right
    down, around = row * scan.strides[0] - back, total - (scan.out[0] - 1) * scan.strides[0] * row - back
    # What is in the FIFO when a row's last windows are taken gives the walk time: where its two words hold whole tokens
    # of windows, and as far as it was ahead; less a cycle each for a word that leaves and one that comes.
    ahead = np.clip((ends - 1) * (folds - right - tokens + 1), 0, np.maximum(2 // tokens * folds - 2, 0))
    coupled = scan.out[0] * (ends - 1) * np.maximum(folds, right + tokens - 1)
    coupled += (scan.out[0] - 1) * np.maximum(folds, down + tokens - 1 - ahead)
    coupled += np.maximum(folds, around + tokens - 1 - ahead)
    apart = np.maximum(total + scan.out[0] * ends * (tokens - 1), scan.out[0] * ends * folds)
    return np.asarray(np.maximum(loop_cycles(apart), coupled + DEPTH) + depth)


def _walked(scan: Scan, lanes: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Of tokens of these widths: windows side by side; steps of a frame, of a row, and from window to window."""
    different, places = np.unique(lanes, return_inverse=True)
    known = [scan.steps(int(width)) for width in different]
    numbers = np.array([(s.windows, s.total, s.row, s.stride * s.groups) for s in known], np.int64)
    windows, total, row, right = numbers.T[:, places.reshape(lanes.shape)]
    return windows, total, row, right


def processes(stage: Stage) -> list[Process]:
    """The loops of a stage, in the order of its streams."""
    found = [_process(stage, loop) for loop in loops_of(stage)]
    return [*found[:-1], replace(found[-1], depth=DEPTH + float_depth(stage))]


def _process(stage: Stage, loop: Loop) -> Process:
    """A loop's trips, those until its first token leaves, and those after its last one has come."""
    if isinstance(stage, PortStage):
        return Process(loop.trips, stage.lanes // stage.beat, stage.lanes // stage.beat)
    first = 1 + int(loop.write_trip(np.zeros(1, np.int64))[0])
    last = [int(loop.read_trip(side, np.array([count - 1]))[0]) for side, count in enumerate(loop.tokens_in)]
    return Process(loop.trips, first, loop.trips - max(last))


def cost(stage: Stage, board: Board) -> Cost:
    """Resources of one stage and of the FIFOs that enter it."""
    return entry_cost(stage) + engine_cost(stage, board)


def entry_cost(stage: Stage) -> Cost:
    """What depends on the width of the tokens that enter: the FIFOs, a line buffer, a regrouping before a join."""
    if isinstance(stage, JoinStage):
        return side_cost(stage, 0) + side_cost(stage, 1)
    given = stage.in_format if isinstance(stage, SumStage | MeanStage | PointStage) else stage.format
    found = memory(stage.depth(0), stage.lanes * given.width) if stage.reads else Cost()
    if isinstance(stage, SumStage | PoolStage | MeanStage) and stage.scan is not None:
        found += _line_buffer(stage.scan, stage.lanes, given.width)
    if isinstance(stage, SumStage) and stage.scan is not None:
        found += _window_registers(stage.scan, stage.lanes, given.width)
    return found


def side_cost(stage: JoinStage, side: int) -> Cost:
    """The FIFO that enters a join on a side, and its regrouping."""
    bits, lanes = stage.in_formats[side].width, stage.side_lanes(side)
    found = memory(stage.depth(side), stage.entering[side] * bits)
    if stage.entering[side] != lanes:
        moved = 1.0 * (stage.entering[side] + lanes) * bits
        found += Cost((0.5 * moved + 10, 2.0 * moved + 40), (moved, moved + 30)) + memory(2, lanes * bits)
    return found


def engine_cost(stage: Stage, board: Board) -> Cost:
    """What depends on the folding alone."""
    bits = stage.format.width
    if isinstance(stage, SumStage):
        return _sum_cost(stage, board)
    if isinstance(stage, FloatStage):
        return float_arithmetic(stage) + CONTROL
    if isinstance(stage, PortStage):
        wires = stage.beat * bits
        return Cost((20.0 + wires, 60.0 + 4 * wires), (20.0 + wires, 60.0 + 4 * wires))
    if isinstance(stage, PoolStage):
        return _comparators(stage)
    if isinstance(stage, MeanStage):
        return _mean_cost(stage)
    if isinstance(stage, JoinStage):
        return _join_cost(stage)
    if isinstance(stage, PointStage):
        count = stage.lanes * stage.acc_bits
        return Cost((1.0 * count + 20, 3.0 * count + 60), (1.0 * count + 20, 2.0 * count + 60))
    assert isinstance(stage, ForkStage)
    return Cost((10.0, 40.0), (10.0, 40.0 + stage.lanes * bits))


def _sum_cost(stage: SumStage, board: Board) -> Cost:
    bits = stage.width * stage.vectors * stage.in_format.width  # of a token
    chunks = stage.inputs // stage.simd
    total = float_arithmetic(stage) if isinstance(stage, FloatSumStage) else multipliers(stage)
    total += rom(stage, board) + memory(DEFAULT_DEPTH, bits)
    if stage.turns > 1 and not isinstance(stage, FloatSumStage):
        total += memory(chunks, bits)
    if stage.scan is not None:
        total += _sum_cutting(stage)
    if isinstance(stage, ScaledSumStage):
        total += scaling(stage)
    return total + CONTROL


def _sum_cutting(stage: SumStage) -> Cost:
    elements = stage.width * stage.vectors  # of a token
    assert stage.scan is not None
    tokens = stage.inputs * stage.groups // stage.width
    return _cutting(stage.scan, tokens, elements * stage.in_format.width, elements)


def _cutting(scan: Scan, tokens: int, bits: int, elements: int) -> Cost:
    """The multiplexers that cut windows into tokens; where padding lies beside the image, a gate a bit and a mask an
    element, which follows from the number of the token and the columns that are masked.
    """
    select = bits * (tokens - 1) / 3.0
    if not (scan.pads[1] or scan.pads[3]):
        return Cost((select, 2 * select))
    masks = elements * (1.0 + tokens / 16.0)
    return Cost((select + 0.25 * bits, 2 * select + bits + masks))


def _join_cost(stage: JoinStage) -> Cost:
    """An adder or multiplier a lane, and the rounding; of a broadcast side the pixel that is kept."""
    acc, lanes = stage.acc_bits, stage.lanes
    widths = [format.width for format in stage.in_formats]
    dsp = dsp_slices(*widths) if stage.op == "mul" else 0
    low, high = (acc, 2.0 * acc) if stage.op != "mul" else (14.0, 32.0) if dsp else fabric_luts("FIXED", *widths)
    total = Cost(
        (lanes * (low + acc) + 20, lanes * (high + 3.0 * acc) + 80),
        (1.0 * lanes * acc + 20, 3.0 * lanes * acc + 80),
        0,
        lanes * dsp,
    )
    return total + memory(stage.channels[1] // lanes, lanes * widths[1]) if stage.broadcast else total


def _mean_cost(stage: MeanStage) -> Cost:
    """Adders of a window, and a division by a count a lane; a global pooling keeps a sum a channel in LUTs."""
    bits, lanes = stage.sum_bits, stage.lanes
    whole = max(1, bits - 1 - stage.shift)
    dsp = 2 * dsp_slices(whole, whole + stage.most.bit_length()) if whole >= DSP_LEAST_BITS else 0
    divide = (28.0 + bits, 64.0 + 4.0 * bits) if dsp else (2.0 * whole * whole, 6.0 * whole * whole + 4.0 * bits)
    if takes_sign(stage.format):
        dsp, divide = 0, (0.0, 0.0)
    outs = stage.out_lanes
    if stage.scan is None:
        adders, kept = lanes, stage.channels * bits / 32.0
    else:
        adders = (stage.scan.kernel[0] - 1) * lanes + (stage.scan.kernel[1] - 1) * outs
        kept = (stage.scan.kernel[1] - 1) * stage.channels * bits / 32.0
    low, high = adders * bits + outs * divide[0], 2.0 * adders * bits + outs * divide[1]
    return Cost(
        (low + kept + 40, high + 2.0 * kept + 200),
        (2.0 * lanes * bits + 40, 8.0 * lanes * bits + 32.0 * kept + 200),
        0,
        outs * dsp,
    )


def multipliers(stage: SumStage) -> Cost:
    """pe x simd x pixels products and their adder trees, or adders of constants; the accumulators and the rounding."""
    if stage.products == ADDERS:
        return adder_cost(stage) + _rounding(stage)
    count = stage.multipliers
    w, a = stage.weight_format.width, stage.in_format.width
    dsp = products_in_dsp(stage)
    low, high = (14.0, 32.0) if dsp else fabric_luts(stage.weight_format.kind, w, a)
    products = Cost((count * low, count * high), (0.0, 1.0 * count * (w + a)), 0, stage.multiplications * dsp)
    return products + Cost(split_luts(stage)) + _rounding(stage)


def _rounding(stage: SumStage) -> Cost:
    """The accumulators, their rounding, and the registers of the vectors."""
    pe, acc = stage.pe * stage.pixels, stage.acc_bits
    taken = stage.width * stage.pixels * stage.in_format.width
    spread = int(stage.shift.max()) - int(stage.shift.min()) if stage.shift.size else 0
    high = 3.0 * acc + acc * math.ceil(math.log2(spread + 1))
    return Cost((1.0 * pe * acc, pe * high), (pe * acc + taken, 2.0 * pe * acc + taken))


def products_in_dsp(stage: SumStage) -> int:
    """DSP slices for one multiplication; 0: it is built of LUTs."""
    if not stage.multiplies or stage.products in ("lut", ADDERS):
        return 0
    if stage.packing > 1:
        return 1
    least = 1 if stage.products == "dsp" else DSP_LEAST_BITS
    return dsp_slices(stage.weight_format.width, stage.in_format.width, least)


def rom(stage: SumStage, board: Board) -> Cost:
    """The weights' memory and the tables of bias and shift; for adders all of them are constants."""
    if stage.products == ADDERS:
        return Cost()
    groups = stage.outputs // stage.pe
    width, depth = rom_shape(stage)
    tables = memory(groups, stage.pe * (stage.acc_bits + 8))
    if rom_in_bram(stage, board):
        return Cost((0.0, 20.0), (0.0, 0.0), bram18(depth, width)) + tables
    return Cost((0.5 * rom_luts(depth, width), 1.0 * rom_luts(depth, width)), (width, width)) + tables


def rom_shape(stage: SumStage) -> tuple[int, int]:
    """Bits of a word of the weights' memory, and words: each weight takes exactly the bits of its format."""
    folds = (stage.outputs // stage.pe) * (stage.inputs // stage.simd)
    return stage.pe * stage.simd * stage.weight_format.width, folds


def rom_in_bram(stage: SumStage, board: Board) -> bool:
    """Whether the weights' memory is block RAM: as given, or if it is large and so the smaller share of the board."""
    if stage.storage or stage.products == ADDERS:
        return stage.storage == "bram"
    width, depth = rom_shape(stage)
    if width * depth <= REGISTERS_BELOW or not board.bram36:
        return False
    return bram18(depth, width) / (2 * board.bram36) <= rom_luts(depth, width) / board.lut


def _line_buffer(scan: Scan, lanes: int, bits: int) -> Cost:
    held = scan.kernel[0] - 1
    return memory(scan.steps(lanes).row, held * lanes * bits) if held else Cost()


def _window_registers(scan: Scan, lanes: int, bits: int) -> Cost:
    """The columns that are held under the kernel."""
    count = scan.kernel[0] * scan.steps(lanes).span * scan.channels * bits
    return Cost((0.0, 1.0 * count), (1.0 * count, 1.2 * count))


def _comparators(stage: PoolStage) -> Cost:
    rows, cols = stage.scan.kernel
    count = (stage.lanes * (rows - 1) + stage.out_lanes * (cols - 1)) * stage.format.width
    return Cost((0.75 * count + 40, 2.0 * count + 200), (1.0 * count + 40, 2.0 * count + 200))
