"""Raising a model's operator set version, where that changes no op's meaning."""

from __future__ import annotations

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph

DEFAULT = 17

# Ops whose form (attributes, operands or meaning) changed between operator sets 7 and 21.
REFORMED = (
    *("BatchNormalization", "Clip", "Dropout", "GroupNormalization", "Hardmax", "LogSoftmax", "Pad", "ReduceSum"),
    *("Resize", "Slice", "Softmax", "Split", "Squeeze", "TopK", "Unsqueeze", "Upsample"),
)


def raised(graph: Graph, least: int) -> int:
    """The model's operator set, or `least` if it is older and no op stands in the way.

    Raises CompileError naming an op that has another form there. Hardware ops are written anew: none stands in the way.
    """
    own = graph.opsets.get("", DEFAULT)
    if own >= least:
        return own
    for inner in graph.walk():
        for node in inner.nodes:
            name = node.op.removeprefix("onnx.")
            if name in REFORMED or (name.startswith("Reduce") and least >= 18):
                raise CompileError(
                    f"%{node.name}: {name} of operator set {own} may have another form in {least}",
                    help="convert the model first, with onnx.version_converter.convert_version",
                )
    return least
