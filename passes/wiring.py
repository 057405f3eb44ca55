"""How every op ties the indices of its operands' axes to those of its result: what channels.py finds channels by.

Every axis of every tensor is a list of wires, one number an index. Where an op needs two indices to be both there or
both gone (the two sides of an add, a filter's columns and the channels it reads) their wires are tied. Wires that no op
can do without are held, with the reason. An axis that no channels run along (rows, columns) is all wire WHOLE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import integer, integers
from bitwright.ir.types import Type

Wires: TypeAlias = NDArray[np.int64]
Axes: TypeAlias = list[Wires]

WHOLE = 0
ALIKE = ("clip", "hardsigmoid", "hardswish", "quantize", "relu")
ALIKE_ONNX = ("Elu", "Identity", "LeakyRelu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh")
BROADCAST = ("add", "mul", "onnx.Div", "onnx.Max", "onnx.Mean", "onnx.Min", "onnx.Sub", "onnx.Sum")

Grouped: TypeAlias = Literal["whole", "inside"]


class Wiring:
    """The wires of every value of a graph, `ties` between them and `holds` with their reasons, in order of the nodes.

    A dimension that is not known has no wires. Of a grouped convolution, `whole` groups go, or the same channels
    `inside` every group (of a depthwise one, always its channels).
    """

    def __init__(self, graph: Graph, grouped: Grouped = "whole") -> None:
        self.grouped = grouped
        self.count = WHOLE + 1
        self.axes: dict[int, Axes] = {}
        self.ties: list[tuple[Wires, Wires]] = []
        self.holds: list[tuple[Wires, str]] = [(np.zeros(1, np.int64), "they are no channels")]
        for value in (*graph.inputs, *graph.weights):
            self.axes[id(value)] = [self.fresh(dim) for dim in _dims(value) or ()]
        for value in graph.inputs:
            self.hold(value, f"they are those of the input %{value.name}")
        for node in graph.nodes:
            self.follow(node)
        for output in graph.outputs:
            if id(output.value) in self.axes:
                self.hold(output.value, f"they reach the output {output.name}")

    def follow(self, node: Node) -> None:
        """Tie what a node ties, and give its results wires."""
        for inner in node.subgraphs():
            for graph in inner.walk():
                seen = [value for child in graph.nodes for value in child.operands if value is not None]
                for value in (*seen, *(output.value for output in graph.outputs)):
                    if id(value) in self.axes:
                        self.hold(value, f"they are read inside %{node.name}")
        values = [value for value in (*node.operands, *node.results) if value is not None]
        rule = RULES.get(node.op)
        if rule is None:
            made = self.not_understood(node, f"{node.op}, which is not understood")
        elif any(_dims(value) is None for value in values):
            made = self.not_understood(node, f"{node.op}, of a tensor whose shape is not known")
        else:
            made = rule(self, node)
        for result, axes in zip(node.results, made, strict=True):
            dims = _dims(result) or ()
            self.axes[id(result)] = [
                np.full(dim, WHOLE) if isinstance(dim, int) and len(wires) != dim else wires
                for dim, wires in zip(dims, axes, strict=True)
            ]

    def of(self, value: Value) -> Axes:
        """The wires of each axis of a value of this graph."""
        return self.axes[id(value)]

    def fresh(self, dim: object) -> Wires:
        """New wires for an axis."""
        size = dim if isinstance(dim, int) else 0
        self.count += size
        return np.arange(self.count - size, self.count)

    def hold(self, value: Value, reason: str) -> None:
        """No channel of a value can go."""
        self.keep(np.concatenate([np.zeros(0, np.int64), *self.of(value)]), reason)

    def keep(self, wires: Wires, reason: str) -> None:
        """These wires stay."""
        if (wires != WHOLE).any():
            self.holds.append((wires[wires != WHOLE], reason))

    def tie(self, left: Wires, right: Wires, node: Node) -> None:
        """These wires stay or go together, in pairs; where one side is whole or not known, the other stays."""
        if len(left) != len(right):
            self.keep(np.concatenate([left, right]), f"the shapes at %{node.name} are not known")
            return
        whole = (left == WHOLE) | (right == WHOLE)
        self.keep(np.concatenate([left[whole], right[whole]]), f"they meet no channels at %{node.name}")
        self.ties.append((left[~whole], right[~whole]))

    def bundle(self, wires: Wires, node: Node) -> Wires:
        """Rows of wires, each of which stays or goes as one: the first of each row."""
        if wires.size == 0:
            return np.zeros(0, np.int64)
        first = wires[:, :1]
        self.tie(np.broadcast_to(first, wires.shape).reshape(-1), wires.reshape(-1), node)
        return np.where((wires == WHOLE).any(1), WHOLE, first[:, 0])

    def not_understood(self, node: Node, what: str) -> list[Axes]:
        """Everything that a node reads and makes stays."""
        for value in node.operands:
            if value is not None and id(value) in self.axes:
                self.hold(value, f"they are read by %{node.name}, {what}")
        made = [[self.fresh(dim) for dim in _dims(result) or ()] for result in node.results]
        for axes in made:
            for wires in axes:
                self.keep(wires, f"they come from %{node.name}, {what}")
        return made

    def meet(self, node: Node) -> Axes:
        """All operands of a node, which broadcast."""
        values = [value for value in node.operands if value is not None]
        met, *others = (list(zip(_dims(value) or (), self.of(value), strict=True)) for value in values)
        for other in others:
            few, many = sorted([met, other], key=len)
            outer = len(many) - len(few)
            met = many[:outer]
            for (a, left), (b, right) in zip(few, many[outer:], strict=True):
                if (a == 1) == (b == 1):
                    self.tie(left, right, node)
                met.append((b, right) if a == 1 or not len(left) else (a, left))
        return [wires for _, wires in met]


def _dims(value: Value) -> Sequence[object] | None:
    return value.type.shape if isinstance(value.type, Type) else None


def _alike(wiring: Wiring, node: Node) -> list[Axes]:
    return [wiring.of(node.operand(0))]


def _conv2d(wiring: Wiring, node: Node) -> list[Axes]:
    x, w, groups = wiring.of(node.operand(0)), wiring.of(node.operand(1)), integer(node, "groups")
    for wires in w[2:]:
        wiring.keep(wires, "they are a kernel's")
    if groups == 1:
        wiring.tie(x[1], w[1], node)
    elif len(x[1]) != groups * len(w[1]):
        wiring.keep(np.concatenate([x[1], *w[:2]]), f"the groups of %{node.name} are not known")
    else:
        read, written = (wires.reshape(groups, -1) for wires in (x[1], w[0]))
        if wiring.grouped == "whole" or len(w[1]) == 1:
            wiring.keep(w[1], f"they are inside the groups of %{node.name}")
            wiring.bundle(np.concatenate([read, written], axis=1), node)
        else:
            wiring.tie(wiring.bundle(read.T, node), w[1], node)
            wiring.bundle(written.T, node)
    _bias(wiring, node, w[0])
    return [[x[0], w[0], *_pixels(node)]]


def _dense(wiring: Wiring, node: Node) -> list[Axes]:
    x, w = wiring.of(node.operand(0)), wiring.of(node.operand(1))
    wiring.tie(x[-1], w[1], node)
    _bias(wiring, node, w[0])
    return [[*x[:-1], w[0]]]


def _bias(wiring: Wiring, node: Node, rows: Wires) -> None:
    bias = node.optional(2)
    if bias is not None and wiring.of(bias):
        *outer, last = wiring.of(bias)
        for wires in outer:
            wiring.keep(wires, f"they are a bias of more than one axis of %{node.name}")
        if len(last) != 1 or len(rows) == 1:
            wiring.tie(rows, last, node)


def _windows(wiring: Wiring, node: Node) -> list[Axes]:
    return [[*wiring.of(node.operand(0))[:2], *_pixels(node)]]


def _pixels(node: Node) -> Axes:
    return [np.full(dim if isinstance(dim, int) else 0, WHOLE) for dim in (_dims(node.result) or ())[2:]]


def _batchnorm(wiring: Wiring, node: Node) -> list[Axes]:
    x = wiring.of(node.operand(0))
    for value in node.operands[1:]:
        if value is not None:
            wiring.tie(x[1], wiring.of(value)[0], node)
    return [x]


def _elementwise(wiring: Wiring, node: Node) -> list[Axes]:
    return [wiring.meet(node)]


def _concat(wiring: Wiring, node: Node) -> list[Axes]:
    parts = [wiring.of(value) for value in node.operands if value is not None]
    axis = integer(node, "axis") % len(parts[0])
    for other in parts[1:]:
        for index, wires in enumerate(other):
            if index != axis:
                wiring.tie(parts[0][index], wires, node)
    joined = np.concatenate([part[axis] for part in parts])
    if not all(len(part[axis]) for part in parts):
        wiring.keep(joined, f"the shapes at %{node.name} are not known")
    return [[joined if index == axis else wires for index, wires in enumerate(parts[0])]]


def _split(wiring: Wiring, node: Node) -> list[Axes]:
    x = wiring.of(node.operand(0))
    axis = node.attributes.get("axis", 0)
    assert isinstance(axis, int)
    axis %= len(x)
    sizes = [dims[axis] for dims in map(_dims, node.results) if dims is not None]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) != len(sizes) or sum(known) != len(x[axis]):
        return wiring.not_understood(node, "onnx.Split, of a tensor whose shape is not known")
    ends = np.cumsum(known)[:-1]
    return [[part if i == axis else wires for i, wires in enumerate(x)] for part in np.split(x[axis], ends)]


def _reshape(wiring: Wiring, node: Node) -> list[Axes]:
    """Axes that become one: each channel is a block of indices. One that becomes several: its blocks go as a whole."""
    value = node.operand(0)
    source, target = list(_dims(value) or ()), list(_dims(node.result) or ())
    wires, made = list(wiring.of(value)), list[Wires]()
    while source and target:
        left, right = [source.pop()], [target.pop()]
        while not _same_size(left, right) and (source or target):
            ours, theirs = _product(left), _product(right)
            if ours is None or theirs is None:
                left, source, right, target = source + left, [], target + right, []
            elif (ours < theirs and source) or not target:
                left.insert(0, source.pop())
            else:
                right.insert(0, target.pop())
        block, wires = wires[len(wires) - len(left) :], wires[: len(wires) - len(left)]
        made = _reshaped(wiring, node, block, left, right) + made
    for block_wires in wires:
        wiring.keep(block_wires, f"they are reshaped at %{node.name}")
    return [[np.full(dim if isinstance(dim, int) else 0, WHOLE) for dim in target] + made]


def _reshaped(wiring: Wiring, node: Node, block: Axes, left: Sequence[object], right: Sequence[object]) -> Axes:
    """The wires of the axes `right` that together hold what the axes `left` held."""
    if len(left) == len(right) == 1:
        return block
    made = [np.full(dim if isinstance(dim, int) else 0, WHOLE) for dim in right]
    channels = [index for index, wires in enumerate(block) if len(wires) > 1 and (wires != WHOLE).any()]
    wide = [index for index, dim in enumerate(right) if dim != 1]
    if len(channels) == 1 and _product(left) is not None and _product(left) == _product(right):
        at = channels[0]
        shape = [-1 if index == at else 1 for index in range(len(block))]
        flat = np.broadcast_to(block[at].reshape(shape), [len(wires) for wires in block]).reshape(-1)
        if len(wide) == 1:
            made[wide[0]] = flat
            return made
        if len(flat) == len(block[at]):
            parts = flat.reshape(len(made[wide[0]]), -1)
            inside = wiring.grouped == "inside" and len(wide) == 2
            made[wide[inside]] = wiring.bundle(parts.T if inside else parts, node)
            return made
    for wires in block:
        wiring.keep(wires, f"they are reshaped at %{node.name}")
    return made


def _same_size(left: Sequence[object], right: Sequence[object]) -> bool:
    """Whether the elements of these axes are as many: the same number, or one axis of the same name."""
    ours = _product(left)
    return ours == _product(right) if ours is not None else list(left) == list(right) and isinstance(left[0], str)


def _product(dims: Sequence[object]) -> int | None:
    total = 1
    for dim in dims:
        if not isinstance(dim, int):
            return None
        total *= dim
    return total


def _transpose(wiring: Wiring, node: Node) -> list[Axes]:
    x = wiring.of(node.operand(0))
    return [[x[axis] for axis in integers(node, "perm")]]


def _pad(wiring: Wiring, node: Node) -> list[Axes]:
    """What is padded stays, also along an axis of channels."""
    pads, made = integers(node, "pads"), list[Wires]()
    x = wiring.of(node.operand(0))
    for axis, wires in enumerate(x):
        before, after = pads[axis], pads[axis + len(x)]
        if min(before, after) < 0:
            wiring.keep(wires, f"%{node.name} cuts them off")
        grown = min(before, after) >= 0 and len(wires) > 0 and (wires != WHOLE).any()
        ends = [wiring.fresh(before), wires, wiring.fresh(after)] if grown else [wires]
        for end in ends[::2] if grown else ():
            wiring.keep(end, f"%{node.name} pads with them")
        made.append(np.concatenate(ends))
    return [made]


def _softmax(wiring: Wiring, node: Node) -> list[Axes]:
    x = wiring.of(node.operand(0))
    wiring.keep(x[integer(node, "axis")], f"%{node.name} compares them")
    return [x]


def _argmax(wiring: Wiring, node: Node) -> list[Axes]:
    x, axis = wiring.of(node.operand(0)), integer(node, "axis")
    wiring.keep(x[axis], f"%{node.name} compares them")
    axis %= len(x)
    kept = [np.full(1, WHOLE)] if integer(node, "keepdims") else []
    return [[*x[:axis], *kept, *x[axis + 1 :]]]


Rule: TypeAlias = Callable[[Wiring, Node], list[Axes]]

RULES: dict[str, Rule] = {
    **{op: _alike for op in (*ALIKE, *(f"onnx.{op}" for op in ALIKE_ONNX))},
    **{op: _elementwise for op in BROADCAST},
    "argmax": _argmax,
    "avgpool2d": _windows,
    "batchnorm": _batchnorm,
    "concat": _concat,
    "conv2d": _conv2d,
    "dense": _dense,
    "flatten": _reshape,
    "globalavgpool": _windows,
    "maxpool2d": _windows,
    "onnx.Split": _split,
    "pad": _pad,
    "reshape": _reshape,
    "softmax": _softmax,
    "transpose": _transpose,
}
