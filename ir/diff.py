"""The difference of two graphs, matched by structure: names and order do not count, only what is computed.

A value's key is made of its op, attributes, type, data and the keys of its operands. Values of equal keys are the same.
Of the rest, those of the same name and op are one thing that changed, or else those of the same op that feed the same
place; everything else was removed or added. A changed thing is two lines, with the names that the first graph has:

    - %conv1 = conv2d(%x, %conv1.w, %conv1.b) {kernel=[5,5]} : f32[1,20,24,24]
    + %conv1 = conv2d(%x, %conv1.w, %conv1.b) {act=relu, kernel=[5,5]} : f32[1,20,24,24]
    - %relu1 = relu(%conv1) : f32[1,20,24,24]
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Value
from bitwright.ir.text import attributes_text, node_text, table_lines, value_text
from bitwright.ir.types import type_tables


def diff(a: Graph, b: Graph) -> str:
    """The lines that differ, `- ` of `a` and `+ ` of `b`; empty if both compute the same in the same formats."""
    first, second = edit.copy(a), edit.copy(b)
    renames = _match(first, second)
    _apply(second, renames)
    return "".join(line + "\n" for line in _changes(_lines(first), _lines(second)))


def _match(a: Graph, b: Graph) -> dict[str, str]:
    """The names in `b` of things that `a` has, with `a`'s name for them."""
    key_a, key_b = _keys(a), _keys(b)
    renames: dict[str, str] = {}
    taken: set[str] = set()

    def pair(ours: str, theirs: str) -> None:
        if theirs not in renames and ours not in taken:
            renames[theirs] = ours
            taken.add(ours)

    for ours, theirs in zip(a.inputs, b.inputs, strict=False):
        if a.input_name(ours) == b.input_name(theirs):
            pair(ours.name, theirs.name)
    waiting = defaultdict(list)
    for name, key in key_a.items():
        waiting[key].append(name)
    for name, key in key_b.items():  # the same name first, where several are equal
        if name in waiting[key]:
            pair(name, name)
    for name, key in key_b.items():
        left = [ours for ours in waiting[key] if ours not in taken]
        if left and name not in renames:
            pair(left[0], name)
    for name, value in b.values.items():
        other = a.values.get(name)
        if other is not None and _sort_of(other) == _sort_of(value):
            pair(name, name)
    changed = True
    while changed:
        before = len(renames)
        for ours, theirs in _neighbours(a, b, renames):
            if _sort_of(ours) == _sort_of(theirs):
                pair(ours.name, theirs.name)
        changed = len(renames) > before
    return renames


def _neighbours(a: Graph, b: Graph, renames: dict[str, str]) -> Iterator[tuple[Value, Value]]:
    """Values at the same place of nodes that are matched: operands, other results, and what outputs show."""
    for theirs, ours in list(renames.items()):
        left, right = a.values[ours].producer, b.values[theirs].producer
        if left is not None and right is not None:
            for x, y in zip((*left.operands, *left.results), (*right.operands, *right.results), strict=False):
                if x is not None and y is not None and x.name in a.values and y.name in b.values:
                    yield x, y
    shown = {output.name: output.value for output in a.outputs}
    for output in b.outputs:
        if output.name in shown and output.value.name in b.values and shown[output.name].name in a.values:
            yield shown[output.name], output.value


def _sort_of(value: Value) -> str:
    """What kind of thing a value is: only things of one sort can be one thing that changed."""
    if value.producer is not None:
        index = next(i for i, result in enumerate(value.producer.results) if result is value)
        return f"{value.producer.op}.{index}"
    return "input" if value.tensor is None else "weight"


def _keys(graph: Graph) -> dict[str, str]:
    """A hash of what every value is made of."""
    keys: dict[int, str] = {}
    for value in graph.inputs:
        keys[id(value)] = _hash("input", graph.input_name(value), value.type.text())
    for value in graph.weights:
        assert value.tensor is not None
        keys[id(value)] = _hash("weight", value.tensor.key, value.type.text())
    for node in graph.nodes:
        attributes = attributes_text(node)
        operands = ["" if v is None else keys.get(id(v), v.name) for v in node.operands]
        types = [result.type.text() for result in node.results]
        for index, result in enumerate(node.results):
            keys[id(result)] = _hash(node.op, str(index), *attributes, *operands, *types)
    return {name: keys[id(value)] for name, value in graph.values.items()}


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _apply(graph: Graph, renames: dict[str, str]) -> None:
    """Give `graph` the other's names; a thing of its own whose name the other uses gets a prime."""
    wanted = set(renames.values())
    for name, value in list(graph.values.items()):
        target = renames.get(name, name)
        if name not in renames and name in wanted:
            target = name + "'"
        outside = graph.external.pop(name, name)
        value.name = target
        if any(value is item for item in graph.inputs) and outside != target:
            graph.external[target] = outside
    graph.values = {value.name: value for value in graph.values.values()}


def _lines(graph: Graph) -> dict[str, list[str]]:
    """The lines of each thing by its key: its name, or the output's outside name."""
    lines: dict[str, list[str]] = {}
    for domain, version in sorted(graph.opsets.items()):
        lines[f"opset {domain}"] = [f"opset {domain or 'ai.onnx'}={version}"]
    for word, values in (("input", graph.inputs), ("weight", graph.weights)):
        for value in values:
            lines["%" + value.name] = [*_tables(value), f"{word} {value_text(value)}"]
    for node in graph.nodes:
        tables = [line for result in node.results for line in _tables(result)]
        lines["%" + node.name] = [*tables, *node_text(node).split("\n")]
    for output in graph.outputs:
        external = "" if output.name == output.value.name else f' as "{output.name}"'
        lines[f"output {output.name}"] = [f"output %{output.value.name}{external}"]
    return lines


def _tables(value: Value) -> list[str]:
    """A list a channel with the value's name and first index at every row, so that one changed row is one line."""
    lines = []
    for suffix, table in type_tables(value.type).items():
        for index, row in enumerate(table_lines(value.name + suffix, table)[1:-1]):
            lines.append(f"#{value.name}{suffix}[{16 * index}..] {row.strip()}")
    return lines


def _changes(a: dict[str, list[str]], b: dict[str, list[str]]) -> Iterator[str]:
    """Per thing, in the order of `a` with the added ones where `b` has them: lines that only one of both has."""
    added = [key for key in b if key not in a]
    place = {key: index for index, key in enumerate(b)}
    for key, ours in a.items():
        theirs = b.get(key, [])
        while added and key in place and place[added[0]] < place[key]:
            yield from ("+ " + line for line in b[added.pop(0)])
        pairs = list(zip(ours, theirs, strict=False)) if len(ours) == len(theirs) else []
        if pairs:
            for left, right in pairs:
                if left != right:
                    yield "- " + left
                    yield "+ " + right
            continue
        yield from ("- " + line for line in ours if line not in theirs)
        yield from ("+ " + line for line in theirs if line not in ours)
    for key in added:
        yield from ("+ " + line for line in b[key])
