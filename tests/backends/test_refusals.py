"""Every reason for which a graph is refused, by name."""

from __future__ import annotations

import re
from types import ModuleType

import pytest
from by_hand import CONV, network

from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import (
    SUPPORTED,
    PoolStage,
    SumStage,
    ports_of,
    stages_of,
    why_not,
)
from bitwright.ir import edit
from bitwright.ir.errors import CompileError

REFUSED = {
    "an op without engine": (
        ["%y = softmax(%x) : FIXED<8>[N,2,6,6]"],
        f"%y: softmax has no engine; there are {SUPPORTED}",
    ),
    "an op of ONNX": (
        ["%y = onnx.Selu(%x) : FIXED<8>[N,2,6,6]"],
        f"%y: onnx.Selu has no engine; there are {SUPPORTED}",
    ),
    "an op of ONNX in a form that is not taken": (
        ["%y = onnx.AveragePool(%x) {ceil_mode=1, kernel_shape=[2,2]} : FIXED<8>[N,2,5,5]"],
        "%y: onnx.AveragePool is not taken: its ceil_mode would average fewer numbers at the edge: export it "
        "without, or with whole windows",
    ),
    "stored integers": (
        ["weight %s = [1.0] : f32[1]", "%y = onnx.QuantizeLinear(%x, %s) : u8[N,2,6,6]"],
        "%y: onnx.QuantizeLinear gives stored integers: quantise in the QDQ form (QuantFormat.QDQ), with "
        "constant scales",
    ),
    "an op on stored integers": (
        ["weight %s = [1.0] : f32[1]",
         "%y = onnx.com.microsoft::QLinearAdd(%x, %s, %s, %x, %s, %s, %s) : FIXED<8>[N,2,6,6]"],
        "%y: onnx.com.microsoft::QLinearAdd gives stored integers: quantise in the QDQ form (QuantFormat.QDQ), with "
        "constant scales",
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
    "an empty image": (
        ["weight %none = [] : FIXED<6>[0,2,3,3]", "%e = conv2d(%x, %none) {kernel=[3,3]} : FIXED<8>[N,0,4,4]",
         "%y = relu(%e) : FIXED<8>[N,0,4,4]"],
        "%e: there are no numbers in %e : FIXED<8>[N,0,4,4]",
    ),
    "a reshape to an image": (
        ["%y = reshape(%x) {shape=[0,8,3,3]} : FIXED<8>[N,8,3,3]"],
        "%y: only a reshape to one row a sample, or of the pixels alone, needs no engine",
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


@pytest.mark.parametrize("shape", ["[N]", "[*]", "[N,2,?]", "[N,2,?,6]", "[N,2,H,6]", "[N,1,2,6,6]"])
def test_an_input_is_an_image_a_line_or_a_row(shape: str) -> None:
    graph = network("%y = onnx.Identity(%x) : FIXED<8>[N,4]", x=f"FIXED<8>{shape}")
    node = graph.nodes[0]
    edit.set_op(node, "maxpool2d", {"kernel": (2, 2)})
    said = f"%x : FIXED<8>{shape} is no [N,C,H,W], [N,C,L] or [N,K] of fixed size"
    with pytest.raises(CompileError, match=re.escape(said)):
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
