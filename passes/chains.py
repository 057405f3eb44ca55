"""Producer chains: the questions a fusing pass asks before it merges a node into the one before it."""

from __future__ import annotations

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import integers, string
from bitwright.ir.tensor import Array
from bitwright.ir.types import F32, Type


def only_reader(graph: Graph, value: Value) -> Node | None:
    """The one node that reads `value`, if nothing else does, no output shows it and no subgraph is involved."""
    readers = {id(node): node for node, _ in value.uses}
    if len(value.uses) != 1 or graph.is_output(value):
        return None
    node = next(iter(readers.values()))
    return node if node.graph is graph else None


def producer(value: Value | None, *ops: str) -> Node | None:
    """The node that makes `value`, if its op is one of `ops`."""
    node = value.producer if value is not None else None
    return node if node is not None and node.op in ops else None


def constant(graph: Graph, value: Value | None) -> Array | None:
    """A weight's data, or None; an input with a default value is no weight, because a caller may give it another."""
    if value is None or value.tensor is None or any(value is item for item in graph.inputs):
        return None
    return value.tensor.data


def is_bare_sum(node: Node) -> bool:
    """Whether a node is a conv2d or dense into which nothing is fused."""
    return node.op in ("conv2d", "dense") and string(node, "act") == "none" and not integers(node, "pool")


def is_plain(value: Value) -> bool:
    """Whether no number format was chosen for it, so that a rounding cannot be lost by fusing."""
    return isinstance(value.type, Type) and value.type.is_native


def is_float(*values: Value) -> bool:
    """Whether all of them are float32, without a number format."""
    return all(isinstance(value.type, Type) and value.type.format == F32 for value in values)


def bypass(graph: Graph, node: Node) -> None:
    """Remove a node with one result: its readers read its first operand, outputs keep their outside names."""
    edit.replace_uses(node.result, node.operand(0), graph)
    edit.erase_node(node)


def absorb(graph: Graph, into: Node, node: Node) -> None:
    """Remove `node`, whose work `into` now does: the value that `into` makes takes the node's type and its readers."""
    edit.set_type(into.result, node.result.type)
    edit.replace_uses(node.result, into.result, graph)
    edit.erase_node(node)
