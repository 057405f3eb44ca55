"""ONNX -> Graph. Constant nodes become weights, model-local functions are inlined, names are cleaned once.

Known ops are then lowered to the hardware set (lower.py); every other one stays as `onnx.<Op>`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Attribute, EmptyList, Graph, Node, Value
from bitwright.ir.onnx.dtypes import read_type
from bitwright.ir.onnx.lower import lower
from bitwright.ir.onnx.tensors import read_sparse, read_tensor
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import UNKNOWN, Type, ValueType

FORMAT_KEY = "bitwright.format."
WHOLE = "give an .onnx or .ir file; one that was cut short is to be exported or copied again"
DEFAULT_DOMAINS = ("", "ai.onnx")
QUANTIZER_DOMAINS = ("onnx.brevitas", "qonnx.custom_op.general")
CONSTANTS = {"value_float": np.float32, "value_int": np.int64, "value_string": np.object_}  # with an s: lists


def load_onnx(path: Path) -> Graph:
    """The graph in an .onnx file. Raises CompileError if it is no ONNX model, damaged, or lacks external data."""
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise CompileError(f"{path}: not an ONNX model, or cut short ({error})", help=WHOLE) from error
    if not model.HasField("graph") or not model.ir_version or not model.opset_import:
        raise CompileError(f"{path}: not an ONNX model, or cut short (it has no graph)", help=WHOLE)
    try:
        return from_model(model, path.parent)
    except CompileError as error:
        raise CompileError(f"{path}: {error.message}", error.help) from error


def from_model(model: ModelProto, folder: Path | None = None) -> Graph:
    """The graph of a ModelProto; external data are looked for in `folder`."""
    reader = _Reader(_inferred(model), folder)
    graph = reader.read(reader.model.graph, None)
    lower(graph)
    reader.read_metadata(graph)
    return graph


def _inferred(model: ModelProto) -> ModelProto:
    """The model with its functions inlined and the types of its values, as far as ONNX infers them."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    known = _with_known_ops(model)
    try:
        typed = onnx.shape_inference.infer_shapes(known, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return model
    if known is model:
        return typed
    made = ModelProto()
    made.CopyFrom(model)
    for ours, theirs in ((made.graph.value_info, typed.graph.value_info), (made.graph.output, typed.graph.output)):
        del ours[:]
        ours.extend(theirs)
    return made


def _with_known_ops(model: ModelProto) -> ModelProto:
    """The model for inferring types only: quantisers that ONNX does not know stand as Identity, which types alike."""
    if not any(node.domain in QUANTIZER_DOMAINS for node in model.graph.node):
        return model
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.value_info[:]  # some exporters write the shapes of what they do not know as names
    for node in made.graph.node:
        if node.domain in QUANTIZER_DOMAINS:
            stand_in = onnx.helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name)
            node.CopyFrom(stand_in)
    return made


class _Reader:
    """Builds the graph of one model; `scopes` maps ONNX names to values, innermost graph last, `values` all of them."""

    def __init__(self, model: ModelProto, folder: Path | None) -> None:
        self.model = model
        self.folder = folder
        self.names: set[str] = set()
        self.scopes: list[dict[str, Value]] = []
        self.values: dict[str, Value] = {}

    def read_metadata(self, graph: Graph) -> None:
        """The model's metadata; chosen formats among them go to their values."""
        for entry in self.model.metadata_props:
            _check_text(entry.key)
            _check_text(entry.value)
            value = self.values.get(entry.key.removeprefix(FORMAT_KEY)) if entry.key.startswith(FORMAT_KEY) else None
            if value is not None and isinstance(value.type, Type):
                edit.set_type(value, value.type.with_format(parse_format(entry.value)))
            else:
                graph.metadata[entry.key] = entry.value

    def read(self, proto: GraphProto, parent: Node | None) -> Graph:
        _check_text(proto.name)
        graph = Graph(proto.name or "graph", parent=parent)
        if parent is None:
            for entry in self.model.opset_import:
                graph.opsets["" if entry.domain in DEFAULT_DOMAINS else entry.domain] = entry.version
        types = {info.name: info for info in (*proto.value_info, *proto.output, *proto.input)}
        scope: dict[str, Value] = {}
        self.scopes.append(scope)
        self.read_weights(graph, proto, scope)
        for node in _sorted(proto):
            self.read_node(graph, node, types, scope)
        for output in proto.output:
            value = self.find(output.name)
            if value is None:
                raise CompileError(f'output "{output.name}" is produced by no node')
            if value.type == UNKNOWN:
                edit.set_type(value, read_type(output.type))
            edit.add_output(graph, value, output.name)
        self.values |= self.scopes.pop()
        return graph

    def read_weights(self, graph: Graph, proto: GraphProto, scope: dict[str, Value]) -> None:
        tensors = {tensor.name: read_tensor(tensor, self.folder) for tensor in proto.initializer}
        for sparse in proto.sparse_initializer:
            tensors[sparse.values.name] = read_sparse(sparse, self.folder)
        for info in proto.input:
            overridable = self.model.ir_version >= 4
            if info.name in tensors and not overridable:
                continue  # before IR version 4 every weight had to be listed as an input
            default = tensors.pop(info.name, None)
            name = self.unique(info.name)
            scope[info.name] = edit.add_input(graph, name, read_type(info.type), info.name, default)
        for name, tensor in tensors.items():
            scope[name] = edit.add_weight(graph, self.unique(name), tensor)

    def read_node(
        self, graph: Graph, proto: NodeProto, types: dict[str, ValueInfoProto], scope: dict[str, Value]
    ) -> None:
        for text in (proto.op_type, proto.domain, proto.name, *(attribute.name for attribute in proto.attribute)):
            _check_text(text)
        if proto.op_type == "Constant" and proto.domain in DEFAULT_DOMAINS:
            tensor = self.constant(proto)
            scope[proto.output[0]] = edit.add_weight(graph, self.unique(proto.output[0]), tensor)
            return
        operands = [self.operand(name, proto) for name in proto.input]
        domain = "" if proto.domain in DEFAULT_DOMAINS else proto.domain + "::"
        source = f'{proto.op_type} "{proto.name}"' if proto.name else proto.op_type
        node = edit.add_node(graph, f"onnx.{domain}{proto.op_type}", operands, {}, source=source)
        for attribute in proto.attribute:
            edit.set_attribute(node, attribute.name, self.attribute(attribute, node))
        outputs = list(proto.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        for index, name in enumerate(outputs):
            wanted = self.result_name(proto, name) if name else f"{node.name}.unread{index}"
            type = read_type(types[name].type) if name in types else UNKNOWN
            result = edit.add_result(node, self.unique(wanted), type)
            if name:
                scope[name] = result

    def find(self, name: str) -> Value | None:
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def operand(self, name: str, proto: NodeProto) -> Value | None:
        if not name:
            return None
        value = self.find(name)
        if value is None:
            raise CompileError(f'node "{proto.name or proto.op_type}" reads "{name}", which nothing produces')
        return value

    def constant(self, proto: NodeProto) -> Tensor:
        attribute = proto.attribute[0] if len(proto.attribute) == len(proto.output) == 1 else AttributeProto()
        if attribute.name == "value":
            return read_tensor(attribute.t, self.folder)
        if attribute.name == "sparse_value":
            return read_sparse(attribute.sparse_tensor, self.folder)
        name, many = attribute.name.removesuffix("s"), attribute.name.endswith("s")
        try:
            value = onnx.helper.get_attribute_value(attribute)
            items = [item.decode() if isinstance(item, bytes) else item for item in (value if many else [value])]
            array: Array = np.array(items, CONSTANTS[name])
        except (KeyError, ValueError, TypeError) as error:
            raise CompileError(f'node "{proto.name or proto.op_type}" is a constant without a value') from error
        return Tensor(array if many else array.reshape(()))

    def attribute(self, proto: AttributeProto, node: Node) -> Attribute:
        try:
            value = onnx.helper.get_attribute_value(proto)
        except ValueError:
            value = None
        if value is None:
            raise CompileError(f'attribute "{proto.name}" of node {node.source} has no type that ONNX defines')
        kind = AttributeProto.AttributeType.Name(proto.type)
        many = kind.endswith("S") and kind != "S"
        if many and not len(value):
            return EmptyList({"INTS": "ints", "FLOATS": "floats"}.get(kind, "strings"))
        items = list(value) if many else [value]
        read = tuple(self.item(item, kind.removesuffix("S") or "S", node) for item in items)
        return read if many else read[0]  # type: ignore[return-value]

    def item(self, item: object, kind: str, node: Node) -> Attribute:
        if isinstance(item, bytes):
            try:
                return item.decode()
            except UnicodeDecodeError:
                return item
        if kind.startswith("GRAPH"):
            assert isinstance(item, GraphProto)
            return self.read(item, node)
        if kind.startswith("TENSOR"):
            return read_tensor(item, self.folder)  # type: ignore[arg-type]
        if kind.startswith("SPARSE"):
            return read_sparse(item, self.folder)  # type: ignore[arg-type]
        if kind.startswith("TYPE"):
            return _value_type(item)
        assert isinstance(item, int | float)
        return item

    def result_name(self, proto: NodeProto, name: str) -> str:
        """A name a person would give: the node's, for outputs and where an exporter made the value's name from it.

        `/conv1/Conv_output_0` of node `/conv1/Conv` becomes conv1, `node_conv2d_3:0` stays what it is.
        """
        is_output = name in {output.name for output in self.model.graph.output}
        if not proto.name or not (is_output or name == proto.name + "_output_0"):
            return name
        stem = proto.name.removesuffix("/" + proto.op_type)
        return stem if _cleaned(stem) not in self.names else proto.name

    def unique(self, name: str) -> str:
        _check_text(name)
        base = candidate = _cleaned(name)
        number = 1
        while candidate in self.names:
            candidate, number = f"{base}.{number}", number + 1
        self.names.add(candidate)
        return candidate


def _value_type(item: object) -> ValueType:
    assert isinstance(item, onnx.TypeProto)
    return read_type(item)


def _cleaned(name: str) -> str:
    return re.sub(r"[^\w.$]", "_", name.strip("/").replace("/", ".")).strip(".") or "value"


def _check_text(text: str | bytes) -> None:
    """Raise CompileError if a name is no text: of what is not UTF-8, protobuf makes bytes."""
    if isinstance(text, bytes):
        raise CompileError(f"the name {text!r} is not UTF-8")


def _sorted(proto: GraphProto) -> list[NodeProto]:
    """The nodes in topological order (not every exporter gives it). Raises CompileError on a cycle."""
    made = {name for node in proto.node for name in node.output if name}
    ready: set[str] = set()
    waiting, ordered = list(proto.node), []
    while waiting:
        rest = []
        for node in waiting:
            if all(name in ready or name not in made for name in _reads(node)):
                ordered.append(node)
                ready.update(node.output)
            else:
                rest.append(node)
        if len(rest) == len(waiting):
            names = ", ".join(f'"{node.name or node.op_type}"' for node in rest[:3])
            raise CompileError(f"the graph has a cycle through {names}")
        waiting = rest
    return ordered


def _reads(node: NodeProto) -> set[str]:
    """The names a node reads, those of its subgraphs included."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            inner = {name for child in graph.node for name in _reads(child)} | {output.name for output in graph.output}
            own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
            names |= inner - own - {name for child in graph.node for name in child.output}
    return names
