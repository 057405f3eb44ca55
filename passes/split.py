"""split-channels: a layer becomes several, a group of its output channels each, which a concat joins.

Each part is a layer of its own, whose weights have a kind and width of their own. It sums what the whole layer summed,
and rounds it as that did. Numbers are rounded where they are computed: the parts have the format of their concat.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import integer
from bitwright.passes.accumulators import derive
from bitwright.passes.base import Context, Pass
from bitwright.passes.channels import find_channels, layers
from bitwright.passes.reorder import reorder
from bitwright.passes.take import Indices, taken_tensor, taken_type


@dataclass(frozen=True)
class SplitChannels(Pass):
    """A conv2d or dense becomes one for each group of its output channels, and a concat of them that has its name.

    `sizes` are those of the groups; `order` names the channels that come first, the others follow as they are. Where
    channels change places, so do the columns of all layers that read them (reorder.py); the network gives the same.
    Activation and pooling stay with each part. Grouped convolutions are refused. `refit` comes before it.

    - weight %conv.w = [1.0,2.0,3.0] : FIXED<8,B=-2>[3,1,1,1]
    - %conv = conv2d(%x, %conv.w) {act=relu, kernel=[1,1]} : FIXED<8>[N,3,4,4]
    + weight %conv_0.w = [1.0] : FIXED<8,B=-2>[1,1,1,1]
    + weight %conv_1.w = [2.0,3.0] : FIXED<8,B=-2>[2,1,1,1]
    + %conv_0 = conv2d(%x, %conv_0.w) {act=relu, kernel=[1,1]} : FIXED<8>[N,1,4,4]
    + %conv_1 = conv2d(%x, %conv_1.w) {act=relu, kernel=[1,1]} : FIXED<8>[N,2,4,4]
    + %conv = concat(%conv_0, %conv_1) {axis=1} : FIXED<8>[N,3,4,4]
    """

    name: ClassVar[str] = "split-channels"
    layer: str
    sizes: tuple[int, ...]
    order: tuple[int, ...] = ()

    def run(self, graph: Graph, context: Context) -> bool:
        node = self.layer_of(graph)
        count = node.operand(1).tensor_type.static_shape or (0,)
        order = self.whole_order(count[0])
        if order != list(range(count[0])):
            reorder(graph, find_channels(graph), node, order)
        split(graph, node, self.sizes)
        context.reference = None  # it knows the layer by a name that is gone
        return True

    def layer_of(self, graph: Graph) -> Node:
        """The layer to split. Raises CompileError if it is not there, or has no groups that could be apart."""
        named = {node.name: node for node in layers(graph)}
        if self.layer not in named:
            there = ", ".join(named) or "none"
            raise CompileError(f"no layer is named {self.layer!r}", help=f"the layers are {there}")
        reason = why_not(named[self.layer])
        if reason:
            raise CompileError(f"%{self.layer} cannot be split: {reason}")
        return named[self.layer]

    def whole_order(self, count: int) -> list[int]:
        """All channels in their order. Raises CompileError if sizes or order are not of so many channels."""
        if len(self.sizes) < 2 or min(self.sizes) < 1 or sum(self.sizes) != count:
            raise CompileError(
                f"{self.name}{{sizes={'+'.join(map(str, self.sizes))}}}: {self.layer} has {count} output channels",
                help="give the sizes of two groups or more, which add up to that",
            )
        wrong = [i for i in self.order if not 0 <= i < count or self.order.count(i) > 1]
        if wrong:
            raise CompileError(
                f"{self.name}{{order=...}}: {wrong[0]} is given twice, or no channel of {self.layer}",
                help=f"its channels are 0 to {count - 1}",
            )
        return [*self.order, *sorted(set(range(count)) - set(self.order))]


def why_not(node: Node) -> str:
    """Why a layer cannot be split, or ""."""
    bias = node.optional(2)
    if node.op == "conv2d" and integer(node, "groups") > 1:
        return "its groups each read channels of their own, which would have to be split, too"
    if bias is not None and bias.tensor is None:
        return f"its bias %{bias.name} is computed"
    if node.result.tensor_type.shape is None:
        return "the shape of its result is not known"
    given = [value for value in node.operands[1:] if value is not None and any(value is i for i in node.graph.inputs)]
    return f"%{given[0].name} is an input, which may be given" if given else ""


def split(graph: Graph, node: Node, sizes: Sequence[int]) -> list[Node]:
    """Make parts of so many output channels each; the node becomes their concat, under its name."""
    result, old = node.result, [value for value in node.operands[1:] if value is not None]
    axis = 1 if node.op == "conv2d" else len(result.tensor_type.shape or ()) - 1
    parts = []
    for number, (start, stop) in enumerate(itertools.pairwise([0, *np.cumsum(sizes).tolist()])):
        name = edit.unique_name(graph, f"{node.name}_{number}")
        rows = np.arange(start, stop)
        operands = [node.operand(0), *(_rows(graph, node, value, name, rows) for value in old)]
        type = taken_type(result.tensor_type, axis, rows)
        part = edit.add_node(graph, node.op, operands, {name: type}, node.attributes, before=node, source=node.source)
        part.trail = node.trail
        if node.attributes.get("acc"):
            derive(part)
        parts.append(part)
    edit.set_op(node, "concat", {"axis": axis})
    edit.set_operands(node, [part.result for part in parts])
    for value in old:
        if not value.uses and not graph.is_output(value):
            edit.erase_weight(graph, value)
    return parts


def _rows(graph: Graph, node: Node, value: Value, part: str, rows: Indices) -> Value:
    """A part's own rows of a weight; a bias of one number for all channels is every part's."""
    weight = node.operand(1).tensor
    assert weight is not None
    assert value.tensor is not None
    axis = 0 if value is node.operand(1) else len(value.tensor.shape) - 1
    if axis < 0 or value.tensor.shape[axis] != weight.shape[0]:
        return value
    own = value.name.startswith(node.name + ".")
    name = part + value.name[len(node.name) :] if own else f"{value.name}_{part.rpartition('_')[2]}"
    made, type = taken_tensor(value.tensor, axis, rows), taken_type(value.tensor_type, axis, rows)
    return edit.add_weight(graph, edit.unique_name(graph, name), made, type)
