"""What a layer's inputs say of its weights: their second moments H = sum x x^T, and the factor of these.

Of a layer of very many inputs, only those that are near each other are taken to go together: they are split into
segments, each with an H of its own. What the segments put out adds up to the layer's outputs, and each keeps its own.
Twice the inputs so take twice the time and memory, not eight and four times; and the columns of all segments are
rounded side by side.

Matrices are [n, n], or [segments, n, n]; rows of weights [rows, n], or [segments, rows, n]; columns, which are rows
turned, [n, rows], or [n, segments, rows]. The last segment is filled up with inputs that are always 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.tensor import Array
from bitwright.passes.cholesky import Matrix, Single, blocks, lower_factor, solved_by

DAMPING = 0.01
MOST_INPUTS = 1024  # of one segment, if it is the only one
SEGMENT = 512  # inputs, at most, where there are more


@dataclass(frozen=True)
class Curvature:
    """H of a layer, damped, and its factor T with the inputs in `order` [n] or [segments, n]; in the precision of H.

    raised: factors of H with ridges, which `solved` came to need.
    """

    h: Matrix | Single
    order: NDArray[np.int64]
    factor: Matrix | Single
    raised: dict[float, Single] = field(default_factory=dict)

    @property
    def segments(self) -> int:
        """How many there are."""
        return 1 if self.h.ndim == 2 else len(self.h)

    @property
    def powers(self) -> Array:
        """The diagonal of H, [n] or [segments, n]."""
        return _diagonal(self.h)

    @cached_property
    def single(self) -> Single:
        """h in single precision, made once for all roundings."""
        return self.h.astype(np.float32, copy=False)

    @cached_property
    def shares(self) -> Single:
        """T[j, i] / T[j, j]: what an error of column i moves column j by."""
        factor = self.factor.astype(np.float32)
        return np.asarray(factor / _diagonal(factor)[..., None])

    @cached_property
    def slopes(self) -> Single:
        """H[j, i] / H[j, j], in `order`: how far from its best an error of column i puts column j."""
        turned = each(_turned, self.single, self.order)
        return np.asarray(turned / _diagonal(turned)[..., None])

    def pull(self, shared: Single) -> Single:
        """slopes e from shares e, columns both, for half a product: H = T^T T = shares^T diag(T)^2 shares."""
        squares = np.square(_diagonal(self.factor)).astype(np.float32)
        powers = np.take_along_axis(self.powers, self.order, -1).astype(np.float32)
        return np.asarray(upper(self.shares.swapaxes(-1, -2), shared * squares.T[..., None]) / powers.T[..., None])

    def solved(self, ridge: float, b: Array) -> Single:
        """X [n, columns] with (H + r I) X = b, where r is `ridge` mean diagonals of H; the factor is kept."""
        if ridge not in self.raised:
            self.raised[ridge] = each(lambda h: lower_factor(_raised(h, ridge, 0)), self.h).astype(np.float32)
        return each(solved_by, self.raised[ridge], b.astype(np.float32))

    @classmethod
    def of(cls, h: Matrix | Single) -> Curvature:
        """From sum x x^T; one hundredth of its mean diagonal is added, so that it can be factored."""
        if h.ndim == 2:
            return cls(*_factored(h))
        damped, order, factor = (np.stack(parts) for parts in zip(*map(_factored, h), strict=True))
        return cls(damped, order, factor)


def segment_count(inputs: int) -> int:
    """How many segments a layer's inputs are split into."""
    return 1 if inputs <= MOST_INPUTS else math.ceil(inputs / SEGMENT)


def split(rows: Array, segments: int) -> Array:
    """[rows, inputs] by segments of the inputs; as they are if there is one."""
    if segments == 1:
        return rows
    missing = -rows.shape[1] % segments
    filled = np.pad(rows, ((0, 0), (0, missing))) if missing else rows
    return filled.reshape(len(rows), segments, -1).swapaxes(0, 1)


def joined(rows: Array, inputs: int) -> Array:
    """[rows, inputs] of what `split` made of them."""
    return rows if rows.ndim == 2 else rows.swapaxes(0, 1).reshape(rows.shape[1], -1)[:, :inputs]


def times(matrix: Single, columns: Single) -> Single:
    """The product of a matrix and columns, of each segment by itself."""
    return matrix @ columns if matrix.ndim == 2 else (matrix @ columns.swapaxes(0, 1)).swapaxes(0, 1)


def upper(matrix: Single, columns: Single) -> Single:
    """The product with the blocks on and above the diagonal of a matrix."""
    found = np.empty_like(columns)
    for start, stop in blocks(len(columns)):
        found[start:stop] = times(matrix[..., start:stop, start:], columns[start:])
    return found


def each(function: Callable[..., Array], *arrays: Array) -> Array:
    """A function of a matrix and what goes with it, or of each segment's, two at a time."""
    if arrays[0].ndim == 2:
        return function(*arrays)
    with ThreadPoolExecutor(2) as threads:
        return np.stack(list(threads.map(function, *arrays)))


def _factored(h: Matrix | Single) -> tuple[Array, NDArray[np.int64], Array]:
    """H damped, its order, those of large diagonals first, and its factor in that."""
    damped = _raised(h, DAMPING, 1e-12)
    order = np.argsort(np.negative(np.diagonal(damped)), kind="stable")
    return damped, order, lower_factor(_turned(damped, order))


def _raised(h: Array, ridge: float, least: float) -> Array:
    """H + r I, where r is `ridge` mean diagonals of H, and at least `least`."""
    raised = h.copy()
    raised[np.diag_indices(len(h))] += max(ridge * float(np.diagonal(h).mean()), least)
    return raised


def _turned(h: Array, order: NDArray[np.int64]) -> Array:
    """Rows and columns of a matrix in an order."""
    return h.take(order, 0).take(order, 1)


def _diagonal(matrix: Array) -> Array:
    return np.diagonal(matrix, axis1=-2, axis2=-1)
