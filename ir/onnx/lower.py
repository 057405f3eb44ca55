"""ONNX ops -> the hardware set, with regular attributes: pads explicit, Gemm's alpha, beta and transposition folded.

A rule takes a node and returns the attributes of the hardware op, or raises Stays, saying why and what helps, where the
case is not regular (a dynamic shape, say); the node then stays `onnx.<Op>`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.ops import OPS, ShapeError, result_shape
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import Dim, Shape, Type, merged_shape, shape_text, shapes_agree

Rule = Callable[[Node], dict[str, Attribute] | None]
INFINITY = float("inf")
CONVERT = "convert the model with onnx.version_converter"


class Stays(Exception):
    """Why a node stays as ONNX has it, and the way out."""


def lower(graph: Graph) -> None:
    """Lower every node of the graph and its subgraphs that a rule takes and whose shape agrees with ONNX's.

    Results of hardware ops get the dimensions that are known by now.
    """
    for inner in graph.walk():
        for node in inner.nodes:
            if node.op in OPS:
                _complete(node)
            elif node.op in RULES:
                _try(node)
    edit.erase_unread_weights(graph)


def _complete(node: Node) -> None:
    with suppress(ShapeError):
        shape, type = result_shape(node), node.result.tensor_type
        if shape is not None and shapes_agree(shape, type.shape):
            edit.set_type(node.result, type.with_shape(merged_shape(shape, type.shape)))


def why_stays(node: Node) -> str | None:
    """Why the rule of a node's op does not take it, or None if there is no rule; the graph stays as it is."""
    if node.op not in RULES:
        return None
    copied = edit.copy(node.graph)
    return next(_try(other) for other in copied.nodes if other.name == node.name)


def _try(node: Node) -> str | None:
    """Lower a node, or leave it as it was and say why."""
    op, rule = RULES[node.op]
    before = (node.op, node.attributes)
    operands = list(node.operands)
    weights = [
        (value, value.tensor, value.type) for value in operands if value is not None and value.tensor is not None
    ]
    try:
        _check_operands(node, op)
        attributes = rule(node)
        if attributes is None:
            raise Stays("what it needs is computed, not constant")
        edit.set_op(node, op, attributes)
        shape = result_shape(node)
        _check_result(node, shape)
    except (ShapeError, Stays) as reason:
        edit.set_op(node, *before)
        edit.set_operands(node, operands)
        for value, tensor, its in weights:
            edit.set_tensor(value, tensor)
            edit.set_type(value, its)
        return str(reason)
    type = node.result.tensor_type
    edit.set_type(node.result, type.with_shape(merged_shape(shape or (), type.shape)))
    return None


def _check_operands(node: Node, op: str) -> None:
    """Raise Stays unless a node has one result, all that the hardware op reads, and float32 data of known rank."""
    if len(node.results) != 1:
        raise Stays(f"it has {len(node.results)} results, as in training or for unpooling: export it for inference")
    missing = [x for i, x in enumerate(OPS[op].operands) if x[-1] not in "?*" and node.optional(i) is None]
    if missing or not node.operands or node.operands[0] is None:
        raise Stays("it lacks an operand")
    type = node.operands[0].type
    if not isinstance(type, Type) or type.shape is None:
        raise Stays("the shape of its input is not known: export the model with fixed sizes")
    if type.dtype != np.float32:
        raise Stays(f"its input is {type.format}, not f32: export the model in float32")


def _check_result(node: Node, shape: Shape | None) -> None:
    """Raise Stays unless a hardware node gives what ONNX says that the node gives."""
    type = node.result.type
    if not isinstance(type, Type) or shape is None:
        raise Stays("the type of its result is not known: run onnx.shape_inference first")
    if not shapes_agree(shape, type.shape):
        ceil = ": export it without ceil_mode" if node.attributes.get("ceil") else ""
        raise Stays(f"its result is {shape_text(shape)}, and by the model's types {shape_text(type.shape)}{ceil}")


def _opset(node: Node) -> int:
    return node.graph.root().opsets.get("", 1)


def _since(node: Node, opset: int) -> None:
    """Raise Stays if the op had another form before an operator set, which the model does not reach."""
    if _opset(node) < opset:
        raise Stays(f"operator set {_opset(node)} is older than {opset}: {CONVERT}")


def _constant(node: Node, index: int) -> Array | None:
    value = node.optional(index)
    tensor = None if value is None else _weight(node, value)
    return None if tensor is None else tensor.data


def _weight(node: Node, value: Value) -> Tensor | None:
    """The data of a weight; an input with a default value is none, because a caller may give it another."""
    graph: Graph | None = node.graph
    while graph is not None and graph.values.get(value.name) is not value:
        graph = graph.parent.graph if graph.parent else None
    is_input = graph is not None and any(item is value for item in graph.inputs)
    return None if is_input else value.tensor


def _shape(value: Value | None) -> Shape | None:
    return value.type.shape if value is not None and isinstance(value.type, Type) else None


def _ints(node: Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    value = node.attributes.get(name)
    return tuple(int(v) for v in value if isinstance(v, int)) if isinstance(value, tuple) and value else tuple(default)


def _int(node: Node, name: str, default: int) -> int:
    value = node.attributes.get(name, default)
    return value if isinstance(value, int) else default


def _float(node: Node, name: str, default: float) -> float:
    value = node.attributes.get(name, default)
    return float(value) if isinstance(value, int | float) else default


def _drop_defaults(attributes: dict[str, Attribute], **defaults: Attribute) -> dict[str, Attribute]:
    return {key: value for key, value in attributes.items() if defaults.get(key) != value}


def _window(node: Node, kernel: tuple[int, ...]) -> dict[str, Attribute]:
    """kernel, strides, pads and dilations of a two-dimensional window, auto_pad made explicit."""
    shape = _shape(node.operands[0])
    strides, dilations = _ints(node, "strides", (1, 1)), _ints(node, "dilations", (1, 1))
    if shape is None or len(shape) != 4 or not len(kernel) == len(strides) == len(dilations) == 2:
        raise Stays("only windows over images and lines are taken")
    pads = _ints(node, "pads", (0, 0, 0, 0))
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        befores, afters = [], []
        for size, width, stride, dilation in zip(shape[2:], kernel, strides, dilations, strict=True):
            if not isinstance(size, int):
                raise Stays("its auto_pad depends on the size of the image: export the model with fixed sizes")
            total = max((-(-size // stride) - 1) * stride + dilation * (width - 1) + 1 - size, 0)
            small, large = total // 2, total - total // 2
            befores.append(small if auto == "SAME_UPPER" else large)
            afters.append(large if auto == "SAME_UPPER" else small)
        pads = (*befores, *afters)
    elif auto == "VALID":
        pads = (0, 0, 0, 0)
    if min(pads) < 0 or len(pads) != 4:
        raise Stays(f"its pads are {list(pads)}, not four that are not negative")
    window: dict[str, Attribute] = {"kernel": kernel, "strides": strides, "pads": pads, "dilations": dilations}
    return _drop_defaults(window, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))


def _conv(node: Node) -> dict[str, Attribute]:
    weights = _shape(node.operands[1])
    if weights:
        _check_bias(node, weights[:1])
    if weights is None or len(weights) != 4:
        raise Stays("only convolutions over images and lines are taken, with weights [M,C,H,W] or [M,C,L]")
    kernel = tuple(dim for dim in weights[2:] if isinstance(dim, int)) or _ints(node, "kernel_shape", ())
    window = _window(node, kernel)
    groups = _int(node, "group", 1)
    return window | ({"groups": groups} if groups != 1 else {})


def _check_bias(node: Node, sizes: Sequence[Dim]) -> None:
    """Raise CompileError if a bias has another number of elements than these."""
    bias, shape = node.optional(2), _shape(node.optional(2))
    known = shape is not None and len(shape) == 1 and all(isinstance(dim, int) for dim in (*shape, *sizes))
    if bias is not None and shape is not None and known and shape[0] not in sizes:
        raise CompileError(f"%{node.name} ({node.source}): bias %{bias.name} of {shape[0]} for {sizes[0]} outputs")


def _gemm(node: Node) -> dict[str, Attribute]:
    """alpha A B + beta C -> dense(A, alpha B^T, beta C), where B and C are constant or need no change."""
    x, w, b = _shape(node.operands[0]), node.operand(1), node.optional(2)
    shape = _shape(w)
    _since(node, 7)
    if x is None or len(x) != 2 or shape is None or len(shape) != 2 or _int(node, "transA", 0):
        raise Stays("only one row a sample is taken, with weights [K,M] or [M,K] and without transA")
    alpha, beta, transposed = _float(node, "alpha", 1.0), _float(node, "beta", 1.0), _int(node, "transB", 0)
    rows = shape[0 if transposed else 1]
    _check_bias(node, (rows, 1))
    if b is not None and (beta != 1.0 or _shape(b) != (rows,)):
        data = _constant(node, 2)
        if data is None or not isinstance(rows, int) or data.size not in (1, rows) or data.size != (1, *data.shape)[-1]:
            raise Stays("its bias is computed, or not one number an output")
        bias = np.broadcast_to(np.float32(beta) * data.reshape(-1), (rows,)).astype(np.float32)
        edit.give_weight(node, 2, Tensor(bias), b.name)
    if not transposed or alpha != 1.0:
        tensor = _weight(node, w)
        if tensor is None or (alpha != 1.0 and not w.tensor_type.is_native):
            raise Stays("its weights are computed, or in a format that alpha would change")

        def load() -> Array:
            matrix = tensor.data if transposed else tensor.data.T
            return np.ascontiguousarray(matrix if alpha == 1.0 else np.float32(alpha) * matrix)

        folded = Tensor(load=load, dtype=tensor.dtype, shape=tensor.shape if transposed else tensor.shape[::-1])
        edit.give_weight(node, 1, folded, w.name, turned=not transposed)
    return {}


def _maxpool(node: Node) -> dict[str, Attribute]:
    window = _window(node, _ints(node, "kernel_shape", ()))
    if _int(node, "storage_order", 0):
        raise Stays("its storage_order is 1, not 0")
    return window | ({"ceil": 1} if _int(node, "ceil_mode", 0) else {})


def _avgpool(node: Node) -> dict[str, Attribute]:
    window = _window(node, _ints(node, "kernel_shape", ()))
    if _int(node, "ceil_mode", 0):
        raise Stays("its ceil_mode would average fewer numbers at the edge: export it without, or with whole windows")
    return window | ({"count_pads": 1} if _int(node, "count_include_pad", 0) and "pads" in window else {})


def _batchnorm(node: Node) -> dict[str, Attribute]:
    _since(node, 7)
    if _int(node, "training_mode", 0):
        raise Stays("its training_mode is 1: export the model after model.eval()")
    known = all(_shape(node.optional(i)) is not None for i in range(1, 5))
    if len(_shape(node.operands[0]) or ()) < 2 or not known or _int(node, "spatial", 1) != 1:
        raise Stays("it does not have one mean and variance a channel")
    return _drop_defaults({"epsilon": _float(node, "epsilon", 1e-5)}, epsilon=1e-5)


def _clip(node: Node) -> dict[str, Attribute]:
    _since(node, 6)
    bounds = {"min": _float(node, "min", -INFINITY), "max": _float(node, "max", INFINITY)}
    if _opset(node) >= 11:
        for index, name in ((1, "min"), (2, "max")):
            if node.optional(index) is not None:
                data = _constant(node, index)
                if data is None or data.size != 1:
                    raise Stays("its bounds are computed, not constant")
                bounds[name] = float(data.reshape(-1)[0])
        edit.set_operands(node, node.operands[:1])
    return _drop_defaults(dict(bounds), min=-INFINITY, max=INFINITY)


def _broadcasting(node: Node) -> dict[str, Attribute]:
    _since(node, 7)
    second = node.optional(1)
    if second is None or not isinstance(second.type, Type) or second.type.dtype != np.float32:
        raise Stays("its second operand is not float32")
    return {}


def _sum_of_two(node: Node) -> dict[str, Attribute]:
    if len(node.operands) != 2:
        raise Stays(f"it adds {len(node.operands)} tensors: write it as Adds of two")
    return _broadcasting(node)


def _concat(node: Node) -> dict[str, Attribute]:
    _since(node, 4)
    return {"axis": _int(node, "axis", 1)}


def _flatten(node: Node) -> dict[str, Attribute]:
    return _drop_defaults({"axis": _int(node, "axis", 1)}, axis=1)


def _reshape(node: Node) -> dict[str, Attribute]:
    shape = _constant(node, 1)
    if shape is None:
        raise Stays("the shape that it gives is computed from more than sizes of its input")
    if not shape.size or (_int(node, "allowzero", 0) and 0 in shape):
        raise Stays("it gives a single number, or none")
    edit.set_operands(node, node.operands[:1])
    return {"shape": tuple(int(dim) for dim in shape)}


def _axes(node: Node) -> tuple[int, ...]:
    """Constant axes, an attribute before opset 13 and an operand since."""
    data = _constant(node, 1)
    axes = _ints(node, "axes", ()) if _opset(node) < 13 else () if data is None else tuple(map(int, data.reshape(-1)))
    if not axes:
        raise Stays("its axes are computed, or not given")
    return axes


def _squeeze(node: Node) -> dict[str, Attribute]:
    shape, axes = _shape(node.operands[0]) or (), _axes(node)
    gone = {axis % max(len(shape), 1) for axis in axes}
    if not all(-len(shape) <= axis < len(shape) for axis in axes) or any(shape[axis] != 1 for axis in gone):
        raise Stays(f"its axes {list(axes)} of {shape_text(shape)} are not known to have the size 1")
    return _moved(node, [axis for axis in range(len(shape)) if axis not in gone], shape)


def _unsqueeze(node: Node) -> dict[str, Attribute]:
    shape, axes = _shape(node.operands[0]) or (), _axes(node)
    rank = len(shape) + len(axes)
    new, old = {axis % rank for axis in axes}, iter(range(len(shape)))
    if not all(-rank <= axis < rank for axis in axes) or len(new) < len(axes):
        raise Stays(f"its axes {list(axes)} are not those of {rank} dimensions")
    return _moved(node, [None if axis in new else next(old) for axis in range(rank)], shape)


def _moved(node: Node, axes: Sequence[int | None], shape: Shape) -> dict[str, Attribute]:
    """The reshape that gives those axes of a shape, None a new one of size 1, if at most one size is left open."""
    sizes = [1 if axis is None else 0 if axis == place else shape[axis] for place, axis in enumerate(axes)]
    target = tuple(size if isinstance(size, int) else -1 for size in sizes)
    if not target or target.count(-1) > 1:
        raise Stays("more than one size of its result is open: export the model with fixed sizes")
    edit.set_operands(node, node.operands[:1])
    return {"shape": target}


def _gather(node: Node) -> dict[str, Attribute]:
    shape, index, axis = _shape(node.operands[0]) or (), _constant(node, 1), _int(node, "axis", 0)
    known = index is not None and index.ndim == 0 and int(index) in (0, -1)
    if not known or not -len(shape) <= axis < len(shape) or shape[axis] != 1:
        raise Stays("it picks entries of an axis, and only the one of an axis of size 1 is taken")
    return _moved(node, [place for place in range(len(shape)) if place != axis % len(shape)], shape)


def _transpose(node: Node) -> dict[str, Attribute]:
    rank = len(_shape(node.operands[0]) or ())
    if not rank:
        raise Stays("it turns a single number")
    return {"perm": _ints(node, "perm", range(rank - 1, -1, -1))}


def _pad(node: Node) -> dict[str, Attribute]:
    _since(node, 2)
    mode = node.attributes.get("mode", "constant")
    if mode != "constant" or node.optional(3) is not None:
        raise Stays(f"its mode is {mode!r}: only constants are taken, around all axes")
    if _opset(node) < 11:
        attributes: dict[str, Attribute] = {"pads": _ints(node, "pads", ()), "value": _float(node, "value", 0.0)}
    else:
        pads, value = _constant(node, 1), _constant(node, 2)
        if pads is None or (node.optional(2) is not None and value is None):
            raise Stays("its pads or their value are computed, not constant")
        number = 0.0 if value is None else float(value.reshape(-1)[0])
        attributes = {"pads": tuple(int(pad) for pad in pads), "value": number}
        edit.set_operands(node, node.operands[:1])
    return _drop_defaults(attributes, value=0.0)


def _softmax(node: Node) -> dict[str, Attribute]:
    rank = len(_shape(node.operands[0]) or ())
    axis = _int(node, "axis", -1 if _opset(node) >= 13 else 1)
    if not rank or (_opset(node) < 13 and axis % rank != rank - 1):
        raise Stays(f"it normalises over several axes, as before operator set 13: {CONVERT}")
    return _drop_defaults({"axis": -1 if axis % rank == rank - 1 else axis}, axis=-1)


def _argmax(node: Node) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {
        "axis": _int(node, "axis", 0),
        "keepdims": _int(node, "keepdims", 1),
        "last": _int(node, "select_last_index", 0),
    }
    return _drop_defaults(found, axis=0, keepdims=1, last=0)


def _hardsigmoid(node: Node) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {"alpha": _float(node, "alpha", 0.2), "beta": _float(node, "beta", 0.5)}
    return _drop_defaults(found, alpha=0.2, beta=0.5)


def _plain(node: Node) -> dict[str, Attribute]:
    return {}


RULES: dict[str, tuple[str, Rule]] = {
    "onnx.Add": ("add", _broadcasting),
    "onnx.ArgMax": ("argmax", _argmax),
    "onnx.AveragePool": ("avgpool2d", _avgpool),
    "onnx.BatchNormalization": ("batchnorm", _batchnorm),
    "onnx.Clip": ("clip", _clip),
    "onnx.Concat": ("concat", _concat),
    "onnx.Conv": ("conv2d", _conv),
    "onnx.Flatten": ("flatten", _flatten),
    "onnx.Gather": ("reshape", _gather),
    "onnx.Gemm": ("dense", _gemm),
    "onnx.GlobalAveragePool": ("globalavgpool", _plain),
    "onnx.HardSigmoid": ("hardsigmoid", _hardsigmoid),
    "onnx.HardSwish": ("hardswish", _plain),
    "onnx.MaxPool": ("maxpool2d", _maxpool),
    "onnx.Mul": ("mul", _broadcasting),
    "onnx.Pad": ("pad", _pad),
    "onnx.Relu": ("relu", _plain),
    "onnx.Reshape": ("reshape", _reshape),
    "onnx.Softmax": ("softmax", _softmax),
    "onnx.Squeeze": ("reshape", _squeeze),
    "onnx.Sum": ("add", _sum_of_two),
    "onnx.Transpose": ("transpose", _transpose),
    "onnx.Unsqueeze": ("reshape", _unsqueeze),
}
