"""Second-order rounding: numbers of a format whose layer output is nearest, not those that are nearest themselves.

A layer y = W x whose weights become Q changes its output by E x, E = Q - W. Over many inputs, with H = sum x x^T,

    damage(Q) = sum |E x|^2 = tr(E H E^T)

is made small column by column (OBQ and GPTQ: Frantar et al., 2022): each column is rounded, and what that changes in
the output is made up for by the columns still to come,

    q_j = Q(w_j)        W[:, k] -= (w_j - q_j) U[j, k] / U[j, j]  for k > j,   U^T U = H^-1, U upper triangular

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
    """H [inputs, inputs] of a layer, damped, and what rounding needs of its inverse."""

    h: Matrix
    order: NDArray[np.int64]
    upper: Matrix

    @cached_property
    def single(self) -> tuple[Single, Single]:
        """h and upper in single precision, made once for all roundings."""
        return self.h.astype(np.float32), self.upper.astype(np.float32)

    @classmethod
    def of(cls, h: Matrix) -> Curvature:
        """From sum x x^T; one hundredth of its mean diagonal is added, so that it can be inverted."""
        diagonal = np.diagonal(h)
        damped = h + np.eye(len(h)) * max(DAMPING * float(diagonal.mean()), 1e-12)
        order = np.argsort(-np.diagonal(damped), kind="stable")
        # R R^T = H with R upper triangular, from the Cholesky factor of H turned around; then U = R^-1
        turned = order[::-1]
        factor = np.linalg.cholesky(damped[np.ix_(turned, turned)])[::-1, ::-1]
        return cls(damped, order, _inverse(np.asarray(factor, np.float64)))


def _inverse(upper: Matrix) -> Matrix:
    """Of an upper triangular matrix, block by block: [[A, B], [0, C]] has [[A', -A' B C'], [0, C']]."""
    if len(upper) <= BLOCK:
        return np.triu(np.linalg.inv(upper))
    half = len(upper) // 2
    first, last = _inverse(upper[:half, :half]), _inverse(upper[half:, half:])
    made = np.zeros_like(upper)
    made[:half, :half], made[half:, half:] = first, last
    made[:half, half:] = -first @ upper[:half, half:] @ last
    return made


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
        self.most = np.log2(self.high)

    def nearest(self, column: Single) -> Single:
        """The nearest numbers [rows]."""
        scaled = column / self.step
        if self.is_power:  # 2^e for 1.5 2^(e-1) <= |x| < 1.5 2^e, and 0 up to half the smallest
            part, exponent = np.frexp(scaled)
            size = np.exp2(np.clip(exponent - 1 + (np.abs(part) >= 0.75), 0, self.most))
            powers = np.where(np.abs(scaled) > 0.5, np.copysign(size, part), 0)
            return np.asarray(powers * self.step, np.float32)
        codes = np.clip(np.rint(scaled), self.low, self.high)
        if self.is_binary.any():
            codes = np.where(self.is_binary, np.where(column >= 0, 1, -1), codes)
        return np.asarray(codes * self.step, np.float32)


def damage(w: Matrix, q: Single, curvature: Curvature) -> Matrix:
    """tr(E H E^T) row by row, from products in single precision: float64 [outputs]."""
    e = (q - w).astype(np.float32)
    return np.asarray(np.einsum("ij,ij->i", e @ curvature.single[0], e, dtype=np.float64))


def rounded(w: Matrix, curvature: Curvature, grid: Grid, sweeps: int = 1) -> Single:
    """Numbers of the grid [rows, inputs] that make little damage to rows w."""
    left = np.asfortranarray(w[:, curvature.order], dtype=np.float32)
    q = np.empty_like(left)
    (h, upper), count = curvature.single, w.shape[1]
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        errors = np.empty((len(w), stop - start), np.float32, order="F")
        for j in range(start, stop):
            q[:, j] = grid.nearest(left[:, j])
            error = (left[:, j] - q[:, j]) / upper[j, j]
            left[:, j + 1 : stop] -= error[:, None] * upper[j, j + 1 : stop]
            errors[:, j - start] = error
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    result = np.empty_like(q)
    result[:, curvature.order] = q
    for _ in range(sweeps):
        if not _descend(w.astype(np.float32), result, h, grid):
            break
    return result


def _descend(w: Single, q: Single, h: Single, grid: Grid) -> bool:
    """One sweep of coordinate descent on q, in place; whether anything moved."""
    slope = np.asfortranarray((q - w) @ h)
    moved = False
    count = w.shape[1]
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        steps = np.zeros((len(w), stop - start), np.float32, order="F")
        for j in range(start, stop):
            best = grid.nearest(q[:, j] - slope[:, j] / h[j, j])
            step = best - q[:, j]
            if step.any():
                moved = True
                slope[:, start:stop] += step[:, None] * h[j, start:stop]
                q[:, j] = best
                steps[:, j - start] = step
        slope[:, stop:] += steps @ h[start:stop, stop:]
    return moved
