"""prune-channels: whole channels of a network go, everywhere they are written, kept and read; the rest is as it was.

channels.py says what a channel is. What is left is an ordinary, smaller graph: no masks, no zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node
from bitwright.ir.ops import integer, integers
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import Type
from bitwright.passes.accumulators import derive
from bitwright.passes.base import Context, Pass, Reference, Span
from bitwright.passes.channels import Channels, Side, find_channels, layers
from bitwright.passes.damage import LeastDamage, sums_of
from bitwright.passes.take import take
from bitwright.passes.wiring import Grouped

By: TypeAlias = Literal["frobenius", "hessian", "last", "random"]


class Choice(Protocol):
    """Which channels go."""

    def next(self, candidates: Sequence[int]) -> int:
        """Which of these goes next."""

    def remove(self, channel: int) -> None:
        """Know that a channel is gone."""


@dataclass(frozen=True)
class ByRank:
    """The lowest rank goes first, of equals the last; a channel without has rank 0."""

    rank: Mapping[int, float]

    def next(self, candidates: Sequence[int]) -> int:
        return min(reversed(candidates), key=lambda channel: self.rank.get(channel, 0.0))

    def remove(self, channel: int) -> None:
        """Ranks stay."""


@dataclass(frozen=True)
class PruneChannels(Pass):
    """A share of a layer's output channels (or input channels) goes, from every layer that writes or reads them.

    `layer` names a conv2d or dense; without it every layer that can be pruned is, each to this sparsity. `by` says
    which go: those whose filters have the least sum of squares, those that the layers that read them miss least
    (damage.py; measured on samples), the last ones, or any. One channel at least stays. Of a grouped convolution
    `groups` go as a whole, or the same channels inside each of them.

    - weight %conv1.w = 4b556bef : f32[8,1,5,5]
    - %conv1 = conv2d(%x, %conv1.w) {kernel=[5,5]} : f32[N,8,24,24]
    - %conv2 = conv2d(%conv1, %conv2.w) {kernel=[5,5]} : f32[N,16,20,20]
    + weight %conv1.w = 91c7b353 : f32[2,1,5,5]
    + %conv1 = conv2d(%x, %conv1.w) {kernel=[5,5]} : f32[N,2,24,24]
    + %conv2 = conv2d(%conv1, %conv2.w) {kernel=[5,5]} : f32[N,16,20,20]
    """

    name: ClassVar[str] = "prune-channels"
    sparsity: Annotated[float, Span(0, 1)]
    layer: str = ""
    by: By = "frobenius"
    side: Side = "output"
    groups: Grouped = "whole"

    def run(self, graph: Graph, context: Context) -> bool:
        found = find_channels(graph, self.groups)
        survey = Survey(found)
        choice = self.choice(graph, found, context)
        nodes = self.pruned_layers(graph, found)
        for node in nodes:
            channels = list(dict.fromkeys(found.at(node, self.side)))
            wanted = min(int(self.sparsity * len(channels) + 1e-9), len(channels) - 1)
            gone = survey.remove(channels, wanted, choice)
            if self.layer and gone < wanted:
                context.notes.append(f"{self}: only {gone} of {len(channels)} channels can go, not {wanted}")
        if survey.removed:
            remove_channels(graph, found, survey.removed, context)
        return bool(survey.removed)

    def choice(self, graph: Graph, found: Channels, context: Context) -> Choice:
        """How channels are chosen. Raises CompileError if that needs samples and there are none."""
        if self.by == "last":
            return ByRank({})
        if self.by == "random":
            channels = [channel for group in found.groups for channel in group.channels]
            ranks = np.random.default_rng(context.seed).permutation(len(channels))
            return ByRank(dict(zip(channels, ranks.tolist(), strict=True)))
        if self.by == "frobenius":
            return ByRank(_squares(found))
        if context.samples is None:
            raise CompileError(f"{self} measures on samples, and there are none", help="give --data")
        return LeastDamage(sums_of(graph, found, context))

    def pruned_layers(self, graph: Graph, found: Channels) -> list[Node]:
        """The layers to prune. Raises CompileError if the named one is not there or has no channels that can go."""
        named = {node.name: node for node in layers(graph)}
        refusals = {name: found.refusal(node, self.side) for name, node in named.items()}
        free = [name for name, refusal in refusals.items() if not refusal]
        if not self.layer:
            return [named[name] for name in free]
        if self.layer not in named:
            there = ", ".join(named) or "none"
            raise CompileError(f"no layer is named {self.layer!r}", help=f"the layers are {there}")
        if refusals[self.layer]:
            message = f"the {self.side} channels of {self.layer} cannot go: {refusals[self.layer]}"
            raise CompileError(message, help=f"those of these layers can: {', '.join(free) or 'none'}")
        return [named[self.layer]]


class Survey:
    """Which channels went, and how many every axis has left: one at least."""

    def __init__(self, found: Channels) -> None:
        self.found = found
        self.removed: set[int] = set()
        self.left: list[int] = []
        self.axes_of: dict[int, list[int]] = {}
        distinct = {wires.tobytes(): wires for axes in found.axes.values() for wires in axes if len(wires)}
        for index, wires in enumerate(distinct.values()):
            channels = np.unique(wires).tolist()
            self.left.append(len(channels))
            for channel in channels:
                self.axes_of.setdefault(channel, []).append(index)

    def remove(self, channels: Sequence[int], wanted: int, choice: Choice) -> int:
        """Remove chosen ones of these channels until `wanted` of them are gone or no more can go; how many are."""
        gone = sum(channel in self.removed for channel in channels)
        candidates = [channel for channel in channels if self.can_go(channel)]
        while gone < wanted and candidates:
            channel = choice.next(candidates)
            candidates.remove(channel)
            if self.can_go(channel):
                self.take(channel)
                choice.remove(channel)
                gone += 1
        return gone

    def take(self, channel: int) -> None:
        """Count a channel as gone."""
        self.removed.add(channel)
        for axis in self.axes_of[channel]:
            self.left[axis] -= 1

    def can_go(self, channel: int) -> bool:
        """Whether it is there, nothing holds it, and no axis would be left without channels."""
        stays = channel in self.removed or channel in self.found.why_not
        return not stays and all(self.left[axis] > 1 for axis in self.axes_of[channel])


def remove_channels(graph: Graph, found: Channels, removed: Collection[int], context: Context) -> None:
    """Take channels, by their numbers, out of a graph; the context gets the reference that refit asks for."""
    before = context.reference or Reference(edit.copy(graph))
    context.reference = before.without(_rows_left(graph, found, removed))
    _narrow(graph, found, removed)


def _squares(found: Channels) -> dict[int, float]:
    """For every channel the sum of squares of its rows, over all layers that write it."""
    squares: dict[int, float] = {}
    for group in found.groups:
        for port in group.producers:
            tensor = port.node.operand(1).tensor
            assert tensor is not None, f"%{port.node.name} is no layer"
            rows = np.square(tensor.data.astype(np.float64)).reshape(tensor.shape[0], -1).sum(1)
            for channel, own in zip(group.channels, port.channels, strict=True):
                squares[channel] = squares.get(channel, 0.0) + float(rows[list(own)].sum())
    return squares


def _rows_left(graph: Graph, found: Channels, removed: Collection[int]) -> dict[str, NDArray[np.int64]]:
    """The output channels that each layer keeps, of those that lose some, by the layer's name."""
    gone = list(removed)
    kept = {node.name: np.flatnonzero(~np.isin(found.at(node, "output"), gone)) for node in layers(graph)}
    sizes = {node.name: len(found.at(node, "output")) for node in layers(graph)}
    return {name: rows for name, rows in kept.items() if len(rows) < sizes[name]}


def _narrow(graph: Graph, found: Channels, removed: Collection[int]) -> None:
    """Take channels out of every tensor, type and attribute."""
    gone = np.zeros(1 + max(int(channels.max(initial=0)) for axes in found.axes.values() for channels in axes), bool)
    gone[list(removed)] = True
    changed: set[int] = set()
    for value in graph.values.values():
        for axis, channels in enumerate(found.of(value)):
            kept = np.flatnonzero(~gone[channels])
            if len(kept) < len(channels):
                take(value, axis, kept)
                changed.add(id(value))
    for node in list(graph.nodes):
        if any(id(value) in changed for value in (*node.operands, *node.results)):
            _refit(graph, node)


def _refit(graph: Graph, node: Node) -> None:
    """Make a node's attributes say what its operands' and results' new shapes are."""
    shapes = [result.type.shape if isinstance(result.type, Type) else None for result in node.results]
    if node.op == "conv2d" and integer(node, "groups") > 1:
        inputs, columns = (node.operand(index).tensor_type.shape for index in (0, 1))
        if inputs and columns and isinstance(inputs[1], int) and isinstance(columns[1], int):
            edit.set_attribute(node, "groups", inputs[1] // columns[1])
    elif node.op == "reshape" and shapes[0] is not None:
        pairs = zip(integers(node, "shape"), shapes[0], strict=True)
        edit.set_attribute(
            node, "shape", tuple(dim if given > 0 and isinstance(dim, int) else given for given, dim in pairs)
        )
    elif node.op == "onnx.Split":
        axis = node.attributes.get("axis", 0)
        assert isinstance(axis, int)
        _refit_split(graph, node, [dim for shape in shapes if shape and isinstance(dim := shape[axis], int)])
    if node.attributes.get("acc"):
        derive(node)


def _refit_split(graph: Graph, node: Node, sizes: Sequence[int]) -> None:
    """The sizes of a split's parts: an operand from opset 13 on, an attribute before."""
    if graph.opsets.get("", 13) < 13:
        edit.set_attribute(node, "split", tuple(sizes))
        return
    edit.set_attribute(node, "num_outputs", None)
    tensor = Tensor(np.array(sizes, np.int64))
    if node.optional(1) is None:
        made = edit.add_weight(graph, edit.unique_name(graph, node.name + ".split"), tensor)
        edit.set_operands(node, [node.operand(0), made])
    else:
        edit.give_weight(node, 1, tensor, node.name + ".split")
