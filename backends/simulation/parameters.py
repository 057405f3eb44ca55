"""The numbers that a format assignment puts into a simulation: scaled weights and biases, bounds, steps.

All are float32 arrays made from the formats of one graph; export.py says where they go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.accumulate import accumulator
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Affine, Canonical
from bitwright.ir.formats.base import check_finite
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import real, string
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import Type

Numbers = NDArray[np.float32]
MOVES = ("maxpool2d", "flatten", "reshape", "transpose", "quantize", "relu")


def quantizer_kind(value: Value) -> str:
    """Which quantiser an activation needs: the part of an assignment that the session's structure depends on."""
    number = value.type.number if isinstance(value.type, Type) else None
    if number is None:
        return "none"
    if number.axis is not None:
        raise CompileError(f"%{value.name}: an activation has one format, not one a channel")
    if isinstance(number, Affine):
        return "affine"
    if number.n_e == 8 and number.n_f == 23 and number.bias == 127:
        return "none"
    return "floating" if number.n_e else "fixed" if number.n_f else "binary"


def keeps_format(node: Node) -> bool:
    """Whether a node only moves numbers, so that it does the same to steps as to real numbers."""
    if node.op not in MOVES:
        return False
    number = node.result.tensor_type.number
    lacks_zero = isinstance(number, Affine) or (number is not None and number.n_e == number.n_f == 0)
    return number == node.operand(0).tensor_type.number and not (node.op == "relu" and lacks_zero)


def structure(graph: Graph) -> tuple[str, ...]:
    """What of an assignment decides the model's nodes: two graphs of equal structure share sessions."""
    kinds = [_kind(value) for value in graph.inputs]
    for node in graph.nodes:
        kinds += [_kind(result) for result in node.results]
        if node.op in ("conv2d", "dense"):
            kinds.append("/".join((string(node, "act"), str(node.attributes.get("pool", "")))))
        elif keeps_format(node):
            kinds.append("kept")
    return tuple(kinds)


@dataclass
class Parameters:
    """The numbers of one graph's formats, computed when they are asked for; weights are quantised once."""

    graph: Graph
    quantized: dict[tuple[Tensor, Type], Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weights = {id(value) for value in self.graph.weights}

    def is_stepped(self, value: Value) -> bool:
        """Whether a value is carried in steps of its format rather than as real numbers."""
        number = value.type.number if isinstance(value.type, Type) else None
        integer = isinstance(number, Canonical) and number.is_integer and number.axis is None
        return integer and id(value) not in self.weights

    def weight(self, value: Value) -> Numbers:
        """A weight's quantised real numbers."""
        assert value.tensor is not None
        number, key = value.tensor_type.number, (value.tensor, value.tensor_type)
        if key not in self.quantized:
            data = value.tensor.data
            if data.dtype == np.float32:
                check_finite(data, "%" + value.name)
            self.quantized[key] = data if number is None else number.quantize(data, "%" + value.name)
        found = self.quantized[key]
        return found.astype(np.float32) if found.dtype == np.float64 else found

    def sum_parameters(self, node: Node, scaled: bool) -> tuple[Numbers, Numbers | None]:
        """Weights and bias of a conv2d or dense: from the input's steps, to the result's steps if `scaled`."""
        x, y = node.operand(0), node.result
        after = _step(y) if scaled and self.is_stepped(y) else 1.0
        weight = self.weight(node.operand(1)) * np.float32(_step(x) / after if self.is_stepped(x) else 1 / after)
        bias = node.optional(2)
        if bias is None or bias.tensor is None:
            return weight, None
        exact = accumulator(node)
        real_bias = self.weight(bias) if exact is None else np.ldexp(exact.bias, exact.exponents)
        return weight, (real_bias / after).astype(np.float32)

    def bounds(self, value: Value, node: Node | None) -> tuple[Numbers, Numbers]:
        """low and high of a FIXED value in steps; with the node's relu or clip merged into them."""
        number = value.tensor_type.number
        assert isinstance(number, Canonical)
        high = float(number.max_code)
        low = -high if number.n_s else 0.0
        act = "none" if node is None else string(node, "act")
        if act == "relu":
            low = 0.0
        elif act == "clip" and node is not None:
            least, most = (np.clip(np.rint(bound), low, high) for bound in self._act_bounds(node))
            return least.astype(np.float32), most.astype(np.float32)
        return np.array(low, np.float32), np.array(high, np.float32)

    def act_bounds(self, node: Node) -> tuple[Numbers, Numbers]:
        """The bounds of a clip that stands before a rounding of its own, in steps of the result if it has any."""
        low, high = (bound.astype(np.float32) for bound in self._act_bounds(node))
        return low, high

    def _act_bounds(self, node: Node) -> Iterator[NDArray[np.float64]]:
        """One a channel: on the accumulator's steps if it has any, in steps of the result."""
        exact = accumulator(node)
        step = _step(node.result) if self.is_stepped(node.result) else 1.0
        channels = (node.operand(1).tensor_type.static_shape or (1,))[0]
        for name in ("act_min", "act_max"):
            bound = np.full(channels, real(node, name))
            if exact is not None:
                bound = np.ldexp(np.rint(np.ldexp(bound, -exact.exponents)), exact.exponents)
            yield (bound / step).reshape((-1, 1, 1) if node.op == "conv2d" else -1)

    def step(self, value: Value) -> Numbers:
        return np.array(_step(value), np.float32)

    def inverse_step(self, value: Value) -> Numbers:
        return np.array(1 / _step(value), np.float32)

    def floating(self, value: Value) -> dict[str, Numbers]:
        """fraction = 2^-n_f, smallest quantum, low and high of a FLOAT or EXP value."""
        number = value.tensor_type.number
        assert isinstance(number, Canonical)
        limit = float(np.finfo(np.float32).max)
        numbers = {
            "fraction": 2.0**-number.n_f,
            "smallest": float(number.step),
            "low": max(float(number.min), -limit),
            "high": min(float(number.max), limit),
        }
        return {key: np.array(item, np.float32) for key, item in numbers.items()}

    def affine(self, value: Value) -> dict[str, Numbers]:
        number = value.tensor_type.number
        assert isinstance(number, Affine)
        zero = float(number.zeros)
        numbers = {
            "scale": float(number.scales),
            "zero": zero,
            "whole": np.floor(zero),
            "fraction": zero - np.floor(zero),
            "low": number.low,
            "high": number.high,
        }
        return {key: np.array(item, np.float32) for key, item in numbers.items()}


def _kind(value: Value) -> str:
    return quantizer_kind(value) if isinstance(value.type, Type) else "none"


def _step(value: Value) -> float:
    """The step of a FIXED format, the magnitude of a BIN one."""
    number = value.tensor_type.number
    assert isinstance(number, Canonical)
    return float(number.step)
