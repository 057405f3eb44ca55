"""Inputs, weights and outputs that are added, frozen, given, renamed or erased leave a graph right."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from edited import BRANCHES, NET, VECTOR, lines, producer

from bitwright.ir import edit
from bitwright.ir.errors import InternalError
from bitwright.ir.formats import fixed
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import to_text
from bitwright.ir.types import I64, Native, Type

Check = Callable[[Graph], None]


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


def test_type_of_every_dtype() -> None:
    assert edit.type_of(Tensor(np.zeros((2, 3), np.uint16))) == Type(Native("u16"), (2, 3))
    assert edit.type_of(Tensor(np.zeros((), ml_dtypes.int4))) == Type(Native("i4"), ())
    assert edit.type_of(Tensor(np.array(["a"], object))) == Type(Native("str"), (1,))
    with pytest.raises(InternalError, match=r"^no element type for datetime64"):
        edit.type_of(Tensor(np.zeros(1, "datetime64[s]")))
