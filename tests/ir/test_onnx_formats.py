"""Formats that were chosen are in the metadata of a model, and come back from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnx_models import graph_of, model

from bitwright.ir import edit
from bitwright.ir.files import load, save
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text

Check = Callable[[Graph], None]


def test_chosen_formats_come_back_from_a_model(tmp_path: Path, check: Check) -> None:
    text = """graph @net {
  opset ai.onnx=13
  meta "author" = "me"
  input %x as "image:0" : FIXED<8,B=1>[1,2,8,8]
  weight %w = 00000001 : EXP<4,B={1,2,3}@0>[3,2,3,3]
  weight %b = [1.0,2.0,3.0] : FIXED<16>[3]
  weight %d = 00000002 : AFFINE<4,scale=0.5,zero=1.5,signed>[5,48]
  %conv1 = conv2d(%x, %w, %b) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<4,B=-1>[1,3,8,8]
  %pool1 = maxpool2d(%conv1) {kernel=[2,2], strides=[2,2]} : FIXED<4,B=-1>[1,3,4,4]
  %flat = flatten(%pool1) : FIXED<4,B=-1>[1,48]
  %y = dense(%flat, %d) : FLOAT<16>[1,5]
  output %y as "score"
}
"""
    graph = parse(text)
    save(graph, tmp_path / "net.onnx")
    again = load(tmp_path / "net.onnx")
    check(again)
    made = onnx.load(tmp_path / "net.onnx")
    assert {entry.key for entry in made.metadata_props} == {"author"} | {
        "bitwright.format." + name for name in ("image:0", "w", "b", "d", "conv1", "pool1", "flat", "score")
    }
    edit.rename(again, again.inputs[0], "x")
    edit.rename(again, again.outputs[0].value, "y")
    for name in ("w", "d"):  # made-up data have the hash that the text gives; read ones have their own
        assert again.values[name].tensor is not None
        assert graph.values[name].tensor is not None
        assert np.array_equal(again.values[name].tensor.data, graph.values[name].tensor.data)  # type: ignore[union-attr]
        edit.set_tensor(again.values[name], graph.values[name].tensor)  # type: ignore[arg-type]
    assert to_text(again) == text


def test_formats_follow_the_name_that_a_value_has_in_the_model() -> None:
    graph = graph_of('input %y as "a" : FIXED<8,B=1>[2]', "%a = relu(%y) : FIXED<8,B=2>[2]", 'output %a as "y"')
    again = from_model(to_model(graph))
    assert str(again.inputs[0].type) == "FIXED<8,B=1>[2]"
    assert str(again.outputs[0].value.type) == "FIXED<8,B=2>[2]"
    made = model("float[2] x", "y = Relu (x)")
    helper.set_model_props(made, {"bitwright.format.nobody": "FIXED 8", "bitwright.format.y": "FIXED 8 2"})
    graph = from_model(made)
    assert graph.metadata == {"bitwright.format.nobody": "FIXED 8"}
    assert str(graph.values["y"].type) == "FIXED<8,B=2>[2]"
