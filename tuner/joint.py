"""Formats and channels chosen together: a channel that goes is one of width 0.

1. the formats of the whole network are searched, roughly
2. all channels that can go are put in an order (tuner/removal.py)
3. the first of this order go, up to some share of the bits; what is left is refitted (passes/refit.py), an ordinary
   smaller network, whose formats are searched like those of any other; its accuracy must be what was asked of the whole
4. the formats of the two cheapest are searched to the end, and those of the whole network where that may be cheaper

The share is found by a walk along one line: forward while that is cheaper, then in halves around the cheapest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bitwright.ir import edit
from bitwright.ir.assign import layers
from bitwright.ir.graph import Graph, Value
from bitwright.passes.base import Context
from bitwright.passes.channels import find_channels
from bitwright.passes.pruning import remove_channels
from bitwright.passes.refit import Refit
from bitwright.tuner.removal import Removal, channels_left, removals
from bitwright.tuner.searches import Search, Searches, cost_if_it_holds
from bitwright.tuner.tune import Options, Samples, Tuned, labels, measured, right_answers

STEP = 0.25
LEAST_STEP = 0.05
MOST = 0.95
"""The shares of the bits that go: the first step, the last, and the most."""
REFINED = 2
SETTLED = 0.75
"""The share of the whole network's rough cost up to which a smaller one is taken to be cheaper in the end."""


def tune_channels(
    graph: Graph, search: Samples, held_out: Samples | None, options: Options, tune: Search, k: int = 1
) -> Tuned:
    """The cheapest formats and channels of a prepared float network, searched on `search`, measured on `held_out`.

    tune: searches the formats of a network; k: as tune_network has it.
    """
    began = time.monotonic()
    known = Samples(search.x, labels(graph, search))
    fitted = search.x[: max(1, len(search.x) // 2)]  # the others tell how good that is
    context = Context(samples={graph.input_name(graph.inputs[0]): fitted}, seed=options.seed)
    joint = Joint(graph, Searches(tune, known, options, began, right_answers(graph, known, k)), context, k)
    lowest(joint.cost, STEP, LEAST_STEP, MOST)
    ended = joint.ended()
    searches = [*joint.tried.values(), *ended]
    whole, found = searches[0], min(reversed(searches), key=cost_if_it_holds)
    assert found.graph is not None
    return replace(
        found,
        others=tuple(one for one in searches if one is not found),
        float_cost=whole.float_cost,
        reference=whole.reference,
        least=whole.least,
        held_out=None if held_out is None else measured(graph, found.graph, held_out, k),
        seconds=time.monotonic() - began,
        complete=joint.searches.in_time and all(one.complete for one in ended),
        channels=channels_left(graph, found.graph),
    )


@dataclass
class Joint:
    """Searches with some share of the bits taken away as channels, each done once."""

    graph: Graph
    searches: Searches
    context: Context
    k: int
    tried: dict[float, Tuned] = field(default_factory=dict)
    costs: dict[float, float] = field(default_factory=dict)
    networks: dict[float, Graph] = field(default_factory=dict)
    order: list[Removal] = field(default_factory=list)

    def cost(self, share: float) -> float:
        """The objective of the best formats with this share gone; infinite if the rest cannot be as accurate."""
        network = self.graph if share == 0 else self.narrowed(share)
        if network is None or (share and self.searches.is_late()):
            return math.inf
        self.networks[share] = network
        found = self.tried[share] = self._searched(network, share, refine=False)
        if share == 0:
            self.order = self._order()
        self.costs[share] = cost_if_it_holds(found)
        return self.costs[share]

    def ended(self) -> list[Tuned]:
        """The searches to their ends that the rough ones speak for."""
        cheapest = sorted(self.costs, key=lambda share: (self.costs[share], share))[:REFINED]
        found = [self.refined(share) for share in cheapest]
        if 0.0 not in cheapest and min(map(cost_if_it_holds, found)) > SETTLED * self.costs[0.0]:
            found.append(self.refined(0.0))
        return found

    def refined(self, share: float) -> Tuned:
        """The search with this share gone, to its end; the rough one if the time is over."""
        late = self.searches.is_late()
        return self.tried[share] if late else self._searched(self.networks[share], share, refine=True)

    def _searched(self, network: Graph, share: float, refine: bool) -> Tuned:
        """What the rough search of a network measured, the one to its end does not measure again."""
        return self.searches.run(network, self.tried[0.0].least if share else None, refine, resume=refine)

    def _order(self) -> list[Removal]:
        whole = self.tried[0.0]
        nodes = {node.name: node for node in layers(self.graph)}
        widths: list[tuple[Value, int]] = [
            (
                nodes[target.layer].operand(1 if target.role == "weight" else 0),
                whole.candidate.formats[target.name].width,
            )
            for target in whole.problem.space.targets
        ]
        return removals(self.graph, find_channels(self.graph), widths, self.context, 1 - MOST)

    def narrowed(self, share: float) -> Graph | None:
        """The network without the channels that hold this share, refitted; None if that cannot be as accurate."""
        gone = [removal.channel for removal in self.order if removal.left >= 1 - share]
        if not gone:
            return None
        small = edit.copy(self.graph)
        context = replace(self.context, reference=None, notes=[])
        remove_channels(small, find_channels(small), gone, context)
        Refit().run(small, context)
        search = self.searches.search
        right = right_answers(small, search, self.k)
        return small if float(right.mean()) >= self.tried[0.0].least else None


def lowest(cost: Callable[[float], float], step: float, least: float, most: float) -> float:
    """Where a function of 0 to `most` is lowest, as a walk from 0 finds it: forward, then in ever smaller steps."""
    costs = {0.0: cost(0.0)}
    best = 0.0
    while step >= least:
        tried = [x for x in (best + step, best - step) if 0 <= x <= most and x not in costs]
        better = False
        for x in tried:
            costs[x] = cost(x)
            if costs[x] < costs[best]:
                best, better = x, True
                break
        if not better:
            step /= 2
    return best
