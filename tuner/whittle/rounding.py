"""Second-order rounding: numbers of a format whose layer output is nearest, not those that are nearest themselves.

A layer y = W x whose weights become Q changes its output by E x, E = Q - W. Over many inputs, with H = sum x x^T,

    damage(Q) = sum |E x|^2 = tr(E H E^T)

is made small column by column, as GPTQ does (Frantar et al., 2022): each column is rounded, and what that changes in
the output is made up for by the columns still to come. With R R^T = H, R upper triangular, the damage is |E R|^2, of
which each column has its own share, left to it by those before,

    q_j = Q(w_j - sum_{i < j} e_i R[i, j] / R[j, j])

which are the numbers that GPTQ finds by the Cholesky factor of H^-1, without an inverse;
columns of large H[j, j] first. Sweeps of coordinate descent follow: each column again takes the best number given all
the others. Rows do not interact: each has a format of its own, and one call serves many formats at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats import Canonical
from bitwright.passes.moments import Matrix

Single = NDArray[np.float32]

DAMPING = 0.01
BLOCK = 64


@dataclass(frozen=True)
class Curvature:
    """H [inputs, inputs] of a layer, damped, and its factor R with the inputs in `order`; in the precision of H."""

    h: Matrix | Single
    order: NDArray[np.int64]
    factor: Matrix | Single

    @cached_property
    def single(self) -> tuple[Single, Single]:
        """h and factor in single precision, made once for all roundings."""
        return self.h.astype(np.float32, copy=False), self.factor.astype(np.float32, copy=False)

    @classmethod
    def of(cls, h: Matrix | Single) -> Curvature:
        """From sum x x^T; one hundredth of its mean diagonal is added, so that it can be factored."""
        damped = h.copy()
        damped[np.diag_indices(len(h))] += max(DAMPING * float(np.diagonal(h).mean()), 1e-12)
        order = np.argsort(np.negative(np.diagonal(damped)), kind="stable")
        turned = order[::-1]  # turned around, R is the lower triangular factor that LAPACK knows
        factor = np.linalg.cholesky(damped[np.ix_(turned, turned)])
        return cls(damped, order, np.ascontiguousarray(factor[::-1, ::-1]))


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
        self.most = np.log2(self.high)

    def nearest(self, column: Single) -> Single:
        """The nearest numbers [rows]."""
        scaled = column / self.step
        if self.is_power:  # 2^e for 1.5 2^(e-1) <= |x| < 1.5 2^e, and 0 up to half the smallest
            part, exponent = np.frexp(scaled)
            size = np.exp2(np.minimum(np.maximum(exponent - 1 + (np.abs(part) >= 0.75), 0), self.most))
            powers = np.where(np.abs(scaled) > 0.5, np.copysign(size, part), 0)
            return np.asarray(powers * self.step, np.float32)
        codes = np.minimum(np.maximum(np.rint(scaled), self.low), self.high)
        if self.has_binary:
            codes = np.where(self.is_binary, np.where(column >= 0, np.float32(1), np.float32(-1)), codes)
        return np.asarray(codes * self.step, np.float32)


def damage(w: Matrix, q: Single, curvature: Curvature) -> Matrix:
    """tr(E H E^T) row by row, from products in single precision: float64 [outputs]."""
    e = (q - w).astype(np.float32)
    return np.asarray(np.einsum("ij,ij->i", e @ curvature.single[0], e, dtype=np.float64))


def rounded(w: Matrix, curvature: Curvature, grid: Grid, sweeps: int = 1) -> Single:
    """Numbers of the grid [rows, inputs] that make little damage to rows w."""
    h, factor = curvature.single
    columns = np.ascontiguousarray(w.T, np.float32)
    left = columns[curvature.order]
    q, errors = np.empty_like(left), np.empty_like(left)
    for start in range(0, len(left), BLOCK):
        stop = min(start + BLOCK, len(left))
        before = factor[:start, start:stop].T @ errors[:start]
        for j in range(start, stop):
            sums = before[j - start] + factor[start:j, j] @ errors[start:j]
            q[j] = grid.nearest(left[j] - sums / factor[j, j])
            errors[j] = q[j] - left[j]
    result = np.empty_like(q)
    result[curvature.order] = q
    for _ in range(sweeps):
        if not _descend(columns, result, h, grid):
            break
    return result.T


def _descend(w: Single, q: Single, h: Single, grid: Grid) -> bool:
    """One sweep of coordinate descent on q [inputs, rows], in place; whether anything moved."""
    slope = h @ (q - w)
    steps = np.zeros_like(q)
    for start in range(0, len(q), BLOCK):
        stop = min(start + BLOCK, len(q))
        before = slope[start:stop] + h[start:stop, :start] @ steps[:start]
        for j in range(start, stop):
            best = grid.nearest(q[j] - (before[j - start] + h[j, start:j] @ steps[start:j]) / h[j, j])
            steps[j] = best - q[j]
            q[j] = best
    return bool(steps.any())
