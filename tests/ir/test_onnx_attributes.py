"""Attributes, types and element types go from a model into a graph and back."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bitwright.ir import edit
from bitwright.ir.formats import fixed
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.dtypes import element_of, read_type, write_type
from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.parse import parse, parse_type
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import to_text
from bitwright.ir.types import DTYPES, UNKNOWN, Type


def test_attributes_of_every_kind_go_in_and_out() -> None:
    node = helper.make_node("Foo", ["x"], ["y"], domain="custom")
    tensor = numpy_helper.from_array(np.arange(40.0), "")
    inner = helper.make_graph([], "inner", [], [])
    kind = helper.make_tensor_type_proto(1, ["N", 2])
    for name, value in {
        "f": 0.5,
        "whole": 2.0,
        "i": 3,
        "s": "text",
        "bytes": b"\xff\x00",
        "floats": [0.5, 2.0],
        "ints": [1, 2],
        "strings": ["a", "b"],
        "t": tensor,
        "tensors": [tensor, tensor],
        "g": inner,
        "type": kind,
        "types": [kind, helper.make_sequence_type_proto(kind)],
    }.items():
        node.attribute.append(helper.make_attribute(name, value))
    for name, type in (("no_ints", 7), ("no_floats", 6), ("no_strings", 8)):
        node.attribute.append(onnx.AttributeProto(name=name, type=type))
    info = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph([node], "g", [info("x", 1, [2])], [info("y", 1, None)]),
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("custom", 1)],
        ir_version=8,
    )
    graph = from_model(made)
    again = parse(to_text(graph), {"x": np.zeros(1)} | {t.key: t.data for t in [Tensor(np.arange(40.0))]})
    for one in (graph, again):
        found = to_model(one).graph.node[0].attribute
        wanted = {attribute.name: attribute for attribute in node.attribute}
        assert {attribute.name: attribute for attribute in found} == wanted


@pytest.mark.parametrize(
    "text",
    [
        *(f"{name}[2,N]" for name in DTYPES),
        "f32[*]",
        "f32[]",
        'f32[?,0,"a b",batch]',
        "seq<f32[*]>",
        "optional<seq<str[N]>>",
        "seq<map<i64[],f32[2]>>",
        "map<str[],seq<i8[]>>",
        "sparse<f64[3,4]>",
        "optional<?>",
    ],
)
def test_types_go_in_and_out(text: str) -> None:
    proto = write_type(parse_type(text))
    assert proto is not None
    assert str(read_type(proto)) == text


def test_types_that_onnx_leaves_open() -> None:
    assert write_type(UNKNOWN) is None
    assert read_type(onnx.TypeProto()) == UNKNOWN
    assert read_type(helper.make_tensor_type_proto(99, [1])) == UNKNOWN
    assert str(read_type(helper.make_tensor_type_proto(1, [None, "", 3]))) == "f32[?,?,3]"
    assert element_of(Type(fixed(8), (2,))) == onnx.TensorProto.FLOAT
    assert str(read_type(write_type(Type(fixed(8), (2,))) or onnx.TypeProto())) == "f32[2]"


def test_ml_dtypes_go_through_a_model() -> None:
    for name, dtype in DTYPES.items():
        if name in ("str", "i2", "u2", "f8e8m0"):
            continue
        graph = Graph("g", {"": 23})
        array = np.array([1, 0, 1], dtype)
        edit.add_output(graph, edit.add_weight(graph, "w", Tensor(array)))
        tensor = from_model(to_model(graph)).weights[0].tensor
        assert tensor is not None
        assert tensor.dtype == dtype
        assert tensor.data.tobytes() == array.tobytes(), name
    assert ml_dtypes.bfloat16 in {dtype.type for dtype in DTYPES.values()}
