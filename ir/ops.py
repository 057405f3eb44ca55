"""The hardware set: the ops the compiler understands, their operands, attributes, defaults and shapes.

Any other op is `onnx.<Op>` and stays as it is. All of these compute on float32 or on chosen formats, N,C,H,W.
conv2d, dense and the poolings may carry what was fused into them, applied in this order after the sum:

    act=none|relu|clip|hardswish|hardsigmoid     (clip: act_min, act_max)
    pool=[h,w]                                   max pooling of that kernel, with pool_strides
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bitwright.ir.graph import Attribute, Node
from bitwright.ir.types import Dim, Shape, Type, shape_text

ShapeRule = Callable[[Node, Sequence[Shape]], Shape]

FUSED: dict[str, Attribute] = {
    "acc": 0,
    "act": "none",
    "act_max": float("inf"),
    "act_min": float("-inf"),
    "pool": (),
    "pool_strides": (),
}
ACTIVATIONS = ("none", "relu", "clip", "hardswish", "hardsigmoid")


class ShapeError(Exception):
    """The operands' shapes do not fit together; the message says how."""


@dataclass(frozen=True)
class Op:
    """One op of the hardware set.

    operands: their names, optional ones with a "?", a last one with "*" any number of times; attributes: defaults
    (REQUIRED where there is none); shape: the result's shape from the node and its operands' shapes.
    """

    name: str
    doc: str
    operands: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    shape: ShapeRule


REQUIRED = ""
LISTS = ("dilations", "kernel", "pads", "perm", "pool", "pool_strides", "shape", "strides")  # of integers


def attribute(node: Node, name: str) -> Attribute:
    """An attribute of a hardware op, or its default."""
    return node.attributes.get(name, OPS[node.op].attributes[name])


def integers(node: Node, name: str) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    value = attribute(node, name)
    assert isinstance(value, tuple)
    return tuple(int(item) for item in value if isinstance(item, int))


def integer(node: Node, name: str) -> int:
    """An attribute that is an integer."""
    value = attribute(node, name)
    assert isinstance(value, int)
    return value


def real(node: Node, name: str) -> float:
    """An attribute that is a number."""
    value = attribute(node, name)
    assert isinstance(value, int | float)
    return float(value)


def string(node: Node, name: str) -> str:
    """An attribute that is a word."""
    value = attribute(node, name)
    assert isinstance(value, str)
    return value


def result_shape(node: Node) -> Shape | None:
    """The shape that a hardware node's result must have, or None if an operand's rank is unknown.

    Raises ShapeError if the operands do not fit the op.
    """
    shapes = []
    for value in node.operands:
        if value is None:
            continue
        if not isinstance(value.type, Type) or value.type.shape is None:
            return None
        shapes.append(value.type.shape)
    return OPS[node.op].shape(node, shapes)


def window_extent(size: Dim, kernel: int, stride: int, before: int, after: int, dilation: int, ceil: bool) -> Dim:
    """How many windows fit in a padded line: floor or ceil of (size + pads - reach) / stride, plus 1.

    With `ceil`, a last window that would start in the padding after the line is left out (as ONNX says).
    """
    if not isinstance(size, int):
        return None
    reach = dilation * (kernel - 1) + 1
    room = size + before + after - reach
    if room < 0:
        raise ShapeError(f"a window of {reach} does not fit {size} + {before} + {after}")
    count = (room + stride - 1) // stride + 1 if ceil else room // stride + 1
    if ceil and (count - 1) * stride >= size + before:
        count -= 1
    return count


def broadcast(left: Shape, right: Shape) -> Shape:
    """Numpy's rule, with unknown dimensions."""
    rank = max(len(left), len(right))
    pairs = zip((1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True)
    return tuple(_broadcast_dim(a, b) for a, b in pairs)


def _broadcast_dim(a: Dim, b: Dim) -> Dim:
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        raise ShapeError(f"{a} and {b} do not broadcast")
    return a if isinstance(a, int) else b if isinstance(b, int) else None


def _same(node: Node, shapes: Sequence[Shape]) -> Shape:
    return shapes[0]


def _elementwise(node: Node, shapes: Sequence[Shape]) -> Shape:
    return broadcast(shapes[0], shapes[1])


def _rank4(node: Node, shape: Shape) -> None:
    if len(shape) != 4:
        raise ShapeError(f"{node.op} takes [N,C,H,W], not {len(shape)} dimensions")


def _windows(node: Node, shape: Shape, kernel: Sequence[int]) -> tuple[Dim, Dim]:
    strides, pads, dilations = (integers(node, name) for name in ("strides", "pads", "dilations"))
    sizes = (*kernel, *strides, *dilations)
    if not len(kernel) == len(strides) == len(dilations) == 2 or len(pads) != 4 or min(sizes) < 1 or min(pads) < 0:
        raise ShapeError("kernel, strides and dilations are two positive numbers, pads are four that are not negative")
    ceil = bool(node.attributes.get("ceil", 0))
    rows, cols = (
        window_extent(shape[2 + i], kernel[i], strides[i], pads[i], pads[2 + i], dilations[i], ceil) for i in (0, 1)
    )
    return rows, cols


def _after_pool(node: Node, rows: Dim, cols: Dim) -> tuple[Dim, Dim]:
    pool = integers(node, "pool")
    if not pool:
        return rows, cols
    strides = integers(node, "pool_strides") or pool
    if not len(pool) == len(strides) == 2 or min(*pool, *strides) < 1:
        raise ShapeError("pool and pool_strides are two positive numbers")
    return (
        window_extent(rows, pool[0], strides[0], 0, 0, 1, False),
        window_extent(cols, pool[1], strides[1], 0, 0, 1, False),
    )


def _conv2d(node: Node, shapes: Sequence[Shape]) -> Shape:
    x, w = shapes[0], shapes[1]
    _rank4(node, x)
    _rank4(node, w)
    groups, kernel = integer(node, "groups"), integers(node, "kernel")
    if groups < 1:
        raise ShapeError("groups is a positive number")
    if isinstance(x[1], int) and isinstance(w[1], int) and x[1] != w[1] * groups:
        raise ShapeError(f"{x[1]} channels for weights of {groups} x {w[1]}")
    if isinstance(w[0], int) and w[0] % groups:
        raise ShapeError(f"{w[0]} output channels in {groups} groups")
    if w[2:] != kernel and w[2:] != (None, None):
        raise ShapeError(f"weights of {list(w[2:])} for a kernel of {list(kernel)}")
    _check_bias(node, (w[0],))
    return (x[0], w[0], *_after_pool(node, *_windows(node, x, kernel)))


def _check_bias(node: Node, sizes: Sequence[Dim]) -> None:
    """sizes: how many numbers it may have, the number of output channels first."""
    bias = node.optional(2)
    if bias is None:
        return
    shape = bias.tensor_type.shape or ()
    known = all(isinstance(dim, int) for dim in (*shape, *sizes))
    if len(shape) != 1 or (known and shape[0] not in sizes):
        raise ShapeError(f"the bias %{bias.name} of shape {shape_text(shape)} for {sizes[0]} output channels")


def _dense(node: Node, shapes: Sequence[Shape]) -> Shape:
    x, w = shapes[0], shapes[1]
    if len(w) != 2 or not x:
        raise ShapeError("dense takes [...,K] and weights [M,K]")
    if isinstance(x[-1], int) and isinstance(w[1], int) and x[-1] != w[1]:
        raise ShapeError(f"{x[-1]} features for weights of {w[1]}")
    _check_bias(node, (w[0], 1))
    return (*x[:-1], w[0])


def _pool2d(node: Node, shapes: Sequence[Shape]) -> Shape:
    _rank4(node, shapes[0])
    return (*shapes[0][:2], *_windows(node, shapes[0], integers(node, "kernel")))


def _global(node: Node, shapes: Sequence[Shape]) -> Shape:
    _rank4(node, shapes[0])
    return (*shapes[0][:2], 1, 1)


def _concat(node: Node, shapes: Sequence[Shape]) -> Shape:
    axis = integer(node, "axis")
    merged = list(shapes[0])
    if not -len(merged) <= axis < len(merged):
        raise ShapeError(f"axis {axis} of {len(merged)} dimensions")
    axis %= len(merged)
    for shape in shapes[1:]:
        if len(shape) != len(merged):
            raise ShapeError("concat of different ranks")
        for i, (a, b) in enumerate(zip(merged, shape, strict=True)):
            if i == axis:
                merged[i] = a + b if isinstance(a, int) and isinstance(b, int) else None
            elif isinstance(a, int) and isinstance(b, int) and a != b:
                raise ShapeError(f"concat of {a} and {b} on axis {i}")
            elif not isinstance(a, int):
                merged[i] = b if isinstance(b, int) else a
    return tuple(merged)


def _product(dims: Sequence[Dim]) -> Dim:
    """The product of dimensions; one that alone is not 1 keeps its name."""
    if 0 in dims:
        return 0
    rest = [dim for dim in dims if dim != 1]
    if len(rest) == 1:
        return rest[0]
    total = 1
    for dim in rest:
        if not isinstance(dim, int):
            return None
        total *= dim
    return total


def _flatten(node: Node, shapes: Sequence[Shape]) -> Shape:
    shape, axis = shapes[0], integer(node, "axis")
    if not -len(shape) <= axis <= len(shape):
        raise ShapeError(f"axis {axis} of {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    return (_product(shape[:axis]), _product(shape[axis:]))


def _reshape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """0 copies a dimension, -1 takes what is left."""
    source, target = shapes[0], integers(node, "shape")
    if target.count(-1) > 1 or min(target, default=0) < -1:
        raise ShapeError(f"reshape to {list(target)} leaves more than one dimension open")
    if any(dim == 0 and i >= len(source) for i, dim in enumerate(target)):
        raise ShapeError(f"reshape to {list(target)} copies a dimension that is not there")
    dims: list[Dim] = [source[i] if dim == 0 else dim for i, dim in enumerate(target)]
    copied = {i for i, dim in enumerate(target) if dim == 0}
    known = _product([dim for dim in dims if dim != -1])
    total = _product(source)
    if -1 in dims:
        where = dims.index(-1)
        rest = _product([dim for i, dim in enumerate(source) if i not in copied])
        given = _product([dim for i, dim in enumerate(target) if i not in copied and dim != -1])
        dims[where] = None
        if isinstance(rest, int) and isinstance(given, int) and given:
            if rest % given:
                raise ShapeError(f"{rest} elements do not make {list(target)}")
            dims[where] = rest // given
        elif given == 1:
            dims[where] = rest
    elif isinstance(total, int) and isinstance(known, int) and total != known:
        raise ShapeError(f"{total} elements do not make {list(target)}")
    return tuple(dims)


def _transpose(node: Node, shapes: Sequence[Shape]) -> Shape:
    perm = integers(node, "perm")
    if sorted(perm) != list(range(len(shapes[0]))):
        raise ShapeError(f"perm {list(perm)} of {len(shapes[0])} dimensions")
    return tuple(shapes[0][i] for i in perm)


def _pad(node: Node, shapes: Sequence[Shape]) -> Shape:
    shape, pads = shapes[0], integers(node, "pads")
    if len(pads) != 2 * len(shape):
        raise ShapeError(f"{len(pads)} pads for {len(shape)} dimensions")
    rank = len(shape)
    padded = [
        dim + pads[i] + pads[i + rank] if isinstance(dim, int) else dim if pads[i] == pads[i + rank] == 0 else None
        for i, dim in enumerate(shape)
    ]
    if any(isinstance(dim, int) and dim < 0 for dim in padded):
        raise ShapeError(f"pads {list(pads)} take more than {list(shape)} has")
    return tuple(padded)


def _argmax(node: Node, shapes: Sequence[Shape]) -> Shape:
    shape, axis = shapes[0], integer(node, "axis")
    if not -len(shape) <= axis < len(shape):
        raise ShapeError(f"axis {axis} of {len(shape)} dimensions")
    axis %= len(shape)
    kept = (1,) if integer(node, "keepdims") else ()
    return (*shape[:axis], *kept, *shape[axis + 1 :])


_WINDOW: dict[str, Attribute] = {
    "dilations": (1, 1),
    "kernel": REQUIRED,
    "pads": (0, 0, 0, 0),
    "strides": (1, 1),
}

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        Op("conv2d", "sum over kernel and channels, plus bias", ("x", "w", "b?"),
           {**_WINDOW, "groups": 1, **FUSED}, _conv2d),
        Op("dense", "x w^T + b with weights [M,K]", ("x", "w", "b?"), dict(FUSED), _dense),
        Op("maxpool2d", "the largest in each window", ("x",), {**_WINDOW, "ceil": 0}, _pool2d),
        Op("avgpool2d", "the mean of each window", ("x",), {**_WINDOW, "ceil": 0, "count_pads": 0}, _pool2d),
        Op("globalavgpool", "the mean of each channel", ("x",), {}, _global),
        Op("batchnorm", "(x - mean) / sqrt(var + epsilon) scale + shift, a channel",
           ("x", "scale", "shift", "mean", "var"), {"epsilon": 1e-5}, _same),
        Op("relu", "max(x, 0)", ("x",), {}, _same),
        Op("clip", "min(max(x, min), max)", ("x",), {"max": float("inf"), "min": float("-inf")}, _same),
        Op("hardsigmoid", "clip(alpha x + beta, 0, 1)", ("x",), {"alpha": 0.2, "beta": 0.5}, _same),
        Op("hardswish", "x clip(x / 6 + 0.5, 0, 1)", ("x",), {}, _same),
        Op("add", "x + y with broadcasting", ("x", "y"), {}, _elementwise),
        Op("mul", "x y with broadcasting", ("x", "y"), {}, _elementwise),
        Op("concat", "one after the other along axis", ("x*",), {"axis": REQUIRED}, _concat),
        Op("flatten", "two dimensions: before and from axis", ("x",), {"axis": 1}, _flatten),
        Op("reshape", "the same elements in another shape; 0 copies, -1 is what is left", ("x",),
           {"shape": REQUIRED}, _reshape),
        Op("transpose", "axes in another order", ("x",), {"perm": REQUIRED}, _transpose),
        Op("pad", "value around the border; pads are all befores, then all afters", ("x",),
           {"pads": REQUIRED, "value": 0.0}, _pad),
        Op("softmax", "exp(x) / sum exp(x) along axis", ("x",), {"axis": -1}, _same),
        Op("argmax", "index of the (first) largest along axis", ("x",),
           {"axis": 0, "keepdims": 1, "last": 0}, _argmax),
        Op("quantize", "x in the format of the result", ("x",), {}, _same),
    )
}  # fmt: skip
