"""Text -> graph, with the line and column of every mistake. The form is text.py's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Format
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.formats.text import Table
from bitwright.ir.graph import Attribute, EmptyList, Graph, Node, Value
from bitwright.ir.tensor import HASH_DIGITS, Array, Tensor
from bitwright.ir.types import DTYPES, UNKNOWN, ContainerType, Dim, Native, Shape, Type, ValueType

Store = Mapping[str, Array]

_BLANK = re.compile(r"(?:\s+|//[^\n]*)*")
_NAME = re.compile(r"%([\w.$]+)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_WORD_GOES_ON = re.compile(r"\w")
_OP = re.compile(r"[A-Za-z_][\w.\-]*(?:::\w+)?")
_CALL = re.compile(_OP.pattern + r"\(")
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_REAL = re.compile(r"-?(?:inf\b|nan\b|(?:\d+\.\d*|\d+(?=[eE]))(?:[eE][+-]?\d+)?)")
_INTEGER = re.compile(r"-?\d+")
_BYTES = re.compile(r'((?:[0-9a-f]{2})*)"')
_KEY = re.compile(rf"[0-9a-f]{{{HASH_DIGITS}}}\b")
_FORMAT = re.compile(r"[A-Z]+<[^>]*>")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse(text: str, store: Store | None = None, file: str = "<text>") -> Graph:
    """The graph that `text` describes.

    `store` has the weights' arrays by name (and tensor attributes' by hash); without it, data are made from the
    hashes. Raises CompileError with file, line, column and the line itself.
    """
    cursor = _Parser(text, store, file)
    cursor.expect("graph")
    graph = cursor.graph(None)
    cursor.skip()
    if cursor.at < len(text):
        cursor.fail("something stands after the graph")
    return graph


def parse_type(text: str) -> ValueType:
    """The type that `text` describes, formats a channel in the type itself."""
    cursor = _Parser(text, None, "<type>")
    type = cursor.type()
    cursor.skip()
    if cursor.at < len(text):
        cursor.fail("something stands after the type")
    return type


class _Parser:
    """A position in a text, and a method a thing of the grammar."""

    def __init__(self, text: str, store: Store | None, file: str) -> None:
        self.text = text
        self.store = store
        self.file = file
        self.at = 0
        self.tables: dict[str, Table] = {}
        self.names: set[str] = set()

    # what stands at the position

    def skip(self) -> None:
        match = _BLANK.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.skip()
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def need(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        return self.take(pattern) or self.fail(f"{what} expected")

    def accept(self, token: str) -> bool:
        self.skip()
        end = self.at + len(token)
        if not self.text.startswith(token, self.at) or (token[-1].isalpha() and _WORD_GOES_ON.match(self.text, end)):
            return False
        self.at = end
        return True

    def expect(self, token: str) -> None:
        if not self.accept(token):
            self.fail(f'"{token}" expected')

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        at = min(self.at if at is None else at, len(self.text))
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        line = self.text[start : end if end >= 0 else len(self.text)]
        number, column = self.text.count("\n", 0, at) + 1, at - start + 1
        raise CompileError(f"{self.file}:{number}:{column}: {message}\n{line}\n{' ' * (column - 1)}^")

    # the grammar

    def graph(self, parent: Node | None) -> Graph:
        self.expect("@")
        name = self.string() if self.peek('"') else self.need(re.compile(r"[\w.$-]+"), "a graph's name")[0]
        graph = Graph(name, parent=parent)
        self.expect("{")
        while not self.accept("}"):
            self.line(graph)
        return graph

    def line(self, graph: Graph) -> None:
        self.skip()
        start = self.at
        if self.accept("opset"):
            domain = self.need(re.compile(r"[\w.\-]+"), "a domain")[0]
            self.expect("=")
            graph.opsets["" if domain == "ai.onnx" else domain] = int(self.need(_INTEGER, "a version")[0])
        elif self.accept("meta"):
            key = self.string()
            self.expect("=")
            graph.metadata[key] = self.string()
        elif self.accept("#"):
            self.table()
        elif self.accept("input"):
            name, tensor, external, type = self.declaration()
            edit.add_input(graph, name, type, external, self.weight(name, tensor, type, start))
        elif self.accept("weight"):
            name, data, _, type = self.declaration()
            weight = self.weight(name, data, type, start)
            if weight is None or not isinstance(type, Type):
                self.fail("a weight has data and a tensor's type", start)
            edit.add_weight(graph, name, weight, type)
        elif self.accept("output"):
            value = self.value(graph)
            edit.add_output(graph, value, self.string() if self.accept("as") else None)
        else:
            self.node(graph)

    def table(self) -> None:
        name = self.need(re.compile(r"[\w.$:]+"), "a table's name")[0]
        self.expect("=")
        self.expect("[")
        items: list[float] = []
        while not self.accept("]"):
            number = self.take(_REAL) or self.need(_INTEGER, "a number")
            items.append(float(number[0]))
        self.tables[name] = tuple(items)

    def declaration(self) -> tuple[str, str | list[str] | None, str | None, ValueType]:
        self.skip()
        start = self.at
        name = self.new_name()
        data: str | list[str] | None = None
        if self.accept("="):
            data = self.data()
        external = self.string() if self.accept("as") else None
        self.expect(":")
        type = self.type()
        if data is not None and not (isinstance(type, Type) and type.static_shape is not None):
            self.fail("data need a tensor's type with every dimension known", start)
        return name, data, external, type

    def data(self) -> str | list[str]:
        if not self.accept("["):
            return self.need(_KEY, f"a hash of {HASH_DIGITS} digits or a list")[0]
        items: list[str] = []
        while not self.accept("]"):
            if items:
                self.expect(",")
            items.append((self.take(_REAL) or self.need(_INTEGER, "a number"))[0])
        return items

    def weight(self, name: str, data: str | list[str] | None, type: ValueType, start: int) -> Tensor | None:
        if data is None or not isinstance(type, Type):
            return None
        shape, dtype = type.static_shape or (), type.dtype
        if isinstance(data, list):
            if len(data) != int(np.prod(shape, dtype=np.int64)):
                self.fail(f"{len(data)} numbers for shape {list(shape)}", start)
            return Tensor(self.numbers(data, type, start).reshape(shape))
        if self.store is None:
            return Tensor.from_key(data, dtype, shape)
        if name not in self.store:
            self.fail(f"%{name} has no data in the file beside", start)
        try:
            tensor = Tensor(restore(self.store[name], dtype, shape))
        except ValueError as error:
            self.fail(f"%{name}: the data in the file beside are damaged: {error}", start)
        if tensor.shape != shape or tensor.key != data:
            found = f"hash {tensor.key} and shape {list(tensor.shape)}"
            self.fail(f"%{name}: the data in the file beside have {found}", start)
        return tensor

    def numbers(self, items: list[str], type: Type, start: int) -> Array:
        """A list of numbers as an array, if every one is an element of that type."""
        try:
            if type.dtype.kind in "fV":
                return np.array([float(item) for item in items]).astype(type.dtype)
            if type.dtype.kind in "iub":
                return np.array([int(item) for item in items], type.dtype)
        except (ValueError, OverflowError):
            pass
        self.fail(f"the list is no data of type {type}", start)

    def node(self, graph: Graph) -> None:
        names: list[str] = []
        self.skip()
        if not _CALL.match(self.text, self.at):
            if not self.peek("%"):
                self.fail("input, weight, output, a table or %result = op(...) expected")
            names.append(self.new_name())
            while self.accept(","):
                names.append(self.new_name())
            self.expect("=")
        op = self.need(_OP, "an op")[0]
        self.expect("(")
        operands: list[Value | None] = []
        while not self.accept(")"):
            if operands:
                self.expect(",")
            operands.append(None if self.accept("_") else self.value(graph))
        node = edit.add_node(graph, op, operands, {})
        if self.accept("{"):
            first = True
            while not self.accept("}"):
                if not first:
                    self.expect(",")
                first = False
                key = self.need(_WORD, "an attribute's name")[0]
                self.expect("=")
                edit.set_attribute(node, key, self.attribute(node))
        for i, name in enumerate(names):
            self.expect("," if i else ":")
            edit.add_result(node, name, self.type())

    def attribute(self, node: Node) -> Attribute:
        for kind in ("ints", "floats", "strings"):
            if self.accept(kind + "[]"):
                return EmptyList(kind)
        if self.accept("["):
            items: list[Any] = []
            while not self.accept("]"):
                if items:
                    self.expect(",")
                items.append(self.attribute(node))
            return tuple(items)
        if self.accept('b"'):
            return bytes.fromhex(self.need(_BYTES, "pairs of hexadecimal digits")[1])
        if self.peek('"'):
            return self.string()
        if self.accept("tensor<"):
            return self.tensor()
        if self.accept("type<"):
            type = self.type()
            self.expect(">")
            return type
        if self.accept("graph"):
            return self.graph(node)
        real = self.take(_REAL)
        if real:
            return float(real[0])
        number = self.take(_INTEGER)
        return int(number[0]) if number else self.need(_WORD, "an attribute's value")[0]

    def tensor(self) -> Tensor:
        start = self.at
        data = self.data()
        self.expect(":")
        type = self.type()
        self.expect(">")
        tensor = self.weight(data if isinstance(data, str) else "", data, type, start)
        return tensor or self.fail("a tensor's type expected", start)

    def value(self, graph: Graph) -> Value:
        self.skip()
        start = self.at
        name = self.need(_NAME, "a value's name")[1]
        return graph.find(name) or self.fail(f"%{name} is not defined above", start)

    def new_name(self) -> str:
        self.skip()
        start = self.at
        name = self.need(_NAME, "a value's name")[1]
        if name in self.names:
            self.fail(f"%{name} is defined twice", start)
        self.names.add(name)
        return name

    def type(self) -> ValueType:
        self.skip()
        start = self.at
        if self.accept("?"):
            return UNKNOWN
        number = self.take(_FORMAT)
        if number:
            return Type(self.format(number[0], start), self.shape())
        word = self.need(_WORD, "a type")[0]
        if word in ("seq", "optional", "sparse", "map"):
            self.expect("<")
            elements = [self.type()]
            while self.accept(","):
                elements.append(self.type())
            self.expect(">")
            return ContainerType(word, tuple(elements))
        if word not in DTYPES:
            self.fail(f"there is no type {word}", start)
        return Type(Native(word), self.shape())

    def format(self, text: str, start: int) -> Format:
        try:
            return parse_format(text, self.tables)
        except CompileError as error:
            self.fail(error.message, start)

    def shape(self) -> Shape | None:
        self.expect("[")
        if self.accept("*"):
            self.expect("]")
            return None
        dims: list[Dim] = []
        while not self.accept("]"):
            if dims:
                self.expect(",")
            number = self.take(_INTEGER)
            if number:
                dims.append(int(number[0]))
            elif self.accept("?"):
                dims.append(None)
            else:
                dims.append(self.string() if self.peek('"') else self.need(_WORD, "a dimension")[0])
        return tuple(dims)

    def peek(self, token: str) -> bool:
        self.skip()
        return self.text.startswith(token, self.at)

    def string(self) -> str:
        body = self.need(_STRING, "a quoted string")[1]
        return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), body)


def restore(array: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """An array as it was before files.py brought it into a form that .npz holds."""
    if dtype.kind == "O":
        items = [bytes.fromhex(item[0]) if isinstance(item, list) else item for item in json.loads(array.tobytes())]
        return np.array(items, object).reshape(shape)
    if array.dtype != dtype and array.dtype == np.uint8:
        return array.view(dtype).reshape(shape)
    return array
