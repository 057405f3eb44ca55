"""A constant matrix times a vector as a graph of additions: y = W x without a multiplier.

Node n < inputs is x[n]; every adder makes one more node of two that are there already:

    node = left 2^left_shift + right 2^right_shift        or, where it subtracts, minus
    y[k] = +- node 2^shift                                of the node that output k names; 0 of none

Ranges are exact: a node is a weighted sum of the inputs (`forms`), each of which takes every integer of [low, high], so
its least and its largest value follow from its weights.

An adder takes a LUT and a bit of the carry chain for each bit of its sum, but for the low ones that it only passes on
because the other operand stands above them (Sun et al., da4ml, arXiv:2507.04535; yosys counts the same in
tests/backends/test_adder_luts.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Form = dict[int, int]  # of a weighted sum: the weight of each input, those that are 0 left out


@dataclass(frozen=True)
class Adder:
    """left 2^left_shift + right 2^right_shift, or minus; left and right are nodes."""

    left: int
    right: int
    left_shift: int
    right_shift: int
    subtracts: bool


@dataclass(frozen=True)
class Output:
    """node 2^shift, or its negative; 0 where there is no node."""

    node: int | None
    shift: int = 0
    negative: bool = False


@dataclass(frozen=True)
class AdderGraph:
    """low, high: of every input, low <= 0 <= high; an adder names nodes before it alone."""

    inputs: int
    low: int
    high: int
    adders: tuple[Adder, ...]
    outputs: tuple[Output, ...]

    @cached_property
    def forms(self) -> list[Form]:
        """What each node is of the inputs."""
        found = [{number: 1} for number in range(self.inputs)]
        for adder in self.adders:
            found.append(form_of(adder, found))
        return found

    @cached_property
    def matrix(self) -> Ints:
        """W, [outputs, inputs]."""
        found = np.zeros((len(self.outputs), self.inputs), np.int64)
        for row, output in zip(found, self.outputs, strict=True):
            if output.node is not None:
                form = self.forms[output.node]
                scale = -(1 << output.shift) if output.negative else 1 << output.shift
                row[list(form)] = [weight * scale for weight in form.values()]
        return found

    @cached_property
    def ranges(self) -> list[tuple[int, int]]:
        """The least and the largest value of each node."""
        return [range_of(form, self.low, self.high) for form in self.forms]

    @cached_property
    def luts(self) -> int:
        """Of all adders."""
        ranges = self.ranges[self.inputs :]
        return sum(adder_luts(adder, *ends) for adder, ends in zip(self.adders, ranges, strict=True))

    @cached_property
    def bits(self) -> int:
        """Of all sums: those of the registers if each had one."""
        return sum(width_of(*ends) for ends in self.ranges[self.inputs :])

    @cached_property
    def depth(self) -> int:
        """Adders on the longest way to an output."""
        found = [0] * self.inputs
        for adder in self.adders:
            found.append(1 + max(found[adder.left], found[adder.right]))
        return max((found[output.node] for output in self.outputs if output.node is not None), default=0)


def form_of(adder: Adder, forms: list[Form]) -> Form:
    """The weighted sum that an adder makes of two of `forms`."""
    made = {place: weight << adder.left_shift for place, weight in forms[adder.left].items()}
    scale = -(1 << adder.right_shift) if adder.subtracts else 1 << adder.right_shift
    for place, weight in forms[adder.right].items():
        made[place] = made.get(place, 0) + weight * scale
    return {place: weight for place, weight in made.items() if weight}


def range_of(form: Form, low: int, high: int) -> tuple[int, int]:
    """The least and the largest value of a weighted sum of inputs from low to high."""
    positive = sum(weight for weight in form.values() if weight > 0)
    negative = sum(form.values()) - positive
    return positive * low + negative * high, positive * high + negative * low


def width_of(low: int, high: int) -> int:
    """Bits of the integers from low to high, low <= 0 <= high, in two's complement."""
    return max(high.bit_length(), (-low - 1).bit_length() if low else 0) + 1


def adder_luts(adder: Adder, low: int, high: int) -> int:
    """LUTs of an adder whose sum is from low to high; a sum that is never negative has no sign."""
    passed = adder.right_shift if adder.subtracts else max(adder.left_shift, adder.right_shift)
    return max(width_of(low, high) - (low == 0) - passed, 1)


class Growing:
    """A graph that grows adder by adder; none is there twice."""

    def __init__(self, inputs: int, low: int, high: int) -> None:
        self.inputs, self.low, self.high = inputs, low, high
        self.depths = [0] * inputs
        self.ends = [(low, high)] * inputs
        self.nodes: dict[Adder, int] = {}

    def add(self, adder: Adder) -> int:
        """The node of an adder."""
        if adder not in self.nodes:
            self.nodes[adder] = len(self.depths)
            self.depths.append(1 + max(self.depths[adder.left], self.depths[adder.right]))
            self.ends.append(self._ends(adder))
        return self.nodes[adder]

    def luts(self, adder: Adder) -> int:
        """What an adder costs, at most: as if its operands had no input in common."""
        return adder_luts(adder, *self._ends(adder))

    def graph(self, outputs: Iterable[Output]) -> AdderGraph:
        """What has grown with the outputs, which may add to it."""
        named = tuple(outputs)
        return AdderGraph(self.inputs, self.low, self.high, tuple(self.nodes), named)

    def _ends(self, adder: Adder) -> tuple[int, int]:
        (low, high), (least, most) = self.ends[adder.left], self.ends[adder.right]
        if adder.subtracts:
            least, most = -most, -least
        left, right = adder.left_shift, adder.right_shift
        return (low << left) + (least << right), (high << left) + (most << right)
