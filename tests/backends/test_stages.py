"""From a graph to stages: geometry, order, integers and roundings; and every reason for which one is refused."""

from __future__ import annotations

import re
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import (
    MOST_LEVELS,
    SUPPORTED,
    WIDEST_ACCUMULATOR,
    PoolStage,
    PortStage,
    Scan,
    SumStage,
    pool_name,
    ports_of,
    stages_of,
    why_not,
)
from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
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


# ---- what is refused ----------------------------------------------------------------------------------------------

REFUSED = {
    "an op without engine": (
        ["%y = softmax(%x) : FIXED<8>[N,2,6,6]"],
        f"%y: softmax has no engine; there are {SUPPORTED}",
    ),
    "an op of ONNX": (
        ["%y = onnx.Selu(%x) : FIXED<8>[N,2,6,6]"],
        f"%y: onnx.Selu has no engine; there are {SUPPORTED}",
    ),
    "a padding": (
        ["%y = pad(%x) {pads=[0,0,1,1,0,0,1,1]} : FIXED<8>[N,2,8,8]"],
        f"%y: pad has no engine; there are {SUPPORTED}",
    ),
    "a constant that is larger than the stream": (
        ["%g = globalavgpool(%x) : FIXED<8>[N,2,1,1]", "weight %one = 000000c7 : f32[2,6,6]",
         "%y = add(%g, %one) : FIXED<8>[N,2,6,6]"],
        "%y: its constant %one : f32[2,6,6] is not one number a tensor, a channel or an element",
    ),
    "a constant with digits far below": (
        ["weight %one = [1e-12] : f32[1]", "%y = add(%x, %one) : FIXED<8>[N,2,6,6]"],
        r"%y: with its constant, sums have 6\d digits, and 53 are exact: give it a format",
    ),
    "a constant concatenated": (
        ["weight %one = 000000c7 : FIXED<8>[1,2,6,6]", "%y = concat(%x, %one) {axis=1} : FIXED<8>[N,4,6,6]"],
        "%y: its operand %one is constant; only add and mul take one that is",
    ),
    "another broadcast": (
        ["weight %o.w = 000000c3 : FIXED<6>[1,2,1,1]",
         "%o = conv2d(%x, %o.w) {kernel=[1,1]} : FIXED<8>[N,1,6,6]",
         "%y = mul(%x, %o) : FIXED<8>[N,2,6,6]"],
        "%y: it has no engine for frames of 2x6x6 and 1x6x6",
    ),
    "a concat of rows": (
        ["%y = concat(%x, %x) {axis=2} : FIXED<8>[N,2,12,6]"],
        "%y: concat has an engine for two or more 2x6x6 along their channels",
    ),
    "a sum that float64 does not hold": (
        ["%p = quantize(%x) : FIXED<32,B=30>[N,2,6,6]", "%y = add(%x, %p) : FIXED<8>[N,2,6,6]"],
        r"%y: its sums need 6\d bits, engines have at most 53",
    ),
    "a product that float64 does not hold": (
        ["%p = quantize(%x) : FIXED<32>[N,2,6,6]", "%y = mul(%p, %p) : FIXED<8>[N,2,6,6]"],
        "%y: its sums need 63 bits, engines have at most 53",
    ),
    "a mean that float64 does not hold": (
        ["%p = quantize(%x) : FIXED<32>[N,2,6,6]", "%y = globalavgpool(%p) : FIXED<32,B=20>[N,2,1,1]"],
        r"%y: its sums need \d+ bits, engines have at most 53",
    ),
    "an average that rounds up": (
        ["%y = avgpool2d(%x) {ceil=1, kernel=[2,2], strides=[3,3]} : FIXED<8>[N,2,2,2]"],
        "%y: average pooling with dilations or rounding up has no engine yet",
    ),
    "what nothing reads": (
        [CONV, "%y = maxpool2d(%x) {kernel=[2,2]} : FIXED<8>[N,2,5,5]"],
        "%conv: nothing reads it, and it is no output",
    ),
    "dilations": (
        ["%y = conv2d(%x, %conv.w) {dilations=[2,1], kernel=[3,3]} : FIXED<8>[N,4,2,4]"],
        "%y: dilated convolutions have no engine yet",
    ),
    "a dilated pooling": (
        ["%y = maxpool2d(%x) {dilations=[2,2], kernel=[2,2]} : FIXED<8>[N,2,4,4]"],
        "%y: max pooling with dilations or rounding up has no engine yet",
    ),
    "a pooling that rounds up": (
        ["%y = maxpool2d(%x) {ceil=1, kernel=[2,2], strides=[3,3]} : FIXED<8>[N,2,2,2]"],
        "%y: max pooling with dilations or rounding up has no engine yet",
    ),
    "a pooling of padding alone": (
        ["%y = maxpool2d(%x) {kernel=[2,2], pads=[0,2,0,0]} : FIXED<8>[N,2,5,7]"],
        "%y: its padding is as wide as its kernel",
    ),
    "an activation": (
        ["%y = conv2d(%x, %conv.w) {act=hardswish, kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        "%y: the activation hardswish has no engine yet",
    ),
    "computed weights": (
        ["%a = flatten(%x) : FIXED<8>[N,72]", "%y = dense(%a, %a) : FIXED<8>[N,?]"],
        "%y: its weights are computed, not constant",
    ),
    "an unknown shape": (
        ["%y = conv2d(%x, %conv.w) {kernel=[3,3]} : FIXED<8>[N,4,?,4]"],
        "%y: its result has no fixed shape: FIXED<8>[N,4,?,4]",
    ),
    "no shape": (
        ["%y = maxpool2d(%x) {kernel=[2,2]} : FIXED<8>[*]"],
        "%y: its result has no fixed shape: FIXED<8>[*]",
    ),
    "a reshape to an image": (
        ["%y = reshape(%x) {shape=[0,8,3,3]} : FIXED<8>[N,8,3,3]"],
        "%y: only a reshape to one row a sample needs no engine",
    ),
    "an inner transpose": (
        [CONV, "%y = transpose(%conv) {perm=[0,3,1,2]} : FIXED<8>[N,4,4,4]"],
        "%y: only a transpose of an input from channels last needs no engine",
    ),
    "another transpose": (
        ["%y = transpose(%x) {perm=[0,1,3,2]} : FIXED<8>[N,2,6,6]"],
        "%y: only a transpose of an input from channels last needs no engine",
    ),
    "dense on an image": (
        [
            "weight %d.w = 000000c4 : FIXED<6>[3,6]",
            "%y = dense(%x, %d.w) : FIXED<8>[N,2,6,3]",
        ],
        "%y: it works on the last axis of an image: flatten it before",
    ),
    "a rounding of its own": (
        [CONV, "%y = maxpool2d(%conv) {kernel=[2,2]} : FIXED<7>[N,4,3,3]"],
        "%y: maxpool2d keeps its input's format, FIXED<8>[N,4,4,4]",
    ),
    "a flatten that rounds": (
        [CONV, "%f = flatten(%conv) : FIXED<8,B=1>[N,64]", "%y = dense(%f, %fc.w) : FIXED<8>[N,5]"],
        "%f: flatten keeps its input's format, FIXED<8>[N,4,4,4]",
    ),
    "a reshape that mixes samples": (
        ["%f = reshape(%x) {shape=[-1,36]} : FIXED<8>[?,36]", "%y = flatten(%f) : FIXED<8>[?,36]"],
        "%f: it does not give one row a sample",
    ),
    "a flatten of a later axis": (
        ["%f = flatten(%x) {axis=2} : FIXED<8>[?,36]", "%y = flatten(%f) : FIXED<8>[?,36]"],
        "%f: it does not give one row a sample",
    ),
    "FIXED weights of far steps on FLOAT": (
        ["%f = quantize(%x) : FLOAT<16>[N,2,6,6]", "weight %a.w = 000000c5 : FIXED<16,B={0,9,0,0}@0>[4,2,3,3]",
         "%y = conv2d(%f, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        r"%y: weights of FIXED<16,B=\{0,9,0,0\}@0> have no engine with FLOAT activations; there are FLOAT and EXP "
        "within float32, BIN, FIXED and AFFINE of at most 24 bits from the largest to the smallest channel's step",
    ),
    "a bias a channel beyond float32": (
        ["weight %a.w = 000000c5 : FLOAT<8,B={7,8,9,300}@0>[4,2,3,3]",
         "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        r"%y: weights of FLOAT<8,B=\{7,8,9,300\}@0> have no engine with FLOAT activations; .*",
    ),
    "FLOAT weights beyond float32": (
        ["weight %a.w = 000000c5 : FLOAT<16,E=9>[4,2,3,3]", "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        r"%y: weights of FLOAT<16,E=9> have no engine with FLOAT activations; .*",
    ),
    "a wide FIXED that meets FLOAT": (
        ["%p = quantize(%x) : FIXED<25>[N,2,6,6]", "%y = quantize(%p) : FLOAT<16>[N,2,6,6]"],
        "%y: a FIXED that meets FLOAT or AFFINE has at most 24 bits, not 25",
    ),
    "signs beyond float32": (
        ["%p = quantize(%x) : BIN<1,B=-126>[N,2,6,6]", "%y = quantize(%p) : FLOAT<16>[N,2,6,6]"],
        "%y: numbers of BIN<1,B=-126> meet FLOAT or AFFINE, and float32 does not reach them",
    ),
    "a scale without room": (
        ["%p = quantize(%x) : FIXED<32>[N,2,6,6]", "weight %a.w = 000000c5 : AFFINE<16,scale=0.5,zero=3>[4,2,3,3]",
         "%y = conv2d(%p, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        "%y: its sums leave no 16 bits for the scale: take narrower formats",
    ),
    "an average of AFFINE without its padding": (
        ["%p = quantize(%x) : AFFINE<8,scale=0.1>[N,2,6,6]",
         "%y = avgpool2d(%p) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<8>[N,2,6,6]"],
        "%y: an average of FLOAT or AFFINE that leaves out its padding has no engine yet",
    ),
    "UFIXED weights": (
        ["weight %a.w = 000000c5 : UFIXED<6>[4,2,3,3]", "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        "%y: weights of UFIXED<6>[4,2,3,3] have no engine yet; there are FIXED, BIN, EXP, FLOAT and AFFINE",
    ),
    "weights without format": (
        ["weight %a.w = 000000c5 : f32[4,2,3,3]", "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        "%y: weights of f32[4,2,3,3] have no engine yet; there are FIXED, BIN, EXP, FLOAT and AFFINE",
    ),
    "a format for each input channel": (
        ["weight %a.w = 000000c5 : FIXED<6,B={0,1}@1>[4,2,3,3]",
         "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        "%y: weights of FIXED<6,B={0,1}@1>[4,2,3,3] have no engine yet; there are FIXED, BIN, EXP, FLOAT and AFFINE",
    ),
    "sums that are too wide": (
        ["weight %a.w = 000000c5 : FIXED<32>[4,2,3,3]", "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        r"%y: its sums need 6\d bits, engines have at most 63",
    ),
    "a shift that is too far": (
        ["weight %a.w = 000000c5 : FIXED<6,B=61>[4,2,3,3]", "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        "%y: its sums lie 65 places from its result: the formats do not fit together",
    ),
    "a shift that is too far the other way": (
        [
            "weight %a.w = 000000c5 : FIXED<6,B=-69>[4,2,3,3]",
            "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]",
        ],
        "%y: its sums lie 65 places from its result: the formats do not fit together",
    ),
    "EXP of 8 bits": (
        ["weight %a.w = 000000c5 : EXP<8>[4,2,3,3]", "%y = conv2d(%x, %a.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]"],
        r"%y: EXP weights take at most 7 bits and 63 levels, not 8 and \d+",
    ),
    "a clip between steps": (
        ["weight %a.w = [1.0,1.0,1.0,1.0] : FIXED<4,B={9,-8}@0>[2,2,1,1]",
         "%y = conv2d(%x, %a.w) {act=clip, act_max=0.35, act_min=0.0, kernel=[1,1]} : FIXED<8>[N,2,6,6]"],
        "%y: the bound of its clip falls on different steps of its channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name_with_the_line(case: str) -> None:
    lines, message = REFUSED[case]
    x = "FIXED<32>[N,2,6,6]" if case == "sums that are too wide" else "FIXED<8>[N,2,6,6]"
    graph = network(*lines, x=x)
    with pytest.raises(CompileError) as caught:
        stages_of(graph)
    first, line = caught.value.message.splitlines()
    assert first == message or re.fullmatch(message, first), first
    name = first.split(":")[0]
    assert line.startswith(f"  {name} = "), line
    assert line.strip() in str(graph)


def test_where_a_node_came_from_is_said() -> None:
    graph = network("%y = softmax(%x) : FIXED<8>[N,2,6,6]")
    graph.nodes[0].source = 'Softmax "Softmax_7"'
    with pytest.raises(CompileError, match=re.escape('%y (Softmax "Softmax_7"): softmax has no engine')):
        stages_of(graph)


ACTIVATIONS = (
    "engines take FIXED and UFIXED of at most 32 bits, BIN, FLOAT and EXP whose numbers float32 has, and AFFINE with a "
    'whole zero point, one format a tensor\n  help: choose formats with --formats "FIXED 8"'
)


@pytest.mark.parametrize(
    "number",
    [
        *(
            "f32",
            "FLOAT<33>",
            "FLOAT<16,E=9>",
            "FLOAT<16,B=128>",
            "AFFINE<8,scale=0.5,zero=3.5>",
            "BIN<1,B={0,1}@1>",
            "FIXED<33>",
        ),
        *("FIXED<8,B={0,1}@1>", "FLOAT<8,B={7,8}@1>", "i64"),
    ],
)
def test_activations_that_no_engine_takes(number: str) -> None:
    with pytest.raises(CompileError) as caught:
        stages_of(network("%y = conv2d(%x, %conv.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]", x=f"{number}[N,2,6,6]"))
    assert str(caught.value) == f"input %x is {number}[N,2,6,6]; {ACTIVATIONS}"
    channels = number.replace("{0,1}", "{0,1,2,3}").replace("{7,8}", "{7,8,9,7}")
    with pytest.raises(CompileError) as caught:
        stages_of(network(f"%y = conv2d(%x, %conv.w) {{kernel=[3,3]}} : {channels}[N,4,4,4]"))
    assert str(caught.value) == f"result %y is {channels}[N,4,4,4]; {ACTIVATIONS}"


@pytest.mark.parametrize("shape", ["[2,6,6]", "[N,2,6]", "[N]", "[*]", "[N,2,?,6]", "[N,2,H,6]", "[N,1,2,6,6]"])
def test_an_input_is_an_image_or_a_row(shape: str) -> None:
    graph = network("%y = onnx.Identity(%x) : FIXED<8>[N,4]", x=f"FIXED<8>{shape}")
    node = graph.nodes[0]
    edit.set_op(node, "maxpool2d", {"kernel": (2, 2)})
    with pytest.raises(CompileError, match=re.escape(f"%x : FIXED<8>{shape} is no [N,C,H,W] or [N,K] of fixed size")):
        stages_of(graph)


def test_one_input_and_one_output() -> None:
    two = network(CONV, out="conv")
    edit.add_output(two, two.inputs[0], "z")
    with pytest.raises(CompileError, match="@net has 1 inputs and 2 outputs, not one of each"):
        stages_of(two)
    more = network(CONV, out="conv")
    edit.add_input(more, "z", more.inputs[0].type)
    with pytest.raises(CompileError, match="@net has 2 inputs and 1 outputs, not one of each"):
        stages_of(more)


def test_what_nothing_reads_is_refused() -> None:
    graph = network(CONV, "%p = maxpool2d(%conv) {kernel=[2,2]} : FIXED<8>[N,4,3,3]", out="conv")
    with pytest.raises(CompileError, match="%p: nothing reads it, and it is no output"):
        stages_of(graph)


def test_what_computes_nothing_is_refused() -> None:
    with pytest.raises(CompileError, match="@net computes nothing that hardware could do"):
        stages_of(network(out="x"))
    flat = network("%y = flatten(%x) : FIXED<8>[N,72]")
    with pytest.raises(CompileError, match="@net computes nothing that hardware could do"):
        stages_of(flat)


def test_a_flattened_image_as_output_would_come_in_another_order() -> None:
    """The stream brings channels last; what has one channel or one pixel comes in the same order either way."""
    graph = network(CONV, "%y = flatten(%conv) : FIXED<8>[N,64]")
    with pytest.raises(CompileError) as caught:
        stages_of(graph)
    assert caught.value.message == (
        "the output %y is a flattened image, which leaves the accelerator with its channels last"
    )
    assert caught.value.help == "end before the flatten, or with a dense behind it"
    one = network(
        "weight %o.w = 000000c6 : FIXED<6>[1,2,3,3]",
        "%o = conv2d(%x, %o.w) {kernel=[3,3]} : FIXED<8>[N,1,4,4]",
        "%y = flatten(%o) : FIXED<8>[N,16]",
    )
    assert ports_of(stages_of(one))[1].shape == (16,)
    pixel = network(
        "weight %o.w = 000000c6 : FIXED<6>[3,2,6,6]",
        "%o = conv2d(%x, %o.w) {kernel=[6,6]} : FIXED<8>[N,3,1,1]",
        "%y = reshape(%o) {shape=[0,3]} : FIXED<8>[N,3]",
    )
    assert ports_of(stages_of(pixel))[1].shape == (3,)


@pytest.mark.parametrize("op", ["conv2d", "maxpool2d"])
@pytest.mark.parametrize(("channels", "cols"), [(1, 1), (1, 3), (2, 1), (3, 1), (4, 3)])
def test_rows_are_long_enough_for_a_line_buffer(op: str, channels: int, cols: int, networks: ModuleType) -> None:
    """Where an image has rows of fewer than 4 words, the walk makes them longer."""
    frame = f"FIXED<8>[N,{channels},3,{cols}]"
    graph = network(
        f"weight %w = 000000c7 : FIXED<6>[{channels},{channels},2,1]",
        f"%y = {op}(%x{', %w' if op == 'conv2d' else ''}) {{kernel=[2,1]}} : FIXED<8>[N,{channels},2,{cols}]",
        x=frame,
    )
    stage = plan(stages_of(graph), networks.BOARD).stages[1]
    assert isinstance(stage, SumStage | PoolStage)
    assert stage.scan is not None
    assert stage.scan.steps(stage.lanes).row >= 4


# ---- why_not ------------------------------------------------------------------------------------------------------


def test_why_not_asks_before_formats_are_chosen() -> None:
    graph = network(
        "%conv = conv2d(%x, %conv.w, %conv.b) {kernel=[3,3]} : f32[N,4,4,4]",
        "%a = avgpool2d(%conv) {kernel=[2,2]} : f32[N,4,3,3]",
        "%p = maxpool2d(%a) {kernel=[2,2]} : f32[N,4,2,2]",
        "%f = flatten(%p) : f32[N,16]",
        "weight %d.w = 000000c9 : f32[3,16]",
        "%d = dense(%f, %d.w) : f32[N,3]",
        "%y = softmax(%d) : f32[N,3]",
        x="f32[N,2,6,6]",
    )
    found = {node.name: why_not(node) for node in graph.nodes}
    assert {name for name, reason in found.items() if reason} == {"y"}
    assert found["y"] == f"softmax has no engine; there are {SUPPORTED}"


@pytest.mark.parametrize("case", REFUSED)
def test_why_not_says_what_stages_say(case: str) -> None:
    """What why_not finds is the reason for the refusal; what it lets through is a matter of formats or order."""
    lines, message = REFUSED[case]
    graph = network(*lines)
    reasons = [reason for reason in map(why_not, graph.nodes) if reason]
    assert not reasons or message.endswith(reasons[0])


# ---- what is made -------------------------------------------------------------------------------------------------


def test_the_stages_of_a_network() -> None:
    graph = network(
        "%conv = conv2d(%x, %conv.w, %conv.b) {act=relu, kernel=[3,3], pads=[1,0,2,1], pool=[2,3], pool_strides=[1,1], "
        "strides=[2,1]} : UFIXED<7>[N,4,3,3]",
        "%p = maxpool2d(%conv) {kernel=[2,2], pads=[1,0,0,1], strides=[1,2]} : UFIXED<7>[N,4,3,2]",
        "%f = flatten(%p) : UFIXED<7>[N,24]",
        "weight %d.w = 000000ca : EXP<4>[5,24]",
        "%y = dense(%f, %d.w) : FIXED<9,B=1>[N,5]",
    )
    port, conv, pool, own, dense, last = stages_of(graph)
    assert isinstance(port, PortStage)
    assert (port.name, port.elements, port.shape, port.order, port.is_input) == ("x", 72, (2, 6, 6), (1, 2, 0), True)
    assert isinstance(conv, SumStage)
    assert conv.scan == Scan(2, (6, 6), (4, 5), (3, 3), (2, 1), (1, 0, 2, 1))
    assert (conv.positions, conv.inputs, conv.outputs, conv.elements) == (20, 18, 4, 80)
    assert conv.act == (0, None)
    assert str(conv.format) == "UFIXED<7>"
    assert isinstance(pool, PoolStage)
    assert (pool.name, pool.line, pool.elements) == ("conv.pool", "the pooling of %conv", 36)
    assert pool.scan == Scan(4, (4, 5), (3, 3), (2, 3), (1, 1), (0, 0, 0, 0))
    assert isinstance(own, PoolStage)
    assert own.scan == Scan(4, (3, 3), (3, 2), (2, 2), (1, 2), (1, 0, 0, 1))
    assert isinstance(dense, SumStage)
    assert (dense.scan, dense.positions, dense.inputs, dense.outputs) == (None, 1, 24, 5)
    assert dense.act == (None, None)
    assert isinstance(last, PortStage)
    assert (last.name, last.shape, last.order, last.is_input, last.line) == ("y.out", (5,), (0,), False, "output %y")


def test_the_columns_of_a_dense_after_an_image_are_in_the_order_of_the_stream() -> None:
    graph = network(CONV, "%f = flatten(%conv) : FIXED<8>[N,64]", "%y = dense(%f, %fc.w) : FIXED<8>[N,5]")
    dense = stages_of(graph)[2]
    weight = graph.values["fc.w"]
    number = weight.tensor_type.number
    assert isinstance(dense, SumStage)
    assert isinstance(number, Canonical)
    assert weight.tensor is not None
    integers = number.integers(weight.tensor.data)
    for row, column, channel, output in [(0, 0, 1, 0), (2, 3, 3, 4), (3, 0, 2, 1)]:
        assert (
            dense.weights[output, (row * 4 + column) * 4 + channel] == integers[output, channel * 16 + row * 4 + column]
        )
    graph = network("%f = flatten(%x) : FIXED<8>[N,64]", "%y = dense(%f, %fc.w) : FIXED<8>[N,5]", x="FIXED<8>[N,64]")
    plain = stages_of(graph)[1]
    assert isinstance(plain, SumStage)
    np.testing.assert_array_equal(plain.weights, integers)


def test_the_rows_of_a_convolution_are_row_column_channel() -> None:
    graph = network(CONV, out="conv")
    conv = stages_of(graph)[1]
    weight = graph.values["conv.w"]
    number = weight.tensor_type.number
    assert isinstance(conv, SumStage)
    assert isinstance(number, Canonical)
    assert weight.tensor is not None
    integers = number.integers(weight.tensor.data)
    for output, channel, row, column in np.ndindex(4, 2, 3, 3):
        assert conv.weights[output, (row * 3 + column) * 2 + channel] == integers[output, channel, row, column]


def integers_of(stage: SumStage, x: Array) -> Array:
    """What a stage computes for vectors [N, inputs] in stream order, in plain Python integers."""
    results = []
    for vector in x.tolist():
        row = []
        for weights, bias, shift in zip(stage.weights.tolist(), stage.bias.tolist(), stage.shift.tolist(), strict=True):
            total = bias + sum(w * v for w, v in zip(weights, vector, strict=True))
            assert abs(total) < 2 ** (stage.acc_bits - 1)
            if shift > 0:
                whole, rest = divmod(total, 2**shift)
                half = 2 ** (shift - 1)
                total = whole + (rest > half or (rest == half and whole % 2 == 1))
            else:
                total *= 2**-shift
            low, high = stage.act
            least, most = -stage.format.max_code if stage.format.n_s else 0, stage.format.max_code
            row.append(min(max(total, least, least if low is None else low), most, most if high is None else high))
        results.append(row)
    return np.array(results)


def test_a_stage_holds_all_that_its_arithmetic_needs(networks: ModuleType) -> None:
    """Its integers, computed in Python without the header library, are the graph's numbers."""
    checked = 0
    for seed in range(120):
        graph, stages, x = networks.drawn(seed)
        if len(stages) != 3 or not isinstance(stages[1], SumStage) or stages[1].positions > 1 or stages[1].scan:
            continue
        checked += 1
        stage, (port, last) = stages[1], ports_of(stages)
        into = port.format.integers(x).transpose(0, *(axis + 1 for axis in port.order)).reshape(len(x), -1)
        (y,) = evaluate(graph, {"": x}).values()
        np.testing.assert_array_equal(integers_of(stage, into), last.format.integers(y).reshape(len(x), -1))
    assert checked >= 8


@pytest.mark.parametrize(
    ("fields", "number", "act"),
    [
        ("act=clip, act_max=6.0, act_min=0.0", "FIXED<8>", (0, None)),  # the format ends below 6
        ("act=clip, act_max=1.0, act_min=-0.5", "FIXED<8,B=-1>", (-16, 32)),
        ("act=clip, act_max=1.0", "FIXED<8,B=-1>", (None, 32)),
        ("act=clip, act_min=0.3", "FIXED<8,B=-1>", (10, None)),
        ("act=clip, act_max=3.4e+38, act_min=0.0", "FIXED<8>", (0, None)),
        ("act=clip, act_max=9.0, act_min=8.0", "FIXED<8>", (127, None)),
        ("act=clip, act_max=-8.0, act_min=-9.0", "FIXED<8>", (None, -127)),
        ("act=clip, act_max=-8.0, act_min=-9.0", "UFIXED<8>", (None, 0)),
        ("act=clip, act_max=0.25, act_min=0.5", "FIXED<8>", (16, 16)),  # min above max: max, as numpy and ONNX have it
        ("act=relu", "UFIXED<8>", (0, None)),
        ("", "UFIXED<8>", (None, None)),
    ],
)
def test_the_bounds_of_an_activation_in_steps(fields: str, number: str, act: tuple[int | None, int | None]) -> None:
    comma = ", " if fields else ""
    graph = network(f"%y = conv2d(%x, %conv.w) {{{fields}{comma}kernel=[3,3]}} : {number}[N,4,4,4]")
    stage = stages_of(graph)[1]
    assert isinstance(stage, SumStage)
    assert stage.act == act
    x = np.random.default_rng(0).uniform(-2, 2, (3, 2, 6, 6))
    y = evaluate(graph, {"x": x})["y"]
    least, most = -stage.format.max_code if stage.format.n_s else 0, stage.format.max_code
    steps = stage.format.integers(y)
    assert steps.min() >= max(least, least if act[0] is None else act[0])
    assert steps.max() <= min(most, most if act[1] is None else act[1])


def test_a_bound_beyond_the_format_is_open_on_whatever_steps_it_falls() -> None:
    """100 is 96 on one channel's steps and 100 on the other's, and both lie beyond the format."""
    graph = network(
        "weight %a.w = [1.0,1.0,1.0,1.0] : FIXED<4,B={9,-12}@0>[2,2,1,1]",
        "%y = conv2d(%x, %a.w) {act=clip, act_max=100.0, act_min=0.0, kernel=[1,1]} : FIXED<8>[N,2,6,6]",
    )
    stage = stages_of(graph)[1]
    assert isinstance(stage, SumStage)
    assert stage.act == (0, None)


def test_codes_are_what_the_memory_holds() -> None:
    text = "weight %w = [{}] : {}[1,{}]"
    for data, number, codes, levels in [
        ("0.5,-0.25,0.0", "FIXED<4>", [2, -1, 0], 0),
        ("0.5,-0.25,0.0", "BIN<1>", [0, 1, 0], 0),
        ("0.5,-0.25,0.0,1.0", "EXP<3,B=3>", [2, 5, 0, 3], 3),
        ("0.0,0.0", "EXP<3>", [0, 0], 1),
    ]:
        count = len(codes)
        graph = network(
            text.format(data, number, count),
            "%y = dense(%x, %w) : FIXED<8>[N,1]",
            x=f"FIXED<8>[N,{count}]",
        )
        stage = stages_of(graph)[1]
        assert isinstance(stage, SumStage)
        assert stage.codes.tolist() == [codes]
        assert stage.levels == levels


def test_the_limits_are_those_of_the_headers() -> None:
    """63 bits of accumulator and levels are the last that are taken."""
    assert (WIDEST_ACCUMULATOR, MOST_LEVELS) == (63, 63)
    line = "%y = dense(%x, %w) : FIXED<32,B=-8>[N,1]"
    taken = network("weight %w = [1.0,-0.5] : FIXED<32>[1,2]", line, x="FIXED<32>[N,2]")
    stage = stages_of(taken)[1]
    assert isinstance(stage, SumStage)
    assert stage.acc_bits == 63
    with pytest.raises(CompileError, match="its sums need 64 bits"):
        stages_of(network("weight %w = [1.0,1.5] : FIXED<32>[1,2]", line, x="FIXED<32>[N,2]"))


# ---- names --------------------------------------------------------------------------------------------------------


def test_stages_have_names_of_their_own() -> None:
    """A layer that is called as another's pooling, an output that is called as a layer."""
    lines = [
        "%c = conv2d(%x, %conv.w) {kernel=[3,3], pool=[2,2], pool_strides=[1,1]} : FIXED<8>[N,4,3,3]",
        "%c.pool = maxpool2d(%c) {kernel=[2,2]} : FIXED<8>[N,4,2,2]",
        "%d = maxpool2d(%c.pool) {kernel=[1,1]} : FIXED<8>[N,4,2,2]",
    ]
    for outside in ("scores", "d", "c", "x", "c.pool", "c.pool.1"):
        graph = network(*lines, out="d")
        graph.outputs[0].name = outside
        stages = stages_of(graph)
        assert [stage.name for stage in stages[:-1]] == ["x", "c", "c.pool.1", "c.pool", "d"]
        assert pool_name(graph, graph.nodes[0]) == "c.pool.1"
        assert ports_of(stages)[1].outside == outside
        assert stages[-1].name == (outside if outside == "scores" else f"{outside}.out")


def test_an_input_that_comes_channels_last() -> None:
    graph = network(
        "%t = transpose(%x) {perm=[0,3,1,2]} : FIXED<8>[N,2,6,6]",
        "%y = conv2d(%t, %conv.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]",
        x="FIXED<8>[N,6,6,2]",
    )
    port, conv, last = stages_of(graph)
    assert isinstance(port, PortStage)
    assert (port.shape, port.order) == ((6, 6, 2), (0, 1, 2))
    assert isinstance(conv, SumStage)
    assert conv.scan is not None
    assert (conv.scan.channels, conv.scan.size) == (2, (6, 6))
    assert isinstance(last, PortStage)
    assert last.order == (1, 2, 0)
    rounding = network(
        "%t = transpose(%x) {perm=[0,3,1,2]} : FIXED<7>[N,2,6,6]",
        "%y = conv2d(%t, %conv.w) {kernel=[3,3]} : FIXED<8>[N,4,4,4]",
        x="FIXED<8>[N,6,6,2]",
    )
    with pytest.raises(CompileError, match=r"%t: transpose keeps its input's format, FIXED<8>\[N,6,6,2\]"):
        stages_of(rounding)
