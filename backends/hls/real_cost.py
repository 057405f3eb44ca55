"""What arithmetic in float32 or with a scale costs and how deep it is, beside the memories that every engine has.

FLOAT. The vendor's cores and what brings other formats to float32, of cores.py. The pipelines are 20 cycles deep, and 4
    more for each level of the adder tree, and for the scale of AFFINE weights, a product a row.
AFFINE. On top of the integers' sums, for every output a product with its scale, by the laws of products of FIXED.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls import cores
from bitwright.backends.hls.cost import Cost, dsp_slices, fabric_luts, memory
from bitwright.backends.hls.loops import DEPTH
from bitwright.backends.hls.stages import (
    ADDITION,
    SINGLE,
    FloatSumStage,
    RealJoinStage,
    RealMeanStage,
    RealPointStage,
    ScaledSumStage,
    Stage,
    SumStage,
)

Ints = NDArray[np.int64]

FloatStage = FloatSumStage | RealPointStage | RealJoinStage | RealMeanStage


def float_depth(stage: Stage) -> int:
    """How many cycles deeper than in fixed point a stage's pipeline is, if it computes in float32."""
    if isinstance(stage, FloatSumStage):
        return int(sum_depth(stage, np.array(stage.simd)))
    return cores.DEPTH - DEPTH if isinstance(stage, FloatStage) else 0


def sum_depth(stage: SumStage, simd: Ints) -> Ints:
    """The same of a sum in many foldings at once; its tree of adders has a level for each doubling of simd."""
    if not isinstance(stage, FloatSumStage):
        return np.zeros_like(simd)
    tree = cores.TREE_LEVEL * np.ceil(np.log2(simd)).astype(np.int64)
    return np.asarray(cores.DEPTH - DEPTH + cores.MULTIPLY_DEPTH * stage.scaled + tree)


def float_arithmetic(stage: FloatStage) -> Cost:
    """Cores, the ways of the stage's formats to float32 and back, and the memory of numbers that wait in float32."""
    out, lanes = cores.nearest(stage.format), stage.out_lanes
    if isinstance(stage, FloatSumStage):
        products = (cores.MULTIPLY + cores.ADD + cores.widen(stage.weight_format)) * (stage.pe * stage.simd)
        total = products + cores.widen(stage.in_format) * stage.width + (out + cores.clip(stage.clip)) * lanes
        if stage.scaled:
            total += cores.MULTIPLY * stage.pe + memory(stage.outputs // stage.pe, SINGLE.width * stage.pe)
        return total + (memory(stage.turns, SINGLE.width * stage.pe) if stage.simd < stage.inputs else Cost())
    if isinstance(stage, RealPointStage):
        return (cores.widen(stage.in_format) + cores.clip(stage.clip) + out) * lanes
    if isinstance(stage, RealJoinStage):
        operation = cores.ADD if stage.op == "add" else cores.MULTIPLY
        both = cores.widen(stage.in_formats[0]) + cores.widen(stage.in_formats[1])
        total = (both + operation + out) * lanes
        return total + (
            memory(stage.channels[1] // lanes, lanes * stage.in_formats[1].width) if stage.broadcast else Cost()
        )
    groups = stage.channels // lanes
    parts = min(stage.positions, -(-ADDITION // groups))
    total = (cores.widen(stage.in_format) + cores.ADD * parts + cores.MULTIPLY + out) * lanes
    return total + memory(parts * groups, SINGLE.width * lanes)


def scaling(stage: ScaledSumStage) -> Cost:
    """The product with the scale of every output, and that of the zero point, which rows of one scale share."""
    scale, offset = stage.multiplier_bits, stage.offset_bits
    alike = stage.one_scale and not stage.depthwise
    found = _product(scale, stage.sum_bits) * stage.pe
    if stage.offset.any():
        totals = 1.0 * stage.width * stage.in_format.width
        found += _product(offset, stage.total_bits) * (1 if alike else stage.pe) + Cost((totals, 2 * totals))
    if not stage.one_scale:
        found += memory(stage.outputs // stage.pe, stage.pe * (scale + offset))
    return found


def _product(w: int, a: int) -> Cost:
    dsp = dsp_slices(w, a)
    low, high = (14.0, 64.0) if dsp else fabric_luts("FIXED", w, a)
    return Cost((low, high), (1.0 * (w + a), 2.0 * (w + a)), 0, dsp)
