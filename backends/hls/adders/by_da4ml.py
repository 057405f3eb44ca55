"""Adder graphs by the solver of da4ml (PyPI, LGPL-3.0), if it is installed: called through its API, as an extra.

    da4ml.cmvm.solve(kernel [inputs, outputs], qintervals=[(low, high, step)], hard_dc=levels more) -> Pipeline
    Pipeline.solutions: CombLogic, one after the other: ops, out_idxs (-1: 0), out_shifts, out_negs
    Op: buffer = copy of input id0 (opcode -1), buffer[id0] + or - buffer[id1] 2^data (opcodes 0 and 1)

Its numbers may be fractions of a power of two; here every node is the integer that stands before that power.
Source: Sun et al., da4ml: Distributed Arithmetic for Real-time Neural Networks on FPGAs, arXiv:2507.04535.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from bitwright.backends.hls.adders.graph import Adder, AdderGraph, Growing, Ints, Output
from bitwright.backends.hls.adders.sharing import EXTRA_DEPTH

COPY, ADD, SUBTRACT = -1, 0, 1
LARGEST = 1 << 24  # weights go to the solver as float32


class _Term(NamedTuple):
    """node 2^shift, or its negative; no node: 0."""

    node: int | None
    shift: int = 0
    negative: bool = False


def is_installed() -> bool:
    """Whether da4ml can be asked."""
    return find_spec("da4ml") is not None


def by_da4ml(weights: Ints, low: int, high: int) -> AdderGraph | None:
    """The graph that da4ml finds; None where it uses what is no addition, or weights are too large for it.

    weights: [outputs, inputs]; low, high: of every input.
    """
    if np.abs(weights).max(initial=0) >= LARGEST:
        return None
    from da4ml.cmvm import solve

    inputs = weights.shape[1]
    interval = (float(low), float(high), 1.0)
    found = solve(np.ascontiguousarray(weights.T, np.float32), qintervals=[interval] * inputs, hard_dc=EXTRA_DEPTH)
    growing = Growing(inputs, low, high)
    terms: Sequence[_Term] | None = [_Term(node) for node in range(inputs)]
    for logic in found.solutions:
        terms = None if terms is None else _followed(growing, logic, terms)
    if terms is None or any(term.shift < 0 for term in terms):
        return None
    return growing.graph(Output(*term) for term in terms)


def _followed(growing: Growing, logic: Any, inputs: Sequence[_Term]) -> list[_Term] | None:
    """The outputs of a CombLogic, whose adders join the graph."""
    buffer: list[_Term] = []
    for op in logic.ops:
        if op.opcode == COPY:
            buffer.append(_shifted(inputs[op.id0], logic.inp_shifts[op.id0]))
        elif op.opcode in (ADD, SUBTRACT):
            right = _shifted(buffer[op.id1], op.data)
            buffer.append(_sum(growing, buffer[op.id0], right, op.opcode == SUBTRACT))
        else:
            return None
    outputs = zip(logic.out_idxs, logic.out_shifts, logic.out_negs, strict=True)
    return [
        _shifted(buffer[node], shift, bool(negative)) if node >= 0 else _Term(None) for node, shift, negative in outputs
    ]


def _shifted(term: _Term, places: int, negative: bool = False) -> _Term:
    return _Term(term.node, term.shift + int(places), term.negative != negative)


def _sum(growing: Growing, left: _Term, right: _Term, subtracts: bool) -> _Term:
    """left + right or left - right."""
    right = _shifted(right, 0, subtracts)
    if left.node is None or right.node is None:
        return right if left.node is None else left
    if left.negative and not right.negative:
        left, right = right, left
    assert left.node is not None
    assert right.node is not None
    place = min(left.shift, right.shift)
    adder = Adder(left.node, right.node, left.shift - place, right.shift - place, left.negative != right.negative)
    return _Term(growing.add(adder), place, left.negative)
