"""Nodes and subgraphs that are added, changed, sorted or erased leave a graph right; misuse is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from edited import NET, VECTOR, lines, producer

from bitwright.ir import edit
from bitwright.ir.errors import InternalError
from bitwright.ir.formats import fixed
from bitwright.ir.graph import Graph
from bitwright.ir.text import to_text
from bitwright.ir.types import UNKNOWN, Type

Check = Callable[[Graph], None]


def test_add_node_at_the_end_and_before_another(check: Check, net: Graph) -> None:
    x, b = net.values["x"], producer(net, "b")
    last = edit.add_node(net, "onnx.Two", [x, None, x], {"p": VECTOR, "q": UNKNOWN}, {"k": 1}, source="Two")
    first = edit.add_node(net, "relu", [x], {"r": VECTOR}, before=producer(net, "a"))
    middle = edit.add_node(net, "relu", [net.values["a"]], {"m": VECTOR}, before=b)
    check(net)
    assert [node.name for node in net.nodes] == ["r", "a", "m", "b", "y", "p"]
    assert net.nodes[0] is first
    assert net.nodes[2] is middle
    assert x.uses == [(producer(net, "a"), 0), (last, 0), (last, 2), (first, 0)]
    assert (last.source, last.trail, last.name) == ("Two", (), "p")
    with pytest.raises(InternalError, match=r"^%y exists$"):
        edit.add_node(net, "relu", [], {"y": VECTOR})


def test_add_result(check: Check, net: Graph) -> None:
    node = producer(net, "y")
    value = edit.add_result(node, "y2", UNKNOWN)
    check(net)
    assert node.results[1] is value
    assert lines(net, NET) == ["- %y = relu(%b) : f32[2]", "+ %y, %y2 = relu(%b) : f32[2], ?"]


def test_set_attribute_op_and_type(check: Check, net: Graph) -> None:
    node = producer(net, "y")
    edit.set_attribute(node, "k", (1, 2))
    edit.set_attribute(node, "l", 0.5)
    edit.set_attribute(node, "k", 3)
    edit.set_attribute(node, "none", None)
    assert node.attributes == {"k": 3, "l": 0.5}
    edit.set_attribute(node, "l", None)
    assert node.attributes == {"k": 3}
    given = {"min": 0.0}
    edit.set_op(node, "clip", given)
    given["max"] = 1.0
    edit.set_type(node.result, Type(fixed(8, 1), (2,)))
    check(net)
    assert lines(net, NET) == ["- %y = relu(%b) : f32[2]", "+ %y = clip(%b) {min=0.0} : FIXED<8,B=1>[2]"]


@pytest.mark.parametrize("how", ["set_attribute", "replace", "set_op", "erase"])
def test_a_subgraph_that_is_lost_reads_nothing(check: Check, branches: Graph, how: str) -> None:
    node = producer(branches, "y")
    a, w = branches.values["a"], branches.values["w"]
    assert (len(a.uses), len(w.uses)) == (1, 1)
    if how == "set_attribute":
        edit.set_attribute(node, "then_branch", None)
    elif how == "replace":
        inner = Graph("new")
        edit.add_output(inner, a)
        edit.set_attribute(node, "then_branch", inner)
        assert inner.parent is node
    elif how == "set_op":
        edit.set_op(node, "onnx.Identity", {})
    else:
        branches.outputs.clear()
        edit.erase_node(node)
    check(branches)
    assert (a.uses, w.uses) == ([], [])
    assert "then_branch=graph @then" not in to_text(branches)


def test_subgraphs_that_stay_or_move_read_on(check: Check, branches: Graph) -> None:
    node = producer(branches, "y")
    edit.set_op(node, "onnx.Other", node.attributes)
    check(branches)
    then = node.attributes["then_branch"]
    other = edit.add_node(branches, "onnx.If", [], {"z2": VECTOR}, {"body": then})
    edit.set_attribute(node, "then_branch", None)
    assert then.parent is other  # type: ignore[union-attr]
    check(branches)
    assert len(branches.values["a"].uses) == 1


def test_set_operands(check: Check, net: Graph) -> None:
    a, b, x, w, v = (net.values[name] for name in "abxwv")
    node = producer(net, "b")
    edit.set_operand(node, 1, x)
    check(net)
    assert [value and value.name for value in node.operands] == ["a", "x"]
    edit.set_operand(node, 0, None)
    edit.set_operand(node, 0, w)
    check(net)
    assert (len(a.uses), len(x.uses), len(w.uses)) == (0, 2, 2)
    edit.set_operands(node, [v, None, v])
    check(net)
    assert (x.uses, v.uses) == ([(producer(net, "a"), 0)], [(node, 0), (node, 2)])
    edit.set_operands(node, [])
    check(net)
    assert b.uses == [(producer(net, "y"), 0)]


def test_erase_node(check: Check, net: Graph) -> None:
    b = net.values["b"]
    for name in ("a", "b", "y"):
        with pytest.raises(InternalError, match=rf"^%{name} is erased while it is read$"):
            edit.erase_node(producer(net, name))
    check(net)
    assert to_text(net) == NET
    edit.replace_uses(net.values["y"], b, net)
    edit.erase_node(producer(net, "y"))
    check(net)
    assert b.uses == []
    assert lines(net, NET) == ["- %y = relu(%b) : f32[2]", '- output %y as "score"', '+ output %b as "score"']


def test_erase_node_that_a_subgraph_reads_or_shows(branches: Graph) -> None:
    with pytest.raises(InternalError, match=r"^%a is erased while it is read$"):
        edit.erase_node(producer(branches, "a"))
    inner = list(branches.walk())[2]
    inner.outputs[0].value = branches.values["a"]
    edit.set_operands(producer(branches, "z"), [])
    assert branches.values["a"].uses == []
    with pytest.raises(InternalError, match=r"^%a is erased while it is read$"):
        edit.erase_node(producer(branches, "a"))


def test_note(net: Graph) -> None:
    edit.note(net.nodes[:2], "fuse")
    edit.note(net.nodes[1:], "prune")
    assert [node.trail for node in net.nodes] == [("fuse",), ("fuse", "prune"), ("prune",)]


def test_sort_moves_as_little_as_need_be(check: Check, branches: Graph) -> None:
    text = to_text(branches)
    edit.sort(branches)
    assert to_text(branches) == text
    free = edit.add_node(branches, "relu", [branches.values["x"]], {"free": VECTOR})
    late = edit.add_node(branches, "relu", [branches.values["x"]], {"late": VECTOR})
    inner = list(branches.walk())[2]
    edit.set_operand(producer(branches, "z"), 0, late.result)  # a subgraph reads what comes later
    edit.sort(branches)
    check(branches)
    assert [node.name for node in branches.nodes] == ["a", "free", "late", "y"]
    inner.outputs[0].value = edit.add_node(branches, "relu", [free.result], {"last": VECTOR}).result
    edit.sort(branches)
    check(branches)
    assert [node.name for node in branches.nodes] == ["a", "free", "late", "last", "y"]


def test_sort_refuses_a_cycle(net: Graph) -> None:
    edit.set_operand(producer(net, "a"), 0, net.values["b"])
    with pytest.raises(InternalError, match=r"^cycle through %a, %b, %y$"):
        edit.sort(net)
