"""Chooses every layer's folding: the fastest design that a share of the board holds.

pe rows of a layer's matrix and simd of its columns work in each cycle. For an interval T, every layer takes the
cheapest (pe, simd) whose loops, and those of the stages that its tokens enter, end within T cycles; the smallest T
whose design fits is found by bisection over all intervals that some folding has.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from bitwright.backends.hls.board import Board, boards
from bitwright.backends.hls.estimate import Cost, Estimate, cost, estimate, processes
from bitwright.backends.hls.stages import PoolStage, PortStage, Stage, SumStage
from bitwright.ir.errors import CompileError

UTILISATION = 0.8
MOST_MULTIPLIERS = 4096  # of one layer: beyond, the tools take hours


@dataclass(frozen=True)
class Plan:
    """Folded stages, what they cost and take, and the board they are for."""

    stages: tuple[Stage, ...]
    estimate: Estimate
    board: Board
    utilisation: float


class DoesNotFit(CompileError):
    """No folding fits the board; the message is the table of what exceeds what."""


def plan(stages: Sequence[Stage], board: Board, utilisation: float = UTILISATION) -> Plan:
    """The fastest plan within `utilisation` of the board. Raises DoesNotFit if the smallest design is too big."""
    targets = sorted(_intervals(stages))

    def found(target: int) -> list[Stage] | None:
        return _fitting(stages, target, board, utilisation)

    first = bisect.bisect_left(targets, True, hi=len(targets) - 1, key=lambda target: found(target) is not None)
    chosen = found(targets[first])
    if chosen is None:
        raise _too_big(_folded(stages, targets[-1], board) or stages, board, utilisation)
    return Plan(tuple(chosen), estimate(chosen, board), board, utilisation)


def shares(total: Cost, board: Board) -> dict[str, tuple[float, int]]:
    """What a design needs (the upper end of a range) and what the board has, by resource."""
    return {
        "LUT": (total.lut[1], board.lut),
        "FF": (total.ff[1], board.ff),
        "BRAM18": (total.bram18, 2 * board.bram36),
        "DSP": (total.dsp, board.dsp),
    }


@cache
def divisors(number: int) -> tuple[int, ...]:
    return tuple(d for d in range(1, number + 1) if number % d == 0)


def _fitting(stages: Sequence[Stage], target: int, board: Board, utilisation: float) -> list[Stage] | None:
    """The cheapest foldings of at most `target` trips, or those that save what these exceed, if they fit, or None."""
    cheapest = _folded(stages, target, board)
    if cheapest is None:
        return None
    exceeded = _exceeded(cheapest, board, utilisation)
    if not exceeded:
        return cheapest
    savings = (_folded(stages, target, board, resource) for resource in exceeded)
    return next((made for made in savings if made and _fits(made, board, utilisation)), None)


def _folded(stages: Sequence[Stage], target: int, board: Board, scarce: str = "") -> list[Stage] | None:
    """Every stage with its cheapest folding whose loops take at most `target` trips, or None if one has none.

    scarce: the resource of which there is to be the least; else their shares of the board count alike.
    """

    def weight(option: SumStage) -> tuple[float, float, int, int]:
        need = cost(option, board)
        amount, have = shares(need, board).get(scarce, (0, 1))
        return amount / max(have, 1), _weight(need, board), option.pe, option.simd

    made: list[Stage] = []
    lanes = 1
    for index, stage in enumerate(stages):
        stage = replace(stage, lanes=lanes)
        if isinstance(stage, SumStage):
            following = _until_next_sum(stages, index)
            options = [
                option
                for option in _foldings(stage)
                if _longest(option) <= target and all(_ends(after, option.pe, target) for after in following)
            ]
            if not options:
                return None
            stage = min(options, key=weight)
        elif _longest(stage) > target:
            return None
        made.append(stage)
        lanes = stage.out_lanes
    return made


def _ends(stage: Stage, lanes: int, target: int) -> bool:
    """Whether a stage takes tokens of `lanes` elements and ends within `target` trips."""
    takes = not isinstance(stage, PoolStage) or stage.scan.takes(lanes)
    return takes and _longest(replace(stage, lanes=lanes)) <= target


def _until_next_sum(stages: Sequence[Stage], index: int) -> list[Stage]:
    """The stages whose tokens have as many elements as this layer's rows in parallel, the next sum's scan included."""
    found: list[Stage] = []
    for stage in stages[index + 1 :]:
        if isinstance(stage, SumStage):
            if stage.scan is not None:
                found.append(PoolStage(name="", line="", format=stage.in_format, elements=1, scan=stage.scan))
            break
        found.append(stage)
    return found


@cache
def _options(outputs: int, inputs: int) -> tuple[tuple[int, int], ...]:
    return tuple((pe, simd) for pe in divisors(outputs) for simd in divisors(inputs) if pe * simd <= MOST_MULTIPLIERS)


def _foldings(stage: SumStage) -> list[SumStage]:
    return [replace(stage, pe=pe, simd=simd) for pe, simd in _options(stage.outputs, stage.inputs)]


def _longest(stage: Stage) -> int:
    return max(process.trips for process in processes(stage))


def _intervals(stages: Sequence[Stage]) -> set[int]:
    """Every number of trips that some stage has in some folding."""
    found = {1}
    for stage in stages:
        if isinstance(stage, SumStage):
            found |= {process.trips for option in _foldings(stage) for process in processes(option)}
        elif isinstance(stage, PoolStage):
            found |= {_longest(replace(stage, lanes=d)) for d in divisors(stage.scan.channels)}
        elif isinstance(stage, PortStage):
            found.add(stage.elements)
        if isinstance(stage, SumStage) and stage.scan is not None:
            for lanes in divisors(stage.scan.channels):
                found |= {processes(replace(o, lanes=lanes))[0].trips for o in _foldings(stage) if o.pe == 1}
    return found


def _fits(stages: Sequence[Stage], board: Board, utilisation: float) -> bool:
    return not _exceeded(stages, board, utilisation)


def _exceeded(stages: Sequence[Stage], board: Board, utilisation: float) -> list[str]:
    """The resources of which these stages need more than the share."""
    needs = shares(estimate(stages, board).total, board)
    return [name for name, (need, have) in needs.items() if need > utilisation * have]


def _weight(need: Cost, board: Board) -> float:
    """One number for a cost: the sum of its shares of the board."""
    return sum(amount / max(have, 1) for amount, have in shares(need, board).values())


def _too_big(stages: Sequence[Stage], board: Board, utilisation: float) -> DoesNotFit:
    """Says what exceeds what, which layer weighs most, and the nearest choices that fit."""
    found = estimate(stages, board)
    needs = shares(found.total, board)
    rows = [
        f"  {name:<7}{needs[name][0]:>12,.0f} needed{utilisation * needs[name][1]:>12,.0f} allowed"
        f"{needs[name][1]:>12,} on the board"
        for name in _exceeded(stages, board, utilisation)
    ]
    heaviest = max(found.stages, key=lambda entry: _weight(entry[1], board))[0]
    table = "\n".join(rows)
    return DoesNotFit(
        f"the design does not fit {board.name} at {utilisation:.0%}, even at its smallest:\n{table}",
        help=f"%{heaviest.name} weighs most: narrower formats or fewer channels there help; {_nearest(stages, board)}",
    )


def _nearest(stages: Sequence[Stage], board: Board) -> str:
    """The whole of this board, or the smallest other one that holds the smallest design."""
    if _fits(stages, board, 1.0):
        return "all of this board would do (--utilisation 100%)"
    larger = sorted((other for other in boards() if _fits(stages, other, UTILISATION)), key=lambda other: other.lut)
    return f"it fits {larger[0].name}" if larger else "it fits none of the boards that are known"
