"""From a graph to stages: geometry, order, integers and roundings."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from by_hand import CONV, network

from bitwright.backends.hls.stages import (
    MOST_LEVELS,
    WIDEST_ACCUMULATOR,
    PoolStage,
    PortStage,
    Scan,
    SumStage,
    pool_name,
    ports_of,
    stages_of,
)
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical
from bitwright.ir.tensor import Array


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
