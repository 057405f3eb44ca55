"""Graphs of a few lines of text."""

from __future__ import annotations

from bitwright.ir import edit
from bitwright.ir.graph import Graph
from bitwright.ir.ops import result_shape
from bitwright.ir.parse import parse
from bitwright.ir.verify import verify


def graph_of(*lines: str) -> Graph:
    """The graph of these lines; results of type `f32[*]` take the shape that their op gives."""
    graph = parse("graph @test {\n" + "\n".join(lines) + "\n}")
    for node in graph.nodes:
        type = node.result.tensor_type
        if type.shape is None:
            edit.set_type(node.result, type.with_shape(result_shape(node)))
    verify(graph)
    return graph


def graph(*lines: str, name: str = "g") -> str:
    """The text of the graph of these lines, as it is printed."""
    return "\n".join([f"graph @{name} {{", *("  " + line for line in lines), "}", ""])
