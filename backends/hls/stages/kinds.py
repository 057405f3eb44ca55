"""What stands in the accelerator's dataflow: a stage for each layer, with numbers only.

Tensors flow pixel by pixel with channels last, in tokens of some channels of a pixel or of some whole pixels of a row.
A stage reads the streams of the stages it names, and writes one stream that has its own name; only a fork writes two.
plan.py fills in the widths of tokens and the foldings, fifos.py the depths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.adders.graph import AdderGraph
from bitwright.backends.hls.stages.numbers import Number
from bitwright.backends.hls.stages.scan import Scan
from bitwright.ir.formats import Format

Ints = NDArray[np.int64]
Bounds = tuple[int | None, int | None]

CONTAINERS = (8, 16, 32, 64)  # bits of an element outside the accelerator
WIDEST_BEAT = 64  # bits that an AXI port of the processor moves in a cycle
DEFAULT_DEPTH = 2  # of a FIFO that nothing else is said of
ADDERS = "adders"  # of products: adders of constant weights take their place
WIDEST_ADDED = 60  # bits of sums of a graph of adders, which is found in integers of 64 bits


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One layer: what it is called, its line of the graph, the format and the frame of its result.

    layout: [C,H,W], which flows with channels last, or [K], as a Flow has it. reads: the streams that enter, by name;
    lanes: elements of the token that enters; depths: words of the FIFOs that enter, in the order of `reads`; the plan
    fills in both.
    """

    name: str
    line: str
    format: Number
    layout: tuple[int, ...]
    reads: tuple[str, ...] = ()
    lanes: int = 1
    depths: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """Of a frame of its result."""
        return math.prod(self.layout)

    def depth(self, side: int) -> int:
        """Words of a FIFO that enters."""
        return self.depths[side] if self.depths else DEFAULT_DEPTH

    @property
    def writes(self) -> tuple[str, ...]:
        """The streams that leave, by name."""
        return (self.name,)

    @property
    def out_lanes(self) -> int:
        """Elements of the token that leaves."""
        return self.lanes

    @property
    def possible(self) -> bool:
        """Whether there is an engine for tokens of these widths and this folding."""
        return True

    def entered_by(self, widths: Sequence[int]) -> Stage:
        """The stage with tokens of these widths on the streams that it reads, in their order."""
        return replace(self, lanes=widths[0]) if widths else self


@dataclass(frozen=True, kw_only=True)
class PortStage(Stage):
    """The AXI stream that comes in or goes out.

    outside: its name; shape: of a frame, as the graph has it; order: its axes as the stream brings them, the last one
    fastest, which is channels last; beat: elements that a beat carries, a divisor of the lanes.
    """

    outside: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    is_input: bool
    beat: int = 1

    @property
    def container(self) -> int:
        """Bits that an element takes in a beat."""
        return next(bits for bits in CONTAINERS if bits >= self.format.width)

    @property
    def beat_bits(self) -> int:
        """The width of the stream: a power of two."""
        return 1 << (self.container * self.beat - 1).bit_length()

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.name,) if self.is_input else ()

    @property
    def possible(self) -> bool:
        return self.lanes % self.beat == 0


@dataclass(frozen=True, kw_only=True)
class SumStage(Stage):
    """A conv2d or dense: positions times a matrix [outputs, inputs], rounded once.

    weights: integers in the order of the stream; codes: what the memory holds; bias: in steps of the accumulator;
    shift: places to the right, a channel; act: (low, high) in steps of the result, None where open; scan: None where
    whole tokens make the input vector (dense, 1x1 convolutions, kernels that cover the image).
    groups: of a grouped convolution; each has outputs / groups rows, and a vector of `inputs` elements of its own.
    pe rows and simd columns work side by side, of `pixels` positions at once.
    adder_tree: rather than a chain; storage: of the weights, "bram", "lut" or "logic", or "" for the smaller share.
    products: where they are made, "dsp", "dsp-packed" or "lut", "adders" where the weights are constants of a graph of
    adders, or "" for what their widths and the plan say; graph: the adders, if they were searched for.
    packing: products of one activation that are a single multiplication, in one DSP slice; pe rows are enough or not.
    """

    in_format: Number
    weight_format: Format
    weights: Ints
    codes: Ints
    bias: Ints
    shift: Ints
    acc_bits: int
    levels: int
    act: Bounds
    positions: int
    scan: Scan | None
    groups: int = 1
    pe: int = 1
    simd: int = 1
    pixels: int = 1
    adder_tree: bool = True
    storage: str = ""
    products: str = ""
    packing: int = 1
    graph: AdderGraph | None = None

    @property
    def exact(self) -> bool:
        """Whether its sums are integers without a scale."""
        return True

    @property
    def adders_possible(self) -> bool:
        """Whether adders may take the place of its products, if all of them work in every cycle."""
        return self.exact and (self.groups == 1 or self.depthwise) and self.acc_bits <= WIDEST_ADDED

    @property
    def multiplies(self) -> bool:
        """Whether its products are multiplications of integers rather than signs or shifts."""
        return self.weight_format.kind in ("FIXED", "AFFINE")

    @property
    def outputs(self) -> int:
        return len(self.weights)

    @property
    def inputs(self) -> int:
        return int(self.weights.shape[1])

    @property
    def depthwise(self) -> bool:
        """Whether every row has a vector of its own, so that the rows that work side by side read different ones."""
        return self.groups > 1 and self.groups == self.outputs

    @property
    def parallel_rows(self) -> int:
        """What pe must divide: the rows that may work side by side."""
        return self.outputs if self.depthwise else self.outputs // self.groups

    @property
    def sharing(self) -> int:
        """Groups of pe rows that go over the same vector, one after the other."""
        return 1 if self.depthwise else self.outputs // self.groups // self.pe

    @property
    def width(self) -> int:
        """Elements of a vector that the product takes in a cycle."""
        return self.simd * self.pe if self.depthwise else self.simd

    @property
    def vectors(self) -> int:
        """Vectors that reach the product side by side: the windows that a token completes."""
        return self.pixels if self.scan is None else self.scan.steps(self.lanes).windows

    @property
    def multipliers(self) -> int:
        """Products in a cycle."""
        return self.pe * self.simd * self.pixels

    @property
    def multiplications(self) -> int:
        """Multiplications in a cycle, each of `packing` rows."""
        return -(-self.pe // self.packing) * self.simd * self.pixels

    @property
    def turns(self) -> int:
        """How often the product goes over a token: for each group of pe rows, and for vectors one after another."""
        return self.sharing * self.vectors // self.pixels

    @property
    def out_lanes(self) -> int:
        return self.pe * self.pixels

    @property
    def matrix(self) -> Ints:
        """What the product multiplies the vector of a position by, [outputs, elements]; rows of a depthwise one read
        vectors of their own.
        """
        if not self.depthwise:
            return self.weights
        rows = np.arange(self.outputs)
        apart = np.zeros((self.outputs, self.outputs, self.inputs), np.int64)
        apart[rows, rows] = self.weights
        return apart.reshape(self.outputs, -1)

    @property
    def possible(self) -> bool:
        """Whole pixels leave side by side, of which nothing else is left to fold."""
        if self.scan is not None and not self.scan.takes(self.lanes):
            return False
        alone = self.groups == 1 or (self.depthwise and self.pe == self.outputs)  # one vector a position
        if self.vectors > 1 and not alone:
            return False
        unfolded = alone and self.pe == self.outputs and self.simd == self.inputs
        whole = self.pixels > 1 or self.products == ADDERS
        return self.vectors % self.pixels == 0 == self.positions % self.pixels and (unfolded or not whole)


@dataclass(frozen=True, kw_only=True)
class PoolStage(Stage):
    """Max pooling of the narrow numbers behind a rounding. part_of: the layer into which the graph has fused it."""

    scan: Scan
    part_of: str = ""

    @property
    def out_lanes(self) -> int:
        """Of tokens of several pixels the windows that they complete."""
        pixels = self.lanes // self.scan.channels
        return self.lanes if pixels <= 1 else self.scan.steps(self.lanes).windows * self.scan.channels

    @property
    def possible(self) -> bool:
        return self.scan.takes(self.lanes)


@dataclass(frozen=True, kw_only=True)
class MeanStage(Stage):
    """Average pooling: the sum of a window, divided by the pixels that count, rounded once.

    scan: None where the window is the whole image, of `positions` pixels; counted: the first row and column that count
    and those behind the last, in padded coordinates; shift: places to the right; sum_bits: two's complement.
    """

    in_format: Number
    channels: int
    positions: int
    scan: Scan | None
    counted: tuple[int, int, int, int]
    shift: int
    sum_bits: int

    @property
    def most(self) -> int:
        """Pixels of a window."""
        return self.positions if self.scan is None else self.scan.kernel[0] * self.scan.kernel[1]

    @property
    def uniform(self) -> bool:
        """Whether every window has the same number of pixels that count."""
        if self.scan is None:
            return True
        top, left, bottom, right = self.scan.pads
        return self.counted == (0, 0, top + self.scan.size[0] + bottom, left + self.scan.size[1] + right)

    @property
    def out_lanes(self) -> int:
        part = min(self.lanes, self.channels)
        return part if self.scan is None or part == self.lanes else part * self.scan.steps(self.lanes).windows

    @property
    def possible(self) -> bool:
        """Of several pixels the windows leave side by side, if all count the same; of an image its only one."""
        if self.lanes <= self.channels:
            return self.channels % self.lanes == 0
        if self.scan is not None:
            return self.uniform and self.scan.takes(self.lanes)
        return self.lanes % self.channels == 0 and self.positions % (self.lanes // self.channels) == 0


@dataclass(frozen=True, kw_only=True)
class PointStage(Stage):
    """relu, clip or quantize on its own: each number rounded to another format, within bounds."""

    in_format: Number
    acc_bits: int
    shift: int
    act: Bounds


@dataclass(frozen=True, kw_only=True)
class JoinStage(Stage):
    """add, mul or concat of two streams, rounded once.

    op: "add", "mul" or "concat"; channels: of the two sides; broadcast: the right side has one pixel, which meets every
    pixel of the left; ups: places to the left that bring both sides of an add to one step; shifts: places to the right
    (one, or one a side for concat). entering: widths of the two sides' tokens, which are regrouped to `side_lanes`.
    least: the depths of the two FIFOs below which the design stops for ever.
    """

    op: str
    in_formats: tuple[Number, Number]
    channels: tuple[int, int]
    positions: int
    acc_bits: int
    shifts: tuple[int, ...]
    ups: tuple[int, int] = (0, 0)
    broadcast: bool = False
    entering: tuple[int, int] = (1, 1)
    least: tuple[int, int] = (1, 1)

    def entered_by(self, widths: Sequence[int]) -> Stage:
        left, right = widths
        return replace(self, entering=(left, right))

    @property
    def possible(self) -> bool:
        return self.takes(self.lanes)

    def takes(self, lanes: int) -> bool:
        """Whether it may work in tokens of so many elements: parts of a pixel, or several where both sides have them.

        A concat takes the sides of a pixel one after the other, or whole pixels of both.
        """
        if lanes <= max(self.channels) or self.broadcast:
            return all(channels % lanes == 0 for channels in self.channels)
        return lanes % self.pixel == 0 and self.positions % (lanes // self.pixel) == 0

    @property
    def pixel(self) -> int:
        """Elements of a pixel that leaves."""
        return sum(self.channels) if self.op == "concat" else self.channels[0]

    def side_lanes(self, side: int) -> int:
        """Elements of the tokens that it takes from a side."""
        whole = self.op == "concat" and self.lanes >= self.pixel
        return self.lanes // self.pixel * self.channels[side] if whole else self.lanes

    def side_positions(self, side: int) -> int:
        """Pixels of a frame that enter on a side."""
        return 1 if side == 1 and self.broadcast else self.positions


@dataclass(frozen=True, kw_only=True)
class ForkStage(Stage):
    """Two copies of a stream, for two readers."""

    copies: tuple[str, str]

    @property
    def writes(self) -> tuple[str, ...]:
        return self.copies


def ports_of(stages: Sequence[Stage]) -> tuple[PortStage, PortStage]:
    """The two ends of a network."""
    first, last = stages[0], stages[-1]
    assert isinstance(first, PortStage)
    assert isinstance(last, PortStage)
    return first, last


def writers(stages: Sequence[Stage]) -> dict[str, Stage]:
    """Who writes each stream."""
    return {stream: stage for stage in stages for stream in stage.writes}
