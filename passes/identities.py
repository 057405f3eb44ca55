"""remove-identities: nodes that give what they get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir.graph import Graph, Node
from bitwright.ir.ops import integers
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import bypass, is_plain


@dataclass(frozen=True)
class RemoveIdentities(Pass):
    """Remove Identity, Dropout without training, and transposes, reshapes, pads and quantises that change nothing.

    - %drop = onnx.Dropout(%conv1) : f32[1,6,24,24]
    - %fc = dense(%drop, %fc.w) : f32[1,10]
    + %fc = dense(%conv1, %fc.w) : f32[1,10]
    """

    name: ClassVar[str] = "remove-identities"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for inner in graph.walk():
            for node in list(inner.nodes):
                if _is_identity(node) and not (inner.parent is not None and inner.is_output(node.results[0])):
                    for mask in node.results[1:]:
                        node.graph.values.pop(mask.name)
                    del node.results[1:]
                    bypass(inner, node)
                    changed = True
        return changed


def _is_identity(node: Node) -> bool:
    if not node.results or not node.operands or node.operands[0] is None:
        return False
    if any(result.uses or node.graph.is_output(result) for result in node.results[1:]):
        return False
    before, after = node.operands[0].type, node.results[0].type
    if not is_plain(node.results[0]) and before != after:  # the result is rounded into its format
        return False
    if node.op == "onnx.Identity":
        return True
    if node.op == "onnx.Dropout":
        return not _is_training(node)
    if node.op == "transpose":
        return list(integers(node, "perm")) == sorted(integers(node, "perm"))
    if node.op == "pad":
        return not any(integers(node, "pads")) and before == after
    return node.op in ("reshape", "flatten", "quantize") and before == after and None not in getattr(after, "shape", ())


def _is_training(node: Node) -> bool:
    """Dropout trains if its third operand is not a constant False (opset 12 on), or is_test is 0 (before opset 7)."""
    mode = node.optional(2)
    if mode is not None:
        return mode.tensor is None or bool(np.any(mode.tensor.data))
    return node.graph.root().opsets.get("", 1) < 7 and node.attributes.get("is_test", 0) == 0
