"""What the adders cost that take the place of a layer's products, where all weights are constants.

LUT. A LUT a bit of each sum, less the low bits that pass by (adders/graph.py), times 0.85 to 1.25: yosys counts 0.89 to
    1.21 of it on nine small graphs (tests/backends/test_adder_luts.py, docs/estimate.md).
FF.  None but those every layer has (low), or each sum once (high).
Depth. That of products: a weight of w bits has at most (w + 1) / 2 signed digits, so that without sharing an output has
    fewer levels of adders than a multiplier of LUTs and its tree, and EXTRA_DEPTH more with it.

The search for common sub-sums takes its time. A plan is made with what is found quickly, or with trees that share
nothing; what the search finds in the layers that have become adders takes as many LUTs or fewer.
"""

from __future__ import annotations

from bitwright.backends.hls.adders.graph import AdderGraph
from bitwright.backends.hls.adders.solve import quick_graph, shared_graph, unshared_graph
from bitwright.backends.hls.cost import Cost
from bitwright.backends.hls.stages import SumStage, ends_of

LUTS_A_BIT = (0.85, 1.25)


def graph_of(stage: SumStage) -> AdderGraph:
    """The adders of a layer: those that it has, or trees that share nothing."""
    return stage.graph or unshared_graph(stage.matrix, *ends_of(stage.in_format))


def first_graph(stage: SumStage) -> AdderGraph:
    """Adders for a layer that are found quickly."""
    return quick_graph(stage.matrix, *ends_of(stage.in_format))


def final_graph(stage: SumStage) -> AdderGraph:
    """The fewest adders for a layer that are found."""
    return shared_graph(stage.matrix, *ends_of(stage.in_format))


def adder_cost(stage: SumStage) -> Cost:
    """The adders of a layer, for all the pixels that it works on at once."""
    graph = graph_of(stage)
    low, high = (share * graph.luts for share in LUTS_A_BIT)
    return Cost((low, high), (0.0, 1.0 * graph.bits)) * stage.pixels
