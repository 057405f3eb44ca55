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
that pace and none between stages is ever full (held.py): a layer with a stride gives its rows in bursts, a slower one
behind it takes them as they come. The tools' pipelines stand still while an input is empty, with tokens inside. So a
token comes out when `depth` more trips have been made, and `need` asks for what these read, in

    standing    as least, for pipelines that stand still

and there is room for the tokens in the pipeline before a FIFO, and where streams meet in those of the slow side:

    depth       2 where no more than 2 are held, and no stage at either end is the slowest, else most held + depth + 1;
                where no more than 2 are held, no more than LUTs keep (cost.py): a block RAM is not worth a few cycles
                at a join no less than standing, and most held + the depths of the slow side
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.cost import REGISTERS_BELOW
from bitwright.backends.hls.estimate import stage_cycles
from bitwright.backends.hls.held import most_held, pipelines_of
from bitwright.backends.hls.loops import Loop
from bitwright.backends.hls.stages import DEFAULT_DEPTH, ForkStage, JoinStage, Stage, writers

Ints = NDArray[np.int64]


def sized(stages: Sequence[Stage], interval: int) -> list[Stage]:
    """The stages with the depths of the FIFOs that enter each, for a frame every `interval` cycles."""
    net = _Net(stages)
    held = most_held(stages, interval)
    slowest = [stage for stage in stages if stage_cycles(stage) >= interval - 1]
    tight = {stream for stage in slowest for stream in (*stage.reads, *stage.writes)}
    source = writers(stages)
    found: list[Stage] = []
    for stage in stages:
        depths = []
        for stream in stage.reads:
            depth = held[stream] + net.depth_before(stream) + 1
            if held[stream] == DEFAULT_DEPTH:
                bits = source[stream].out_lanes * source[stream].format.width
                depth = max(DEFAULT_DEPTH, min(depth, REGISTERS_BELOW // bits)) if stream in tight else DEFAULT_DEPTH
            depths.append(depth)
        if isinstance(stage, JoinStage):
            sides = [net.side(stage, side) for side in (0, 1)]
            stage = replace(stage, least=(sides[0].least, sides[1].least))
            for side, needed in enumerate(sides):
                depths[side] = max(depths[side], needed.standing, held[stage.reads[side]] + needed.pipelines)
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
    pipelines: int  # depths of all loops on the slow side


@dataclass(frozen=True)
class _Side:
    """What the FIFO of a join's side needs: to go on if pipelines let all they hold go, and if they stand still."""

    least: int
    standing: int
    pipelines: int


class _Net:
    """The loops of a design, who writes and who reads each stream, and the depths so far."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.loops: list[Loop] = []
        self.last: dict[str, Loop] = {}  # of each stage
        self.depth: dict[int, int] = {}  # of each loop's pipeline
        for stage in stages:
            for loop, depth in pipelines_of(stage):
                self.loops.append(loop)
                self.depth[id(loop)] = depth
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

    def depth_before(self, stream: str) -> int:
        """The depth of the pipeline that writes a stream."""
        return self.depth[id(self.writer[stream])]

    def side(self, stage: JoinStage, fast: int) -> _Side:
        """What the FIFO that enters on a side needs."""
        join = self.last[stage.name]
        slow = 1 - fast
        token = np.arange(join.tokens_in[slow], dtype=np.int64)
        trip = join.read_trip(slow, token)
        read = join.reads_until(fast, trip if fast < slow else trip - 1)  # a trip reads the left side first
        read = self._read_behind(stage.reads[fast], join.reads[fast], read)
        least = standing = 1
        pipelines = 0
        for meeting in self._meetings(stage, slow, fast):
            need = self._need(join.reads[slow], token + 1, meeting.slow, {})
            written = self._written(meeting.fast, need if meeting.ahead else need - 1, stage.reads[fast])
            least = max(least, int((written - read).max()))
            need = self._need(join.reads[slow], token + 1, meeting.slow, {}, standing=True)
            standing = max(standing, int((self._written(meeting.fast, need, stage.reads[fast]) - read).max()))
            pipelines = max(pipelines, meeting.pipelines)
        return _Side(least, standing, pipelines)

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
        """The depths of the pipelines on the deepest way from a copy to a join."""
        streams = sorted(self.before[last] & (nx.descendants(self.graph, first) | {first}), key=self.order.__getitem__)
        length = {first: 0}
        for stream in streams:
            before = [length[s] for s in self.writer[stream].reads if s in length]
            length.setdefault(stream, self.depth_before(stream) + max(before, default=0))
        regrouping = self.reader[last][0]
        return length[last] + (self.depth[id(regrouping)] if regrouping is not join else 0)

    def _need(self, stream: str, count: Ints, copy: str, known: dict[str, Ints], standing: bool = False) -> Ints:
        """How many tokens of `copy` have been written before so many of `stream` can be; known: for each token.

        standing: pipelines stand still while an input is empty, so a token leaves when `depth` more trips are made.
        """
        if stream == copy:
            return count
        loop = self.writer[stream]
        if not any(s == copy or s in self._after(copy) for s in loop.reads):
            return np.zeros_like(count)
        if id(loop) in self.joins:  # asked once for all tokens, or every join would double the questions
            if stream not in known:
                tokens = np.arange(1, loop.tokens_out + 1)
                known[stream] = self._need_of_loop(loop, tokens, copy, known, standing)
            return np.where(count > 0, known[stream][np.maximum(count - 1, 0)], 0)
        return self._need_of_loop(loop, count, copy, known, standing)

    def _need_of_loop(self, loop: Loop, count: Ints, copy: str, known: dict[str, Ints], standing: bool) -> Ints:
        trip = loop.write_trip(np.maximum(count - 1, 0))
        if standing:
            trip = np.minimum(trip + self.depth[id(loop)], loop.trips - 1)
        asked = [
            self._need(stream, np.where(count > 0, loop.reads_until(side, trip), 0), copy, known, standing)
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
