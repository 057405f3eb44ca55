"""A graph with formats -> a float32 graph with quantiser nodes, as other tools read them.

    qdq     Clip where the format's range is narrower than the integer type's, QuantizeLinear, DequantizeLinear;
            weights as integers with DequantizeLinear.                       FIXED, UFIXED, AFFINE of at most 16 bits
    qonnx   Quant, BipolarQuant, FloatQuant of the domain qonnx.custom_op.general.     every kind, one format a tensor;
            FIXED, UFIXED and AFFINE also one a channel

Biases are rounded to the accumulators' steps, as the contract has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.ir import edit
from bitwright.ir.accumulate import accumulator
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Affine, Canonical
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.onnx.opsets import raised
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Native, Type, ValueType

Style = Literal["qdq", "qonnx"]
QONNX = "qonnx.custom_op.general"
PER_CHANNEL_OPSET, SIXTEEN_BITS_OPSET = 13, 21


def with_quantizers(graph: Graph, style: Style) -> Graph:
    """A copy whose formats are nodes. Raises CompileError for a format that the style cannot say."""
    made = edit.copy(graph)
    _round_biases(made)
    values = [value for value in made.values.values() if isinstance(value.type, Type) and value.type.number is not None]
    write = _Writer(made, QUANTIZERS[style])
    for value in values:
        write.value(value)
    wide = any(value.tensor_type.dtype.itemsize == 2 for node in made.nodes for value in _integer_values(node))
    made.opsets[""] = raised(made, SIXTEEN_BITS_OPSET if wide else PER_CHANNEL_OPSET)
    edit.erase_unread_weights(made)
    if style == "qonnx" and values:
        made.opsets[QONNX] = 1
    return made


def _integer_values(node: Node) -> list[Value]:
    results = [*node.results, *(v for v in node.operands if v is not None)]
    return [v for v in results if node.op.endswith("tizeLinear") and isinstance(v.type, Type)]


def _round_biases(graph: Graph) -> None:
    for node in graph.nodes:
        if node.op in ("conv2d", "dense") and node.optional(2) is not None:
            sums = accumulator(node)
            if sums is not None:
                rounded = np.ldexp(sums.bias, sums.exponents).astype(np.float32)
                edit.give_weight(node, 2, Tensor(rounded), node.name + ".bias")


class _Writer:
    """Puts the quantiser of each value behind it."""

    def __init__(self, graph: Graph, quantize: Quantize) -> None:
        self.graph = graph
        self.quantize = quantize

    def value(self, value: Value) -> None:
        number = value.tensor_type.number
        assert number is not None
        edit.set_type(value, value.tensor_type.with_format(F32))
        readers = list(value.uses)
        shown = [(inner, o) for inner in self.graph.walk() for o in inner.outputs if o.value is value]
        result = self.quantize(self, value, number)
        for node, index in readers:
            edit.set_operand(node, index, result)
        for _, output in shown:
            output.value = result

    def node(
        self, value: Value, op: str, operands: list[Value], type: ValueType, suffix: str, **given: Attribute
    ) -> Value:
        """A node behind its first operand, named after `value`."""
        name = edit.unique_name(self.graph, value.name + suffix)
        made = edit.add_node(self.graph, op, operands, {name: type}, given, before=self.after(operands[0]))
        return made.result

    def after(self, value: Value) -> Node | None:
        """The node before which what reads `value` may stand."""
        if value.producer is None:
            return self.graph.nodes[0] if self.graph.nodes else None
        index = next(i for i, node in enumerate(self.graph.nodes) if node is value.producer)
        return self.graph.nodes[index + 1] if index + 1 < len(self.graph.nodes) else None

    def weight(self, value: Value, suffix: str, array: Array) -> Value:
        return edit.add_weight(self.graph, edit.unique_name(self.graph, value.name + suffix), Tensor(array))


Quantize = Callable[[_Writer, Value, Canonical | Affine], Value]


def _linear(write: _Writer, value: Value, number: Canonical | Affine) -> Value:
    """QuantizeLinear and DequantizeLinear."""
    affine = _checked(value, number)
    scale = np.asarray(affine.scales, np.float32)
    kind = np.dtype(f"{'int' if affine.signed else 'uint'}{8 if affine.n <= 8 else 16}")
    zeros = np.broadcast_to(affine.zeros, scale.shape)
    ends = np.iinfo(kind)
    if np.any(zeros != np.rint(zeros)) or np.any((zeros < ends.min) | (zeros > ends.max)):
        raise CompileError(f"%{value.name}: the zero point of {number} is no {kind}", help="write --as fake-quant")
    shape = value.tensor_type.shape
    axis: dict[str, Attribute] = {} if affine.axis is None else {"axis": affine.axis}
    parameters = [write.weight(value, ".scale", scale), write.weight(value, ".zero", zeros.astype(kind))]
    type = Type(Native(("i" if affine.signed else "u") + str(8 * kind.itemsize)), shape)
    if value.tensor is not None and value.producer is None:
        codes = affine.encode(value.tensor.data).astype(np.int64)
        if affine.signed:
            codes = codes - ((codes >> (affine.n - 1)) << affine.n)
        q = write.weight(value, ".q", codes.astype(kind))
    else:
        x = value
        if (affine.low, affine.high) != (ends.min, ends.max):
            low, high = (float((end - affine.zeros) * affine.scales) for end in (affine.low, affine.high))
            x = write.node(value, "clip", [x], Type(F32, shape), ".limited", min=low, max=high)
        q = write.node(x, "onnx.QuantizeLinear", [x, *parameters], type, ".q", **axis)
    return write.node(q, "onnx.DequantizeLinear", [q, *parameters], Type(F32, shape), ".dq", **axis)


def _checked(value: Value, number: Canonical | Affine) -> Affine:
    """The integers that QuantizeLinear makes. Raises CompileError if it cannot."""
    linear = isinstance(number, Affine) or number.kind in ("FIXED", "UFIXED")
    if not linear or number.width > 16:
        raise CompileError(
            f"%{value.name}: {number} has no QuantizeLinear; it takes FIXED, UFIXED and AFFINE of at most 16 bits",
            help="write --as qonnx or --as fake-quant" if linear else "write --as fake-quant",
        )
    return _as_affine(number)


def _as_affine(number: Canonical | Affine) -> Affine:
    """The same integers, with a scale and a zero point."""
    if isinstance(number, Affine):
        return number
    steps: NDArray[np.float64] = np.ldexp(1.0, number.step_exponents)
    scale = float(steps) if number.axis is None else tuple(steps.tolist())
    return Affine(number.width, scale, 0, bool(number.n_s), number.axis, narrow=bool(number.n_s))


def _qonnx(write: _Writer, value: Value, number: Canonical | Affine) -> Value:
    """Quant, BipolarQuant or FloatQuant."""
    type = Type(F32, value.tensor_type.shape)
    if isinstance(number, Canonical) and number.kind not in ("FIXED", "UFIXED"):
        if number.axis is not None or not number.n_s:
            raise CompileError(f"%{value.name}: QONNX has no {number}", help="write --as fake-quant")
        if number.kind == "BIN":
            scale = write.weight(value, ".scale", np.array(float(number.step), np.float32))
            return write.node(value, f"onnx.{QONNX}::BipolarQuant", [value, scale], type, ".q")
        numbers = (1.0, number.n_e, number.n_f, number.bias, float(number.max))
        names = (".scale", ".exponent_bits", ".mantissa_bits", ".exponent_bias", ".largest")
        operands = [write.weight(value, n, np.array(x, np.float32)) for n, x in zip(names, numbers, strict=True)]
        flags: dict[str, Attribute] = {"has_inf": 0, "has_nan": 0, "has_subnormal": 1, "saturation": 1}
        return write.node(
            value, f"onnx.{QONNX}::FloatQuant", [value, *operands], type, ".q", rounding_mode="ROUND", **flags
        )
    affine = _as_affine(number)
    shape = [1] * len(value.tensor_type.shape or ())
    if affine.axis is not None:
        shape[affine.axis] = -1
    scales = affine.scales.astype(np.float32)
    zeros = np.broadcast_to(affine.zeros, affine.scales.shape).astype(np.float32)
    reshaped = [array if affine.axis is None else array.reshape(shape) for array in (scales, zeros)]
    operands = [
        write.weight(value, ".scale", reshaped[0]),
        write.weight(value, ".zero", reshaped[1]),
        write.weight(value, ".bits", np.array(affine.n, np.float32)),
    ]
    signs: dict[str, Attribute] = {"narrow": int(affine.narrow), "signed": int(affine.signed)}
    return write.node(value, f"onnx.{QONNX}::Quant", [value, *operands], type, ".q", rounding_mode="ROUND", **signs)


QUANTIZERS: dict[str, Quantize] = {"qdq": _linear, "qonnx": _qonnx}
