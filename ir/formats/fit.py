"""The bias that suits a tensor, without any accuracy evaluation.

    covering       the finest step that still represents the largest magnitude (Canonical.covering)
    least squares  argmin over B of sum w (x - Q_B(x))^2, by a scan from one below the covering bias up to where
                   saturation alone, sum w max(|x| - largest, 0)^2, makes no less of an error than the best so far;
                   finer steps trade saturation of the few against precision of the many

Weighted, w may be an importance (a diagonal of a Hessian, say) of each number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats.base import Array, along
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
    sizes = np.abs(x)
    start = format.covering(sizes.max(axes, initial=0), axis).biases - 1
    errors: list[NDArray[np.float64]] = []
    for step in range(MOST_STEPS):
        tried = _at(format, start + step, axis)
        if errors and np.all(_saturation(tried, sizes, weight, axis, axes) > np.min(errors, 0)):
            break
        errors.append(_sum(np.square(x - tried.quantize(x)), weight, axes))
    best = np.argmin(errors, 0)
    return Fit(_at(format, start + best, axis), np.min(errors, 0))


def best_format(formats: Sequence[Canonical], x: Array, weight: Array | None = None, axis: int | None = None) -> Fit:
    """The format, of those given, and its bias of least squared error; of equal errors the earlier one."""
    fits = [best_bias(format, x, weight, axis) for format in formats]
    return min(fits, key=lambda fit: float(np.sum(fit.error)))


def _at(format: Canonical, biases: NDArray[np.int64], axis: int | None) -> Canonical:
    return format.at(int(biases)) if axis is None else format.at(tuple(int(b) for b in biases), axis)


def _saturation(
    format: Canonical, sizes: NDArray[np.float64], weight: Array | None, axis: int | None, axes: tuple[int, ...] | None
) -> NDArray[np.float64]:
    """The error that numbers of these sizes make because they are larger than any of the format's."""
    largest = along(axis, sizes.ndim, np.asarray(format.max))
    return _sum(np.square(np.maximum(sizes - largest, 0)), weight, axes)


def _sum(squares: NDArray[np.float64], weight: Array | None, axes: tuple[int, ...] | None) -> NDArray[np.float64]:
    return np.asarray((squares if weight is None else squares * weight).sum(axes), np.float64)
