"""fuse-activations: what follows a sum and acts on each number alone goes into the sum's node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.ops import real
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import absorb, constant, is_bare_sum, is_plain, only_reader, producer

SIXTH = 1 / 6
MONOTONE = ("relu", "clip")


@dataclass(frozen=True)
class FuseActivations(Pass):
    """relu, clip (ReLU6), hardswish and hardsigmoid become `act` of the conv2d or dense that only they read.

    x hardsigmoid(x) and x clip(x + 3, 0, 6) / 6, as exporters write hard-swish, become hardswish first. A relu or clip
    after a max pooling is taken too: both are monotone, so their order does not matter.

    - %conv1 = conv2d(%x, %conv1.w) {kernel=[5,5]} : f32[1,6,24,24]
    - %relu1 = relu(%conv1) : f32[1,6,24,24]
    + %conv1 = conv2d(%x, %conv1.w) {act=relu, kernel=[5,5]} : f32[1,6,24,24]
    """

    name: ClassVar[str] = "fuse-activations"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = recognise_hardswish(graph)
        for node in list(graph.nodes):
            changed |= is_bare_sum(node) and (_fuse(graph, node) or _fuse_behind_pool(graph, node))
        return changed


def recognise_hardswish(graph: Graph) -> bool:
    """x hardsigmoid(x) and x clip(x + 3, 0, 6) / 6 as hardswish; whether there was one."""
    changed = False
    for node in [node for node in graph.nodes if node.op in ("mul", "onnx.Div")]:
        changed |= node.graph.values.get(node.name) is node.results[0] and _to_hardswish(graph, node)
    return changed


def _activation(node: Node | None) -> dict[str, Attribute] | None:
    """The attributes that say what an activation node does, or None if it is none or cannot be said."""
    if node is None:
        return None
    if node.op in ("relu", "hardswish"):
        return {"act": node.op}
    if node.op == "clip":
        low, high = real(node, "min"), real(node, "max")
        if low == 0 and np.isinf(high):
            return {"act": "relu"}
        bounds = {"act_min": low, "act_max": high}
        return {"act": "clip", **{key: value for key, value in bounds.items() if np.isfinite(value)}}
    if node.op == "hardsigmoid" and np.isclose(real(node, "alpha"), SIXTH, rtol=1e-6) and real(node, "beta") == 0.5:
        return {"act": "hardsigmoid"}
    return None


def _fuse(graph: Graph, node: Node) -> bool:
    reader = only_reader(graph, node.result)
    found = _activation(reader)
    if found is None or reader is None or not is_plain(node.result):
        return False
    _set(node, found)
    absorb(graph, node, reader)
    return True


def _fuse_behind_pool(graph: Graph, node: Node) -> bool:
    pool = only_reader(graph, node.result)
    if pool is None or pool.op != "maxpool2d":
        return False
    reader = only_reader(graph, pool.result)
    found = _activation(reader)
    plain = is_plain(node.result) and is_plain(pool.result)
    if reader is None or found is None or found["act"] not in MONOTONE or not plain:
        return False
    _set(node, found)
    absorb(graph, pool, reader)
    return True


def _set(node: Node, attributes: dict[str, Attribute]) -> None:
    for key, value in attributes.items():
        edit.set_attribute(node, key, value)


def _to_hardswish(graph: Graph, node: Node) -> bool:
    """x gate(x), or x clip(x + 3, 0, 6) divided by 6 afterwards."""
    product, scaled = node, _sixfold(graph, node)
    if scaled is not None:
        found = producer(scaled, "mul")
        if found is None or only_reader(graph, scaled) is not node:
            return False
        product = found
    for x, gate in ((product.operand(0), product.operand(1)), (product.operand(1), product.operand(0))):
        if only_reader(graph, gate) is not product or x.type != node.result.type or not is_plain(x):
            continue
        if (_clipped(graph, gate) if scaled is not None else _gated(graph, gate)) is x:
            edit.set_operands(node, [x])
            edit.set_op(node, "hardswish", {})
            _erase_unread(graph, gate if scaled is None else scaled)
            edit.erase_unread_weights(graph)
            return True
    return False


def _gated(graph: Graph, gate: Value) -> Value | None:
    """x of hardsigmoid(x) with alpha 1/6, or of clip(x + 3, 0, 6) / 6."""
    if (_activation(gate.producer) or {}).get("act") == "hardsigmoid" and gate.producer is not None:
        return gate.producer.operand(0)
    scaled = None if gate.producer is None else _sixfold(graph, gate.producer)
    return None if scaled is None else _clipped(graph, scaled)


def _clipped(graph: Graph, value: Value) -> Value | None:
    """x of clip(x + 3, 0, 6)."""
    clip = producer(value, "clip")
    shift = None if clip is None else producer(clip.operand(0), "add")
    if clip is None or shift is None or (real(clip, "min"), real(clip, "max")) != (0, 6):
        return None
    return _beside(graph, shift, 3.0)


def _sixfold(graph: Graph, node: Node) -> Value | None:
    """x of x / 6 or x times a sixth."""
    if node.op == "onnx.Div":
        return node.operand(0) if _is_number(graph, node.operand(1), 6.0) else None
    return _beside(graph, node, SIXTH) if node.op == "mul" else None


def _beside(graph: Graph, node: Node, number: float) -> Value | None:
    """The operand of an add or mul whose other one is a number."""
    for x, other in ((node.operand(0), node.operand(1)), (node.operand(1), node.operand(0))):
        if _is_number(graph, other, number):
            return x
    return None


def _is_number(graph: Graph, value: Value, number: float) -> bool:
    data = constant(graph, value)
    return data is not None and data.size == 1 and bool(np.isclose(float(data.reshape(-1)[0]), number, rtol=1e-6))


def _erase_unread(graph: Graph, value: Value) -> None:
    """Remove the node that makes a value, and what is needed for it alone."""
    node = value.producer
    if node is None or value.uses or graph.is_output(value):
        return
    operands = [operand for operand in node.operands if operand is not None]
    edit.erase_node(node)
    for operand in operands:
        _erase_unread(graph, operand)
