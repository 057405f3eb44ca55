"""Weights of any format for the engine in float32: numbers of one format a tensor, and a scale an output.

A bias a channel is no matter: a format of the same precision with more exponents, or more bits, has the numbers of all
channels. From the largest bias B to the smallest one, b,

    FLOAT, EXP   <n_s, n_e', n_f, B>             2^n_e' >= 2^n_e + B - b
    FIXED        <1, 0, n_f + B - b, b>
    BIN          <1, n_e', 0, B + 1>             2^n_e' >= B - b + 2

AFFINE is integers times a scale, (q - zero) scale. The integers are FIXED, and the sum of each output is multiplied by
its scale. A zero point with a fraction has no integers: such weights are held in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.stages.kinds import Ints
from bitwright.backends.hls.stages.numbers import SINGLE, WIDEST_MIXED, in_single
from bitwright.ir.formats import Affine, Canonical, Format, binary, fixed

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class FloatWeights:
    """format: of the codes, one bias a tensor; codes: [outputs, inputs]; scale: of each output, None: all 1."""

    format: Canonical
    codes: Ints
    scale: Reals | None = None


def float_weights(number: Format | None, matrix: Reals) -> FloatWeights | None:
    """matrix: numbers of a format, [outputs, inputs]. None if float32 has no place for them."""
    if isinstance(number, Affine):
        return _affine(number, matrix)
    if not isinstance(number, Canonical):
        return None
    format = of_all_channels(number)
    if format.kind == "FIXED":
        return FloatWeights(format, format.integers(matrix)) if format.width <= WIDEST_MIXED else None
    if format.kind != "BIN" and not in_single(format):
        return None
    return FloatWeights(format, format.encode(matrix).astype(np.int64))


def of_all_channels(number: Canonical) -> Canonical:
    """A format with one bias that has the numbers of every channel; itself if it has one."""
    least, most = int(number.biases.min()), int(number.biases.max())
    spread = most - least
    if number.n_e:
        return Canonical(number.n_s, ((1 << number.n_e) + spread - 1).bit_length(), number.n_f, most)
    if number.n_f:
        return Canonical(number.n_s, 0, number.n_f + spread, least)
    return Canonical(1, (spread + 1).bit_length(), 0, most + 1) if spread else binary(least)


def _affine(number: Affine, matrix: Reals) -> FloatWeights | None:
    if not np.equal(number.zeros, np.rint(number.zeros)).all():
        return FloatWeights(SINGLE, SINGLE.encode(matrix.astype(np.float32)).astype(np.int64))
    scale = np.broadcast_to(number.scales, len(matrix)).astype(np.float64)
    integers = np.rint(matrix / scale[:, None]).astype(np.int64)
    width = max(2, int(np.abs(integers).max(initial=0)).bit_length() + 1)
    return FloatWeights(fixed(width, 2 - width), integers, scale) if width <= WIDEST_MIXED else None
