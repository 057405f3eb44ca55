"""Every function that changes a graph leaves names unique, uses right and the order topological; misuse is refused."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bitwright.ir import edit
from bitwright.ir.errors import InternalError
from bitwright.ir.formats import fixed
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import to_text
from bitwright.ir.types import F32, I64, UNKNOWN, Native, Type

Check = Callable[[Graph], None]

VECTOR = Type(F32, (2,))

NET = """graph @net {
  input %x as "image" : f32[2]
  weight %w = [1.0,2.0] : f32[2]
  weight %v = [3.0,4.0] : f32[2]
  %a = add(%x, %w) : f32[2]
  %b = mul(%a, %a) : f32[2]
  %y = relu(%b) : f32[2]
  output %y as "score"
}
"""

BRANCHES = """graph @net {
  input %x : f32[2]
  input %c : bool[]
  weight %w = [1.0,2.0] : f32[2]
  weight %k = [5.0,6.0] : f32[2]
  %a = relu(%x) : f32[2]
  %y = onnx.If(%c) {else_branch=graph @else {
    output %k
  }, then_branch=graph @then {
    weight %u = [7.0,8.0] : f32[2]
    %z = add(%a, %w) : f32[2]
    %t = mul(%z, %u) : f32[2]
    output %t
  }} : f32[2]
  output %y
}
"""


def lines(graph: Graph, before: str) -> list[str]:
    """The lines that are not as before: what went with `-`, what came with `+`."""
    old, new = before.split("\n"), to_text(graph).split("\n")
    return ["- " + line.strip() for line in old if line not in new] + [
        "+ " + line.strip() for line in new if line not in old
    ]


@pytest.fixture
def net() -> Graph:
    return parse(NET)


@pytest.fixture
def branches() -> Graph:
    return parse(BRANCHES)


def producer(graph: Graph, name: str) -> Node:
    for inner in graph.walk():
        if name in inner.values:
            node = inner.values[name].producer
            assert node is not None
            return node
    raise KeyError(name)


def test_names_are_cleaned_and_unique_in_all_graphs(branches: Graph) -> None:
    then = list(branches.walk())[2]
    assert then.name == "then"
    assert [edit.unique_name(branches, name) for name in ("new", "a/b:0", "é.$_1", "", "..", "x", "z", "u")] == [
        "new", "a_b_0", "é.$_1", "value", "value", "x.1", "z.1", "u.1"
    ]  # fmt: skip
    assert edit.unique_name(then, "x") == "x.1"
    edit.add_weight(then, "x.1", Tensor(np.zeros(1)))
    assert edit.unique_name(branches, "x") == "x.2"


def test_add_input(check: Check, net: Graph) -> None:
    value = edit.add_input(net, "mask", VECTOR, "mask:0")
    other = edit.add_input(net, "scale", VECTOR, "scale", Tensor(np.ones(2, np.float32)))
    check(net)
    assert lines(net, NET) == ['+ input %mask as "mask:0" : f32[2]', "+ input %scale = [1.0,1.0] : f32[2]"]
    assert [net.input_name(v) for v in net.inputs] == ["image", "mask:0", "scale"]
    assert net.inputs[1:] == [value, other]
    assert other not in net.weights
    with pytest.raises(InternalError, match=r"^%w exists$"):
        edit.add_input(net, "w", VECTOR)


def test_add_weight(check: Check, net: Graph) -> None:
    edit.add_weight(net, "p", Tensor(np.arange(2)))
    edit.add_weight(net, "q", Tensor(np.zeros(2, np.float32)), Type(fixed(8), (2,)))
    check(net)
    assert lines(net, NET) == ["+ weight %p = [0,1] : i64[2]", "+ weight %q = [0.0,0.0] : FIXED<8>[2]"]
    with pytest.raises(InternalError, match=r"^%x exists$"):
        edit.add_weight(net, "x", Tensor(np.zeros(1)))


def test_add_output(check: Check, net: Graph) -> None:
    edit.add_output(net, net.values["a"])
    edit.add_output(net, net.values["a"], "again")
    check(net)
    assert lines(net, NET) == ["+ output %a", '+ output %a as "again"']
    assert [net.is_output(net.values[name]) for name in ("a", "b", "y")] == [True, False, True]


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


def test_set_tensor_keeps_a_chosen_format(check: Check, net: Graph) -> None:
    w, v = net.values["w"], net.values["v"]
    edit.set_type(v, Type(fixed(8), (2,)))
    edit.set_tensor(w, Tensor(np.arange(3)))
    edit.set_tensor(v, Tensor(np.zeros((2, 1), np.float32)))
    check(net)
    assert w.type == Type(I64, (3,))
    assert v.type == Type(fixed(8), (2, 1))
    with pytest.raises(AssertionError, match="%a is no weight"):
        edit.set_tensor(net.values["a"], Tensor(np.zeros(2)))


def test_freeze_input(check: Check, net: Graph) -> None:
    x = net.inputs[0]
    with pytest.raises(AssertionError, match="%x has no value to freeze"):
        edit.freeze_input(net, x)
    value = edit.add_input(net, "scale", Type(fixed(8), (2,)), "scale:0", Tensor(np.ones(2, np.float32)))
    edit.set_operand(producer(net, "b"), 1, value)
    edit.freeze_input(net, value)
    check(net)
    assert net.inputs == [x]
    assert net.external == {"x": "image"}
    assert value in net.weights
    assert "weight %scale = [1.0,1.0] : f32[2]" in to_text(net)
    assert value.uses == [(producer(net, "b"), 1)]


def test_freeze_results(check: Check, branches: Graph) -> None:
    node = producer(branches, "y")
    edit.freeze_results(node, [Tensor(np.array([1, 2]))])
    check(branches)
    assert [value.uses for value in (branches.values[name] for name in "awkc")] == [[], [], [], []]
    assert "weight %y = [1,2] : i64[2]" in to_text(branches)
    a = producer(branches, "a")
    other = edit.add_node(branches, "relu", [a.result], {"o": VECTOR})
    edit.freeze_results(a, [Tensor(np.zeros(2, np.float32))])
    check(branches)
    assert branches.nodes == [other]
    assert branches.values["x"].uses == []


def test_give_weight(check: Check, net: Graph) -> None:
    a, b = producer(net, "a"), producer(net, "b")
    edit.give_weight(a, 1, Tensor(np.zeros(3, np.float32)), "other")  # only this node reads %w
    check(net)
    assert lines(net, NET)[1] == "+ weight %w = [0.0,0.0,0.0] : f32[3]"
    edit.set_operand(b, 1, net.values["w"])
    edit.give_weight(a, 1, Tensor(np.ones(1, np.float32)), "w")  # now another one reads it too
    check(net)
    assert [v and v.name for v in a.operands] == ["x", "w.1"]
    edit.give_weight(b, 2, Tensor(np.ones(2, np.float32)), "bias")  # an operand more
    check(net)
    assert [v and v.name for v in b.operands] == ["a", "w", "bias"]
    edit.give_weight(b, 0, Tensor(np.ones(4, np.float32)), "a")  # a result is nobody's weight
    check(net)
    assert [v and v.name for v in b.operands] == ["a.1", "w", "bias"]
    edit.add_output(net, net.values["w"])
    edit.give_weight(b, 1, Tensor(np.ones(5, np.float32)), "w")  # an output shows the old data
    check(net)
    assert net.values["w"].tensor_type.shape == (3,)
    assert [v and v.name for v in b.operands] == ["a.1", "w.2", "bias"]


def test_give_weight_keeps_a_chosen_format(check: Check, net: Graph) -> None:
    a, w = producer(net, "a"), net.values["w"]
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    edit.set_tensor(w, Tensor(matrix))
    for axis, turned, wanted in (
        (0, False, 0),
        (0, True, 1),
        (1, True, 0),
        (-1, True, 0),
        (-2, True, 1),
        (None, True, None),
    ):
        bias = 1 if axis is None else tuple(range(w.tensor_type.shape[axis]))  # type: ignore[index,misc]
        edit.set_type(w, w.tensor_type.with_format(fixed(8).at(bias, axis)))
        data = w.tensor.data  # type: ignore[union-attr]
        edit.give_weight(a, 1, Tensor(data.T if turned else data), "w", turned=turned)
        check(net)
        assert w.tensor_type.number == fixed(8).at(bias, wanted)
        assert w.tensor_type.shape == (data.T if turned else data).shape


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


def test_replace_uses_here_and_inside(check: Check, branches: Graph) -> None:
    a, x, w, k = (branches.values[name] for name in "axwk")
    edit.replace_uses(a, x, branches)
    edit.replace_uses(k, w, branches)
    check(branches)
    assert a.uses == []
    assert lines(branches, BRANCHES) == [
        "- output %k", "- %z = add(%a, %w) : f32[2]", '+ output %w as "k"', "+ %z = add(%x, %w) : f32[2]"
    ]  # fmt: skip


def test_replace_uses_keeps_the_outside_name(check: Check, net: Graph) -> None:
    edit.replace_uses(net.values["y"], net.values["b"], net)
    check(net)
    assert lines(net, NET) == ['- output %y as "score"', '+ output %b as "score"']
    edit.replace_uses(net.values["a"], net.values["x"], net)
    check(net)
    assert [v and v.name for v in producer(net, "b").operands] == ["x", "x"]


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


def test_erase_weights(check: Check, branches: Graph) -> None:
    for name in ("w", "k"):  # read, and shown by a subgraph
        with pytest.raises(InternalError, match=rf"^%{name} is erased while it is read$"):
            edit.erase_weight(branches, branches.values[name])
    edit.add_weight(branches, "free", Tensor(np.zeros(1)))
    shown = edit.add_weight(branches, "shown", Tensor(np.zeros(1)))
    edit.add_output(branches, shown)
    edit.add_input(branches, "unread", VECTOR, tensor=Tensor(np.zeros(2, np.float32)))
    assert edit.erase_unread_weights(branches)
    assert not edit.erase_unread_weights(branches)
    check(branches)
    assert list(branches.values) == ["x", "c", "w", "k", "a", "y", "shown", "unread"]
    with pytest.raises(InternalError, match=r"^%shown is erased while it is read$"):
        edit.erase_weight(branches, shown)
    edit.set_operand(producer(branches, "z"), 1, None)
    edit.erase_weight(branches, branches.values["w"])
    check(branches)


def test_rename(check: Check, net: Graph) -> None:
    order = list(net.values)
    for value, name in (("x", "x2"), ("w", "w2"), ("b", "b2"), ("y", "y2")):
        edit.rename(net, net.values[value], name)
    check(net)
    assert list(net.values) == [name + "2" if name in "xwby" else name for name in order]
    assert to_text(net) == NET.replace("%x", "%x2").replace("%w", "%w2").replace("%b", "%b2").replace("%y", "%y2")
    edit.rename(net, net.values["x2"], "image")
    check(net)
    assert (net.external, net.input_name(net.inputs[0])) == ({}, "image")
    edit.rename(net, net.inputs[0], "z")
    assert net.external == {"z": "image"}
    edit.rename(net, net.values["a"], "a")
    check(net)


def test_rename_to_a_name_that_any_graph_has(check: Check, branches: Graph) -> None:
    then = list(branches.walk())[2]
    for graph, value, name in ((branches, "a", "x"), (branches, "a", "z"), (then, "z", "x"), (then, "z", "u")):
        with pytest.raises(InternalError, match=rf"^%{name} exists$"):
            edit.rename(graph, graph.values[value], name)
    edit.rename(then, then.values["z"], "z2")
    check(branches)
    assert list(then.values) == ["u", "z2", "t"]


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


def test_type_of_every_dtype() -> None:
    assert edit.type_of(Tensor(np.zeros((2, 3), np.uint16))) == Type(Native("u16"), (2, 3))
    assert edit.type_of(Tensor(np.zeros((), ml_dtypes.int4))) == Type(Native("i4"), ())
    assert edit.type_of(Tensor(np.array(["a"], object))) == Type(Native("str"), (1,))
    with pytest.raises(InternalError, match=r"^no element type for datetime64"):
        edit.type_of(Tensor(np.zeros(1, "datetime64[s]")))


class Editing(RuleBasedStateMachine):
    """Random edits; after each the graph must know everything about itself, and a copy must print the same."""

    check: Check

    @initialize()
    def start(self) -> None:
        self.graph = parse(BRANCHES)
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def visible(self, graph: Graph, before: Node | None = None) -> list[Value]:
        """The values that a node at that place may read."""
        found: list[Value] = []
        inside: Graph | None = graph
        while inside is not None:
            found += [*inside.inputs, *inside.weights]
            for node in inside.nodes:
                if node is before:
                    break
                found += node.results
            before = inside.parent
            inside = inside.parent.graph if inside.parent else None
        return found

    @rule(data=st.data())
    def add_node(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        before = data.draw(st.sampled_from([None, *graph.nodes]))
        operands = data.draw(st.lists(st.sampled_from([None, *self.visible(graph, before)]), max_size=3))
        results = {self.name(): VECTOR for _ in range(data.draw(st.integers(0, 2)))}
        edit.add_node(graph, "onnx.Foo", operands, results, before=before)

    @rule(data=st.data())
    def add_subgraph(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        if not graph.nodes:
            return
        node = data.draw(st.sampled_from(graph.nodes))
        inner = Graph("inner")
        seen = self.visible(graph, node)
        if seen:
            value = data.draw(st.sampled_from(seen))
            edit.add_node(inner, "relu", [value], {self.name(): VECTOR})
            edit.add_output(inner, inner.nodes[0].result)
        edit.set_attribute(node, data.draw(st.sampled_from(["then_branch", "body"])), inner)

    @rule(data=st.data())
    def add_values(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        edit.add_weight(graph, self.name(), Tensor(np.zeros(2, np.float32)))
        edit.add_input(graph, self.name(), VECTOR, data.draw(st.sampled_from([None, "outside"])))

    @rule(data=st.data())
    def set_operand(self, data: st.DataObject) -> None:
        nodes = [node for inner in self.graph.walk() for node in inner.nodes if node.operands]
        if nodes:
            node = data.draw(st.sampled_from(nodes))
            value = data.draw(st.sampled_from([None, *self.visible(node.graph, node)]))
            edit.set_operand(node, data.draw(st.integers(0, len(node.operands) - 1)), value)

    @rule(data=st.data())
    def set_operands(self, data: st.DataObject) -> None:
        nodes = [node for inner in self.graph.walk() for node in inner.nodes]
        if nodes:
            node = data.draw(st.sampled_from(nodes))
            seen = self.visible(node.graph, node)
            edit.set_operands(node, data.draw(st.lists(st.sampled_from([None, *seen]), max_size=3)))

    @rule(data=st.data())
    def replace_by_an_earlier_one(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        if graph.nodes:
            node = data.draw(st.sampled_from(graph.nodes))
            seen = self.visible(graph, node)
            if node.results and seen:
                edit.replace_uses(node.results[0], data.draw(st.sampled_from(seen)), graph)
                assert not node.results[0].uses

    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        nodes = [node for inner in self.graph.walk() for node in inner.nodes]
        if nodes:
            node = data.draw(st.sampled_from(nodes))
            shown = {id(o.value) for inner in self.graph.walk() for o in inner.outputs}
            if any(result.uses or id(result) in shown for result in node.results):
                with pytest.raises(InternalError):
                    edit.erase_node(node)
            else:
                edit.erase_node(node)

    @rule(data=st.data())
    def lose_attributes(self, data: st.DataObject) -> None:
        nodes = [node for inner in self.graph.walk() for node in inner.nodes if node.attributes]
        if nodes:
            node = data.draw(st.sampled_from(nodes))
            if data.draw(st.booleans()):
                edit.set_op(node, "onnx.Bar", {"k": 1})
            else:
                edit.set_attribute(node, data.draw(st.sampled_from(sorted(node.attributes))), None)

    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        if graph.values:
            value = data.draw(st.sampled_from(list(graph.values.values())))
            wanted = data.draw(st.sampled_from(["x", "z", "u", "outside", "fresh"]))
            edit.rename(graph, value, edit.unique_name(graph, wanted))

    @rule(data=st.data())
    def erase_unread_weights(self, data: st.DataObject) -> None:
        edit.erase_unread_weights(data.draw(st.sampled_from(list(self.graph.walk()))))

    @rule(data=st.data())
    def shuffle_and_sort(self, data: st.DataObject) -> None:
        graph = data.draw(st.sampled_from(list(self.graph.walk())))
        graph.nodes = data.draw(st.permutations(graph.nodes))
        edit.sort(graph)

    @precondition(lambda self: len(self.graph.nodes) < 30)
    @rule()
    def go_on_with_a_copy(self) -> None:
        text = to_text(self.graph)
        self.graph = edit.copy(self.graph)
        assert to_text(self.graph) == text

    @invariant()
    def the_graph_knows_itself(self) -> None:
        if hasattr(self, "graph"):
            type(self).check(self.graph)
            text = to_text(self.graph)
            assert to_text(parse(text)) == text


def test_random_edits(check: Check) -> None:
    Editing.check = staticmethod(check)  # type: ignore[assignment]
    machine = Editing.TestCase
    machine.settings = settings(max_examples=25, stateful_step_count=20)
    machine().runTest()
