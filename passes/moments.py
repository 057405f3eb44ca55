"""Second moments of what a layer's sums read, and the least-squares weights that they give.

For inputs x' that the layer gets and outputs t that it should give, means taken out (a bias makes up for them),

    H = mean x' x'^T        C = mean (t - W x') x'^T        W' = W + C (H + r I)^-1

is the W' that makes mean |t - W' x'|^2 + r |W' - W|^2 least: the ridge r keeps what the samples say little of.
"""

from __future__ import annotations

import numpy as np

from bitwright.passes.cholesky import Matrix, Single, check_moments, solved

RIDGE = 0.01  # of the mean diagonal of H
LEAST_RIDGE = 1e-12  # where an input never changes


def products(x: Single) -> Single:
    """sum x x^T of inputs [rows, inputs]. Raises CompileError if they are too large for single precision."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = x.T @ x
    check_moments(found)
    return found


def gram(x: Single) -> Matrix:
    """H of centred inputs [rows, inputs]: float64 [inputs, inputs]. Raises what `products` does."""
    return products(x).astype(np.float64) / len(x)


def refitted(w: Matrix, h: Matrix, change: Matrix, ridge: float = RIDGE) -> Matrix:
    """W' from W [outputs, inputs], H and C = `change` [outputs, inputs]; `ridge` in mean diagonals of H."""
    return np.asarray(w + solved(_raised(h, max(ridge * np.trace(h) / len(h), LEAST_RIDGE)), change.T).T)


def fitted(w: Matrix, x: Matrix | Single, missing: Matrix, ridge: float = RIDGE) -> Matrix:
    """W' from centred inputs x [rows, inputs] and t - W x [rows, outputs].

    With more inputs than rows, from the Gram matrix of the rows: (x^T x / n + r I)^-1 x^T = x^T (x x^T / n + r I)^-1.
    """
    count, inputs = x.shape
    if inputs <= count:
        return refitted(w, gram(x.astype(np.float32)), missing.T @ x / count, ridge)
    rows = _raised((x @ x.T).astype(np.float64) / count, max(ridge * float(np.square(x).mean()), LEAST_RIDGE))
    return np.asarray(w + (solved(rows, missing) / count).astype(x.dtype).T @ x)


def _raised(h: Matrix, ridge: float) -> Matrix:
    """h + ridge I."""
    raised = h.copy()
    raised[np.diag_indices(len(h))] += ridge
    return raised
