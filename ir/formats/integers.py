"""Quantisers of other tools -> our formats: integers of a width with a scale and a zero point.

FIXED, UFIXED or BIN where every scale is a power of two, the zero point is 0 and the ranges are the same; else AFFINE.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats.affine import Affine
from bitwright.ir.formats.base import Format
from bitwright.ir.formats.canonical import Canonical
from bitwright.ir.formats.named import binary, fixed


def integer_format(
    width: int,
    scale: NDArray[np.float32],
    zero: NDArray[np.float32],
    signed: bool,
    narrow: bool,
    axis: int | None,
) -> Format:
    """The format of integers of `width` bits; scale and zero: one number, or one a channel of `axis`.

    narrow: the range leaves out one end, so that a signed one is symmetric. Raises CompileError if a scale is not
    positive.
    """
    scales, zeros = scale.reshape(-1).astype(np.float64), zero.reshape(-1).astype(np.float64)
    mantissas, exponents = np.frexp(scales)
    same_range = not narrow if not signed else narrow or width == 1
    if np.all(mantissas == 0.5) and not zeros.any() and same_range:
        steps = [int(e) - 1 for e in exponents]
        if signed and width == 1:
            return _at(binary(), [-step for step in steps], axis)
        n_s = int(signed)
        return _at(fixed(width, n_s=n_s), [1 + n_s - width - step for step in steps], axis)
    if axis is None:
        return Affine(width, float(scales[0]), float(zeros[0]), signed, None, narrow)
    zero_points = tuple(np.broadcast_to(zeros, scales.shape).tolist()) if zeros.any() else 0
    return Affine(width, tuple(scales.tolist()), zero_points, signed, axis, narrow)


def _at(format: Canonical, biases: list[int], axis: int | None) -> Canonical:
    return format.at(biases[0]) if axis is None else format.at(tuple(biases), axis)
