"""Raising a model's operator set version, where that changes no op's meaning."""

from __future__ import annotations

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph

DEFAULT = 17

# The operator sets in which ops took another form (attributes, operands or meaning), from 8 to 21.
REFORMED = {
    "BatchNormalization": (9, 14),
    "Clip": (11,),
    "Dropout": (12,),
    "GroupNormalization": (21,),
    "Hardmax": (13,),
    "LogSoftmax": (13,),
    "Pad": (11,),
    "ReduceSum": (13,),
    "Resize": (11,),
    "Scan": (9,),
    "Slice": (10,),
    "Softmax": (13,),
    "Split": (13, 18),
    "Squeeze": (13,),
    "TopK": (10, 11),
    "Unsqueeze": (13,),
    "Upsample": (9, 10),
}
REDUCTIONS = 18  # ReduceMax and its kind take their axes as an operand from here on


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
            changes = (REDUCTIONS,) if name.startswith("Reduce") and name not in REFORMED else REFORMED.get(name, ())
            if any(own < change <= least for change in changes):
                raise CompileError(
                    f"%{node.name}: {name} of operator set {own} has another form in {least}",
                    help="convert the model first, with onnx.version_converter.convert_version",
                )
    return least
