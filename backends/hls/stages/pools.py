"""Max, average and global average pooling as stages."""

from __future__ import annotations

import numpy as np

from bitwright.backends.hls.stages.flow import Flow, Made, pair
from bitwright.backends.hls.stages.kinds import MeanStage, PoolStage
from bitwright.backends.hls.stages.layer import Layer
from bitwright.backends.hls.stages.numbers import SINGLE, Number, computes_in_float, is_integer
from bitwright.backends.hls.stages.real_kinds import FloatSumStage, RealMeanStage, ScaledSumStage
from bitwright.backends.hls.stages.real_sums import float_stage, scaled_stage
from bitwright.backends.hls.stages.refusals import (
    exact_bits,
    float_width,
    format_of,
    frame_of,
    keeps_format,
    refused,
    shift_to,
)
from bitwright.backends.hls.stages.scan import Scan
from bitwright.ir.formats import Canonical, binary
from bitwright.ir.graph import Node
from bitwright.ir.ops import integer, integers
from bitwright.ir.text import node_text


def pool_stages(node: Node, x: Flow) -> Made:
    """maxpool2d, which rounds nothing."""
    format = format_of(node.result, "result")
    keeps_format(node)
    frame, walk = _walk(node, x)
    made = PoolStage(
        name=node.name,
        line=node_text(node),
        format=format,
        layout=frame,
        reads=(x.stream,),
        scan=walk,
    )
    return Made([made], Flow(made.name, frame))


def mean_stages(node: Node, x: Flow) -> Made:
    """avgpool2d and globalavgpool."""
    in_format, format = format_of(node.operand(0), "input"), format_of(node.result, "result")
    if len(x.layout) != 3:
        raise refused(node, "a pooling takes an image")
    frame: tuple[int, ...]
    walk: Scan | None
    if node.op == "globalavgpool":
        frame, walk, pixels = (x.channels, 1, 1), None, x.positions
        counted = (0, 0, x.layout[1], x.layout[2])
    else:
        frame, walk = _walk(node, x)
        pixels = walk.kernel[0] * walk.kernel[1]
        top, left, bottom, right = walk.pads
        inside = (top, left, top + walk.size[0], left + walk.size[1])
        around = (0, 0, inside[2] + bottom, inside[3] + right)
        counted = around if integer(node, "count_pads") else inside
    exact = is_integer(in_format) and is_integer(format)
    if not exact:
        float_width(node, in_format)
        float_width(node, format)
        if walk is not None:
            made = _real_mean(node, x, in_format, format, frame, walk)
            return Made([made], Flow(made.name, frame))
    places, sum_bits = _exact_sum(node, in_format, format, pixels) if exact else (0, SINGLE.width)
    mean = (MeanStage if exact else RealMeanStage)(
        name=node.name,
        line=node_text(node),
        format=format,
        layout=frame,
        reads=(x.stream,),
        in_format=in_format,
        channels=x.channels,
        positions=frame[1] * frame[2] if walk else pixels,
        scan=walk,
        counted=counted,
        shift=places,
        sum_bits=sum_bits,
    )
    return Made([mean], Flow(mean.name, frame))


def _exact_sum(node: Node, in_format: Number, format: Number, pixels: int) -> tuple[int, int]:
    """Of FIXED: places from the sum to the result, and bits of the sum."""
    assert isinstance(in_format, Canonical)
    assert isinstance(format, Canonical)
    places = shift_to(node, format, int(format.step_exponents) - int(in_format.step_exponents))
    sum_bits = (in_format.max_code * pixels).bit_length() + 1
    # The judge divides in float64; with this many bits to spare, no quotient is rounded onto a tie that it is not.
    exact_bits(node, sum_bits + max(-places, 0) + pixels.bit_length() + 1)
    return places, sum_bits


def _real_mean(
    node: Node, x: Flow, in_format: Number, format: Number, frame: tuple[int, ...], walk: Scan
) -> FloatSumStage | ScaledSumStage:
    """Of windows of FLOAT and AFFINE: a depthwise convolution with one over their pixels."""
    if any(walk.pads) and not integer(node, "count_pads"):
        raise refused(node, "an average of FLOAT or AFFINE that leaves out its padding has no engine yet")
    pixels = walk.kernel[0] * walk.kernel[1]
    layer = Layer(node, x, in_format, format, frame, walk, frame[1] * frame[2], x.channels)
    ones, bias = np.ones((x.channels, pixels)), np.zeros(x.channels)
    if computes_in_float(in_format) or computes_in_float(format):
        return float_stage(layer, SINGLE, ones / pixels, bias)
    steps = ones.astype(np.int64)
    return scaled_stage(layer, binary(), steps, 0 * steps, 0, ones[:, 0] / pixels, bias, bias)


def _walk(node: Node, x: Flow) -> tuple[tuple[int, ...], Scan]:
    """The frame of the result, and the walk of the window."""
    frame = frame_of(node.result)
    if len(x.layout) != 3:
        raise refused(node, "a pooling takes an image")
    pads = integers(node, "pads")
    kernel, strides = pair(integers(node, "kernel")), pair(integers(node, "strides"))
    image = pair(x.layout[1:])
    walk = Scan(x.channels, image, pair(frame[1:]), kernel, strides, (pads[0], pads[1], pads[2], pads[3]))
    return frame, walk
