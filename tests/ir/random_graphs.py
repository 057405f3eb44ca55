"""Random graphs of every kind of value, type, attribute and format, and of odd names, for hypothesis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from bitwright.ir import edit
from bitwright.ir.formats import Affine, Canonical, Format, exp, fixed, float_format
from bitwright.ir.graph import Attribute, EmptyList, Graph, Node, Value
from bitwright.ir.ops import OPS, ShapeError, result_shape
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import DTYPES, F32, I64, UNKNOWN, ContainerType, Native, Shape, Type, ValueType

words = ["inf", "nan", "graph", "graph_x", "tensor", "type", "ints", "floats", "strings", "b", "_", "relu", "as", "É9"]
odd = ['a"b', "a\\", "\\n", "line\nbreak", "\r\n", "tab\t", "// no comment", "}", " : ", "%x", "#t", "", "9", "-1", "?"]
strings = st.sampled_from([*words, *odd]) | st.text(max_size=6)
names = st.text("abz019_.$é", min_size=1, max_size=5)
dims = st.integers(0, 12) | st.none() | strings
real = st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e300, 5e-324, 1.0, 1e16, 1e-7]) | st.floats()
integer = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]) | st.integers(-300, 300)
raw = st.binary(max_size=5)


@st.composite
def arrays(draw: st.DrawFn, kinds: Sequence[str] = tuple(DTYPES)) -> np.ndarray:
    """Data of any element type, from none to a few dozen elements."""
    name = draw(st.sampled_from(kinds))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = int(np.prod(shape))
    if name == "str":
        items = draw(st.lists(strings | raw, min_size=count, max_size=count))
        array = np.empty(count, object)
        array[:] = items
        return array.reshape(shape)
    dtype = DTYPES[name]
    if name in ("f32", "f64"):
        numbers = st.floats(width=32 if name == "f32" else 64) | st.sampled_from([-0.0, math.nan, math.inf, 0.1])
        return np.array(draw(st.lists(numbers, min_size=count, max_size=count)), dtype).reshape(shape)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        numbers = st.integers(int(limits.min), int(limits.max))
        return np.array(draw(st.lists(numbers, min_size=count, max_size=count)), dtype).reshape(shape)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    with np.errstate(all="ignore"):
        return (random.standard_normal(shape) * 2).astype(dtype).reshape(shape)


@st.composite
def number_formats(draw: st.DrawFn, shape: Shape | None) -> Format:
    """A format per tensor, or a channel of an axis that has a size."""
    axes = [i for i, dim in enumerate(shape or ()) if isinstance(dim, int) and dim > 0]
    one = draw(st.sampled_from([fixed(8, 1), fixed(4), exp(3), float_format(8), Canonical(0, 0, 6, -2), fixed(1)]))
    if not axes or draw(st.booleans()):
        return draw(st.sampled_from([one, Affine(8, 0.1, 3), Affine(4, 0.25, 0.5, True), Canonical(1, 8, 7, 100)]))
    longest = max(axes, key=lambda i: (shape or ())[i] or 0)  # may be long enough for a table
    axis = draw(st.sampled_from([longest, *axes]))
    count = (shape or ())[axis]
    assert isinstance(count, int)
    axis -= draw(st.sampled_from([0, len(shape or ())]))
    if draw(st.booleans()):
        return one.at(tuple(draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count))), axis)
    scales = tuple(draw(st.lists(st.floats(1e-6, 1e6), min_size=count, max_size=count)))
    zeros = tuple(draw(st.lists(st.integers(0, 255) | st.floats(-5, 5), min_size=count, max_size=count)))
    return Affine(8, scales, draw(st.sampled_from([zeros, 7, 0])), draw(st.booleans()), axis)


@st.composite
def tensor_types(draw: st.DrawFn) -> Type:
    shape = draw(st.none() | st.lists(dims, max_size=4).map(tuple))
    native = st.sampled_from(list(DTYPES)).map(Native)
    return Type(draw(native | number_formats(shape)), shape)


def containers(inner: st.SearchStrategy[ValueType]) -> st.SearchStrategy[ValueType]:
    one = st.sampled_from(["seq", "optional", "sparse"])
    pair = st.tuples(st.builds(Type, st.just(I64), st.just(())), inner)
    return st.builds(lambda word, type: ContainerType(word, (type,)), one, inner) | st.builds(
        lambda elements: ContainerType("map", elements), pair
    )


value_types = st.recursive(tensor_types() | st.just(UNKNOWN), containers, max_leaves=3)


class Maker:
    """Draws a graph; values of the graphs around may be read, names are unique in all."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.used: set[str] = set()

    def name(self) -> str:
        base = self.draw(names)
        number, name = 1, base
        while name in self.used:
            number, name = number + 1, f"{base}{number}"
        self.used.add(name)
        return name

    def graph(self, parent: Node | None, around: list[Value], depth: int) -> Graph:
        draw = self.draw
        graph = Graph(draw(strings), parent=parent)
        if parent is None:
            domains = st.dictionaries(st.sampled_from(["", "com.microsoft", "a-b.c"]), st.integers(1, 22), max_size=3)
            graph.opsets = draw(domains)
            graph.metadata = draw(st.dictionaries(strings, strings, max_size=2))
        values = list(around)
        for _ in range(draw(st.integers(0, 2))):
            external = draw(st.none() | strings)
            values.append(edit.add_input(graph, self.name(), draw(value_types), external))
        if parent is None or draw(st.booleans()):
            shape = (1, draw(st.sampled_from([2, 1, 3, 9, 17])), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
            element = draw(number_formats(shape) | st.just(F32))
            values.append(edit.add_input(graph, self.name(), Type(element, shape)))
        for _ in range(draw(st.integers(0, 2))):
            values.append(self.weight(graph, draw(arrays())))
        if draw(st.booleans()):
            array = draw(arrays(["f32", "i64"]))
            type = Type(edit.type_of(Tensor(array)).format, array.shape)
            values.append(edit.add_input(graph, self.name(), type, draw(st.none() | strings), Tensor(array)))
        for _ in range(draw(st.integers(1, 6) if parent is None else st.integers(0, 2))):
            node = self.hardware(graph, values) if draw(st.integers(0, 3)) else self.other(graph, values, depth)
            values += node.results if node is not None else []
        for value in draw(st.lists(st.sampled_from(values), max_size=3)) if values else []:
            edit.add_output(graph, value, draw(st.none() | strings))
        return graph

    def weight(self, graph: Graph, array: np.ndarray) -> Value:
        tensor = Tensor(array)
        type = edit.type_of(tensor)
        if array.dtype == np.float32 and self.draw(st.booleans()):
            type = Type(self.draw(number_formats(array.shape)), array.shape)
        return edit.add_weight(graph, self.name(), tensor, type)

    def numbers(self, graph: Graph, *shape: int) -> Value:
        """A float weight of a shape."""
        random = np.random.default_rng(self.draw(st.integers(0, 9)))
        return self.weight(graph, random.standard_normal(shape).astype(np.float32))

    def hardware(self, graph: Graph, values: list[Value]) -> Node | None:
        """A node of the hardware set, if a value fits it."""
        draw = self.draw
        op = draw(st.sampled_from([*OPS, "conv2d", "dense", "conv2d"]))
        ranked = [v for v in values if isinstance(v.type, Type) and v.type.shape]
        images = [
            v
            for v in ranked
            if len(v.tensor_type.static_shape or ()) == 4 and min(v.tensor_type.static_shape or ()) > 0
        ]
        needs_image = op in ("conv2d", "maxpool2d", "avgpool2d", "globalavgpool", "batchnorm")
        fitting = images if needs_image else [v for v in ranked if v.tensor_type.static_shape]
        if not fitting:
            return None
        x = draw(st.sampled_from(fitting))
        shape = x.tensor_type.static_shape or ()
        operands: list[Value | None] = [x]
        attributes: dict[str, Attribute] = {}
        if op in ("conv2d", "maxpool2d", "avgpool2d"):
            kernel = tuple(draw(st.integers(1, min(3, size))) for size in shape[2:])
            attributes = {"kernel": kernel, "strides": draw(st.sampled_from([(1, 1), (2, 1)]))}
            attributes["pads"] = draw(st.sampled_from([(0, 0, 0, 0), (1, 0, 1, 0)]))
            if op != "conv2d":
                attributes["ceil"] = draw(st.integers(0, 1))
        if op == "conv2d":
            groups = draw(st.sampled_from([1, shape[1]]))
            attributes["groups"] = groups
            operands.append(self.numbers(graph, 2 * groups, shape[1] // groups, *kernel))
            operands += draw(st.sampled_from([[], [None], ["bias"]]))
            operands = [self.numbers(graph, 2 * groups) if item == "bias" else item for item in operands]
        if op == "dense":
            operands.append(self.numbers(graph, 3, shape[-1]))
        if op in ("conv2d", "dense"):
            attributes["act"] = draw(st.sampled_from(["none", "relu", "clip", "hardswish"]))
            attributes["act_min"], attributes["act_max"] = draw(real), draw(real)
            attributes["acc"] = draw(st.integers(0, 48))
        if op == "batchnorm":
            operands += [self.numbers(graph, shape[1]) for _ in range(4)]
            attributes["epsilon"] = draw(real)
        if op in ("add", "mul"):
            operands.append(draw(st.sampled_from([x, self.numbers(graph)])))
        if op == "concat":
            attributes["axis"] = draw(st.integers(-len(shape), len(shape) - 1))
            operands *= draw(st.integers(1, 3))
        if op in ("softmax", "argmax", "flatten"):
            attributes["axis"] = draw(st.integers(-len(shape), len(shape) - 1))
        if op == "transpose":
            attributes["perm"] = tuple(draw(st.permutations(range(len(shape)))))
        if op == "reshape":
            attributes["shape"] = draw(st.sampled_from([(0,) * len(shape), (-1,), shape]))
        if op == "pad":
            attributes["pads"] = tuple(
                draw(st.lists(st.integers(0, 2), min_size=2 * len(shape), max_size=2 * len(shape)))
            )
            attributes["value"] = draw(real)
        if op == "clip":
            attributes = {key: draw(real) for key in draw(st.sets(st.sampled_from(["min", "max"])))}
        node = edit.add_node(graph, op, operands, {}, attributes)
        try:
            result = result_shape(node)
        except ShapeError:
            edit.set_operands(node, [])
            graph.nodes.remove(node)
            raise
        element = draw(st.just(I64 if op == "argmax" else F32) | number_formats(result))
        edit.add_result(node, self.name(), Type(element, result))
        return node

    def other(self, graph: Graph, values: list[Value], depth: int) -> Node:
        """A node that stays ONNX's: any operands, results and attributes."""
        draw = self.draw
        op = "onnx." + draw(st.sampled_from(["If", "Foo", "com.microsoft::Gelu", "a-b.c::Op_2"]))
        operands = draw(st.lists(st.none() | (st.sampled_from(values) if values else st.none()), max_size=4))
        node = edit.add_node(graph, op, operands, {}, source=draw(strings))
        for key in draw(
            st.sets(st.sampled_from(["alpha", "axis", "graph", "inf", "Kind_2", "b", "value"]), max_size=4)
        ):
            edit.set_attribute(node, key, self.attribute(node, values, depth))
        for _ in range(draw(st.integers(0, 3))):
            edit.add_result(node, self.name(), draw(value_types))
        return node

    def attribute(self, node: Node, values: list[Value], depth: int) -> Attribute:
        draw = self.draw
        if depth and draw(st.integers(0, 3)) == 0:
            if draw(st.booleans()):
                return self.graph(node, values, depth - 1)
            return tuple(self.graph(node, values, depth - 1) for _ in range(2))
        tensors = arrays().map(Tensor)
        one = st.sampled_from([integer, real, strings, raw, tensors, value_types])
        some = st.sampled_from([integer, real, strings, raw, tensors, value_types])
        empty = st.sampled_from(["ints", "floats", "strings"]).map(EmptyList)
        return draw(
            one.flatmap(lambda item: item) | some.flatmap(lambda item: st.lists(item, max_size=3).map(tuple)) | empty
        )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    return Maker(draw).graph(None, [], 2)
