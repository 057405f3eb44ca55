"""Which value of a graph its decision is made on."""

from __future__ import annotations

from bitwright.ir.graph import Graph, Node, Value

DECISIONS = {
    "softmax": -1,
    "onnx.Softmax": -1,
    "onnx.LogSoftmax": -1,
    "onnx.Sigmoid": -1,
    "argmax": 0,
    "onnx.ArgMax": 0,
}
"""Ops after which a sample's highest score is known still, if nothing more; the axis of each where none is said."""


def scores_of(graph: Graph) -> Value:
    """The first output, or what stands before the softmax, sigmoid and argmax that it ends in."""
    value = graph.outputs[0].value
    while value.producer is not None and decides(value.producer):
        value = value.producer.operand(0)
    return value


def decides(node: Node) -> bool:
    """Whether a node compares the scores of a sample, not those of several, and does nothing else."""
    shape = node.operand(0).tensor_type.shape if node.op in DECISIONS else None
    if shape is None:
        return False
    axis = node.attributes.get("axis", DECISIONS[node.op])
    return isinstance(axis, int) and axis % max(len(shape), 1) != 0
