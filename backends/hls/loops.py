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
    """The matrix-vector product: `chunks` tokens a vector, over which `sharing` groups of rows go."""

    chunks: int
    sharing: int

    def read_trip(self, side: int, token: Ints) -> Ints:
        return token // self.chunks * (self.sharing * self.chunks) + token % self.chunks

    def write_trip(self, token: Ints) -> Ints:
        return (token + 1) * self.chunks - 1

    def reads_until(self, side: int, trip: Ints) -> Ints:
        vector, within = np.divmod(trip, self.sharing * self.chunks)
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
    """A kernel's walk over a padded image, in steps of a group of channels.

    tokens: those of a window, which leaves where its last pixel has come in; for a pooling (`each`) every group of
    channels of that pixel gives one at once.
    """

    scan: Scan
    lanes: int
    tokens: int
    each: bool

    @property
    def groups(self) -> int:
        return self.scan.channels // self.lanes

    @property
    def row(self) -> int:
        """Steps of a row."""
        _, left, _, right = self.scan.pads
        return (left + self.scan.size[1] + right) * self.groups

    @cached_property
    def ends(self) -> Ints:
        """The step that completes each window, or with `each` its first group of channels."""
        scan = self.scan
        rows = np.arange(scan.out[0], dtype=np.int64) * scan.strides[0] + scan.kernel[0] - 1
        cols = np.arange(scan.out[1], dtype=np.int64) * scan.strides[1] + scan.kernel[1] - 1
        last = 0 if self.each else self.groups - 1
        return np.asarray((rows[:, None] * self.row + cols[None, :] * self.groups + last).reshape(-1))

    @cached_property
    def _end_trips(self) -> Ints:
        """The trip in which each window's first token leaves."""
        return self.ends if self.each else self.ends + np.arange(len(self.ends)) * (self.tokens - 1)

    def read_trip(self, side: int, token: Ints) -> Ints:
        top, left, _, _ = self.scan.pads
        pixel, group = np.divmod(token, self.groups)
        row, col = np.divmod(pixel, self.scan.size[1])
        step = (top + row) * self.row + (left + col) * self.groups + group
        if self.each:
            return np.asarray(step)
        return np.asarray(step + np.searchsorted(self.ends, step, "left") * (self.tokens - 1))

    def write_trip(self, token: Ints) -> Ints:
        return np.asarray(self._end_trips[token // self.tokens] + token % self.tokens)

    def reads_until(self, side: int, trip: Ints) -> Ints:
        top, left, _, _ = self.scan.pads
        row, rest = np.divmod(self._step(trip), self.row)
        words = self.scan.size[1] * self.groups
        whole = np.clip(row - top, 0, self.scan.size[0]) * words
        inside = (row >= top) & (row < top + self.scan.size[0])
        return np.asarray(whole + np.where(inside, np.clip(rest + 1 - left * self.groups, 0, words), 0))

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
        return [_walk(stage.scan, stage.lanes, stage.reads, stage.writes, stage.scan.channels // stage.lanes, True)]
    tokens = stage.elements // stage.lanes
    if isinstance(stage, MeanStage):
        trips = stage.positions * tokens
        return [Gathering(trips, stage.reads, stage.writes, (trips,), tokens)]
    assert isinstance(stage, PointStage | ForkStage)
    return [Loop(tokens, stage.reads, stage.writes, (tokens,), tokens)]


def _sum(stage: SumStage) -> list[Loop]:
    chunks, groups = stage.inputs // stage.simd, stage.outputs // stage.pe
    entering = stage.positions * (groups // stage.sharing) * chunks
    inner = (stage.name + " vectors",)
    streams = (inner, stage.writes, (entering,), stage.positions * groups)
    product: Loop = Product(entering * stage.sharing, *streams, chunks, stage.sharing)
    if isinstance(stage, FloatSumStage):
        product = Turns(entering * stage.turns, *streams, chunks, stage.sharing, stage.turns)
    if stage.scan is not None:
        return [_walk(stage.scan, stage.lanes, stage.reads, inner, entering // stage.positions, False), product]
    elements = stage.positions * stage.groups * stage.inputs
    return [_regrouping(stage.lanes, stage.width, elements, stage.reads, inner), product]


def _join(stage: JoinStage) -> list[Loop]:
    found: list[Loop] = []
    reads = list(stage.reads)
    tokens = []
    for side in (0, 1):
        elements = stage.side_positions(side) * stage.channels[side]
        tokens.append(elements // stage.lanes)
        if stage.entering[side] != stage.lanes:
            inner = (f"{stage.name} side {side}",)
            found.append(_regrouping(stage.entering[side], stage.lanes, elements, (reads[side],), inner))
            reads[side] = inner[0]
    both, (left, right) = tuple(reads), tokens
    if stage.op == "concat":
        groups = (stage.channels[0] // stage.lanes, stage.channels[1] // stage.lanes)
        return [*found, Concatenation(left + right, both, stage.writes, (left, right), left + right, groups)]
    return [*found, Loop(left, both, stage.writes, (left, right), left)]


def _regrouping(width: int, to: int, elements: int, reads: tuple[str, ...], writes: tuple[str, ...]) -> Loop:
    piece = gcd(width, to)
    return Regrouping(
        elements // piece, reads, writes, (elements // width,), elements // to, width // piece, to // piece
    )


def _walk(scan: Scan, lanes: int, reads: tuple[str, ...], writes: tuple[str, ...], tokens: int, each: bool) -> Walk:
    top, left, bottom, right = scan.pads
    groups, positions = scan.channels // lanes, scan.out[0] * scan.out[1]
    steps = (top + scan.size[0] + bottom) * (left + scan.size[1] + right) * groups
    trips = steps if each else steps + positions * (tokens - 1)
    entering = scan.size[0] * scan.size[1] * groups
    return Walk(trips, reads, writes, (entering,), positions * tokens, scan, lanes, tokens, each)
