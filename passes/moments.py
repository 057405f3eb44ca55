"""Second moments of what a layer's sums read, and the least-squares weights that they give.

For inputs x' that the layer gets and outputs t that it should give, means taken out (a bias makes up for them),

    H = mean x' x'^T        C = mean (t - W x') x'^T        W' = W + C (H + r I)^-1

or, with X' and E the rows of x' and t - W x' for n samples, fewer than inputs,

    W' = W + E^T (X' X'^T + n r I)^-1 X'

is the W' that makes mean |t - W' x'|^2 + r |W' - W|^2 least: the ridge r keeps what the samples say little of.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

RIDGE = 0.01  # of the mean diagonal of H
LEAST_RIDGE = 1e-12  # where an input never changes


def gram(x: NDArray[np.float32]) -> Matrix:
    """H of centred inputs [rows, inputs]: float64 [inputs, inputs]."""
    return (x.T @ x).astype(np.float64) / len(x)


def refitted(w: Matrix, h: Matrix, change: Matrix, ridge: float = RIDGE) -> Matrix:
    """W' from W [outputs, inputs], H and C = `change` [outputs, inputs]; `ridge` in mean diagonals of H."""
    r = max(ridge * np.trace(h) / len(h), LEAST_RIDGE) * np.eye(len(h))
    return np.asarray(w + np.linalg.solve(h + r, change.T).T)


def refitted_to(w: Matrix, x: NDArray[np.float32], missing: NDArray[np.float32], ridge: float = RIDGE) -> Matrix:
    """The same from samples: centred inputs [rows, inputs] and what outputs [rows, outputs] miss."""
    r = max(ridge * float(np.square(x).mean()), LEAST_RIDGE) * np.eye(len(x))
    kernel = (x @ x.T).astype(np.float64) / len(x) + r
    found = np.linalg.solve(kernel, missing.astype(np.float64) / len(x)).T
    return np.asarray(w + found.astype(np.float32) @ x)
