"""A part of a graph as a graph of its own: what runs between two places of a network.

live(i) are the values that nodes i, i + 1, ... read and that come from before them, inputs of the graph included: what
a run from there must be given.
"""

from __future__ import annotations

from collections.abc import Iterator

from bitwright.ir import edit
from bitwright.ir.graph import Graph, Node, Value


def live(graph: Graph, place: int) -> list[Value]:
    """The values that come from before a place and are read from there on, by nodes or as an output."""
    before = {id(value) for value in graph.inputs}
    before |= {id(result) for node in graph.nodes[:place] for result in node.results}
    read = [value for node in graph.nodes[place:] for value in reads(node)]
    read += [output.value for output in graph.outputs]
    return list({id(value): value for value in read if id(value) in before}.values())


def reads(node: Node) -> Iterator[Value]:
    """Everything that a node reads, inside its subgraphs too."""
    yield from (value for value in node.operands if value is not None)
    for inner in node.subgraphs():
        for graph in inner.walk():
            for child in graph.nodes:
                yield from (value for value in child.operands if value is not None)
            yield from (output.value for output in graph.outputs)


def part(graph: Graph, start: int, stop: int) -> Graph:
    """Nodes start, ..., stop - 1: from the values that are live at `start` to those made here that are live at `stop`.

    Inputs and outputs have the values' own names.
    """
    given = {value.name for value in live(graph, start)}
    wanted = [value.name for value in live(graph, stop) if value.name not in given]
    made = edit.copy(graph)
    edit.cut(made, made.nodes[start:stop], sorted(given), wanted)
    return made
