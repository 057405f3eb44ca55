"""add and mul with a constant: of each number (full shape), of each channel, or of the tensor.

They are convolutions of one pixel in which every channel (of a full shape, every number) has a row of its own,

    x c     weight c              x + c    weight 1, bias c

and take the engines of these. In FIXED both are exact. The product has the constant's own digits. The sum needs them
only down to half of g, the finer one of the input's step and half the output's: every tie lies on a multiple of g, so a
constant between two multiples may as well lie half way between them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.stages.flow import Flow, Made
from bitwright.backends.hls.stages.kinds import Ints, SumStage
from bitwright.backends.hls.stages.layer import Layer, common
from bitwright.backends.hls.stages.numbers import SINGLE, computes_in_float, is_integer, takes_sign
from bitwright.backends.hls.stages.real_sums import float_stage, scaled_stage
from bitwright.backends.hls.stages.refusals import (
    WIDEST_EXACT,
    exact_bits,
    format_of,
    refused,
    shape_of,
    shift_of,
    shift_to,
)
from bitwright.ir.formats import Canonical, binary, exp, fixed
from bitwright.ir.graph import Node

Reals = NDArray[np.float64]


def constant_stages(node: Node, x: Flow, moving: int) -> Made:
    """add or mul of a stream, operand `moving`, and a constant, the other one."""
    entering, leaving = format_of(node.operand(moving), "input"), format_of(node.result, "result")
    numbers, positions = _numbers(node, moving, x)
    layer = Layer(node, x, entering, leaving, x.layout, None, positions, len(numbers))
    return Made([_stage(layer, numbers)], Flow(node.name, x.layout))


def _stage(layer: Layer, numbers: Reals) -> SumStage:
    entering, leaving = layer.entering, layer.leaving
    if is_integer(entering) and is_integer(leaving):
        assert isinstance(entering, Canonical)
        assert isinstance(leaving, Canonical)
        exact = _product if layer.node.op == "mul" else _sum
        return exact(layer, entering, leaving, numbers)
    ones, zeros = np.ones(len(numbers)), np.zeros(len(numbers))
    weights, bias = (numbers, zeros) if layer.node.op == "mul" else (ones, numbers)
    if computes_in_float(entering) or computes_in_float(leaving):
        return float_stage(layer, SINGLE, weights[:, None], bias)
    negative = (weights < 0)[:, None].astype(np.int64)
    return scaled_stage(layer, binary(), 1 - 2 * negative, negative, 0, np.abs(weights), zeros, bias)


def _product(layer: Layer, entering: Canonical, leaving: Canonical, numbers: Reals) -> SumStage:
    """Each number as an odd integer times a power of two."""
    integers, exponents = _odd(numbers)
    most = int(np.abs(integers).max(initial=1))
    places = int(leaving.step_exponents) - int(entering.step_exponents) - exponents
    shift = np.where((integers == 0) | takes_sign(leaving), 0, places)
    shift_of(layer.node, int(np.abs(shift).max(initial=0)))
    return SumStage(
        **common(layer),
        weight_format=fixed(max(most.bit_length() + 1, 2)),
        weights=integers[:, None],
        codes=integers[:, None],
        bias=np.zeros(len(integers), np.int64),
        shift=shift,
        acc_bits=exact_bits(layer.node, (most * entering.max_code).bit_length() + 1),
        levels=0,
        act=(None, None),
    )


def _sum(layer: Layer, entering: Canonical, leaving: Canonical, numbers: Reals) -> SumStage:
    """The stream in steps of g / 2, and the constant in these."""
    node = layer.node
    _check_digits(node, entering, numbers)
    g = min(int(entering.step_exponents), int(leaving.step_exponents) - 1)
    up = shift_of(node, int(entering.step_exponents) - g + 1)
    whole = np.floor(np.ldexp(numbers, -g))
    bias = 2 * whole + (np.ldexp(whole, g) != numbers)
    largest = (entering.max_code << up) + int(np.abs(bias).max(initial=0))
    return SumStage(
        **common(layer),
        weight_format=exp((up + 1).bit_length() + 1),
        weights=np.full((len(numbers), 1), 1 << up, np.int64),
        codes=np.full((len(numbers), 1), up + 1, np.int64),
        bias=bias.astype(np.int64),
        shift=np.full(len(numbers), shift_to(node, leaving, int(leaving.step_exponents) - g + 1), np.int64),
        acc_bits=exact_bits(node, largest.bit_length() + 1),
        levels=up + 1,
        act=(None, None),
    )


def _check_digits(node: Node, entering: Canonical, numbers: Reals) -> None:
    """Raise CompileError if the judge's float64 would round the sum of a number and a constant."""
    _, exponents = _odd(numbers)
    least = min(int(entering.step_exponents), int(exponents[numbers != 0].min(initial=1023)))
    most = float(entering.max) + float(np.abs(numbers).max(initial=0))
    digits = int(np.frexp(most)[1]) - least
    if digits > WIDEST_EXACT:
        raise refused(
            node, f"with its constant, sums have {digits} digits, and {WIDEST_EXACT} are exact: give it a format"
        )


def _odd(numbers: Reals) -> tuple[Ints, Ints]:
    """Numbers as odd integers times powers of two, 0 as 0."""
    significand, exponent = np.frexp(numbers)
    integers = np.ldexp(significand, 53).astype(np.int64)
    low = np.where(integers == 0, 1, integers & -integers)
    places = np.frexp(low.astype(np.float64))[1].astype(np.int64) - 1
    return integers >> places, np.where(integers == 0, 0, exponent - 53 + places)


def _numbers(node: Node, moving: int, x: Flow) -> tuple[Reals, int]:
    """The constant's numbers in the order of the stream, and how many pixels share them.

    It is broadcast to the tensor that flows, which may be a line or a flattened image: its layout has the same order.
    """
    value, whole = node.operand(1 - moving), shape_of(node.operand(moving))
    assert value.tensor is not None
    number, data = value.tensor_type.number, value.tensor.data
    real = data if number is None else number.quantize(data, "%" + value.name)
    shape = data.shape[1:] if data.ndim == len(whole) + 1 and data.shape[0] == 1 else data.shape
    shape = (1,) * (len(whole) - len(shape)) + shape
    if len(shape) != len(whole) or any(size not in (1, most) for size, most in zip(shape, whole, strict=True)):
        raise refused(
            node, f"its constant %{value.name} : {value.type} is not one number a tensor, a channel or an element"
        )
    full = np.broadcast_to(real.reshape(shape).astype(np.float64), whole).reshape(x.layout)
    rank = len(x.layout)
    if rank == 3 and (full == full[:, :1, :1]).all():
        return full[:, 0, 0].copy(), x.positions
    return (full.transpose(1, 2, 0) if rank == 3 else full).reshape(-1).copy(), 1
