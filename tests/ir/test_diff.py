"""ir/diff.py: equal graphs give no line, whatever their names and order; every kind of change gives just its lines."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest

from bitwright.ir import edit
from bitwright.ir.diff import diff
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import F32, Type
from bitwright.ir.verify import verify

NETWORK = """
graph @net {
  opset ai.onnx=17
  input %x as "image" : FIXED<8>[1,1,8,8]
  weight %conv1.w = 11111111 : FIXED<8,B={0,1,2,3,4,5,6,7,0,1,2,3,4,5,6,7,8,9}@0>[18,1,3,3]
  weight %conv1.b = 22222222 : f32[18]
  weight %fc.w = 33333333 : FIXED<4>[10,648]
  weight %fc.b = 44444444 : f32[10]
  %conv1 = conv2d(%x, %conv1.w, %conv1.b) {act=relu, kernel=[3,3]} : FIXED<8,B=-1>[1,18,6,6]
  %flat = flatten(%conv1) : FIXED<8,B=-1>[1,648]
  %fc = dense(%flat, %fc.w, %fc.b) : FIXED<8,B=-2>[1,10]
  output %fc as "logits"
}
"""


def lines(text: str) -> str:
    """A diff written with the indentation of the test."""
    return "".join(line.strip() + "\n" for line in text.strip().splitlines())


def changed(*replacements: tuple[str, str]) -> str:
    """The diff of the network and its text after replacements."""
    text = NETWORK
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    graph = parse(text)
    verify(graph)
    return diff(parse(NETWORK), graph)


def test_a_graph_does_not_differ_from_itself() -> None:
    assert diff(parse(NETWORK), parse(NETWORK)) == ""


def test_attribute() -> None:
    assert changed(("act=relu, ", "")) == lines("""
        - %conv1 = conv2d(%x, %conv1.w, %conv1.b) {act=relu, kernel=[3,3]} : FIXED<8,B=-1>[1,18,6,6]
        + %conv1 = conv2d(%x, %conv1.w, %conv1.b) {kernel=[3,3]} : FIXED<8,B=-1>[1,18,6,6]
    """)


def test_attribute_that_is_its_default() -> None:
    assert changed(("{act=relu, ", "{act=relu, groups=1, act_min=-inf, ")) == ""


def test_format_of_an_activation() -> None:
    assert changed(("FIXED<8,B=-2>[1,10]", "EXP<4>[1,10]")) == lines("""
        - %fc = dense(%flat, %fc.w, %fc.b) : FIXED<8,B=-2>[1,10]
        + %fc = dense(%flat, %fc.w, %fc.b) : EXP<4>[1,10]
    """)


def test_format_of_a_weight() -> None:
    assert changed(("FIXED<4>[10", "FIXED<5>[10")) == lines("""
        - weight %fc.w = 33333333 : FIXED<4>[10,648]
        + weight %fc.w = 33333333 : FIXED<5>[10,648]
    """)


def test_one_channel_of_a_table() -> None:
    assert changed(("6,7,8,9}", "6,7,8,10}")) == lines("""
        - #conv1.w[16..] 8 9
        + #conv1.w[16..] 8 10
    """)
    assert changed(("{0,1,2,3", "{0,1,5,3")) == lines("""
        - #conv1.w[0..] 0 1 2 3 4 5 6 7 0 1 2 3 4 5 6 7
        + #conv1.w[0..] 0 1 5 3 4 5 6 7 0 1 2 3 4 5 6 7
    """)


def test_one_channel_of_a_short_list() -> None:
    text = "graph @g { weight %w = 11111111 : FIXED<8,B={0,1}@0>[2,9]\n output %w }"
    assert diff(parse(text), parse(text.replace("{0,1}", "{0,2}"))) == lines("""
        - weight %w = 11111111 : FIXED<8,B={0,1}@0>[2,9]
        + weight %w = 11111111 : FIXED<8,B={0,2}@0>[2,9]
    """)


def test_data_of_a_weight() -> None:
    assert changed(("33333333", "3333333f")) == lines("""
        - weight %fc.w = 33333333 : FIXED<4>[10,648]
        + weight %fc.w = 3333333f : FIXED<4>[10,648]
    """)


def test_one_number_of_a_weight() -> None:
    a = parse(NETWORK)
    b = edit.copy(a)
    tensor = b.values["fc.w"].tensor
    assert tensor is not None
    data = tensor.data.copy()
    data[3, 4] = np.nextafter(data[3, 4], np.float32(1))
    edit.set_tensor(b.values["fc.w"], Tensor(data))
    assert diff(a, b) == lines(f"""
        - weight %fc.w = 33333333 : FIXED<4>[10,648]
        + weight %fc.w = {Tensor(data).key} : FIXED<4>[10,648]
    """)


def test_inserted_node() -> None:
    assert changed(
        ("%flat = flatten(%conv1)", "%same = quantize(%conv1) : FIXED<8,B=-1>[1,18,6,6]\n%flat = flatten(%same)")
    ) == lines("""
        + %same = quantize(%conv1) : FIXED<8,B=-1>[1,18,6,6]
        - %flat = flatten(%conv1) : FIXED<8,B=-1>[1,648]
        + %flat = flatten(%same) : FIXED<8,B=-1>[1,648]
    """)


def test_removed_node() -> None:
    text = NETWORK.replace("%fc = dense(%flat", "%r = relu(%flat) : FIXED<8,B=-1>[1,648]\n%fc = dense(%r")
    assert diff(parse(text), parse(NETWORK)) == lines("""
        - %r = relu(%flat) : FIXED<8,B=-1>[1,648]
        - %fc = dense(%r, %fc.w, %fc.b) : FIXED<8,B=-2>[1,10]
        + %fc = dense(%flat, %fc.w, %fc.b) : FIXED<8,B=-2>[1,10]
    """)


def test_another_op_of_the_same_name() -> None:
    text = "graph @g { input %x : f32[2]\n %y = relu(%x) : f32[2]\n output %y }"
    assert diff(parse(text), parse(text.replace("relu", "hardswish"))) == lines("""
        - %y = relu(%x) : f32[2]
        + %y = hardswish(%x) : f32[2]
    """)


def test_removed_operand() -> None:
    assert changed((", %fc.b)", ")"), ("  weight %fc.b = 44444444 : f32[10]\n", "")) == lines("""
        - weight %fc.b = 44444444 : f32[10]
        - %fc = dense(%flat, %fc.w, %fc.b) : FIXED<8,B=-2>[1,10]
        + %fc = dense(%flat, %fc.w) : FIXED<8,B=-2>[1,10]
    """)


def test_outside_name_of_an_output() -> None:
    assert changed(('as "logits"', 'as "scores"')) == lines("""
        - output %fc as "logits"
        + output %fc as "scores"
    """)


def test_outside_name_of_an_input() -> None:
    assert changed(('as "image"', 'as "picture"')) == lines("""
        - input %x as "image" : FIXED<8>[1,1,8,8]
        + input %x as "picture" : FIXED<8>[1,1,8,8]
    """)


def test_output_of_another_value() -> None:
    assert changed(("output %fc", "output %flat")) == lines("""
        - output %fc as "logits"
        + output %flat as "logits"
    """)


def test_one_more_output() -> None:
    assert changed(("output %fc", "output %flat\noutput %fc")) == lines("+ output %flat")


def test_type_of_an_input() -> None:
    assert changed(("FIXED<8>[1,1,8,8]", "FIXED<9>[1,1,8,8]")) == lines("""
        - input %x as "image" : FIXED<8>[1,1,8,8]
        + input %x as "image" : FIXED<9>[1,1,8,8]
    """)
    assert changed(("%x as", "%y as"), ("(%x,", "(%y,"), ("FIXED<8>[1,1,8,8]", "FIXED<8>[N,1,8,8]")) == lines("""
        - input %x as "image" : FIXED<8>[1,1,8,8]
        + input %x as "image" : FIXED<8>[N,1,8,8]
    """)


def test_operator_set() -> None:
    assert changed(("ai.onnx=17", "ai.onnx=18")) == lines("""
        - opset ai.onnx=17
        + opset ai.onnx=18
    """)


def test_a_change_is_shown_with_the_names_of_the_first_graph() -> None:
    renames = [("conv1", "c"), ("%flat", "%f"), ("%fc", "%d"), ("%x", "%in")]
    assert changed(*renames, ("act=relu", "act=hardswish")) == lines("""
        - %conv1 = conv2d(%x, %conv1.w, %conv1.b) {act=relu, kernel=[3,3]} : FIXED<8,B=-1>[1,18,6,6]
        + %conv1 = conv2d(%x, %conv1.w, %conv1.b) {act=hardswish, kernel=[3,3]} : FIXED<8,B=-1>[1,18,6,6]
    """)


def test_swapped_inputs() -> None:
    """The outside's names decide which input is which."""
    text = """graph @g { input %a as "p" : f32[2]
        input %b as "q" : f32[2]
        %y = onnx.Sub(%a, %b) : f32[2]
        output %y }"""
    swapped = text.replace("%a", "%c").replace("%b", "%a").replace("%c", "%b")
    assert diff(parse(text), parse(swapped)) == ""
    assert diff(parse(text), parse(text.replace('"p"', '"r"').replace('"q"', '"p"').replace('"r"', '"q"'))) == lines("""
        - %y = onnx.Sub(%a, %b) : f32[2]
        + %y = onnx.Sub(%b, %a) : f32[2]
    """)


def test_equal_weights_are_told_apart_by_who_reads_them() -> None:
    """Biases of zeros, say: in the second graph, each has the other's name."""
    text = """graph @g { input %x : f32[1,4]
        weight %a = [0.0,0.0] : f32[2]
        weight %b = [0.0,0.0] : f32[2]
        weight %v = 11111111 : f32[2,4]
        weight %w = 22222222 : f32[2,4]
        %p = dense(%x, %v, %a) : f32[1,2]
        %q = dense(%x, %w, %b) : f32[1,2]
        %s = onnx.Sub(%p, %q) : f32[1,2]
        output %s }"""
    other = text.replace("%v, %a", "%v, %c").replace("%w, %b", "%w, %a").replace("%v, %c", "%v, %b")
    assert diff(parse(text), parse(other)) == ""
    deeper = other.replace("onnx.Sub(%p, %q)", "onnx.Sub(%q, %p)")
    assert diff(parse(text), parse(deeper)) == lines("""
        - %s = onnx.Sub(%p, %q) : f32[1,2]
        + %s = onnx.Sub(%q, %p) : f32[1,2]
    """)


def test_a_value_computed_twice_is_not_one_computed_once() -> None:
    shared = """graph @g { input %x : f32[2]
        %r = relu(%x) : f32[2]
        %y = add(%r, %r) : f32[2]
        output %y }"""
    twice = shared.replace("%y = add(%r, %r)", "%t = relu(%x) : f32[2]\n%y = add(%r, %t)")
    assert diff(parse(shared), parse(twice)) == lines("""
        + %t = relu(%x) : f32[2]
        - %y = add(%r, %r) : f32[2]
        + %y = add(%r, %t) : f32[2]
    """)


def test_equal_values_are_told_apart_by_what_outputs_show() -> None:
    """Also where they have other readers than before."""
    text = """graph @g { input %x : f32[2]
        %r = relu(%x) : f32[2]
        %t = relu(%x) : f32[2]
        %y = add(%r, %x) : f32[2]
        output %r as "p"
        output %t as "q"
        output %y }"""
    other = text.replace("%r =", "%u =").replace("%t =", "%r =").replace("%u =", "%t =")
    other = other.replace("output %r", "output %u").replace("output %t", "output %r").replace("output %u", "output %t")
    assert diff(parse(text), parse(other)) == lines("""
        - %y = add(%r, %x) : f32[2]
        + %y = add(%t, %x) : f32[2]
    """)


def test_what_changed_is_known_by_its_name_and_by_who_reads_it() -> None:
    """The reader is another op: %fc is %fc by its name, its weight is %w because %fc reads it."""
    text = """graph @g { input %x : f32[1,2]
        weight %w = [1.0,2.0] : f32[1,2]
        %fc = dense(%x, %w) : f32[1,1]
        %y = relu(%fc) : f32[1,1]
        output %y }"""
    other = text.replace("[1.0,2.0]", "[3.0,4.0]").replace("%w", "%v").replace("%y = relu", "%z = hardswish")
    other = other.replace("output %y", 'output %z as "y"')
    assert diff(parse(text), parse(other)) == lines("""
        - weight %w = [1.0,2.0] : f32[1,2]
        + weight %w = [3.0,4.0] : f32[1,2]
        - %y = relu(%fc) : f32[1,1]
        + %z = hardswish(%fc) : f32[1,1]
        - output %y
        + output %z as "y"
    """)


def test_an_input_is_known_by_its_outside_name() -> None:
    text = 'graph @g { input %x : f32[2]\n input %unread as "more" : f32[2]\n output %x }'
    other = text.replace("%unread", "%other").replace("f32[2]\n output", "f32[3]\n output")
    assert diff(parse(text), parse(other)) == lines("""
        - input %unread as "more" : f32[2]
        + input %unread as "more" : f32[3]
    """)


BRANCHES = """graph @g {
  opset ai.onnx=17
  input %c : bool[]
  input %x : f32[2]
  %y = onnx.If(%c) {else_branch=graph @e {
    %p = relu(%x) : f32[2]
    %q = hardswish(%x) : f32[2]
    %s = add(%p, %q) : f32[2]
    output %s
  }, then_branch=graph @t {
    weight %w = [2.0] : f32[1]
    %m = mul(%x, %w) : f32[2]
    output %m
  }} : f32[2]
  output %y
}"""


def test_names_and_order_inside_subgraphs_do_not_count() -> None:
    first, second = "    %p = relu(%x) : f32[2]\n", "    %q = hardswish(%x) : f32[2]\n"
    other = BRANCHES.replace(first + second, second + first)
    for name in "pqswmx":
        other = other.replace(f"%{name}", f"%{name}2")
    other = other.replace("input %x2", 'input %x2 as "x"')
    assert diff(parse(BRANCHES), parse(other)) == ""


def test_a_change_inside_a_subgraph_is_one_line() -> None:
    assert diff(parse(BRANCHES), parse(BRANCHES.replace("[2.0]", "[3.0]"))) == lines("""
        - weight %w = [2.0] : f32[1]
        + weight %w = [3.0] : f32[1]
    """).replace("weight", "  weight")


def test_a_name_that_means_another_thing_gets_a_prime() -> None:
    """What is %y in one graph is %x in the other, whose %y is new."""
    text = 'graph @g { input %i : f32[2]\n %y = relu(%i) : f32[2]\n output %y as "o" }'
    other = text.replace("%y", "%x").replace("output", "%y = hardswish(%i) : f32[2]\noutput")
    assert diff(parse(text), parse(other)) == "+ %y' = hardswish(%i) : f32[2]\n"


def chain(length: int, names: str) -> Graph:
    graph = Graph("chain", {"": 17})
    value = edit.add_input(graph, "x", Type(F32, (1,)))
    for index in range(length):
        value = edit.add_node(graph, "relu", [value], {f"{names}{index}": Type(F32, (1,))}).result
    edit.add_output(graph, value, "y")
    return graph


def test_twice_as_many_equal_nodes_under_other_names_take_twice_the_calls() -> None:
    calls = {}
    for count in (1000, 2000):
        a, b = chain(count, "a"), chain(count, "b")
        counted = Counter[str]()
        sys.setprofile(lambda frame, event, argument, counted=counted: counted.update([event]))
        found = diff(a, b)
        sys.setprofile(None)
        assert found == ""
        calls[count] = counted.total()
    assert calls[2000] < 2.5 * calls[1000]
    assert diff(chain(2000, "a"), chain(1999, "b")).count("\n") == 3


@pytest.mark.parametrize("name", ['a"b', "line\nbreak"])
def test_outside_names_are_quoted(name: str) -> None:
    a, b = parse(NETWORK), parse(NETWORK)
    b.outputs[0].name = name
    quoted = name.replace('"', '\\"').replace("\n", "\\n")
    assert diff(a, b) == lines(f"""
        - output %fc as "logits"
        + output %fc as "{quoted}"
    """)
