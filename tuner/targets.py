"""The tensors whose formats are searched: weights and inputs of the target layers, with their sizes and ranges."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bitwright.backends.simulation.run import Simulation
from bitwright.ir.assign import format_names, layers
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.tensor import Array

Role = Literal["weight", "input"]


@dataclass(frozen=True)
class Target:
    """One tensor, named as in libnumber's configuration files: `conv1.weight`, `conv1.input`.

    size: numbers in it (of one sample for an input); max_abs: the largest magnitude seen; signed: whether one is
    negative; kind: the op of its layer; aliases: other names of the same tensor, which several layers may read.
    """

    name: str
    role: Role
    size: int
    max_abs: float
    signed: bool = True
    kind: str = "conv2d"
    aliases: tuple[str, ...] = ()

    @property
    def layer(self) -> str:
        return self.name.rpartition(".")[0]


def target_layers(graph: Graph, wanted: Collection[str] = ()) -> list[Node]:
    """The layers named, or of the ops named (`conv2d`, `dense`), in the graph's order; all layers by default.

    A concat of layers stands for these: it has the name that they had before they were split.
    Raises CompileError for a name that no layer has, and for a graph without layers.
    """
    found = list(layers(graph))
    if not found:
        raise CompileError(f"@{graph.name} has no conv2d or dense whose weights could take a format")
    for node in reversed(graph.nodes):
        if node.op == "concat" and node.name in wanted:
            parts = [value.name for value in node.operands if value is not None]
            wanted = [*(name for name in wanted if name != node.name), *parts]
    unknown = set(wanted) - {node.name for node in found} - {node.op for node in found}
    if unknown:
        names = ", ".join(node.name for node in found)
        raise CompileError(f"no layer is called {sorted(unknown)[0]!r}", help=f"the layers are {names}")
    return [node for node in found if not wanted or node.name in wanted or node.op in wanted]


def targets_of(graph: Graph, x: Array, wanted: Collection[str] = ()) -> list[Target]:
    """Weights and inputs of the target layers, in order, each tensor once; ranges of inputs are those on samples `x`.

    Raises CompileError as `target_layers` does, and if a tensor is not finite.
    """
    nodes = target_layers(graph, wanted)
    names = format_names(graph)
    origins = {names[f"{node.name}.input"].name for node in nodes}
    ends = _ends(graph, x, sorted(origins))
    found: dict[int, Target] = {}
    for node in nodes:
        for role in ("weight", "input"):
            name = f"{node.name}.{role}"
            value = names[name]
            if id(value) in found:
                first = found[id(value)]
                found[id(value)] = Target(**{**first.__dict__, "aliases": (*first.aliases, name)})
            elif role == "weight":
                data = _numbers(value)
                found[id(value)] = _target(name, "weight", _widened((0.0, 0.0), data), node, data.size)
            else:
                found[id(value)] = _target(name, "input", ends[value.name], node, input_size(node))
    return list(found.values())


def _ends(graph: Graph, x: Array, names: list[str]) -> dict[str, tuple[float, float]]:
    """The least and the largest number of each value on samples x, 0 among them; a batch at a time, for memory."""
    simulation = Simulation(graph, bake_from=1)
    ends = dict.fromkeys(names, (0.0, 0.0))
    for start in range(0, len(x), simulation.batch):
        part = {graph.input_name(graph.inputs[0]): x[start : start + simulation.batch]}
        ends |= {name: _widened(ends[name], data) for name, data in simulation.run(part, wanted=names).items()}
    return ends


def _widened(ends: tuple[float, float], data: Array) -> tuple[float, float]:
    """Ends that hold the data too; NaN if these have one."""
    return float(np.minimum(ends[0], data.min(initial=0))), float(np.maximum(ends[1], data.max(initial=0)))


def input_size(node: Node) -> int:
    """How many numbers of one sample a layer reads. Raises CompileError if its input has no fixed shape."""
    shape = (node.operand(0).tensor_type.shape or (None, None))[1:]
    sizes = [dim for dim in shape if isinstance(dim, int)]
    if len(sizes) != len(shape):
        raise CompileError(f"%{node.name}: the shape of its input is not known", help="export it with fixed sizes")
    return int(np.prod(sizes))


def _numbers(value: Value) -> Array:
    assert value.tensor is not None
    return value.tensor.data


def _target(name: str, role: Role, ends: tuple[float, float], node: Node, size: int) -> Target:
    low, high = ends
    if not (np.isfinite(low) and np.isfinite(high)):
        raise CompileError(f"{name} is not finite", help="check how the model or the data was made")
    return Target(name, role, size, max(-low, high), low < 0, node.op)
