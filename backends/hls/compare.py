"""The C++ against the judge, layer by layer: every integer that flows between stages beside ir.evaluate's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitwright.backends.hls.csim import Accelerator, Ints, Layer
from bitwright.backends.hls.stages import pool_name
from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph, Value
from bitwright.ir.ops import integers
from bitwright.ir.tensor import Array
from bitwright.ir.types import Type


@dataclass(frozen=True)
class LayerComparison:
    """One stage: how many numbers it gave, how many differ, how many its format cut, and where the first differs."""

    name: str
    values: int
    differ: int
    saturated: int
    first: str


def compare_layers(accelerator: Accelerator, graph: Graph, x: Array) -> list[LayerComparison]:
    """Every stage of a traced accelerator against the graph on real inputs `x`, in the order of the dataflow."""
    separate = with_separate_pools(graph)
    format = input_format(graph)
    watch = [value.name for value in separate.values.values() if value.tensor is None]
    expected = evaluate(separate, {graph.input_name(graph.inputs[0]): x}, watch)
    frames = accelerator.input.to_stream(x, format)
    first, *layers = accelerator.layers(frames)
    found = [_compared(first, frames)]
    for layer in layers:
        if layer.name not in separate.values:  # a part of a concat
            continue
        found.append(_compared(layer, _integers(separate.values[layer.name], expected[layer.name])))
    return found


def input_format(graph: Graph) -> Canonical:
    """The format of the one input of a graph that was compiled."""
    number = graph.inputs[0].tensor_type.number
    if not isinstance(number, Canonical):
        raise CompileError(f"the input %{graph.inputs[0].name} has no format")
    return number


def with_separate_pools(graph: Graph) -> Graph:
    """The graph with every fused pooling as a maxpool2d `<layer>.pool` behind the rounding: the same bits."""
    made = edit.copy(graph)
    for node in list(made.nodes):
        pool = integers(node, "pool") if node.op == "conv2d" else ()
        if not pool:
            continue
        type = node.result.tensor_type
        attributes = {"kernel": pool, "strides": integers(node, "pool_strides") or pool}
        index = next(i for i, other in enumerate(made.nodes) if other is node)
        after = made.nodes[index + 1] if index + 1 < len(made.nodes) else None
        pooled = edit.add_node(made, "maxpool2d", [], {pool_name(graph, node): type}, attributes, before=after)
        edit.replace_uses(node.result, pooled.result, made)
        edit.set_operands(pooled, [node.result])
        for name in ("pool", "pool_strides"):
            edit.set_attribute(node, name, None)
        edit.set_type(node.result, type.with_shape(None))
    return made


def _compared(layer: Layer, wanted: Ints) -> LayerComparison:
    """One stage's integers [frames, elements] beside those it should have given."""
    values, wanted = layer.values, wanted.reshape(len(layer.values), -1)
    different = np.argwhere(values != wanted)
    first = ""
    if len(different):
        frame, element = (int(i) for i in different[0])
        got, want = int(values[frame, element]), int(wanted[frame, element])
        first = f"frame {frame}, element {element}: {got}, not {want}"
    return LayerComparison(layer.name, values.size, len(different), layer.saturated, first)


def _integers(value: Value, numbers: Array) -> Ints:
    """Real numbers of a value as integers of its format, channels last."""
    assert isinstance(value.type, Type)
    number = value.type.number
    assert isinstance(number, Canonical)
    found = number.integers(numbers, value.name)
    return found.transpose(0, 2, 3, 1) if found.ndim == 4 else found
