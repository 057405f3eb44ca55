"""Random graphs survive printing, parsing, copying and files."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from graph_equality import assert_same
from hypothesis import given, settings
from random_graphs import graphs

from bitwright.ir import edit
from bitwright.ir.files import load, save, store
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text
from bitwright.ir.verify import verify

Check = Callable[[Graph], None]


@given(graphs())
def test_a_graph_prints_parses_and_prints_the_same(check: Check, graph: Graph) -> None:
    check(graph)
    verify(graph)
    text = to_text(graph)
    assert to_text(graph) == text
    again = parse(text, store(graph))
    assert to_text(again) == text
    check(again)
    verify(again)
    assert_same(graph, again, data=True)
    made_up = parse(text)
    assert to_text(made_up) == text
    check(made_up)
    assert_same(graph, made_up, data=False)
    for inner in made_up.walk():
        for value in inner.values.values():
            if value.tensor is not None:
                assert value.tensor.data.shape == value.tensor.shape
                assert value.tensor.data.dtype == value.tensor.dtype


@given(graphs())
def test_a_copy_is_the_same_and_its_own(check: Check, graph: Graph) -> None:
    text = to_text(graph)
    copy = edit.copy(graph)
    check(copy)
    check(graph)
    assert to_text(copy) == text
    assert_same(graph, copy, data=True)
    ours, theirs = (
        {id(thing) for inner in g.walk() for thing in (inner, *inner.nodes, *inner.values.values(), *inner.outputs)}
        for g in (graph, copy)
    )
    assert not ours & theirs
    assert [n.source for g in copy.walk() for n in g.nodes] == [n.source for g in graph.walk() for n in g.nodes]
    copy.opsets["x"] = 1
    copy.metadata["x"] = "y"
    for value in list(copy.values.values()):
        edit.rename(copy, value, edit.unique_name(copy, value.name + "_2"))
    for node in copy.nodes:
        edit.set_operands(node, [])
        edit.set_attribute(node, "one_more", 1)
    assert to_text(graph) == text
    check(graph)


@settings(max_examples=50)
@given(graphs())
def test_files_hold_a_graph_and_its_data(check: Check, tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    path = tmp_path_factory.mktemp("graph") / "net.v2.ir"
    save(graph, path)
    assert path.read_text("utf-8") == to_text(graph)
    again = load(path)
    check(again)
    assert_same(graph, again, data=True)
