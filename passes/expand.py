"""expand-activations: activations without an engine in ops that have one.

    hardsigmoid(x) = clip(alpha x + beta, 0, 1)          hardswish(x) = x clip(x / 6 + 1/2, 0, 1)
    leakyrelu(x) = alpha x + (1 - alpha) relu(x)         prelu the same, with an alpha a channel

A multiplication and an addition behind a sum go into its weights and bias (fuse-batchnorm), and the clip into the sum
(fuse-activations): the gate of squeeze-excite costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.ops import real
from bitwright.ir.tensor import Array, Tensor
from bitwright.passes.activations import recognise_hardswish
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import constant, is_float

LEAKY = 0.01  # ONNX's default of alpha


@dataclass(frozen=True)
class ExpandActivations(Pass):
    """hardsigmoid becomes mul, add and clip; hardswish, in all its spellings, a mul with that; LeakyRelu, PRelu an add.

    - %gate = hardsigmoid(%x) {alpha=0.25} : f32[N,8]
    + %gate.scaled = mul(%x, %gate.alpha) : f32[N,8]
    + %gate.shifted = add(%gate.scaled, %gate.beta) : f32[N,8]
    + %gate = clip(%gate.shifted) {max=1.0, min=0.0} : f32[N,8]
    """

    name: ClassVar[str] = "expand-activations"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = recognise_hardswish(graph)
        for node in list(graph.nodes):
            if node.op in EXPANSIONS and is_float(node.operand(0), node.result):
                changed |= EXPANSIONS[node.op](graph, node)
        if changed:
            edit.erase_unread_weights(graph)
        return changed


def _gate(graph: Graph, node: Node) -> bool:
    shifted = _shifted(graph, node, real(node, "alpha"), real(node, "beta"))
    edit.set_operands(node, [shifted])
    edit.set_op(node, "clip", {"min": 0.0, "max": 1.0})
    return True


def _swish(graph: Graph, node: Node) -> bool:
    shifted = _shifted(graph, node, 1 / 6, 0.5)
    gate = _before(graph, node, "clip", [shifted], "gate", {"min": 0.0, "max": 1.0})
    edit.set_operands(node, [node.operand(0), gate])
    edit.set_op(node, "mul", {})
    return True


def _leaky(graph: Graph, node: Node) -> bool:
    alpha = node.attributes.get("alpha", LEAKY)
    assert isinstance(alpha, int | float)
    return _leak(graph, node, np.asarray(alpha, np.float32))


def _parametric(graph: Graph, node: Node) -> bool:
    """Whether the slopes are constant, so that there is something to expand."""
    slope = constant(graph, node.operand(1))
    return slope is not None and _leak(graph, node, slope)


def _leak(graph: Graph, node: Node, slope: Array) -> bool:
    x = node.operand(0)
    below = _before(graph, node, "mul", [x, _weight(graph, node, "alpha", slope)], "below")
    positive = _before(graph, node, "relu", [x], "positive")
    rest = _weight(graph, node, "rest", 1 - slope)
    above = _before(graph, node, "mul", [positive, rest], "above")
    edit.set_operands(node, [below, above])
    edit.set_op(node, "add", {})
    return True


def _shifted(graph: Graph, node: Node, alpha: float, beta: float) -> Value:
    """alpha x + beta."""
    factor, shift = (_weight(graph, node, name, number) for name, number in (("alpha", alpha), ("beta", beta)))
    scaled = _before(graph, node, "mul", [node.operand(0), factor], "scaled")
    return _before(graph, node, "add", [scaled, shift], "shifted")


def _weight(graph: Graph, node: Node, name: str, numbers: Array | float) -> Value:
    tensor = Tensor(np.asarray(numbers, np.float32))
    return edit.add_weight(graph, edit.unique_name(graph, f"{node.name}.{name}"), tensor)


def _before(
    graph: Graph,
    node: Node,
    op: str,
    operands: Sequence[Value],
    name: str,
    attributes: dict[str, Attribute] | None = None,
) -> Value:
    """What a new node of that op gives, before `node` and of its result's type."""
    named = {edit.unique_name(graph, f"{node.name}.{name}"): node.result.type}
    return edit.add_node(graph, op, operands, named, attributes, before=node, source=node.source).result


EXPANSIONS: dict[str, Callable[[Graph, Node], bool]] = {
    "hardsigmoid": _gate,
    "hardswish": _swish,
    "onnx.LeakyRelu": _leaky,
    "onnx.PRelu": _parametric,
}
