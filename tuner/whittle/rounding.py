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
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats import Canonical
from bitwright.passes.cholesky import Matrix, Single, blocks, lower_factor, solved_by

DAMPING = 0.01
_EXPONENT = np.int32(0x7F800000)
_HALF_AN_EXPONENT = np.int32(0x00400000)
"""Bits of single precision."""


@dataclass(frozen=True)
class Curvature:
    """H [inputs, inputs] of a layer, damped, and its factor T with the inputs in `order`; in the precision of H.

    raised: factors of H with ridges, which `solved` came to need.
    """

    h: Matrix | Single
    order: NDArray[np.int64]
    factor: Matrix | Single
    raised: dict[float, Single] = field(default_factory=dict)

    @cached_property
    def single(self) -> Single:
        """h in single precision, made once for all roundings."""
        return self.h.astype(np.float32, copy=False)

    @cached_property
    def shares(self) -> Single:
        """T[j, i] / T[j, j]: what an error of column i moves column j by."""
        return self.factor.astype(np.float32) / np.diagonal(self.factor).astype(np.float32)[:, None]

    @cached_property
    def slopes(self) -> Single:
        """H[j, i] / H[j, j], in `order`: how far from its best an error of column i puts column j."""
        turned = self.single.take(self.order, 0).take(self.order, 1)
        return turned / np.diagonal(turned)[:, None]

    def pull(self, shared: Single) -> Single:
        """slopes @ e from shares @ e [inputs, columns], for half a product: H = T^T T = shares^T diag(T)^2 shares."""
        squares = np.square(np.diagonal(self.factor)).astype(np.float32)
        powers = np.diagonal(self.single)[self.order]
        return _upper(self.shares.T, shared * squares[:, None]) / powers[:, None]

    def solved(self, ridge: float, b: Matrix) -> Single:
        """X [inputs, columns] with (H + r I) X = b, where r is `ridge` mean diagonals of H; the factor is kept."""
        if ridge not in self.raised:
            h = self.h.copy()
            h[np.diag_indices(len(h))] += ridge * float(np.diagonal(h).mean())
            self.raised[ridge] = lower_factor(h).astype(np.float32, copy=False)
        return solved_by(self.raised[ridge], b.astype(np.float32))

    @classmethod
    def of(cls, h: Matrix | Single) -> Curvature:
        """From sum x x^T; one hundredth of its mean diagonal is added, so that it can be factored."""
        damped = h.copy()
        damped[np.diag_indices(len(h))] += max(DAMPING * float(np.diagonal(h).mean()), 1e-12)
        order = np.argsort(np.negative(np.diagonal(damped)), kind="stable")
        return cls(damped, order, lower_factor(damped.take(order, 0).take(order, 1)))


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
        """The nearest numbers [rows], all in units of the steps."""
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
            out[:] = np.where(self.is_binary, np.where(column >= 0, np.float32(1), np.float32(-1)), out)


def of_rows(format: Canonical, start: int, stop: int) -> Canonical:
    """The biases of some of the outputs, where these have biases of their own."""
    return format if format.axis is None else format.at(tuple(format.biases[start:stop].tolist()), 0)


def damage(w: Matrix, q: Single, curvature: Curvature) -> Matrix:
    """tr(E H E^T) row by row, from products in single precision: float64 [outputs]."""
    e = (q - w).astype(np.float32)
    return np.asarray(np.einsum("ij,ij->i", e @ curvature.single, e, dtype=np.float64))


def rounded(w: Matrix, curvature: Curvature, grid: Grid, sweeps: int = 1) -> Single:
    """Numbers of the grid [rows, inputs] that make little damage to rows w."""
    columns = _columns(w, curvature, grid)
    q, shared = _propagated(columns, curvature.shares, grid)
    if sweeps:
        _swept(q, curvature.pull(shared), curvature, grid, sweeps)
    return _rows(q, curvature, grid)


def improved(q: Matrix, w: Matrix, curvature: Curvature, grid: Grid, sweeps: int = 1) -> Single:
    """Numbers [rows, inputs] that make less damage to rows w than q, which are of the grid."""
    own = _columns(q, curvature, grid)
    off = curvature.slopes @ (own - _columns(w, curvature, grid))
    _swept(own, off, curvature, grid, sweeps)
    return _rows(own, curvature, grid)


def _columns(rows: Matrix | Single, curvature: Curvature, grid: Grid) -> Single:
    """Rows [rows, inputs] in units of their steps, turned, the inputs in the order of the curvature."""
    return np.ascontiguousarray((rows / grid.step[:, None]).T[curvature.order], np.float32)


def _rows(columns: Single, curvature: Curvature, grid: Grid) -> Single:
    """What `_columns` turned, turned back."""
    found = np.empty_like(columns)
    found[curvature.order] = columns
    return (found * grid.step + np.float32(0)).T  # no zero has a sign


def _swept(q: Single, off: Single, curvature: Curvature, grid: Grid, sweeps: int) -> None:
    """Sweeps of coordinate descent on q [inputs, rows], in place, each column being `off` from its best."""
    for sweep in range(sweeps):
        steps, lower = _descend(q, off, curvature.slopes, grid)
        if sweep + 1 == sweeps or not steps.any():
            break
        off += lower
        off += _upper(curvature.slopes, steps)


def _propagated(columns: Single, shares: Single, grid: Grid) -> tuple[Single, Single]:
    """Columns [inputs, rows], each rounded after what the errors e of those before leave to it; and shares e."""
    q, errors, shared = np.empty_like(columns), np.empty_like(columns), np.empty_like(columns)
    for start, stop in blocks(len(q)):
        block = columns[start:stop] - shares[start:stop, :start] @ errors[:start]
        for j in range(start, stop):
            wanted = block[j - start]
            wanted -= shares[j, start:j] @ errors[start:j]
            grid.round(wanted, q[j])
            np.subtract(q[j], columns[j], out=errors[j])
        np.subtract(q[start:stop], block, out=shared[start:stop])
    return q, shared


def _descend(q: Single, off: Single, slopes: Single, grid: Grid) -> tuple[Single, Single]:
    """One sweep of coordinate descent on q [inputs, rows], in place, each column being `off` from its best.

    Returns the steps that the columns took, and what those of the blocks before have added to `off`.
    """
    steps, lower = np.empty_like(q), np.empty_like(q)
    best = q - off
    for start, stop in blocks(len(q)):
        np.matmul(slopes[start:stop, :start], steps[:start], out=lower[start:stop])
        block = best[start:stop] - lower[start:stop]
        for j in range(start, stop):
            before = q[j].copy()
            grid.round(block[j - start] - slopes[j, start:j] @ steps[start:j], q[j])
            np.subtract(q[j], before, out=steps[j])
    return steps, lower


def _upper(matrix: Single, columns: Single) -> Single:
    """The product with the blocks on and above the diagonal of a matrix."""
    found = np.empty_like(columns)
    for start, stop in blocks(len(columns)):
        np.matmul(matrix[start:stop, start:], columns[start:], out=found[start:stop])
    return found
