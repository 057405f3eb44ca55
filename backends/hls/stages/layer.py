"""What a layer with weights has before its arithmetic is chosen: which rows, on which frame, between which formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.stages.flow import Flow
from bitwright.backends.hls.stages.kinds import Bounds
from bitwright.backends.hls.stages.numbers import Number, Scaled, as_integers, largest, takes_sign
from bitwright.backends.hls.stages.scan import Scan
from bitwright.ir.graph import Node
from bitwright.ir.ops import real, string
from bitwright.ir.text import node_text

RELU, OPEN = (0.0, float("inf")), (-float("inf"), float("inf"))


@dataclass(frozen=True)
class Layer:
    """rows: where the outputs stand in a frame, [C,H,W] or [K]; scan, positions, groups: as a SumStage has them."""

    node: Node
    x: Flow
    entering: Number
    leaving: Number
    frame: tuple[int, ...]
    scan: Scan | None
    positions: int
    groups: int


class Common(TypedDict):
    """The fields that every SumStage of a layer has."""

    name: str
    line: str
    format: Number
    layout: tuple[int, ...]
    reads: tuple[str, ...]
    in_format: Number
    positions: int
    scan: Scan | None
    groups: int


def common(layer: Layer) -> Common:
    """The fields of its stage that do not depend on the arithmetic."""
    return {
        "name": layer.node.name,
        "line": node_text(layer.node),
        "format": layer.leaving,
        "layout": layer.frame,
        "reads": (layer.x.stream,),
        "in_format": layer.entering,
        "positions": layer.positions,
        "scan": layer.scan,
        "groups": layer.groups,
    }


def clip_of(node: Node) -> tuple[float, float]:
    """The real bounds of what is fused into a sum, or of a relu or clip on its own; infinite where open."""
    act = string(node, "act") if node.op in ("conv2d", "dense") else node.op
    if act == "relu":
        return RELU
    if act == "clip":
        low, high = ("act_min", "act_max") if node.op in ("conv2d", "dense") else ("min", "max")
        return min(real(node, low), real(node, high)), real(node, high)
    return OPEN


def bounds_of(clip: tuple[float, float], number: Number) -> Bounds:
    """Real bounds as the integers that flow; None where the format ends before."""
    if clip == RELU and not takes_sign(number):
        return 0, None
    if clip == OPEN:
        return None, None
    least = number.low if isinstance(number, Scaled) else -largest(number) if number.n_s else 0
    low, high = (int(end) for end in as_integers(number, np.clip(np.array(clip), -1e30, 1e30)))
    most = number.high if isinstance(number, Scaled) else largest(number)
    return None if low <= least else low, None if high >= most else high


def bias_of(node: Node, outputs: int) -> NDArray[np.float64]:
    """The real bias of a conv2d or dense, in its format if it has one; zeros where there is none."""
    value = node.optional(2) if node.op in ("conv2d", "dense") else None
    if value is None or value.tensor is None:
        return np.zeros(outputs)
    number = value.tensor_type.number
    data = value.tensor.data if number is None else number.quantize(value.tensor.data, "%" + value.name)
    return np.asarray(data.astype(np.float64))
