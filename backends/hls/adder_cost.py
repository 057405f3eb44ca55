"""What the adders cost that take the place of a layer's products, where all weights are constants.

LUT. A LUT a bit of each sum, less the low bits that pass by (adders/graph.py), times 0.85 to 1.25: yosys counts 0.92 to
    1.17 of it on small graphs (tests/backends/test_adder_luts.py, docs/estimate.md).
FF.  None but those every layer has (low), or each sum once (high).
Depth. That of products: a weight of w bits has at most (w + 1) / 2 signed digits, so that without sharing an output has
    fewer levels of adders than a multiplier of LUTs and its tree, and EXTRA_DEPTH more with it.

The search for common sub-sums takes its time, so a plan is made first with trees that share nothing: they take as many
LUTs or more, so that what fits with them fits with what is found.
"""

from __future__ import annotations

from bitwright.backends.hls.adders.graph import AdderGraph
from bitwright.backends.hls.adders.solve import shared_graph, unshared_graph
from bitwright.backends.hls.cost import Cost
from bitwright.backends.hls.stages import SumStage, ends_of

LUTS_A_BIT = (0.85, 1.25)


def graph_of(stage: SumStage) -> AdderGraph:
    """The adders of a layer: those that were found for it, or trees that share nothing."""
    return stage.graph or unshared_graph(stage.matrix, *ends_of(stage.in_format))


def found_graph(stage: SumStage) -> AdderGraph:
    """The fewest adders for a layer that the search finds."""
    return stage.graph or shared_graph(stage.matrix, *ends_of(stage.in_format))


def adder_cost(stage: SumStage) -> Cost:
    """The adders of a layer, for all the pixels that it works on at once."""
    graph = graph_of(stage)
    low, high = (share * graph.luts for share in LUTS_A_BIT)
    return Cost((low, high), (0.0, 1.0 * graph.bits)) * stage.pixels

