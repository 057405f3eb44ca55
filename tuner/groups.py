"""Groups of a layer's output channels with widths of their own: tried where they may save bits, kept where they do.

1. the formats (and channels) of the network have been searched; a layer's weights were found to take b bits
2. in closed form, what channel c of the layer damages in w bits is, with E = Q - W for the numbers Q of that width,

       d_c(w) = i_c (E H E^T)_cc,   i_c = sum of squares of the columns that read channel c

   the channels are put in the order of d_c(b') - d_c(b), b' the next narrower width, and cut into four groups of a size
3. the layer that would save most in b' bits is split (passes/split.py), and the network's formats are searched anew,
   against the same accuracy; the split stays if the objective is smaller; then the next layer, up to LAYERS of them

The parts are layers like any other, and the search finds their widths. Where channels are alike it gains, too: a layer
need not lose a whole bit, or none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bitwright.ir import edit
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph, Node
from bitwright.passes.base import Context
from bitwright.passes.channels import Channels, find_channels, layers
from bitwright.passes.reorder import why_not as cannot_move
from bitwright.passes.split import SplitChannels
from bitwright.passes.split import why_not as cannot_split
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.searches import Search, Searches, cost_if_it_holds
from bitwright.tuner.space import Variable
from bitwright.tuner.targets import Target
from bitwright.tuner.tune import Options, Samples, Tuned, labels, measured, right_answers
from bitwright.tuner.whittle.network import Network, widths
from bitwright.tuner.whittle.rounding import damage

GROUPS = 4
LAYERS = 4
SAMPLES = 1000
WORTH = 0.05  # the share of all bits that a whole layer must save in the next width to be split


@dataclass(frozen=True)
class Proposal:
    """The split of a layer; share: of all bits of the network, what the whole layer would save in the next width."""

    split: SplitChannels
    share: float


def tune_groups(
    before: Tuned, graph: Graph, search: Samples, held_out: Samples | None, options: Options, tune: Search, k: int = 1
) -> Tuned:
    """`before`, or what is cheaper with layers in groups of channels.

    graph: the prepared float network that `before` was made from, whose channels may have gone; tune: searches the
    formats of a network; k: as tune_network has it. The budget of options is that of both.
    """
    began = time.monotonic() - before.seconds
    known = Samples(search.x, labels(graph, search))
    searches = Searches(tune, known, options, began, right_answers(graph, known, k))
    whole = {node.name for node in layers(_judge(before).graph)}  # what was split, or did not save, is left alone
    best, tried = before, list[Tuned]()
    while before.complete and len(tried) < LAYERS and not searches.is_late():
        proposal = next((one for one in proposals(best) if one.split.layer in whole), None)
        if proposal is None:
            break
        whole.remove(proposal.split.layer)
        network = edit.copy(_judge(best).graph)
        proposal.split.run(network, Context())
        found = searches.run(network, before.least, refine=True, resume=False)
        tried.append(found)
        if cost_if_it_holds(found) < cost_if_it_holds(best):
            best = found
    complete = before.complete and searches.in_time and all(one.complete for one in tried)
    seconds = time.monotonic() - began
    if best is before:
        return replace(before, others=(*before.others, *tried), seconds=seconds, complete=complete)
    assert best.graph is not None
    return replace(
        best,
        others=tuple(one for one in (before, *tried) if one is not best),
        float_cost=before.float_cost,
        reference=before.reference,
        least=before.least,
        held_out=None if held_out is None else measured(graph, best.graph, held_out, k),
        seconds=seconds,
        complete=complete,
        channels=before.channels,
        groups=_groups(_judge(best).graph, _judge(before).graph),
    )


def proposals(found: Tuned) -> list[Proposal]:
    """The splits of all layers that may be worth it, the largest share first, from what a search found.

    Damages are measured on the first 1,000 search images, which count in what the search spent.
    """
    judge = _judge(found)
    problem, x = found.problem, judge.x[:SAMPLES]
    problem.charge(len(x))
    channels = find_channels(judge.graph)
    every = []
    with threadpool_limits(1, "blas"):  # small matrices, as in the search
        network = Network(problem, judge.graph, x, problem.space.per_channel, judge.threads)
        bits = {t.name: found.candidate.formats[t.name].width * t.size for t in problem.space.targets}
        for variable in problem.space.variables:
            (target, *more) = variable.targets
            node, width = network.node(target), bits[target.name] // target.size
            narrower = max((w for w in _kinds(variable, width) if w < width), default=width)
            share = (width - narrower) * target.size / sum(bits.values())
            alone = variable.role == "weight" and not more and not target.aliases
            if alone and share >= WORTH and _can_be_split(judge.graph, channels, node):
                less, same = (_damages(network, variable, target, w) for w in (narrower, width))
                order = np.argsort(importance(channels, node) * (less - same), kind="stable")
                every.append(Proposal(_split(target, order), share))
    return sorted(every, key=lambda one: -one.share)


def _can_be_split(graph: Graph, channels: Channels, node: Node) -> bool:
    several = len(channels.at(node, "output")) > 1
    return several and not cannot_split(node) and not cannot_move(graph, channels, node)


def _kinds(variable: Variable, width: int) -> dict[int, list[Canonical]]:
    """The formats of up to so many bits that closed form knows, by width."""
    known = any(format.n_e == 0 or format.n_f == 0 for format in variable.formats)
    found = widths(variable, width) if known else {}
    return found if width in found else {}


def _damages(network: Network, variable: Variable, target: Target, width: int) -> NDArray[np.float64]:
    """What each output channel of a layer damages in so many bits, float64 [channels]."""
    kinds = _kinds(variable, width)[width]
    chosen = min(kinds, key=lambda kind: network.weight_start(target, kind)[1])
    (group,) = network.statistics_of(target).groups
    (fitted,) = network.fit_alone(target, [chosen])
    return np.asarray(damage(group.w, fitted.weight.reshape(group.w.shape), group.curvature))


def _split(target: Target, order: NDArray[np.int64]) -> SplitChannels:
    """A layer in groups of a size, in this order of its channels."""
    sizes = tuple(len(own) for own in np.array_split(order, min(GROUPS, len(order))))
    return SplitChannels(target.layer, sizes, tuple(order.tolist()))


def importance(found: Channels, node: Node) -> NDArray[np.float64]:
    """For each output channel of a layer the sum of squares of all columns that read it, float64 [channels]."""
    own = found.at(node, "output")
    squares = dict.fromkeys(own, 0.0)
    for group in found.groups:
        for port in group.consumers:
            tensor = port.node.operand(1).tensor
            assert tensor is not None, f"%{port.node.name} is no layer"
            columns = np.square(tensor.data.astype(np.float64))
            columns = columns.sum(tuple(axis for axis in range(columns.ndim) if axis != 1))
            for channel, read in zip(group.channels, port.channels, strict=True):
                if channel in squares:
                    squares[channel] += float(columns[list(read)].sum())
    return np.array([squares[channel] for channel in own])


def _judge(found: Tuned) -> SimulationJudge:
    assert isinstance(found.problem.judge, SimulationJudge)
    return found.problem.judge


def _groups(graph: Graph, whole: Graph) -> dict[str, dict[str, int]]:
    """For every layer that was split, its parts and their output channels."""
    names = {node.name for node in whole.nodes if node.op in ("conv2d", "dense")}
    return {
        node.name: {v.name: _channels(v.producer) for v in node.operands if v is not None and v.producer is not None}
        for node in graph.nodes
        if node.op == "concat" and node.name in names
    }


def _channels(node: Node) -> int:
    return (node.operand(1).tensor_type.static_shape or (0,))[0]
