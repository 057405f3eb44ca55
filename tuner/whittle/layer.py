"""One layer in new formats: the weights and the bias that keep its float output best, given the inputs it now gets.

Let x be the layer's float inputs and x' those it gets when everything before is in its formats. With the means taken
out (the bias makes up for them), H = sum x' x'^T, and

    W' = W + W (sum (x - x') x'^T) (H + r I)^-1     the float weights that suit x' best, kept near W by the ridge r,
                                                    which is the larger, the fewer x' are for the number of inputs
    Q  = rounded(W', H)                             second-order rounding
    b' = b + W mean(x) - Q mean(x')                 the mean output stays

Where x' are few for the number of inputs, they say little of H: the rounding takes that of the float inputs, of which
there may be more, made once. Where they are fewer than the inputs, or hardly differ from x, W' takes it, too. The
segments of very many inputs (tuner/whittle/curvature.py) are fitted each by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.formats import Canonical, Fit, best_bias
from bitwright.ir.graph import Node
from bitwright.passes.cholesky import Matrix, Single
from bitwright.passes.moments import RIDGE, gram, products, refitted
from bitwright.passes.patches import Rows
from bitwright.tuner.whittle.coupled import Coupling, coupled
from bitwright.tuner.whittle.curvature import Curvature, each, joined, segment_count, split
from bitwright.tuner.whittle.rounding import Grid, damage, of_rows, rounded

SHIFTS = (0, 1, -1)
COARSE = 4
"""Up to so many bits, outputs are coupled, and second-order rounding wants other biases than rounding to nearest."""
ENOUGH = 4  # rows of inputs for each input, from which on they tell H well
SCATTER = 0.1  # of the ridge, for as many inputs as rows; in mean diagonals of H
NEAR = 0.01  # of the power of x', if x - x' has less, the inputs hardly differ
MOST_NUMBERS = 30_000  # of a layer, by which starting biases are chosen


@dataclass(frozen=True)
class Fitted:
    """A layer's numbers in a format: weights and bias (None where the layer has none) in their own shapes."""

    format: Canonical
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Group:
    """One group's rows of weights, refitted, and what rounding needs."""

    w: Matrix
    curvature: Curvature
    shift: Matrix
    mean: Matrix

    @property
    def powers(self) -> Matrix | Single:
        """Of the inputs, [inputs]."""
        return self.curvature.powers.reshape(-1)[: self.w.shape[1]]


class Statistics:
    """What a layer's inputs say about its weights: the refitted weights and the curvature of each group."""

    def __init__(
        self,
        node: Node,
        x: Rows,
        exact: Rows | None = None,
        floating: Statistics | None = None,
        coupling: Coupling | None = None,
    ) -> None:
        """x: the inputs the layer gets, as `patches` gives them; exact: the float ones, if they differ.

        floating: the statistics on the float inputs, where these are given; coupling: of the outputs, of one group.
        """
        self.coupling = coupling
        weight, bias = node.operand(1), node.optional(2)
        assert weight.tensor is not None
        self.data = weight.tensor.data
        self.bias = None if bias is None or bias.tensor is None else bias.tensor.data.astype(np.float64)
        rows = self.data.astype(np.float64).reshape(len(x), self.data.shape[0] // len(x), -1)
        few = len(x[0]) < ENOUGH * rows.shape[2]
        known = floating.curvatures if floating is not None and few else [None] * len(x)
        self.groups = [self._group(*one) for one in zip(rows, x, exact or x, known, strict=True)]

    def _group(self, w: Matrix, x: Single, exact: Single, known: Curvature | None) -> _Group:
        mean, exact_mean = (rows.mean(0) if self.bias is not None else np.zeros_like(rows[0]) for rows in (x, exact))
        segments = segment_count(w.shape[1])
        here = split(x, segments), split(mean[None], segments)
        if exact is x:
            own = known or Curvature.of(each(lambda x, mean: products(x - mean), *here) / np.float32(len(x)))
            return _Group(w, own, np.zeros(len(w)), mean.astype(np.float64))
        missing = each(self._missing, *here, split(exact, segments), split(w.astype(np.float32), segments))
        ridge = max(RIDGE, SCATTER * w.shape[1] / len(x))
        if known is not None and (w.shape[1] > len(x) or _are_near(x - mean, exact - x)):
            curvature, more = known, known.solved(ridge, missing.swapaxes(-1, -2)).swapaxes(-1, -2)
            better = w + joined(more, w.shape[1])
        else:
            h = each(lambda x, mean: gram(x - mean), *here)
            made = each(partial(refitted, ridge=ridge), split(w, segments), h, missing.astype(np.float64))
            curvature, better = known or Curvature.of(h), joined(made, w.shape[1])
        return _Group(better, curvature, w @ exact_mean - better @ mean, mean.astype(np.float64))

    def _missing(self, x: Single, mean: Single, exact: Single, w: Single) -> Single:
        """mean W (x - x') x'^T, the means taken out: [outputs, inputs]."""
        change = (exact - x) @ w.T
        if self.bias is not None:
            change -= change.mean(0)
        return np.asarray(change.T @ (x - mean) / np.float32(len(x)))

    @property
    def curvatures(self) -> list[Curvature]:
        """One for each group."""
        return [group.curvature for group in self.groups]

    def fit(self, formats: Sequence[Canonical], sweeps: int = 2) -> list[Fitted]:
        """The best numbers in every format (FIXED, BIN and EXP, of the layer or an output channel).

        sweeps: of coordinate descent; without any, outputs are not coupled either.
        """
        found: dict[int, Fitted] = {}
        can_couple = self.coupling is not None and sweeps > 0
        kinds = [(bool(format.n_e), can_couple and format.width <= COARSE) for format in formats]
        for kind in dict.fromkeys(kinds):
            own = [i for i, other in enumerate(kinds) if other == kind]
            numbers = self._rounded([formats[i] for i in own], sweeps, kind[1])
            for i, q in zip(own, numbers, strict=True):
                found[i] = Fitted(formats[i], q.astype(np.float32).reshape(self.data.shape), self._bias(q))
        return [found[i] for i in range(len(formats))]

    def error(self, fitted: Fitted) -> float:
        """sum |change of the output|^2 over sum |output|^2, the means taken out."""
        change = power = 0.0
        for group, q in zip(self.groups, np.split(fitted.weight, len(self.groups)), strict=True):
            change += float(damage(group.w, q.reshape(group.w.shape), group.curvature).sum())
            power += float(damage(group.w, np.zeros_like(group.w, np.float32), group.curvature).sum())
        return change / max(power, 1e-30)

    def shifted(self, start: Canonical) -> Canonical:
        """The format, or one with a bias next to its own, whose second-order rounding does least damage.

        A bias for the whole layer is chosen by some of its outputs, as many as come to MOST_NUMBERS.
        """
        formats = [_moved(start, shift) for shift in SHIFTS]
        step = 1 if start.axis is not None else max(1, self.data.size // MOST_NUMBERS)
        errors = self._errors(formats, step)
        if start.axis is None:
            return formats[int(np.argmin(errors.sum(1)))]
        return _moved(start, np.array(SHIFTS)[np.argmin(errors, 0)])

    def start(self, format: Canonical, per_channel: bool) -> Fit:
        """The biases of least squared error of the weights, weighted by the power of the input that each meets.

        That is what rounding to nearest makes of uncorrelated inputs: cheap, for a start and for comparing kinds.
        per_channel: a bias for each output channel.
        """
        columns = self._some_columns()
        rows = np.concatenate([group.w[:, columns] for group in self.groups])
        powers = [np.broadcast_to(g.powers, g.w.shape)[:, columns] for g in self.groups]
        return best_bias(format, rows, np.concatenate(powers), 0 if per_channel else None)

    def _some_columns(self) -> NDArray[np.int64]:
        """All columns of the weights, or as many as come to MOST_NUMBERS; 256 at least."""
        count = self.groups[0].w.shape[1]
        keep = max(256, MOST_NUMBERS * count // self.data.size)
        return np.sort(np.random.default_rng(0).permutation(count)[:keep])

    def _rounded(self, formats: Sequence[Canonical], sweeps: int, is_coupled: bool) -> Matrix:
        """Numbers [formats, outputs, inputs], all formats in one go."""
        numbers, start = [], 0
        for group in self.groups:
            own = [of_rows(format, start, start + len(group.w)) for format in formats]
            if is_coupled and self.coupling is not None:
                numbers.append(coupled(group.w, group.curvature, own, self.coupling, sweeps))
            else:
                w = np.tile(group.w, (len(formats), 1))
                q = rounded(w, group.curvature, Grid([(format, len(group.w)) for format in own]), sweeps)
                numbers.append(q.reshape(len(formats), *group.w.shape))
            start += len(group.w)
        return np.concatenate(numbers, 1)

    def _errors(self, formats: Sequence[Canonical], step: int) -> Matrix:
        """Damages [formats, outputs] of rounding without sweeps, of every step-th output of each group."""
        errors, start = [], 0
        for group in self.groups:
            own = [of_rows(format, start, start + len(group.w)) for format in formats]
            some = group.w[::step]
            w = np.tile(some, (len(formats), 1))
            q = rounded(w, group.curvature, Grid([(format, len(some)) for format in own]), 0)
            errors.append(damage(w, q, group.curvature).reshape(len(formats), -1))
            start += len(group.w)
        return np.concatenate(errors, 1)

    def _bias(self, q: Matrix) -> NDArray[np.float32] | None:
        if self.bias is None:
            return None
        change, start = [], 0
        for group in self.groups:
            own = q[start : start + len(group.w)]
            change.append(group.shift + (group.w - own) @ group.mean)
            start += len(group.w)
        return (self.bias + np.concatenate(change)).astype(np.float32)


def _are_near(x: Single, change: Single) -> bool:
    """Whether changes of centred inputs are small beside these."""
    return float(np.square(change).sum()) < NEAR * float(np.square(x).sum())


def _moved(format: Canonical, shift: int | NDArray[np.int64]) -> Canonical:
    biases = format.biases + shift
    return format.at(int(biases)) if format.axis is None else format.at(tuple(int(b) for b in biases), format.axis)
