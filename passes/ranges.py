"""The largest magnitude that each value takes: measured on samples, or bounded by interval arithmetic.

measured   max |x| over the calibration samples
bounded    |conv(x)| <= sum |w| max |x| + |b|, and so on op by op: never exceeded, however the input lies in its range
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import real, string
from bitwright.ir.types import Type
from bitwright.passes.base import Context
from bitwright.passes.walk import numbers

MOST_BYTES = 1 << 30
"""Of all values of the samples that are run at a time."""


@dataclass(frozen=True)
class Range:
    """The interval that a value's numbers lie in."""

    low: float
    high: float

    @property
    def magnitude(self) -> float:
        return max(abs(self.low), abs(self.high))


def measured(graph: Graph, context: Context) -> dict[str, Range]:
    """The range of every float value by name, on the context's samples. Raises CompileError on NaN or infinity."""
    assert context.samples is not None
    values = _floats(graph)
    names = [value.name for value in values]
    affordable = max(1, MOST_BYTES // (4 * max(1, sum(map(numbers, values)))))
    ranges: dict[str, Range] = {}
    for start in range(0, max(map(len, context.samples.values())), affordable):
        part = {name: array[start : start + affordable] for name, array in context.samples.items()}
        found = context.executor(graph, part, names)
        for name in names:
            low, high = float(found[name].min()), float(found[name].max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise CompileError(f"%{name} is not finite on the calibration samples", help="check weights and data")
            before = ranges.get(name, Range(low, high))
            ranges[name] = Range(min(low, before.low), max(high, before.high))
    return ranges


def bounded(graph: Graph, low: float, high: float) -> dict[str, Range]:
    """A range that no input in [low, high] leaves, by name. Raises CompileError for an op without a rule."""
    ranges: dict[str, Range] = {}
    for value in graph.inputs:
        ranges[value.name] = Range(low, high)
    for value in graph.weights:
        if value.tensor is not None and value.tensor.dtype == np.float32:
            ranges[value.name] = _of_data(value)
    for node in graph.nodes:
        if any(map(_is_float, node.results)):
            ranges[node.name] = _bounded(node, ranges)
    return ranges


def _of_data(value: Value) -> Range:
    assert value.tensor is not None
    data = value.tensor.data
    return Range(float(data.min(initial=0)), float(data.max(initial=0)))


def _bounded(node: Node, ranges: dict[str, Range]) -> Range:
    given = [ranges[v.name] for v in node.operands if v is not None and v.name in ranges]
    if node.op in ("conv2d", "dense") and all(v is None or v.tensor is not None for v in node.operands[1:]):
        return _activated(node, _sum(node, given[0]))
    if node.op == "avgpool2d" and node.attributes.get("count_pads"):
        return Range(min(given[0].low, 0.0), max(given[0].high, 0.0))
    if node.op in ("maxpool2d", "avgpool2d", "globalavgpool", "flatten", "reshape", "transpose", "quantize"):
        return given[0]
    if node.op == "pad":
        value = real(node, "value")
        return Range(min(given[0].low, value), max(given[0].high, value))
    if node.op == "relu":
        return Range(max(given[0].low, 0.0), max(given[0].high, 0.0))
    if node.op == "clip":
        low, high = real(node, "min"), real(node, "max")
        return Range(float(np.clip(given[0].low, low, high)), float(np.clip(given[0].high, low, high)))
    if node.op == "concat":
        return Range(min(r.low for r in given), max(r.high for r in given))
    if node.op == "add":
        return Range(given[0].low + given[1].low, given[0].high + given[1].high)
    if node.op == "mul":
        ends = [a * b for a in (given[0].low, given[0].high) for b in (given[1].low, given[1].high)]
        return Range(min(ends), max(ends))
    if node.op in ("hardsigmoid", "softmax"):
        return Range(0.0, 1.0)
    if node.op == "hardswish":
        return Range(-0.375, max(given[0].high, 0.0))
    raise CompileError(
        f"%{node.name}: no bound is known for the range of {node.op}", help="measure it instead: give --data"
    )


def _sum(node: Node, x: Range) -> Range:
    """The interval of w x + b: positive weights take one end of x, negative ones the other; padding adds 0 to x."""
    weight, bias = node.operand(1), node.optional(2)
    assert weight.tensor is not None
    w = weight.tensor.data.reshape(weight.tensor.shape[0], -1).astype(np.float64)
    low, high = (min(x.low, 0.0), max(x.high, 0.0)) if "pads" in node.attributes else (x.low, x.high)
    positive, negative = np.maximum(w, 0).sum(1), np.minimum(w, 0).sum(1)
    b = 0.0 if bias is None or bias.tensor is None else bias.tensor.data.astype(np.float64)
    return Range(
        float(np.min(positive * low + negative * high + b)), float(np.max(positive * high + negative * low + b))
    )


def _activated(node: Node, sums: Range) -> Range:
    act = string(node, "act")
    if act == "relu":
        return Range(max(sums.low, 0.0), max(sums.high, 0.0))
    if act == "clip":
        low, high = real(node, "act_min"), real(node, "act_max")
        return Range(float(np.clip(sums.low, low, high)), float(np.clip(sums.high, low, high)))
    if act == "hardsigmoid":
        return Range(0.0, 1.0)
    return Range(-0.375, max(sums.high, 0.0)) if act == "hardswish" else sums


def _floats(graph: Graph) -> list[Value]:
    results = [result for node in graph.nodes for result in node.results]
    return [value for value in (*graph.inputs, *results) if _is_float(value)]


def _is_float(value: Value) -> bool:
    return isinstance(value.type, Type) and value.type.dtype == np.float32
