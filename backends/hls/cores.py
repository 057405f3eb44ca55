"""What arithmetic in float32 costs: the vendor's cores, and the moves of bits that bring other formats to float32.

    ADD         fadd_32ns_32ns_32_5_full_dsp, 2 DSP, 5 stages
    MULTIPLY    fmul_32ns_32ns_32_4_max_dsp, 3 DSP, 4 stages

as csynth reports them for 7 series at 10 ns; LUT and FF differ between its releases, so they are a range. With these
the 13 products and sums of the float LeNet's conv2 (25 in 2 cycles) take 65 DSP and its whole design 70, where csynth
says 71 (docs/estimate.md). What real.hpp builds of gates is counted by its shifters: a leading one is found and shifted
in ceil(log2 W) multiplexers of W bits, two of which share a LUT at best; a rounding is an adder of 24 bits.
"""

from __future__ import annotations

import math

from bitwright.backends.hls.cost import Cost
from bitwright.backends.hls.stages import Number, Scaled
from bitwright.ir.formats import Canonical, Format

ADD = Cost((200.0, 400.0), (200.0, 230.0), 0, 2)
MULTIPLY = Cost((100.0, 330.0), (120.0, 150.0), 0, 3)
COMPARE = Cost((20.0, 140.0), (0.0, 70.0))
MULTIPLY_DEPTH = 4
DEPTH = 20  # cycles of a pipeline with a product and a sum; 17 to 22 in reports
TREE_LEVEL = 4  # cycles that a further level of additions takes
SINGLE_BIAS = 127


def widen(number: Number | Format) -> Cost:
    """A number of a format to float32."""
    if isinstance(number, Scaled):
        return _normalise(number.width) + MULTIPLY
    if isinstance(number, Canonical) and number.n_e > 0:
        return Cost() if number.bias == SINGLE_BIAS or number.n_f == 0 else _normalise(number.n_f)
    return _normalise(number.width)


def nearest(number: Number) -> Cost:
    """A float32 to the nearest number of a format."""
    rounding = Cost((80.0, 260.0), (60.0, 160.0))
    return rounding + MULTIPLY if isinstance(number, Scaled) else rounding


def clip(bounds: tuple[float, float]) -> Cost:
    """A comparison for each bound that is not open."""
    return COMPARE * sum(math.isfinite(bound) for bound in bounds)


def _normalise(bits: int) -> Cost:
    levels = bits * math.ceil(math.log2(bits + 1))
    return Cost((0.5 * levels + 10, 1.5 * levels + 30), (0.0, 2.0 * bits))
