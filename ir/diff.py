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
from collections.abc import Callable, Iterator, Mapping

from bitwright.ir import edit
from bitwright.ir.graph import Attribute, Graph, Node, Value
from bitwright.ir.text import attribute_text, attributes_text, node_text, table_lines, value_text
from bitwright.ir.types import quote, type_tables


def diff(a: Graph, b: Graph) -> str:
    """The lines that differ, `- ` of `a` and `+ ` of `b`; empty if both compute the same in the same formats."""
    first, second = edit.copy(a), edit.copy(b)
    matched = _Matching(first, second)
    _rename(second, matched.names)
    ours, theirs = _lines(first), _lines(second)
    for key in matched.same_subgraphs():  # their inner names do not count
        theirs[key] = ours[key]
    return "".join(line + "\n" for line in _changes(ours, theirs))


class _Matching:
    """Which values of `b` are which of `a`: `names` has `a`'s names by those in `b`.

    First what is equal, from the outputs to the inputs, so that of several equal values each is paired with the one at
    its place; then what only changed.
    """

    def __init__(self, a: Graph, b: Graph) -> None:
        self.a, self.b = a, b
        self.keys = _keys(a, {}) | _keys(b, {})
        self.names: dict[str, str] = {}
        self.taken: set[str] = set()
        outside = {a.input_name(value): value for value in a.inputs}
        for value in b.inputs:
            self.pair(outside.get(b.input_name(value)), value, _same_sort)
        shown = {output.name: output.value for output in a.outputs}
        for output in b.outputs:
            self.pair(shown.get(output.name), output.value, self.equal)
        self.pair_by(_roles(a, self.keys) | _roles(b, self.keys))
        self.pair_by(self.keys)
        for name, value in b.values.items():
            self.pair(a.values.get(name), value, _same_sort, follow=False)
        for theirs, ours in list(self.names.items()):
            self.follow(a.values[ours], b.values[theirs], _same_sort)
        for output in b.outputs:
            self.pair(shown.get(output.name), output.value, _same_sort)

    def equal(self, ours: Value, theirs: Value) -> bool:
        return self.keys[id(ours)] == self.keys[id(theirs)]

    def pair(
        self, ours: Value | None, theirs: Value, alike: Callable[[Value, Value], bool], follow: bool = True
    ) -> None:
        """Pair two values if they are alike and free, and then what they are made of."""
        if ours is None or ours.name not in self.a.values or theirs.name not in self.b.values:
            return
        if theirs.name in self.names or ours.name in self.taken or not alike(ours, theirs):
            return
        self.names[theirs.name] = ours.name
        self.taken.add(ours.name)
        if follow:
            self.follow(ours, theirs, alike)

    def follow(self, ours: Value, theirs: Value, alike: Callable[[Value, Value], bool]) -> None:
        """Pair what stands at the same places of the nodes that made two values."""
        waiting = [(ours, theirs)]
        while waiting:
            left, right = (value.producer for value in waiting.pop())
            if left is None or right is None:
                continue
            for x, y in zip((*left.operands, *left.results), (*right.operands, *right.results), strict=False):
                if x is not None and y is not None:
                    before = len(self.names)
                    self.pair(x, y, alike, follow=False)
                    waiting += [(x, y)] * (len(self.names) - before)

    def pair_by(self, marks: Mapping[int, str]) -> None:
        """Pair values of equal marks: readers before what they read, the same name first."""
        waiting = defaultdict(list)
        for value in _readers_first(self.a):
            waiting[marks[id(value)]].append(value)
        for value in _readers_first(self.b):
            candidates = [other for other in waiting[marks[id(value)]] if other.name not in self.taken]
            if candidates and value.name not in self.names:
                self.pair(next((c for c in candidates if c.name == value.name), candidates[0]), value, self.equal)

    def same_subgraphs(self) -> Iterator[str]:
        """The lines of the nodes with subgraphs that are equal."""
        for node in self.b.nodes:
            ours = self.a.values.get(node.name)
            if ours is not None and any(True for _ in node.subgraphs()) and self.equal(ours, node.results[0]):
                yield "%" + node.name


def _same_sort(ours: Value, theirs: Value) -> bool:
    """Whether two values can be one thing that changed."""
    return _sort_of(ours) == _sort_of(theirs)


def _sort_of(value: Value) -> str:
    if value.producer is not None:
        index = next(i for i, result in enumerate(value.producer.results) if result is value)
        return f"{value.producer.op}.{index}"
    return "input" if value.tensor is None else "weight"


def _readers_first(graph: Graph) -> list[Value]:
    results = [result for node in reversed(graph.nodes) for result in node.results]
    return [*results, *graph.inputs, *graph.weights]


def _keys(graph: Graph, around: Mapping[int, str]) -> dict[int, str]:
    """A hash of what every value is made of, by identity; around: those of the graphs around."""
    keys = dict(around)
    for index, value in enumerate(graph.inputs):
        name = str(index) if graph.parent else graph.input_name(value)
        keys[id(value)] = _hash("input", name, value.type.text())
    for value in graph.weights:
        assert value.tensor is not None
        keys[id(value)] = _hash("weight", value.tensor.key, value.type.text())
    for node in graph.nodes:
        operands = ["" if value is None else keys[id(value)] for value in node.operands]
        types = [result.type.text() for result in node.results]
        made = _hash(node.op, *_attributes(node, keys), "operands", *operands, "types", *types)
        keys.update((id(result), _hash(made, str(index))) for index, result in enumerate(node.results))
    return keys


def _roles(graph: Graph, keys: Mapping[int, str]) -> dict[int, str]:
    """The keys told apart by who reads a value, and by the same of its operands."""
    roles: dict[int, str] = {}
    shown = defaultdict(list)
    for output in graph.outputs:
        shown[id(output.value)].append(output.name)
    for value in _readers_first(graph):
        readers = [
            f"{index}." + "".join(roles.get(id(r), "inside") for r in node.results) for node, index in value.uses
        ]
        roles[id(value)] = _hash(keys[id(value)], *sorted(shown[id(value)]), *sorted(readers))
    for node in graph.nodes:
        operands = [roles.get(id(value), "around") for value in node.operands]
        roles.update((id(result), _hash(roles[id(result)], *operands)) for result in node.results)
    return roles


def _attributes(node: Node, keys: Mapping[int, str]) -> list[str]:
    """The attributes, subgraphs as a hash of what their outputs are made of."""
    if not any(True for _ in node.subgraphs()):
        return attributes_text(node)

    def text(attribute: Attribute) -> str:
        if isinstance(attribute, Graph):
            inner = _keys(attribute, keys)
            return _hash(*(inner[id(output.value)] for output in attribute.outputs))
        return ",".join(map(text, attribute)) if isinstance(attribute, tuple) else attribute_text(attribute)

    return [f"{name}={text(attribute)}" for name, attribute in sorted(node.attributes.items())]


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _rename(graph: Graph, names: Mapping[str, str]) -> None:
    """Give `graph` the other's names; a thing of its own whose name the other uses gets a prime."""
    outside = [(value, graph.input_name(value)) for value in graph.inputs]
    wanted = set(names.values())
    for value in graph.values.values():
        value.name = names.get(value.name, value.name + "'" * (value.name in wanted))
    graph.values = {value.name: value for value in graph.values.values()}
    graph.external = {value.name: name for value, name in outside if name != value.name}


def _lines(graph: Graph) -> dict[str, list[str]]:
    """The lines of each thing by its key: its name, or the output's outside name."""
    lines: dict[str, list[str]] = {}
    for domain, version in sorted(graph.opsets.items()):
        lines[f"opset {domain}"] = [f"opset {domain or 'ai.onnx'}={version}"]
    for word, values in (("input", graph.inputs), ("weight", graph.weights)):
        for value in values:
            external = f" as {quote(graph.external[value.name])} : " if value.name in graph.external else " : "
            lines["%" + value.name] = [*_tables(value), f"{word} " + value_text(value).replace(" : ", external, 1)]
    for node in graph.nodes:
        tables = [line for result in node.results for line in _tables(result)]
        lines["%" + node.name] = [*tables, *node_text(node).split("\n")]
    for output in graph.outputs:
        external = "" if output.name == output.value.name else f" as {quote(output.name)}"
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
