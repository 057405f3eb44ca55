"""Graph -> text: one thing a line, names as keys, attributes sorted with defaults left out, the type at the end.

    graph @lenet {
      opset ai.onnx=17
      #conv1.w = [
        -1 -2
      ]
      input %x as "image:0" : f32[N,1,28,28]          as: the outside's name where it differs
      weight %conv1.w = 4b556bef : FIXED<8,B=#conv1.w@0>[16,1,5,5]
      weight %shape = [0,-1] : i64[2]                  small integers stand in the text, other data as their hash
      %conv1 = conv2d(%x, %conv1.w, _) {act=relu, kernel=[5,5]} : f32[N,16,24,24]
      output %conv1 as "y"
    }

parse.py reads it back: parse(to_text(g)) is g, and to_text(parse(t)) is t.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from bitwright.ir.formats.text import Table
from bitwright.ir.graph import Attribute, EmptyList, Graph, Node, Value
from bitwright.ir.ops import OPS
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import ContainerType, Type, UnknownType, ValueType, quote, type_tables

INLINE_INTEGERS = 16
INLINE_FLOATS = 4
TABLE_ROW = 16

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")
_RESERVED = {"inf", "nan", "graph", "tensor", "type", "ints", "floats", "strings", "b"}


def to_text(graph: Graph) -> str:
    """The text of a graph, ending in a newline."""
    return "\n".join(_graph_lines(graph, "graph")) + "\n"


def node_text(node: Node) -> str:
    """The line of one node (several lines if it has subgraphs)."""
    return "\n".join(_node_lines(node))


def value_text(value: Value) -> str:
    """The line of one input or weight, without its leading word."""
    type_text = value.type.text(value.name if type_tables(value.type) else None)
    data = "" if value.tensor is None else " = " + tensor_text(value.tensor)
    return f"%{value.name}{data} : {type_text}"


def tensor_text(tensor: Tensor) -> str:
    """The data themselves if they are few, else their hash."""
    kind = tensor.dtype.kind
    limit = INLINE_INTEGERS if kind in "iub" else INLINE_FLOATS if tensor.dtype in (np.float32, np.float64) else -1
    if tensor.size > limit:
        return tensor.key
    return "[" + ",".join(_element(item) for item in tensor.data.reshape(-1)) + "]"


def attributes_text(node: Node) -> list[str]:
    """`name=value` of every attribute that is not its default, sorted by name; the lines of subgraphs within."""
    defaults = OPS[node.op].attributes if node.op in OPS else {}
    return [
        f"{name}={attribute_text(value)}"
        for name, value in sorted(node.attributes.items())
        if not (name in defaults and defaults[name] == value and not isinstance(value, EmptyList))
    ]


def attribute_text(value: Attribute) -> str:
    """One attribute's value."""
    if isinstance(value, EmptyList):
        return value.kind + "[]"
    if isinstance(value, tuple):
        return "[" + ",".join(attribute_text(item) for item in value) + "]"
    if isinstance(value, bool | int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        return value if _IDENTIFIER.match(value) and value not in _RESERVED else quote(value)
    if isinstance(value, bytes):
        return f'b"{value.hex()}"'
    if isinstance(value, Tensor):
        from bitwright.ir.edit import type_of

        return f"tensor<{tensor_text(value)} : {type_of(value)}>"
    if isinstance(value, Graph):
        return "\n".join(_graph_lines(value, "graph"))
    assert isinstance(value, Type | ContainerType | UnknownType)
    return f"type<{value}>"


def table_lines(name: str, table: Table) -> list[str]:
    """A list a channel, sixteen a row."""
    items = [str(int(v)) if v == int(v) else repr(v) for v in table]
    rows = [" ".join(items[i : i + TABLE_ROW]) for i in range(0, len(items), TABLE_ROW)]
    return [f"#{name} = [", *("  " + row for row in rows), "]"]


def _graph_lines(graph: Graph, word: str) -> list[str]:
    lines = [f"opset {domain or 'ai.onnx'}={version}" for domain, version in sorted(graph.opsets.items())]
    lines += [f"meta {quote(key)} = {quote(value)}" for key, value in sorted(graph.metadata.items())]
    results = [result for node in graph.nodes for result in node.results]
    for value in (*graph.inputs, *graph.weights, *results):
        for suffix, table in type_tables(value.type).items():
            lines += table_lines(value.name + suffix, table)
    for value in graph.inputs:
        external = graph.external.get(value.name)
        line = "input " + value_text(value)
        lines.append(line if external is None else line.replace(" : ", f" as {quote(external)} : ", 1))
    lines += ["weight " + value_text(value) for value in graph.weights]
    for node in graph.nodes:
        lines += _node_lines(node)
    for output in graph.outputs:
        external = "" if output.name == output.value.name else f" as {quote(output.name)}"
        lines.append(f"output %{output.value.name}{external}")
    name = graph.name if re.fullmatch(r"[\w.$-]+", graph.name) else quote(graph.name)
    return [f"{word} @{name} {{", *("  " + line for line in _split_lines(lines)), "}"]


def _node_lines(node: Node) -> list[str]:
    results = ", ".join(f"%{result.name}" for result in node.results)
    operands = ", ".join("_" if value is None else f"%{value.name}" for value in node.operands)
    attributes = attributes_text(node)
    block = f" {{{', '.join(attributes)}}}" if attributes else ""
    types = ", ".join(_result_type(result) for result in node.results)
    head = f"{results} = " if node.results else ""
    tail = f" : {types}" if node.results else ""
    return f"{head}{node.op}({operands}){block}{tail}".split("\n")


def _result_type(value: Value) -> str:
    type: ValueType = value.type
    return type.text(value.name if type_tables(type) else None)


def _split_lines(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from line.split("\n")


def _element(item: np.generic) -> str:
    if item.dtype.kind in "iub":
        return str(int(item))
    text = str(item)
    exact = item.dtype.type(text) == item or np.isnan(item)
    return text if exact else repr(float(item))
