"""The graphs that are edited, and what became of them."""

from __future__ import annotations

from bitwright.ir.graph import Graph, Node
from bitwright.ir.text import to_text
from bitwright.ir.types import F32, Type

VECTOR = Type(F32, (2,))
NET = """graph @net {
  input %x as "image" : f32[2]
  weight %w = [1.0,2.0] : f32[2]
  weight %v = [3.0,4.0] : f32[2]
  %a = add(%x, %w) : f32[2]
  %b = mul(%a, %a) : f32[2]
  %y = relu(%b) : f32[2]
  output %y as "score"
}
"""
BRANCHES = """graph @net {
  input %x : f32[2]
  input %c : bool[]
  weight %w = [1.0,2.0] : f32[2]
  weight %k = [5.0,6.0] : f32[2]
  %a = relu(%x) : f32[2]
  %y = onnx.If(%c) {else_branch=graph @else {
    output %k
  }, then_branch=graph @then {
    weight %u = [7.0,8.0] : f32[2]
    %z = add(%a, %w) : f32[2]
    %t = mul(%z, %u) : f32[2]
    output %t
  }} : f32[2]
  output %y
}
"""


def lines(graph: Graph, before: str) -> list[str]:
    """The lines that are not as before: what went with `-`, what came with `+`."""
    old, new = before.split("\n"), to_text(graph).split("\n")
    return ["- " + line.strip() for line in old if line not in new] + [
        "+ " + line.strip() for line in new if line not in old
    ]


def producer(graph: Graph, name: str) -> Node:
    for inner in graph.walk():
        if name in inner.values:
            node = inner.values[name].producer
            assert node is not None
            return node
    raise KeyError(name)
