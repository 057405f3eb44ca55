"""derive-accumulators: the width that each exact sum needs, from the actual weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir import edit
from bitwright.ir.accumulate import accumulator
from bitwright.ir.graph import Graph, Node
from bitwright.passes.base import Context, Pass


@dataclass(frozen=True)
class DeriveAccumulators(Pass):
    """Write the accumulator's bits into every conv2d and dense of exact formats (ir/accumulate.py has the formula).

    - %conv1 = conv2d(%x, %conv1.w) {kernel=[5,5]} : FIXED<8>[1,6,24,24]
    + %conv1 = conv2d(%x, %conv1.w) {acc=19, kernel=[5,5]} : FIXED<8>[1,6,24,24]
    """

    name: ClassVar[str] = "derive-accumulators"

    def run(self, graph: Graph, context: Context) -> bool:
        return any([derive(node) for node in graph.nodes if node.op in ("conv2d", "dense")])


def derive(node: Node) -> bool:
    """Write a conv2d's or dense's accumulator into it; whether it was another."""
    found = accumulator(node)
    bits = None if found is None else found.bits
    changed = node.attributes.get("acc") != bits
    edit.set_attribute(node, "acc", bits)
    return changed
