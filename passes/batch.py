"""open-batch: a network that was exported for one sample takes any number of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node
from bitwright.ir.ops import integers
from bitwright.ir.types import Type
from bitwright.passes.base import Context, Pass


@dataclass(frozen=True)
class OpenBatch(Pass):
    """A reshape that writes the number of samples out copies it instead, so that another number fits, too.

    - %flat = reshape(%pool) {shape=[1,256]} : f32[1,256]
    + %flat = reshape(%pool) {shape=[0,256]} : f32[1,256]
    """

    name: ClassVar[str] = "open-batch"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in graph.nodes:
            if node.op == "reshape" and _writes_batch(node):
                edit.set_attribute(node, "shape", (0, *integers(node, "shape")[1:]))
                changed = True
        return changed


def _writes_batch(node: Node) -> bool:
    """Whether the first dimension is the operand's, as a number."""
    type, target = node.operand(0).type, integers(node, "shape")
    shape = type.shape if isinstance(type, Type) else None
    return bool(shape and target) and target[0] != 0 and shape is not None and shape[0] == target[0]
