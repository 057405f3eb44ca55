"""The triangular factor of a curvature, by blocks of rows.

    H = T^T T,   T lower triangular,   from the last block of rows s to the first:

    P = H[s, :] - T[after s, s]^T T[after s, :]       T[s, s]^T T[s, s] = P[s]       T[s, before s] = T[s, s]^-T P

Products of matrices do nearly all of the work, so that a factor of thousands of rows takes a third of the time of
numpy's, which for rows of T ends at the other end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.passes.moments import Matrix

BLOCK = 64


def lower_factor(h: Matrix | NDArray[np.float32]) -> Matrix | NDArray[np.float32]:
    """T [inputs, inputs] with T^T T = h, in the precision of h. Raises LinAlgError if h is not positive definite."""
    factor = np.zeros_like(h)
    for start in reversed(range(0, len(h), BLOCK)):
        stop = min(start + BLOCK, len(h))
        rows = h[start:stop, :stop] - factor[stop:, start:stop].T @ factor[stop:, :stop]
        corner = np.linalg.cholesky(rows[::-1, start:][:, ::-1])[::-1, ::-1]  # upper, corner corner^T = rows[:, start:]
        factor[start:stop, start:stop] = corner.T
        factor[start:stop, :start] = np.linalg.inv(corner) @ rows[:, :start]
    return factor
