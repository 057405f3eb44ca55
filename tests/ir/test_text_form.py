"""The form of the text: what is printed as it was written, and what a person may write otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from graph_text import graph

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, EmptyList, Graph
from bitwright.ir.parse import parse
from bitwright.ir.text import node_text, to_text
from bitwright.ir.types import F32, Type


@pytest.mark.parametrize(
    "lines",
    [
        ["opset ai.onnx=17", "opset com.microsoft=1", 'meta "author" = "A \\"B\\"\\n"'],
        ['input %x as "image:0" : f32[N,1,28,28]', 'output %x as "y"'],
        ["input %x : FIXED<8,B=1>[1,1,28,28]", "output %x"],
        ["weight %a = [1,-2,3] : i64[3]", "weight %b = [1.0,-0.0,inf,nan] : f32[4]", "weight %c = [0,1] : bool[2]"],
        ["weight %big = [0,9223372036854775807,-9223372036854775808] : i64[3]"],
        ["weight %big = [0,18446744073709551615] : u64[2]"],
        ["weight %s = [0.1] : f32[1]", "weight %d = [0.1] : f64[]", "weight %e = [] : f64[0,3]"],
        ["weight %w = 4b556bef : EXP<3,B={1,2,3,4,5,6,7,8}@0>[8,1,5,5]"],
        [
            "#w = [",
            "  0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
            "  16",
            "]",
            "weight %w = 4b556bef : EXP<3,B=#w@-4>[17,1,5,5]",
        ],
        [
            "#x = [",
            "  0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 1e-05",
            "]",
            "#x:zero = [",
            "  1 2 3 4 5 6 7 8 1.5",
            "]",
            "input %x : AFFINE<8,scale=#x@0,zero=#x:zero@0,signed>[9]",
        ],
        [
            "input %a : seq<f32[*]>",
            "input %b : optional<map<i64[],seq<?>>>",
            "input %c : ?",
            'input %d : f32["a b",?,N_1,-1,"\\n"]',
        ],
        [
            "input %x : f32[1,2,8,8]",
            "weight %w = 00000001 : f32[3,2,3,3]",
            "%c = conv2d(%x, %w, _) {act=relu, kernel=[3,3], pads=[1,1,1,1]} : f32[1,3,8,8]",
            "%a, %b = onnx.com.microsoft::Two(%c, _, %x) : f32[*], ?",
            "onnx.None()",
            "onnx.a-b::Last(%a) {k=1}",
            "output %c",
        ],
        [
            "%y = onnx.Foo() {"
            + ", ".join(
                [
                    "a=1",
                    "b=-1.5",
                    "c=word",
                    'd="two words"',
                    'e="graph"',
                    "f=graph_x",
                    "g=[1,2]",
                    "h=ints[]",
                    "i=floats[]",
                    "j=strings[]",
                    "k=[]",
                    'l=b"00ff"',
                    'm=b""',
                    "n=tensor<[1,2] : i64[2]>",
                    "o=tensor<0badcafe : f32[2,9]>",
                    "p=type<seq<f32[2]>>",
                    "q=[inf,-inf,nan,-0.0,1e+16]",
                    'r=[a,"b",""]',
                ]
            )
            + "} : f32[1]"
        ],
        [
            "input %x : f32[1]",
            "input %c : bool[]",
            "%y = onnx.If(%c) {else_branch=graph @else {",
            "  weight %k = [1.0] : f32[1]",
            "  %z = add(%x, %k) : f32[1]",
            "  output %z",
            "}, then_branch=graph @then {",
            "  output %x",
            "}} : f32[1]",
            "output %y",
        ],
    ],
)
def test_text_that_is_printed_as_it_was_written(lines: list[str]) -> None:
    text = graph(*lines)
    assert to_text(parse(text)) == text


def test_what_a_person_may_write_otherwise() -> None:
    text = """
    // a comment
    graph @g{input %x:f32[ 1 , 2 ] // another
      weight %w=[1, 2.5, 3e0 , 4]:f32[2,2]   %d = dense ( %x , %w ){ act = relu }
        : f32[1,2] output %d
    }  // the end
    """
    wanted = graph(
        "input %x : f32[1,2]",
        "weight %w = [1.0,2.5,3.0,4.0] : f32[2,2]",
        "%d = dense(%x, %w) {act=relu} : f32[1,2]",
        "output %d",
    )
    assert to_text(parse(text.replace("dense (", "dense("))) == wanted
    assert to_text(parse(wanted.replace("\n", "\r\n"))) == wanted


def test_defaults_are_left_out_and_read_back() -> None:
    made = Graph("g")
    x = edit.add_input(made, "x", Type(F32, (1, 1, 4, 4)))
    attributes: dict[str, Attribute] = {"kernel": (2, 2), "strides": (1, 1), "ceil": 0, "pads": (0, 0, 0, 0)}
    node = edit.add_node(made, "maxpool2d", [x], {"y": Type(F32, (1, 1, 3, 3))}, attributes)
    assert node_text(node) == "%y = maxpool2d(%x) {kernel=[2,2]} : f32[1,1,3,3]"
    edit.set_attribute(node, "strides", EmptyList("ints"))
    assert "strides=ints[]" in node_text(node)


def test_numpy_numbers_print_as_numbers() -> None:
    made = Graph("g")
    x = edit.add_input(made, "x", Type(F32, (1,)))
    node = edit.add_node(made, "clip", [x], {"y": Type(F32, (1,))}, {"min": np.float64(0.5)})
    assert node_text(node) == "%y = clip(%x) {min=0.5} : f32[1]"
