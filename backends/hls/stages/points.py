"""Ops on each number alone, or on two streams that meet: relu, clip, quantize; add, mul, concat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitwright.backends.hls.stages.flow import Flow, Made
from bitwright.backends.hls.stages.kinds import Bounds, JoinStage, PointStage, Stage
from bitwright.backends.hls.stages.refusals import exact_bits, format_of, frame_of, refused, shift_of
from bitwright.ir.edit import unique_name
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Node
from bitwright.ir.ops import integer, real
from bitwright.ir.text import node_text


def point_stages(node: Node, x: Flow) -> Made:
    """relu, clip and quantize."""
    in_format, format = format_of(node.operand(0), "input"), format_of(node.result, "result")
    made = PointStage(
        name=node.name,
        line=node_text(node),
        format=format,
        elements=int(np.prod(x.layout)),
        reads=(x.stream,),
        in_format=in_format,
        channels=x.channels,
        acc_bits=_signed_bits(in_format),
        shift=shift_of(node, _exponent(format) - _exponent(in_format)),
        act=_bounds(node, format),
    )
    return Made([made], Flow(made.name, x.layout))


def product_stages(node: Node, left: Flow, right: Flow) -> Made:
    """add and mul, of two frames of one shape or of a frame and one pixel."""
    formats = format_of(node.operand(0), "input"), format_of(node.operand(1), "input")
    format = format_of(node.result, "result")
    if left.layout != right.layout and left.positions == 1 < right.positions:
        left, right, formats = right, left, (formats[1], formats[0])
    if left.channels != right.channels or right.positions not in (1, left.positions):
        raise refused(node, f"it has no engine for frames of {_shape(left)} and {_shape(right)}")
    if right.positions > 1 and left.layout != right.layout:
        raise refused(node, f"it has no engine for frames of {_shape(left)} and {_shape(right)}")
    first, second = (_exponent(number) for number in formats)
    if node.op == "add":
        step = min(first, second)
        ups = (first - step, second - step)
        largest = sum(number.max_code << shift_of(node, up) for number, up in zip(formats, ups, strict=True))
    else:
        step, ups = first + second, (0, 0)
        largest = formats[0].max_code * formats[1].max_code
    made = JoinStage(
        name=node.name,
        line=node_text(node),
        format=format,
        elements=int(np.prod(left.layout)),
        reads=(left.stream, right.stream),
        op=node.op,
        in_formats=formats,
        channels=(left.channels, right.channels),
        positions=left.positions,
        acc_bits=exact_bits(node, largest.bit_length() + 1),
        shifts=(shift_of(node, _exponent(format) - step),),
        ups=ups,
        broadcast=right.positions < left.positions,
    )
    return Made([made], Flow(made.name, left.layout))


def concat_stages(node: Node, sides: Sequence[Flow]) -> Made:
    """concat along the channels: two sides at a time."""
    format = format_of(node.result, "result")
    formats = [format_of(value, "input") for value in node.operands if value is not None]
    rank = len(frame_of(node.result)) + 1
    shapes = {(len(side.layout), side.layout[1:]) for side in sides}
    if integer(node, "axis") % rank != 1 or len(shapes) > 1 or len(sides) < 2:
        raise refused(node, f"concat has an engine for two or more {_shape(sides[0])} along their channels")
    made: list[Stage] = []
    flow, number = sides[0], formats[0]
    for index, (side, other) in enumerate(zip(sides[1:], formats[1:], strict=True), 2):
        last = index == len(sides)
        layout = (flow.channels + side.channels, *flow.layout[1:])
        stage = JoinStage(
            name=node.name if last else unique_name(node.graph, f"{node.name}.of{index}"),
            line=node_text(node) if last else f"the first {index} operands of %{node.name}",
            format=format,
            elements=int(np.prod(layout)),
            reads=(flow.stream, side.stream),
            op="concat",
            in_formats=(number, other),
            channels=(flow.channels, side.channels),
            positions=flow.positions,
            acc_bits=max(_signed_bits(number), _signed_bits(other)),
            shifts=tuple(shift_of(node, _exponent(format) - _exponent(given)) for given in (number, other)),
        )
        made.append(stage)
        flow, number = Flow(stage.name, layout), format
    return Made(made, flow)


def _bounds(node: Node, format: Canonical) -> Bounds:
    """(low, high) in steps of the result, half to even; None where the format ends before."""
    if node.op == "quantize":
        return None, None
    if node.op == "relu":
        return 0, None
    least, most = -format.max_code if format.n_s else 0, format.max_code
    ends = real(node, "min"), real(node, "max")
    low, high = (float(np.clip(np.rint(end / float(format.step)), least - 1, most + 1)) for end in ends)
    low = min(low, high)
    return None if low < least else int(min(low, most)), None if high > most else int(max(high, least))


def _signed_bits(format: Canonical) -> int:
    """The bits of a two's complement register for every number of a format."""
    return format.max_code.bit_length() + 1


def _exponent(format: Canonical) -> int:
    return int(format.step_exponents)


def _shape(flow: Flow) -> str:
    return "x".join(map(str, flow.layout))
