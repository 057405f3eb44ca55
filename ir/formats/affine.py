"""AFFINE(N, scale, zero): the linear quantisation of the LeNet paper, eq. (1)-(4), and of ONNX QuantizeLinear.

    q = clip(rint(x / scale) + zero, low, high)          x* = (q - zero) scale

with low..high = 0..2^N-1, or -2^(N-1)..2^(N-1)-1 if signed; `narrow` leaves out one end (2^N-1, or -2^(N-1)). The
paper's real offset `Zero` is -zero * scale; `zero` may therefore have a fraction, which then is added before rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.errors import CompileError
from bitwright.ir.formats.base import Array, along, check_channels, check_finite


@dataclass(frozen=True)
class Affine:
    """Integers of `n` bits with a real scale (> 0) and a zero point, one each or one a channel of `axis`."""

    n: int
    scale: float | tuple[float, ...]
    zero: float | tuple[float, ...] = 0
    signed: bool = False
    axis: int | None = None
    narrow: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 32:
            raise CompileError(f"AFFINE has 1 to 32 bits, not {self.n}")
        if isinstance(self.scale, tuple) != (self.axis is not None):
            raise CompileError("AFFINE: a scale a channel needs an axis, and an axis a scale a channel")
        if self.scale == ():
            raise CompileError("AFFINE: no channels")
        if isinstance(self.zero, tuple) and len(self.zero) != self.channels:
            raise CompileError(f"AFFINE: {len(self.zero)} zero points for {self.channels or 1} scales")
        if not all(s > 0 and math.isfinite(s) for s in self.scales.flat):
            raise CompileError("AFFINE: a scale must be positive and finite")
        if not np.isfinite(self.zeros).all():
            raise CompileError("AFFINE: a zero point must be finite")

    @property
    def width(self) -> int:
        return self.n

    @property
    def kind(self) -> str:
        return "AFFINE"

    @property
    def channels(self) -> int | None:
        return len(self.scale) if isinstance(self.scale, tuple) else None

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """The scales: shape [] per tensor, [channels] per channel."""
        return np.array(self.scale, np.float64)

    @cached_property
    def zeros(self) -> NDArray[np.float64]:
        """The zero points, shaped like the scales."""
        return np.broadcast_to(np.array(self.zero, np.float64), self.scales.shape)

    @property
    def low(self) -> int:
        return -(1 << (self.n - 1)) + self.narrow if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.n - 1)) - 1 if self.signed else (1 << self.n) - 1 - self.narrow

    @classmethod
    def spanning(
        cls, n: int, low: float | Array, high: float | Array, axis: int | None = None, whole: bool = False
    ) -> Affine:
        """The paper's eq. (1) and (2): Zero = low, Scale = (high - low) / (2^n - 1), a real zero point.

        whole: the zero point is rounded, so that 0 is one of the numbers, and the ends move by half a step at most.
        """
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        scale = np.where(high > low, (high - low) / ((1 << n) - 1), 1.0)
        zero = np.rint(-low / scale) if whole else -low / scale
        if axis is None:
            return cls(n, float(scale), float(zero))
        return cls(n, tuple(scale.tolist()), tuple(zero.tolist()), axis=axis)

    def quantize(self, x: Array, name: str = "tensor") -> Array:
        x = np.asarray(x)
        q, scale, zero = self._codes(x, name)
        return np.asarray((q - zero) * scale, x.dtype if x.dtype == np.float32 else np.float64)

    def encode(self, x: Array) -> NDArray[np.uint64]:
        q = self._codes(np.asarray(x), "tensor")[0].astype(np.int64)
        return np.asarray(q & ((1 << self.n) - 1), np.uint64)

    def decode(self, codes: Array) -> NDArray[np.float64]:
        q = np.asarray(codes).astype(np.int64)
        check_channels(self, q, "codes")
        if self.signed:
            q = q - ((q >> (self.n - 1)) << self.n)
        zero = along(self.axis, q.ndim, self.zeros)
        return np.asarray((q - zero) * along(self.axis, q.ndim, self.scales), np.float64)

    def __str__(self) -> str:
        from bitwright.ir.formats.text import to_text

        return to_text(self)

    def _codes(self, x: Array, name: str) -> tuple[Array, Array, Array]:
        check_finite(x, name)
        check_channels(self, x, name)
        single = self.n <= 23 and self.scales.min() > 2.0**-126 and self.scales.max() < 2.0**103  # n bits of it fit
        dtype = np.float32 if x.dtype == np.float32 and single else np.float64
        scale = along(self.axis, x.ndim, self.scales).astype(dtype)
        zero = along(self.axis, x.ndim, self.zeros)
        whole = np.floor(zero)
        with np.errstate(over="ignore"):  # what overflows, saturates
            q = np.rint(x / scale + (zero - whole).astype(dtype)) + whole.astype(dtype)
        return np.clip(q, self.low, self.high), scale, zero.astype(dtype)
