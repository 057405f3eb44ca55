"""Graph -> ONNX. Chosen formats do not change the model: they are kept as metadata, `bitwright.format.<ONNX name>`.

Weights of more than `LIMIT` bytes in all go to a file beside, because a protobuf message ends at 2 GB.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

from bitwright.ir.formats import to_text
from bitwright.ir.graph import Attribute, EmptyList, Graph, Node, Value
from bitwright.ir.onnx.dtypes import write_type
from bitwright.ir.onnx.emit import Emitter
from bitwright.ir.onnx.read import FORMAT_KEY
from bitwright.ir.onnx.tensors import is_mapped, refer_tensor, write_tensor
from bitwright.ir.ops import OPS
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import Type

LIMIT = 1_800_000_000
ALIGNMENT = 4096
DEFAULT_OPSET = 17
EMPTY_LISTS = {"ints": AttributeProto.INTS, "floats": AttributeProto.FLOATS, "strings": AttributeProto.STRINGS}


def save_onnx(graph: Graph, path: Path) -> None:
    """Write the .onnx file, with `<file>.data` beside it if the weights are too large for one message."""
    tensors = [value.tensor for value in graph.values.values() if value.tensor is not None]
    if sum(tensor.size * tensor.dtype.itemsize for tensor in tensors) <= LIMIT:
        path.write_bytes(to_model(graph).SerializeToString())
        return
    location = path.name + ".data"
    unfinished = path.with_name(location + ".part")  # the weights may be mapped from the file that this replaces
    with open(unfinished, "wb") as file:

        def outside(tensor: Tensor, name: str) -> TensorProto:
            if tensor.size * tensor.dtype.itemsize < ALIGNMENT or not is_mapped(tensor):
                return write_tensor(tensor, name)
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            offset = file.tell()
            np.ascontiguousarray(tensor.data).tofile(file)
            return refer_tensor(tensor, name, location, offset)

        model = to_model(graph, outside)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path.with_name(location))
    path.write_bytes(model.SerializeToString())


def to_model(graph: Graph, weight: Callable[[Tensor, str], TensorProto] = write_tensor) -> ModelProto:
    """The ModelProto; `weight` writes one weight's data (inside the message by default)."""
    opsets = {"": DEFAULT_OPSET} | graph.opsets
    names = _names(graph)
    writer = _Writer(names, opsets[""], weight)
    writer.used |= {output.name for inner in graph.walk() for output in inner.outputs}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    version = max(4, helper.find_min_ir_version_for(imports, ignore_unknown=True))
    model = helper.make_model(writer.graph(graph), opset_imports=imports, ir_version=version, producer_name="bitwright")
    formats = {
        FORMAT_KEY + names[id(value)]: to_text(value.type.number)
        for inner in graph.walk()
        for value in inner.values.values()
        if isinstance(value.type, Type) and value.type.number is not None
    }
    helper.set_model_props(model, graph.metadata | formats)
    return model


def emit_node(node: Node, inputs: list[str], outputs: list[str], emitter: Emitter, inner: dict[int, str]) -> None:
    """Add the ONNX nodes of one node, with given names of operands and results, to an emitter's.

    inner: the names of the values that its subgraphs have or read, by identity.
    """
    if node.op in OPS:
        emitter.emit(node, inputs, outputs[0])
        return
    emitter.nodes.append(_Writer(inner, emitter.opset, write_tensor).proto(node, inputs, outputs))


def node_model(node: Node, inputs: list[str]) -> ModelProto:
    """A model of one `onnx.<Op>` node alone, whose inputs and outputs have the given names and y0, y1, ..."""
    writer = _Writer({}, node.graph.root().opsets.get("", DEFAULT_OPSET), write_tensor)
    names = [name if value is not None else "" for name, value in zip(inputs, node.operands, strict=True)]
    proto = writer.proto(node, names, [f"y{index}" for index in range(len(node.results))])
    graph = GraphProto(name=node.op, node=[proto])
    for name, value in zip(names, node.operands, strict=True):
        if value is not None:
            graph.input.append(writer.info(value, name))
    for index, result in enumerate(node.results):
        graph.output.append(writer.info(result, f"y{index}"))
    imports = [helper.make_opsetid(domain, version) for domain, version in node.graph.root().opsets.items()]
    return helper.make_model(graph, opset_imports=imports)


class _Writer:
    """Writes graphs with the given names of values (by identity)."""

    def __init__(self, names: dict[int, str], opset: int, weight: Callable[[Tensor, str], TensorProto]) -> None:
        self.names = names
        self.used = set(names.values())
        self.opset = opset
        self.weight = weight

    def graph(self, graph: Graph) -> GraphProto:
        proto = GraphProto(name=graph.name)
        emitter = Emitter(self.opset, self.used)
        for value in graph.inputs:
            proto.input.append(self.info(value, self.names[id(value)]))
            if value.tensor is not None:
                proto.initializer.append(self.weight(value.tensor, self.names[id(value)]))
        for value in graph.weights:
            assert value.tensor is not None
            proto.initializer.append(self.weight(value.tensor, self.names[id(value)]))
        for node in graph.nodes:
            self.node(node, emitter)
        for output in graph.outputs:
            if self.names[id(output.value)] != output.name:
                emitter.add("Identity", [self.names[id(output.value)]], output.name)
            proto.output.append(self.info(output.value, output.name))
        proto.node.extend(emitter.nodes)
        proto.initializer.extend(emitter.constants)
        shown = {output.name for output in proto.output}
        for node in graph.nodes:
            for result in node.results:
                name = self.names[id(result)]
                if name not in shown and isinstance(result.type, Type):
                    proto.value_info.append(self.info(result, name))
        return proto

    def node(self, node: Node, emitter: Emitter) -> None:
        inputs = ["" if value is None else self.names[id(value)] for value in node.operands]
        if node.op in OPS:
            while inputs and not inputs[-1]:
                inputs.pop()
            emitter.emit(node, inputs, self.names[id(node.result)])
            return
        outputs = [self.names[id(result)] if self.is_shown(node, i) else "" for i, result in enumerate(node.results)]
        emitter.nodes.append(self.proto(node, inputs, outputs))

    def proto(self, node: Node, inputs: list[str], outputs: list[str]) -> NodeProto:
        """An `onnx.<Op>` node with names given."""
        domain, _, op = node.op.removeprefix("onnx.").rpartition("::")
        proto = NodeProto(op_type=op, domain=domain, name=node.name, input=inputs, output=outputs)
        for key, value in node.attributes.items():
            proto.attribute.append(self.attribute(key, value))
        return proto

    def is_shown(self, node: Node, index: int) -> bool:
        """Whether a result is named in ONNX: an optional one that nobody reads is left out."""
        result = node.results[index]
        if result.uses or any(o.value is result for g in node.graph.walk() for o in g.outputs):
            return True
        domain, _, op = node.op.removeprefix("onnx.").rpartition("::")
        try:
            schema = onnx.defs.get_schema(op, self.opset, domain)
        except onnx.defs.SchemaError:
            return True
        options = schema.outputs[min(index, len(schema.outputs) - 1)].option
        return options != onnx.defs.OpSchema.FormalParameterOption.Optional

    def attribute(self, name: str, value: Attribute) -> AttributeProto:
        if isinstance(value, EmptyList):
            return AttributeProto(name=name, type=EMPTY_LISTS[value.kind])
        items = value if isinstance(value, tuple) else (value,)
        converted = [self.item(item) for item in items]
        return helper.make_attribute(name, converted if isinstance(value, tuple) else converted[0])

    def item(self, item: object) -> object:
        if isinstance(item, Graph):
            return self.graph(item)
        if isinstance(item, Tensor):
            return write_tensor(item, "")
        if isinstance(item, int | float | str | bytes):
            return item
        return write_type(item)  # type: ignore[arg-type]

    def info(self, value: Value, name: str) -> onnx.ValueInfoProto:
        proto = onnx.ValueInfoProto(name=name)
        type = write_type(value.type)
        if type is not None:
            proto.type.CopyFrom(type)
        return proto


def _names(graph: Graph) -> dict[int, str]:
    """The ONNX name of every value: the outside's for inputs and outputs, ours for the rest unless it is taken."""
    names: dict[int, str] = {}
    for inner in graph.walk():
        for value in inner.inputs:
            names[id(value)] = inner.input_name(value)
    for inner in graph.walk():
        for output in inner.outputs:
            own = output.value.producer is not None and output.value.producer.graph is inner
            if own and output.name not in names.values():
                names.setdefault(id(output.value), output.name)
    taken = set(names.values()) | {output.name for inner in graph.walk() for output in inner.outputs}
    for inner in graph.walk():
        for value in inner.values.values():
            if id(value) in names:
                continue
            name, number = value.name, 1
            while name in taken:
                name, number = f"{value.name}.{number}", number + 1
            names[id(value)] = name
            taken.add(name)
    return names
