"""Which channels live and die together, group by group, and why some cannot go."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnx.backend.test
import pytest

from bitwright.ir.graph import Graph
from bitwright.ir.onnx.read import from_model
from bitwright.ir.parse import parse
from bitwright.ir.verify import verify
from bitwright.passes import STRUCTURE, run_passes
from bitwright.passes.channels import ChannelGroup, Port, find_channels, layers

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def graph_of(*lines: str) -> Graph:
    """A graph between conv1 with four filters and whatever reads them."""
    graph = parse(
        "\n".join(
            [
                "graph @g {\nopset ai.onnx=17\ninput %x : f32[N,1,3,3]\nweight %w1 = 00000001 : f32[4,1,1,1]",
                *(line for line in lines if line.startswith(("weight", "input"))),
                "%conv1 = conv2d(%x, %w1) {kernel=[1,1]} : f32[N,4,3,3]",
                *(line for line in lines if not line.startswith(("weight", "input"))),
                "}",
            ]
        )
    )
    verify(graph)
    return graph


def ports(ports: tuple[Port, ...]) -> dict[str, tuple[tuple[int, ...], ...]]:
    return {port.node.name: port.channels for port in ports}


def group_of(graph: Graph, producer: str, grouped: Literal["whole", "inside"] = "whole") -> ChannelGroup:
    """The one group that a layer writes."""
    (found,) = (g for g in find_channels(graph, grouped).groups if producer in ports(g.producers))
    return found


CONV2 = ("weight %w2 = 00000002 : f32[4,4,1,1]", "%conv2 = conv2d(%conv1, %w2) {kernel=[1,1]} : f32[N,4,3,3]")
ONE_BY_ONE = ((0,), (1,), (2,), (3,))


def test_a_dense_reads_a_block_for_each_channel() -> None:
    graph = graph_of(
        "weight %w2 = 00000002 : f32[5,36]",
        "%flat = flatten(%conv1) : f32[N,36]",
        "%fc = dense(%flat, %w2) : f32[N,5]",
        "output %fc",
    )
    group = group_of(graph, "conv1")
    assert (group.count, group.why_not) == (4, "")
    assert ports(group.producers) == {"conv1": ONE_BY_ONE}
    assert ports(group.consumers) == {"fc": tuple(tuple(range(9 * c, 9 * c + 9)) for c in range(4))}
    assert (group.producers[0].span, group.consumers[0].span) == ((0, 4), (0, 36))
    assert group_of(graph, "fc").why_not == "they reach the output fc"


def test_a_dense_after_a_transpose_reads_every_fourth() -> None:
    graph = graph_of(
        "weight %w2 = 00000002 : f32[5,36]",
        "%last = transpose(%conv1) {perm=[0,2,3,1]} : f32[N,3,3,4]",
        "%flat = reshape(%last) {shape=[-1,36]} : f32[N,36]",
        "%fc = dense(%flat, %w2) : f32[N,5]",
        "output %fc",
    )
    assert ports(group_of(graph, "conv1").consumers) == {"fc": tuple(tuple(range(c, 36, 4)) for c in range(4))}


def test_an_add_ties_both_sides() -> None:
    graph = graph_of(
        *CONV2,
        "weight %w3 = 00000003 : f32[2,4,1,1]",
        "%sum = add(%conv2, %conv1) : f32[N,4,3,3]",
        "%conv3 = conv2d(%sum, %w3) {kernel=[1,1]} : f32[N,2,3,3]",
        "output %conv3",
    )
    group = group_of(graph, "conv1")
    assert ports(group.producers) == {"conv1": ONE_BY_ONE, "conv2": ONE_BY_ONE}
    assert ports(group.consumers) == {"conv2": ONE_BY_ONE, "conv3": ONE_BY_ONE}
    assert [g.count for g in find_channels(graph).groups if not g.why_not] == [4]


@pytest.mark.parametrize("op", ["onnx.Sum", "onnx.Max"])
def test_a_sum_of_three_ties_all(op: str) -> None:
    graph = graph_of(
        *CONV2,
        "weight %c = 00000004 : f32[4,1,1]",
        "weight %w3 = 00000003 : f32[2,4,1,1]",
        f"%sum = {op}(%c, %conv2, %conv1) : f32[N,4,3,3]",
        "%conv3 = conv2d(%sum, %w3) {kernel=[1,1]} : f32[N,2,3,3]",
        "output %conv3",
    )
    assert set(ports(group_of(graph, "conv1").producers)) == {"conv1", "conv2"}
    found = find_channels(graph)
    assert found.of(graph.values["c"])[0].tolist() == found.at(layers(graph)[0], "output")


def test_a_concat_shifts_and_a_split_takes_apart() -> None:
    graph = graph_of(
        "weight %w2 = 00000002 : f32[2,1,1,1]",
        "weight %w3 = 00000003 : f32[2,3,1,1]",
        "weight %w4 = 00000004 : f32[2,3,1,1]",
        "%conv2 = conv2d(%x, %w2) {kernel=[1,1]} : f32[N,2,3,3]",
        "%both = concat(%conv1, %conv2) {axis=1} : f32[N,6,3,3]",
        "%a, %b = onnx.Split(%both) {axis=1} : f32[N,3,3,3], f32[N,3,3,3]",
        "%conv3 = conv2d(%a, %w3) {kernel=[1,1]} : f32[N,2,3,3]",
        "%conv4 = conv2d(%b, %w4) {kernel=[1,1]} : f32[N,2,3,3]",
        "output %conv3",
        "output %conv4",
    )
    found = [(ports(g.producers), ports(g.consumers)) for g in find_channels(graph).groups if not g.why_not]
    assert found == [
        ({"conv1": ((0,), (1,), (2,))}, {"conv3": ((0,), (1,), (2,))}),
        ({"conv1": ((3,),)}, {"conv4": ((0,),)}),
        ({"conv2": ((0,), (1,))}, {"conv4": ((1,), (2,))}),
    ]


def grouped_convolution(groups: int, outputs: int) -> Graph:
    return graph_of(
        f"weight %w2 = 00000002 : f32[{outputs},{4 // groups},1,1]",
        f"weight %w3 = 00000003 : f32[1,{outputs},1,1]",
        f"%conv2 = conv2d(%conv1, %w2) {{groups={groups}, kernel=[1,1]}} : f32[N,{outputs},3,3]",
        "%conv3 = conv2d(%conv2, %w3) {kernel=[1,1]} : f32[N,1,3,3]",
        "output %conv3",
    )


PAIRS = ((0, 1), (2, 3))
TWOS = ((0, 1), (2, 3), (4, 5), (6, 7))


@pytest.mark.parametrize(
    ("groups", "outputs", "grouped", "read", "written"),
    [
        (4, 4, "whole", ONE_BY_ONE, ONE_BY_ONE),
        (4, 4, "inside", ONE_BY_ONE, ONE_BY_ONE),
        (4, 8, "whole", ONE_BY_ONE, TWOS),
        (2, 2, "whole", PAIRS, ((0,), (1,))),
        (2, 4, "whole", PAIRS, PAIRS),
        (2, 4, "inside", ((0, 2), (1, 3)), ((0, 2), (1, 3))),
        (2, 2, "inside", ((0, 2), (1, 3)), ((0, 1),)),
    ],
)
def test_groups(
    groups: int,
    outputs: int,
    grouped: Literal["whole", "inside"],
    read: tuple[tuple[int, ...], ...],
    written: tuple[tuple[int, ...], ...],
) -> None:
    graph = grouped_convolution(groups, outputs)
    assert ports(group_of(graph, "conv1", grouped).producers)["conv1"] == read
    assert ports(group_of(graph, "conv1", grouped).consumers)["conv2"] == read
    assert ports(group_of(graph, "conv2", grouped).producers)["conv2"] == written
    together = grouped == "whole" or groups == 4
    assert ("conv2" in ports(group_of(graph, "conv1", grouped).producers)) == together


def test_a_gate_goes_with_its_channel() -> None:
    graph = graph_of(
        "weight %w2 = 00000002 : f32[2,4]",
        "weight %w3 = 00000003 : f32[4,2]",
        "weight %w4 = 00000004 : f32[1,4,1,1]",
        "%mean = globalavgpool(%conv1) : f32[N,4,1,1]",
        "%flat = flatten(%mean) : f32[N,4]",
        "%squeeze = dense(%flat, %w2) {act=relu} : f32[N,2]",
        "%excite = dense(%squeeze, %w3) : f32[N,4]",
        "%open = onnx.Sigmoid(%excite) : f32[N,4]",
        "%gate = reshape(%open) {shape=[-1,4,1,1]} : f32[N,4,1,1]",
        "%gated = mul(%gate, %conv1) : f32[N,4,3,3]",
        "%conv2 = conv2d(%gated, %w4) {kernel=[1,1]} : f32[N,1,3,3]",
        "output %conv2",
    )
    group = group_of(graph, "conv1")
    assert ports(group.producers) == {"conv1": ONE_BY_ONE, "excite": ONE_BY_ONE}
    assert ports(group.consumers) == {"squeeze": ONE_BY_ONE, "conv2": ONE_BY_ONE}
    assert group_of(graph, "squeeze").count == 2


def test_shared_weights_are_one_layer() -> None:
    graph = graph_of(
        "weight %w2 = 00000002 : f32[1,4,1,1]",
        "%twice = conv2d(%x, %w1) {kernel=[1,1]} : f32[N,4,3,3]",
        "%conv2 = conv2d(%twice, %w2) {kernel=[1,1]} : f32[N,1,3,3]",
        "output %conv2",
    )
    assert set(ports(group_of(graph, "conv1").producers)) == {"conv1", "twice"}


# why not


GIVEN = "input %y : f32[N,4,3,3]"
HALF_KNOWN = "input %y : f32[N,?,3,3]"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["%n = onnx.LRN(%conv1) {size=3} : f32[N,4,3,3]"], "they are read by %n, onnx.LRN, which is not understood"),
        (["%n = relu(%conv1) : f32[*]"], "they are read by %n, relu, of a tensor whose shape is not known"),
        (["%n = relu(%conv1) : f32[N,4,3,3]"], "they reach the output y"),
        (["%n = softmax(%conv1) {axis=-3} : f32[N,4,3,3]"], "%n compares them"),
        (["%n = argmax(%conv1) {axis=1, keepdims=0} : i64[N,3,3]"], "%n compares them"),
        (["%n = pad(%conv1) {pads=[0,-1,0,0,0,0,0,0]} : f32[N,3,3,3]"], "%n cuts them off"),
        (["%n = reshape(%conv1) {shape=[-1,6,6]} : f32[N,6,6]"], "they are reshaped at %n"),
        ([GIVEN, "%n = add(%conv1, %y) : f32[N,4,3,3]"], "they are those of the input %y"),
        ([HALF_KNOWN, "%n = add(%conv1, %y) : f32[N,4,3,3]"], "the shapes at %n are not known"),
        ([HALF_KNOWN, "%n = concat(%conv1, %y) {axis=1} : f32[N,?,3,3]"], "the shapes at %n are not known"),
    ],
)
def test_channels_that_cannot_go(lines: list[str], why: str) -> None:
    group = group_of(graph_of(*lines, 'output %n as "y"'), "conv1")
    assert (group.count, group.why_not) == (4, why)


def test_channels_that_meet_rows_stay() -> None:
    graph = graph_of(
        "input %y : f32[N,1,4,3]",
        "weight %w2 = 00000002 : f32[3,1,1,1]",
        "weight %w3 = 00000003 : f32[2,4,1,1]",
        "%conv2 = conv2d(%y, %w2) {kernel=[1,1]} : f32[N,3,4,3]",
        "%turned = transpose(%conv2) {perm=[0,2,1,3]} : f32[N,4,3,3]",
        "%sum = add(%conv1, %turned) : f32[N,4,3,3]",
        "%conv3 = conv2d(%sum, %w3) {kernel=[1,1]} : f32[N,2,3,3]",
        "output %conv3",
    )
    assert group_of(graph, "conv1").why_not == "they meet no channels at %sum"
    assert group_of(graph, "conv2").why_not == "they meet no channels at %sum"


def test_what_comes_from_an_op_that_is_not_understood_stays() -> None:
    weight, conv = CONV2
    norm = "%n = onnx.LRN(%conv1) {size=3} : f32[N,4,3,3]"
    graph = graph_of(weight, norm, conv.replace("(%conv1", "(%n"), "output %conv2")
    found = find_channels(graph)
    conv2 = layers(graph)[1]
    assert found.refusal(conv2, "input") == "they come from %n, onnx.LRN, which is not understood"
    assert found.refusal(conv2, "output") == "they reach the output conv2"


def test_what_a_subgraph_reads_stays() -> None:
    inner = "graph @{0} {{ %{0}1 = relu(%conv1) : f32[N,4,3,3] output %{0}1 }}"
    graph = graph_of(
        "input %b : bool[]",
        f"%if = onnx.If(%b) {{else_branch={inner.format('e')}, then_branch={inner.format('t')}}} : f32[N,4,3,3]",
        "output %if",
    )
    assert group_of(graph, "conv1").why_not == "they are read inside %if"


def test_channels_after_padding_go_and_the_padding_stays() -> None:
    graph = graph_of(
        "weight %w2 = 00000002 : f32[1,7,1,1]",
        "%n = pad(%conv1) {pads=[0,2,1,0,0,1,1,0]} : f32[N,7,5,3]",
        "%conv2 = conv2d(%n, %w2) {kernel=[1,1]} : f32[N,1,5,3]",
        "output %conv2",
    )
    group = group_of(graph, "conv1")
    assert (ports(group.consumers), group.why_not) == ({"conv2": ((2,), (3,), (4,), (5,))}, "")
    (padded,) = (g for g in find_channels(graph).groups if g.why_not == "%n pads with them")
    assert ports(padded.consumers) == {"conv2": ((0,), (1,), (6,))}


@pytest.mark.parametrize(
    ("name", "free", "count"),
    [
        ("squeezenet", 25, 26),
        ("resnet50", 53, 54),
        ("inception_v1", 55, 58),
        ("densenet121", 182, 183),  # 62 of them normalisations that no sum gives
        ("shufflenet", 0, 50),
    ],
)
def test_known_networks(name: str, free: int, count: int) -> None:
    """All layers but the last can be pruned; LRN and shuffled groups, which are all one, stand in the way."""
    graph = run_passes(from_model(onnx.load(LIGHT / f"light_{name}.onnx")), STRUCTURE)
    found = find_channels(graph)
    refusals = [found.refusal(node, "output") for node in layers(graph)]
    assert (refusals.count(""), len(refusals)) == (free, count)
    assert ("they go all or none" in refusals) == (name == "shufflenet")
    after = run_passes(graph, "prune-channels{sparsity=0.5,by=random}")
    smaller = [a.operand(1).type != b.operand(1).type for a, b in zip(layers(after), layers(graph), strict=True)]
    assert any(smaller) == bool(free)
