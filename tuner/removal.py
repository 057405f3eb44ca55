"""The order in which channels go: always the one of least damage for the bits that it saves.

The damage is that of passes/damage.py, the error of all sums that read a channel with their other weights refitted.
What it saves is counted in the formats found for the whole network: with n indices left on an axis of a tensor, m of
them the channel's,

    saved = sum over tensors of width x size x (1 - product over axes of (1 - m / n))

Both are as of the channels that are already gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bitwright.ir.graph import Graph, Value
from bitwright.passes.base import Context
from bitwright.passes.channels import ChannelGroup, Channels
from bitwright.passes.damage import LeastDamage, sums_of
from bitwright.passes.pruning import Survey


@dataclass(frozen=True)
class Removal:
    """A channel, by its number, and the share of the bits that is left once it and all before it are gone."""

    channel: int
    left: float


class Bits:
    """The bits of some tensors while channels go."""

    def __init__(self, found: Channels, widths: Sequence[tuple[Value, int]]) -> None:
        """widths: tensors, and the bits of each of their numbers."""
        self.widths = [width for _, width in widths]
        self.left: list[list[int]] = []
        self.held: dict[int, list[tuple[int, int, int]]] = {}
        for place, (value, _) in enumerate(widths):
            axes = [channels for channels in found.of(value) if len(channels)]
            self.left.append([len(channels) for channels in axes])
            for axis, channels in enumerate(axes):
                for channel, count in zip(*np.unique(channels, return_counts=True), strict=True):
                    self.held.setdefault(int(channel), []).append((place, axis, int(count)))

    @property
    def total(self) -> float:
        return float(sum(width * math.prod(left) for width, left in zip(self.widths, self.left, strict=True)))

    def saved(self, channel: int) -> float:
        """What the tensors lose with a channel."""
        stay: dict[int, float] = {}
        for place, axis, count in self.held.get(channel, ()):
            stay[place] = stay.get(place, 1.0) * (1 - count / self.left[place][axis])
        return sum((1 - share) * self.widths[place] * math.prod(self.left[place]) for place, share in stay.items())

    def remove(self, channel: int) -> None:
        for place, axis, count in self.held.get(channel, ()):
            self.left[place][axis] -= count


def removals(
    graph: Graph, found: Channels, widths: Sequence[tuple[Value, int]], context: Context, least: float
) -> list[Removal]:
    """Channels in the order in which they go, until a share of `least` of the bits is left or no more can go.

    context: with samples, on which damages are measured.
    """
    bits, survey, damage = Bits(found, widths), Survey(found), LeastDamage(sums_of(graph, found, context))
    total, order = bits.total, []
    groups = [group for group in found.groups if not group.why_not]
    touched = {id(group): _sums(group, damage) for group in groups}
    next_of: dict[int, tuple[float, int]] = {}
    while bits.total > least * total:
        for group in groups:
            if id(group) not in next_of:
                next_of[id(group)] = _cheapest(group, survey, damage, bits)
        price, channel = min(next_of.values(), default=(math.inf, -1))
        if price == math.inf:
            break
        changed = {id(sums) for sums in damage.readers.get(channel, ())}
        survey.take(channel)
        damage.remove(channel)
        bits.remove(channel)
        order.append(Removal(channel, bits.total / total))
        own = {id(group) for group in groups if channel in group.channels or touched[id(group)] & changed}
        next_of = {key: found for key, found in next_of.items() if key not in own}
    return order


def _cheapest(group: ChannelGroup, survey: Survey, damage: LeastDamage, bits: Bits) -> tuple[float, int]:
    """The least damage a bit of the group's channels, and whose it is; infinite if none can go or saves anything."""
    candidates = [channel for channel in group.channels if survey.can_go(channel)]
    if not candidates:
        return math.inf, -1
    costs = damage.costs(candidates)
    best = int(np.argmin(costs))
    saved = bits.saved(candidates[best])
    return (float(costs[best]) / saved if saved else math.inf), candidates[best]


def _sums(group: ChannelGroup, damage: LeastDamage) -> set[int]:
    return {id(sums) for channel in group.channels for sums in damage.readers.get(channel, ())}


def channels_left(graph: Graph, small: Graph) -> Mapping[str, tuple[int, int]]:
    """For every layer that lost output channels, how many it has left, and had."""
    from bitwright.passes.channels import layers

    def counts(of: Graph) -> dict[str, int]:
        return {node.name: (node.operand(1).tensor_type.static_shape or (0,))[0] for node in layers(of)}

    before = counts(graph)
    return {name: (left, before[name]) for name, left in counts(small).items() if left < before[name]}
