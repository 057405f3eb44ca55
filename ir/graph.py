"""Graph, Node and Value: names, types, operands and uses, in an order that is kept topological. No policy.

A Value has one producer (a Node, or none for an input or a weight) and knows its uses. Names are unique in a graph
and all its subgraphs, so that a subgraph may use the values around it by name. Only edit.py changes a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from bitwright.ir.tensor import Tensor
from bitwright.ir.types import Type, ValueType


class EmptyList(tuple[int, ...]):
    """An empty list attribute that remembers what it is a list of: "ints", "floats" or "strings"."""

    kind: str

    def __new__(cls, kind: str) -> EmptyList:
        self = super().__new__(cls, ())
        self.kind = kind
        return self


Attribute: TypeAlias = (
    "int | float | str | bytes | Tensor | Graph | ValueType | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]"
    " | tuple[bytes, ...] | tuple[Tensor, ...] | tuple[Graph, ...] | tuple[ValueType, ...]"
)


class Value:
    """What a node produces, an input, or a weight (a value with data).

    name: unique in its graph; type: format and shape; producer: the node, or None; tensor: a weight's data, or None;
    uses: the (node, operand index) pairs that read it, in no particular order.
    """

    __slots__ = ("name", "producer", "tensor", "type", "uses")

    def __init__(self, name: str, type: ValueType, producer: Node | None = None, tensor: Tensor | None = None) -> None:
        self.name = name
        self.type = type
        self.producer = producer
        self.tensor = tensor
        self.uses: list[tuple[Node, int]] = []

    @property
    def tensor_type(self) -> Type:
        """Its type, where it must be a tensor."""
        assert isinstance(self.type, Type), f"%{self.name} is no tensor: {self.type}"
        return self.type

    def __repr__(self) -> str:
        return f"%{self.name} : {self.type}"


class Node:
    """One operation: op, operands (None where an optional one is left out), results, attributes, and its origin.

    op: `conv2d` and the like for the hardware set (ops.py), `onnx.<Op>` or `onnx.<domain>::<Op>` for any other.
    source: what it was in the file it came from (`Conv "Conv_7"`), for messages; trail: the passes that changed it.
    """

    __slots__ = ("attributes", "graph", "op", "operands", "results", "source", "trail")

    def __init__(self, graph: Graph, op: str, source: str = "") -> None:
        self.graph = graph
        self.op = op
        self.operands: list[Value | None] = []
        self.results: list[Value] = []
        self.attributes: dict[str, Attribute] = {}
        self.source = source
        self.trail: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its first result, by which a node is known."""
        return self.results[0].name if self.results else f"({self.op})"

    @property
    def result(self) -> Value:
        """The result of a node that has one."""
        assert len(self.results) == 1, f"%{self.name} has {len(self.results)} results"
        return self.results[0]

    def operand(self, index: int) -> Value:
        """An operand that must be there."""
        value = self.operands[index]
        assert value is not None, f"%{self.name} lacks operand {index}"
        return value

    def optional(self, index: int) -> Value | None:
        """An operand that may be left out."""
        return self.operands[index] if index < len(self.operands) else None

    def subgraphs(self) -> Iterator[Graph]:
        for attribute in self.attributes.values():
            if isinstance(attribute, Graph):
                yield attribute
            elif isinstance(attribute, tuple):
                yield from (item for item in attribute if isinstance(item, Graph))

    def __repr__(self) -> str:
        return f"%{self.name} = {self.op}(...)"


@dataclass
class Output:
    """A graph's output: the value, and the name the outside knows it by."""

    value: Value
    name: str


@dataclass
class Graph:
    """Inputs, weights, nodes and outputs; `values` finds all but outer ones by name.

    external: the outside's names of inputs whose value has another name; opsets: ONNX operator set versions by domain;
    parent: the node that a subgraph belongs to; metadata: ONNX's metadata_props.
    """

    name: str
    opsets: dict[str, int] = field(default_factory=dict)
    parent: Node | None = None
    inputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    external: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> list[Value]:
        """The values with data that are no inputs, in order of insertion."""
        inputs = set(map(id, self.inputs))
        return [value for value in self.values.values() if value.tensor is not None and id(value) not in inputs]

    def find(self, name: str) -> Value | None:
        """The value of that name here or in a graph around."""
        graph: Graph | None = self
        while graph is not None:
            if name in graph.values:
                return graph.values[name]
            graph = graph.parent.graph if graph.parent else None
        return None

    def root(self) -> Graph:
        graph = self
        while graph.parent is not None:
            graph = graph.parent.graph
        return graph

    def walk(self) -> Iterator[Graph]:
        """This graph and every subgraph, outer before inner."""
        yield self
        for node in self.nodes:
            for inner in node.subgraphs():
                yield from inner.walk()

    def input_name(self, value: Value) -> str:
        """The name the outside knows an input by."""
        return self.external.get(value.name, value.name)

    def is_output(self, value: Value) -> bool:
        return any(output.value is value for output in self.outputs)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __str__(self) -> str:
        from bitwright.ir.text import to_text

        return to_text(self)
