"""How deep the FIFOs must be where streams that were one come together again, from the loops alone.

A value with two readers is forked, and its copies meet again in an add, mul or concat. While the join waits for one
side, the other must hold what the fork gives it meanwhile, or nothing moves any more.

    need(q)     copies that the fork has written before token q of the slow side can come, by the loops on the way
    write(q)    what has then been written to the fast side's FIFO, if each loop on the way has taken all but what its
                own FIFO holds
    least       max over q of write(q) - read(q), the tokens that the join has read of the fast side when it waits

One word less and the join waits for token q for ever: the processes are deterministic and wait for one stream at a
time, so time plays no part in it. `bitwright csim --bounded` proves both.

So that nothing waits at the design's interval either, every FIFO holds the most that is in it when two frames enter at
that pace and no FIFO is ever full: a layer with a stride gives its rows in bursts, a slower one behind it takes them as
they come. The tools' pipelines stand still while an input is empty, with tokens inside, so there is room for DEPTH
tokens more, and where streams meet for DEPTH more for each loop on the slow side:

    depth       2 where no more than 2 are held, else most held + DEPTH + 1
                at a join no less than max(least, most held) + DEPTH x loops of the slow side
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.loops import DEPTH, Loop, Product, loops_of
from bitwright.backends.hls.stages import DEFAULT_DEPTH, ForkStage, JoinStage, Stage

Ints = NDArray[np.int64]

FRAMES = 2  # that follow each other, for the most that a FIFO holds


def sized(stages: Sequence[Stage], interval: int) -> list[Stage]:
    """The stages with the depths of the FIFOs that enter each, for a frame every `interval` cycles."""
    net = _Net(stages)
    held = net.held(interval)
    found: list[Stage] = []
    for stage in stages:
        depths = [DEFAULT_DEPTH if held[s] <= DEFAULT_DEPTH else held[s] + DEPTH + 1 for s in stage.reads]
        if isinstance(stage, JoinStage):
            sides = [net.side(stage, side) for side in (0, 1)]
            stage = replace(stage, least=(sides[0][0], sides[1][0]))
            for side, (least, margin) in enumerate(sides):
                depths[side] = max(depths[side], max(least, held[stage.reads[side]]) + margin)
        net.depths |= dict(zip(stage.reads, depths, strict=True))
        found.append(replace(stage, depths=tuple(depths)))
    return found


@dataclass(frozen=True)
class _Meeting:
    """Two copies of a fork that come together: the slow side waits for `slow`, the fast side holds `fast`.

    ahead: whether the fork writes the fast copy first.
    """

    slow: str
    fast: str
    ahead: bool
    loops: int  # on the slow side


class _Net:
    """The loops of a design, who writes and who reads each stream, and the depths so far."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.loops: list[Loop] = []
        self.last: dict[str, Loop] = {}  # of each stage
        for stage in stages:
            self.loops += loops_of(stage)
            self.last[stage.name] = self.loops[-1]
        self.writer = {stream: loop for loop in self.loops for stream in loop.writes}
        self.reader = {stream: (loop, side) for loop in self.loops for side, stream in enumerate(loop.reads)}
        self.forks = [self.last[stage.name] for stage in stages if isinstance(stage, ForkStage)]
        self.joins = {id(self.last[stage.name]) for stage in stages if isinstance(stage, JoinStage)}
        self.depths: dict[str, int] = {}
        self.outer = {stream for stage in stages for stream in stage.reads}
        self.graph = nx.DiGraph()  # of streams
        self.graph.add_nodes_from(stream for loop in self.loops for stream in loop.writes)
        for loop in self.loops:
            self.graph.add_edges_from((a, b) for a in loop.reads for b in loop.writes)
        order = {stream: index for index, loop in enumerate(self.loops) for stream in loop.writes}
        self.order = order
        source = self.loops[0].writes[0]
        self.dominator = nx.immediate_dominators(self.graph, source)
        self.before = {
            stream: nx.ancestors(self.graph, stream) | {stream}
            for stage in stages
            for stream in (stage.reads if isinstance(stage, JoinStage) else ())
        }

    # ---- the least depth ------------------------------------------------------------------------------------------

    def side(self, stage: JoinStage, fast: int) -> tuple[int, int]:
        """The least depth of the FIFO that enters on a side, and the margin on top of what it holds."""
        join = self.last[stage.name]
        slow = 1 - fast
        token = np.arange(join.tokens_in[slow], dtype=np.int64)
        trip = join.read_trip(slow, token)
        read = join.reads_until(fast, trip if fast < slow else trip - 1)  # a trip reads the left side first
        read = self._read_behind(stage.reads[fast], join.reads[fast], read)
        least, margin = 1, 0
        for meeting in self._meetings(stage, slow, fast):
            need = self._need(join.reads[slow], token + 1, meeting.slow, {})
            written = self._written(meeting.fast, need if meeting.ahead else need - 1, stage.reads[fast])
            least = max(least, int((written - read).max()))
            margin = max(margin, DEPTH * meeting.loops)
        return least, margin

    def _read_behind(self, outer: str, inner: str, read: Ints) -> Ints:
        """What has been read of the stream that enters a join when so much has been read behind its regrouping."""
        if outer == inner:
            return read
        loop, _ = self.reader[outer]
        written = read + DEFAULT_DEPTH
        stuck = np.minimum(written, loop.tokens_out - 1)  # the token that the regrouping cannot write
        found = loop.reads_until(0, loop.write_trip(stuck))
        return np.where(written < loop.tokens_out, found, loop.tokens_in[0])

    def _meetings(self, stage: JoinStage, slow: int, fast: int) -> Iterator[_Meeting]:
        """The forks whose copies come together in a join, none of which is only a way to a nearer fork."""
        left, right = stage.reads
        common = self.dominator[self.last[stage.name].writes[0]]
        for fork in self.forks:
            one, other = fork.writes
            if self.order[one] < self.order[common] or not ({one, other} & (self.before[left] | self.before[right])):
                continue
            for a, b in ((one, other), (other, one)):
                if a in self.before[stage.reads[slow]] and b in self.before[stage.reads[fast]]:
                    yield _Meeting(a, b, b == one, self._way(a, stage.reads[slow], self.last[stage.name]))

    def _way(self, first: str, last: str, join: Loop) -> int:
        """The loops on the longest way from a copy to a join."""
        streams = sorted(self.before[last] & (nx.descendants(self.graph, first) | {first}), key=self.order.__getitem__)
        length = {first: 0}
        for stream in streams:
            before = [length[s] for s in self.writer[stream].reads if s in length]
            length.setdefault(stream, 1 + max(before, default=0))
        return length[last] + (self.reader[last][0] is not join)

    def _need(self, stream: str, count: Ints, copy: str, known: dict[str, Ints]) -> Ints:
        """How many tokens of `copy` have been written before so many of `stream` can be; known: for each token."""
        if stream == copy:
            return count
        loop = self.writer[stream]
        if not any(s == copy or s in self._after(copy) for s in loop.reads):
            return np.zeros_like(count)
        if id(loop) in self.joins:  # asked once for all tokens, or every join would double the questions
            if stream not in known:
                known[stream] = self._need_of_loop(loop, np.arange(1, loop.tokens_out + 1), copy, known)
            return np.where(count > 0, known[stream][np.maximum(count - 1, 0)], 0)
        return self._need_of_loop(loop, count, copy, known)

    def _need_of_loop(self, loop: Loop, count: Ints, copy: str, known: dict[str, Ints]) -> Ints:
        trip = loop.write_trip(np.maximum(count - 1, 0))
        asked = [
            self._need(stream, np.where(count > 0, loop.reads_until(side, trip), 0), copy, known)
            for side, stream in enumerate(loop.reads)
        ]
        return np.asarray(np.maximum.reduce(asked))

    def _after(self, copy: str) -> set[str]:
        return set(nx.descendants(self.graph, copy))

    def _written(self, copy: str, count: Ints, target: str) -> Ints:
        """What is in all written to `target` once `count` tokens of `copy` are, if every FIFO on the way is full."""
        way = (self._after(copy) | {copy}) & self.before[target]
        written = {copy: count}
        for stream in sorted(way, key=self.order.__getitem__):
            if stream == target:
                break
            loop, side = self.reader[stream]
            taken = written[stream] - self.depths.get(stream, DEFAULT_DEPTH)
            given = loop.writes_until(loop.read_trip(side, np.maximum(taken - 1, 0)) - 1)
            given = np.where(taken > 0, given, 0)
            for out in loop.writes:
                if out in way:
                    written[out] = np.maximum(written[out], given) if out in written else given
        return written[target]

    # ---- what is held at the interval -----------------------------------------------------------------------------

    def held(self, interval: int) -> dict[str, int]:
        """The most that is ever in each FIFO between stages, where no FIFO is ever full."""
        written: dict[str, Ints] = {}  # when each token is there
        found: dict[str, int] = {}
        for loop in self.loops:
            late = [_late(loop, side, written[stream]) for side, stream in enumerate(loop.reads)]
            for side, stream in enumerate(loop.reads):
                if stream in self.outer:
                    found[stream] = _most_held(written[stream], _read_times(loop, side, late))
                del written[stream]
            if not loop.writes:
                continue
            if type(loop) is Loop and len(late) == 1:  # a token in, a token out, in the same trip
                times = _read_times(loop, 0, late) + DEPTH
                written |= dict.fromkeys(loop.writes, times)
                continue
            reader, _ = self.reader[loop.writes[0]]
            trips = _framed(loop.write_trip(_last_of_vectors(loop.tokens_out, reader)), loop.trips)
            paced = (trips + 1) * interval // loop.trips  # as the input comes
            times = trips + _behind(loop, late, trips) + DEPTH if loop.reads else paced
            written |= dict.fromkeys(loop.writes, times)
        return found


def _framed(trips: Ints, of_frame: int) -> Ints:
    """The trips of one frame, for frames that follow each other."""
    return np.concatenate([trips + frame * of_frame for frame in range(FRAMES)])


def _vector(loop: Loop) -> int:
    """Tokens that the loop takes one a trip, so that the last one says when all were there."""
    return loop.chunks if isinstance(loop, Product) else 1


def _last_of_vectors(tokens: int, reader: Loop) -> Ints:
    return np.arange(_vector(reader) - 1, tokens, _vector(reader), dtype=np.int64)


def _late(loop: Loop, side: int, there: Ints) -> Ints:
    """How far behind its trip number the loop runs once it has read each vector of a side."""
    trips = _framed(loop.read_trip(side, _last_of_vectors(loop.tokens_in[side], loop)), loop.trips)
    return np.maximum.accumulate(there - trips)


def _behind(loop: Loop, late: Sequence[Ints], trips: Ints) -> Ints:
    """How far behind the loop runs in each of these trips, those of one frame after another."""
    of_frame = len(trips) // FRAMES
    behind = np.zeros_like(trips)
    for side, of_side in enumerate(late):
        read = loop.reads_until(side, trips[:of_frame])
        read = np.concatenate([read + frame * loop.tokens_in[side] for frame in range(FRAMES)]) // _vector(loop)
        behind = np.maximum(behind, np.where(read > 0, of_side[read - 1], 0))
    return behind


def _read_times(loop: Loop, side: int, late: Sequence[Ints]) -> Ints:
    """When each token of a side is read; where it is the only one, late says it already."""
    trips = _framed(loop.read_trip(side, np.arange(loop.tokens_in[side], dtype=np.int64)), loop.trips)
    return trips + (late[0] if len(late) == 1 else _behind(loop, late, trips))


def _most_held(written: Ints, read: Ints) -> int:
    """The most tokens in a FIFO, at the times when one is written; no less than what every FIFO holds anyway."""
    if np.all(read[:-DEFAULT_DEPTH] < written[DEFAULT_DEPTH:]):
        return DEFAULT_DEPTH
    return int((np.arange(1, len(written) + 1) - np.searchsorted(read, written, "left")).max())
