"""How many bits a quantised tensor takes, and what that is of 32-bit floats (Table IV of the LeNet paper).

    bits = width x count + overhead x groups            ratio = bits / (32 count)

A group is what shares its parameters: the whole tensor, or a channel. AFFINE stores a scale and a zero point of 32 bits
each a group; a format of eq. (1) stores one bias, `BIAS_BITS`, a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bitwright.ir.formats.affine import Affine
from bitwright.ir.formats.base import Format

FLOAT_BITS = 32
AFFINE_OVERHEAD = 64
BIAS_BITS = 8


def stored_bits(format: Format, shape: Sequence[int], axes: Sequence[int] | None = None) -> int:
    """The bits of a tensor of `shape`, with the parameters of its groups.

    axes: those that tell groups apart; by default the format's own axis, so one group for a format per tensor.
    """
    if axes is None:
        axes = () if format.axis is None else (format.axis,)
    groups = math.prod(shape[axis] for axis in axes)
    overhead = AFFINE_OVERHEAD if isinstance(format, Affine) else BIAS_BITS
    return format.width * math.prod(shape) + overhead * groups


def compressed_ratio(format: Format, shape: Sequence[int], axes: Sequence[int] | None = None) -> float:
    """`stored_bits` as a share of the same tensor in 32-bit floats."""
    return stored_bits(format, shape, axes) / (FLOAT_BITS * math.prod(shape))
