"""The exact accumulator of a conv2d or dense whose input and weights have formats: its step and its width, derived.

    step[c]  = step of the input x step of channel c's weights              (a power of two; EXP: its smallest weight)
    bound[c] = sum |w[c]| x max |x| + |bias[c]|, in steps                   (no sum, in any order, is larger)
    bits     = 1 + bits of the largest bound                                (two's complement)

The bias is rounded to the step, half to even. FLOAT and AFFINE operands compute in float32 and have no accumulator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats import Canonical
from bitwright.ir.formats.base import check_finite
from bitwright.ir.graph import Node, Value
from bitwright.ir.tensor import Array


@dataclass(frozen=True)
class Accumulator:
    """The accumulator of each output channel, whose numbers count steps.

    exponents: log2 of the step, int64 [channels]; weight_exponents: log2 of the weights' part of it; bias: float64
    [channels]; quantized: gives the weights' numbers [channels, inputs]; largest: max |x|, in its steps.
    """

    exponents: NDArray[np.int64]
    weight_exponents: NDArray[np.int64]
    bias: NDArray[np.float64]
    quantized: Callable[[], NDArray[np.float64]]
    largest: int

    @cached_property
    def bound(self) -> int:
        """What no |sum| exceeds."""
        sums = np.abs(np.ldexp(self.quantized(), -self.weight_exponents[:, None])).sum(1)
        slack = 1.0 if sums.max(initial=0) < 2**53 else 1 + 2.0**-20  # a sum of so large numbers was rounded
        pairs = zip(sums, self.bias, strict=True)
        return max((int(np.ceil(total * slack)) * self.largest + int(abs(b)) for total, b in pairs), default=0)

    @property
    def bits(self) -> int:
        """The width of a two's complement register that no sum overflows."""
        return self.bound.bit_length() + 1


def exact_format(value: Value) -> Canonical | None:
    """The format of a value whose numbers are integers times a power of two (FIXED, BIN, EXP), or None."""
    number = value.tensor_type.number
    exact = isinstance(number, Canonical) and (number.n_e == 0 or number.n_f == 0)
    return number if exact and isinstance(number, Canonical) else None


def accumulator(node: Node) -> Accumulator | None:
    """The accumulator of a conv2d or dense, or None if its operands compute in float32 (a computed bias does, too).

    Raises CompileError if a weight or bias is NaN or infinite.
    """
    weight, bias_value = node.operand(1), node.optional(2)
    x, w = exact_format(node.operand(0)), exact_format(weight)
    if x is None or w is None or weight.tensor is None or x.axis is not None or w.axis not in (None, 0):
        return None
    if bias_value is not None and bias_value.tensor is None:
        return None
    data = weight.tensor.data
    check_finite(data, "%" + weight.name)

    @cache
    def quantized() -> NDArray[np.float64]:
        return w.quantize(data, "%" + weight.name).astype(np.float64).reshape(len(data), -1)

    steps = np.broadcast_to(w.step_exponents, len(data)) if w.n_e == 0 else weight_exponents(w, quantized())
    exponents = steps + x.step_exponents
    return Accumulator(exponents, steps, _bias(bias_value, exponents), quantized, x.max_code)


def weight_exponents(format: Canonical, quantized: NDArray[np.float64]) -> NDArray[np.int64]:
    """log2 of what every weight of a channel is a multiple of, int64 [channels]; quantized: [channels, inputs]."""
    steps = np.broadcast_to(format.step_exponents, len(quantized))
    if format.n_e == 0:
        return steps
    sizes = np.where(quantized == 0, np.inf, np.abs(quantized)).min(1, initial=np.inf)
    return np.where(np.isinf(sizes), steps, np.frexp(np.where(np.isinf(sizes), 1.0, sizes))[1] - 1).astype(np.int64)


def _bias(value: Value | None, exponents: NDArray[np.int64]) -> NDArray[np.float64]:
    """The bias in steps of the accumulator, rounded half to even; zeros where there is none."""
    if value is None or value.tensor is None:
        return np.zeros(len(exponents))
    data: Array = value.tensor.data
    number = value.tensor_type.number
    check_finite(data, "%" + value.name)
    real = data if number is None else number.quantize(data, "%" + value.name)
    return np.asarray(np.rint(np.ldexp(real.astype(np.float64), -exponents)), np.float64)
