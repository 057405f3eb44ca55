"""The formats' rounding in torch, bit for bit as ir/formats has it, with a straight-through gradient.

Rounding has gradient 0 almost everywhere, which teaches nothing. Backwards it is taken for the identity (Bengio et al.,
"Estimating or propagating gradients through stochastic neurons", 2013), and saturation for what it is:

    y = Q(x)        dL/dx = dL/dy if low <= x <= high, else 0

For numbers that are learned the gradient passes everywhere; who trains them clamps them to low..high after each step,
so that none is lost beyond the range. BIN counts as saturating at its two values.

The bias B of a format may be learned, too: a real number that is rounded to an integer, Q being 2^-B Q0(2^B x) for a Q0
that has no bias. With rounding taken for the identity, here and in Q0 (Jain et al., "Trained quantization thresholds
for accurate and efficient fixed-point inference of deep neural networks", 2019),

    dy/dB = -log 2 (y - x)  if low <= x <= high,  else -log 2 y
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found, unused-ignore]

from bitwright.ir.formats import Affine, Canonical
from bitwright.ir.formats.base import along
from bitwright.ir.tensor import Array

FLOAT32 = Canonical(1, 8, 23, 127)
FARTHEST = 8
"""How far a bias may be learned away."""


class StraightThrough(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    """Forwards a quantizer's nearest numbers; backwards the identity, where `learned` or within the range."""

    @staticmethod
    def forward(
        context: Any, x: torch.Tensor, bias: torch.Tensor | None, quantizer: Quantizer, learned: bool
    ) -> torch.Tensor:
        y = quantizer.nearest(x)
        context.learned, context.format = learned, quantizer.format
        low, high = quantizer.range(x)
        inside = (x >= low) & (x <= high)
        kept = [] if learned else [inside]
        if bias is not None and bias.requires_grad:
            kept.append(torch.where(inside, y - x, y))
        context.save_for_backward(*kept)
        return y

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        gradient, kept = gradients[0], list(context.saved_tensors)
        given = gradient if context.learned else gradient * kept.pop(0)
        return given, _of_bias(gradient * kept[0], context.format.axis) if kept else None, None, None


def _of_bias(products: torch.Tensor, axis: int | None) -> torch.Tensor:
    """The gradient of a bias, or of one a channel of `axis`, from that of the numbers times how far they are off."""
    others = [i for i in range(products.ndim) if i != axis]
    return -math.log(2) * (products.sum(others) if others else products)


class Quantizer:
    """One format's rounding for tensors of any floating dtype and device.

    What float32 tensors give is exact where all numbers of the format are float32 numbers (`is_single`).
    bias: the format's, as real numbers that are learned; the format follows it.
    """

    def __init__(self, format: Canonical | Affine) -> None:
        self.bias: torch.nn.Parameter | None = None
        self.made: dict[tuple[str, torch.dtype, torch.device, int], torch.Tensor] = {}
        self._use(format)

    def _use(self, format: Canonical | Affine) -> None:
        self.format = format
        self.numbers = _canonical_numbers(format) if isinstance(format, Canonical) else _affine_numbers(format)
        self.made.clear()

    def learn_bias(self) -> torch.nn.Parameter | None:
        """Let the bias be learned from now on; None for a format that has none, or numbers that float32 has not."""
        if not isinstance(self.format, Canonical) or self.is_plain or not self.is_single:
            return None
        bias = torch.tensor(self.format.biases, dtype=torch.float32)
        finest, largest = np.log2(self.numbers["step"]), np.log2(self.numbers["most"])
        fewer, more = (np.clip(np.floor(room), 0, FARTHEST) for room in (126 - largest, finest + 126))
        self.lowest, self.highest = bias - torch.tensor(fewer), bias + torch.tensor(more)
        self.bias = torch.nn.Parameter(bias)
        return self.bias

    def follow(self) -> None:
        """Have the format of the bias as it is now, within FARTHEST of where it began."""
        if self.bias is None:
            return
        with torch.no_grad():
            kept = torch.minimum(torch.maximum(self.bias, self.lowest.to(self.bias)), self.highest.to(self.bias))
            self.bias.copy_(kept)
        rounded = self.bias.detach().round().cpu().numpy().astype(np.int64)
        assert isinstance(self.format, Canonical)
        if (rounded != self.format.biases).any():
            axis = self.format.axis
            self._use(self.format.at(int(rounded) if axis is None else tuple(map(int, rounded)), axis))

    @property
    def is_single(self) -> bool:
        """Whether float32 holds every number of the format and the inverse of its step."""
        if isinstance(self.format, Affine) or self.is_plain:
            return True
        ends = self.numbers["step"].min() >= 2.0**-126 and self.numbers["most"].max() < 2.0**127
        return self.format.n_f <= 23 and bool(ends)

    @property
    def is_plain(self) -> bool:
        """Whether every float32 is one of the format's numbers: FLOAT 32."""
        return self.format == FLOAT32

    def __call__(self, x: torch.Tensor, learned: bool = False) -> torch.Tensor:
        """The nearest numbers of the format, with the straight-through gradient."""
        result: torch.Tensor = StraightThrough.apply(x, self.bias, self, learned)  # type: ignore[no-untyped-call, unused-ignore]
        return result

    def range(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The least and the largest number, broadcast along the format's axis of `x`."""
        return self._number("least", x), self._number("most", x)

    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest number of every element, saturating; half to even."""
        if isinstance(self.format, Affine):
            return self._affine(x)
        if self.is_plain and x.dtype == torch.float32:
            return x.clone()
        if self.format.n_e:
            return self._floating(x)
        step = self._number("step", x)
        if not self.format.n_f:
            return torch.where(x >= 0, step, -step)
        high = float(self.format.max_code)
        steps = torch.round(x * self._number("inverse", x)).clamp(-high if self.format.n_s else 0.0, high)
        return steps * step if self.format.n_s else (steps + 0.0) * step  # an unsigned format has no -0

    def _floating(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.format, Canonical)
        single = x.dtype == torch.float32
        bits, exponent = (torch.int32, 0x7F800000) if single else (torch.int64, 0x7FF << 52)
        power = (x.contiguous().view(bits) & exponent).view(x.dtype)  # 2^floor(log2 |x|)
        quantum = torch.maximum(power * 2.0**-self.format.n_f, self._number("step", x))
        least, most = self.range(x)
        rounded = torch.minimum(torch.maximum(torch.round(x / quantum) * quantum, least), most)
        return rounded if self.format.n_s else rounded + 0.0

    def _affine(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.format, Affine)
        scale, zero = self._number("scale", x), self._number("zero", x)
        codes = torch.round(x / scale + self._number("fraction", x)) + self._number("whole", x)
        return (codes.clamp(self.format.low, self.format.high) - zero) * scale

    def _number(self, name: str, x: torch.Tensor) -> torch.Tensor:
        key = (name, x.dtype, x.device, x.ndim)
        if key not in self.made:
            number = along(self.format.axis, x.ndim, self.numbers[name])
            self.made[key] = torch.tensor(number, dtype=x.dtype, device=x.device)
        return self.made[key]


def on_steps(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Whole multiples of `step` (powers of two), half to even, without saturation; the gradient passes everywhere."""
    result: torch.Tensor = _OnSteps.apply(x, step)  # type: ignore[no-untyped-call, unused-ignore]
    return result


class _OnSteps(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    @staticmethod
    def forward(context: Any, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return torch.round(x / step) * step

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


def _canonical_numbers(format: Canonical) -> dict[str, Array]:
    step, most = np.asarray(format.step), np.asarray(format.max)
    return {"step": step, "inverse": 1 / step, "most": most, "least": -most if format.n_s else 0 * most}


def _affine_numbers(format: Affine) -> dict[str, Array]:
    scale, zero = format.scales, format.zeros
    whole = np.floor(zero)
    ends = {"least": (format.low - zero) * scale, "most": (format.high - zero) * scale}
    return {"scale": scale, "zero": zero, "whole": whole, "fraction": zero - whole} | ends
