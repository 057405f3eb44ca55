"""The most that the FIFOs between stages hold, when frames enter at an interval and none of these FIFOs is ever full.

A loop makes trip t at cycle t + behind(t) at the earliest, where behind only grows with t. What holds it up:

    a token that it reads in trip t               behind(t) >= when it is there - t
    token k, which it writes in trip t - depth,   behind(t) >= when token k - 2 is read - t
    to a FIFO of two words inside a stage

A token is there when `depth` more trips have been made, those of the pipeline, which stands still while an input is
empty. Between frames a loop lets its pipeline run empty, which counts as so many trips.

A window and its product wait for each other, vector after vector, and are followed in this order. Of a join and the
regroupings before it the times are worked out in turn, from the earliest ones on, until none moves or ROUNDS are over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.loops import DEPTH, Loop, Product, loops_of
from bitwright.backends.hls.real_cost import float_depth
from bitwright.backends.hls.stages import DEFAULT_DEPTH, Stage, SumStage

Ints = NDArray[np.int64]

FRAMES = 2  # that follow each other
ROUNDS = 8


def pipelines_of(stage: Stage) -> list[tuple[Loop, int]]:
    """The loops of a stage, and the cycles from an iteration's read to its write."""
    loops = loops_of(stage)
    return [(loop, DEPTH + (float_depth(stage) if loop is loops[-1] else 0)) for loop in loops]


def most_held(stages: Sequence[Stage], interval: int) -> dict[str, int]:
    """The most tokens that are ever in each FIFO between stages, no less than DEFAULT_DEPTH; by stream.

    Where a stage takes longer than the interval, since its loops wait for each other, frames come at its pace.
    """
    interval = max(interval, *(_own_pace(stage) for stage in stages if isinstance(stage, SumStage)), 0)
    found, pace = _followed(stages, interval)
    return found if pace <= interval else _followed(stages, pace)[0]


def _own_pace(stage: SumStage) -> int:
    """Cycles between two frames of a stage whose tokens are always there."""
    (first, depth), (last, last_depth) = pipelines_of(stage)
    window, product = (replace(loop, reads=("in",), writes=("out",)) for loop in (first, last))  # of whatever names
    return _pace_of(window, depth, replace(product, reads=window.writes), last_depth)


@cache
def _pace_of(first: Loop, depth: int, last: Loop, last_depth: int) -> int:
    window, product = _Pipeline(first, depth, 0), _Pipeline(last, last_depth, 0)
    window.follow(product)
    return max(window.pace(), product.pace())


def _followed(stages: Sequence[Stage], interval: int) -> tuple[dict[str, int], int]:
    """What is held where frames come at an interval, and the cycles between two frames of the slowest loop."""
    readers = {stream: loop for stage in stages for loop in loops_of(stage) for stream in loop.reads}
    there: dict[str, Ints] = {}  # when each token of a stream is
    found: dict[str, int] = {}
    pace = 0
    for stage in stages:
        pipelines = [_Pipeline(loop, depth, interval) for loop, depth in pipelines_of(stage)]
        *first, last = pipelines
        if isinstance(stage, SumStage):
            first[0].wait_for_tokens(there)
            first[0].follow(last)
        else:
            _settle(pipelines, there, readers)
        for one in pipelines:
            for side, stream in enumerate(one.loop.reads):
                if stream in stage.reads:
                    found[stream] = _most(there.pop(stream), one.reads(side))
        there |= dict.fromkeys(stage.writes, last.writes(readers))
        pace = max(pace, *(one.pace() for one in pipelines))
    return found, pace


def _settle(pipelines: Sequence[_Pipeline], there: Mapping[str, Ints], readers: Mapping[str, Loop]) -> None:
    """Lets the loops of a stage wait for their tokens, and those before the last one for room."""
    *first, last = pipelines
    for _ in range(ROUNDS):
        inside = dict(there)
        for one in pipelines:
            one.wait_for_tokens(inside)
            inside |= dict.fromkeys(one.loop.writes, one.writes(readers))
        if not any([one.wait_for_room(last) for one in first]):
            break


class _Pipeline:
    """A loop, its pipeline's depth, and how far behind it is at the least, trip by trip."""

    def __init__(self, loop: Loop, depth: int, interval: int) -> None:
        self.loop, self.depth, self.interval = loop, depth, interval
        self.frame = loop.trips + depth
        self.behind = np.zeros(FRAMES * self.frame, np.int64)

    def framed(self, trips: Ints) -> Ints:
        """The trips of one frame, for frames that follow each other."""
        return np.concatenate([trips + frame * self.frame for frame in range(FRAMES)])

    def times(self, trips: Ints) -> Ints:
        """When trips are made; those before the first one, which come first, never held anything up."""
        before = int(np.searchsorted(trips, 0))
        return np.asarray(trips + np.concatenate([np.zeros(before, np.int64), self.behind[trips[before:]]]))

    def pace(self) -> int:
        """Cycles from the end of one frame to the end of the next."""
        return self.frame + int(self.behind[-1] - self.behind[-1 - self.frame])

    def wait(self, trips: Ints, until: Ints) -> None:
        """Each of these different trips is made no earlier than that."""
        self.behind[trips] = np.maximum(self.behind[trips], until - trips)
        np.maximum.accumulate(self.behind, out=self.behind)

    def wait_for_tokens(self, there: Mapping[str, Ints]) -> None:
        for side, stream in enumerate(self.loop.reads):
            tokens = _last_of_vectors(self.loop.tokens_in[side], self.loop)
            trips = self.framed(self.loop.read_trip(side, tokens))
            self.wait(trips, there[stream])

    def room(self, reader: _Pipeline) -> tuple[Ints, Ints]:
        """The trips that put tokens into the stream to a reader inside the stage, and those of the reader which must
        have been made by then. Of a vector that is read one token a trip, the first one that waits is enough.
        """
        (stream,) = self.loop.writes
        count, vector = self.loop.tokens_out, _vector(reader.loop)
        tokens = np.arange(min(DEFAULT_DEPTH, vector - 1), count, vector, dtype=np.int64)
        frame, token = np.divmod(tokens - DEFAULT_DEPTH, count)
        read = reader.loop.read_trip(reader.loop.reads.index(stream), token)
        put = self.framed(self.loop.write_trip(tokens)) + self.depth
        return put, reader.framed(read + frame * reader.frame)

    def wait_for_room(self, reader: _Pipeline) -> bool:
        """Waits for the reader as it runs so far. Returns whether that is news."""
        put, read = self.room(reader)
        known = self.behind.copy()
        self.wait(put, reader.times(read))
        return bool((known != self.behind).any())

    def follow(self, product: _Pipeline) -> None:
        """Both wait for each other, vector after vector."""
        put, read = self.room(product)
        vector = _vector(product.loop)
        last = self.framed(self.loop.write_trip(_last_of_vectors(self.loop.tokens_out, product.loop))) + self.depth
        taken = product.framed(product.loop.read_trip(0, _last_of_vectors(product.loop.tokens_in[0], product.loop)))
        before = 2 if vector == 1 else 1  # vectors, the one that must have been taken when room is asked for
        ahead, asked = last - taken, read - put
        waits = ahead + self.times(last) - last
        late = _late(asked.tolist(), waits.tolist(), ahead.tolist(), before)
        self.wait(put, put + np.maximum.accumulate(np.maximum(asked + late[:-before], 0)))
        product.wait(taken, taken + late[before:])

    def writes(self, readers: Mapping[str, Loop]) -> Ints:
        """When the tokens that it writes are there; of vectors that are read one token a trip, the last ones."""
        if not self.loop.writes:
            return np.zeros(0, np.int64)
        tokens = _last_of_vectors(self.loop.tokens_out, readers[self.loop.writes[0]])
        trips = self.loop.write_trip(tokens)
        if self.loop.reads:
            return self.times(self.framed(trips) + self.depth)
        paced = (trips + 1) * self.interval // self.loop.trips
        return np.concatenate([paced + frame * self.interval for frame in range(FRAMES)])

    def reads(self, side: int) -> Ints:
        """When the tokens of a side are read."""
        tokens = np.arange(self.loop.tokens_in[side], dtype=np.int64)
        return self.times(self.framed(self.loop.read_trip(side, tokens)))


def _late(asked: Sequence[int], waits: Sequence[int], ahead: Sequence[int], before: int) -> Ints:
    """How late a product takes each vector of a window, behind `before` that are not; each vector waits for others.

    Vector i is not put before the product has taken vector i - before, nor taken before it is put:

        held_up(i) = max(held_up(i - 1), asked(i) + late(i - before))
        late(i)    = max(late(i - 1), waits(i), ahead(i) + held_up(i))
    """
    late = [0] * before
    held_up = latest = 0
    for room, there, step in zip(asked, waits, ahead, strict=True):
        stuck = room + late[-before]
        if stuck > held_up:
            held_up = stuck
        there = max(there, step + held_up)
        if there > latest:
            latest = there
        late.append(latest)
    return np.array(late, np.int64)


def _vector(reader: Loop) -> int:
    """Tokens that a loop reads one a trip."""
    return reader.chunks if isinstance(reader, Product) else 1


def _last_of_vectors(tokens: int, reader: Loop) -> Ints:
    return np.arange(_vector(reader) - 1, tokens, _vector(reader), dtype=np.int64)


def _most(written: Ints, read: Ints) -> int:
    if np.all(read[:-DEFAULT_DEPTH] < written[DEFAULT_DEPTH:]):
        return DEFAULT_DEPTH
    return int((np.arange(1, len(written) + 1) - np.searchsorted(read, written, "left")).max())
