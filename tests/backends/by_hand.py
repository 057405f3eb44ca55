"""Small graphs written out line by line."""

from __future__ import annotations

from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.verify import verify


def network(*lines: str, x: str = "FIXED<8>[N,2,6,6]", out: str = "y") -> Graph:
    """A graph from its lines; conv.w, conv.b and fc.w are there to be used."""
    text = f"""graph @net {{
      opset ai.onnx=17
      input %x : {x}
      weight %conv.w = 000000c1 : FIXED<6>[4,2,3,3]
      weight %conv.b = [0.5,-0.5,0.25,0.0] : f32[4]
      weight %fc.w = 000000c2 : FIXED<6>[5,64]
      {" ".join(line + chr(10) for line in lines)}
      output %{out}
    }}"""
    graph = parse(text)
    verify(graph)
    return graph


CONV = "%conv = conv2d(%x, %conv.w, %conv.b) {act=relu, kernel=[3,3]} : FIXED<8>[N,4,4,4]"

BIG = """graph @big {
  input %x : FIXED<8>[N,4,12,12]
  weight %conv.w = 000000b1 : FIXED<8>[32,4,3,3]
  weight %fc.w = 000000b2 : FIXED<8>[200,3200]
  %conv = conv2d(%x, %conv.w) {act=relu, kernel=[3,3]} : FIXED<8>[N,32,10,10]
  %flat = flatten(%conv) : FIXED<8>[N,3200]
  %fc = dense(%flat, %fc.w) : FIXED<8>[N,200]
  output %fc as "y"
}"""
