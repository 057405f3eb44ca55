"""merge-reshapes: of reshapes in a row only the last one counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node
from bitwright.ir.types import Shape, Type
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import is_plain, producer


@dataclass(frozen=True)
class MergeReshapes(Pass):
    """A reshape or flatten of what another one gives reads what that one reads.

    - %a = reshape(%x) {shape=[0,0,1]} : f32[N,8,1]
    - %b = reshape(%a) {shape=[0,0,1,1]} : f32[N,8,1,1]
    + %b = reshape(%x) {shape=[0,0,1,1]} : f32[N,8,1,1]
    """

    name: ClassVar[str] = "merge-reshapes"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in list(graph.nodes):
            while node.op in ("reshape", "flatten") and _merge(graph, node):
                changed = True
        return changed


def _merge(graph: Graph, node: Node) -> bool:
    inner = producer(node.operand(0), "reshape", "flatten")
    if inner is None or inner.graph is not graph or not is_plain(inner.result):
        return False
    target = _target(inner.operand(0).type, node.result.type)
    if target is None:
        return False
    edit.set_operands(node, [inner.operand(0)])
    edit.set_op(node, "reshape", {"shape": target})
    if not inner.result.uses and not graph.is_output(inner.result):
        edit.erase_node(inner)
    return True


def _target(source: object, result: object) -> tuple[int, ...] | None:
    """The shape of a reshape between two types: 0 where a dimension stays, -1 for one that has no number."""
    if not isinstance(source, Type) or not isinstance(result, Type) or source.shape is None or result.shape is None:
        return None
    before: Shape = source.shape
    target = tuple(
        0 if place < len(before) and dim is not None and before[place] == dim else dim if isinstance(dim, int) else -1
        for place, dim in enumerate(result.shape)
    )
    return target if target.count(-1) < 2 else None
