"""Rounding a layer's outputs group after group, each making up for what the others do to the network's answers.

With M (tuner/whittle/influence.py), what a change E of the weights does to the answers is

    damage = tr(M E H E^T) = sum over outputs r, s of M[r, s] e_r H e_s^T

in which outputs are not alone, as they are in |E x|^2. Those of a group g, rows of W, are best near W[g] - P, where

    T[g, g] P = T[g, before g] E[before g]     the first time, when those after it will make up for theirs:  M = T^T T
    M[g, g] P = M[g, others] E[others]         from then on

and are rounded near that one by one (tuner/whittle/rounding.py). M is of a few samples and of small changes. Half of
what counts is therefore that outputs stay as they are: a multiple of I with the trace of M is added to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitwright.ir.formats import Canonical
from bitwright.passes.cholesky import Matrix, Single, lower_factor
from bitwright.tuner.whittle.curvature import Curvature
from bitwright.tuner.whittle.rounding import Grid, improved, of_rows, rounded

MOST_GROUPS = 8
MOST_COLUMNS = 4096
"""Of all groups together: each is rounded column by column, which takes time."""


@dataclass(frozen=True)
class Coupling:
    """Groups of a layer's outputs, and the matrices that give P of E.

    ends: where each group starts and stops; before [own, those before], others [own, all], 0 for its own: by group.
    """

    ends: list[tuple[int, int]]
    before: list[Matrix]
    others: list[Matrix]

    @classmethod
    def of(cls, m: Matrix, inputs: int) -> Coupling | None:
        """By M [outputs, outputs] of a layer of so many inputs; None where nothing or all of it is one group's."""
        count = min(MOST_GROUPS, MOST_COLUMNS // inputs, len(m))
        size = float(np.trace(m)) / len(m)
        if count < 2 or not 0 < size < np.inf:
            return None
        raised = m / size + np.eye(len(m))
        factor = lower_factor(raised).astype(np.float64)
        edges = np.linspace(0, len(m), count + 1).astype(int)
        ends = [(int(start), int(stop)) for start, stop in itertools.pairwise(edges)]
        before, others = [], []
        for start, stop in ends:
            own = slice(start, stop)
            before.append(np.asarray(np.linalg.solve(factor[own, own], factor[own, :start]), np.float64))
            rest = raised[own].copy()
            rest[:, own] = 0
            others.append(np.asarray(np.linalg.solve(raised[own, own], rest), np.float64))
        return cls(ends, before, others)


def coupled(
    w: Matrix, curvature: Curvature, formats: Sequence[Canonical], coupling: Coupling, sweeps: int = 1
) -> Single:
    """Numbers [formats, outputs, inputs] for weights w, all of FIXED and BIN, or all of EXP.

    sweeps: over the groups, after the first time, each of one of coordinate descent.
    """
    errors = np.zeros((len(formats), *w.shape))
    groups = list(zip(coupling.ends, coupling.before, coupling.others, strict=True))
    grids = [Grid([(of_rows(format, *ends), ends[1] - ends[0]) for format in formats]) for ends in coupling.ends]
    for sweep in range(1 + sweeps):
        for ((start, stop), before, others), grid in zip(groups, grids, strict=True):
            pulled = others @ errors if sweep else before @ errors[:, :start]
            wanted = (w[start:stop] - pulled).reshape(-1, w.shape[1])
            if sweep:
                q = (w[start:stop] + errors[:, start:stop]).reshape(wanted.shape)
                found = improved(q, wanted, curvature, grid)
            else:
                found = rounded(wanted, curvature, grid, 0)
            errors[:, start:stop] = found.reshape(pulled.shape) - w[start:stop]
    return (errors + w).astype(np.float32)
