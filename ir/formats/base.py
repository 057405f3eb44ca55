"""What every number format can do; the kinds are in canonical.py and affine.py."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.errors import CompileError

Array = NDArray[Any]


class Format(Protocol):
    """A set of representable numbers and how a real number is brought to the nearest of them.

    A format is a frozen record of numbers. Per tensor it has one parameter (bias, or scale and zero point); per
    channel it has one for each index of `axis`.
    """

    @property
    def width(self) -> int:
        """Bits a number takes."""

    @property
    def kind(self) -> str:
        """FLOAT, FIXED, EXP, BIN, AFFINE, or the unsigned UFLOAT, UFIXED, UEXP."""

    @property
    def axis(self) -> int | None:
        """The axis that has one parameter a channel, or None for one parameter a tensor."""

    @property
    def channels(self) -> int | None:
        """How many channels have a parameter of their own, or None for one parameter a tensor."""

    def quantize(self, x: Array, name: str = "tensor") -> Array:
        """The nearest representable value of every element, same shape, saturating.

        float32 stays float32 where the format's values fit in it and becomes float64 otherwise.
        Raises CompileError naming the tensor if an element is NaN or infinite.
        """

    def encode(self, x: Array) -> NDArray[np.uint64]:
        """Bit patterns (uint64) of representable values; anything else is quantised first."""

    def decode(self, codes: Array) -> NDArray[np.float64]:
        """The values (float64) of bit patterns."""


def check_finite(x: Array, name: str) -> None:
    """Raise CompileError if `x` has a NaN or an infinity: minimum and maximum carry both."""
    if x.size and not (np.isfinite(x.min()) and np.isfinite(x.max())):
        bad = np.flatnonzero(~np.isfinite(x))
        where = [int(i) for i in np.unravel_index(bad[0], x.shape)]
        what = "NaN" if np.isnan(x.flat[bad[0]]) else "infinity"
        raise CompileError(
            f"{name}: {what} at index {where} ({bad.size} of {x.size} elements are not finite)",
            help="a number format has neither NaN nor infinity; check how the model or the data was made",
        )


def along(axis: int | None, ndim: int, parameter: Array) -> Array:
    """`parameter` reshaped so that it broadcasts along `axis` of an array with `ndim` axes."""
    if axis is None:
        return parameter
    shape = [1] * ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def check_channels(format: Format, x: Array, name: str) -> None:
    """Raise CompileError unless `x` has as many channels on the format's axis as the format has parameters."""
    if format.axis is None:
        return
    if not -x.ndim <= format.axis < x.ndim or x.shape[format.axis] != format.channels:
        raise CompileError(
            f"{name}: {format.channels} channel parameters on axis {format.axis} do not fit shape {list(x.shape)}"
        )
