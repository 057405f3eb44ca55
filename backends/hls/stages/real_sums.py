"""conv2d and dense of FLOAT and AFFINE numbers as stages.

FLOAT computes in float32, with the weights of float_weights.py. AFFINE is integers with a scale: of input x = s_x c,
weights w = s_w (q - z) and output steps s_y, an output in steps is m (sum q c - z sum c) + b / s_y with
m = s_x s_w / s_y. In hardware m, m z and b / s_y are multiples of 2^-shift, m with at most 24 bits (as many as float32
has), so the only roundings are those of m, m z, b and the last one: an output is off by at most half a step and
(sum |q c| + sum |c| + 1) 2^-shift / 2 steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.stages.float_weights import float_weights
from bitwright.backends.hls.stages.kinds import Ints
from bitwright.backends.hls.stages.layer import Layer, bounds_of, clip_of, common
from bitwright.backends.hls.stages.numbers import WIDEST_MIXED, step_of
from bitwright.backends.hls.stages.real_kinds import FloatSumStage, ScaledSumStage
from bitwright.backends.hls.stages.refusals import WIDEST_ACCUMULATOR, float_width, refused, shift_to
from bitwright.ir.formats import Affine, Format

SCALE_BITS = 24  # of the multiplier, as many as float32 has
LEAST_SCALE_BITS = 16

Reals = NDArray[np.float64]


def float_stage(layer: Layer, format: Format | None, matrix: Reals, bias: Reals) -> FloatSumStage:
    """In float32. matrix: real numbers of the weights' format, [outputs, inputs] in the order of the stream."""
    for number in (layer.entering, layer.leaving):
        float_width(layer.node, number)
    weights = float_weights(format, matrix)
    if weights is None:
        raise refused(
            layer.node,
            f"weights of {format} have no engine with FLOAT activations; there are FLOAT and EXP within float32, BIN, "
            f"FIXED and AFFINE of at most {WIDEST_MIXED} bits from the largest to the smallest channel's step",
        )
    codes, scale = weights.codes, weights.scale
    clip = clip_of(layer.node)
    return FloatSumStage(
        **common(layer),
        weight_format=weights.format,
        weights=codes,
        codes=codes,
        bias=np.zeros(len(codes), np.int64),
        shift=np.zeros(len(codes), np.int64),
        acc_bits=32,
        levels=0,
        act=bounds_of(clip, layer.leaving),
        real_bias=np.asarray(bias if scale is None else bias / scale, np.float32),
        scale=np.ones(len(codes), np.float32) if scale is None else scale.astype(np.float32),
        clip=clip,
    )


def scaled_stage(
    layer: Layer, format: Format, matrix: Ints, codes: Ints, levels: int, scales: Reals, zeros: Reals, bias: Reals
) -> ScaledSumStage:
    """In integers. matrix: those of the weights, which stand for (matrix - zeros) scales, a scale and zero an output;
    codes: what the memory holds for them.
    """
    x, y = layer.entering, layer.leaving
    ratio = scales * step_of(x) / step_of(y)
    sums = np.abs(matrix).sum(1).max(initial=0) * x.max_code
    totals = matrix.shape[1] * x.max_code
    for bits in range(SCALE_BITS, LEAST_SCALE_BITS - 1, -1):
        places = bits - int(np.frexp(ratio.max())[1])
        real = np.stack([ratio, -zeros * ratio, bias / step_of(y)]) * 2.0**places
        if np.abs(real).max() >= 2.0**62:
            continue
        multiplier, offset, start = np.rint(real).astype(np.int64)
        most = max(
            int(sums) * int(m) + totals * abs(int(o)) + abs(int(b))
            for m, o, b in zip(multiplier, offset, start, strict=True)
        )
        if most.bit_length() + 1 <= WIDEST_ACCUMULATOR:
            break
    else:
        raise refused(layer.node, f"its sums leave no {LEAST_SCALE_BITS} bits for the scale: take narrower formats")
    shift = shift_to(layer.node, y, places)
    return ScaledSumStage(
        **common(layer),
        weight_format=format,
        weights=matrix,
        codes=codes,
        bias=start,
        shift=np.full(len(matrix), shift, np.int64),
        acc_bits=most.bit_length() + 1,
        levels=levels,
        act=bounds_of(clip_of(layer.node), y),
        multiplier=multiplier,
        offset=offset,
        sum_bits=int(sums).bit_length() + 1,
        total_bits=totals.bit_length() + 1,
    )


def affine_codes(format: Affine, real: Reals, channels: int) -> tuple[Ints, Reals, Reals]:
    """The integers of AFFINE weights, of n bits in two's complement, and the scale and zero point of each output."""
    centre = 0 if format.signed else 1 << (format.n - 1)
    scales, zeros = (np.broadcast_to(numbers, channels).astype(np.float64) for numbers in (format.scales, format.zeros))
    shape = (-1, *[1] * (real.ndim - 1))
    codes = np.rint(real / scales.reshape(shape) + zeros.reshape(shape)).astype(np.int64)
    return codes - centre, scales, zeros - centre
