"""widen-lines: layers of one dimension are layers of images of one row.

    [N,C,L] -> [N,C,1,L]        kernel (k) -> (1,k), pads (a,b) -> (0,a,0,b), weights [M,C,k] -> [M,C,1,k]

Convolutions, poolings and normalisations of lines (audio, sensors, text) so become those of images, between reshapes.
A reshape of an image of one row to a line moves behind what works on each number, where it meets the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.onnx.lower import lower
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import Type
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import constant, is_float, is_plain, only_reader, producer

LAYERS = (
    *("onnx.Conv", "onnx.MaxPool", "onnx.AveragePool", "onnx.GlobalMaxPool", "onnx.GlobalAveragePool"),
    "batchnorm",
)
POINTS = ("relu", "clip", "hardsigmoid", "hardswish", "add", "mul", "onnx.LeakyRelu", "onnx.PRelu")
WINDOW = ("kernel_shape", "strides", "dilations", "pads")
TO_IMAGE, TO_LINE = (0, 0, 1, -1), (0, 0, -1)


@dataclass(frozen=True)
class WidenLines(Pass):
    """Convolutions and poolings of one dimension become those of two, on images of one row.

    - %c = onnx.Conv(%x, %w) {kernel_shape=[5], pads=[2,2]} : f32[N,8,128]
    + %c.in = reshape(%x) {shape=[0,0,1,-1]} : f32[N,2,1,128]
    + %c = conv2d(%c.in, %w) {kernel=[1,5], pads=[0,2,0,2]} : f32[N,8,1,128]
    + %c.line = reshape(%c) {shape=[0,0,-1]} : f32[N,8,128]
    """

    name: ClassVar[str] = "widen-lines"

    def run(self, graph: Graph, context: Context) -> bool:
        widened = [node for node in list(graph.nodes) if node.op in LAYERS and _widen(graph, node)]
        if widened:
            lower(graph)
        sunk = [node for node in list(graph.nodes) if node.op in POINTS and _sink(graph, node)]
        return bool(widened or sunk)


def _widen(graph: Graph, node: Node) -> bool:
    x, made = node.operand(0), node.results[0]
    weights = constant(graph, node.operand(1)) if node.op == "onnx.Conv" else None
    if len(node.results) > 1 or not is_float(x, made) or not is_plain(made):
        return False
    if any(len(value.tensor_type.shape or ()) != 3 for value in (x, made)):
        return False
    if node.op == "onnx.Conv":
        if weights is None or weights.ndim != 3:
            return False
        edit.give_weight(node, 1, Tensor(weights[:, :, None]), node.operand(1).name)
    name = edit.unique_name(graph, f"{node.name}.in")
    image = edit.add_node(
        graph, "reshape", [x], {name: _of_one_row(x)}, {"shape": TO_IMAGE}, before=node, source=node.source
    )
    edit.set_operands(node, [image.result, *node.operands[1:]])
    edit.set_op(node, node.op, {key: _widened(key, given) for key, given in node.attributes.items()})
    _to_line(graph, node)
    return True


def _widened(key: str, given: Attribute) -> Attribute:
    """An attribute of a window over rows of one line."""
    if key not in WINDOW or not isinstance(given, tuple):
        return given
    return (0, given[0], 0, given[1]) if key == "pads" else (1, *given)


def _of_one_row(value: Value) -> Type:
    shape = value.tensor_type.shape or ()
    return replace(value.tensor_type, shape=(*shape[:2], 1, *shape[2:]))


def _to_line(graph: Graph, node: Node) -> None:
    """Let a node give an image of one row, and a reshape behind it the line, to all its readers."""
    result, line = node.result, node.result.tensor_type
    edit.set_type(result, _of_one_row(result))
    place = graph.nodes.index(node) + 1
    behind = graph.nodes[place] if place < len(graph.nodes) else None
    name = edit.unique_name(graph, f"{node.name}.line")
    reshape = edit.add_node(graph, "reshape", [result], {name: line}, {"shape": TO_LINE}, before=behind)
    edit.replace_uses(result, reshape.result, graph)
    edit.set_operands(reshape, [result])


def _sink(graph: Graph, node: Node) -> bool:
    """Let a node work on images of one row, if all that it reads are lines made of such, or constants."""
    if not is_plain(node.result) or len(node.result.tensor_type.shape or ()) != 3:
        return False
    read = [_image(graph, value) if value is not None else None for value in node.operands]
    if None in read or all(value in node.operands for value in read):
        return False
    lines = [value.producer for value in node.operands if value is not None and value.producer is not None]
    for index, value in enumerate(read):
        edit.set_operand(node, index, value)
    for index, value in enumerate(read):
        weights = constant(graph, value)
        if weights is not None and weights.ndim > 1:
            edit.give_weight(node, index, Tensor(np.expand_dims(weights, -2)), f"{node.name}.row")
    for line in lines:
        edit.erase_node(line)
    _to_line(graph, node)
    return True


def _image(graph: Graph, value: Value) -> Value | None:
    """The image of one row that a line is made of for its only reader; a constant is itself."""
    if constant(graph, value) is not None:
        return value
    line = producer(value, "reshape")
    if line is None or only_reader(graph, value) is None or not is_plain(value):
        return None
    image = line.operand(0)
    shape = image.tensor_type.shape or ()
    is_row = len(shape) == 4 and shape[2] == 1 and (*shape[:2], *shape[3:]) == value.tensor_type.shape
    return image if is_row else None
