"""cancel-transposes: NHWC models become clean NCHW ones.

Transposes are moved towards the outputs, through ops that do not mind the order of axes, until they meet their inverse,
or a flatten before a dense, whose weights then take the other order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, Graph, Node
from bitwright.ir.ops import integer, integers
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import Type
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import bypass, constant, is_plain, only_reader

UNARY = ("relu", "clip", "hardswish", "hardsigmoid", "quantize", "onnx.Sigmoid", "onnx.LeakyRelu", "onnx.Tanh")
BINARY = ("add", "mul")


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
    reader = only_reader(graph, node.result)
    if reader is None:
        return False
    if reader.op in UNARY:
        return _sink(graph, reader, [node], perm)
    if reader.op in (*BINARY, "concat"):
        return _sink_joined(graph, reader, perm)
    if reader.op == "pad":
        pads, rank = integers(reader, "pads"), len(perm)
        inverse = np.argsort(perm)
        edit.set_attribute(reader, "pads", tuple(pads[int(i) + half] for half in (0, rank) for i in inverse))
        return _sink(graph, reader, [node], perm)
    return reader.op in ("flatten", "reshape") and _into_dense(graph, node, reader, perm)


def _only_moves(node: Node | None) -> TypeGuard[Node]:
    """Whether a node is a transpose that rounds nothing: with the format of its operand."""
    if node is None or node.op != "transpose":
        return False
    return is_plain(node.result) or node.result.tensor_type.format == node.operand(0).tensor_type.format


def _sink(graph: Graph, reader: Node, transposes: list[Node], perm: tuple[int, ...]) -> bool:
    """reader(transpose(x)) -> transpose(reader(x)): the reader keeps its name, the transpose comes after it."""
    for index, operand in enumerate(reader.operands):
        if operand is not None and operand.producer in transposes:
            edit.set_operand(reader, index, operand.producer.operand(0))
    type = reader.result.tensor_type
    shape = type.shape
    straight = None if shape is None else tuple(shape[int(i)] for i in np.argsort(perm))
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
    constants: list[tuple[int, Array]] = []
    for index, operand in enumerate(reader.operands):
        made, data = operand.producer if operand is not None else None, constant(graph, operand)
        if _only_moves(made) and integers(made, "perm") == perm:
            transposes.append(made)
        elif data is not None and data.ndim <= len(perm) and reader.op in BINARY:
            constants.append((index, data))
        else:
            return False
    inverse = [int(i) for i in np.argsort(perm)]
    for index, data in constants:
        turned = data.reshape([1] * (len(perm) - data.ndim) + list(data.shape)).transpose(inverse)
        edit.give_weight(reader, index, Tensor(np.ascontiguousarray(turned)), reader.operand(index).name)
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
