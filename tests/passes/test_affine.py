"""recognise-affine: what stays as it is."""

from __future__ import annotations

import pytest

from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.passes import run_passes


def after(lines: str) -> Graph:
    text = f"graph @g {{ opset ai.onnx=13 input %x : f32[N,2] {lines} output %y }}"
    return run_passes(parse(text), "recognise-affine")


@pytest.mark.parametrize(
    "lines",
    [
        "weight %c = [0.0,2.0] : f32[2] %y = onnx.Div(%x, %c) : f32[N,2]",
        "weight %c = [1.0e-39,2.0] : f32[2] %y = onnx.Div(%x, %c) : f32[N,2]",
        "input %c = [1.0,2.0] : f32[2] %y = onnx.Div(%x, %c) : f32[N,2]",
        "input %c = [1.0,2.0] : f32[2] %y = onnx.Sub(%x, %c) : f32[N,2]",
        "weight %c = [1.0,2.0] : FIXED<4,B=2>[2] %y = onnx.Sub(%x, %c) : f32[N,2]",
    ],
)
def test_what_has_no_finite_inverse_or_may_change_or_has_a_format_stays(lines: str) -> None:
    assert [node.op[:5] for node in after(lines).nodes] == ["onnx."]


def test_the_same_lines_with_other_numbers_change() -> None:
    (node,) = after("weight %c = [-4.0,2.0] : f32[2] %y = onnx.Div(%x, %c) : f32[N,2]").nodes
    assert node.op == "mul"
    tensor = node.operand(1).tensor
    assert tensor is not None
    assert tensor.data.tolist() == [-0.25, 0.5]
