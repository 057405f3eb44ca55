"""The bias that suits a tensor, without any accuracy evaluation.

    covering       the finest step that still represents the largest magnitude (Canonical.covering)
    least squares  argmin over B of sum w (x - Q_B(x))^2, by a scan from one below the covering bias up to where every
                   number saturates; finer steps trade saturation of the few against precision of the many

Weighted, w may be an importance (a diagonal of a Hessian, say) of each number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats.base import Array
from bitwright.ir.formats.canonical import Canonical

MOST_STEPS = 16


@dataclass(frozen=True)
class Fit:
    """A format and the (weighted) sum of squared errors it makes: a number, or one a channel [channels]."""

    format: Canonical
    error: NDArray[np.float64]


def best_bias(format: Canonical, x: Array, weight: Array | None = None, axis: int | None = None) -> Fit:
    """The bias of least squared error for `x`, per tensor or one a channel of `axis`.

    weight: of each number's error, broadcast to `x`. Of equal errors the coarser step is taken.
    """
    x = np.asarray(x, np.float64)
    axes = None if axis is None else tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    start = format.covering(np.abs(x).max(axes, initial=0), axis).biases - 1
    errors = np.stack([_error(format, x, weight, start + step, axis, axes) for step in range(MOST_STEPS)])
    best = np.argmin(errors, 0)
    biases = start + best
    found = format.at(int(biases)) if axis is None else format.at(tuple(int(b) for b in biases), axis)
    return Fit(found, np.take_along_axis(errors, best[None], 0)[0] if axis is not None else errors[best])


def best_format(formats: Sequence[Canonical], x: Array, weight: Array | None = None, axis: int | None = None) -> Fit:
    """The format, of those given, and its bias of least squared error; of equal errors the earlier one."""
    fits = [best_bias(format, x, weight, axis) for format in formats]
    return min(fits, key=lambda fit: float(np.sum(fit.error)))


def _error(
    format: Canonical,
    x: NDArray[np.float64],
    weight: Array | None,
    biases: NDArray[np.int64],
    axis: int | None,
    axes: tuple[int, ...] | None,
) -> NDArray[np.float64]:
    tried = format.at(int(biases)) if axis is None else format.at(tuple(int(b) for b in biases), axis)
    squares = np.square(x - tried.quantize(x))
    return np.asarray((squares if weight is None else squares * weight).sum(axes), np.float64)
