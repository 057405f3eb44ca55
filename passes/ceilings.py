"""explicit-pads: pooling that rounds its size up is pooling of a line that is padded as far as the last window reaches.

    after' = (count - 1) stride + reach - size - before,        count windows, each reaching over `reach` places

The padding counts for nothing, neither in a maximum nor in a mean without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node
from bitwright.ir.ops import integer, integers, window_extent
from bitwright.ir.types import Type
from bitwright.passes.base import Context, Pass

POOLS = ("maxpool2d", "avgpool2d")


@dataclass(frozen=True)
class ExplicitPads(Pass):
    """maxpool2d and avgpool2d of images of fixed size lose `ceil`, and get the padding that it stands for.

    - %pool = maxpool2d(%x) {ceil=1, kernel=[3,3], strides=[2,2]} : f32[N,8,4,4]
    + %pool = maxpool2d(%x) {kernel=[3,3], pads=[0,0,1,1], strides=[2,2]} : f32[N,8,4,4]
    """

    name: ClassVar[str] = "explicit-pads"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in graph.nodes:
            if node.op in POOLS and integer(node, "ceil") and not node.attributes.get("count_pads"):
                changed |= _pad(node)
        return changed


def _pad(node: Node) -> bool:
    given = node.operand(0).type
    shape = given.shape if isinstance(given, Type) else None
    pads = list(integers(node, "pads"))
    for axis in (0, 1):
        size = None if shape is None else shape[2 + axis]
        if not isinstance(size, int):
            return False
        kernel, stride, dilation = (integers(node, name)[axis] for name in ("kernel", "strides", "dilations"))
        before, after = pads[axis], pads[2 + axis]
        count = window_extent(size, kernel, stride, before, after, dilation, True)
        assert isinstance(count, int)
        pads[2 + axis] = max(0, (count - 1) * stride + dilation * (kernel - 1) + 1 - size - before)
        if window_extent(size, kernel, stride, before, pads[2 + axis], dilation, False) != count:
            return False
    edit.set_attribute(node, "pads", tuple(pads) if any(pads) else None)
    edit.set_attribute(node, "ceil", None)
    return True
