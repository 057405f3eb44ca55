"""Which value of a graph its decision is made on."""

from __future__ import annotations

from bitwright.ir.graph import Graph, Value

DECISIONS = ("softmax", "argmax", "onnx.Softmax", "onnx.LogSoftmax", "onnx.ArgMax", "onnx.Sigmoid")


def scores_of(graph: Graph) -> Value:
    """The first output, or what stands before the softmax, sigmoid and argmax that it ends in."""
    value = graph.outputs[0].value
    while value.producer is not None and value.producer.op in DECISIONS:
        value = value.producer.operand(0)
    return value
