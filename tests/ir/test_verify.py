"""What a graph must hold: the message of every mistake, with the node, its op, its shapes and where it came from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Affine, fixed
from bitwright.ir.graph import Attribute, Graph, Node
from bitwright.ir.ops import OPS, ShapeError, broadcast, window_extent
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import F32, UNKNOWN, Native, Type
from bitwright.ir.verify import verify

VALUES = """
  input %v : f32[6]
  input %m : f32[2,6]
  input %i : f32[1,4,8,8]
  input %n : f32[N,4,H,8]
  input %any : f32[*]
  weight %w = 00000001 : f32[6,4,3,3]
  weight %b = 00000002 : f32[6]
  weight %k = 00000003 : f32[5,6]
  weight %five = 00000004 : f32[5]
"""

WINDOW = "kernel, strides and dilations are two positive numbers, pads are four that are not negative"


def text(line: str) -> str:
    return f"graph @g {{{VALUES}  {line}\n}}\n"


def message(graph: Graph, file: str = "") -> str:
    with pytest.raises(CompileError) as caught:
        verify(graph, file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%y = conv3d(%i) : f32[1]", "there is no op conv3d"),
        ("%y = relu() : f32[1]", "relu takes (x), not ()"),
        ("%y = relu(_) : f32[1]", "relu takes (x), not (_)"),
        ("%y = relu(%v, %v) : f32[6]", "relu takes (x), not (%v, %v)"),
        ("%y = dense(%m) : f32[2,5]", "dense takes (x, w, b?), not (%m)"),
        ("%y = dense(%m, _, %b) : f32[2,5]", "dense takes (x, w, b?), not (%m, _, %b)"),
        ("%y = dense(%m, %k, %b, %b) : f32[2,5]", "dense takes (x, w, b?), not (%m, %k, %b, %b)"),
        ("%y = concat() {axis=0} : f32[1]", "concat takes (x*), not ()"),
        ("%y = concat(%v, _) {axis=0} : f32[6]", "concat takes (x*), not (%v, _)"),
        ("relu(%v)", "relu has one result"),
        ("%y, %z = relu(%v) : f32[6], f32[6]", "relu has one result"),
        ("%y = relu(%v) {alpha=1} : f32[6]", "relu has no attribute alpha; it has none"),
        ("%y = clip(%v) {low=1} : f32[6]", "clip has no attribute low; it has max, min"),
        ("%y = clip(%v) {min=low} : f32[6]", "min=low is no number"),
        ("%y = flatten(%m) {axis=2.0} : f32[2,6]", "axis=2.0 is no integer"),
        ("%y = concat(%m) {axis=[1]} : f32[2,6]", "axis=[1] is no integer"),
        ("%y = maxpool2d(%i) {kernel=3} : f32[1]", "kernel=3 is no list of integers"),
        ("%y = maxpool2d(%i) {kernel=[3,3.0]} : f32[1]", "kernel=[3,3.0] is no list of integers"),
        ("%y = maxpool2d(%i) {kernel=[3,3], pads=x} : f32[1]", "pads=x is no list of integers"),
        ("%y = dense(%m, %k) {act=1} : f32[2,5]", "act=1 is no word"),
        ("%y = maxpool2d(%i) : f32[1]", "maxpool2d needs kernel"),
        ("%y = concat(%m) : f32[2,6]", "concat needs axis"),
        ("%y = transpose(%m) : f32[6,2]", "transpose needs perm"),
        ("%y = reshape(%m) : f32[12]", "reshape needs shape"),
        ("%y = pad(%m) : f32[12]", "pad needs pads"),
        (
            "%y = dense(%m, %k) {act=tanh} : f32[2,5]",
            "there is no activation 'tanh'; there are none, relu, clip, hardswish, hardsigmoid",
        ),
        # shapes
        ("%y = relu(%v) : f32[7]", "the result has shape [6], not [7]"),
        ("%y = relu(%v) : f32[6,1]", "the result has shape [6], not [6,1]"),
        ("%y = globalavgpool(%n) : f32[N,4,2,1]", "the result has shape [N,4,1,1], not [N,4,2,1]"),
        ("%y = globalavgpool(%m) : f32[1]", "globalavgpool takes [N,C,H,W], not 2 dimensions"),
        ("%y = conv2d(%m, %w) {kernel=[3,3]} : f32[1]", "conv2d takes [N,C,H,W], not 2 dimensions"),
        ("%y = conv2d(%i, %k) {kernel=[3,3]} : f32[1]", "conv2d takes [N,C,H,W], not 2 dimensions"),
        ("%y = conv2d(%i, %w) {groups=2, kernel=[3,3]} : f32[1]", "4 channels for weights of 2 x 4"),
        ("%y = conv2d(%n, %w) {groups=0, kernel=[3,3]} : f32[1]", "groups is a positive number"),
        ("%y = conv2d(%i, %w) {kernel=[3,5]} : f32[1]", "weights of [3, 3] for a kernel of [3, 5]"),
        ("%y = conv2d(%i, %w, %k) {kernel=[3,3]} : f32[1]", "the bias %k of shape [5,6] for 6 output channels"),
        ("%y = conv2d(%i, %w, %five) {kernel=[3,3]} : f32[1]", "the bias %five of shape [5] for 6 output channels"),
        ("%y = conv2d(%i, %w) {kernel=[3,3], strides=[2]} : f32[1]", WINDOW),
        ("%y = maxpool2d(%i) {kernel=[3,3], strides=[0,1]} : f32[1]", WINDOW),
        ("%y = maxpool2d(%i) {dilations=[1,0], kernel=[3,3]} : f32[1]", WINDOW),
        ("%y = maxpool2d(%i) {kernel=[3,3], pads=[1,1]} : f32[1]", WINDOW),
        ("%y = maxpool2d(%i) {kernel=[3,3], pads=[-1,0,0,0]} : f32[1]", WINDOW),
        ("%y = maxpool2d(%i) {kernel=[]} : f32[1]", WINDOW),
        ("%y = maxpool2d(%i) {dilations=[4,1], kernel=[3,3]} : f32[1]", "a window of 9 does not fit 8 + 0 + 0"),
        ("%y = maxpool2d(%i) {kernel=[3,3]} : f32[1,4,6,7]", "the result has shape [1,4,6,6], not [1,4,6,7]"),
        ("%y = conv2d(%i, %w) {kernel=[3,3], pool=[2]} : f32[1]", "pool and pool_strides are two positive numbers"),
        (
            "%y = conv2d(%i, %w) {kernel=[3,3], pool=[2,2], pool_strides=[0,1]} : f32[1]",
            "pool and pool_strides are two positive numbers",
        ),
        ("%y = conv2d(%i, %w) {kernel=[3,3], pool=[7,2]} : f32[1]", "a window of 7 does not fit 6 + 0 + 0"),
        ("%y = dense(%m, %v) : f32[1]", "dense takes [...,K] and weights [M,K]"),
        ("%y = dense(%i, %k) : f32[1]", "8 features for weights of 6"),
        ("%y = dense(%m, %k, %b) : f32[1]", "the bias %b of shape [6] for 5 output channels"),
        ("%y = dense(%m, %k, %k) : f32[1]", "the bias %k of shape [5,6] for 5 output channels"),
        ("%y = add(%i, %v) : f32[1]", "8 and 6 do not broadcast"),
        ("%y = concat(%i, %m) {axis=1} : f32[1]", "concat of different ranks"),
        ("%y = concat(%m) {axis=2} : f32[1]", "axis 2 of 2 dimensions"),
        ("%y = concat(%m, %k) {axis=1} : f32[1]", "concat of 2 and 5 on axis 0"),
        ("%y = flatten(%m) {axis=3} : f32[1]", "axis 3 of 2 dimensions"),
        ("%y = argmax(%m) {axis=2} : i64[1]", "axis 2 of 2 dimensions"),
        ("%y = argmax(%m) {axis=-3} : i64[1]", "axis -3 of 2 dimensions"),
        ("%y = transpose(%m) {perm=[0,0]} : f32[1]", "perm [0, 0] of 2 dimensions"),
        ("%y = transpose(%m) {perm=[1]} : f32[1]", "perm [1] of 2 dimensions"),
        ("%y = reshape(%m) {shape=[5,-1]} : f32[1]", "12 elements do not make [5, -1]"),
        ("%y = reshape(%m) {shape=[3,5]} : f32[1]", "12 elements do not make [3, 5]"),
        ("%y = reshape(%m) {shape=[3,4,0]} : f32[1]", "reshape to [3, 4, 0] copies a dimension that is not there"),
        ("%y = reshape(%m) {shape=[-1,-1]} : f32[1]", "reshape to [-1, -1] leaves more than one dimension open"),
        ("%y = reshape(%m) {shape=[-2]} : f32[1]", "reshape to [-2] leaves more than one dimension open"),
        ("%y = pad(%m) {pads=[1,1]} : f32[1]", "2 pads for 2 dimensions"),
        ("%y = pad(%m) {pads=[-1,0,-2,0]} : f32[1]", "pads [-1, 0, -2, 0] take more than [2, 6] has"),
        # formats
        ("%y = relu(%v) : FIXED<8,B={1,2}@0>[6]", "2 channel formats for an axis of 6"),
        ("%y = relu(%v) : FIXED<8,B={1,2}@1>[6]", "formats a channel of axis 1 for shape [6]"),
        ("%y = relu(%any) : FIXED<8,B={1,2}@0>[*]", "formats a channel of axis 0 for shape [*]"),
        ("%y = globalavgpool(%n) : FIXED<8,B={1,2}@0>[N,4,1,1]", "2 channel formats for an axis of N"),
        ("%y = onnx.Foo(%v) : AFFINE<8,scale={1,2}@-2>[6]", "formats a channel of axis -2 for shape [6]"),
    ],
)
def test_what_is_wrong_with_a_node(line: str, said: str) -> None:
    name = "y" if line.startswith("%y") else "(relu)"
    assert message(parse(text(line))) == f"(%{name}): {said}\n  {line}"


@pytest.mark.parametrize(
    "line",
    [
        "%y = conv2d(%i, %w) {groups=1, kernel=[3,3]} : f32[1,6,6,6]",
        "%y = conv2d(%i, %w, _) {kernel=[3,3]} : f32[1,6,6,6]",
        "%y = conv2d(%i, %w, %b) {kernel=[3,3], pool=[2,2]} : f32[1,6,3,3]",
        "%y = conv2d(%i, %w, %b) {kernel=[3,3], pool=[2,2], pool_strides=[1,2]} : FIXED<8,B={1,2,3,4,5,6}@1>[1,6,5,3]",
        "%y = conv2d(%n, %w, %b) {dilations=[2,2], kernel=[3,3], pads=[1,0,1,0]} : f32[N,6,?,4]",
        "%y = conv2d(%any, %w) {kernel=[1,2,3]} : f32[*]",
        "%y = dense(%m, %k) : f32[2,5]",
        "%y = dense(%v, %k, %five) {act=hardswish} : f32[5]",
        "%y = clip(%v) {max=6, min=-inf} : f32[6]",
        "%y = concat(%m, %m, %k) {axis=-2} : f32[9,6]",
        "%y = concat(%m) {axis=0} : f32[*]",
        "%y = flatten(%n) : f32[N,?]",
        "%y = flatten(%n) {axis=0} : f32[1,?]",
        "%y = reshape(%n) {shape=[0,-1]} : f32[N,?]",
        "%y = argmax(%m) {axis=-1, keepdims=0} : i64[2]",
        "%y = relu(%v) : ?",
        "%y = relu(%any) : f32[6]",
        "%y = relu(%v) : f32[K]",
        "onnx.Nothing()",
        "%y = onnx.a-b::Foo(_, %v) {axis=[1]} : seq<f32[2]>",
    ],
)
def test_what_is_right(line: str) -> None:
    verify(parse(text(line)))


def test_the_message_says_where_a_node_came_from() -> None:
    graph = parse(text("%y = relu(%v) : f32[7]"))
    node = graph.nodes[0]
    node.source = 'Relu "relu_7"'
    said = "(%y): the result has shape [6], not [7]\n  %y = relu(%v) : f32[7]"
    assert message(graph) == f'node Relu "relu_7" {said}'
    assert message(graph, "net.onnx") == f'net.onnx: node Relu "relu_7" {said}'
    edit.note([node], "fuse")
    edit.note([node], "prune{ratio=0.2}")
    assert message(graph, "net.onnx") == f'net.onnx: node Relu "relu_7" {said}\n  changed by: fuse, prune{{ratio=0.2}}'


def test_what_is_wrong_with_inputs_and_weights() -> None:
    graph = Graph("g")
    weight = edit.add_weight(graph, "w", Tensor(np.zeros((2, 3), np.float32)), Type(F32, (3, 2)))
    assert message(graph, "net.ir") == "net.ir: %w: data of [2, 3] for type f32[3,2]"
    edit.set_type(weight, Type(fixed(8).at((1, 2, 3), 0), (2, 3)))
    assert message(graph) == "%w: 3 channel formats for an axis of 2"
    edit.set_type(weight, Type(Affine(8, (0.1,), 0, axis=2), (2, 3)))
    assert message(graph) == "%w: formats a channel of axis 2 for shape [2,3]"
    edit.set_type(weight, Type(F32, (2, "N")))
    assert message(graph) == "%w: data of [2, 3] for type f32[2,N]"
    edit.set_type(weight, Type(F32, (2, 3)))
    value = edit.add_input(graph, "x", Type(fixed(8).at((1,), 0), None))
    assert message(graph) == "%x: formats a channel of axis 0 for shape [*]"
    edit.set_type(value, UNKNOWN)
    verify(graph)


Damage = Callable[[Graph], object]


def used_too_early(graph: Graph) -> None:
    graph.nodes.reverse()


def not_aware(graph: Graph) -> None:
    graph.values["v"].uses.clear()


def removed(graph: Graph) -> None:
    del graph.values["b"]


def other_registered(graph: Graph) -> None:
    graph.values["y"] = graph.values["z"]


def other_producer(graph: Graph) -> None:
    graph.values["y"].producer = graph.values["z"].producer


def not_made(graph: Graph) -> None:
    graph.nodes.pop()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (used_too_early, "(%z): %y is used before it is made\n  %z = relu(%y) : f32[6]"),
        (not_aware, "(%y): %v does not know that it is used\n  %y = add(%v, %b) : f32[6]"),
        (removed, "(%y): %b is used before it is made\n  %y = add(%v, %b) : f32[6]"),
        (other_registered, "(%y): %y is not registered as its result\n  %y = add(%v, %b) : f32[6]"),
        (other_producer, "(%y): %y is not registered as its result\n  %y = add(%v, %b) : f32[6]"),
        (not_made, "output %z is not made in @g"),
    ],
)
def test_graphs_that_were_changed_by_hand(damage: Damage, said: str) -> None:
    graph = parse(text("%y = add(%v, %b) : f32[6]\n  %z = relu(%y) : f32[6]\n  output %z"))
    verify(graph)
    damage(graph)
    assert message(graph) == said
    assert message(graph, "net.ir") == "net.ir: " + said


SUBGRAPH = """graph @g {
  input %x : f32[2]
  input %c : bool[]
  %a = relu(%x) : f32[2]
  %y = onnx.If(%c) {else_branch=graph @else {
    %e = relu(%a) : f32[2]
    output %e
  }, then_branch=graph @then {
    %t = relu(%x) : f32[2]
    output %t
  }} : f32[2]
  output %y
}
"""


def test_subgraphs_see_what_is_above_them_and_nothing_else() -> None:
    graph = parse(SUBGRAPH)
    verify(graph)
    other, then = list(graph.walk())[1:]
    edit.set_operand(then.nodes[0], 0, other.values["e"])
    assert message(graph) == "(%t): %e is used before it is made\n  %t = relu(%e) : f32[2]"
    edit.set_operand(then.nodes[0], 0, graph.values["y"])
    assert message(graph) == "(%t): %y is used before it is made\n  %t = relu(%y) : f32[2]"
    edit.set_operand(then.nodes[0], 0, graph.values["a"])
    verify(graph)
    then.outputs[0].value = other.values["e"]
    assert message(graph) == "output %e is not made in @then"
    then.outputs[0].value = graph.values["a"]
    verify(graph)
    graph.outputs[0].value = then.values["t"]
    assert message(graph) == "output %t is not made in @g"


def test_a_name_is_one_values_in_all_graphs() -> None:
    graph = parse(SUBGRAPH)
    other, then = list(graph.walk())[1:]
    edit.add_weight(then, "k", Tensor(np.zeros(1)))
    verify(graph)
    edit.add_weight(other, "k", Tensor(np.zeros(1)))
    assert message(graph, "net.ir") == "net.ir: %k names two values"
    edit.erase_unread_weights(other)
    verify(graph)
    edit.add_weight(then, "x", Tensor(np.zeros(1)))
    assert message(graph) == "%x names two values"


@pytest.mark.parametrize("op", OPS)
def test_wrong_operands_and_attributes_are_said_in_words(op: str) -> None:
    """Whatever the kinds and shapes are: a graph verifies or is a user's error, never an exception of Python."""
    words: list[Attribute] = [1, 0, -7, 2.5, "word", "relu", (), (1,), (0, 0), (2, 1), (1, 1, 1, 1), (1.5, 2.5), ("a",)]
    shapes = [(), (3,), (2, 3), (1, 2, 8, 8), (2, 2, 3, 3), (0, 0, 0, 0), ("N", None), None]
    random, right = np.random.default_rng(1), 0
    for _ in range(500):
        graph = Graph("g")
        for i in range(random.integers(0, 6)):
            edit.add_input(graph, f"x{i}", Type(F32, shapes[random.integers(len(shapes))]))
        names = [name for name in OPS[op].attributes if random.random() < 0.5]
        attributes = {name: words[random.integers(len(words))] for name in names}
        edit.add_node(graph, op, graph.inputs, {"y": Type(F32, None)}, attributes)
        try:
            verify(graph)
            right += 1
        except CompileError:
            pass
    assert right < 500


def node(op: str, shapes: list[tuple[int | str | None, ...]], attributes: dict[str, Attribute]) -> Node:
    graph = Graph("g")
    inputs = [edit.add_input(graph, f"x{i}", Type(Native("f32"), shape)) for i, shape in enumerate(shapes)]
    return edit.add_node(graph, op, inputs, {"y": UNKNOWN}, attributes)


def test_shapes_of_windows_broadcasts_and_reshapes() -> None:
    # size, kernel, stride, before, after, dilation, ceil
    assert window_extent(28, 5, 1, 0, 0, 1, False) == 24
    assert window_extent(7, 2, 2, 0, 0, 1, False) == 3
    assert window_extent(7, 2, 2, 0, 0, 1, True) == 4
    assert window_extent(8, 2, 2, 0, 0, 1, True) == 4
    assert window_extent(5, 2, 3, 0, 1, 1, True) == 2  # a third window would start in the padding after
    assert window_extent(5, 2, 3, 1, 1, 1, True) == 2
    assert window_extent(6, 2, 3, 1, 1, 1, True) == 3
    assert window_extent(9, 3, 2, 1, 1, 2, False) == 4
    assert window_extent("H", 3, 2, 1, 1, 2, False) is None
    assert window_extent(None, 3, 2, 1, 1, 2, False) is None
    with pytest.raises(ShapeError, match=r"^a window of 5 does not fit 3 \+ 0 \+ 1$"):
        window_extent(3, 3, 1, 0, 1, 2, False)
    assert broadcast((2, 1, "N"), (5, 1)) == (2, 5, "N")
    assert broadcast((None, "N", "N"), (3, "N", "M")) == (3, "N", None)
    assert broadcast(("N",), (4, 1)) == (4, "N")
    for source, target, wanted in (
        ((2, 3, 4), (0, -1), (2, 12)),
        ((2, 3, 4), (4, 0, 2), (4, 3, 2)),
        (("N", 3, 4), (0, -1), ("N", 12)),
        (("N", 3, 4), (-1, 12), (None, 12)),
        (("N", 3, 4), (0, 0, -1, 2), ("N", 3, 2, 2)),
        (("N", 3, 4), (2, 6), (2, 6)),
        (("N", "M"), (-1,), (None,)),
        (("N", 1), (-1,), ("N",)),
        ((1,), (), ()),
        ((0, 3), (-1, 3), (0, 3)),
    ):
        rule = OPS["reshape"].shape
        assert rule(node("reshape", [source], {"shape": target}), [source]) == wanted
