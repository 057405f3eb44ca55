"""What a frame costs in energy and traffic: the arithmetic of all sums, and the bits that memories and streams move.

Table I of the LeNet paper prices arithmetic alone, so traffic is given in bits and has no price.
"""

from __future__ import annotations

from collections.abc import Sequence

from bitwright.backends.hls.stages import Number, Stage, SumStage, ports_of
from bitwright.ir.energy import mac_energy
from bitwright.ir.formats import Canonical, Format, fixed


def energy(stages: Sequence[Stage]) -> float:
    """Picojoules of the multiplications and additions of a frame."""
    return sum(
        _macs(stage) * mac_energy(_priced(stage.weight_format), _priced(stage.in_format), stage.inputs)
        for stage in stages
        if isinstance(stage, SumStage)
    )


def _priced(format: Number | Format) -> Canonical:
    """AFFINE numbers cost what integers of their width do: the scale is one product an output."""
    return format if isinstance(format, Canonical) else fixed(max(format.width, 2))


def traffic(stages: Sequence[Stage]) -> dict[str, int]:
    """Bits a frame: weights read on the chip, numbers through the FIFOs between stages, input and output."""
    sums = [stage for stage in stages if isinstance(stage, SumStage)]
    first, last = ports_of(stages)
    return {
        "weight_bits": sum(_macs(stage) * stage.weight_format.width for stage in sums),
        "fifo_bits": sum(stage.elements * stage.format.width * len(stage.writes) for stage in stages),
        "input_bits": first.elements * first.format.width,
        "output_bits": last.elements * last.format.width,
    }


def _macs(stage: SumStage) -> int:
    return stage.positions * stage.outputs * stage.inputs
