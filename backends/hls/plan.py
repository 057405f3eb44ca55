"""Chooses every layer's folding: the fastest design that a share of the board holds.

pe rows of a layer's matrix and simd of its columns work in each cycle. For an interval T, the stages take those
foldings that are cheapest together and all take a frame every T cycles; a layer's tokens have pe elements, on which the
next one's cycles depend, so the cheapest chain is kept for every width of token. The smallest T whose design fits is
found by bisection over all that some folding has.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from bitwright.backends.hls.board import Board, boards
from bitwright.backends.hls.estimate import Cost, Estimate, cost, estimate, stage_cycles
from bitwright.backends.hls.stages import PoolStage, Stage, SumStage
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
    choices = _choices(stages, board)
    targets = sorted({choice.cycles for row in choices for choice in row})

    def found(target: int) -> list[Stage] | None:
        return _fitting(choices, target, board, utilisation)

    first = bisect.bisect_left(targets, True, hi=len(targets) - 1, key=lambda target: found(target) is not None)
    chosen = found(targets[first])
    if chosen is None:
        raise _too_big(_cheapest(choices, targets[-1]) or stages, board, utilisation)
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
    """Every number that divides, ascending."""
    return tuple(d for d in range(1, number + 1) if number % d == 0)


@dataclass(frozen=True)
class _Choice:
    """A stage in one folding: its cycles from frame to frame, and its shares of the board's resources."""

    stage: Stage
    cycles: int
    shares: Mapping[str, float]


def _choices(stages: Sequence[Stage], board: Board) -> list[list[_Choice]]:
    """For every stage, each folding with each width of token that may enter it."""
    found: list[list[_Choice]] = []
    widths = {1}
    for stage in stages:
        scan = stage.scan if isinstance(stage, SumStage | PoolStage) else None
        entering = [replace(stage, lanes=lanes) for lanes in sorted(widths) if scan is None or scan.takes(lanes)]
        options = [option for one in entering for option in (_foldings(one) if isinstance(one, SumStage) else [one])]
        found.append([_choice(option, board) for option in options])
        widths = {option.out_lanes for option in options}
    return found


def _choice(stage: Stage, board: Board) -> _Choice:
    parts = {name: need / max(have, 1) for name, (need, have) in shares(cost(stage, board), board).items()}
    return _Choice(stage, stage_cycles(stage), parts)


def _fitting(choices: list[list[_Choice]], target: int, board: Board, utilisation: float) -> list[Stage] | None:
    """The cheapest stages of at most `target` cycles, or those that save what these exceed, if they fit, or None."""
    cheapest = _cheapest(choices, target)
    if cheapest is None:
        return None
    exceeded = _exceeded(cheapest, board, utilisation)
    if not exceeded:
        return cheapest
    savings = (_cheapest(choices, target, resource) for resource in exceeded)
    return next((made for made in savings if made and _fits(made, board, utilisation)), None)


def _cheapest(choices: list[list[_Choice]], target: int, scarce: str = "") -> list[Stage] | None:
    """The stages of at most `target` cycles that need the smallest shares of the board, or None if there are none.

    scarce: the resource of which they are to need the least; else all count alike.
    """
    best: dict[int, tuple[tuple[float, float], list[Stage]]] = {1: ((0.0, 0.0), [])}  # by elements of the last token
    for row in choices:
        reached: dict[int, tuple[tuple[float, float], list[Stage]]] = {}
        for choice in row:
            stage = choice.stage
            if choice.cycles > target or stage.lanes not in best:
                continue
            (first, second), made = best[stage.lanes]
            weight = (first + choice.shares.get(scarce, 0.0), second + sum(choice.shares.values()))
            if stage.out_lanes not in reached or weight < reached[stage.out_lanes][0]:
                reached[stage.out_lanes] = (weight, [*made, stage])
        best = reached
    return min(best.values(), key=lambda entry: entry[0])[1] if best else None


@cache
def _options(outputs: int, inputs: int) -> tuple[tuple[int, int], ...]:
    return tuple((pe, simd) for pe in divisors(outputs) for simd in divisors(inputs) if pe * simd <= MOST_MULTIPLIERS)


def _foldings(stage: SumStage) -> list[SumStage]:
    return [replace(stage, pe=pe, simd=simd) for pe, simd in _options(stage.outputs, stage.inputs)]


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
