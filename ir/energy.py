"""Picojoules of arithmetic, from Table I of the LeNet paper (Horowitz, 2014).

Integers 3.1/32^2 pJ a product bit and 0.1/32 pJ a sum bit; FLOAT 16 and 32 1.1 and 3.7 pJ a product, 0.4 and 0.9 pJ a
sum, on straight lines through these above 16 bits and in proportion to the width below; EXP and BIN shift or add, and
multiply not.
"""

from __future__ import annotations

import math

from bitwright.ir.formats import Canonical


def mac_energy(w: Canonical, x: Canonical, inputs: int) -> float:
    """Picojoules of one multiplication and addition, in a sum of so many inputs."""
    if any(format.kind.endswith("FLOAT") for format in (w, x)):
        width = max(w.width, x.width)
        return (1.1 + 0.4) * min(width / 16, 1) + (3.7 - 1.1 + 0.9 - 0.4) / 16 * max(width - 16, 0)
    sum_bits = _span(w) + _span(x) + math.ceil(math.log2(max(inputs, 1)))
    shifts = any(format.n_f == 0 for format in (w, x))
    product = 0.0 if shifts else 3.1 / 1024 * w.width * x.width
    return product + 0.1 / 32 * sum_bits


def _span(format: Canonical) -> int:
    """Bits of a number as a multiple of its format's step."""
    return format.max_code.bit_length() + format.n_s
