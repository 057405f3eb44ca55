"""conv2d and dense as stages: geometry, the integers of the weights in the order of the stream, and the rounding."""

from __future__ import annotations

import numpy as np

from bitwright.backends.hls.stages.flow import Flow, Made, pair, pool_name
from bitwright.backends.hls.stages.kinds import Bounds, Ints, PoolStage, Stage, SumStage
from bitwright.backends.hls.stages.refusals import (
    WIDEST_ACCUMULATOR,
    format_of,
    frame_of,
    refused,
    shift_of,
)
from bitwright.backends.hls.stages.scan import Scan
from bitwright.ir.accumulate import accumulator
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Node
from bitwright.ir.ops import integer, integers, real, string
from bitwright.ir.text import node_text

MOST_LEVELS = 63


def sum_stages(node: Node, x: Flow) -> Made:
    """conv2d or dense, and the pooling that is fused into it."""
    layout = x.layout
    in_format, out_format = format_of(node.operand(0), "input"), format_of(node.result, "result")
    sums = accumulator(node)
    weight = node.operand(1)
    number = weight.tensor_type.number
    if sums is None or not isinstance(number, Canonical) or number.kind not in ("FIXED", "BIN", "EXP"):
        raise refused(node, f"weights of {weight.type} have no engine yet; there are FIXED, BIN and EXP")
    if sums.bits > WIDEST_ACCUMULATOR:
        raise refused(node, f"its sums need {sums.bits} bits, engines have at most {WIDEST_ACCUMULATOR}")
    assert weight.tensor is not None
    real_weights = number.quantize(weight.tensor.data, "%" + weight.name).astype(np.float64)
    exponents = sums.weight_exponents.reshape(-1, *[1] * (real_weights.ndim - 1))
    steps = np.ldexp(real_weights, -exponents).astype(np.int64)
    scan, positions, matrix = _geometry(node, layout, steps)
    shift = int(out_format.step_exponents) - sums.exponents
    shift_of(node, int(np.abs(shift).max(initial=0)))
    codes, levels = _codes(node, number, matrix)
    before_pool = _unpooled(node, layout)
    stage = SumStage(
        name=node.name,
        line=node_text(node),
        format=out_format,
        elements=int(np.prod(before_pool)),
        reads=(x.stream,),
        in_format=in_format,
        weight_format=number,
        weights=matrix,
        codes=codes,
        bias=sums.bias.astype(np.int64),
        shift=shift.astype(np.int64),
        acc_bits=sums.bits,
        levels=levels,
        act=_act(node, out_format),
        positions=positions,
        scan=scan,
        groups=integer(node, "groups") if node.op == "conv2d" else 1,
    )
    pool = integers(node, "pool")
    if not pool:
        return Made([stage], Flow(stage.name, before_pool))
    strides = integers(node, "pool_strides") or pool
    pooled = frame_of(node.result)
    walk = Scan(pooled[0], pair(before_pool[1:]), pair(pooled[1:]), pair(pool), pair(strides), (0, 0, 0, 0))
    made = PoolStage(
        name=pool_name(node.graph, node),
        part_of=node.name,
        line=f"the pooling of %{node.name}",
        format=out_format,
        elements=int(np.prod(pooled)),
        reads=(stage.name,),
        scan=walk,
    )
    stages: list[Stage] = [stage, made]
    return Made(stages, Flow(made.name, pooled))


def _geometry(node: Node, layout: tuple[int, ...], steps: Ints) -> tuple[Scan | None, int, Ints]:
    """Scan (or None), positions, and the weights as a matrix whose columns are in the order of the stream."""
    if node.op == "dense":
        if len(layout) == 1:
            return None, 1, steps
        channels, rows, cols = layout
        if steps.shape[1] != channels * rows * cols:
            raise refused(node, "it works on the last axis of an image: flatten it before")
        return None, 1, steps.reshape(-1, channels, rows, cols).transpose(0, 2, 3, 1).reshape(len(steps), -1)
    if len(layout) != 3:
        raise refused(node, "a convolution takes an image")
    matrix = steps.transpose(0, 2, 3, 1).reshape(len(steps), -1)
    size, kernel, strides = pair(layout[1:]), pair(integers(node, "kernel")), pair(integers(node, "strides"))
    pads, out = integers(node, "pads"), _unpooled(node, layout)
    covers = kernel == size and not any(pads) and integer(node, "groups") == 1
    if covers or (kernel == (1, 1) and strides == (1, 1) and not any(pads)):
        return None, out[1] * out[2], matrix
    walk = Scan(layout[0], size, pair(out[1:]), kernel, strides, (pads[0], pads[1], pads[2], pads[3]))
    return walk, out[1] * out[2], matrix


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
    if act == "relu":
        return 0, None
    if act == "none":
        return None, None
    sums = accumulator(node)
    assert sums is not None
    least, most = -format.max_code if format.n_s else 0, format.max_code
    bounds: list[float] = []
    for bound in (real(node, "act_min"), real(node, "act_max")):
        on_steps = np.ldexp(np.rint(np.ldexp(bound, -sums.exponents)), sums.exponents)
        rounded = set(np.clip(np.rint(on_steps / format.step), least - 1, most + 1).tolist())
        if len(rounded) > 1:
            raise refused(node, "the bound of its clip falls on different steps of its channels")
        bounds.append(rounded.pop())
    low, high = min(bounds), bounds[1]
    return None if low < least else int(min(low, most)), None if high > most else int(max(high, least))
