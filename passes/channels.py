"""Channel groups: which channels of which layers live and die together, over the whole graph.

A channel is what wiring.py tied: the rows of all filters that write it, and the columns of all weights that read it,
through residual adds, gates, concats and splits, grouped convolutions, flattening, normalisation and pooling. It cannot
go if it reaches an output or an input of the graph, or an op that is not understood.

    %conv1 = conv2d(%x, %w1, %b1) : f32[N,8,6,6]     \\
    %conv2 = conv2d(%x, %w2, %b2) : f32[N,8,6,6]      } one group of 8 channels: producers conv1 and conv2, row c each;
    %sum = add(%conv1, %conv2) : f32[N,8,6,6]         } consumer fc, columns 36 c to 36 c + 35
    %fc = dense(flatten(%sum), %w3) : f32[N,10]      /
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from bitwright.ir.graph import Graph, Node, Value
from bitwright.passes.wiring import Grouped, Wires, Wiring

Side: TypeAlias = Literal["output", "input"]


@dataclass(frozen=True)
class Port:
    """One side of a conv2d or dense: for each channel of a group, in order, the layer's own channels that it is."""

    node: Node
    side: Side
    channels: tuple[tuple[int, ...], ...]

    @property
    def span(self) -> tuple[int, int]:
        """The first of the layer's own channels, and one after the last."""
        own = [index for indices in self.channels for index in indices]
        return min(own), max(own) + 1


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that the same layers write and the same layers read.

    channels: their numbers; producers: the layers whose rows go with one; consumers: those whose input columns go;
    why_not: why none of them can go, or "".
    """

    channels: tuple[int, ...]
    producers: tuple[Port, ...]
    consumers: tuple[Port, ...]
    why_not: str = ""

    @property
    def count(self) -> int:
        """How many channels."""
        return len(self.channels)


@dataclass(frozen=True)
class Channels:
    """The channels of a graph: their groups, those of each axis of each value, and why some cannot go."""

    groups: tuple[ChannelGroup, ...]
    axes: Mapping[int, tuple[Wires, ...]]
    why_not: Mapping[int, str]

    def of(self, value: Value) -> tuple[Wires, ...]:
        """The number of the channel at every index of every axis; an axis of unknown size has none."""
        return self.axes[id(value)]

    def at(self, node: Node, side: Side) -> list[int]:
        """The channels of one side of a conv2d or dense, one for each of its own."""
        if side == "output":
            return [int(channel) for channel in self.of(node.operand(1))[0]]
        read = self.of(node.operand(0))
        known = read[1 if node.op == "conv2d" else -1] if read else self.of(node.operand(1))[1]
        return [int(channel) for channel in known]

    def refusal(self, node: Node, side: Side) -> str:
        """Why no channel of one side of a layer can go, or "" if some can."""
        channels = dict.fromkeys(self.at(node, side))
        reasons = [self.why_not[channel] for channel in channels if channel in self.why_not]
        if reasons and len(reasons) == len(channels):
            return reasons[0]
        return "they go all or none" if len(channels) == 1 else ""


def find_channels(graph: Graph, grouped: Grouped = "whole") -> Channels:
    """The channels of a graph and their groups, in the order of the layers that they first come to.

    grouped: whether of a grouped convolution whole groups go, or the same channels inside every group.
    """
    wiring = Wiring(graph, grouped)
    number = _joined(wiring.count, wiring.ties)
    why_not: dict[int, str] = {}
    for wires, reason in wiring.holds:
        for channel in np.unique(number[wires]).tolist():
            why_not.setdefault(channel, reason)
    axes = {key: tuple(number[wires] for wires in value) for key, value in wiring.axes.items()}
    ungrouped = Channels((), axes, why_not)
    return Channels(_groups(graph, ungrouped), axes, why_not)


def layers(graph: Graph) -> list[Node]:
    """The nodes that have channels to prune: every conv2d and dense whose weights are known."""
    return [n for n in graph.nodes if n.op in ("conv2d", "dense") and n.operand(1).tensor is not None]


def _joined(count: int, ties: Sequence[tuple[Wires, Wires]]) -> Wires:
    """For every wire the least of those that it is tied to, directly or not."""
    number = np.arange(count)
    if not ties:
        return number
    left, right = (np.concatenate(side) for side in zip(*ties, strict=True))
    while (apart := number[left] != number[right]).any():
        left, right = left[apart], right[apart]
        ours, theirs = number[left], number[right]
        np.minimum.at(number, np.maximum(ours, theirs), np.minimum(ours, theirs))
        while (number[number] != number).any():
            number = number[number]
    return number


def _groups(graph: Graph, found: Channels) -> tuple[ChannelGroup, ...]:
    places: dict[int, dict[tuple[int, Side], list[int]]] = {}
    nodes = layers(graph)
    sides: tuple[Side, Side] = ("input", "output")
    for position, node in enumerate(nodes):
        for side in sides:
            for index, channel in enumerate(found.at(node, side)):
                places.setdefault(channel, {}).setdefault((position, side), []).append(index)
    alike: dict[tuple[object, ...], list[int]] = {}
    for channel, own in places.items():
        alike.setdefault((found.why_not.get(channel, ""), *own), []).append(channel)
    groups = []
    for members in alike.values():
        ports = [
            Port(nodes[key[0]], key[1], tuple(tuple(places[channel][key]) for channel in members))
            for key in sorted(places[members[0]])
        ]
        producers, consumers = (tuple(port for port in ports if port.side == side) for side in ("output", "input"))
        groups.append(ChannelGroup(tuple(members), producers, consumers, found.why_not.get(members[0], "")))
    return tuple(groups)
