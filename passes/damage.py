"""What it costs to remove a channel: the increase of the error of all sums that read it, the other weights refitted.

A layer y = W x loses the inputs S (a channel's columns: one, or a block), and its other weights are refitted. With
H = mean x x^T over samples, means taken out (a bias makes up for them), its mean squared error grows by

    cost(S) = tr(W_S ([H^-1]_SS)^-1 W_S^T)

and it is left with (optimal brain surgeon, Hassibi and Stork, 1993, block by block)

    W    <-  W    - W_S ([H^-1]_SS)^-1 [H^-1]_S
    H^-1 <-  H^-1 - [H^-1]_S^T ([H^-1]_SS)^-1 [H^-1]_S        the inverse of H without S, in the other places

What several layers read costs the sum of what it costs each, relative to the power of the layer's output. Outputs that
are gone, or that go with the channel, do not count. Of a layer of more than MOST_INPUTS inputs, whose H is too large to
invert, each channel costs what it does alone, with nothing refitted: tr(W_S H_SS W_S^T).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.graph import Graph, Node
from bitwright.passes.base import Context
from bitwright.passes.channels import Channels, layers
from bitwright.passes.cholesky import Matrix
from bitwright.passes.moments import LEAST_RIDGE, RIDGE, gram
from bitwright.passes.patches import group_count, patches
from bitwright.passes.walk import Walk, affordable

Indices = NDArray[np.int64]
NONE = np.zeros(0, np.int64)
MOST_INPUTS = 6144
LEAST_SHARE = 1e-6  # of the mean power, so that H can be inverted


@dataclass
class Sums:
    """Sums W x of one layer, or of one group of a grouped convolution, while channels go.

    w: float64 [outputs, inputs]; inverse: H^-1, float64 [inputs, inputs]; columns, rows: those of each channel.
    """

    w: Matrix
    inverse: Matrix
    columns: Mapping[int, Indices]
    rows: Mapping[int, Indices]
    power: float

    @classmethod
    def of(cls, w: Matrix, h: Matrix, columns: Mapping[int, Indices], rows: Mapping[int, Indices]) -> Sums:
        """From weights and H. Each input has a ridge of its own power, so that one that never changes costs nothing."""
        powers = np.diagonal(h)
        ridges = RIDGE * powers + LEAST_SHARE * powers.mean() + LEAST_RIDGE
        power = float(np.einsum("ij,ij->", w @ h, w))
        inverse = np.asarray(np.linalg.inv(h + np.diag(ridges)), np.float64)
        return cls(w.copy(), inverse, columns, rows, max(power, LEAST_RIDGE))

    def costs(self, channels: Sequence[int]) -> Matrix:
        """cost(S) over the power of the whole output, of each channel; 0 for one that is not read."""
        found = np.zeros(len(channels))
        sizes = np.array([len(self.columns.get(channel, NONE)) for channel in channels])
        for size in set(sizes.tolist()) - {0}:
            which = np.flatnonzero(sizes == size)
            blocks = np.stack([self.columns[channels[i]] for i in which.tolist()])
            own = self.inverse[blocks[:, :, None], blocks[:, None, :]]
            weights = self.w.T[blocks]
            errors = (weights * np.linalg.solve(own, weights)).sum(1)
            for at, i in enumerate(which.tolist()):
                errors[at, self.rows.get(channels[i], NONE)] = 0
            found[which] = errors.sum(1)
        return found / self.power

    def remove(self, channel: int) -> None:
        """Take a channel's columns out, the others refitted, and its rows."""
        block = self.columns.get(channel)
        if block is not None:
            across = self.inverse[block]
            change = np.linalg.solve(across[:, block], across)
            self.w -= self.w[:, block] @ change
            self.inverse -= across.T @ change
            self.w[:, block] = 0
        if channel in self.rows:
            self.w[self.rows[channel]] = 0


@dataclass(frozen=True)
class WideSums:
    """Sums of too many inputs: the cost of each channel alone, relative to the power of the layer's output."""

    columns: Mapping[int, Indices]
    rows: Mapping[int, Indices]
    alone: Mapping[int, float]

    @classmethod
    def of(cls, w: Matrix, x: Matrix, columns: Mapping[int, Indices], rows: Mapping[int, Indices]) -> WideSums:
        """From weights and centred inputs [rows, inputs]."""
        power = max(float(np.square(x @ w.T).sum()), LEAST_RIDGE)
        alone = {}
        for channel, block in columns.items():
            errors = np.square(x[:, block] @ w[:, block].T).sum(0)
            errors[rows.get(channel, NONE)] = 0
            alone[channel] = float(errors.sum()) / power
        return cls(columns, rows, alone)

    def costs(self, channels: Sequence[int]) -> Matrix:
        """As of Sums."""
        return np.array([self.alone.get(channel, 0.0) for channel in channels])

    def remove(self, channel: int) -> None:
        """Nothing is refitted."""


class LeastDamage:
    """Chooses the channel that costs least, given what went before."""

    def __init__(self, sums: Sequence[Sums | WideSums]) -> None:
        self.sums = sums
        self.readers: dict[int, list[Sums | WideSums]] = {}
        for one in sums:
            for channel in {**one.columns, **one.rows}:
                self.readers.setdefault(channel, []).append(one)

    def costs(self, candidates: Sequence[int]) -> Matrix:
        """What each channel costs now: float64 [candidates]."""
        touched = {id(one): one for channel in candidates for one in self.readers.get(channel, ())}
        return np.zeros(len(candidates)) + sum(one.costs(candidates) for one in touched.values())

    def next(self, candidates: Sequence[int]) -> int:
        """The channel of least cost, the last of equals."""
        costs = self.costs(candidates)
        return candidates[len(candidates) - 1 - int(np.argmin(costs[::-1]))]

    def remove(self, channel: int) -> None:
        """Refit what read the channel without it."""
        for one in self.readers.get(channel, ()):
            one.remove(channel)


def sums_of(graph: Graph, found: Channels, context: Context) -> list[Sums | WideSums]:
    """The sums of every layer whose input channels can go, with the Gram matrices of its inputs on the samples."""
    assert context.samples is not None
    walk = Walk(graph, affordable(graph, context.samples), context)
    made: list[Sums | WideSums] = []
    for node in layers(graph):
        if any(channel not in found.why_not for channel in found.at(node, "input")):
            made += _sums(node, found, walk)
    return made


def _sums(node: Node, found: Channels, walk: Walk) -> list[Sums | WideSums]:
    tensor = node.operand(1).tensor
    assert tensor is not None
    groups = group_count(node)
    x = patches(node, walk.input_of(node))
    w = tensor.data.astype(np.float64).reshape(groups, tensor.shape[0] // groups, -1)
    per_channel = int(np.prod(tensor.shape[2:], dtype=np.int64))
    read = np.repeat(found.at(node, "input"), per_channel).reshape(groups, -1)
    written = np.array(found.at(node, "output")).reshape(groups, -1)
    made: list[Sums | WideSums] = []
    for rows, weights, inputs, outputs in zip(x, w, read, written, strict=True):
        here = rows - rows.mean(0)
        places = _places(inputs, found.why_not), _places(outputs, found.why_not)
        wide = here.shape[1] > MOST_INPUTS
        made.append(WideSums.of(weights, here, *places) if wide else Sums.of(weights, gram(here), *places))
    return made


def _places(channels: Indices, without: Collection[int]) -> dict[int, Indices]:
    """The indices of each channel that can go."""
    return {c: np.flatnonzero(channels == c) for c in np.unique(channels).tolist() if c not in without}
