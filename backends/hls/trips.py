"""The trips of every process: those that the estimate takes beside those that the C++ makes.

Processes run in the order of the dataflow, as loops.py lists them, so the n-th that counted is the n-th loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitwright.backends.hls.csim import Accelerator, Ints
from bitwright.backends.hls.loops import loops_of
from bitwright.backends.hls.stages import Stage
from bitwright.ir.errors import CompileError


@dataclass(frozen=True)
class ProcessTrips:
    """One process: its stage, the function that is its loop, and the trips of a frame."""

    stage: str
    process: str
    counted: int
    estimated: int


def estimated_trips(stages: Sequence[Stage]) -> list[tuple[str, int]]:
    """The stage and the trips of every loop of a design, in the order of the dataflow."""
    return [(stage.name, loop.trips) for stage in stages for loop in loops_of(stage)]


def compare_trips(accelerator: Accelerator, estimated: Sequence[tuple[str, int]], frame: Ints) -> list[ProcessTrips]:
    """Every process of a counting accelerator on one frame [1, elements].

    estimated: as `estimated_trips` gives it. Raises CompileError if there are more or fewer processes than loops.
    """
    counted = accelerator.trips(frame)
    if len(counted) != len(estimated):
        found = f"{len(counted)} processes ran, but {len(estimated)} loops were estimated"
        raise CompileError(f"{accelerator.name}: {found}", help="compile again: they are of different designs")
    return [
        ProcessTrips(stage, found.process, found.count, trips)
        for found, (stage, trips) in zip(counted, estimated, strict=True)
    ]
