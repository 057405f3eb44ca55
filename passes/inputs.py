"""float-inputs: an input of small integers that the network casts to float32 comes as float32.

The same numbers go in, and float32 has them all. The outside gives another element type then, so that this is for
networks that are compiled, not for models that stay ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.onnx.lower import lower
from bitwright.ir.types import F32, Type
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import bypass

TO_FLOAT = 1  # onnx.TensorProto.FLOAT
INTEGERS = ("u8", "i8", "u16", "i16")
MOVES = ("onnx.Transpose", "onnx.Identity", "onnx.Reshape", "onnx.Flatten", "onnx.Squeeze", "onnx.Unsqueeze")


@dataclass(frozen=True)
class FloatInputs(Pass):
    """Casts of an input to float32 go, with nothing but moves of numbers before them; ops are lowered anew.

    - input %x : u8[N,3,8,8]
    - %image = onnx.Cast(%x) {to=1} : f32[N,3,8,8]
    + input %x : f32[N,3,8,8]
    """

    name: ClassVar[str] = "float-inputs"

    def run(self, graph: Graph, context: Context) -> bool:
        found = [value for value in graph.inputs if value.tensor is None and _dtype(value) in INTEGERS]
        changed = False
        for value in found:
            values, casts = [value], list[Node]()
            if not _follow(graph, value, values, casts):
                continue
            name, dtype = graph.input_name(value), _dtype(value)
            context.notes.append(f"input {name} of {dtype} is taken as float32; --data says how far its numbers go")
            for moved in values:
                edit.set_type(moved, moved.tensor_type.with_format(F32))
            for cast in casts:
                bypass(graph, cast)
            changed = True
        if changed:
            lower(graph)
        return changed


def _dtype(value: Value) -> str:
    return str(value.type.format) if isinstance(value.type, Type) else ""


def _follow(graph: Graph, value: Value, values: list[Value], casts: list[Node]) -> bool:
    """Whether every way from an integer value leads through moves to a cast to float32; both are gathered."""
    if not value.uses or graph.is_output(value):
        return False
    for node, index in value.uses:
        if node.graph is not graph or index or len(node.results) != 1:
            return False
        if node.op == "onnx.Cast" and node.attributes.get("to") == TO_FLOAT:
            casts.append(node)
        elif node.op in MOVES and isinstance(node.result.type, Type):
            values.append(node.result)
            if not _follow(graph, node.result, values, casts):
                return False
        else:
            return False
    return True
