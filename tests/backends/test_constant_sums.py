"""Layers of adders instead of products: every bit of every layer, in native integers and with ap_int; and the plan."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.adder_cost import final_graph
from bitwright.backends.hls.compare import compare_layers, input_format
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.emit import emit
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.plan_file import plan_text, read_plan
from bitwright.backends.hls.reasons import multipliers_reason
from bitwright.backends.hls.stages import ADDERS, PortStage, Stage, SumStage, stages_of
from bitwright.backends.hls.trips import compare_trips, estimated_trips
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

SEEDS = range(14)
# Several pixels at once, rows that read vectors of their own, weights that are 0, a row that is another's negative.
SPECIAL = {
    "side": """graph @side {
      input %side.x : UFIXED<4>[N,1,8,12]
      weight %side.a.w = 000000d1 : FIXED<4>[3,1,5,5]
      weight %side.b.w = 000000d2 : BIN<1,B={1,2,1,2}@0>[4,3,3,3]
      weight %side.c.w = 000000d3 : EXP<4>[5,32]
      %side.a = conv2d(%side.x, %side.a.w) {kernel=[5,5], pads=[2,2,2,2], pool=[2,2]} : FIXED<5,B=-3>[N,3,4,6]
      %side.b = conv2d(%side.a, %side.b.w) {act=relu, kernel=[3,3]} : FIXED<6,B=-3>[N,4,2,4]
      %side.f = flatten(%side.b) : FIXED<6,B=-3>[N,32]
      %side.c = dense(%side.f, %side.c.w) : FIXED<9,B=-6>[N,5]
      output %side.c as "side.y"
    }""",
    "apart": """graph @apart {
      input %apart.x : FIXED<8>[N,3,5,6]
      weight %apart.d.w = 000000d5 : FIXED<6>[3,1,3,3]
      weight %apart.p.w = [1.0,-0.5,0.0,-1.0,0.5,0.0,0.0,0.0,0.0,-0.25,0.0,0.0] : FIXED<3>[4,3,1,1]
      %apart.d = conv2d(%apart.x, %apart.d.w) {groups=3, kernel=[3,3], pads=[1,1,1,1]} : UFIXED<7>[N,3,5,6]
      %apart.p = conv2d(%apart.d, %apart.p.w) {kernel=[1,1]} : FIXED<9>[N,4,5,6]
      output %apart.p as "apart.y"
    }""",
    "signs": """graph @signs {
      input %signs.x : FIXED<5>[N,2,4,5]
      weight %signs.a.w = 000000d6 : FIXED<4>[3,2,3,3]
      weight %signs.b.w = 000000d7 : BIN<1,B=2>[4,3,3,3]
      %signs.a = conv2d(%signs.x, %signs.a.w) {kernel=[3,3], pads=[1,1,1,1]} : BIN<1>[N,3,4,5]
      %signs.b = conv2d(%signs.a, %signs.b.w) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<7>[N,4,4,5]
      output %signs.b as "signs.y"
    }""",
}
WITH_AP_TYPES = ("net3", "side", "apart")


def as_adders(networks: ModuleType, stages: Sequence[Stage], pixels: int = 1) -> list[Stage]:
    """The stages with all layers as adders that may be, of so many pixels where that divides."""
    made = [
        replace(stage, products=ADDERS, graph=final_graph(stage))
        if isinstance(stage, SumStage) and stage.adders_possible
        else stage
        for stage in stages
    ]

    def choose(stage: SumStage) -> tuple[int, int, int]:
        if stage.products != ADDERS:
            return 1, 1, 1
        return stage.outputs, stage.inputs, pixels if stage.vectors % pixels == 0 else 1

    def port(stage: PortStage) -> tuple[int, int]:
        return (pixels if stage.is_input else stage.lanes), 1

    found: list[Stage] = networks.folded(made, choose, port=port)
    return found


@pytest.fixture(scope="module")
def cases(networks: ModuleType) -> dict[str, tuple[Graph, list[Stage], Array]]:
    found = {}
    for seed in SEEDS:
        graph, _, x = networks.drawn(seed)
        made = as_adders(networks, stages_of(graph))
        if all(stage.possible for stage in made) and any(map(is_added, made)):
            found[graph.name] = graph, made, x
    for name, text in SPECIAL.items():
        graph = parse(text)
        number = input_format(graph)
        shape = [dim for dim in (graph.inputs[0].tensor_type.shape or ())[1:] if isinstance(dim, int)]
        x = np.random.default_rng(3).uniform(float(number.min), float(number.max), (12, *shape))
        found[name] = graph, as_adders(networks, stages_of(graph), 2 if name == "side" else 1), x
    return found


def is_added(stage: Stage) -> bool:
    return isinstance(stage, SumStage) and stage.products == ADDERS


@pytest.fixture(scope="module")
def folders(
    networks: ModuleType, cases: dict[str, tuple[Graph, list[Stage], Array]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("added")
    for name, (graph, stages, _) in cases.items():
        assert all(stage.possible for stage in stages), name
        networks.write(root / name, graph, stages)
    return {name: root / name for name in cases}


@needs_compiler
def test_every_bit_of_every_layer_is_that_of_the_simulation(
    networks: ModuleType,
    cases: dict[str, tuple[Graph, list[Stage], Array]],
    folders: dict[str, Path],
    ap_flags: list[str],
) -> None:
    """ap_int wraps a sum that its bits do not hold; native integers are wider."""
    root = next(iter(folders.values())).parent
    ap = [folders[name] for name in WITH_AP_TYPES]
    with ThreadPoolExecutor(2) as pool:
        native = pool.submit(networks.bundled, list(folders.values()), root / "native.so", "-O0")
        wrapping = pool.submit(networks.bundled, ap, root / "ap.so", "-O0", *ap_flags)
        accelerators: list[Accelerator] = [*native.result(), *wrapping.result()]
    features: set[str] = set()
    for accelerator in accelerators:
        graph, stages, x = cases[accelerator.name]
        rows = compare_layers(accelerator, graph, x)
        assert {row.name: row.first for row in rows if row.differ} == {}, graph.name
        assert [row.name for row in rows] == [stage.name for stage in stages[:-1]]
        features |= {feature for stage in stages for feature in features_of(stage)}
    assert features == {
        *("FIXED", "BIN", "EXP", "a window", "whole tokens", "several pixels", "depthwise", "nothing to add"),
        *("unsigned", "a barrel shifter", "an output of wires", "an output of nothing", "a negative output", "shared"),
    }


def features_of(stage: Stage) -> list[str]:
    if not isinstance(stage, SumStage) or stage.graph is None:
        return []
    graph = stage.graph
    yes = {
        stage.weight_format.kind: True,
        "a window": stage.scan is not None,
        "whole tokens": stage.scan is None,
        "several pixels": stage.pixels > 1,
        "depthwise": stage.depthwise,
        "nothing to add": not graph.adders,
        "unsigned": not stage.in_format.n_s,
        "a barrel shifter": stage.shift.min() < stage.shift.max(),
        "an output of wires": any(out.node is not None and out.node < graph.inputs for out in graph.outputs),
        "an output of nothing": any(out.node is None for out in graph.outputs),
        "a negative output": any(out.negative for out in graph.outputs),
        "shared": len({out.node for out in graph.outputs}) < len(graph.outputs),
    }
    return [name for name, holds in yes.items() if holds]


@needs_compiler
def test_adders_take_as_many_trips_as_products(
    cases: dict[str, tuple[Graph, list[Stage], Array]], folders: dict[str, Path]
) -> None:
    _, stages, _ = cases["side"]
    counting = Accelerator(folders["side"], count=True, flags=["-O0"])
    frame = np.zeros((1, counting.input.elements), np.int64)
    found = compare_trips(counting, estimated_trips(stages), frame)
    assert [entry.counted for entry in found] == [entry.estimated for entry in found]
    assert [entry.process for entry in found].count("constant_matvec") == 3


# ---- the plan -----------------------------------------------------------------------------------------------------

NET = """graph @tiny {
  input %x : FIXED<8>[N,2,6,6]
  weight %a.w = 000000a1 : FIXED<6>[6,2,3,3]
  weight %b.w = 000000a2 : BIN<1,B=2>[4,6,4,4]
  weight %c.w = 000000a3 : AFFINE<8,scale=0.5,signed>[3,4]
  %a = conv2d(%x, %a.w) {act=relu, kernel=[3,3]} : FIXED<6>[N,6,4,4]
  %b = conv2d(%a, %b.w) {kernel=[4,4]} : FIXED<8>[N,4,1,1]
  output %b as "y"
}"""


def layer(stages: Sequence[Stage], name: str) -> SumStage:
    (found,) = (stage for stage in stages if stage.name == name)
    assert isinstance(found, SumStage)
    return found


def test_adders_are_chosen_where_they_are_the_smaller_share(networks: ModuleType, tmp_path: Path) -> None:
    """All weights in every cycle: by choice adders, rather than products of any make; and the plan is taken back."""
    stages = stages_of(parse(NET))
    whole = {name: Given(pe=pe, simd=simd) for name, pe, simd in (("a", 6, 18), ("b", 4, 96))}
    free = plan(stages, networks.BOARD, given=whole)
    assert [layer(free.stages, name).products for name in whole] == [ADDERS, ADDERS]
    assert free.estimate.total.dsp == 0
    text = plan_text(free, "test")
    assert text.count('multipliers = "adders"') == text.count('storage = "logic"') == 2
    (tmp_path / "plan.toml").write_text(text)
    again = plan(stages, networks.BOARD, given=read_plan(tmp_path / "plan.toml"))
    assert emit(again, "net", "test") == emit(free, "net", "test")
    for make in ("dsp", "dsp-packed", "lut"):
        given = {"a": replace(whole["a"], multipliers=make), "b": whole["b"]}
        other = plan(stages, networks.BOARD, given=given)
        assert layer(other.stages, "a").products == make
        assert other.estimate.total.lut[1] > free.estimate.total.lut[1]
        assert other.estimate.interval == free.estimate.interval
    wanted = plan(stages, networks.BOARD, given={"a": Given(multipliers="adders"), "b": Given(multipliers="lut")})
    a, b = layer(wanted.stages, "a"), layer(wanted.stages, "b")
    assert (a.products, a.pe, a.simd) == (ADDERS, 6, 18)
    assert b.products == "lut"
    assert a.graph is not None
    assert np.array_equal(a.graph.matrix, a.weights)
    assert re.match(rf"{len(a.graph.adders)} adders, {a.graph.depth} deep, .* 108 constant", multipliers_reason(a))


def test_a_search_never_makes_a_plan_larger(networks: ModuleType) -> None:
    """Than trees that share nothing: as fast or faster; at an interval that is given as small or smaller."""
    smaller = 0
    for seed in range(12):
        _, stages, _ = networks.drawn(seed)
        found, without = (plan(stages, networks.BOARD, 0.3, search=search) for search in (True, False))
        assert found.estimate.interval <= without.estimate.interval
        if found.estimate.interval == without.estimate.interval and any(map(is_added, found.stages)):
            smaller += found.estimate.total.lut[1] < without.estimate.total.lut[1]
    assert smaller > 2


GROUPED = NET.replace("FIXED<6>[6,2,3,3]", "FIXED<6>[6,1,3,3]").replace("{act=relu", "{act=relu, groups=2")
LARGE = """graph @large {
  input %x : FIXED<8>[N,65]
  weight %a.w = 000000a1 : FIXED<6>[64,65]
  %a = dense(%x, %a.w) : FIXED<8>[N,64]
  output %a
}"""
FLOATS = LARGE.replace("FIXED<8>", "FLOAT<16>").replace("FIXED<6>", "FLOAT<16>")


@pytest.mark.parametrize(
    ("network", "name", "given", "message"),
    [
        (NET, "a", Given(multipliers="adders", pe=3), '%a: multipliers "adders", but its rows and columns take turns'),
        (NET, "a", Given(multipliers="adders", simd=9), "adders have pe 6 simd 18"),
        (NET, "a", Given(multipliers="adders", adder_tree=False), "but sums that are shared are no chain"),
        (NET, "a", Given(multipliers="adders", storage="bram"), "storage 'bram', but every weight works in every"),
        (NET, "b", Given(multipliers="dsp"), 'multipliers "dsp", but its products are signs or shifts'),
        (NET, "b", Given(multipliers="dsp-packed"), 'it may be "lut" or "adders"'),
        (GROUPED, "a", Given(multipliers="adders"), "but its groups of channels take turns"),
        (LARGE, "a", Given(multipliers="adders"), "but its 4,160 weights are more than the 4,096 that may work"),
        (FLOATS, "a", Given(multipliers="adders"), "%a takes no 'multipliers'"),
    ],
)
def test_where_adders_cannot_be_they_are_refused_by_name(
    network: str, name: str, given: Given, message: str, networks: ModuleType
) -> None:
    with pytest.raises(CompileError) as caught:
        plan(stages_of(parse(network)), networks.BOARD, given={name: given})
    assert re.search(message, str(caught.value).replace("\n", " ")), str(caught.value)
