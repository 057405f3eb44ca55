"""Graph with formats -> ONNX that computes the same bits, float32 operations on whole numbers.

A value of a FIXED or BIN format is carried in steps: the integer it is stored as. Its step never appears as a
multiplication, because it goes into the weights that follow,

    w' = w step(x) / step(y)    b' = round(b / step(acc)) step(acc) / step(y)    y = clip(round(w' x + b'), low, high)

where every scale is a power of two, so that the sums are exact while they stay below 2^24 steps of the accumulator.
relu and clip only narrow low..high, and max pooling stands before the rounding, where it has the same result. Other
kinds are carried as real numbers, with quantisers of their own.

Weights, biases and the quantisers' numbers are parameters: inputs of the model (so that one session serves every format
assignment of the same kinds), or initialisers (a plain .onnx).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from bitwright.backends.simulation.parameters import Numbers, Parameters, keeps_format, quantizer_kind
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.onnx.dtypes import write_type
from bitwright.ir.onnx.emit import Emitter
from bitwright.ir.onnx.opsets import raised
from bitwright.ir.onnx.tensors import write_tensor
from bitwright.ir.onnx.write import emit_node
from bitwright.ir.ops import integers, string
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import Type

LEAST_OPSET = 13
MAGNITUDES = {"tiny": 2.0**-126, "huge": 2.0**127, "two": 2.0, "half": 0.5, "log": 1 / np.log(2)}


@dataclass
class Exported:
    """A model, and the arrays of those of its inputs that are parameters."""

    model: ModelProto
    arrays: dict[str, Array]


def export(
    graph: Graph,
    parameters: Parameters,
    given: Collection[str] | None = None,
    wanted: Collection[str] | None = None,
    baked: bool = False,
) -> Exported:
    """The model that computes the values `wanted` (default: the outputs) from the values `given` (default: the inputs).

    Both are real numbers under their own names, or under the outside's names by default. With `baked` the parameters
    are initialisers.
    """
    return _Exporter(graph, parameters, baked).export(given, wanted)


def save_fake_quant(graph: Graph, path: Path) -> None:
    """Write an .onnx that computes in the graph's formats with plain float operations; any onnxruntime runs it."""
    path.write_bytes(export(graph, Parameters(graph), baked=True).model.SerializeToString())


class _Exporter:
    def __init__(self, graph: Graph, parameters: Parameters, baked: bool) -> None:
        self.graph = graph
        self.parameters = parameters
        self.baked = baked
        names = {name for inner in graph.walk() for name in inner.values}
        self.emitter = Emitter(raised(graph, LEAST_OPSET), names)
        self.fresh = self.emitter.fresh
        self.inputs: list[ValueInfoProto] = []
        self.asked: dict[str, Array] = {}
        self.names: dict[int, str] = {}

    def export(self, given: Collection[str] | None, wanted: Collection[str] | None) -> Exported:
        graph = self.graph
        sources = [(value, graph.input_name(value)) for value in graph.inputs]
        targets = [(output.value, output.name) for output in graph.outputs]
        if given is not None:
            sources = [(graph.values[name], name) for name in given]
        if wanted is not None:
            targets = [(graph.values[name], name) for name in wanted]
        shown = {name for _, name in sources}
        self.emitter.used |= shown | {name for _, name in targets}
        for value, name in sources:
            self.inputs.append(_info(name, value))
            self.quantize(value, name, stepped=False)
        for node in _needed(graph, [value for value, _ in sources], [value for value, _ in targets]):
            self.node(node)
        outputs = []
        for value, name in targets:
            name = self.fresh(name) if name in shown else name
            self.emitter.add("Identity", [self.real(value)], name)
            outputs.append(_info(name, value))
        return self.model(outputs)

    def model(self, outputs: list[ValueInfoProto]) -> Exported:
        constants, inputs = list(self.emitter.constants), list(self.inputs)
        names: set[str] = set()
        for node in self.emitter.nodes:  # onnxruntime takes a node's name once: an output may have that of its node
            node.name = "" if node.name in names else node.name
            names.add(node.name)
        for name, array in self.asked.items():
            if self.baked:
                constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
            else:
                inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
        proto = helper.make_graph(self.emitter.nodes, self.graph.name, inputs, outputs, constants)
        opsets = {**self.graph.opsets, "": self.emitter.opset}
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        version = max(4, helper.find_min_ir_version_for(imports, ignore_unknown=True))
        model = helper.make_model(proto, opset_imports=imports, ir_version=version, producer_name="bitwright")
        return Exported(model, {} if self.baked else self.asked)

    def ask(self, name: str, array: Array) -> str:
        """A parameter under a name of its own."""
        self.asked.setdefault(name, array)
        return name

    def carried(self, value: Value) -> str:
        """The name of a value as it is carried: in steps, or real."""
        if id(value) in self.parameters.weights and id(value) not in self.names:
            assert value.tensor is not None
            self.names[id(value)] = self.weight(value, value.tensor)
        return self.names[id(value)]

    def weight(self, value: Value, tensor: Tensor) -> str:
        """A weight's real numbers, or what else ops are given: shapes, indices, names."""
        if value.tensor_type.dtype == np.float32:
            return self.ask(value.name + "/data", self.parameters.weight(value))
        name = self.fresh(value.name + "/data")
        self.emitter.constants.append(write_tensor(tensor, name))
        return name

    def real(self, value: Value) -> str:
        """The name of a value's real numbers."""
        name = self.carried(value)
        if not self.parameters.is_stepped(value):
            return name
        step = self.ask(value.name + "/step", self.parameters.step(value))
        return self.emitter.add("Mul", [name, step], self.fresh(value.name + "/real"))

    def node(self, node: Node) -> None:
        constants = self.parameters.weights
        if node.op in ("conv2d", "dense") and all(v is None or id(v) in constants for v in node.operands[1:]):
            self.sum(node)
        elif keeps_format(node) and id(node.operand(0)) not in constants:
            self.plain(node, [self.carried(node.operand(0))])
        else:
            self.plain(node, ["" if value is None else self.real(value) for value in node.operands])
            for result in node.results:
                if isinstance(result.type, Type):
                    self.quantize(result, self.names[id(result)], stepped=False)

    def plain(self, node: Node, operands: list[str]) -> None:
        """The node as it is, on the named operands."""
        names = []
        for result in node.results:
            names.append(self.fresh(result.name + "/raw"))
            self.names[id(result)] = names[-1]
        inner = {id(v): v.name for graph in node.subgraphs() for sub in graph.walk() for v in sub.values.values()}
        captured = {id(v): self.real(v) for v in _captured(node)}
        emit_node(node, operands, names, self.emitter, inner | captured)

    def sum(self, node: Node) -> None:
        """conv2d or dense: the weights carry the steps of input and result."""
        result, act, pool = node.result, string(node, "act"), integers(node, "pool")
        linear = act in ("none", "relu", "clip")
        weight, bias = self.parameters.sum_parameters(node, scaled=linear)
        names = [self.carried(node.operand(0)), self.ask(node.name + "/weight", weight)]
        if bias is not None:
            names.append(self.ask(node.name + "/bias", bias))
        made = self.fresh(result.name + "/sum")
        self.emitter.emit(_bare(node), names, made)
        merged = linear and quantizer_kind(result) == "fixed"
        if not merged and act != "none":
            made = self.activation(node, made)
        if pool:
            strides = integers(node, "pool_strides") or pool
            name = self.fresh(result.name + "/pool")
            made = self.emitter.add("MaxPool", [made], name, kernel_shape=list(pool), strides=list(strides))
        self.quantize(result, made, stepped=linear, node=node if merged else None)

    def activation(self, node: Node, x: str) -> str:
        name = self.fresh(node.name + "/act")
        act = string(node, "act")
        if act == "clip":
            return self.between(x, name, node.name + "/act", self.parameters.act_bounds(node))
        if act == "hardswish":
            return self.emitter.hardswish(x, name)
        return self.emitter.add("Relu", [x], name) if act == "relu" else self.emitter.hardsigmoid(x, name)

    def between(self, x: str, name: str, asked: str, bounds: tuple[Numbers, Numbers]) -> str:
        """x between two bounds, which may be one a channel (Clip takes only one)."""
        low, high = (self.ask(asked + key, bound) for key, bound in zip(("/low", "/high"), bounds, strict=True))
        return self.emitter.add("Min", [self.emitter.add("Max", [x, low], self.fresh(name + "/max")), high], name)

    def quantize(self, value: Value, x: str, stepped: bool, node: Node | None = None) -> None:
        """Bring `x` (in steps of the value's format if `stepped`, else real) to the format of `value`."""
        kind = quantizer_kind(value)
        if self.parameters.is_stepped(value) and not stepped and kind != "binary":
            inverse = self.ask(value.name + "/inverse", self.parameters.inverse_step(value))
            x = self.emitter.add("Mul", [x, inverse], self.fresh(value.name + "/scaled"))
        self.names[id(value)] = QUANTIZERS[kind](self, value, x, node)


def _none(made: _Exporter, value: Value, x: str, node: Node | None) -> str:
    return x


def _fixed(made: _Exporter, value: Value, x: str, node: Node | None) -> str:
    bounds = made.parameters.bounds(value, node)
    rounded = made.emitter.add("Round", [x], made.fresh(value.name + "/rounded"), 11)
    name = made.fresh(value.name + "/fixed")
    if node is not None and string(node, "act") == "clip":
        return made.between(rounded, name, value.name, bounds)
    asked = [made.ask(value.name + key, bound) for key, bound in zip(("/low", "/high"), bounds, strict=True)]
    return made.emitter.add("Clip", [rounded, *asked], name)


def _binary(made: _Exporter, value: Value, x: str, node: Node | None) -> str:
    add, fresh = made.emitter.add, made.fresh
    zero, one, minus = (made.emitter.constant(value.name + "/c", np.array(c, np.float32)) for c in (0, 1, -1))
    positive = add("GreaterOrEqual", [x, zero], fresh(value.name + "/sign"), 12)
    return add("Where", [positive, one, minus], fresh(value.name + "/binary"))


def _floating(made: _Exporter, value: Value, x: str, node: Node | None) -> str:
    """round(x / q) q with the quantum q = max(2^(floor(log2 |x|)) 2^-n_f, smallest), clipped."""
    add, fresh, name = made.emitter.add, made.fresh, value.name
    numbers = made.parameters.floating(value)
    asked = {key: made.ask(f"{name}/{key}", number) for key, number in numbers.items()}
    constant = {
        key: made.emitter.constant(f"{name}/{key}_", np.array(number, np.float32)) for key, number in MAGNITUDES.items()
    }
    size = add("Max", [add("Abs", [x], fresh(name + "/abs")), constant["tiny"]], fresh(name + "/least"))
    size = add("Min", [size, constant["huge"]], fresh(name + "/size"))
    log = add("Mul", [add("Log", [size], fresh(name + "/ln")), constant["log"]], fresh(name + "/log2"))
    power = add("Pow", [constant["two"], add("Floor", [log], fresh(name + "/floor"))], fresh(name + "/pow"))
    # the logarithm may be off by one at powers of two: mend it exactly
    large = add("Greater", [power, size], fresh(name + "/large"), 9)
    half = add("Mul", [power, constant["half"]], fresh(name + "/less"))
    power = add("Where", [large, half, power], fresh(name + "/p1"))
    double = add("Mul", [power, constant["two"]], fresh(name + "/double"))
    small = add("LessOrEqual", [double, size], fresh(name + "/small"), 12)
    power = add("Where", [small, double, power], fresh(name + "/p2"))
    quantum = add("Mul", [power, asked["fraction"]], fresh(name + "/q"))
    quantum = add("Max", [quantum, asked["smallest"]], fresh(name + "/quantum"))
    rounded = add("Round", [add("Div", [x, quantum], fresh(name + "/ratio"))], fresh(name + "/rounded"), 11)
    result = add("Mul", [rounded, quantum], fresh(name + "/near"))
    return add("Clip", [result, asked["low"], asked["high"]], fresh(name + "/floating"))


def _affine(made: _Exporter, value: Value, x: str, node: Node | None) -> str:
    """(clip(round(x / scale + fraction) + whole, low, high) - zero) scale, as formats/affine.py computes it."""
    add, fresh, name = made.emitter.add, made.fresh, value.name
    asked = {key: made.ask(f"{name}/{key}", number) for key, number in made.parameters.affine(value).items()}
    ratio = add("Div", [x, asked["scale"]], fresh(name + "/ratio"))
    rounded = add(
        "Round", [add("Add", [ratio, asked["fraction"]], fresh(name + "/moved"))], fresh(name + "/rounded"), 11
    )
    code = add("Add", [rounded, asked["whole"]], fresh(name + "/code"))
    code = add("Clip", [code, asked["low"], asked["high"]], fresh(name + "/clipped"))
    centred = add("Sub", [code, asked["zero"]], fresh(name + "/centred"))
    return add("Mul", [centred, asked["scale"]], fresh(name + "/affine"))


QUANTIZERS: dict[str, Callable[[_Exporter, Value, str, Node | None], str]] = {
    "none": _none,
    "fixed": _fixed,
    "binary": _binary,
    "floating": _floating,
    "affine": _affine,
}


def _captured(node: Node) -> list[Value]:
    """The values outside that a node's subgraphs read."""
    graphs = [sub for graph in node.subgraphs() for sub in graph.walk()]
    own = {id(value) for graph in graphs for value in graph.values.values()}
    read = [v for graph in graphs for child in graph.nodes for v in child.operands if v is not None]
    read += [output.value for graph in graphs for output in graph.outputs]
    return [value for value in read if id(value) not in own]


def _bare(node: Node) -> Node:
    """The sum alone, without what is fused into it."""
    bare = Node(node.graph, node.op, node.source)
    bare.operands, bare.results = node.operands, node.results
    fused = ("acc", "act", "act_min", "act_max", "pool", "pool_strides")
    bare.attributes = {key: value for key, value in node.attributes.items() if key not in fused}
    return bare


def _needed(graph: Graph, given: list[Value], wanted: list[Value]) -> list[Node]:
    """The nodes between, in order. Raises CompileError if something else would be needed."""
    known = {id(value) for value in given}
    needed: set[int] = set()
    waiting = [value for value in wanted if id(value) not in known]
    while waiting:
        value = waiting.pop()
        node = value.producer
        if node is None:
            if value.tensor is None:
                raise CompileError(f"%{value.name} is needed and not given")
            continue
        if id(node) in needed or node.graph is not graph:
            continue
        needed.add(id(node))
        reads = (*node.operands, *_captured(node))
        waiting += [v for v in reads if v is not None and id(v) not in known]
    return [node for node in graph.nodes if id(node) in needed]


def _info(name: str, value: Value) -> ValueInfoProto:
    proto = ValueInfoProto(name=name)
    type = write_type(_open_batch(value))
    if type is not None:
        proto.type.CopyFrom(type)
    return proto


def _open_batch(value: Value) -> Type:
    """The type with its first dimension open, so that any number of samples runs at once."""
    type = value.tensor_type
    if not type.shape or not isinstance(type.shape[0], int):
        return type
    return type.with_shape((None, *type.shape[1:]))
