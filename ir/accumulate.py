"""The exact accumulator of a conv2d or dense whose input and weights have formats: its step and its width, derived.

    step[c]  = step of the input x step of channel c's weights              (a power of two)
    bound[c] = sum |w[c]| x max |x| + |bias[c]|, in steps                   (no sum, in any order, is larger)
    bits     = 1 + bits of the largest bound                                (two's complement)

The bias is rounded to the step, half to even. FLOAT and AFFINE operands compute in float32 and have no accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats import Canonical
from bitwright.ir.formats.base import check_finite
from bitwright.ir.graph import Node, Value
from bitwright.ir.tensor import Array


@dataclass(frozen=True)
class Accumulator:
    """exponents: log2 of the step, int64 [channels]; bias: in steps, float64 [channels]; bound: of |sum|, in steps."""

    exponents: NDArray[np.int64]
    bias: NDArray[np.float64]
    bound: int

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
    """The accumulator of a conv2d or dense, or None if its operands compute in float32.

    Raises CompileError if a weight or bias is NaN or infinite.
    """
    weight = node.operand(1)
    x, w = exact_format(node.operand(0)), exact_format(weight)
    if x is None or w is None or weight.tensor is None or x.axis is not None or w.axis not in (None, 0):
        return None
    channels = weight.tensor.shape[0]
    exponents = np.broadcast_to(w.step_exponents, channels) + x.step_exponents
    bias = _bias(node.optional(2), exponents)
    quantized = w.quantize(weight.tensor.data, "%" + weight.name).astype(np.float64).reshape(channels, -1)
    sums = np.abs(np.ldexp(quantized, -np.broadcast_to(w.step_exponents, channels)[:, None])).sum(1)
    slack = 1.0 if sums.max(initial=0) < 2**53 else 1 + 2.0**-20  # a sum of so large numbers was rounded
    largest = max(
        (int(np.ceil(s * slack)) * x.max_code + int(abs(b)) for s, b in zip(sums, bias, strict=True)), default=0
    )
    return Accumulator(exponents, bias, largest)


def _bias(value: Value | None, exponents: NDArray[np.int64]) -> NDArray[np.float64]:
    """The bias in steps of the accumulator, rounded half to even; zeros where there is none."""
    if value is None or value.tensor is None:
        return np.zeros(len(exponents))
    data: Array = value.tensor.data
    number = value.tensor_type.number
    check_finite(data, "%" + value.name)
    real = data if number is None else number.quantize(data, "%" + value.name)
    return np.asarray(np.rint(np.ldexp(real.astype(np.float64), -exponents)), np.float64)
