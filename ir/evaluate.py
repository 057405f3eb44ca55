"""The meaning of every op in numpy: the judge of all backends.

A value with a chosen format is held as the real numbers it represents, FIXED, BIN and EXP in float64. conv2d and dense
of such operands are exact: their sums are computed as float64 while they stay below 2^53 steps, as int64 below 2^63,
with Python's integers beyond, and come out as float64 rounded to odd, so that the one rounding that follows gives what
the exact sum gives. Other ops of such operands compute in float64 and round once.
Operands without such a format compute in float32, as ONNX does. `onnx.<Op>` is evaluated by ONNX's own reference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from bitwright.ir.accumulate import Accumulator, accumulator, exact_format
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import integer, integers, real, string
from bitwright.ir.tensor import Array
from bitwright.ir.types import Type


def evaluate(graph: Graph, inputs: Mapping[str, Array], watch: Collection[str] = ()) -> dict[str, Array]:
    """The outputs by their outside names, and the values named in `watch` by their own (which win where names meet).

    inputs: by outside name (a lone one may have any name). Raises CompileError if one is missing, has another shape or
    is not finite where it is quantised.
    """
    values: dict[int, Array] = {}
    found: dict[str, Array] = {}
    last = {id(value): index for index, node in enumerate(graph.nodes) for value in node.operands if value is not None}
    kept = {id(output.value) for output in graph.outputs}
    weights = ((value, value.tensor.data) for value in graph.weights if value.tensor is not None)
    for value, array in (*bind(graph, inputs), *weights):
        values[id(value)] = held(value, array)
        if value.name in watch:
            found[value.name] = values[id(value)]
    for index, node in enumerate(graph.nodes):
        results = node_results(node, [None if v is None else values[id(v)] for v in node.operands])
        for result, array in zip(node.results, results, strict=False):
            values[id(result)] = held(result, array)
            if result.name in watch:
                found[result.name] = values[id(result)]
        for operand in node.operands:
            if operand is not None and last[id(operand)] == index and id(operand) not in kept:
                values.pop(id(operand), None)
    return {output.name: values[id(output.value)] for output in graph.outputs} | found


def bind(graph: Graph, inputs: Mapping[str, Array]) -> Iterator[tuple[Value, Array]]:
    """Every input with its array. Raises CompileError if one is missing or its shape does not fit."""
    for value in graph.inputs:
        name = graph.input_name(value)
        alone = len(graph.inputs) == 1 and len(inputs) == 1
        if name not in inputs and not alone:
            if value.tensor is not None:
                yield value, value.tensor.data
                continue
            raise CompileError(f'input "{name}" is missing; given: {", ".join(inputs) or "nothing"}')
        array = np.asarray(inputs[name] if name in inputs else next(iter(inputs.values())))
        check_shape(value, name, array)
        yield value, array


def check_shape(value: Value, name: str, array: Array) -> None:
    """Raise CompileError if `array` does not fit an input; its first axis may be a batch of any size."""
    shape = value.type.shape if isinstance(value.type, Type) else None
    if shape is None:
        return
    fits = len(shape) == array.ndim and all(
        not isinstance(dim, int) or dim == size for dim, size in list(zip(shape, array.shape, strict=True))[1:]
    )
    if not fits:
        raise CompileError(
            f'input "{name}" has shape {list(array.shape)}, the model takes {value.type}',
            help=_way_to(tuple(shape[1:]), array.shape[1:]),
        )


def _way_to(wanted: tuple[object, ...], given: tuple[int, ...]) -> str | None:
    """How samples of a shape become ones of the wanted shape, where that is plain."""
    if (1, *given) == wanted:
        return "they lack the axis of channels: x[:, None]"
    if len(given) == 3 and (given[2], *given[:2]) == wanted:
        return "channels come first: x.transpose(0, 3, 1, 2)"
    return None


def held(value: Value, array: Array) -> Array:
    """What a value holds when `array` is computed for it: the numbers of its format, or float32."""
    if not isinstance(value.type, Type):
        return array
    if value.type.number is not None:
        exact = exact_format(value) is not None
        return value.type.number.quantize(array.astype(np.float64) if exact else array, "%" + value.name)
    return _as_float32(array) if value.type.dtype == np.float32 else array


def _as_float32(array: Array) -> Array:
    """float64, in which exact formats compute, as ONNX carries it; anything else as it is."""
    return array.astype(np.float32) if array.dtype == np.float64 else array


def node_results(node: Node, operands: Sequence[Array | None]) -> list[Array]:
    """What one node gives, before any rounding into the results' formats."""
    if node.op in MEANING:
        given = [operand for operand in operands if operand is not None]
        return [MEANING[node.op](node, given)]
    return _reference(node, operands)


def _reference(node: Node, operands: Sequence[Array | None]) -> list[Array]:
    """An op that is not of the hardware set, by ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    from bitwright.ir.onnx.write import node_model

    if any(True for _ in node.subgraphs()):
        raise CompileError(f"%{node.name}: {node.op} has subgraphs, which are not evaluated")
    names = [f"x{index}" for index in range(len(operands))]
    model = node_model(node, names)
    feeds = {
        name: _as_float32(array) if isinstance(value.type, Type) and value.type.dtype == np.float32 else array
        for name, value, array in zip(names, node.operands, operands, strict=True)
        if value is not None and array is not None
    }
    try:
        return list(ReferenceEvaluator(model).run(None, feeds))
    except Exception as error:  # whatever the reference lacks or does not take
        raise CompileError(f"%{node.name}: ONNX's reference does not evaluate {node.op}: {error}") from error


def windows(x: Array, node: Node, fill: float, beyond: float | None = None) -> Array:
    """[N,C,H,W] -> [N,C,rows,cols,kh,kw]: what each window of a conv2d or pooling sees.

    Padding is filled with `fill`, and so is what a last window sees beyond it (ceil mode), unless `beyond` is given.
    """
    kernel, strides = integers(node, "kernel"), integers(node, "strides")
    top, left, bottom, right = integers(node, "pads")
    dilations = integers(node, "dilations")
    rows, cols = x.shape[2:]
    inside = top + rows + bottom, left + cols + right
    if node.attributes.get("ceil", 0):
        counts = (node.result.tensor_type.shape or (None,) * 4)[2:]
        bottom = _reach(x.shape[2], counts[0], strides[0], dilations[0], kernel[0], top, bottom)
        right = _reach(x.shape[3], counts[1], strides[1], dilations[1], kernel[1], left, right)
    outside = fill if beyond is None else beyond
    padded = np.full((*x.shape[:2], top + rows + bottom, left + cols + right), outside, x.dtype)
    padded[:, :, : inside[0], : inside[1]] = fill
    padded[:, :, top : top + rows, left : left + cols] = x
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    return view[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]


def _reach(size: int, count: object, stride: int, dilation: int, kernel: int, before: int, after: int) -> int:
    """The padding after a line that lets `count` windows fit (ceil mode)."""
    assert isinstance(count, int)
    return max(after, (count - 1) * stride + dilation * (kernel - 1) + 1 - size - before)


def _sum(node: Node, operands: list[Array]) -> Array:
    """conv2d or dense, then the activation and pooling that are fused into it."""
    exact = accumulator(node)
    if exact is None:
        sums = _products(node, *(operand.astype(np.float32, copy=False) for operand in operands[:2]))
        if len(operands) > 2:
            sums = sums + _along_channels(node, operands[2].astype(np.float32), sums.ndim)
        return _fused(node, sums, None)
    return _fused(node, _exact_sum(node, operands[0], operands[1], exact), exact)


def _exact_sum(node: Node, x: Array, w: Array, exact: Accumulator) -> Array:
    """The sums with their bias, as float64; beyond 53 bits rounded to odd."""
    steps = np.ldexp(1.0, exact.exponents)
    if exact.bound < 2**53:
        sums = _products(node, x.astype(np.float64), w.astype(np.float64))
        return np.asarray(sums + _along_channels(node, exact.bias * steps, sums.ndim))
    x_format = exact_format(node.operand(0))
    assert x_format is not None
    dtype = np.int64 if exact.bound < 2**63 else object
    x_steps = _to_integers(x, x_format.step_exponents, dtype)
    w_steps = _to_integers(w, exact.weight_exponents.reshape(-1, *[1] * (w.ndim - 1)), dtype)
    sums = _products(node, x_steps, w_steps)
    sums = sums + _along_channels(node, _to_integers(exact.bias, np.int64(0), dtype), sums.ndim)
    return np.asarray(_rounded_to_odd(sums) * _along_channels(node, steps, sums.ndim))


def _to_integers(values: Array, exponents: Array | np.int64, dtype: type) -> Array:
    scaled = np.ldexp(values.astype(np.float64), -exponents)
    return np.asarray(scaled.astype(np.int64) if dtype is np.int64 else np.frompyfunc(int, 1, 1)(scaled))


def _rounded_to_odd(integers: Array) -> Array:
    """Integers as float64: where 53 bits do not hold one, its leading 53 bits with the last one set."""

    def convert(value: int) -> float:
        shift = max(value.bit_length() - 53, 0)
        head = value >> shift
        return float((head | (head << shift != value)) << shift)

    return np.asarray(np.frompyfunc(convert, 1, 1)(integers.astype(object)), np.float64)


def _products(node: Node, x: Array, w: Array) -> Array:
    """The sums of products, channels on axis 1 (conv2d) or last (dense)."""
    if node.op == "dense":
        return np.asarray(np.matmul(x, w.T))
    groups = integer(node, "groups")
    seen = windows(x, node, 0)
    n, _, rows, cols = seen.shape[:4]
    per_group, outputs = w.shape[1], w.shape[0] // groups
    made = []
    for group in range(groups):
        part = seen[:, group * per_group : (group + 1) * per_group].transpose(0, 2, 3, 1, 4, 5)
        flat = part.reshape(n * rows * cols, -1)
        matrix = w[group * outputs : (group + 1) * outputs].reshape(outputs, -1)
        made.append(np.matmul(flat, matrix.T).reshape(n, rows, cols, outputs))
    return np.concatenate(made, axis=3).transpose(0, 3, 1, 2)


def _along_channels(node: Node, numbers: Array, rank: int) -> Array:
    return numbers if node.op == "dense" else numbers.reshape(-1, *[1] * (rank - 2))


def _fused(node: Node, sums: Array, exact: Accumulator | None) -> Array:
    act, pool = string(node, "act"), integers(node, "pool")
    if act == "relu":
        sums = np.maximum(sums, 0)
    elif act == "clip":
        low, high = (np.float64(real(node, name)) for name in ("act_min", "act_max"))
        if exact is None:
            sums = np.clip(sums, np.float32(low), np.float32(high))
        else:
            bounds = [_along_channels(node, _on_steps(bound, exact), sums.ndim) for bound in (low, high)]
            sums = np.clip(sums, *bounds)
    elif act == "hardswish":
        sums = _hard_swish(sums)
    elif act == "hardsigmoid":
        sums = np.clip(sums / sums.dtype.type(6) + sums.dtype.type(0.5), 0, 1)
    if pool:
        strides = integers(node, "pool_strides") or pool
        view = np.lib.stride_tricks.sliding_window_view(sums, pool, axis=(2, 3))
        sums = view[:, :, :: strides[0], :: strides[1]].max((4, 5))
    return sums


def _on_steps(bound: np.float64, exact: Accumulator) -> Array:
    """A bound of clip on the accumulator's steps, half to even; infinite stays infinite."""
    return np.asarray(np.ldexp(np.rint(np.ldexp(bound, -exact.exponents)), exact.exponents))


def _hard_swish(x: Array) -> Array:
    return np.asarray(x * np.clip(x / x.dtype.type(6) + x.dtype.type(0.5), 0, 1))


def _maxpool(node: Node, operands: list[Array]) -> Array:
    return np.asarray(windows(operands[0], node, -np.inf).max((4, 5)))


def _avgpool(node: Node, operands: list[Array]) -> Array:
    x = operands[0]
    total = windows(x, node, 0).sum((4, 5), dtype=x.dtype)
    counted = float(integer(node, "count_pads"))
    counts = windows(np.ones((1, 1, *x.shape[2:]), x.dtype), node, counted, 0.0).sum((4, 5))
    return np.asarray(total / counts)


def _batchnorm(node: Node, operands: list[Array]) -> Array:
    x, scale, shift, mean, variance = (operand.astype(np.float32, copy=False) for operand in operands)
    shape = (-1, *[1] * (x.ndim - 2))
    factor = scale / np.sqrt(variance + np.float32(real(node, "epsilon")))
    return np.asarray((x - mean.reshape(shape)) * factor.reshape(shape) + shift.reshape(shape))


def _softmax(node: Node, operands: list[Array]) -> Array:
    x, axis = operands[0], integer(node, "axis")
    powers = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def _argmax(node: Node, operands: list[Array]) -> Array:
    x, axis = operands[0], integer(node, "axis")
    last = bool(integer(node, "last"))
    found = x.shape[axis] - 1 - np.argmax(np.flip(x, axis), axis) if last else np.argmax(x, axis)
    return np.expand_dims(found, axis) if integer(node, "keepdims") else np.asarray(found)


def _flatten(node: Node, operands: list[Array]) -> Array:
    x, axis = operands[0], integer(node, "axis")
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), int(np.prod(x.shape[axis:], dtype=np.int64)))


def _reshape(node: Node, operands: list[Array]) -> Array:
    x = operands[0]
    return x.reshape([x.shape[i] if dim == 0 else dim for i, dim in enumerate(integers(node, "shape"))])


def _pad(node: Node, operands: list[Array]) -> Array:
    pads, rank = integers(node, "pads"), operands[0].ndim
    x = operands[0][tuple(slice(max(-pads[i], 0), -max(-pads[i + rank], 0) or None) for i in range(rank))]
    around = [(max(pads[i], 0), max(pads[i + rank], 0)) for i in range(rank)]
    return np.pad(x, around, constant_values=x.dtype.type(real(node, "value")))


def _hard_sigmoid(node: Node, operands: list[Array]) -> Array:
    kind = operands[0].dtype.type
    return np.asarray(np.clip(kind(real(node, "alpha")) * operands[0] + kind(real(node, "beta")), 0, 1))


def _clip(node: Node, operands: list[Array]) -> Array:
    kind = operands[0].dtype.type
    return np.asarray(np.minimum(np.maximum(operands[0], kind(real(node, "min"))), kind(real(node, "max"))))


def _transpose(node: Node, operands: list[Array]) -> Array:
    return operands[0].transpose(integers(node, "perm"))


def _concat(node: Node, operands: list[Array]) -> Array:
    return np.concatenate(operands, integer(node, "axis"))


def _globalavgpool(node: Node, operands: list[Array]) -> Array:
    return np.asarray(operands[0].mean((2, 3), keepdims=True))


MEANING: dict[str, Callable[[Node, list[Array]], Array]] = {
    "add": lambda node, x: x[0] + x[1],
    "argmax": _argmax,
    "avgpool2d": _avgpool,
    "batchnorm": _batchnorm,
    "clip": _clip,
    "concat": _concat,
    "conv2d": _sum,
    "dense": _sum,
    "flatten": _flatten,
    "globalavgpool": _globalavgpool,
    "hardsigmoid": _hard_sigmoid,
    "hardswish": lambda node, x: _hard_swish(x[0]),
    "maxpool2d": _maxpool,
    "mul": lambda node, x: x[0] * x[1],
    "pad": _pad,
    "quantize": lambda node, x: x[0],
    "relu": lambda node, x: np.maximum(x[0], 0),
    "reshape": _reshape,
    "softmax": _softmax,
    "transpose": _transpose,
}
