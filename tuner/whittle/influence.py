"""How much each output of a dense layer, and each two of them together, matter to the network's answers.

Let p = softmax of the scores z. A small change d of a layer's sums changes the answers by the divergence

    KL ~ 1/2 d^T M d,    M = mean over samples of J^T F J,    J = dz / d sums,    F = diag(p) - p p^T

F is the mean of s s^T for s = e sqrt(p) - p (e . sqrt(p)), e random signs; J^T s is what goes back from the scores.
Ten classes are nine directions: what a layer just before them does in all others goes unnoticed, and M says so.

It goes back through dense layers and what has slopes of 0 and 1; a layer with anything else behind it has no M.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import real, string
from bitwright.ir.scores import scores_of
from bitwright.ir.tensor import Array
from bitwright.passes.cholesky import Matrix

SAMPLES = 500
DRAWS = 4  # of signs, for each sample
MOST_OUTPUTS = 2048  # of a layer; M has the square of that

Single = NDArray[np.float32]


def way_back(graph: Graph) -> list[Node]:
    """The nodes whose slopes can be had, last first, down to the first dense layer of them."""
    seen, unknown = {id(scores_of(graph))}, set[int]()
    found: list[Node] = []
    for node in reversed(graph.nodes):
        is_read = any(id(result) in seen for result in node.results)
        lost = any(id(result) in unknown for result in node.results)
        if is_read and not lost and _has_slope(node):
            found.append(node)
            seen |= {id(value) for value in _data(node)}
        elif is_read or lost:
            unknown |= {id(value) for value in node.operands if value is not None}
    layers = [i for i, node in enumerate(found) if node.op == "dense"]
    return found[: layers[-1] + 1] if layers else []


def watched(graph: Graph, way: Sequence[Node]) -> list[str]:
    """The values that `influences` asks for; none if there is no way."""
    if not way:
        return []
    bent = [node.result.name for node in way if _act(node) != "none"]
    return list(dict.fromkeys([scores_of(graph).name, *bent]))


def influences(graph: Graph, way: Sequence[Node], values: Mapping[str, Array]) -> dict[str, Matrix]:
    """M [outputs, outputs] of the dense layers on the way, by name; values: those watched [N, ...].

    Layers of more than MOST_OUTPUTS have none.
    """
    if not way:
        return {}
    scores = values[scores_of(graph).name]
    flat = scores.reshape(len(scores), -1)
    p = _probabilities(flat)
    random = np.random.default_rng(0)
    sizes = {node.name: len(_weights(node)) for node in way if node.op == "dense"}
    found = {name: np.zeros((size, size)) for name, size in sizes.items() if size <= MOST_OUTPUTS}
    for _ in range(DRAWS):
        signs = random.choice(np.array([-1, 1], np.float32), p.shape) * np.sqrt(p)
        start = (signs - p * signs.sum(1, keepdims=True))[:, -flat.shape[1] :]
        for name, slopes in _back(graph, way, values, start.reshape(scores.shape)):
            if name in found:
                found[name] += (slopes.T @ slopes).astype(np.float64) / (DRAWS * len(scores))
    return found


def _probabilities(scores: Array) -> Single:
    """Softmax of scores [N, classes]; a single score is that of the second class, against 0."""
    wide = scores if scores.shape[1] > 1 else np.concatenate([np.zeros_like(scores), scores], 1)
    odds = np.exp(wide - wide.max(1, keepdims=True))
    return np.asarray(odds / odds.sum(1, keepdims=True), np.float32)


def _back(graph: Graph, way: Sequence[Node], values: Mapping[str, Array], start: Array) -> Iterator[tuple[str, Single]]:
    """The slopes [rows, outputs] of what starts at the scores, by every dense layer's sums."""
    slopes: dict[int, Array] = {id(scores_of(graph)): start}
    for node in way:
        slope = slopes[id(node.result)]
        if _act(node) != "none":
            slope = slope * _bend(node, values[node.result.name])
        if node.op == "dense":
            yield node.name, slope.reshape(-1, slope.shape[-1])
            if node is way[-1]:
                return
            slope = slope @ _weights(node)
        for value, own in _shares(node, slope):
            slopes[id(value)] = slopes[id(value)] + own if id(value) in slopes else own


def _shares(node: Node, slope: Array) -> Iterator[tuple[Value, Array]]:
    """The slope of each operand, of that of what a node makes of them."""
    data = _data(node)
    shapes = [tuple(dim for dim in (value.tensor_type.shape or ())[1:] if isinstance(dim, int)) for value in data]
    parts = [slope] * len(data)
    if node.op == "concat":
        parts = np.split(slope, np.cumsum([shape[-1] for shape in shapes])[:-1], -1)
    for value, shape, part in zip(data, shapes, parts, strict=True):
        yield value, part.reshape(len(part), *shape)


def _weights(node: Node) -> Single:
    tensor = node.operand(1).tensor
    assert tensor is not None
    return tensor.data.astype(np.float32, copy=False)


def _act(node: Node) -> str:
    """What bends a node's sums: its own name if that is all it does."""
    return string(node, "act") if node.op == "dense" else node.op if node.op in BENDS else "none"


def _data(node: Node) -> list[Value]:
    """The operands that are no constants."""
    read = node.operands if node.op in ("add", "concat") else node.operands[:1]
    return [value for value in read if value is not None and value.tensor is None]


def _has_slope(node: Node) -> bool:
    """Whether it is known how a node's result changes with its operands, sample by sample."""
    shapes = [value.tensor_type.shape or () for value in (*node.results, *_data(node))]
    plain = all(len(shape) > 1 and all(isinstance(dim, int) for dim in shape[1:]) for shape in shapes)
    if not plain or len({shape[0] for shape in shapes}) > 1:
        return False
    if node.op == "dense":
        return node.operand(1).tensor is not None and _act(node) in ("none", *BENDS)
    if node.op == "add":
        return len(set(shapes)) == 1 and len(_data(node)) == 2
    if node.op == "concat":
        return len(_data(node)) == len(node.operands) and all(len(shape) == 2 for shape in shapes)
    return node.op in ("flatten", "reshape", *BENDS)


def _bend(node: Node, y: Array) -> Array:
    """The slope of an activation, by its result y."""
    return BENDS[_act(node)](node, y).astype(np.float32)


def _clip(node: Node, y: Array) -> Array:
    low, high = ("act_min", "act_max") if node.op == "dense" else ("min", "max")
    return np.asarray((y > real(node, low)) & (y < real(node, high)))


BENDS: dict[str, Callable[[Node, Array], Array]] = {"relu": lambda _, y: np.asarray(y > 0), "clip": _clip}
