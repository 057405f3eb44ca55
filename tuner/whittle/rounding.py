"""Second-order rounding: numbers of a format whose layer output is nearest, not those that are nearest themselves.

A layer y = W x whose weights become Q changes its output by E x, E = Q - W. Over many inputs, with H = sum x x^T,

    damage(Q) = sum |E x|^2 = tr(E H E^T)

is made small column by column, as GPTQ does (Frantar et al., 2022): each column is rounded, and what that changes in
the output is made up for by the columns still to come. With T^T T = H, T lower triangular, the damage is |E T^T|^2, of
which each column has its own share, left to it by those before,

    q_j = Q(w_j - sum_{i < j} e_i T[j, i] / T[j, j])

which are the numbers that GPTQ finds by the Cholesky factor of H^-1, without an inverse; columns of large H[j, j]
first. Sweeps of coordinate descent follow: each column again takes the best number given all the others,

    q_j = Q(q_j - sum_i (q_i - w_i) H[j, i] / H[j, j])

in the same order; their first sums come from what the first rounding leaves behind, T e.

Rows do not interact: each has a format of its own, and one call serves many formats at once. All numbers of a row are
in units of its format's step, which is a power of two, so that rounding is to whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitwright.ir.formats import Canonical
from bitwright.passes.cholesky import Matrix, Single, blocks
from bitwright.tuner.whittle.curvature import Curvature, joined, split, times, upper

_EXPONENT = np.int32(0x7F800000)
_HALF_AN_EXPONENT = np.int32(0x00400000)
"""Bits of single precision."""


class Grid:
    """Rounding of a column, a number a row, each row in a format of its own (a bias an output channel, say).

    As the formats' quantize, without its checks; the rows are all of FIXED and BIN, or all of EXP.
    """

    def __init__(self, rows: Sequence[tuple[Canonical, int]]) -> None:
        """rows: formats, each with the number of rows it takes (as many as its axis has channels, if it has one)."""
        formats = [format for format, _ in rows]
        counts = [count for _, count in rows]
        self.is_power = bool(formats[0].n_e)
        steps = [np.broadcast_to(format.step_exponents, count) for format, count in rows]
        self.step = np.ldexp(np.float32(1), np.concatenate(steps))
        self.high = np.repeat(np.array([format.max_code for format in formats], np.float32), counts)
        self.low = np.where(np.repeat([format.n_s for format in formats], counts), -self.high, np.float32(0))
        self.is_binary = np.repeat([format.n_e == format.n_f == 0 for format in formats], counts)
        self.has_binary = bool(self.is_binary.any())

    def round(self, column: Single, out: Single) -> None:
        """The nearest numbers [rows] or [segments, rows], all in units of the steps."""
        if self.is_power:  # 2^e for 1.5 2^(e-1) <= |x| < 1.5 2^e, and 0 up to half the smallest
            powers = (column.view(np.int32) + _HALF_AN_EXPONENT & _EXPONENT).view(np.float32)
            np.minimum(np.maximum(powers, np.float32(1), out=powers), self.high, out=powers)
            np.copysign(powers, column, out=out)
            out *= np.abs(column) > 0.5
            return
        np.rint(column, out=out)
        np.maximum(out, self.low, out=out)
        np.minimum(out, self.high, out=out)
        if self.has_binary:
            np.copysign(np.float32(1), column + np.float32(0), out=out, where=self.is_binary)  # 1 for -0, too


def of_rows(format: Canonical, start: int, stop: int) -> Canonical:
    """The biases of some of the outputs, where these have biases of their own."""
    return format if format.axis is None else format.at(tuple(format.biases[start:stop].tolist()), 0)


def damage(w: Matrix, q: Single, curvature: Curvature) -> Matrix:
    """tr(E H E^T) row by row, from products in single precision: float64 [outputs]."""
    e = split((q - w).astype(np.float32), curvature.segments)
    damages = np.einsum("...ij,...ij->...i", e @ curvature.single, e, dtype=np.float64)
    return np.asarray(damages.reshape(-1, len(w)).sum(0))


def rounded(w: Matrix, curvature: Curvature, grid: Grid, sweeps: int = 1) -> Single:
    """Numbers of the grid [rows, inputs] that make little damage to rows w."""
    q, shared = _propagated(_columns(w, curvature, grid), curvature.shares, grid)
    if sweeps:
        _swept(q, curvature.pull(shared), curvature, grid, sweeps)
    return _rows(q, curvature, grid, w.shape[1])


def improved(q: Matrix, w: Matrix, curvature: Curvature, grid: Grid, sweeps: int = 1) -> Single:
    """Numbers [rows, inputs] that make less damage to rows w than q, which are of the grid."""
    own = _columns(q, curvature, grid)
    off = times(curvature.slopes, own - _columns(w, curvature, grid))
    _swept(own, off, curvature, grid, sweeps)
    return _rows(own, curvature, grid, w.shape[1])


def _columns(rows: Matrix | Single, curvature: Curvature, grid: Grid) -> Single:
    """Rows [rows, inputs] in units of their steps, turned, the inputs in the order of the curvature."""
    scaled = split(rows / grid.step[:, None], curvature.segments)
    if scaled.ndim == 2:
        return np.ascontiguousarray(scaled.T[curvature.order], np.float32)
    turned = [own.T[order] for own, order in zip(scaled, curvature.order, strict=True)]
    return np.stack(turned, 1).astype(np.float32)


def _rows(columns: Single, curvature: Curvature, grid: Grid, inputs: int) -> Single:
    """What `_columns` turned, turned back."""
    found = np.empty_like(columns)
    if columns.ndim == 2:
        found[curvature.order] = columns
    else:
        for segment, order in enumerate(curvature.order):
            found[order, segment] = columns[:, segment]
    numbers = found * grid.step + np.float32(0)  # no zero has a sign
    return joined(np.moveaxis(numbers, 0, -1), inputs)


def _swept(q: Single, off: Single, curvature: Curvature, grid: Grid, sweeps: int) -> None:
    """Sweeps of coordinate descent on columns q, in place, each being `off` from its best."""
    for sweep in range(sweeps):
        steps, lower = _descend(q, off, curvature.slopes, grid)
        if sweep + 1 == sweeps or not steps.any():
            break
        off += lower
        off += upper(curvature.slopes, steps)


def _propagated(columns: Single, shares: Single, grid: Grid) -> tuple[Single, Single]:
    """Columns, each rounded after what the errors e of those before leave to it; and shares e."""
    q, errors, shared = np.empty_like(columns), np.empty_like(columns), np.empty_like(columns)
    for start, stop in blocks(len(q)):
        own, left = errors[start:stop], columns[start:stop] - times(shares[..., start:stop, :start], errors[:start])
        corner = shares[..., start:stop, start:stop]
        for i, wanted in enumerate(left):
            wanted -= _before(corner, i, own)
            grid.round(wanted, q[start + i])
            np.subtract(q[start + i], columns[start + i], out=own[i])
        np.subtract(q[start:stop], left, out=shared[start:stop])
    return q, shared


def _descend(q: Single, off: Single, slopes: Single, grid: Grid) -> tuple[Single, Single]:
    """One sweep of coordinate descent on columns q, in place, each being `off` from its best.

    Returns the steps that the columns took, and what those of the blocks before have added to `off`.
    """
    steps, lower = np.negative(q), np.empty_like(q)
    best = q - off
    for start, stop in blocks(len(q)):
        lower[start:stop] = times(slopes[..., start:stop, :start], steps[:start])
        own, left = steps[start:stop], best[start:stop] - lower[start:stop]
        corner = slopes[..., start:stop, start:stop]
        for i, wanted in enumerate(left):
            wanted -= _before(corner, i, own)
            grid.round(wanted, q[start + i])
            own[i] += q[start + i]
    return steps, lower


def _before(corner: Single, i: int, columns: Single) -> Single:
    """The part of the columns before column i in a product with a block on the diagonal."""
    # dot begins sooner than @
    row: Single = (
        corner[i, :i].dot(columns[:i]) if corner.ndim == 2 else times(corner[:, i : i + 1, :i], columns[:i])[0]
    )
    return row
