"""The loops of a design: at which trip each reads and writes which token of which stream.

Every process is one pipelined loop; in a trip it reads at most one token of each stream that it reads, then writes at
most one to each that it writes. That rule, in closed form, is all that the analysis of FIFOs and the timing need. The
trip counts are those of the C++ headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.stages import (
    FloatSumStage,
    ForkStage,
    JoinStage,
    MeanStage,
    PointStage,
    PoolStage,
    PortStage,
    Scan,
    Stage,
    Steps,
    SumStage,
)

Ints = NDArray[np.int64]

DEPTH = 5  # cycles from an iteration's read to its write; 2 to 5 in reports of fixed-point stages


@dataclass(frozen=True)
class Loop:
    """trips: of a frame; reads, writes: its streams; tokens_in: of a frame, a stream; tokens_out: of each it writes.

    This one moves a token a trip from its one input to each of its outputs.
    """

    trips: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tokens_in: tuple[int, ...]
    tokens_out: int

    def read_trip(self, side: int, token: Ints) -> Ints:
        """The trip in which token 0, 1, ... of an input is read."""
        return token

    def write_trip(self, token: Ints) -> Ints:
        """The trip in which a token is written."""
        return token

    def reads_until(self, side: int, trip: Ints) -> Ints:
        """Tokens read of an input in all trips up to this one."""
        return np.clip(trip + 1, 0, self.tokens_in[side])

    def writes_until(self, trip: Ints) -> Ints:
        """Tokens written in all trips up to this one."""
        return np.clip(trip + 1, 0, self.tokens_out)


@dataclass(frozen=True)
class Regrouping(Loop):
    """Tokens of `taken` pieces into tokens of `given` pieces, a piece a trip; a port gathers or spreads beats so."""

    taken: int
    given: int

    def read_trip(self, side: int, token: Ints) -> Ints:
        return token * self.taken

    def write_trip(self, token: Ints) -> Ints:
        return (token + 1) * self.given - 1

    def reads_until(self, side: int, trip: Ints) -> Ints:
        return np.clip(trip // self.taken + 1, 0, self.tokens_in[side])

    def writes_until(self, trip: Ints) -> Ints:
        return np.clip((trip + 1) // self.given, 0, self.tokens_out)


@dataclass(frozen=True)
class Product(Loop):
    """The matrix-vector product: `chunks` tokens, over which it goes `turns` times."""

    chunks: int
    turns: int

    def read_trip(self, side: int, token: Ints) -> Ints:
        return token // self.chunks * (self.turns * self.chunks) + token % self.chunks

    def write_trip(self, token: Ints) -> Ints:
        return (token + 1) * self.chunks - 1

    def reads_until(self, side: int, trip: Ints) -> Ints:
        vector, within = np.divmod(trip, self.turns * self.chunks)
        read = vector * self.chunks + np.minimum(within + 1, self.chunks)
        return np.asarray(np.clip(read, 0, self.tokens_in[side]))

    def writes_until(self, trip: Ints) -> Ints:
        return np.clip((trip + 1) // self.chunks, 0, self.tokens_out)


@dataclass(frozen=True)
class Turns(Loop):
    """The product in float32: chunk after chunk of a vector, over each of which `sharing` groups of rows take turns, of
    which there are `turns`, some of them idle.
    """

    chunks: int
    sharing: int
    turns: int

    def read_trip(self, side: int, token: Ints) -> Ints:
        return token * self.turns

    def write_trip(self, token: Ints) -> Ints:
        vector, group = np.divmod(token, self.sharing)
        return np.asarray((vector * self.chunks + self.chunks - 1) * self.turns + group)

    def reads_until(self, side: int, trip: Ints) -> Ints:
        return np.clip(trip // self.turns + 1, 0, self.tokens_in[side])

    def writes_until(self, trip: Ints) -> Ints:
        vector, within = np.divmod(trip, self.chunks * self.turns)
        last = np.clip(within - (self.chunks - 1) * self.turns + 1, 0, self.sharing)
        return np.asarray(np.clip(vector * self.sharing + last, 0, self.tokens_out))


@dataclass(frozen=True)
class Walk(Loop):
    """A kernel's walk over an image, in steps of a token.

    tokens: those that the windows of a step leave in, from the step with which their last pixel has come; for a pooling
    (`each`) every group of channels of that pixel gives one at once.
    """

    scan: Scan
    lanes: int
    tokens: int
    each: bool

    @cached_property
    def steps(self) -> Steps:
        return self.scan.steps(self.lanes)

    @property
    def words(self) -> int:
        """Tokens of a row of the image."""
        return self.steps.tokens * self.steps.groups

    @cached_property
    def ends(self) -> Ints:
        """The step that completes each token's windows, or with `each` their first group of channels."""
        steps = self.steps
        rows = np.arange(self.scan.out[0], dtype=np.int64) * self.scan.strides[0] * steps.row
        cols = np.arange(self.scan.out[1] // steps.windows, dtype=np.int64) * steps.stride * steps.groups
        last = steps.delay * steps.groups + (0 if self.each else steps.groups - 1)
        return np.asarray((rows[:, None] + cols[None, :] + last).reshape(-1))

    @cached_property
    def _end_trips(self) -> Ints:
        """The trip in which each one's first token leaves."""
        return self.ends if self.each else self.ends + np.arange(len(self.ends)) * (self.tokens - 1)

    def read_trip(self, side: int, token: Ints) -> Ints:
        row, word = np.divmod(token, self.words)
        step = (self.steps.first[0] + row) * self.steps.row + self.steps.first[1] * self.steps.groups + word
        if self.each:
            return np.asarray(step)
        return np.asarray(step + np.searchsorted(self.ends, step, "left") * (self.tokens - 1))

    def write_trip(self, token: Ints) -> Ints:
        return np.asarray(self._end_trips[token // self.tokens] + token % self.tokens)

    def reads_until(self, side: int, trip: Ints) -> Ints:
        row, place = np.divmod(self._step(trip), self.steps.row)
        row = row - self.steps.first[0]
        begun = np.clip(place + 1 - self.steps.first[1] * self.steps.groups, 0, self.words)
        inside = (row >= 0) & (row < self.scan.size[0])
        return np.asarray(np.clip(row, 0, self.scan.size[0]) * self.words + np.where(inside, begun, 0))

    def _step(self, trip: Ints) -> Ints:
        if self.each:
            return trip
        begun = np.searchsorted(self._end_trips, trip, "right")
        last = np.maximum(begun - 1, 0)
        since = np.maximum(trip - self._end_trips[last] - (self.tokens - 1), 0)
        return np.asarray(np.where(begun == 0, trip, self.ends[last] + since))

    def writes_until(self, trip: Ints) -> Ints:
        begun = np.searchsorted(self._end_trips, trip, "right")
        last = np.maximum(begun - 1, 0)
        of_last = np.minimum(trip - self._end_trips[last] + 1, self.tokens)
        return np.asarray(np.where(begun == 0, 0, last * self.tokens + of_last))


@dataclass(frozen=True)
class Gathering(Loop):
    """Global pooling: every token in, the last pixel's out."""

    def write_trip(self, token: Ints) -> Ints:
        return token + (self.trips - self.tokens_out)

    def writes_until(self, trip: Ints) -> Ints:
        return np.clip(trip + 1 - (self.trips - self.tokens_out), 0, self.tokens_out)


@dataclass(frozen=True)
class Concatenation(Loop):
    """A pixel's groups of channels of the left side, then those of the right."""

    groups: tuple[int, int]

    def read_trip(self, side: int, token: Ints) -> Ints:
        pixel, group = np.divmod(token, self.groups[side])
        return np.asarray(pixel * sum(self.groups) + group + (self.groups[0] if side else 0))

    def reads_until(self, side: int, trip: Ints) -> Ints:
        pixel, group = np.divmod(trip, sum(self.groups))
        first = self.groups[0] if side else 0
        return np.asarray(pixel * self.groups[side] + np.clip(group + 1 - first, 0, self.groups[side]))


def loops_of(stage: Stage) -> list[Loop]:
    """The loops of a stage, in the order of its streams; those inside it have names that no graph has."""
    if isinstance(stage, PortStage):
        trips, tokens, beats = stage.elements // stage.beat, stage.elements // stage.lanes, stage.lanes // stage.beat
        if stage.is_input:
            return [Regrouping(trips, (), stage.writes, (), tokens, 1, beats)]
        return [Regrouping(trips, stage.reads, (), (tokens,), 0, beats, 1)]
    if isinstance(stage, SumStage):
        return _sum(stage)
    if isinstance(stage, JoinStage):
        return _join(stage)
    if isinstance(stage, PoolStage) or (isinstance(stage, MeanStage) and stage.scan is not None):
        assert stage.scan is not None
        return [_walk(stage.scan, stage.lanes, stage.reads, stage.writes, each=True)]
    tokens = stage.elements // stage.out_lanes
    if isinstance(stage, MeanStage):
        trips = stage.positions * stage.channels // stage.lanes
        return [Gathering(trips, stage.reads, stage.writes, (trips,), tokens)]
    assert isinstance(stage, PointStage | ForkStage)
    return [Loop(tokens, stage.reads, stage.writes, (tokens,), tokens)]


def _sum(stage: SumStage) -> list[Loop]:
    chunks, rounds = stage.inputs // stage.simd, stage.positions // stage.pixels
    trips = rounds * (stage.outputs // stage.pe) * chunks
    entering = trips // (stage.sharing * stage.vectors // stage.pixels)
    inner = (stage.name + " vectors",)
    streams = (inner, stage.writes, (entering,), trips // chunks)
    product: Loop = Product(trips, *streams, chunks, stage.turns)
    if isinstance(stage, FloatSumStage):
        product = Turns(entering * stage.turns, *streams, chunks, stage.sharing, stage.turns)
    if stage.scan is not None:
        tokens = entering * stage.vectors // stage.positions
        return [_walk(stage.scan, stage.lanes, stage.reads, inner, tokens), product]
    elements = stage.positions * stage.groups * stage.inputs
    return [_regrouping(stage.lanes, stage.width * stage.vectors, elements, stage.reads, inner), product]


def _join(stage: JoinStage) -> list[Loop]:
    found: list[Loop] = []
    reads = list(stage.reads)
    tokens = []
    for side in (0, 1):
        elements = stage.side_positions(side) * stage.channels[side]
        lanes = stage.side_lanes(side)
        tokens.append(elements // lanes)
        if stage.entering[side] != lanes:
            inner = (f"{stage.name} side {side}",)
            found.append(_regrouping(stage.entering[side], lanes, elements, (reads[side],), inner))
            reads[side] = inner[0]
    both, (left, right) = tuple(reads), tokens
    if stage.op == "concat" and stage.lanes < stage.pixel:
        groups = (stage.channels[0] // stage.lanes, stage.channels[1] // stage.lanes)
        return [*found, Concatenation(left + right, both, stage.writes, (left, right), left + right, groups)]
    return [*found, Loop(left, both, stage.writes, (left, right), left)]


def _regrouping(width: int, to: int, elements: int, reads: tuple[str, ...], writes: tuple[str, ...]) -> Loop:
    piece = gcd(width, to)
    return Regrouping(
        elements // piece, reads, writes, (elements // width,), elements // to, width // piece, to // piece
    )


def _walk(
    scan: Scan, lanes: int, reads: tuple[str, ...], writes: tuple[str, ...], tokens: int = 1, each: bool = False
) -> Walk:
    """tokens: those of a step's windows; of a pooling (`each`) as many as its pixel has groups of channels."""
    steps = scan.steps(lanes)
    tokens = steps.groups if each else tokens
    ends = scan.out[0] * scan.out[1] // steps.windows
    trips = steps.total if each else steps.total + ends * (tokens - 1)
    entering = scan.size[0] * steps.tokens * steps.groups
    return Walk(trips, reads, writes, (entering,), ends * tokens, scan, lanes, tokens, each)
