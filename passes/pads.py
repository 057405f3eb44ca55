"""fuse-pads: zeros around an image go into the convolution or the pooling that reads them.

Zeros count in a mean, and where an image is nowhere negative they change no maximum: a window has a place of the image,
since padding is narrower than the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.onnx.lower import lower
from bitwright.ir.ops import integer, integers, real, string
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import is_plain, producer


@dataclass(frozen=True)
class FusePads(Pass):
    """conv2d, avgpool2d and maxpool2d read the image that a pad was put around, and pad it themselves.

    - %padded = pad(%x) {pads=[0,0,1,1,0,0,1,1]} : f32[N,8,14,14]
    - %conv = conv2d(%padded, %w) {kernel=[3,3]} : f32[N,8,12,12]
    + %conv = conv2d(%x, %w) {kernel=[3,3], pads=[1,1,1,1]} : f32[N,8,12,12]
    """

    name: ClassVar[str] = "fuse-pads"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in graph.nodes:
            changed |= node.op in ("conv2d", "avgpool2d", "maxpool2d") and _fuse(node)
        if changed:
            lower(graph)  # a pad by a computed number of places had a result of unknown size
        return changed


def _fuse(node: Node) -> bool:
    pad = producer(node.operand(0), "pad")
    if pad is None or not is_plain(pad.result):
        return False
    around = integers(pad, "pads")
    if len(around) != 8 or min(around) < 0 or any((*around[:2], *around[4:6])):
        return False
    own = integers(node, "pads")
    pads = tuple(a + b for a, b in zip(own, (*around[2:4], *around[6:]), strict=True))
    if node.op != "conv2d" and not _pools_alike(node, pads, pad):
        return False
    if node.op == "conv2d" and real(pad, "value") != 0:
        return False
    if node.op == "avgpool2d":
        edit.set_attribute(node, "count_pads", 1)
    edit.set_operands(node, [pad.operand(0), *node.operands[1:]])
    edit.set_attribute(node, "pads", pads)
    return True


def _pools_alike(node: Node, pads: tuple[int, ...], pad: Node) -> bool:
    """Whether a pooling takes these pads for what `pad` puts around the image."""
    kernel = integers(node, "kernel")
    if integer(node, "ceil") or any(size >= reach for size, reach in zip(pads, kernel * 2, strict=True)):
        return False
    value = real(pad, "value")
    if node.op == "avgpool2d":
        return value == 0 and (integer(node, "count_pads") == 1 or not any(integers(node, "pads")))
    return value == -math.inf or (value == 0 and _is_not_negative(pad.operand(0)))


def _is_not_negative(value: Value) -> bool:
    made = value.producer
    if made is None:
        return False
    if made.op == "maxpool2d":
        return _is_not_negative(made.operand(0))
    clips = made.op == "clip" and real(made, "min") >= 0
    return clips or made.op == "relu" or (made.op in ("conv2d", "dense") and string(made, "act") == "relu")
