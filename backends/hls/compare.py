"""The C++ against the judge, layer by layer: every number that flows between stages beside ir.evaluate's.

In FIXED, BIN and EXP all bits are equal, from the input to the output. With FLOAT or AFFINE two float32 sums of other
order differ in their last bits, and so may their roundings. Then the judge takes what the C++ gave to a layer, and what
comes out of it may differ by

    one quantum of its format there + 2^-20 sum |w| |x|        sums, and likewise what a mean, add or mul adds up

but a BIN either has the judge's sign, or its sum is no more than the second amount away from 0. And the outputs, at the
end of all layers, by what `deviation` of stages/numbers.py says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitwright.backends.hls.csim import Accelerator, Ints, Layer
from bitwright.backends.hls.stages import (
    as_integers,
    as_reals,
    deviation,
    flowing,
    pool_name,
    quantum,
    stages_of,
    takes_sign,
)
from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate, held, node_results
from bitwright.ir.formats import Affine, Canonical, Format
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import integers
from bitwright.ir.tensor import Array
from bitwright.ir.types import Type

SUM_ERROR = 2.0**-20


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
    if not is_exact(graph):
        return _compare_locally(accelerator, graph, x)
    separate = with_separate_pools(graph)
    format = input_format(graph)
    watch = [value.name for value in separate.values.values() if value.tensor is None]
    expected = evaluate(separate, {graph.input_name(graph.inputs[0]): x}, watch)
    layouts = _layouts(graph)
    frames = accelerator.input.to_stream(x, format)
    first, *layers = accelerator.layers(frames)
    found = [_compared(first, frames)]
    for layer in layers:
        if layer.name not in separate.values:  # a part of a concat
            continue
        wanted = _integers(separate.values[layer.name], expected[layer.name], layouts[layer.name])
        found.append(_compared(layer, wanted))
    return found


def input_format(graph: Graph) -> Format:
    """The format of the one input of a graph that was compiled."""
    number = graph.inputs[0].tensor_type.number
    if number is None:
        raise CompileError(f"the input %{graph.inputs[0].name} has no format")
    return number


def is_exact(graph: Graph) -> bool:
    """Whether the C++ must give the judge's bits: there is no FLOAT, no AFFINE, and EXP in weights only."""
    for value in graph.values.values():
        number = value.type.number if isinstance(value.type, Type) else None
        floats = isinstance(number, Canonical) and number.n_e > 0 and (number.n_f > 0 or value.tensor is None)
        if floats or isinstance(number, Affine):
            return False
    return True


def tolerance(graph: Graph, expected: Array) -> Array:
    """How far an output may be from the judge's, [N, 1, ...]: 0 where the bits are the same."""
    largest = np.abs(expected.reshape(len(expected), -1)).max(1, initial=0).reshape(-1, *[1] * (expected.ndim - 1))
    number = flowing(graph.outputs[0].value.tensor_type.number)
    if is_exact(graph) or number is None:
        return np.zeros_like(largest)
    amount, share = deviation(number)
    return np.asarray(np.maximum(amount, share * largest))


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


def _compare_locally(accelerator: Accelerator, graph: Graph, x: Array) -> list[LayerComparison]:
    """Each layer on what the C++ gave to it."""
    separate, bare = with_separate_pools(graph), with_separate_pools(graph)
    for node in bare.nodes:
        edit.set_attribute(node, "act", None)
    layers = {layer.name: layer for layer in accelerator.layers(accelerator.input.to_stream(x, input_format(graph)))}
    layouts, entry = _layouts(graph), separate.inputs[0]
    found: list[LayerComparison] = []
    values = {value.name: held(value, value.tensor.data) for value in separate.weights if value.tensor is not None}

    def take(value: Value, exact: Array, slack: Array) -> None:
        wanted = values[value.name] = held(value, exact)
        number = flowing(value.type.number) if isinstance(value.type, Type) else None
        layer = layers.get(value.name)
        if layer is not None and number is not None:
            reals = as_reals(number, layer.values)
            if value is entry:
                given = accelerator.input.frames(reals)
            else:
                given = _channels_first(reals, layouts[layer.name]).reshape(wanted.shape)
            apart = np.abs(given - wanted) > quantum(number, np.abs(wanted)) * (1 + 1e-6) + slack
            if takes_sign(number):
                apart &= np.abs(exact) > slack
            found.append(_listed(layer, apart, given, wanted))
            values[value.name] = given

    take(entry, x, np.zeros(1))
    for node, loose in zip(separate.nodes, bare.nodes, strict=True):
        operands = [None if value is None else values[value.name] for value in node.operands]
        (wanted,) = node_results(node, operands)
        (sizes,) = node_results(loose, [None if operand is None else np.abs(operand) for operand in operands])
        slack = np.zeros(1) if _only_moves(node) else SUM_ERROR * np.abs(sizes)
        take(node.result, wanted, slack)
    return found


def _only_moves(node: Node) -> bool:
    return node.op not in ("conv2d", "dense", "add", "mul", "avgpool2d", "globalavgpool")


def _layouts(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The frame that each stage gives, by its name; a flattened image still flows as one."""
    return {stage.name: stage.layout for stage in stages_of(graph)}


def _channels_first(frames: Array, layout: tuple[int, ...]) -> Array:
    """Numbers [frames, elements] in the order of the stream, which is channels last, as [frames, *layout]."""
    channels, *image = layout
    return np.moveaxis(frames.reshape(-1, *image, channels), -1, 1)


def _listed(layer: Layer, apart: Array, given: Array, wanted: Array) -> LayerComparison:
    different = np.argwhere(apart)
    first = ""
    if len(different):
        place = tuple(int(i) for i in different[0])
        first = f"frame {place[0]}, element {list(place[1:])}: {given[place]:.9g}, not {wanted[place]:.9g}"
    return LayerComparison(layer.name, layer.values.size, len(different), layer.saturated, first)


def _compared(layer: Layer, wanted: Ints) -> LayerComparison:
    """One stage's integers [frames, elements] beside those it should have given."""
    different = np.argwhere(layer.values != wanted)
    first = ""
    if len(different):
        frame, element = (int(i) for i in different[0])
        got, want = int(layer.values[frame, element]), int(wanted[frame, element])
        first = f"frame {frame}, element {element}: {got}, not {want}"
    return LayerComparison(layer.name, layer.values.size, len(different), layer.saturated, first)


def _integers(value: Value, numbers: Array, layout: tuple[int, ...]) -> Ints:
    """Real numbers of a value as integers of its format [frames, elements], in the order of the stream."""
    assert isinstance(value.type, Type)
    number = flowing(value.type.number)
    assert number is not None
    found = as_integers(number, numbers)
    return np.moveaxis(found.reshape(-1, *layout), 1, -1).reshape(len(found), -1)
