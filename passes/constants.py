"""fold-constants and remove-dead: what is known now, and what nobody reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import node_results
from bitwright.ir.graph import Graph, Node
from bitwright.ir.onnx.lower import lower
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import Type
from bitwright.passes.base import Context, Pass, Span

RANDOM = (
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Nodes that read only weights become weights; so do shapes that are known. Results above `limit` elements stay.

    Ops whose operands became known (the shape of a reshape, say) are lowered to the hardware set.

    - %s = onnx.Shape(%x) : i64[2]
    - %t = onnx.Gather(%s, %zero) : i64[]
    + weight %t = [4] : i64[]
    """

    name: ClassVar[str] = "fold-constants"
    limit: Annotated[int, Span(1, 2**31)] = 2**24

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in list(graph.nodes):
            tensors = self.fold(node)
            if tensors is not None:
                edit.freeze_results(node, tensors)
                changed = True
        if changed:
            lower(graph)
        return edit.erase_unread_weights(graph) or changed

    def fold(self, node: Node) -> list[Tensor] | None:
        """The node's results as data, or None if they are not known, random, too large or not evaluated."""
        if node.op == "onnx.Shape":
            return _known_shape(node)
        if not node.operands or any(v is None or v.tensor is None or v in node.graph.inputs for v in node.operands):
            return None
        if node.op.removeprefix("onnx.") in RANDOM or any(True for _ in node.subgraphs()):
            return None
        if any(isinstance(v.type, Type) and not v.type.is_native for v in (*node.results, *node.operands) if v):
            return None
        try:
            with np.errstate(all="ignore"):
                arrays = node_results(node, [v.tensor.data for v in node.operands if v is not None and v.tensor])
        except (CompileError, RuntimeError, TypeError, ValueError):
            return None
        if not all(isinstance(array, np.ndarray | np.generic) and array.size <= self.limit for array in arrays):
            return None
        return [Tensor(np.asarray(array)) for array in arrays]


def _known_shape(node: Node) -> list[Tensor] | None:
    type = node.operand(0).type
    shape = type.static_shape if isinstance(type, Type) else None
    if shape is None:
        return None
    start, end = node.attributes.get("start", 0), node.attributes.get("end", len(shape))
    assert isinstance(start, int)
    assert isinstance(end, int)
    return [Tensor(np.array(shape[start:end], np.int64))]


@dataclass(frozen=True)
class RemoveDead(Pass):
    """Remove nodes and weights that no output needs.

    - %unread = relu(%x) : f32[1,8]
    """

    name: ClassVar[str] = "remove-dead"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        shown = {id(output.value) for inner in graph.walk() for output in inner.outputs}
        for node in reversed(list(graph.nodes)):
            if not any(result.uses or id(result) in shown for result in node.results):
                edit.erase_node(node)
                changed = True
        return edit.erase_unread_weights(graph) or changed
