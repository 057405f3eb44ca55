"""Ops on each number alone, or on two streams that meet: relu, clip, quantize; add, mul, concat."""

from __future__ import annotations

from collections.abc import Sequence

from bitwright.backends.hls.stages.flow import Flow, Made
from bitwright.backends.hls.stages.kinds import JoinStage, PointStage, Stage
from bitwright.backends.hls.stages.layer import OPEN, bounds_of, clip_of
from bitwright.backends.hls.stages.numbers import SINGLE, Number, ends_of, is_integer
from bitwright.backends.hls.stages.real_kinds import RealJoinStage, RealPointStage
from bitwright.backends.hls.stages.refusals import (
    exact_bits,
    float_width,
    format_of,
    frame_of,
    refused,
    shift_of,
    shift_to,
)
from bitwright.ir.edit import unique_name
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Node
from bitwright.ir.ops import integer
from bitwright.ir.text import node_text


def point_stages(node: Node, x: Flow) -> Made:
    """relu, clip and quantize."""
    in_format, format = format_of(node.operand(0), "input"), format_of(node.result, "result")
    made = rounding(node, x, in_format, format, node.name, node_text(node), clip_of(node))
    return Made([made], Flow(made.name, x.layout))


def rounding(
    node: Node, x: Flow, in_format: Number, format: Number, name: str, line: str, clip: tuple[float, float]
) -> PointStage:
    """Each number of a stream rounded to a format within bounds; in integers where both are FIXED or the same one."""
    same = in_format == format
    exact = same or (is_integer(in_format) and is_integer(format))
    made = PointStage(
        name=name,
        line=line,
        format=format,
        layout=x.layout,
        reads=(x.stream,),
        in_format=in_format,
        acc_bits=_signed_bits(in_format),
        shift=_places(node, in_format, format) if exact else 0,
        act=bounds_of(clip, format),
    )
    if exact:
        return made
    float_width(node, in_format)
    float_width(node, format)
    return RealPointStage(**vars(made), clip=clip)


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
    exact = all(is_integer(number) for number in (*formats, format))
    bits, ups, shift = _steps(node, formats, format) if exact else (SINGLE.width, (0, 0), 0)
    made = JoinStage(
        name=node.name,
        line=node_text(node),
        format=format,
        layout=left.layout,
        reads=(left.stream, right.stream),
        op=node.op,
        in_formats=formats,
        channels=(left.channels, right.channels),
        positions=left.positions,
        acc_bits=bits,
        shifts=(shift,),
        ups=ups,
        broadcast=right.positions < left.positions,
    )
    if not exact:
        for number in (*formats, format):
            float_width(node, number)
        made = RealJoinStage(**vars(made))
    return Made([made], Flow(made.name, left.layout))


def _steps(node: Node, formats: tuple[Number, Number], format: Number) -> tuple[int, tuple[int, int], int]:
    """Of an exact add or mul: the bits of the sum, places to the left of both sides, places to the right behind."""
    first, second = (_exponent(number) for number in formats)
    if node.op == "add":
        step = min(first, second)
        ups = (first - step, second - step)
        largest = sum(number.max_code << shift_of(node, up) for number, up in zip(formats, ups, strict=True))
    else:
        step, ups = first + second, (0, 0)
        largest = formats[0].max_code * formats[1].max_code
    return exact_bits(node, largest.bit_length() + 1), ups, shift_to(node, format, _exponent(format) - step)


def concat_stages(node: Node, sides: Sequence[Flow]) -> Made:
    """concat along the channels: two sides at a time."""
    format = format_of(node.result, "result")
    formats = [format_of(value, "input") for value in node.operands if value is not None]
    rank = len(frame_of(node.result)) + 1
    shapes = {(len(side.layout), side.layout[1:]) for side in sides}
    if integer(node, "axis") % rank != 1 or len(shapes) > 1 or len(sides) < 2:
        raise refused(node, f"concat has an engine for two or more {_shape(sides[0])} along their channels")
    made: list[Stage] = []
    if not all(is_integer(number) for number in (*formats, format)):
        sides, roundings = _in_format(node, sides, formats, format)
        formats, made = [format] * len(formats), roundings
    flow, number = sides[0], formats[0]
    for index, (side, other) in enumerate(zip(sides[1:], formats[1:], strict=True), 2):
        last = index == len(sides)
        layout = (flow.channels + side.channels, *flow.layout[1:])
        stage = JoinStage(
            name=node.name if last else unique_name(node.graph, f"{node.name}.of{index}"),
            line=node_text(node) if last else f"the first {index} operands of %{node.name}",
            format=format,
            layout=layout,
            reads=(flow.stream, side.stream),
            op="concat",
            in_formats=(number, other),
            channels=(flow.channels, side.channels),
            positions=flow.positions,
            acc_bits=max(_signed_bits(number), _signed_bits(other)),
            shifts=tuple(_places(node, given, format) for given in (number, other)),
        )
        made.append(stage)
        flow, number = Flow(stage.name, layout), format
    return Made(made, flow)


def _in_format(
    node: Node, sides: Sequence[Flow], formats: Sequence[Number], format: Number
) -> tuple[list[Flow], list[Stage]]:
    """The sides of a concat in its own format: those of other formats behind a rounding of their own."""
    flows, made = [], list[Stage]()
    for index, (side, given) in enumerate(zip(sides, formats, strict=True), 1):
        if given == format:
            flows.append(side)
            continue
        name = unique_name(node.graph, f"{node.name}.side{index}")
        made.append(rounding(node, side, given, format, name, f"operand {index} of %{node.name}", OPEN))
        flows.append(Flow(name, side.layout))
    return flows, made


def _places(node: Node, given: Number, format: Number) -> int:
    """Places to the right from one format to another."""
    return 0 if given == format else shift_to(node, format, _exponent(format) - _exponent(given))


def _signed_bits(format: Number) -> int:
    """The bits of a two's complement register for every integer that flows in a format."""
    return max(map(abs, ends_of(format))).bit_length() + 1


def _exponent(format: Number) -> int:
    assert isinstance(format, Canonical)
    return int(format.step_exponents)


def _shape(flow: Flow) -> str:
    return "x".join(map(str, flow.layout))
