"""What onnxruntime's float32 gives exactly, to the contract's last bit.

Whole numbers are exact in float32 below 2^24. A sum's steps are those of its accumulator, those of add, mul and the
averages the finest of their operands'. An average is rounded to float32 before it is rounded to its format: that makes
no difference while its sum, in steps fine enough to tell a tie of the result, stays below 2^24.
"""

from __future__ import annotations

import math

import numpy as np

from bitwright.backends.simulation.parameters import keeps_format
from bitwright.ir.accumulate import accumulator, exact_format
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import integers, string
from bitwright.ir.types import Type

EXACT_BELOW = 2**24
LINEAR = ("none", "relu", "clip")
MOVES = ("concat", "pad", "clip", "quantize")


def exactness(graph: Graph) -> dict[str, bool]:
    """For every conv2d and dense and every value with a format, by name: whether it is exact if its operands are."""
    found = {value.name: _fits_single(value) for value in graph.inputs if _has_format(value)}
    for node in graph.nodes:
        for result in node.results:
            if node.op in ("conv2d", "dense") or _has_format(result):
                found[result.name] = _fits_single(result) and _computes_exactly(node)
    return found


def _has_format(value: Value) -> bool:
    return isinstance(value.type, Type) and value.type.number is not None


def _fits_single(value: Value) -> bool:
    """Whether float32 has all numbers of a value's format (AFFINE ones are no integers times a power of two)."""
    number = value.tensor_type.number
    if number is None:
        return True
    return isinstance(number, Canonical) and number.quantize(np.zeros(0, np.float32)).dtype == np.float32


def _computes_exactly(node: Node) -> bool:
    if node.op in ("conv2d", "dense"):
        sums = accumulator(node)
        return sums is not None and sums.bound < EXACT_BELOW and string(node, "act") in LINEAR
    if node.op in MOVES or keeps_format(node):
        return True
    formats = [None if value is None else exact_format(value) for value in node.operands]
    exact = [format for format in formats if format is not None and format.axis is None]
    if len(exact) != len(formats) or node.op not in ("add", "mul", "avgpool2d", "globalavgpool"):
        return False
    if node.op == "mul":
        return math.prod(format.max_code for format in exact) < EXACT_BELOW
    step = min(int(format.step_exponents) for format in exact)
    total = sum(format.max_code << (int(format.step_exponents) - step) for format in exact)
    if node.op == "add":
        return total < EXACT_BELOW
    shape = node.operand(0).tensor_type.static_shape
    window = integers(node, "kernel") if node.op == "avgpool2d" else shape[2:] if shape is not None else ()
    result = exact_format(node.result)
    finer = step - int(result.step_exponents) + 1 if result is not None else 24
    return bool(window) and total * math.prod(window) << max(0, finer) < EXACT_BELOW
