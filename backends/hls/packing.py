"""How many products of one activation a DSP slice makes by a single multiplication.

    x (w[0] + w[1] 2^k + ... + w[n-1] 2^((n-1) k)) = x w[0] + x w[1] 2^k + ... + x w[n-1] 2^((n-1) k)

With k bits for every product, its sign among them, the products are split apart exactly: product i is the k bits from
i k up, plus bit i k - 1, the sign of all that lies below (include/bitwright/packing.hpp). It takes

    k                 = 1 + bits of (largest |w| largest |x|)
    weights' port     (n - 1) k + 1 + bits of largest |w|
    activations' port as many bits as x has, and one more where x is unsigned

n is the largest number for which both fit. The multipliers, two's complement: DSP48E1 25 x 18 (UG479), DSP48E2 27 x 18
(UG579), DSP58 27 x 24 (AM004). FIXED is symmetric, so |w| <= 2^(N-1) - 1:

    FIXED 8 x FIXED 8     k = 15, 23 bits for two: every device, the DSP48E1 too, and 38 for three: none
    FIXED 8 x UFIXED 8    k = 16, 24 bits for two: every device
    AFFINE 8 x AFFINE 8   down to -128, k = 16 and 25 bits for two: just fits the DSP48E1
    FIXED 4 x FIXED 4     k = 7, 25 bits for four: every device
    FIXED 4 x UFIXED 4    k = 8, 20 bits for three, and 28 for four: none
    FIXED 9 x FIXED 9     k = 17, 26 bits for two: not the DSP48E1

AMD's white papers say the same of two 8-bit products (WP486: the port needs 24 bits at least) and pack four products of
4 bits, two weights by two activations (WP521). Both leave room between the products, so that slices can be chained
before the split, which is why they ask for the 27 bits of a DSP48E2 (WP486, WP487); here every product is split off
at its slice, which needs no such room.
"""

from __future__ import annotations

import math
from dataclasses import replace

from bitwright.backends.hls.board import Board
from bitwright.backends.hls.stages import Number, SumStage
from bitwright.ir.formats import Affine, Canonical, Format

PORTS = {"DSP48E1": (25, 18), "DSP48E2": (27, 18), "DSP58": (27, 24)}  # bits of the weights' port, the activations'
PACKED = "dsp-packed"  # as a plan says it


def packable(stage: SumStage, board: Board) -> int:
    """Products that a slice of the board makes of one activation of a layer, given enough rows; 1: no more than one.

    The rows of a depthwise convolution share no activation, and BIN, EXP and float32 multiply no integers.
    """
    if not stage.multiplies or stage.depthwise:
        return 1
    wide, narrow = PORTS[board.dsp_kind]
    if stage.in_format.width + (1 - stage.in_format.n_s) > narrow:
        return 1
    room = wide - 1 - _largest(stage.weight_format).bit_length()  # beside one weight
    return max(1, 1 + room // product_bits(stage.weight_format, stage.in_format))


def product_bits(weights: Format, activations: Number) -> int:
    """Bits of a product, its sign among them: the distance between two that are packed."""
    return 1 + (_largest(weights) * activations.max_code).bit_length()


def packed(stage: SumStage, board: Board) -> SumStage:
    """The layer with as many products a slice as the board has."""
    return replace(stage, packing=packable(stage, board))


def split_luts(stage: SumStage) -> tuple[float, float]:
    """LUTs that put weights side by side and split their products, as a range.

    A model, not a report: an adder of k bits for each product but the lowest of a slice gives back what was borrowed;
    the weights are put together by the slice's own pre-adder (low) or by an adder as wide as a weight (high).
    """
    if stage.packing == 1:
        return 0.0, 0.0
    upper = (stage.pe - math.ceil(stage.pe / stage.packing)) * stage.simd * stage.pixels
    k = product_bits(stage.weight_format, stage.in_format)
    return 1.0 * upper * k, upper * (k + 1.0 + stage.weight_format.width)


def _largest(weights: Format) -> int:
    """The size of the largest integer of a layer's weights."""
    if isinstance(weights, Affine):
        return 1 << (weights.n - 1)
    assert isinstance(weights, Canonical)
    return weights.max_code
