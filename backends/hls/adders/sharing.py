"""The adder graph of a matrix, in which sums that several rows have in common are made once.

Every weight is written in canonical signed digits, the form of fewest digits that are not 0. A row is then a sum of
digits, each an input times +-2^p. Two digits of a row are a pattern,

    (a +- b 2^s) 2^p        a, b: nodes, s >= 0

The pattern that saves most LUTs, (times it occurs - 1) x its adder, becomes a node; a digit of it takes the place of
both digits wherever they occur, and so on until none occurs twice. This is Hartley's elimination of two-term
subexpressions (IEEE TCAS-II 43(10), 1996), applied greedily to all rows of a matrix as Paar does (ISIT 1997) and da4ml
(Sun et al., arXiv:2507.04535). What is left of a row is added by a tree, the shallowest two first, which has the
fewest levels.

Digits of depths d take at least log2(sum of 2^d) levels. No pattern goes where that would exceed what the longest row
needs anyway by more than EXTRA_DEPTH.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np

from bitwright.backends.hls.adders.graph import Adder, AdderGraph, Growing, Ints, Output

EXTRA_DEPTH = 2
MOST_PAIRS = 100_000  # of digits; of a larger matrix, blocks of columns share among themselves
QUICK_PAIRS = 5_000  # the same for a first look

# A digit as one number: its place above its node. A pattern likewise: node, node, shift, sign.
_NODE, _SHIFT = 20, 6
_NODES = (1 << _NODE) - 1

Row = dict[int, int]  # the digits of a row: +1 or -1
Term = tuple[int, int, int, int]  # depth, place, node, sign


def signed_digits(weights: Ints) -> Ints:
    """The canonical signed digits -1, 0, 1 of integers along a new last axis, lowest first; of neighbours one is 0.

    weights: of magnitudes below 2^60. Source: Reitwiesner, Binary Arithmetic, Advances in Computers 1, 1960.
    """
    size = np.abs(weights)
    half = size >> 1
    total = size + half
    differ = total ^ half
    places = np.arange(max(1, int(total.max(initial=0)).bit_length()))
    plus, minus = ((bits[..., None] >> places) & 1 for bits in (total & differ, half & differ))
    return np.asarray(np.sign(weights)[..., None] * (plus - minus))


def unshared(weights: Ints, low: int, high: int) -> AdderGraph:
    """A tree of its own for every row. weights: [outputs, inputs]; low, high: of every input."""
    growing = Growing(weights.shape[1], low, high)
    return _added(growing, _rows(signed_digits(weights), 0))


def shared(weights: Ints, low: int, high: int, pairs: int = MOST_PAIRS) -> AdderGraph:
    """The same with common sub-sums, within blocks of columns that have at most so many pairs of digits."""
    digits = signed_digits(weights)
    growing = Growing(weights.shape[1], low, high)
    left: list[Row] = [{} for _ in weights]
    for first, end in _blocks(digits, pairs):
        elimination = _Elimination(growing, _rows(digits[:, first:end], first))
        elimination.run()
        for row, rest in zip(left, elimination.rows, strict=True):
            row.update(rest)
    return _added(growing, left)


def _rows(digits: Ints, first: int) -> list[Row]:
    """The digits of each row; first: the node of the first column."""
    rows: list[Row] = [{} for _ in digits]
    for row, column, place in zip(*(axis.tolist() for axis in np.nonzero(digits)), strict=True):
        rows[row][place << _NODE | (first + column)] = int(digits[row, column, place])
    return rows


def _blocks(digits: Ints, pairs: int) -> list[tuple[int, int]]:
    """Columns, first and end, in blocks whose rows have at most so many pairs of digits together."""
    each = np.count_nonzero(digits, axis=2)
    blocks, first = [], 0
    for end in range(1, each.shape[1] + 1):
        inside = each[:, first:end].sum(1)
        if end - 1 > first and (inside * (inside - 1) // 2).sum() > pairs:
            blocks.append((first, end - 1))
            first = end - 1
    return [*blocks, (first, each.shape[1])]


class _Elimination:
    """Patterns of some rows, which become nodes one after the other.

    loads: of each row the sum of 2^depth of its digits, at most `most`; places: of each node the rows and digits where
    it is; counts: how often patterns occur that occur more than once; luts: of the adders of patterns.
    """

    def __init__(self, growing: Growing, rows: list[Row]) -> None:
        self.growing = growing
        self.rows = rows
        self.loads = [sum(1 << growing.depths[digit & _NODES] for digit in row) for row in rows]
        self.most = 1 << ((max(self.loads, default=1) - 1).bit_length() + EXTRA_DEPTH)
        self.places: dict[int, set[tuple[int, int]]] = {}
        for number, row in enumerate(rows):
            for digit in row:
                self.places.setdefault(digit & _NODES, set()).add((number, digit))
        self.luts: dict[int, int] = {}
        self.counts = _counted(rows)
        self.queue = [(-self._saving(key), key) for key in self.counts]
        heapq.heapify(self.queue)

    def run(self) -> None:
        """Until no pattern occurs twice."""
        while self.queue:
            saving, key = heapq.heappop(self.queue)
            now = self._saving(key)
            if 0 < now < -saving:
                heapq.heappush(self.queue, (-now, key))
            elif now:
                found = self._occurrences(key)
                if len(found) > 1:
                    self._replace(key, found)
                self.counts.pop(key, None)

    def _saving(self, key: int) -> int:
        """LUTs that a node for this pattern saves."""
        count = self.counts.get(key, 0)
        if count < 2:
            return 0
        if key not in self.luts:
            self.luts[key] = self.growing.luts(_adder(key))
        return (count - 1) * self.luts[key]

    def _occurrences(self, key: int) -> list[tuple[int, int, int]]:
        """(row, digit, digit), no digit twice, where the tree over the row stays shallow enough."""
        adder = _adder(key)
        depths = [self.growing.depths[node] for node in (adder.left, adder.right)]
        grows = (2 << max(depths)) - (1 << depths[0]) - (1 << depths[1])
        found: list[tuple[int, int, int]] = []
        used: set[tuple[int, int]] = set()
        room: dict[int, int] = {}
        for number, digit in sorted(self.places.get(adder.left, ())):
            other = (((digit >> _NODE) + adder.right_shift) << _NODE) | adder.right
            row = self.rows[number]
            if other not in row or (row[digit] != row[other]) != adder.subtracts:
                continue
            left = room.get(number, self.most - self.loads[number])
            if left >= grows and not {(number, digit), (number, other)} & used:
                used |= {(number, digit), (number, other)}
                room[number] = left - grows
                found.append((number, digit, other))
        return found

    def _replace(self, key: int, found: list[tuple[int, int, int]]) -> None:
        """A node for the pattern, and a digit of it in place of each occurrence."""
        node = self.growing.add(_adder(key))
        new: set[int] = set()
        for number, digit, other in found:
            row = self.rows[number]
            sign = row[digit]
            for gone in (digit, other):
                self._remove(number, gone)
            made = (digit >> _NODE) << _NODE | node
            for pattern in _patterns(made, sign, row):
                self.counts[pattern] = self.counts.get(pattern, 0) + 1
                new.add(pattern)
            row[made] = sign
            self.places.setdefault(node, set()).add((number, made))
            self.loads[number] += 1 << self.growing.depths[node]
        for pattern in new:
            if (saving := self._saving(pattern)) > 0:
                heapq.heappush(self.queue, (-saving, pattern))
            else:
                self.counts.pop(pattern, None)

    def _remove(self, number: int, digit: int) -> None:
        row = self.rows[number]
        sign = row.pop(digit)
        self.places[digit & _NODES].remove((number, digit))
        self.loads[number] -= 1 << self.growing.depths[digit & _NODES]
        for pattern in _patterns(digit, sign, row):
            if pattern in self.counts:
                self.counts[pattern] -= 1


def _counted(rows: Iterable[Row]) -> dict[int, int]:
    """How often patterns occur; those that occur once are left out: they will not occur more often."""
    keys = [np.zeros(0, np.int64)]
    for row in rows:
        digits, signs = np.array(list(row), np.int64), np.array(list(row.values()), np.int64)
        one, two = np.triu_indices(len(row), 1)
        keys.append(_keys(digits[one], signs[one], digits[two], signs[two]))
    patterns, counts = np.unique(np.concatenate(keys), return_counts=True)
    often = counts > 1
    return dict(zip(patterns[often].tolist(), counts[often].tolist(), strict=True))


def _patterns(digit: int, sign: int, row: Row) -> list[int]:
    """The patterns that a digit makes with those of a row."""
    digits = np.fromiter(row.keys(), np.int64, len(row))
    signs = np.fromiter(row.values(), np.int64, len(row))
    return list(_keys(np.int64(digit), np.int64(sign), digits, signs).tolist())


def _keys(digit: Ints | np.int64, sign: Ints | np.int64, others: Ints, signs: Ints) -> Ints:
    """The numbers of patterns: node of the lower digit, node of the other, shift, whether the signs differ."""
    lower, upper = np.minimum(digit, others), np.maximum(digit, others)
    nodes = (lower & _NODES) << _NODE | (upper & _NODES)
    shift = (upper >> _NODE) - (lower >> _NODE)
    return np.asarray((nodes << _SHIFT | shift) << 1 | (sign != signs))


def _adder(key: int) -> Adder:
    nodes, shift = key >> (_SHIFT + 1), (key >> 1) & ((1 << _SHIFT) - 1)
    return Adder(nodes >> _NODE, nodes & _NODES, 0, shift, bool(key & 1))


def _added(growing: Growing, rows: Iterable[Row]) -> AdderGraph:
    """The graph whose outputs are the sums of the rows."""
    return growing.graph(_tree(growing, row) for row in rows)


def _tree(growing: Growing, row: Row) -> Output:
    """The sum of a row: always the two shallowest terms, and of these the lowest, make one."""
    queue = [(growing.depths[digit & _NODES], digit >> _NODE, digit & _NODES, sign) for digit, sign in row.items()]
    if not queue:
        return Output(None)
    heapq.heapify(queue)
    while len(queue) > 1:
        heapq.heappush(queue, _sum(growing, heapq.heappop(queue), heapq.heappop(queue)))
    _, place, node, sign = queue[0]
    return Output(node, place, sign < 0)


def _sum(growing: Growing, one: Term, two: Term) -> Term:
    """The sum of two terms; negative only where both are, since the positive one stands on the left."""
    left, right = (two, one) if one[3] < two[3] else (one, two)
    place = min(left[1], right[1])
    node = growing.add(Adder(left[2], right[2], left[1] - place, right[1] - place, left[3] != right[3]))
    return growing.depths[node], place, node, left[3]
