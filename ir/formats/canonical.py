"""The canonical number format <n_s, n_e, n_f, B> of libnumber, eq. (1):

    (-1)^S (1 + F 2^-n_f) 2^(E-B)   if E != 0          (-1)^S F 2^-n_f 2^(1-B)   if E == 0

with FLOAT (n_e > 0, n_f > 0), FIXED (n_e = 0), EXP (n_f = 0) and BIN (both 0) as its kinds. Every code is a finite
number: there is no infinity and no NaN. BIN has the two values +-2^-B and no zero, where eq. (1) would give only 0.

Rounding. The quantum of x is the distance of its representable neighbours,

    q(x) = max(2^(floor(log2 |x|) - n_f), 2^(1-B-n_f))          FIXED: always 2^(1-B-n_f), the step

and x goes to rint(x / q) q, saturated: to nearest, and half way to the even multiple of q (`AP_RND_CONV`, IEEE 754
roundTiesToEven). EXP has one significant digit, so half way between two powers of two goes to the larger, as IEEE
754-2019 says for one-digit precision, and half way between 0 and the smallest power goes to 0. BIN takes 0 to +2^-B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.errors import CompileError
from bitwright.ir.formats.base import Array, along, check_channels, check_finite


@dataclass(frozen=True)
class Canonical:
    """<n_s, n_e, n_f, B>: sign bits (0 or 1), exponent bits, fraction bits and bias.

    `bias` is one integer, or a tuple with one a channel of `axis`. Raises CompileError if the record is no format,
    or if its values are not all normal numbers of a float64.
    """

    n_s: int
    n_e: int
    n_f: int
    bias: int | tuple[int, ...] = 0
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.n_s not in (0, 1) or self.n_e < 0 or self.n_f < 0 or self.width < 1:
            raise CompileError(f"<{self.n_s},{self.n_e},{self.n_f}> is not a number format")
        if isinstance(self.bias, tuple) != (self.axis is not None):
            raise CompileError(f"{self}: a bias a channel needs an axis, and an axis a bias a channel")
        if isinstance(self.bias, tuple) and not self.bias:
            raise CompileError(f"{self}: no channels")
        if self.n_e > 10 or self.n_f > 52 or self._max_exponent > 1023 or self._min_exponent < -1022:
            raise CompileError(f"{self}: its values do not all fit in a 64-bit float")

    @property
    def width(self) -> int:
        return self.n_s + self.n_e + self.n_f

    @property
    def kind(self) -> str:
        name = "FLOAT" if self.n_e and self.n_f else "EXP" if self.n_e else "FIXED" if self.n_f else "BIN"
        return name if self.n_s else "U" + name

    @property
    def is_integer(self) -> bool:
        """Whether every value is an integer times one power of two of at most `width` bits (FIXED and BIN)."""
        return self.n_e == 0

    @property
    def channels(self) -> int | None:
        return len(self.bias) if isinstance(self.bias, tuple) else None

    @cached_property
    def biases(self) -> NDArray[np.int64]:
        """The biases: shape [] per tensor, [channels] per channel."""
        return np.array(self.bias, np.int64)

    @property
    def step_exponents(self) -> NDArray[np.int64]:
        """log2 of the smallest quantum (FIXED: of the step; BIN: of the magnitude), [] or [channels]."""
        exponents = -self.biases if self.n_e == self.n_f == 0 else 1 - self.n_f - self.biases
        return np.asarray(exponents, np.int64)

    @property
    def step(self) -> float | Array:
        """The smallest quantum: a float per tensor, an array [channels] per channel."""
        return _scalar(np.ldexp(1.0, self.step_exponents))

    @property
    def max(self) -> float | Array:
        """The largest value: a float per tensor, an array [channels] per channel."""
        significand, exponent = self._largest
        return _scalar(np.ldexp(float(significand), exponent + self.step_exponents))

    @property
    def min(self) -> float | Array:
        """The smallest value: -max, or 0 for an unsigned format."""
        return -self.max if self.n_s else 0.0 * self.max

    @property
    def max_code(self) -> int:
        """The largest integer multiple of the step (FIXED: 2^n_f - 1; BIN: 1)."""
        significand, exponent = self._largest
        return significand << exponent

    def at(self, bias: int | tuple[int, ...], axis: int | None = None) -> Canonical:
        """The same widths with another bias, or one a channel of `axis`."""
        return replace(self, bias=bias, axis=axis)

    def covering(self, magnitude: float | Array, axis: int | None = None) -> Canonical:
        """The same widths with the largest bias (the finest step) that still represents `magnitude`.

        `magnitude` (>= 0) is a float, or an array [channels] together with `axis`; 0 takes bias 0. BIN takes the power
        of two that is nearest in proportion.
        """
        target = np.asarray(magnitude, np.float64)
        positive = np.where(target > 0, target, 1.0)
        if self.n_e == self.n_f == 0:
            exponent = np.round(np.log2(positive))
        else:
            (ours, largest), (theirs, wanted) = np.frexp(self.at(0).max), np.frexp(positive)
            exponent = wanted - largest + (ours < theirs)
        exponent = np.where(target > 0, exponent, 0).astype(np.int64)
        least = (1 << self.n_e) - 1 - 1023 if self.n_e else -1023
        biases = np.clip(-exponent, least, 1023 - self.n_f)
        return self.at(int(biases) if axis is None else tuple(int(b) for b in biases), axis)

    def quantize(self, x: Array, name: str = "tensor") -> Array:
        x = np.asarray(x)
        check_finite(x, name)
        check_channels(self, x, name)
        work = x.astype(self._carrier(x.dtype), copy=False)
        biases = along(self.axis, x.ndim, self.biases)
        if self.n_e == self.n_f == 0:
            size = np.ldexp(work.dtype.type(1), -biases)
            return np.asarray(np.where(work >= 0, size, -size), work.dtype)
        with np.errstate(over="ignore"):  # what overflows, saturates
            return self._quantize_fixed(work, biases) if self.n_e == 0 else self._quantize_floating(work, biases)

    def integers(self, x: Array, name: str = "tensor") -> NDArray[np.int64]:
        """`quantize(x) / step` as int64: what the hardware computes with. FIXED and BIN only."""
        if not self.is_integer:
            raise CompileError(f"{name}: {self.kind} values are not multiples of one step")
        exponents = along(self.axis, np.ndim(x), self.step_exponents)
        return np.asarray(np.ldexp(self.quantize(x, name).astype(np.float64), -exponents), np.int64)

    def encode(self, x: Array) -> NDArray[np.uint64]:
        value = self.quantize(np.asarray(x)).astype(np.float64)
        sign = np.signbit(value).astype(np.uint64)
        if self.n_e == self.n_f == 0:
            return np.asarray(sign)
        steps = -along(self.axis, value.ndim, self.step_exponents)
        magnitude = np.abs(value)
        if self.n_e == 0:
            code = np.ldexp(magnitude, steps).astype(np.uint64)
        else:
            exponent = np.frexp(magnitude)[1] - 1 + along(self.axis, value.ndim, self.biases)
            exponent = np.where(magnitude == 0, 0, np.maximum(exponent, 0))
            # E = 0 and E = 1 share their quantum; above, the fraction field counts on from the leading one
            field = np.ldexp(magnitude, steps - np.maximum(exponent - 1, 0)).astype(np.uint64)
            code = field - np.where(exponent > 0, np.uint64(1 << self.n_f), np.uint64(0))
            code |= exponent.astype(np.uint64) << np.uint64(self.n_f)
        return np.asarray((sign << np.uint64(self.width - 1)) | code if self.n_s else code)

    def decode(self, codes: Array) -> NDArray[np.float64]:
        codes = np.asarray(codes).astype(np.uint64)
        check_channels(self, codes, "codes")
        if codes.size and int(codes.max()) >> self.width:
            raise CompileError(f"{int(codes.max()):#x} is not a {self.width}-bit pattern of {self}")
        sign = (codes >> np.uint64(self.width - 1)) & np.uint64(1) if self.n_s else np.zeros_like(codes)
        fraction = (codes & np.uint64((1 << self.n_f) - 1)).astype(np.float64)
        exponent = ((codes >> np.uint64(self.n_f)) & np.uint64((1 << self.n_e) - 1)).astype(np.int64)
        if self.n_e == self.n_f == 0:
            fraction += 1.0
        significand = np.where(exponent > 0, fraction + 2.0**self.n_f, fraction)
        steps = along(self.axis, codes.ndim, self.step_exponents)
        magnitude = np.ldexp(significand, steps + np.maximum(exponent - 1, 0))
        return np.asarray(np.where(sign > 0, -magnitude, magnitude), np.float64)

    def values(self) -> NDArray[np.float64]:
        """All values, ascending, each once, as float64 [count]; per tensor and up to 20 bits only."""
        if self.axis is not None or self.width > 20:
            raise CompileError(f"{self}: values() lists one tensor's format of at most 20 bits")
        return np.unique(self.decode(np.arange(1 << self.width)) + 0.0)

    def __str__(self) -> str:
        from bitwright.ir.formats.text import to_text

        return to_text(self)

    @property
    def _largest(self) -> tuple[int, int]:
        """The largest value as significand * 2^exponent, in steps."""
        if self.n_e == 0:
            return (max((1 << self.n_f) - 1, 1), 0)
        return ((2 << self.n_f) - 1, (1 << self.n_e) - 2)

    @property
    def _max_exponent(self) -> int:
        low = min(self.bias) if isinstance(self.bias, tuple) else self.bias
        return (1 << self.n_e) - 1 - low if self.n_e else -low

    @property
    def _min_exponent(self) -> int:
        high = max(self.bias) if isinstance(self.bias, tuple) else self.bias
        return 1 - self.n_f - high

    def _carrier(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """float32 for float32 data whose quantised values are exact in float32 (normal numbers), else float64."""
        fits = self.n_f <= 23 and self._min_exponent > -126 and self._max_exponent <= 126
        return np.dtype(np.float32 if dtype == np.float32 and (fits or self._is_single) else np.float64)

    @property
    def _is_single(self) -> bool:
        """Whether every float32 is one of its values."""
        return (self.n_s, self.n_e, self.n_f, self.bias) == (1, 8, 23, 127)

    def _quantize_fixed(self, x: Array, biases: Array) -> Array:
        one = x.dtype.type(1)
        exponent = 1 - self.n_f - biases
        high = x.dtype.type(self.max_code)
        steps = np.asarray(x * np.ldexp(one, -exponent))
        np.rint(steps, out=steps)
        np.clip(steps, -high if self.n_s else 0 * high, high, out=steps)
        if not self.n_s:
            steps += 0.0  # an unsigned format has no -0
        steps *= np.ldexp(one, exponent)
        return steps

    def _quantize_floating(self, x: Array, biases: Array) -> Array:
        if x.dtype == np.float32 and self._is_single:
            return x.copy()
        bits, exponent_mask = (np.int32, 0x7F800000) if x.dtype == np.float32 else (np.int64, 0x7FF << 52)
        power = np.empty_like(x)
        np.bitwise_and(x.view(bits), bits(exponent_mask), out=power.view(bits))  # 2^floor(log2 |x|)
        power *= x.dtype.type(2.0**-self.n_f)
        one = x.dtype.type(1)
        quantum = np.maximum(power, np.ldexp(one, 1 - self.n_f - biases), out=power)
        rounded = np.asarray(x / quantum)
        np.rint(rounded, out=rounded)
        rounded *= quantum
        high = np.asarray(along(self.axis, x.ndim, np.asarray(self.max, x.dtype)), x.dtype)
        np.clip(rounded, -high if self.n_s else 0 * high, high, out=rounded)
        if not self.n_s:
            rounded += 0.0  # an unsigned format has no -0
        return rounded


def _scalar(values: Array) -> float | Array:
    return float(values) if values.ndim == 0 else values
