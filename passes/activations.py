"""fuse-activations: what follows a sum and acts on each number alone goes into the sum's node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.ops import real
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import absorb, is_plain, only_reader, producer

SIXTH = 1 / 6
MONOTONE = ("relu", "clip")


@dataclass(frozen=True)
class FuseActivations(Pass):
    """relu, clip (ReLU6), hardswish and hardsigmoid become `act` of the conv2d or dense that only they read.

    x hardsigmoid(x), as exporters write hard-swish, becomes hardswish first. A relu or clip after a max pooling is
    taken too: both are monotone, so their order does not matter.

    - %conv1 = conv2d(%x, %conv1.w) {kernel=[5,5]} : f32[1,6,24,24]
    - %relu1 = relu(%conv1) : f32[1,6,24,24]
    + %conv1 = conv2d(%x, %conv1.w) {act=relu, kernel=[5,5]} : f32[1,6,24,24]
    """

    name: ClassVar[str] = "fuse-activations"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = any([_recognise_hardswish(graph, node) for node in list(graph.nodes) if node.op == "mul"])
        for node in list(graph.nodes):
            changed |= node.op in ("conv2d", "dense") and (_fuse(graph, node) or _fuse_behind_pool(graph, node))
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
    if found is None or reader is None or "act" in node.attributes or "pool" in node.attributes:
        return False
    if not is_plain(node.result):
        return False
    _set(node, found)
    absorb(graph, node, reader)
    return True


def _fuse_behind_pool(graph: Graph, node: Node) -> bool:
    pool = only_reader(graph, node.result)
    if pool is None or pool.op != "maxpool2d" or "act" in node.attributes or "pool" in node.attributes:
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


def _recognise_hardswish(graph: Graph, node: Node) -> bool:
    """x hardsigmoid(x) with alpha 1/6, or x clip(x + 3, 0, 6) / 6."""
    for x, other in ((node.operand(0), node.operand(1)), (node.operand(1), node.operand(0))):
        gate = producer(other, "hardsigmoid")
        regular = gate is not None and (_activation(gate) or {}).get("act") == "hardsigmoid"
        if regular and gate is not None and gate.operand(0) is x and only_reader(graph, other) is node:
            edit.set_operands(node, [x])
            edit.set_op(node, "hardswish", {})
            edit.erase_node(gate)
            return True
        if _is_constant(other, SIXTH) and _is_gated(graph, x, node):
            product = x.producer
            assert product is not None
            inner, clip = _gated(product)
            assert inner is not None
            assert clip is not None
            shift = clip.operand(0).producer
            edit.set_operands(node, [inner])
            edit.set_op(node, "hardswish", {})
            for dead in (product, clip, shift):
                if dead is not None and not dead.result.uses:
                    edit.erase_node(dead)
            edit.erase_unread_weights(graph)
            return True
    return False


def _is_gated(graph: Graph, value: Value, reader: Node) -> bool:
    product = producer(value, "mul")
    if product is None or only_reader(graph, value) is not reader:
        return False
    inner, clip = _gated(product)
    return inner is not None and clip is not None and only_reader(graph, clip.result) is product


def _gated(product: Node) -> tuple[Value | None, Node | None]:
    """x and the clip of x clip(x + 3, 0, 6)."""
    for x, gate in ((product.operand(0), product.operand(1)), (product.operand(1), product.operand(0))):
        clip = producer(gate, "clip")
        if clip is None or real(clip, "min") != 0 or real(clip, "max") != 6:
            continue
        shift = producer(clip.operand(0), "add")
        if (
            shift is not None
            and any(v is x for v in shift.operands)
            and any(_is_constant(v, 3.0) for v in shift.operands)
        ):
            return x, clip
    return None, None


def _is_constant(value: Value | None, number: float) -> bool:
    if value is None or value.tensor is None or value.tensor.size != 1:
        return False
    return bool(np.isclose(float(value.tensor.data.reshape(-1)[0]), number, rtol=1e-6))
