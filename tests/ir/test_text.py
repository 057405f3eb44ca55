"""The text of a graph: random graphs survive printing, parsing, copying and files; mistakes show their place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.files import load, save, store
from bitwright.ir.formats import Affine, Canonical, Format, exp, fixed, float_format
from bitwright.ir.graph import Attribute, EmptyList, Graph, Node, Value
from bitwright.ir.ops import OPS, ShapeError, result_shape
from bitwright.ir.parse import parse, parse_type
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import node_text, tensor_text, to_text
from bitwright.ir.types import DTYPES, F32, I64, UNKNOWN, ContainerType, Native, Shape, Type, ValueType
from bitwright.ir.verify import verify

Check = Callable[[Graph], None]

# Random graphs

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


# What must be the same


def same_array(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit, except for what a NaN carries."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "O":
        return [(type(x), x) for x in a.flat] == [(type(x), x) for x in b.flat]
    if a.tobytes() == b.tobytes():
        return True
    return a.dtype.kind == "f" and all(
        (math.isnan(x) and math.isnan(y)) or repr(x) == repr(y)
        for x, y in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True)
    )


def same_attribute(a: Any, b: Any, data: bool) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, EmptyList):
        return bool(a.kind == b.kind)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same_attribute(x, y, data) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, Graph):
        return assert_same(a, b, data)
    if isinstance(a, Tensor):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and same_tensor(a, b, data)
    return bool(a == b)


def same_tensor(a: Tensor, b: Tensor, data: bool) -> bool:
    """With the data in hand, or where they stand in the text, the same data; else data of the same name and kind."""
    if data or tensor_text(a).startswith("["):
        return same_array(a.data, b.data)
    return (a.key, a.shape) == (b.key, b.shape)


def used(node: Node) -> dict[str, Attribute]:
    defaults = OPS[node.op].attributes if node.op in OPS else {}
    return {key: value for key, value in node.attributes.items() if key not in defaults or value != defaults[key]}


def assert_same(a: Graph, b: Graph, data: bool) -> bool:
    """Everything but sources, which text does not hold."""
    assert (a.name, a.opsets, a.metadata, a.external) == (b.name, b.opsets, b.metadata, b.external)
    assert [v.name for v in a.inputs] == [v.name for v in b.inputs]
    assert [v.name for v in a.weights] == [v.name for v in b.weights]
    assert a.values.keys() == b.values.keys()
    for name, value in a.values.items():
        other = b.values[name]
        assert value.type == other.type
        assert (value.tensor is None) == (other.tensor is None)
        if value.tensor is not None and other.tensor is not None:
            assert same_tensor(value.tensor, other.tensor, data), name
    assert [(o.value.name, o.name) for o in a.outputs] == [(o.value.name, o.name) for o in b.outputs]
    for x, y in zip(a.nodes, b.nodes, strict=True):
        assert x.op == y.op
        assert [v and v.name for v in x.operands] == [v and v.name for v in y.operands]
        assert [v.name for v in x.results] == [v.name for v in y.results]
        left, right = used(x), used(y)
        assert left.keys() == right.keys()
        for key, attribute in left.items():
            assert same_attribute(attribute, right[key], data), (key, attribute, right[key])
    return True


@given(graphs())
def test_a_graph_prints_parses_and_prints_the_same(check: Check, graph: Graph) -> None:
    check(graph)
    verify(graph)
    text = to_text(graph)
    assert to_text(graph) == text
    again = parse(text, store(graph))
    assert to_text(again) == text
    check(again)
    verify(again)
    assert_same(graph, again, data=True)
    made_up = parse(text)
    assert to_text(made_up) == text
    check(made_up)
    assert_same(graph, made_up, data=False)
    for inner in made_up.walk():
        for value in inner.values.values():
            if value.tensor is not None:
                assert value.tensor.data.shape == value.tensor.shape
                assert value.tensor.data.dtype == value.tensor.dtype


@given(graphs())
def test_a_copy_is_the_same_and_its_own(check: Check, graph: Graph) -> None:
    text = to_text(graph)
    copy = edit.copy(graph)
    check(copy)
    check(graph)
    assert to_text(copy) == text
    assert_same(graph, copy, data=True)
    ours, theirs = (
        {id(thing) for inner in g.walk() for thing in (inner, *inner.nodes, *inner.values.values(), *inner.outputs)}
        for g in (graph, copy)
    )
    assert not ours & theirs
    assert [n.source for g in copy.walk() for n in g.nodes] == [n.source for g in graph.walk() for n in g.nodes]
    copy.opsets["x"] = 1
    copy.metadata["x"] = "y"
    for value in list(copy.values.values()):
        edit.rename(copy, value, edit.unique_name(copy, value.name + "_2"))
    for node in copy.nodes:
        edit.set_operands(node, [])
        edit.set_attribute(node, "one_more", 1)
    assert to_text(graph) == text
    check(graph)


@settings(max_examples=50)
@given(graphs())
def test_files_hold_a_graph_and_its_data(check: Check, tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    path = tmp_path_factory.mktemp("graph") / "net.v2.ir"
    save(graph, path)
    assert path.read_text("utf-8") == to_text(graph)
    again = load(path)
    check(again)
    assert_same(graph, again, data=True)


# Element types


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 7), (0, 2), (5, 0)])
def test_every_element_type_survives_files(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    dtype = DTYPES[name]
    random = np.random.default_rng(1)
    if name == "str":
        pool = np.array(["", "a", "é\n", '"', b"\xff\x00", b"", "b'a'"], object)
        array = pool[random.integers(0, len(pool), shape)] if shape else np.array("x", object)
    elif name == "bool":
        array = random.integers(0, 2, shape).astype(bool)
    elif name in ("i2", "u2", "i4", "u4", "f4e2m1"):
        low = {"i2": -2, "i4": -8}.get(name, 0)
        array = random.integers(low, low + (4 if name[1] == "2" else 6), shape).astype(dtype)
    else:
        size = int(np.prod(shape)) * dtype.itemsize
        array = np.frombuffer(random.bytes(size), dtype).reshape(shape)
    graph = Graph("g")
    weight = edit.add_weight(graph, "file", Tensor(array))  # a name that numpy's own savez cannot take
    edit.add_node(graph, "onnx.Foo", [weight], {"y": UNKNOWN}, {"value": Tensor(array), "many": (Tensor(array),)})
    save(graph, tmp_path / "g.ir")
    again = load(tmp_path / "g.ir")
    assert to_text(again) == to_text(graph)
    node = again.nodes[0]
    for tensor in (again.values["file"].tensor, node.attributes["value"], node.attributes["many"][0]):  # type: ignore[index]
        assert isinstance(tensor, Tensor)
        assert tensor.dtype == dtype
        assert same_array(tensor.data, array)
        assert not tensor.data.flags.writeable
    assert again.values["file"].tensor_type == Type(Native(name), shape)


@pytest.mark.parametrize("name", DTYPES)
def test_text_alone_makes_the_same_data_every_time(name: str) -> None:
    text = f"graph @g {{\n  weight %w = 0badcafe : {name}[3,5]\n}}\n"
    first, second = (parse(text).values["w"].tensor for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.dtype, first.data.dtype, first.data.shape) == (DTYPES[name], DTYPES[name], (3, 5))
    assert first == second
    assert first.data.tobytes() == second.data.tobytes() or name == "str"
    assert first.key == "0badcafe"
    other = parse(text.replace("0badcafe", "0badcaff")).values["w"].tensor
    assert other is not None
    assert first != other
    assert hash(first) == hash(second)
    if name in ("f32", "f64", "f16", "bf16", "i64", "u8", "bool", "i4", "str"):
        assert not np.array_equal(first.data, other.data)


def test_the_hash_is_of_type_shape_and_content() -> None:
    base = np.arange(40, dtype=np.float32).reshape(4, 10)
    others = [base.astype(np.float64), base.T, base.reshape(10, 4), base + 1, -base, base.astype(np.int32)]
    keys = [Tensor(array).key for array in (base, *others)]
    assert len(set(keys)) == len(keys)
    assert Tensor(base.copy()).key == Tensor(np.asfortranarray(base)).key == keys[0]
    assert all(re.fullmatch("[0-9a-f]{8}", key) for key in keys)
    assert Tensor(np.arange(4)) != 4
    texts = [["ab", "c"], ["a", "bc"], [b"ab", b"c"], ["ab", b"c"]]
    keys = [Tensor(np.array(items, object)).key for items in texts]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("array", "key"),
    [
        (np.arange(6, dtype=np.float32).reshape(2, 3), "105dad27"),
        (np.array(["a", "é", b"b"], object), "a53d4174"),
        (np.arange(4).astype(ml_dtypes.int4), "e927c45c"),
        (np.zeros(0, np.int64), "b7dde657"),
    ],
)
def test_hashes_in_old_files_stay_right(array: np.ndarray, key: str) -> None:
    assert Tensor(array).key == key


def test_a_tensor_is_read_once_and_never_written() -> None:
    calls = []

    def read() -> np.ndarray:
        calls.append(1)
        return np.ones(3, np.float32)

    tensor = Tensor(load=read, dtype=np.dtype(np.float32), shape=(3,))
    assert (tensor.size, calls) == (3, [])
    assert tensor.data is tensor.data
    assert tensor == Tensor(np.ones(3, np.float32))
    assert calls == [1]
    for array in (tensor.data, Tensor(np.zeros(2)).data):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


# The form


def graph(*lines: str, name: str = "g") -> str:
    return "\n".join([f"graph @{name} {{", *("  " + line for line in lines), "}", ""])


@pytest.mark.parametrize(
    "lines",
    [
        ["opset ai.onnx=17", "opset com.microsoft=1", 'meta "author" = "A \\"B\\"\\n"'],
        ['input %x as "image:0" : f32[N,1,28,28]', 'output %x as "y"'],
        ["input %x : FIXED<8,B=1>[1,1,28,28]", "output %x"],
        ["weight %a = [1,-2,3] : i64[3]", "weight %b = [1.0,-0.0,inf,nan] : f32[4]", "weight %c = [0,1] : bool[2]"],
        ["weight %big = [0,9223372036854775807,-9223372036854775808] : i64[3]"],
        ["weight %big = [0,18446744073709551615] : u64[2]"],
        ["weight %s = [0.1] : f32[1]", "weight %d = [0.1] : f64[]", "weight %e = [] : f64[0,3]"],
        ["weight %w = 4b556bef : EXP<3,B={1,2,3,4,5,6,7,8}@0>[8,1,5,5]"],
        [
            "#w = [",
            "  0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
            "  16",
            "]",
            "weight %w = 4b556bef : EXP<3,B=#w@-4>[17,1,5,5]",
        ],
        [
            "#x = [",
            "  0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 1e-05",
            "]",
            "#x:zero = [",
            "  1 2 3 4 5 6 7 8 1.5",
            "]",
            "input %x : AFFINE<8,scale=#x@0,zero=#x:zero@0,signed>[9]",
        ],
        [
            "input %a : seq<f32[*]>",
            "input %b : optional<map<i64[],seq<?>>>",
            "input %c : ?",
            'input %d : f32["a b",?,N_1,-1,"\\n"]',
        ],
        [
            "input %x : f32[1,2,8,8]",
            "weight %w = 00000001 : f32[3,2,3,3]",
            "%c = conv2d(%x, %w, _) {act=relu, kernel=[3,3], pads=[1,1,1,1]} : f32[1,3,8,8]",
            "%a, %b = onnx.com.microsoft::Two(%c, _, %x) : f32[*], ?",
            "onnx.None()",
            "onnx.a-b::Last(%a) {k=1}",
            "output %c",
        ],
        [
            "%y = onnx.Foo() {"
            + ", ".join(
                [
                    "a=1",
                    "b=-1.5",
                    "c=word",
                    'd="two words"',
                    'e="graph"',
                    "f=graph_x",
                    "g=[1,2]",
                    "h=ints[]",
                    "i=floats[]",
                    "j=strings[]",
                    "k=[]",
                    'l=b"00ff"',
                    'm=b""',
                    "n=tensor<[1,2] : i64[2]>",
                    "o=tensor<0badcafe : f32[2,9]>",
                    "p=type<seq<f32[2]>>",
                    "q=[inf,-inf,nan,-0.0,1e+16]",
                    'r=[a,"b",""]',
                ]
            )
            + "} : f32[1]"
        ],
        [
            "input %x : f32[1]",
            "input %c : bool[]",
            "%y = onnx.If(%c) {else_branch=graph @else {",
            "  weight %k = [1.0] : f32[1]",
            "  %z = add(%x, %k) : f32[1]",
            "  output %z",
            "}, then_branch=graph @then {",
            "  output %x",
            "}} : f32[1]",
            "output %y",
        ],
    ],
)
def test_text_that_is_printed_as_it_was_written(lines: list[str]) -> None:
    text = graph(*lines)
    assert to_text(parse(text)) == text


def test_what_a_person_may_write_otherwise() -> None:
    text = """
    // a comment
    graph @g{input %x:f32[ 1 , 2 ] // another
      weight %w=[1, 2.5, 3e0 , 4]:f32[2,2]   %d = dense ( %x , %w ){ act = relu }
        : f32[1,2] output %d
    }  // the end
    """
    wanted = graph(
        "input %x : f32[1,2]",
        "weight %w = [1.0,2.5,3.0,4.0] : f32[2,2]",
        "%d = dense(%x, %w) {act=relu} : f32[1,2]",
        "output %d",
    )
    assert to_text(parse(text.replace("dense (", "dense("))) == wanted
    assert to_text(parse(wanted.replace("\n", "\r\n"))) == wanted


def test_defaults_are_left_out_and_read_back() -> None:
    made = Graph("g")
    x = edit.add_input(made, "x", Type(F32, (1, 1, 4, 4)))
    attributes: dict[str, Attribute] = {"kernel": (2, 2), "strides": (1, 1), "ceil": 0, "pads": (0, 0, 0, 0)}
    node = edit.add_node(made, "maxpool2d", [x], {"y": Type(F32, (1, 1, 3, 3))}, attributes)
    assert node_text(node) == "%y = maxpool2d(%x) {kernel=[2,2]} : f32[1,1,3,3]"
    edit.set_attribute(node, "strides", EmptyList("ints"))
    assert "strides=ints[]" in node_text(node)


def test_numpy_numbers_print_as_numbers() -> None:
    made = Graph("g")
    x = edit.add_input(made, "x", Type(F32, (1,)))
    node = edit.add_node(made, "clip", [x], {"y": Type(F32, (1,))}, {"min": np.float64(0.5)})
    assert node_text(node) == "%y = clip(%x) {min=0.5} : f32[1]"


# Mistakes


def fails(text: str, line: int, column: int, message: str, arrays: dict[str, np.ndarray] | None = None) -> None:
    with pytest.raises(CompileError) as caught:
        parse(text, arrays, "net.ir")
    shown = text.split("\n")[line - 1]
    assert str(caught.value) == f"net.ir:{line}:{column}: {message}\n{shown}\n{' ' * (column - 1)}^"


START = "input, weight, output, a table or %result = op(...) expected"


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, '"graph" expected'),
        ("hello", 1, 1, '"graph" expected'),
        ("graphs @g {}", 1, 1, '"graph" expected'),
        ("graph g {}", 1, 7, '"@" expected'),
        ("graph @{}", 1, 8, "a graph's name expected"),
        ('graph @"g {}', 1, 8, "a quoted string expected"),
        ("graph @g\n", 2, 1, '"{" expected'),
        ("graph @g {", 1, 11, START),
        ("graph @g {}\n}", 2, 1, "something stands after the graph"),
        ("graph @g {}\n// a comment\n graph", 3, 2, "something stands after the graph"),
    ],
)
def test_what_is_wrong_with_a_text(text: str, line: int, column: int, message: str) -> None:
    fails(text, line, column, message)


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("nonsense", 1, START),
        ("x = relu(%y) : f32[1]", 1, START),
        ("opset =1", 7, "a domain expected"),
        ("opset ai.onnx 1", 15, '"=" expected'),
        ("opset ai.onnx=x", 15, "a version expected"),
        ("meta a = b", 6, "a quoted string expected"),
        ('meta "a" "b"', 10, '"=" expected'),
        ('meta "a" = "b', 12, "a quoted string expected"),
        ("# = [1]", 3, "a table's name expected"),
        ("#t [1]", 4, '"=" expected'),
        ("#t = 1", 6, '"[" expected'),
        ("#t = [1 x]", 9, "a number expected"),
        ("input x : f32[1]", 7, "a value's name expected"),
        ("input %x f32[1]", 10, '":" expected'),
        ("input %x as y : f32[1]", 13, "a quoted string expected"),
        ("input %a : f32[1]", 7, "%a is defined twice"),
        ("weight %a = [1] : i64[1]", 8, "%a is defined twice"),
        ("%a = relu(%a) : f32[1]", 1, "%a is defined twice"),
        ("%y, %y = onnx.Two(%a) : f32[1], f32[1]", 5, "%y is defined twice"),
        ("weight %w : f32[1]", 1, "a weight has data and a tensor's type"),
        ("weight %w = 4b556be : f32[1]", 13, "a hash of 8 digits or a list expected"),
        ("weight %w = 4b556beff : f32[1]", 13, "a hash of 8 digits or a list expected"),
        ("weight %w = [1,] : i64[1]", 16, "a number expected"),
        ("weight %w = [1 2] : i64[2]", 16, '"," expected'),
        ("weight %w = [1] : i64[N]", 8, "data need a tensor's type with every dimension known"),
        ("weight %w = [1] : i64[*]", 8, "data need a tensor's type with every dimension known"),
        ("weight %w = [1] : seq<i64[1]>", 8, "data need a tensor's type with every dimension known"),
        ("input %w = [1] : ?", 7, "data need a tensor's type with every dimension known"),
        ("weight %w = [1,2] : i64[3]", 1, "2 numbers for shape [3]"),
        ("weight %w = [1,2] : i64[]", 1, "2 numbers for shape []"),
        ("weight %w = [1.5] : i64[1]", 1, "the list is no data of type i64[1]"),
        ("weight %w = [nan] : u8[1]", 1, "the list is no data of type u8[1]"),
        ("weight %w = [256] : u8[1]", 1, "the list is no data of type u8[1]"),
        ("weight %w = [-1] : u64[1]", 1, "the list is no data of type u64[1]"),
        ("weight %w = [1] : str[1]", 1, "the list is no data of type str[1]"),
        ("weight %w = [1] : c64[1]", 1, "the list is no data of type c64[1]"),
        ("output y", 8, "a value's name expected"),
        ("output %y", 8, "%y is not defined above"),
        ("output %a as y", 14, "a quoted string expected"),
        ("%y relu(%a) : f32[1]", 4, '"=" expected'),
        ("%y = (%a) : f32[1]", 6, "an op expected"),
        ("%y = relu %a : f32[1]", 11, '"(" expected'),
        ("%y = relu(a) : f32[1]", 11, "a value's name expected"),
        ("%y = relu(%b) : f32[1]", 11, "%b is not defined above"),
        ("%y = relu(%y) : f32[1]", 11, "%y is not defined above"),
        ("%y = add(%a %a) : f32[1]", 13, '"," expected'),
        ("%y = relu(%a) f32[1]", 15, '":" expected'),
        ("%y = relu(%a) {1=2} : f32[1]", 16, "an attribute's name expected"),
        ("%y = relu(%a) {k} : f32[1]", 17, '"=" expected'),
        ("%y = relu(%a) {k=} : f32[1]", 18, "an attribute's value expected"),
        ("%y = relu(%a) {k=1 l=2} : f32[1]", 20, '"," expected'),
        ("%y = relu(%a) {k=[1 2]} : f32[1]", 21, '"," expected'),
        ('%y = relu(%a) {k="x} : f32[1]', 18, "a quoted string expected"),
        ('%y = relu(%a) {k=b"0f0"} : f32[1]', 20, "pairs of hexadecimal digits expected"),
        ('%y = relu(%a) {k=b"xy"} : f32[1]', 20, "pairs of hexadecimal digits expected"),
        ("%y = relu(%a) {k=tensor<x>} : f32[1]", 25, "a hash of 8 digits or a list expected"),
        ("%y = relu(%a) {k=tensor<[1]>} : f32[1]", 28, '":" expected'),
        ("%y = relu(%a) {k=tensor<[1] : i64[1]} : f32[1]", 37, '">" expected'),
        ("%y = relu(%a) {k=tensor<[1] : ?>} : f32[1]", 25, "a tensor's type expected"),
        ("%y = relu(%a) {k=tensor<[1,2] : i64[1]>} : f32[1]", 25, "2 numbers for shape [1]"),
        ("%y = relu(%a) {k=type<f32[1]} : f32[1]", 29, '">" expected'),
        ("%y = relu(%a) {k=graph x} : f32[1]", 24, '"@" expected'),
        ("%y = onnx.If(%a) {k=graph @g { output %y }} : f32[1]", 39, "%y is not defined above"),
        ("%y = onnx.If(%a) {k=graph @g { input %a : f32[1] }} : f32[1]", 38, "%a is defined twice"),
        (
            "%y = onnx.If(%a) {k=graph @g { input %b : f32[1] }, l=graph @h { input %b : f32[1] }} : f32[1]",
            72,
            "%b is defined twice",
        ),
        ("%y, %z = onnx.Two(%a) : f32[1] f32[1]", 32, '"," expected'),
        ("input %x : 1", 12, "a type expected"),
        ("input %x : float[1]", 12, "there is no type float"),
        ("input %x : f32 1", 16, '"[" expected'),
        ("input %x : f32[1 2]", 18, '"," expected'),
        ("input %x : f32[.]", 16, "a dimension expected"),
        ("input %x : f32[*,1]", 17, '"]" expected'),
        ("input %x : seq f32[1]", 16, '"<" expected'),
        ("input %x : map<i64[], f32[1]]", 29, '">" expected'),
        ("input %x : FOO<3>[1]", 12, "\"FOO<3>\": there is no number kind 'FOO'"),
        ("input %x : FIXED<8,B=x>[1]", 12, '"FIXED<8,B=x>" is not a number format'),
        ("input %x : FIXED<8,B=#t@0>[1]", 12, '"FIXED<8,B=#t@0>": there is no table #t'),
        ("input %x : FIXED<99>[1]", 12, "FIXED<99>: its values do not all fit in a 64-bit float"),
    ],
)
def test_what_is_wrong_with_a_line(line: str, column: int, message: str) -> None:
    fails(graph("input %a : f32[1]", line), 3, column + 2, message)


def test_what_is_wrong_with_the_data_beside() -> None:
    data = np.arange(20, dtype=np.float32)
    key = Tensor(data).key
    text = graph(f"weight %w = {key} : f32[20]")
    parse(text, {"w": data})
    fails(text, 2, 3, "%w has no data in the file beside", {"v": data})
    other = Tensor(data + 1).key
    fails(text, 2, 3, f"%w: the data in the file beside have hash {other} and shape [20]", {"w": data + 1})
    other = Tensor(data[1:]).key
    fails(text, 2, 3, f"%w: the data in the file beside have hash {other} and shape [19]", {"w": data[1:]})
    other = Tensor(data.astype(np.float64)).key
    wrong = {"w": data.astype(np.float64)}
    fails(text, 2, 3, f"%w: the data in the file beside have hash {other} and shape [20]", wrong)
    text = graph(f"weight %w = {key} : bf16[20]")
    with pytest.raises(CompileError, match=r"net\.ir:2:3: %w: the data in the file beside are damaged: When changing"):
        parse(text, {"w": np.zeros(7, np.uint8)}, "net.ir")
    text = graph(f"weight %w = {key} : str[2]")
    with pytest.raises(CompileError, match=r"net\.ir:2:3: %w: the data in the file beside are damaged: Expecting"):
        parse(text, {"w": np.frombuffer(b"[1", np.uint8)}, "net.ir")
    text = graph(f"%y = onnx.Foo() {{k=tensor<{key} : f32[20]>}} : ?")
    fails(text, 2, 29, f"%{key} has no data in the file beside", {})


def test_a_type_alone() -> None:
    for text in ("f32[1,N]", "FIXED<8,B={1,2}@0>[2]", "seq<?>", "?", "i64[]"):
        assert str(parse_type(text)) == text
    with pytest.raises(CompileError) as caught:
        parse_type("f32[1] x")
    assert str(caught.value) == "<type>:1:8: something stands after the type\nf32[1] x\n       ^"


@settings(max_examples=500)
@given(st.text("graph@{}input weight%xy=[1,2]:f32<>#tFIXED<8,B=\"\\b'()\n/_.onnx-?*", max_size=60))
def test_any_text_is_a_graph_or_a_compile_error(text: str) -> None:
    for whole in (text, graph("input %x : f32[2]", text)):
        try:
            found = parse(whole)
        except CompileError:
            continue
        printed = to_text(found)
        assert to_text(parse(printed)) == printed


@settings(max_examples=60)
@given(graphs(), st.data())
def test_a_damaged_text_is_a_graph_or_a_compile_error(made: Graph, data: st.DataObject) -> None:
    text = to_text(made)
    for _ in range(5):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 5)))
        put = data.draw(st.text('%x=[]{}()<>"#:,.-1ab _\\\n', max_size=2))
        with suppress(CompileError):
            parse(text[:start] + put + text[end:])


# Files


def test_files_that_hold_no_graph(tmp_path: Path) -> None:
    def refuses(path: Path, message: str, act: Callable[[Path], object] = load) -> None:
        with pytest.raises(CompileError) as caught:
            act(path)
        assert str(caught.value).startswith(f"{path}{message}")

    refuses(tmp_path / "none.ir", ": there is no such file")
    refuses(tmp_path / "none.onnx", ": there is no such file")
    refuses(tmp_path, ": is a folder, not a network")
    made = parse(graph("weight %w = 4b556bef : f32[20]", "output %w"))
    refuses(tmp_path / "net.txt", ": a graph is saved as .onnx or .ir", lambda path: save(made, path))
    path, beside = tmp_path / "net.ir", tmp_path / "net.npz"
    path.write_bytes(b"\xff\xfe")
    refuses(path, ": not a text file")
    path.write_text("graph @g { nothing }")
    refuses(path, f":1:12: {START}")
    path.write_text("graph @g {\n  %y = nothing() : ?\n}\n")
    refuses(path, ": (%y): there is no op nothing")
    save(made, path)
    whole = beside.read_bytes()
    for damage in (b"", b"hello", whole[: len(whole) // 2], whole.replace(b"NUMPY", b"NUMPI")):
        beside.write_bytes(damage)
        with pytest.raises(CompileError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{beside}: not an .npz file, or damaged (")
    np.save(tmp_path / "net.npy", np.zeros(3))
    (tmp_path / "net.npy").rename(beside)
    with pytest.raises(CompileError, match=r"not an \.npz file"):
        load(path)
    beside.unlink()
    weight = load(path).values["w"].tensor
    assert weight is not None
    assert weight.key == "4b556bef" or weight.shape == (20,)


def test_strings_stand_as_json_in_the_npz() -> None:
    made = Graph("g")
    edit.add_weight(made, "s", Tensor(np.array(["a", "é", b"\x00"], object)))
    assert json.loads(store(made)["s"].tobytes()) == ["a", "é", ["00"]]
    edit.add_weight(made, "h", Tensor(np.zeros(3, ml_dtypes.float8_e5m2)))
    assert store(made)["h"].dtype == np.uint8
