"""How a value of the graph flows: on which stream, and which frame its elements make there."""

from __future__ import annotations

from dataclasses import dataclass

from bitwright.backends.hls.stages.kinds import Stage
from bitwright.ir.edit import unique_name
from bitwright.ir.graph import Graph, Node

POOLED = ".pool"


@dataclass(frozen=True)
class Flow:
    """stream: who writes it; layout: the frame that flows, [C,H,W] with channels last, or [K]; a flattened image is
    still an image here.
    """

    stream: str
    layout: tuple[int, ...]

    @property
    def channels(self) -> int:
        return self.layout[0]

    @property
    def positions(self) -> int:
        return self.layout[1] * self.layout[2] if len(self.layout) == 3 else 1


@dataclass(frozen=True)
class Made:
    """The stages of a node, and how its result flows."""

    stages: list[Stage]
    flow: Flow


def pool_name(graph: Graph, node: Node) -> str:
    """What the pooling that is fused into a convolution of `graph` is called."""
    return unique_name(graph, node.name + POOLED)


def pair(items: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns)."""
    first, second = items
    return first, second
