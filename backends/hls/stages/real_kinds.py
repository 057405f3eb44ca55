"""The stages that compute with FLOAT and AFFINE numbers: those of kinds.py with another arithmetic.

They have the shapes, the streams and the foldings of the stages that they derive from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.stages.kinds import Ints, JoinStage, MeanStage, PointStage, SumStage

ADDITION = 6  # cycles until a float32 sum may be added to again (float_sums.hpp)


@dataclass(frozen=True, kw_only=True)
class OneVectorStage(SumStage):
    """A conv2d or dense whose product takes the vector of one position after that of another."""

    @property
    def exact(self) -> bool:
        return False

    @property
    def possible(self) -> bool:
        return super().possible and self.vectors == self.pixels == 1


@dataclass(frozen=True, kw_only=True)
class FloatSumStage(OneVectorStage):
    """A conv2d or dense in float32: a sum an output that begins with its bias, times its scale.

    real_bias, scale: float32, a number an output; clip: the activation's bounds.
    """

    real_bias: NDArray[np.float32]
    scale: NDArray[np.float32]
    clip: tuple[float, float]

    @property
    def multiplies(self) -> bool:
        return False

    @property
    def scaled(self) -> bool:
        """Whether there is a scale other than 1."""
        return bool((self.scale != 1).any())

    @property
    def turns(self) -> int:
        return self.sharing if self.simd == self.inputs else max(self.sharing, ADDITION)


@dataclass(frozen=True, kw_only=True)
class ScaledSumStage(OneVectorStage):
    """A conv2d or dense of integers with a scale: (sum q x * multiplier + sum x * offset + bias) / 2^shift.

    multiplier, offset: an integer an output; sum_bits, total_bits: of sum q x and of sum x.
    """

    multiplier: Ints
    offset: Ints
    sum_bits: int
    total_bits: int

    @property
    def multiplier_bits(self) -> int:
        """Bits of a two's complement number that holds every multiplier."""
        return _bits(self.multiplier)

    @property
    def offset_bits(self) -> int:
        """The same of the offsets."""
        return _bits(self.offset)

    @property
    def one_scale(self) -> bool:
        """Whether all outputs have the same scale and zero point."""
        return len(np.unique(self.multiplier)) == len(np.unique(self.offset)) == 1


@dataclass(frozen=True, kw_only=True)
class RealPointStage(PointStage):
    """relu, clip or quantize to a format of another kind, through float32. clip: the bounds."""

    clip: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class RealJoinStage(JoinStage):
    """add or mul in float32."""


@dataclass(frozen=True, kw_only=True)
class RealMeanStage(MeanStage):
    """globalavgpool in float32, which adds one pixel at a time."""

    @property
    def possible(self) -> bool:
        return self.channels % self.lanes == 0


def _bits(table: Ints) -> int:
    return int(np.abs(table).max(initial=0)).bit_length() + 1
