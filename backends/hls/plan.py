"""Chooses every layer's folding: the fastest design that a share of the board holds.

pe rows of a layer's matrix and simd of its columns work in each cycle, and where those are all there are, for several
pixels at once. For an interval T, the stages take those
foldings that are cheapest together and all take a frame every T cycles. They depend on each other by the widths of the
tokens between them alone; widths.py finds the cheapest for all widths at once. The smallest T whose design fits is
found by bisection over all that some folding has.

Several products that take DSPs share a slice where they fit and that is the smaller share of the board, or takes less
of the resource that is scarce (packing.py): a choice of every layer like its folding. Where only DSPs are too few, the
products of some layers are packed or built of LUTs instead (products.py), on the foldings that are cheapest without.

Where all rows and columns of a layer work in every cycle, adders may take the place of its products, all weights being
constants (adder_cost.py); that is one choice more of columns.

The FIFOs that fifos.py deepens for branches come on top: what they need hardly depends on the folding, so the search
sets aside what they took in the design found before, until the design fits with its own.

For a given interval the search is the same without the bisection: the smallest design is the cheapest of that target.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from bitwright.backends.hls.adder_cost import final_graph, first_graph
from bitwright.backends.hls.board import Board, boards
from bitwright.backends.hls.cost import Cost
from bitwright.backends.hls.estimate import Estimate, cost, estimate, stage_cycles
from bitwright.backends.hls.fifos import sized
from bitwright.backends.hls.given import Given, check_storage, decided, deepened, foldings_of
from bitwright.backends.hls.products import with_fewer_slices
from bitwright.backends.hls.stages import ADDERS, PortStage, Stage, SumStage
from bitwright.backends.hls.widths import MOST_MULTIPLIERS, Choices, divisors, may_be_adders, shares
from bitwright.ir.errors import CompileError

__all__ = ["MOST_MULTIPLIERS", "UTILISATION", "DoesNotFit", "Plan", "completed", "divisors", "plan", "shares"]

UTILISATION = 0.8
NOTHING = Cost()
FREE: Mapping[str, Given] = MappingProxyType({})


@dataclass(frozen=True)
class Plan:
    """Folded stages, what they cost and take, and the board they are for."""

    stages: tuple[Stage, ...]
    estimate: Estimate
    board: Board
    utilisation: float


class DoesNotFit(CompileError):
    """No folding fits the board; the message is the table of what exceeds what."""


def plan(
    stages: Sequence[Stage],
    board: Board,
    utilisation: float = UTILISATION,
    given: Mapping[str, Given] = FREE,
    interval: int | None = None,
    search: bool = True,
) -> Plan:
    """The fastest plan within `utilisation` of the board, or the smallest with at most `interval` cycles a frame.

    given: what is decided already, by layer; search: for common sub-sums of layers that are adders, up to seconds.
    Raises DoesNotFit if the smallest design is too big, CompileError if `interval` cannot be reached or `given` not be
    built.
    """
    if not search:
        return _planned(stages, board, utilisation, given, interval)
    made = _planned(_looked_at(decided(stages, given, board)), board, utilisation, given, interval)
    found = [
        replace(stage, graph=final_graph(stage) if stage.products == ADDERS else None)
        if isinstance(stage, SumStage)
        else stage
        for stage in made.stages
    ]
    return replace(made, stages=tuple(found), estimate=estimate(found, board))


def _looked_at(stages: Sequence[Stage]) -> list[Stage]:
    """The stages with adders, found quickly, of layers that may become such."""
    return [
        replace(stage, graph=first_graph(stage)) if isinstance(stage, SumStage) and may_be_adders(stage) else stage
        for stage in stages
    ]


def _planned(
    stages: Sequence[Stage], board: Board, utilisation: float, given: Mapping[str, Given], interval: int | None
) -> Plan:
    """The same, where a layer's adders are those that it has or trees that share nothing."""
    stages = decided(stages, given, board)
    choices = Choices(stages, board, foldings_of(given))
    targets, aside = choices.targets, NOTHING
    if interval is not None:
        reached = [target for target in targets if target < interval]
        if not reached:
            raise _too_slow(choices, _planned(stages, board, utilisation, given, None), interval)
        targets = reached[-1:]
    while True:

        def fitting(target: int, aside: Cost = aside) -> list[Stage] | None:
            return _fitting(choices, target, board, utilisation, aside)

        first = bisect.bisect_left(targets, True, hi=len(targets) - 1, key=lambda target: fitting(target) is not None)
        chosen = fitting(targets[first])
        smallest = chosen is None
        if chosen is None:
            if interval is not None:
                raise _too_slow(choices, _planned(stages, board, utilisation, given, None), interval)
            chosen = choices.cheapest(targets[-1]) if targets else None
            if chosen is None and given:
                raise CompileError(
                    "no design has the foldings that are given", help=f"leave one of {', '.join(given)} out"
                )
            chosen = chosen or list(stages)
            if not _fits(chosen, board, utilisation):
                raise _too_big(chosen, board, utilisation)
        check_storage(chosen, given)
        made = deepened(completed(chosen, board), given)
        if _fits(made, board, utilisation):
            return Plan(tuple(made), estimate(made, board), board, utilisation)
        if smallest:
            raise _too_big(made, board, utilisation)
        aside = _larger(aside, _fifos(chosen, made, board))


def completed(stages: Sequence[Stage], board: Board) -> list[Stage]:
    """Folded stages with the depths of their FIFOs."""
    return sized(stages, estimate(stages, board).interval)


def _too_slow(choices: Choices, fastest: Plan, interval: int) -> CompileError:
    """Says how fast it can be, and why not faster."""
    reached = fastest.estimate.interval
    why = why_no_faster(choices, fastest.stages, fastest.board, fastest.utilisation)
    return CompileError(
        f"no design takes a frame every {interval:,} cycles; the fastest takes {reached:,}",
        help=f"%{fastest.estimate.bottleneck.name} is its slowest layer: {why}",
    )


def bottleneck(planned: Plan, given: Mapping[str, Given] = FREE) -> str:
    """Which layer is the slowest, and what would make it faster: one sentence."""
    stages = planned.stages
    free = _looked_at(decided(stages, given, planned.board))
    choices = Choices(free, planned.board, foldings_of(given))
    why = why_no_faster(choices, stages, planned.board, planned.utilisation)
    slowest = planned.estimate.bottleneck
    return f"%{slowest.name} is the slowest layer, {planned.estimate.interval - 1:,} cycles a frame: {why}"


def why_no_faster(choices: Choices, stages: Sequence[Stage], board: Board, utilisation: float) -> str:
    """What the next faster design would be, and what it would need."""
    slowest = max(stages, key=stage_cycles)
    target = max((t for t in choices.targets if t < stage_cycles(slowest)), default=0)
    faster = choices.cheapest(target) if target else None
    if faster is None:
        if isinstance(slowest, PortStage):
            return "an element a beat passes the port, so only a smaller frame would be faster"
        held = " as it is given" if slowest.name in choices.given else ""
        return f"it has no faster folding{held}, or what stands around it has none"
    faster = _relieved(faster, board, utilisation) or faster
    made = next(stage for stage in faster if stage.name == slowest.name)
    needs = shares(estimate(faster, board).total, board)
    exceeded = _exceeded(faster, board, utilisation)
    words = [f"{needs[name][0]:,.0f} {name} of {utilisation * needs[name][1]:,.0f} allowed" for name in exceeded]
    stuck = ", more than LUTs have room to stand in for" if "DSP" in exceeded else ""
    price = f"but the design would need {' and '.join(words)}{stuck}" if words else "and the design would still fit"
    return f"{_folding(made)} would take {stage_cycles(made):,}, {price}"


def _folding(stage: Stage) -> str:
    if isinstance(stage, PortStage):
        return f"{stage.beat} elements a beat"
    if not isinstance(stage, SumStage):
        return f"{stage.lanes} lanes"
    return f"pe {stage.pe} simd {stage.simd}" + (f" pixels {stage.pixels}" if stage.pixels > 1 else "")


def _fitting(choices: Choices, target: int, board: Board, utilisation: float, aside: Cost) -> list[Stage] | None:
    """The cheapest stages of at most `target` cycles, or those that save what these exceed, if they fit, or None."""
    ways = (True, False) if choices.have_adders else (True,)
    found = (_with_adders_or_not(choices, target, board, utilisation, aside, adders) for adders in ways)
    return next((made for made in found if made is not None), None)


def _with_adders_or_not(
    choices: Choices, target: int, board: Board, utilisation: float, aside: Cost, adders: bool
) -> list[Stage] | None:
    """The same where adders may take the place of products, or may not unless it is decided: what saves DSPs for any
    number of LUTs is adders.
    """
    cheapest = choices.cheapest(target, adders=adders)
    if cheapest is None:
        return None
    exceeded = _exceeded(cheapest, board, utilisation, aside)
    if not exceeded:
        return cheapest
    savings = [made for resource in exceeded if (made := choices.cheapest(target, resource, adders)) is not None]
    fit = next((made for made in savings if not _exceeded(made, board, utilisation, aside)), None)
    if fit is not None:
        return fit
    relieved = (_relieved(made, board, utilisation, aside) for made in (cheapest, *savings))
    return next((made for made in relieved if made is not None), None)


def _relieved(stages: Sequence[Stage], board: Board, utilisation: float, aside: Cost = NOTHING) -> list[Stage] | None:
    """Stages of which only the DSPs are too few, with products packed or in LUTs so that they fit; None if not."""
    if _exceeded(stages, board, utilisation, aside) != ["DSP"]:
        return None
    needs = shares(sum((cost(stage, board) for stage in stages), aside), board)
    missing, room = (needs[name][0] - utilisation * needs[name][1] for name in ("DSP", "LUT"))
    return with_fewer_slices(stages, board, math.ceil(missing), -room)


def _fifos(before: Sequence[Stage], after: Sequence[Stage], board: Board) -> Cost:
    """What the depths of FIFOs add to a design."""
    least, most = estimate(before, board).total, estimate(after, board).total
    return Cost(
        (most.lut[0] - least.lut[0], most.lut[1] - least.lut[1]),
        (most.ff[0] - least.ff[0], most.ff[1] - least.ff[1]),
        most.bram18 - least.bram18,
    )


def _larger(one: Cost, other: Cost) -> Cost:
    """No less than either, and more than the first, so that a search that sets it aside ends."""
    return Cost(
        (max(one.lut[0], other.lut[0]), max(1.05 * one.lut[1] + 1, other.lut[1])),
        (max(one.ff[0], other.ff[0]), max(one.ff[1], other.ff[1])),
        max(one.bram18 + 1, other.bram18),
    )


def _fits(stages: Sequence[Stage], board: Board, utilisation: float) -> bool:
    return not _exceeded(stages, board, utilisation)


def _exceeded(stages: Sequence[Stage], board: Board, utilisation: float, aside: Cost = NOTHING) -> list[str]:
    """The resources of which these stages need more than the share, with what is set aside."""
    total = sum((cost(stage, board) for stage in stages), aside)
    return [name for name, (need, have) in shares(total, board).items() if need > utilisation * have]


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
