"""What engines take: which nodes, formats and shapes, and the words in which anything else is refused by name."""

from __future__ import annotations

import math
import re

from bitwright.backends.hls.stages.numbers import (
    WIDEST,
    WIDEST_MIXED,
    Number,
    Scaled,
    computes_in_float,
    flowing,
    takes_sign,
)
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Node, Value
from bitwright.ir.onnx.lower import why_stays
from bitwright.ir.ops import integer, integers, string
from bitwright.ir.text import node_text
from bitwright.ir.types import Shape, Type

WIDEST_ACCUMULATOR = 63
WIDEST_EXACT = 53  # bits of a number that the judge holds in float64, where no accumulator says otherwise
CHANNELS_FIRST = (0, 3, 1, 2)
ENGINES = (
    *("conv2d", "dense", "maxpool2d", "avgpool2d", "globalavgpool"),
    *("add", "mul", "concat", "relu", "clip", "quantize"),
)
SUPPORTED = ", ".join(ENGINES) + ", flatten and reshape to a row a sample"
INTEGER_OP = re.compile(r"onnx\.(\w[\w.]*::)?(QLinear\w+|QGemm|QuantizeLinear|DynamicQuantizeLinear|\w+Integer)")
_WITHOUT_STAGE = ("flatten", "reshape")
_SUMS = ("conv2d", "dense")
_POOLS = ("maxpool2d", "avgpool2d")


def why_not(node: Node) -> str | None:
    """Why a node cannot be built, or None if it can; for `bitwright check`, which asks before formats are chosen."""
    if node.op == "transpose":
        first = node.operand(0).producer is None and integers(node, "perm") == CHANNELS_FIRST
        return None if first else "only a transpose of an input from channels last needs no engine"
    if node.op not in (*ENGINES, *_WITHOUT_STAGE):
        return _of_its_op(node)
    reason = _of_its_attributes(node)
    if reason:
        return reason
    constant = [value.name for value in _streams(node) if value.tensor is not None]
    if constant and (node.op not in ("add", "mul") or len(constant) > 1):
        return f"its operand %{constant[0]} is constant; only add and mul take one that is"
    shape = node.result.type.shape if isinstance(node.result.type, Type) else None
    if shape is None or not all(isinstance(dim, int) for dim in shape[1:]):
        return f"its result has no fixed shape: {node.result.type}"
    empty = [value for value in (*_streams(node), node.result) if 0 in (value.tensor_type.shape or ())]
    if empty:
        return f"there are no numbers in %{empty[0].name} : {empty[0].type}"
    if node.op in _WITHOUT_STAGE and len(shape) != 2 and not _keeps_pixels(node.operand(0), shape):
        return "only a reshape to one row a sample, or of the pixels alone, needs no engine"
    return None


def _of_its_op(node: Node) -> str:
    """Why there is no engine: the import knows the op and says what it minds, or it does not."""
    stays = why_stays(node)
    if stays is not None:
        return f"{node.op} is not taken: {stays}"
    if INTEGER_OP.fullmatch(node.op):
        return f"{node.op} gives stored integers: quantise in the QDQ form (QuantFormat.QDQ), with constant scales"
    return f"{node.op} has no engine; there are {SUPPORTED}"


def _keeps_pixels(x: Value, shape: Shape) -> bool:
    """Whether what a reshape of x gives has the same channels, of as many pixels: these come one after another."""
    before = x.tensor_type.shape
    if before is None or len(before) < 2 or len(shape) < 3 or before[1] != shape[1]:
        return False
    sizes = [[size for size in one[2:] if isinstance(size, int)] for one in (before, shape)]
    return len(sizes[0]) == len(before) - 2 and math.prod(sizes[0]) == math.prod(sizes[1])


def _streams(node: Node) -> list[Value]:
    """The operands that flow, rather than being weights."""
    operands = node.operands[:1] if node.op in _SUMS else node.operands
    return [value for value in operands if value is not None]


def _of_its_attributes(node: Node) -> str | None:
    if node.op == "conv2d" and integers(node, "dilations") != (1, 1):
        return "dilated convolutions have no engine yet"
    if node.op in _POOLS:
        what = "max" if node.op == "maxpool2d" else "average"
        if integers(node, "dilations") != (1, 1) or integer(node, "ceil"):
            return f"{what} pooling with dilations or rounding up has no engine yet"
        kernel = integers(node, "kernel")
        if any(pad >= kernel[i % 2] for i, pad in enumerate(integers(node, "pads"))):
            return "its padding is as wide as its kernel"
    if node.op in _SUMS:
        if string(node, "act") not in ("none", "relu", "clip"):
            return f"the activation {string(node, 'act')} has no engine yet"
        if node.operand(1).tensor is None:
            return "its weights are computed, not constant"
        bias = node.optional(2)
        if bias is not None and bias.tensor is None:
            return "its bias is computed, not constant"
    return None


def refused(node: Node, reason: str) -> CompileError:
    """The error that says why a node cannot be built, with its line."""
    source = f" ({node.source})" if node.source else ""
    return CompileError(f"%{node.name}{source}: {reason}\n  {node_text(node)}")


def format_of(value: Value, what: str) -> Number:
    """How the numbers of an activation flow. Raises CompileError if no engine takes its format."""
    found = flowing(value.tensor_type.number)
    if found is None:
        raise CompileError(
            f"{what} %{value.name} is {value.type}; engines take FIXED and UFIXED of at most {WIDEST} bits, BIN, FLOAT "
            "and EXP whose numbers float32 has, and AFFINE with a whole zero point, one format a tensor",
            help='choose formats with --formats "FIXED 8"',
        )
    return found


def float_width(node: Node, number: Number) -> None:
    """Raise CompileError if a FIXED or BIN is too wide, or too far out, to meet FLOAT or AFFINE in float32."""
    if computes_in_float(number) or isinstance(number, Scaled):
        return
    if number.width > WIDEST_MIXED:
        raise refused(node, f"a FIXED that meets FLOAT or AFFINE has at most {WIDEST_MIXED} bits, not {number.width}")
    step = int(number.step_exponents)
    if step < -126 or step + number.width > 127:
        raise refused(node, f"numbers of {number} meet FLOAT or AFFINE, and float32 does not reach them")


def frame_of(value: Value) -> tuple[int, ...]:
    """How one sample is laid out: [C,H,W] or [K], a line [C,L] as an image of one row.

    Raises CompileError if it is neither of fixed size.
    """
    frame = shape_of(value)
    return (frame[0], 1, frame[1]) if len(frame) == 2 else frame


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of one sample. Raises CompileError if it is no [C,H,W], [C,L] or [K] of fixed size."""
    shape = value.tensor_type.shape
    if shape is None or len(shape) not in (2, 3, 4) or not all(isinstance(dim, int) for dim in shape[1:]):
        raise CompileError(f"%{value.name} : {value.type} is no [N,C,H,W], [N,C,L] or [N,K] of fixed size")
    return tuple(dim for dim in shape[1:] if isinstance(dim, int))


def keeps_format(node: Node) -> None:
    """Raise CompileError if an op that only moves numbers is to round them."""
    if node.operand(0).tensor_type.number != node.result.tensor_type.number:
        raise refused(node, f"{node.op} keeps its input's format, {node.operand(0).type}")


def shift_of(node: Node, places: int) -> int:
    """Places to the right from a sum to its result. Raises CompileError if they are out of range."""
    if abs(places) >= WIDEST_ACCUMULATOR:
        raise refused(node, f"its sums lie {abs(places)} places from its result: the formats do not fit together")
    return places


def shift_to(node: Node, format: Number, places: int) -> int:
    """The same to a result of `format`: none where that takes the sign alone."""
    return 0 if takes_sign(format) else shift_of(node, places)


def exact_bits(node: Node, bits: int) -> int:
    """The width of a sum that has no accumulator of its own. Raises CompileError if float64 would not hold it."""
    if bits > WIDEST_EXACT:
        raise refused(node, f"its sums need {bits} bits, engines have at most {WIDEST_EXACT}")
    return bits
