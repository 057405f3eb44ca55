"""What the products of a layer are made of once DSP slices run out: fewer slices, LUTs, or adders of constants.

A layer gives up slices for all of its products or for none, since all of them are one loop: it takes those of packed
products (packing.py), or none. Of the ways that free d slices of a layer for l LUTs, one a layer at most, those are
taken that free enough for the fewest LUTs in all: a knapsack, solved layer by layer, which keeps for every number of
slices the cheapest way to free them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bitwright.backends.hls.board import Board
from bitwright.backends.hls.estimate import multipliers, products_in_dsp
from bitwright.backends.hls.packing import packable
from bitwright.backends.hls.stages import ADDERS, Stage, SumStage
from bitwright.backends.hls.widths import may_be_adders


def with_fewer_slices(stages: Sequence[Stage], board: Board, slices: int, room: float) -> list[Stage] | None:
    """The stages with the products of some layers packed or in LUTs: `slices` fewer, for the fewest LUTs more.

    room: LUTs that are free, at the upper end of the range. None if they are too few. Layers whose `products` are
    decided keep them.
    """
    ways: dict[int, tuple[float, Mapping[int, Stage]]] = {0: (0.0, {})}  # slices freed: LUTs, and the layers as made
    for index, stage in enumerate(stages):
        if not isinstance(stage, SumStage) or stage.products or not products_in_dsp(stage):
            continue
        before = multipliers(stage)
        options = [(made, multipliers(made)) for made in _others(stage, board)]
        for freed, (luts, layers) in list(ways.items()):
            for made, after in options:
                more, price = min(slices, freed + before.dsp - after.dsp), luts + after.lut[1] - before.lut[1]
                if price <= room and price < ways.get(more, (math.inf,))[0]:
                    ways[more] = price, {**layers, index: made}
    if slices not in ways:
        return None
    chosen = ways[slices][1]
    return [chosen.get(index, stage) for index, stage in enumerate(stages)]


def _others(stage: SumStage, board: Board) -> list[SumStage]:
    """What else the products of a layer may be made of, that takes fewer slices."""
    in_luts = replace(stage, products="lut", packing=1)
    together = packable(stage, board)
    shared = [replace(stage, packing=together)] if together > stage.packing else []
    added = replace(stage, products=ADDERS, packing=1)
    return [in_luts, *shared, *([added] if may_be_adders(stage) and added.possible else [])]
