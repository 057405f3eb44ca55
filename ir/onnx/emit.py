"""The hardware set -> ONNX nodes, in the form that the model's operator set version has.

Fused activations and poolings become nodes of their own again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Node
from bitwright.ir.ops import attribute, integer, integers, real, string
from bitwright.ir.tensor import Array


class Emitter:
    """Collects the nodes and constants made for hardware nodes; `used` are the names that are taken."""

    def __init__(self, opset: int, used: set[str]) -> None:
        self.opset = opset
        self.used = used
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def emit(self, node: Node, inputs: list[str], output: str) -> None:
        """Add the ONNX nodes of one hardware node. Raises CompileError if the operator set is too old for it."""
        EMIT[node.op](self, node, inputs, output)

    def add(self, op: str, inputs: list[str], output: str, since: int = 1, **attributes: Any) -> str:
        if self.opset < since:
            raise CompileError(f"{op} needs operator set {since}, the model has {self.opset}")
        made = helper.make_node(op, inputs, [output], name=output, **attributes)
        self.nodes.append(made)
        return output

    def fresh(self, near: str) -> str:
        """`near`, or a name like it that nothing else has."""
        name, number = near, 1
        while name in self.used:
            name, number = f"{near}.{number}", number + 1
        self.used.add(name)
        return name

    def constant(self, near: str, array: Array) -> str:
        name = self.fresh(near)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def hardswish(self, x: str, output: str) -> str:
        """x clip(x / 6 + 0.5, 0, 1), in two nodes where the operator set has no HardSwish."""
        if self.opset >= 14:
            return self.add("HardSwish", [x], output)
        return self.add("Mul", [x, self.hardsigmoid(x, self.fresh(output + ".gate"))], output, 7)

    def hardsigmoid(self, x: str, output: str) -> str:
        """clip(x / 6 + 0.5, 0, 1)."""
        return self.add("HardSigmoid", [x], output, alpha=1 / 6, beta=0.5)

    def clip(self, x: str, output: str, low: float, high: float) -> None:
        if self.opset < 11:
            bounds = {"min": low, "max": high}
            self.add("Clip", [x], output, 6, **{key: v for key, v in bounds.items() if math.isfinite(v)})
            return
        names = [
            self.constant(f"{output}.{key}", np.array(bound, np.float32)) if math.isfinite(bound) else ""
            for key, bound in (("min", low), ("max", high))
        ]
        self.add("Clip", [x, *(names if names[1] else names[:1] if names[0] else [])], output)


def _sum(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    """conv2d or dense, and what is fused into it."""
    act, pool = string(node, "act"), integers(node, "pool")
    stages = [stage for stage, there in (("act", act != "none"), ("pool", bool(pool))) if there]
    name = emitter.fresh(output + ".sum") if stages else output
    if node.op == "conv2d":
        window = _window(node)
        emitter.add("Conv", inputs, name, **window, group=integer(node, "groups"))
    else:
        _dense(emitter, node, inputs, name)
    for index, stage in enumerate(stages):
        target = output if index == len(stages) - 1 else emitter.fresh(f"{output}.{stage}")
        if stage == "act":
            _activation(emitter, node, act, name, target)
        else:
            strides = integers(node, "pool_strides") or pool
            emitter.add("MaxPool", [name], target, kernel_shape=list(pool), strides=list(strides))
        name = target


def _dense(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    """Gemm for two dimensions, else MatMul with the transposed weights and Add."""
    shape = node.operand(0).tensor_type.shape
    if shape is not None and len(shape) == 2:
        if len(inputs) < 3 and emitter.opset < 11:  # C was not optional
            rows = node.operand(1).tensor_type.static_shape or (1, 1)
            inputs = [*inputs, emitter.constant(output + ".bias", np.zeros(rows[0], np.float32))]
        emitter.add("Gemm", inputs, output, transB=1)
        return
    turned = emitter.add("Transpose", [inputs[1]], emitter.fresh(output + ".weight"), perm=[1, 0])
    product = output if len(inputs) < 3 else emitter.fresh(output + ".product")
    emitter.add("MatMul", [inputs[0], turned], product)
    if len(inputs) > 2:
        emitter.add("Add", [product, inputs[2]], output, 7)


def _activation(emitter: Emitter, node: Node, act: str, x: str, output: str) -> None:
    if act == "relu":
        emitter.add("Relu", [x], output)
    elif act == "clip":
        emitter.clip(x, output, real(node, "act_min"), real(node, "act_max"))
    elif act == "hardswish":
        emitter.hardswish(x, output)
    elif act == "hardsigmoid":
        emitter.hardsigmoid(x, output)
    else:
        raise CompileError(f"%{node.name}: there is no activation {act!r}")


def _window(node: Node) -> dict[str, Any]:
    made: dict[str, Any] = {"kernel_shape": list(integers(node, "kernel"))}
    return made | {key: list(integers(node, key)) for key in ("strides", "pads")} | _dilations(node)


def _dilations(node: Node) -> dict[str, Any]:
    dilations = integers(node, "dilations")
    return {"dilations": list(dilations)} if node.op == "conv2d" or dilations != (1, 1) else {}


def _pool(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    extra: dict[str, Any] = {"ceil_mode": 1} if integer(node, "ceil") else {}
    if node.op == "avgpool2d" and integer(node, "count_pads"):
        extra["count_include_pad"] = 1
    emitter.add("MaxPool" if node.op == "maxpool2d" else "AveragePool", inputs, output, **_window(node), **extra)


def _hardswish(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    emitter.hardswish(inputs[0], output)


def _clip(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    emitter.clip(inputs[0], output, real(node, "min"), real(node, "max"))


def _reshape(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    shape = emitter.constant(output + ".shape", np.array(integers(node, "shape"), np.int64))
    emitter.add("Reshape", [*inputs, shape], output, 5)


def _pad(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    pads, value = list(integers(node, "pads")), real(node, "value")
    if emitter.opset < 11:
        emitter.add("Pad", inputs, output, 2, mode="constant", pads=pads, value=value)
        return
    operands = [
        emitter.constant(output + ".pads", np.array(pads, np.int64)),
        emitter.constant(output + ".value", np.array(value, np.float32)),
    ]
    emitter.add("Pad", [*inputs, *operands], output)


def _softmax(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    """Before operator set 13, an axis but the last stood for all from there on, and none was negative."""
    axis, shape = integer(node, "axis"), node.operand(0).tensor_type.shape
    last = -1 if shape is None else len(shape) - 1
    is_last = axis in (-1, last)
    emitter.add("Softmax", inputs, output, 1 if is_last else 13, axis=last if is_last else axis)


def _argmax(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
    last = {"select_last_index": 1} if integer(node, "last") else {}
    emitter.add("ArgMax", inputs, output, axis=integer(node, "axis"), keepdims=integer(node, "keepdims"), **last)


def _same(op: str, *names: str, since: int = 1) -> Callable[[Emitter, Node, list[str], str], None]:
    """A hardware op that is one ONNX op with the same attributes."""

    def emit(emitter: Emitter, node: Node, inputs: list[str], output: str) -> None:
        values = {name: attribute(node, name) for name in names}
        emitter.add(op, inputs, output, since, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()})

    return emit


EMIT: dict[str, Callable[[Emitter, Node, list[str], str], None]] = {
    "add": _same("Add", since=7),
    "argmax": _argmax,
    "avgpool2d": _pool,
    "batchnorm": _same("BatchNormalization", "epsilon", since=7),
    "clip": _clip,
    "concat": _same("Concat", "axis", since=4),
    "conv2d": _sum,
    "dense": _sum,
    "flatten": _same("Flatten", "axis"),
    "globalavgpool": _same("GlobalAveragePool"),
    "hardsigmoid": _same("HardSigmoid", "alpha", "beta"),
    "hardswish": _hardswish,
    "maxpool2d": _pool,
    "mul": _same("Mul", since=7),
    "pad": _pad,
    "quantize": _same("Identity"),
    "relu": _same("Relu"),
    "reshape": _reshape,
    "softmax": _softmax,
    "transpose": _same("Transpose", "perm"),
}
