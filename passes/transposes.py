"""cancel-transposes: NHWC models become clean NCHW ones.

Transposes are moved towards the outputs, through ops that do not mind the order of axes, until they meet their inverse,
or a flatten before a dense, whose weights then take the other order. Only what makes an image of an input with channels
last goes the other way, to the input, where it needs no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, Graph, Node
from bitwright.ir.ops import integer, integers
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import Type
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import bypass, constant, is_plain, only_reader

UNARY = ("relu", "clip", "hardswish", "hardsigmoid", "quantize", "onnx.Sigmoid", "onnx.LeakyRelu", "onnx.Tanh")
BINARY = ("add", "mul")
CHANNELS_FIRST = (0, 3, 1, 2)


@dataclass(frozen=True)
class CancelTransposes(Pass):
    """Move transposes down until they cancel.

    - %t1 = transpose(%conv1) {perm=[0,2,3,1]} : f32[1,24,24,6]
    - %r = relu(%t1) : f32[1,24,24,6]
    - %t2 = transpose(%r) {perm=[0,3,1,2]} : f32[1,6,24,24]
    + %r = relu(%conv1) : f32[1,6,24,24]
    """

    name: ClassVar[str] = "cancel-transposes"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        progress = True
        while progress:
            progress = any(_step(graph, node) for node in list(graph.nodes) if node.op == "transpose")
            changed |= progress
        if changed:
            edit.erase_unread_weights(graph)
        return changed


def _step(graph: Graph, node: Node) -> bool:
    """One move of one transpose; whether there was one."""
    if not any(other is node for other in graph.nodes) or not _only_moves(node):
        return False
    perm = integers(node, "perm")
    if list(perm) == sorted(perm):
        bypass(graph, node)
        return True
    before = node.operand(0).producer
    if _only_moves(before):
        inner = integers(before, "perm")
        edit.set_attribute(node, "perm", tuple(inner[i] for i in perm))
        edit.set_operand(node, 0, before.operand(0))
        if not before.result.uses and not graph.is_output(before.result):
            edit.erase_node(before)
        return True
    if _rises(graph, node, perm):
        return _raise(graph, node, perm)
    reader = only_reader(graph, node.result)
    if reader is None:
        return False
    if before is None and perm == CHANNELS_FIRST and _stream(graph, reader, len(perm)) is not None:
        return False
    if reader.op in (*UNARY, "pad"):
        return _sink(graph, reader, [node], perm)
    if reader.op in (*BINARY, "concat"):
        return _sink_joined(graph, reader, perm)
    return reader.op in ("flatten", "reshape") and _into_dense(graph, node, reader, perm)


def _only_moves(node: Node | None) -> TypeGuard[Node]:
    """Whether a node is a transpose that rounds nothing: with the format of its operand."""
    if node is None or node.op != "transpose":
        return False
    return is_plain(node.result) or node.result.tensor_type.format == node.operand(0).tensor_type.format


def _stream(graph: Graph, node: Node, rank: int) -> int | None:
    """Which operand flows through a pad or an op on each number, if all others are constants of at most that rank."""
    constants = [constant(graph, operand) for operand in node.operands]
    flowing = [index for index, data in enumerate(constants) if data is None]
    fit = all(data is None or data.ndim <= rank for data in constants)
    return flowing[0] if node.op in (*UNARY, *BINARY, "pad") and len(flowing) == 1 and fit else None


def _rises(graph: Graph, node: Node, perm: tuple[int, ...]) -> bool:
    """Whether only ops on each number are between a transpose and an input, of which it makes an image, or between it
    and a transpose of an input, with which it does or cancels.
    """
    value = node.operand(0)
    while (point := value.producer) is not None and only_reader(graph, value) is not None:
        index = _stream(graph, point, len(perm))
        if index is None:
            break
        value = point.operand(index)
    if value is node.operand(0):
        return False
    first = value.producer
    if _only_moves(first):
        value, perm = first.operand(0), tuple(integers(first, "perm")[i] for i in perm)
    return value.producer is None and (perm == CHANNELS_FIRST or list(perm) == sorted(perm))


def _raise(graph: Graph, node: Node, perm: tuple[int, ...]) -> bool:
    """transpose(point(x)) -> point(transpose(x)): both keep their names."""
    point = node.operand(0).producer
    assert point is not None
    index = _stream(graph, point, len(perm))
    assert index is not None
    x = point.operand(index)
    shape, name = x.tensor_type.shape, node.name
    turned = x.tensor_type.with_shape(None if shape is None else tuple(shape[i] for i in perm))
    edit.replace_uses(node.result, point.result, graph)
    edit.set_type(point.result, point.result.tensor_type.with_shape(node.result.tensor_type.shape))
    edit.erase_node(node)
    made = edit.add_node(graph, "transpose", [x], {name: turned}, {"perm": perm}, before=point, source=node.source)
    edit.set_operand(point, index, made.result)
    _turn(graph, point, perm)
    return True


def _turn(graph: Graph, node: Node, order: Sequence[int]) -> None:
    """Give the constants and pads of an op another order of axes: its axis i is order[i] of before."""
    rank = len(order)
    if node.op == "pad":
        pads = integers(node, "pads")
        edit.set_attribute(node, "pads", tuple(pads[i + half] for half in (0, rank) for i in order))
    for index, operand in enumerate(node.operands):
        data = constant(graph, operand)
        if data is not None:
            turned = data.reshape([1] * (rank - data.ndim) + list(data.shape)).transpose(order)
            edit.give_weight(node, index, Tensor(np.ascontiguousarray(turned)), node.operand(index).name)


def _sink(graph: Graph, reader: Node, transposes: list[Node], perm: tuple[int, ...]) -> bool:
    """reader(transpose(x)) -> transpose(reader(x)): the reader keeps its name, the transpose comes after it."""
    for index, operand in enumerate(reader.operands):
        if operand is not None and operand.producer in transposes:
            edit.set_operand(reader, index, operand.producer.operand(0))
    inverse = [int(i) for i in np.argsort(perm)]
    _turn(graph, reader, inverse)
    type = reader.result.tensor_type
    shape = type.shape
    straight = None if shape is None else tuple(shape[i] for i in inverse)
    name = edit.unique_name(graph, reader.name + ".t")
    after = next((n for n in graph.nodes[_index(graph, reader) + 1 :]), None)
    attributes: dict[str, Attribute] = {"perm": perm}
    turned = edit.add_node(graph, "transpose", [], {name: type}, attributes, before=after, source=reader.source)
    edit.replace_uses(reader.result, turned.result, graph)
    edit.set_operands(turned, [reader.result])
    edit.set_type(reader.result, type.with_shape(straight))
    for node in {id(t): t for t in transposes}.values():
        if not node.result.uses and not graph.is_output(node.result):
            edit.erase_node(node)
    return True


def _sink_joined(graph: Graph, reader: Node, perm: tuple[int, ...]) -> bool:
    """add, mul or concat whose every operand is a transpose of the same order, or (add, mul) a constant."""
    transposes: list[Node] = []
    for operand in reader.operands:
        made, data = operand.producer if operand is not None else None, constant(graph, operand)
        if _only_moves(made) and integers(made, "perm") == perm:
            transposes.append(made)
        elif data is None or data.ndim > len(perm) or reader.op not in BINARY:
            return False
    if reader.op == "concat":
        edit.set_attribute(reader, "axis", perm[integer(reader, "axis") % len(perm)])
    return _sink(graph, reader, transposes, perm)


def _into_dense(graph: Graph, node: Node, flat: Node, perm: tuple[int, ...]) -> bool:
    """dense(flatten(transpose(x)), w) -> dense(flatten(x), w with its columns in the other order)."""
    dense = only_reader(graph, flat.result)
    before, after = node.operand(0).type, flat.result.type
    if dense is None or dense.op != "dense" or dense.operand(0) is not flat.result or perm[0] != 0:
        return False
    if not isinstance(before, Type) or not isinstance(after, Type) or before.shape is None or after.shape is None:
        return False
    sizes = [dim for dim in before.shape[1:] if isinstance(dim, int)]
    weight, data = dense.operand(1), constant(graph, dense.operand(1))
    whole = len(sizes) == len(before.shape) - 1 and after.shape[1:] == (int(np.prod(sizes)),)
    if not whole or data is None or not is_plain(weight):
        return False
    seen = [before.shape[i] for i in perm[1:]]
    columns = data.reshape(-1, *[dim for dim in seen if isinstance(dim, int)])
    order = [0, *(int(i) + 1 for i in np.argsort([p - 1 for p in perm[1:]]))]
    ordered = np.ascontiguousarray(columns.transpose(order)).reshape(data.shape)
    edit.give_weight(dense, 1, Tensor(ordered), weight.name)
    bypass(graph, node)
    return True


def _index(graph: Graph, node: Node) -> int:
    return next(i for i, other in enumerate(graph.nodes) if other is node)
