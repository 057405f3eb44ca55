"""recognise-quantizers: the quantisers that other tools put into a model become formats of its values.

    QONNX (domains onnx.brevitas, qonnx.custom_op.general): Quant, IntQuant, BipolarQuant, FloatQuant
    ONNX: QuantizeLinear followed by DequantizeLinear, and DequantizeLinear of constants

A quantised weight becomes a weight with a format. Behind an op, the format goes to the op's result if nothing else
reads it, else it is a quantize node. A scale that is no power of two, for which a kind has no parameter (FLOAT, BIN),
stays as multiplications before and behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Affine, Canonical, Format, binary, float_format, integer_format
from bitwright.ir.formats.named import exp
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.onnx.lower import lower
from bitwright.ir.ops import real
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Type
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import absorb, is_plain, only_reader, producer

DOMAINS = ("onnx.brevitas", "qonnx.custom_op.general")
ROUNDINGS = ("ROUND", "HALF_EVEN")
MOVES = ("flatten", "reshape", "transpose")
QUANTIZE, DEQUANTIZE = "onnx.QuantizeLinear", "onnx.DequantizeLinear"


@dataclass(frozen=True)
class RecogniseQuantizers(Pass):
    """Quantisers of QONNX and of ONNX become formats; ops between them are lowered anew.

    - %q = onnx.QuantizeLinear(%x, %scale, %zero) : u8[1,8]
    - %d = onnx.DequantizeLinear(%q, %scale, %zero) : f32[1,8]
    + %d = quantize(%x) : AFFINE<8,scale=0.1,zero=3>[1,8]
    """

    name: ClassVar[str] = "recognise-quantizers"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for node in list(graph.nodes):
            changed |= _recognise(graph, node)
        if changed:
            edit.erase_unread_weights(graph)
            lower(graph)
            for node in list(graph.nodes):
                if node.op == "quantize":
                    _into_producer(graph, node)
        return changed


@dataclass(frozen=True)
class Quantizer:
    """x -> Q(x / scale) scale, with scale 1 where the format has the scale in it; limit: a bound below the format's."""

    format: Format
    scale: float = 1.0
    limit: float | None = None


def _recognise(graph: Graph, node: Node) -> bool:
    domain, _, op = node.op.removeprefix("onnx.").rpartition("::")
    if domain in DOMAINS and op in QONNX and node.operands and node.operands[0] is not None:
        found = QONNX[op](node)
        if found is None:
            return False
        _replace(graph, node, node.operand(0), found)
        return True
    if node.op == DEQUANTIZE:
        return _dequantize(graph, node)
    return False


def _replace(graph: Graph, node: Node, x: Value, found: Quantizer) -> None:
    """Put the quantiser's format on a constant, or a quantize node where the quantiser was."""
    shape = x.type.shape if isinstance(x.type, Type) else None
    if found.scale != 1.0:
        x = _scaled(graph, node, x, 1.0 / found.scale, ".unscaled")
    if found.limit is not None:
        x = _limited(graph, node, x, found.limit)
    if x.tensor is not None and x.producer is None and x in graph.weights:
        weight = x if len(x.uses) == 1 else edit.add_weight(graph, edit.unique_name(graph, x.name), x.tensor)
        edit.set_type(weight, x.tensor_type.with_format(found.format))
        edit.replace_uses(node.results[0], weight, graph)
        edit.erase_node(node)
        return
    edit.set_operands(node, [x])
    edit.set_op(node, "quantize", {})
    edit.set_type(node.result, Type(found.format, shape))
    if found.scale != 1.0:
        _scaled_behind(graph, node, found.scale)


def _scaled(graph: Graph, before: Node, x: Value, factor: float, suffix: str) -> Value:
    """x times a constant, in a node of its own before another."""
    constant = _number(graph, before.name + suffix + ".by", factor)
    name = edit.unique_name(graph, before.name + suffix)
    type = Type(F32, x.type.shape if isinstance(x.type, Type) else None)
    return edit.add_node(graph, "mul", [x, constant], {name: type}, before=before, source=before.source).result


def _limited(graph: Graph, before: Node, x: Value, limit: float) -> Value:
    """x clipped to a number of the format, so that rounding cannot leave the bounds."""
    name = edit.unique_name(graph, before.name + ".limited")
    type = Type(F32, x.type.shape if isinstance(x.type, Type) else None)
    bounds = {"max": limit, "min": -limit}
    return edit.add_node(graph, "clip", [x], {name: type}, bounds, before=before, source=before.source).result


def _scaled_behind(graph: Graph, node: Node, factor: float) -> None:
    """The result times a constant, read by all that read the result."""
    index = next(i for i, other in enumerate(graph.nodes) if other is node)
    after = graph.nodes[index + 1] if index + 1 < len(graph.nodes) else None
    name = edit.unique_name(graph, node.name + ".scaled")
    type = node.result.tensor_type.with_format(F32)
    made = edit.add_node(graph, "mul", [], {name: type}, before=after, source=node.source)
    edit.replace_uses(node.result, made.result, graph)
    edit.set_operands(made, [node.result, _number(graph, name + ".by", factor)])


def _number(graph: Graph, name: str, number: float) -> Value:
    return edit.add_weight(graph, edit.unique_name(graph, name), Tensor(np.array(number, np.float32)))


def _quant(node: Node) -> Quantizer | None:
    """Quant(x, scale, zero, bits) {signed, narrow, rounding_mode}."""
    parameters = [_constant(node, index) for index in (1, 2, 3)]
    if (
        any(p is None for p in parameters)
        or str(node.attributes.get("rounding_mode", "ROUND")).upper() not in ROUNDINGS
    ):
        return None
    scale, zero, bits = (p for p in parameters if p is not None)
    if bits.size != 1 or float(bits.reshape(-1)[0]) != int(bits.reshape(-1)[0]) or zero.size not in (1, scale.size):
        return None
    axis = _axis(scale)
    if axis is None and scale.size != 1:
        return None
    signed, narrow = bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0))
    return Quantizer(integer_format(int(bits.reshape(-1)[0]), scale, zero, signed, narrow, axis))


def _bipolar(node: Node) -> Quantizer | None:
    """BipolarQuant(x, scale): +-scale."""
    scale = _constant(node, 1)
    if scale is None or scale.size != 1:
        return None
    number = float(scale.reshape(-1)[0])
    mantissa, exponent = np.frexp(number)
    return Quantizer(binary(1 - int(exponent))) if mantissa == 0.5 else Quantizer(binary(), number)


def _float(node: Node) -> Quantizer | None:
    """FloatQuant(x, scale, exponent bits, mantissa bits, bias, largest); saturating, all codes numbers."""
    parameters = [_constant(node, index) for index in range(1, 6)]
    numbers = [float(p.reshape(-1)[0]) for p in parameters if p is not None and p.size == 1]
    saturates = bool(node.attributes.get("saturation", 1))
    if (
        len(numbers) != 5
        or not saturates
        or str(node.attributes.get("rounding_mode", "ROUND")).upper() not in ROUNDINGS
    ):
        return None
    scale, n_e, n_f, bias, largest = numbers
    if any(number != int(number) for number in (n_e, n_f, bias)) or n_e < 1:
        return None
    width = 1 + int(n_e) + int(n_f)
    format = float_format(width, int(bias), int(n_e)) if n_f else exp(width, int(bias))
    limit = largest if largest < float(format.max) else None
    if limit is not None and float(format.quantize(np.array(limit))) != limit:
        return None
    mantissa, exponent = np.frexp(scale)
    if mantissa == 0.5:
        return Quantizer(format.at(int(bias) + 1 - int(exponent)), limit=None if limit is None else limit * scale)
    return Quantizer(format, scale, limit)


QONNX = {"Quant": _quant, "IntQuant": _quant, "BipolarQuant": _bipolar, "FloatQuant": _float}


def _dequantize(graph: Graph, node: Node) -> bool:
    """DequantizeLinear of a constant, or of what a QuantizeLinear of the same scale and zero point gives."""
    source = node.operands[0]
    scale, zero = _constant(node, 1), _constant(node, 2)
    if source is None or scale is None or (node.optional(2) is not None and zero is None):
        return False
    if node.attributes.get("block_size", 0) or not isinstance(source.type, Type):
        return False
    kind = source.tensor_type.dtype
    if kind.kind not in "iuV" or kind.itemsize > 4 or kind.name.startswith("float"):
        return False
    if source.tensor is not None and source.producer is None:
        return _constant_data(graph, node, source, scale, zero)
    quantize = source.producer
    if quantize is None or quantize.op != QUANTIZE or scale.dtype != np.float32:
        return False
    theirs = [_constant(quantize, index) for index in (1, 2)]
    if theirs[0] is None or not np.array_equal(theirs[0], scale) or not _same_zero(theirs[1], zero):
        return False
    format = _linear_format(node, kind, scale, zero, narrow=False)
    if format is None:
        return False
    x, format = _narrowed(graph, quantize, format)
    _replace(graph, node, x, Quantizer(format))
    if not source.uses and not graph.is_output(source):
        clip = quantize.operand(0).producer
        edit.erase_node(quantize)
        if clip is not None and clip.op == "clip" and not clip.result.uses and not graph.is_output(clip.result):
            edit.erase_node(clip)
    return True


def _narrowed(graph: Graph, quantize: Node, format: Format) -> tuple[Value, Format]:
    """What is quantised, and how: a clip before it to fewer codes of a zero point 0 makes the format narrower."""
    x = quantize.operand(0)
    clip = x.producer
    if clip is None or clip.op != "clip" or only_reader(graph, x) is not quantize or format.axis is not None:
        return x, format
    if isinstance(format, Affine) and not format.zeros.any():
        scale = float(format.scales)
    elif isinstance(format, Canonical) and not format.n_s:
        scale = float(np.asarray(format.step))
    else:
        return x, format
    low, high = real(clip, "min") / scale, real(clip, "max") / scale
    bits = int(high).bit_length() if np.isfinite(high) else 0
    if not bits or high != (1 << bits) - 1 or low not in (0.0, -high):
        return x, format
    signed = low < 0
    width = bits + signed
    steps = np.array([scale], np.float32)
    return clip.operand(0), integer_format(width, steps, np.zeros(1, np.float32), signed, signed, None)


def _constant_data(graph: Graph, node: Node, source: Value, scale: Array, zero: Array | None) -> bool:
    """A constant that is stored as integers: a weight of real numbers with that format; int32 ones are plain."""
    assert source.tensor is not None
    integers = source.tensor.data.astype(np.int64)
    kind = source.tensor.dtype
    axis = _linear_axis(node, scale, integers.ndim)
    shape = [1] * integers.ndim
    if axis is not None:
        shape[axis] = -1
    offset = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64).reshape(-1)
    real = (integers - offset.reshape(shape if offset.size > 1 else [1] * integers.ndim)).astype(np.float32)
    data = np.asarray(real * scale.reshape(shape if scale.size > 1 else [1] * integers.ndim), np.float32)
    bits = _bits(kind)
    symmetric = bool(integers.size) and int(integers.min()) > -(1 << (bits - 1))
    format = None if bits == 32 else _linear_format(node, kind, scale, zero, narrow=symmetric and kind.kind != "u")
    weight = edit.add_weight(graph, edit.unique_name(graph, node.name), Tensor(data))
    if format is not None:
        edit.set_type(weight, weight.tensor_type.with_format(format))
    edit.replace_uses(node.results[0], weight, graph)
    edit.erase_node(node)
    return True


def _linear_format(
    node: Node, kind: np.dtype[np.generic], scale: Array, zero: Array | None, narrow: bool
) -> Format | None:
    shape = node.operand(0).tensor_type.shape
    axis = _linear_axis(node, scale, len(shape) if shape is not None else 0)
    if scale.size != 1 and axis is None:
        return None
    zeros = np.zeros(1, np.float32) if zero is None else zero.astype(np.float32)
    signed = not kind.name.startswith("u")
    try:
        return integer_format(_bits(kind), scale, zeros, signed, narrow, axis if scale.size != 1 else None)
    except CompileError:
        return None


def _linear_axis(node: Node, scale: Array, rank: int) -> int | None:
    if scale.size == 1:
        return None
    axis = node.attributes.get("axis", 1)
    assert isinstance(axis, int)
    return axis % rank if rank else None


def _bits(kind: np.dtype[np.generic]) -> int:
    """The width of an integer type: int4 and int2 are bytes in memory."""
    return int(kind.name.lstrip("uint")) if kind.name.lstrip("uint").isdigit() else 8 * kind.itemsize


def _same_zero(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        other = b if a is None else a
        return other is None or not other.any()
    return bool(np.array_equal(a, b))


def _into_producer(graph: Graph, node: Node) -> None:
    """op then quantize -> the op's result has the format: the same rounding, at the same place."""
    x = node.operand(0)
    if x.producer is None:
        sole = len(x.uses) == 1 and any(value is x for value in graph.inputs) and not graph.is_output(x)
        if sole and is_plain(x):
            edit.set_type(x, x.tensor_type.with_format(node.result.tensor_type.number or F32))
            edit.replace_uses(node.result, x, graph)
            edit.erase_node(node)
        return
    if is_plain(x) and only_reader(graph, x) is node and len(x.producer.results) == 1:
        absorb(graph, x.producer, node)
        _before_moves(graph, x)


def _before_moves(graph: Graph, value: Value) -> None:
    """What only moves numbers has no engine that rounds them: what it reads is, if it alone reads it."""
    format = value.tensor_type.format
    while (node := producer(value, *MOVES)) is not None:
        value = node.operand(0)
        whole = isinstance(format, Canonical | Affine) and format.axis is None
        if value.producer is None or not whole or not is_plain(value) or only_reader(graph, value) is None:
            return
        edit.set_type(value, value.tensor_type.with_format(format))


def _constant(node: Node, index: int) -> Array | None:
    value = node.optional(index)
    return value.tensor.data if value is not None and value.tensor is not None and value.producer is None else None


def _axis(scale: Array) -> int | None:
    """The one axis on which a scale has several numbers, or None."""
    long = [axis for axis, size in enumerate(scale.shape) if size > 1]
    return long[0] if len(long) == 1 else None
