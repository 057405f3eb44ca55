"""Output channels of a layer change places: the rows that write them, and all that carries or reads them.

channels.py says which indices of which axes are a channel. Places can be changed if every axis that has any of the
layer's channels c0, c1, ... has them all, in this order, each as often as the others:

    c0 c1 c2      c0 c0 c1 c1 c2 c2 (flattened)      c0 c1 c2 c0 c1 c2 (flattened with channels last)

so that no op tells one of them from another. Anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node
from bitwright.passes.channels import Channels
from bitwright.passes.take import Indices, take
from bitwright.passes.wiring import Wires


def why_not(graph: Graph, found: Channels, node: Node) -> str:
    """Why the output channels of a layer cannot change places, or ""."""
    own = np.array(found.at(node, "output"), np.int64)
    held = [found.why_not[channel] for channel in own.tolist() if channel in found.why_not]
    if held:
        return held[0]
    if len(np.unique(own)) < len(own):
        return "some of them are bound to each other, as by the groups of a convolution"
    for value in graph.values.values():
        if any(_repeats(_places(channels, own), len(own)) is None for channels in found.of(value)):
            return f"%{value.name} has only some of them, or in another order"
    return ""


def reorder(graph: Graph, found: Channels, node: Node, order: Sequence[int]) -> None:
    """Bring the output channels of a layer into an order: first what is now channel order[0], and so on.

    Raises CompileError if they cannot change places.
    """
    refusal = why_not(graph, found, node)
    if refusal:
        raise CompileError(
            f"the output channels of {node.name} cannot change places: {refusal}", help="leave the order out"
        )
    own = np.array(found.at(node, "output"), np.int64)
    for value in graph.values.values():
        for axis, channels in enumerate(found.of(value)):
            at = np.flatnonzero(np.isin(channels, own))
            if len(at):
                each = _repeats(_places(channels, own), len(own))
                assert each is not None
                moved = np.arange(len(channels))
                moved[at] = at.reshape(-1, len(own), each)[:, list(order)].reshape(-1)
                take(value, axis, moved)


def _places(channels: Wires, own: Wires) -> Indices:
    """Which of a layer's channels stand along an axis, by their places in the layer."""
    place = {channel: index for index, channel in enumerate(own.tolist())}
    return np.array([place[channel] for channel in channels.tolist() if channel in place], np.int64)


def _repeats(places: Indices, count: int) -> int | None:
    """How often in a row each of `count` channels stands along an axis; None if it is not all of them, in order."""
    if not len(places):
        return 1
    each = int((np.cumsum(places != 0) == 0).sum())
    rounds, rest = divmod(len(places), max(count * each, 1))
    whole = np.tile(np.repeat(np.arange(count), each), rounds)
    return each if each and not rest and np.array_equal(whole, places) else None
