"""Where the products of a layer are made: in DSP slices, or in LUTs once these run out.

A layer gives up all of its slices or none, since all of its products are one loop. Of layers that free d slices for l
LUTs each, those are taken that free enough for the fewest LUTs in all: a knapsack, solved layer by layer, which keeps
for every number of slices the cheapest way to free them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bitwright.backends.hls.estimate import multipliers, products_in_dsp
from bitwright.backends.hls.stages import Stage, SumStage


def in_luts(stages: Sequence[Stage], slices: int, room: float) -> list[Stage] | None:
    """The stages with the products of some layers in LUTs, so that they take `slices` fewer and the fewest LUTs more.

    room: LUTs that are free, at the upper end of the range. None if they are too few. Layers whose `products` are
    decided keep them.
    """
    ways: dict[int, tuple[float, frozenset[int]]] = {0: (0.0, frozenset())}  # slices freed: LUTs, and the layers
    for index, stage in enumerate(stages):
        if not isinstance(stage, SumStage) or stage.products or not products_in_dsp(stage):
            continue
        before, after = multipliers(stage), multipliers(replace(stage, products="lut"))
        for freed, (luts, layers) in list(ways.items()):
            more, price = min(slices, freed + before.dsp), luts + after.lut[1] - before.lut[1]
            if price <= room and price < ways.get(more, (math.inf,))[0]:
                ways[more] = price, layers | {index}
    if slices not in ways:
        return None
    return [
        replace(stage, products="lut") if isinstance(stage, SumStage) and index in ways[slices][1] else stage
        for index, stage in enumerate(stages)
    ]
