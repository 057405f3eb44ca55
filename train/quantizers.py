"""The quantizers of a graph's values: one for all values that have their format together.

An op that only moves numbers (pooling by maximum, reshape, ...) gives them in the format in which it reads them, and
what only a concat reads is rounded into the concat's.
"""

from __future__ import annotations

from collections.abc import Sequence

from networkx.utils import UnionFind

from bitwright.ir.assign import MOVES, joined
from bitwright.ir.formats import Affine, Canonical
from bitwright.ir.graph import Value
from bitwright.ir.types import Type
from bitwright.train.rounding import Quantizer


def quantizers_of(values: Sequence[Value]) -> dict[int, Quantizer]:
    """The quantizer of every value with a format, by the value's identity."""
    formats = {id(value): format_of(value) for value in values}
    together: UnionFind = UnionFind(formats)
    for value in values:
        node = value.producer
        if node is None:
            continue
        for other in [node.operand(0)] if node.op in MOVES else joined(node):
            if id(other) in formats and formats[id(other)] == formats[id(value)]:
                together.union(id(other), id(value))
    made: dict[int, Quantizer] = {}
    for value in values:
        format = formats[id(value)]
        if format is not None:
            made.setdefault(together[id(value)], Quantizer(format))
    return {id(value): made[together[id(value)]] for value in values if formats[id(value)] is not None}


def format_of(value: Value) -> Canonical | Affine | None:
    """The number format of a value, if it has one."""
    return value.type.number if isinstance(value.type, Type) else None
