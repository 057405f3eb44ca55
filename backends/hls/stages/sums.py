"""conv2d and dense as stages: geometry, the weights in the order of the stream, the arithmetic of their formats."""

from __future__ import annotations

import numpy as np

from bitwright.backends.hls.stages.flow import Flow, Made, pair, pool_name
from bitwright.backends.hls.stages.kinds import Bounds, Ints, PoolStage, Stage, SumStage
from bitwright.backends.hls.stages.layer import Layer, bias_of, common
from bitwright.backends.hls.stages.numbers import Scaled, computes_in_float, takes_sign
from bitwright.backends.hls.stages.real_sums import affine_codes, float_stage, scaled_stage
from bitwright.backends.hls.stages.refusals import (
    WIDEST_ACCUMULATOR,
    format_of,
    frame_of,
    refused,
    shift_of,
)
from bitwright.backends.hls.stages.scan import Scan
from bitwright.ir.accumulate import Accumulator, accumulator, weight_exponents
from bitwright.ir.formats import Affine, Canonical, Format
from bitwright.ir.graph import Node
from bitwright.ir.ops import integer, integers, real, string
from bitwright.ir.tensor import Array

WEIGHTS = ("FIXED", "BIN", "EXP", "FLOAT", "UFLOAT", "AFFINE")
MOST_LEVELS = 63


def sum_stages(node: Node, x: Flow) -> Made:
    """conv2d or dense, and the pooling that is fused into it."""
    entering, leaving = format_of(node.operand(0), "input"), format_of(node.result, "result")
    scan, positions = _walk(node, x.layout)
    frame = _unpooled(node, x.layout)
    groups = integer(node, "groups") if node.op == "conv2d" else 1
    stage = _stage(Layer(node, x, entering, leaving, frame, scan, positions, groups))
    pool = integers(node, "pool")
    if not pool:
        return Made([stage], Flow(stage.name, frame))
    strides = integers(node, "pool_strides") or pool
    pooled = frame_of(node.result)
    walk = Scan(pooled[0], pair(frame[1:]), pair(pooled[1:]), pair(pool), pair(strides), (0, 0, 0, 0))
    made = PoolStage(
        name=pool_name(node.graph, node),
        part_of=node.name,
        line=f"the pooling of %{node.name}",
        format=leaving,
        layout=pooled,
        reads=(stage.name,),
        scan=walk,
    )
    stages: list[Stage] = [stage, made]
    return Made(stages, Flow(made.name, pooled))


def _stage(layer: Layer) -> SumStage:
    """The sum, in the arithmetic that its three formats ask for."""
    node = layer.node
    weight = node.operand(1)
    number = weight.tensor_type.number
    assert weight.tensor is not None
    if number is None or number.kind not in WEIGHTS or number.axis not in (None, 0):
        raise refused(node, f"weights of {weight.type} have no engine yet; there are FIXED, BIN, EXP, FLOAT and AFFINE")
    weights = number.quantize(weight.tensor.data, "%" + weight.name).astype(np.float64)
    flows = (layer.entering, layer.leaving)
    floating = isinstance(number, Canonical) and number.n_e > 0 and number.n_f > 0
    if floating or any(computes_in_float(flow) for flow in flows):
        return float_stage(layer, number, ordered(node, layer.x.layout, weights), bias_of(node, len(weights)))
    sums = accumulator(node)
    if sums is None or isinstance(layer.leaving, Scaled):
        return _scaled(layer, number, weights, sums)
    assert isinstance(number, Canonical)
    return _exact(layer, number, weights, sums)


def _exact(layer: Layer, number: Canonical, weights: Array, sums: Accumulator) -> SumStage:
    """FIXED throughout: integers times powers of two."""
    node = layer.node
    assert isinstance(layer.leaving, Canonical)
    if sums.bits > WIDEST_ACCUMULATOR:
        raise refused(node, f"its sums need {sums.bits} bits, engines have at most {WIDEST_ACCUMULATOR}")
    matrix = ordered(node, layer.x.layout, _steps(weights, sums.weight_exponents))
    shift = np.where(takes_sign(layer.leaving), 0, int(layer.leaving.step_exponents) - sums.exponents)
    shift_of(node, int(np.abs(shift).max(initial=0)))
    codes, levels = _codes(node, number, matrix)
    return SumStage(
        **common(layer),
        weight_format=number,
        weights=matrix,
        codes=codes,
        bias=sums.bias.astype(np.int64),
        shift=shift.astype(np.int64),
        acc_bits=sums.bits,
        levels=levels,
        act=_act(node, layer.leaving),
    )


def _scaled(layer: Layer, number: Format, weights: Array, sums: Accumulator | None) -> SumStage:
    """With AFFINE: integers times a scale."""
    node, outputs = layer.node, len(weights)
    bias = bias_of(node, outputs) if sums is None else np.ldexp(sums.bias, sums.exponents)
    if isinstance(number, Affine):
        integers_, scales, zeros = affine_codes(number, weights, outputs)
        matrix = ordered(node, layer.x.layout, integers_)
        return scaled_stage(layer, number, matrix, matrix, 0, scales, zeros, bias)
    assert isinstance(number, Canonical)
    exponents = weight_exponents(number, weights.reshape(outputs, -1))
    matrix = ordered(node, layer.x.layout, _steps(weights, exponents))
    codes, levels = _codes(node, number, matrix)
    return scaled_stage(layer, number, matrix, codes, levels, np.ldexp(1.0, exponents), np.zeros(outputs), bias)


def _steps(weights: Array, exponents: Ints) -> Ints:
    """Weights as integers times 2^exponent, an exponent an output."""
    return np.asarray(np.ldexp(weights, -exponents.reshape(-1, *[1] * (weights.ndim - 1))).astype(np.int64))


def ordered(node: Node, layout: tuple[int, ...], numbers: Array) -> Array:
    """Weights as a matrix whose columns are in the order of the stream."""
    if node.op != "dense":
        return numbers.transpose(0, 2, 3, 1).reshape(len(numbers), -1)
    if len(layout) == 1:
        return numbers
    channels, rows, cols = layout
    if numbers.shape[1] != channels * rows * cols:
        raise refused(node, "it works on the last axis of an image: flatten it before")
    return numbers.reshape(-1, channels, rows, cols).transpose(0, 2, 3, 1).reshape(len(numbers), -1)


def _walk(node: Node, layout: tuple[int, ...]) -> tuple[Scan | None, int]:
    """Scan (or None) and positions."""
    if node.op == "dense":
        return None, 1
    if len(layout) != 3:
        raise refused(node, "a convolution takes an image")
    size, kernel, strides = pair(layout[1:]), pair(integers(node, "kernel")), pair(integers(node, "strides"))
    pads, out = integers(node, "pads"), _unpooled(node, layout)
    covers = kernel == size and not any(pads) and integer(node, "groups") == 1
    if covers or (kernel == (1, 1) and strides == (1, 1) and not any(pads)):
        return None, out[1] * out[2]
    walk = Scan(layout[0], size, pair(out[1:]), kernel, strides, (pads[0], pads[1], pads[2], pads[3]))
    return walk, out[1] * out[2]


def _unpooled(node: Node, layout: tuple[int, ...]) -> tuple[int, ...]:
    """The frame of the sums, before pooling: [C,H,W] or [K]."""
    outputs = (node.operand(1).tensor_type.static_shape or (0,))[0]
    if node.op == "dense":
        return (outputs,)
    pads, kernel, strides = integers(node, "pads"), integers(node, "kernel"), integers(node, "strides")
    sizes = [(layout[1 + i] + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
    return (outputs, *sizes)


def _codes(node: Node, number: Canonical, matrix: Ints) -> tuple[Ints, int]:
    """What the weight memory holds, and the highest level of EXP."""
    if number.kind == "FIXED":
        return matrix, 0
    if number.kind == "BIN":
        return (matrix < 0).astype(np.int64), 0
    level = np.where(matrix == 0, 0, np.frexp(np.abs(matrix).astype(np.float64))[1]).astype(np.int64)
    highest = int(level.max(initial=0))
    if highest > MOST_LEVELS or number.width > 7:
        raise refused(
            node, f"EXP weights take at most 7 bits and {MOST_LEVELS} levels, not {number.width} and {highest}"
        )
    return np.where(matrix < 0, 1 << (number.width - 1), 0) + level, max(highest, 1)


def _act(node: Node, format: Canonical) -> Bounds:
    """The activation's bounds in steps of the result, rounded like everything else; one beyond the format is open."""
    act = string(node, "act")
    signs = takes_sign(format)
    if act == "relu":
        return int(signs), None
    if act == "none":
        return None, None
    sums = accumulator(node)
    assert sums is not None
    least, most = -format.max_code if format.n_s else 0, format.max_code
    bounds: list[float] = []
    for bound in (real(node, "act_min"), real(node, "act_max")):
        on_steps = np.ldexp(np.rint(np.ldexp(bound, -sums.exponents)), sums.exponents)
        steps = np.where(on_steps >= 0, 1, -1) if signs else np.rint(on_steps / format.step)
        rounded = set(np.clip(steps, least - 1, most + 1).tolist())
        if len(rounded) > 1:
            raise refused(node, "the bound of its clip falls on different steps of its channels")
        bounds.append(rounded.pop())
    low, high = min(bounds), bounds[1]
    return None if low < least else int(min(low, most)), None if high > most else int(max(high, least))
