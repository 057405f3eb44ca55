"""Tokens of several pixels: every bit of networks whose foldings hold some, at their FIFOs' depths; and the plan.

The foldings are drawn at random until every way that several pixels may go is among them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.board import Board
from bitwright.backends.hls.compare import compare_layers, input_format
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.emit import emit
from bitwright.backends.hls.estimate import stage_cycles
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.plan import bottleneck, plan
from bitwright.backends.hls.plan_file import plan_text, read_plan
from bitwright.backends.hls.reasons import pixels_reason
from bitwright.backends.hls.stages import (
    ForkStage,
    JoinStage,
    MeanStage,
    PoolStage,
    Stage,
    SumStage,
    ports_of,
    stages_of,
)
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

NETWORKS = {
    "digits": """graph @digits {
      input %digits.x : UFIXED<4>[N,1,8,12]
      weight %digits.a.w = 000000d1 : FIXED<4>[3,1,5,5]
      weight %digits.b.w = 000000d2 : BIN<1,B={1,2,1,2}@0>[4,3,3,3]
      weight %digits.c.w = 000000d3 : EXP<4>[5,32]
      %digits.a = conv2d(%digits.x, %digits.a.w) {kernel=[5,5], pads=[2,2,2,2], pool=[2,2]} : FIXED<5,B=-3>[N,3,4,6]
      %digits.b = conv2d(%digits.a, %digits.b.w) {act=relu, kernel=[3,3]} : FIXED<6,B=-3>[N,4,2,4]
      %digits.f = flatten(%digits.b) : FIXED<6,B=-3>[N,32]
      %digits.c = dense(%digits.f, %digits.c.w) : FIXED<9,B=-6>[N,5]
      output %digits.c as "digits.y"
    }""",
    "thin": """graph @thin {
      input %thin.x : FIXED<5>[N,1,5,8]
      weight %thin.a.w = 000000d4 : FIXED<3>[2,1,3,3]
      weight %thin.d.w = 000000d5 : FIXED<5>[2,1,3,3]
      weight %thin.p.w = 000000d6 : FIXED<4>[3,2,1,1]
      %thin.a = conv2d(%thin.x, %thin.a.w) {kernel=[3,3], pads=[1,1,1,1], strides=[1,2]} : FIXED<6>[N,2,5,4]
      %thin.d = conv2d(%thin.a, %thin.d.w) {groups=2, kernel=[3,3], pads=[1,1,1,1]} : FIXED<7>[N,2,5,4]
      %thin.r = relu(%thin.d) : UFIXED<6>[N,2,5,4]
      %thin.p = conv2d(%thin.r, %thin.p.w) {kernel=[1,1]} : FIXED<8>[N,3,5,4]
      %thin.m = maxpool2d(%thin.p) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<8>[N,3,5,4]
      output %thin.m as "thin.y"
    }""",
    "ways": """graph @ways {
      input %ways.x : FIXED<4>[N,1,4,6]
      weight %ways.a.w = 000000d7 : FIXED<3>[2,1,3,3]
      weight %ways.b.w = 000000d8 : FIXED<3>[2,2,3,3]
      %ways.a = conv2d(%ways.x, %ways.a.w) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,4,6]
      %ways.b = conv2d(%ways.a, %ways.b.w) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,4,6]
      %ways.s = add(%ways.b, %ways.a) : FIXED<6>[N,2,4,6]
      %ways.t = concat(%ways.s, %ways.x) {axis=1} : FIXED<6>[N,3,4,6]
      %ways.m = avgpool2d(%ways.t) {kernel=[2,2], strides=[2,2]} : FIXED<7>[N,3,2,3]
      %ways.g = globalavgpool(%ways.m) : FIXED<7>[N,3,1,1]
      output %ways.g as "ways.y"
    }""",
}
WANTED = {
    *("windows one after another", "windows side by side", "some of them at once", "a pool of pixels", "strided"),
    *("depthwise", "without a window", "forked", "joined", "joined side by side", "chunks of several windows"),
    *("averaged side by side", "averaged to one", "whole pixels of both", "concatenated side by side"),
}


def large(networks: ModuleType) -> Board:
    """A board on which all may work side by side."""
    return replace(networks.BOARD, lut=400_000, ff=800_000)


class Case:
    """A network in a folding, inputs, and what must come out."""

    def __init__(self, name: str, graph: Graph, stages: Sequence[Stage], x: Array) -> None:
        self.name, self.graph, self.stages, self.x = name, graph, list(stages), x
        (y,) = evaluate(graph, {"": x}).values()
        self.golden = tuple(
            (integers := port.format.integers(values))
            .transpose(0, *(axis + 1 for axis in port.order))
            .reshape(len(integers), -1)
            for port, values in zip(ports_of(self.stages), (x, y), strict=True)
        )


def features(stages: Sequence[Stage]) -> Iterator[str]:
    """The ways that several pixels go in a folding."""
    for stage in stages:
        yes: dict[str, bool] = {}
        if isinstance(stage, SumStage):
            scanned = stage.scan is not None
            yes = {
                "windows one after another": stage.vectors > 1 == stage.pixels,
                "windows side by side": scanned and stage.vectors == stage.pixels > 1,
                "some of them at once": stage.vectors > stage.pixels > 1,
                "strided": stage.scan is not None and stage.lanes > stage.scan.channels and stage.scan.strides[1] > 1,
                "depthwise": stage.depthwise and stage.pixels > 1,
                "without a window": stage.scan is None and stage.pixels > 1,
                "chunks of several windows": stage.vectors > 1 and stage.simd < stage.inputs,
            }
        elif isinstance(stage, PoolStage):
            yes = {"a pool of pixels": stage.lanes > stage.scan.channels}
        elif isinstance(stage, MeanStage):
            several = stage.lanes > stage.channels
            yes = {
                "averaged side by side": several and stage.out_lanes > stage.channels,
                "averaged to one": several and stage.scan is None,
            }
        elif isinstance(stage, ForkStage):
            yes = {"forked": stage.lanes > 2}
        elif isinstance(stage, JoinStage):
            yes = {
                "joined": max(stage.entering) > max(stage.channels),
                "joined side by side": stage.op == "add" and stage.lanes > stage.pixel,
                "whole pixels of both": stage.op == "concat" and stage.lanes == stage.pixel,
                "concatenated side by side": stage.op == "concat" and stage.lanes > stage.pixel,
            }
        yield from (name for name, holds in yes.items() if holds)


@pytest.fixture(scope="module")
def cases(networks: ModuleType) -> dict[str, Case]:
    """For each network the plan's folding and random ones, each of which has something that those before had not."""
    found: dict[str, Case] = {}
    seen: set[str] = set()
    for name, text in NETWORKS.items():
        rng = np.random.default_rng(7)
        stages = plan(stages_of(parse(text)), large(networks)).stages
        for number in range(400):
            new = set(features(stages)) - seen
            if number == 0 or new:
                seen |= new
                renamed = f"{name}{number}"
                graph = parse(text.replace(f"@{name}", f"@{renamed}").replace(f"{name}.", f"{renamed}."))
                shape = [dim for dim in (graph.inputs[0].tensor_type.shape or ())[1:] if isinstance(dim, int)]
                format = input_format(graph)
                x = rng.uniform(float(format.min), float(format.max), (6, *shape))
                picked = {stage.name.replace(f"{name}.", f"{renamed}."): stage for stage in stages}
                made = [_folded_like(stage, picked[stage.name]) for stage in stages_of(graph)]
                found[renamed] = Case(renamed, graph, made, x)
            stages = networks.randomly_folded(stages_of(parse(text)), rng)
    assert seen == WANTED
    return found


def _folded_like(stage: Stage, other: Stage) -> Stage:
    keys = ("lanes", "depths", "pe", "simd", "pixels", "beat", "entering", "least")
    return replace(stage, **{key: getattr(other, key) for key in keys if hasattr(other, key)})


@pytest.fixture(scope="module")
def folders(networks: ModuleType, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pixels")
    for case in cases.values():
        networks.write(root / case.name, case.graph, case.stages, case.golden)
    return {name: root / name for name in cases}


@needs_compiler
def test_every_bit_at_the_emitted_depths(
    networks: ModuleType, cases: dict[str, Case], folders: dict[str, Path]
) -> None:
    library = next(iter(folders.values())).parent / "bounded.so"
    for accelerator in networks.bundled(list(folders.values()), library, "-O0", "-DBITWRIGHT_BOUNDED"):
        case = cases[accelerator.name]
        np.testing.assert_array_equal(accelerator.run(case.golden[0]), case.golden[1], err_msg=case.name)
        rows = compare_layers(accelerator, case.graph, case.x)
        assert {row.name: row.first for row in rows if row.differ} == {}
        assert len(np.unique(case.golden[1])) > 3


@needs_compiler
def test_ap_types_give_the_same_bits(
    networks: ModuleType, cases: dict[str, Case], folders: dict[str, Path], ap_flags: list[str], tmp_path: Path
) -> None:
    names = [name for name in cases if name.startswith("digits")][:2]
    for accelerator in networks.bundled([folders[name] for name in names], tmp_path / "ap.so", "-O0", *ap_flags):
        case = cases[accelerator.name]
        np.testing.assert_array_equal(accelerator.run(case.golden[0]), case.golden[1])


def test_the_rules_of_hls_code_are_kept(
    cases: dict[str, Case], folders: dict[str, Path], hls_rules: ModuleType
) -> None:
    for name in (name for name in cases if name.startswith("digits")):
        files = [path for path in sorted(folders[name].rglob("*")) if path.suffix in (".hpp", ".cpp", ".py")]
        texts = {path.relative_to(folders[name]).as_posix(): path.read_text() for path in files}
        assert hls_rules.violations(texts) == []


# ---- the plan -----------------------------------------------------------------------------------------------------


def test_a_plan_takes_several_pixels_where_they_pay(networks: ModuleType, tmp_path: Path) -> None:
    """A small board folds, a large one works on pixels side by side; the plan's file brings them back."""
    stages = stages_of(parse(NETWORKS["digits"]))
    small, fast = plan(stages, replace(networks.BOARD, lut=7_000)), plan(stages, large(networks))
    assert small.estimate.interval > fast.estimate.interval
    assert fast.estimate.interval < 96, "a frame has 96 pixels"
    first = next(stage for stage in fast.stages if isinstance(stage, SumStage))
    assert first.pixels > 1
    path = tmp_path / "plan.toml"
    path.write_text(plan_text(fast, "test"))
    assert f"pixels = {first.pixels}" in path.read_text()
    again = plan(stages, fast.board, given=read_plan(path))
    assert emit(again, "net", "test") == emit(fast, "net", "test")
    alone = {"digits.a": Given(pixels=1)}
    one = plan(stages, fast.board, given=alone)
    assert one.estimate.interval > 96
    assert "elements a beat would take" in bottleneck(one)


RESIDUAL = """graph @residual {
  input %x : FIXED<4>[N,1,6,8]
  weight %a.w = 000000e3 : FIXED<3>[2,1,3,3]
  weight %b.w = 000000e4 : FIXED<3>[2,2,3,3]
  %a = conv2d(%x, %a.w) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,6,8]
  %b = conv2d(%a, %b.w) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,6,8]
  %s = add(%b, %a) : FIXED<6>[N,2,6,8]
  output %s
}"""


def test_a_residual_network_goes_past_a_pixel_a_cycle(networks: ModuleType) -> None:
    """Its sum, too; and with the sum kept to one pixel, it is the bottleneck."""
    stages = stages_of(parse(RESIDUAL))
    fast = plan(stages, large(networks))
    (join,) = (stage for stage in fast.stages if isinstance(stage, JoinStage))
    assert join.lanes > join.channels[0]
    assert fast.estimate.interval < 48, "a frame has 48 pixels"
    assert plan(stages, large(networks), given={"s": Given(lanes=2)}).estimate.interval >= 48


def test_a_concat_takes_whole_pixels_where_that_is_faster(networks: ModuleType) -> None:
    """Two sides of 3 and 2 channels: one after the other they take five cycles a pixel."""
    text = RESIDUAL.replace("%b.w = 000000e4 : FIXED<3>[2,2,3,3]", "%b.w = 000000e4 : FIXED<3>[3,2,3,3]")
    text = text.replace("{kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,6,8]\n  %s", "PADS : FIXED<6>[N,3,6,8]\n  %s")
    text = text.replace("PADS", "{kernel=[3,3], pads=[1,1,1,1]}")
    text = text.replace("add(%b, %a) : FIXED<6>[N,2,6,8]", "concat(%b, %a) {axis=1} : FIXED<6>[N,5,6,8]")
    stages = stages_of(parse(text))
    fast, parts = plan(stages, large(networks)), plan(stages, large(networks), given={"s": Given(lanes=1)})
    (join,) = (stage for stage in fast.stages if isinstance(stage, JoinStage))
    assert join.lanes % 5 == 0
    assert fast.estimate.interval < parts.estimate.interval / 4
    assert parts.estimate.interval >= 5 * 48


@pytest.mark.parametrize("lanes", [0, 3, 10, 64])
def test_lanes_that_an_add_cannot_have_are_refused(lanes: int, networks: ModuleType) -> None:
    with pytest.raises(CompileError, match=f"%s: lanes {lanes} does not divide 2, its channels"):
        plan(stages_of(parse(RESIDUAL)), networks.BOARD, given={"s": Given(lanes=lanes)})


def test_no_pixels_are_offered_where_a_layer_does_not_take_them(networks: ModuleType) -> None:
    """Rows of an odd number of pixels; windows of which those at the border count less."""
    text = NETWORKS["digits"].replace("[N,1,8,12]", "[N,1,8,11]").replace("[N,3,4,6]", "[N,3,4,5]")
    text = text.replace("[N,4,2,4]", "[N,4,2,3]").replace("[5,32]", "[5,24]").replace("[N,32]", "[N,24]")
    (first,) = (stage for stage in plan(stages_of(parse(text)), large(networks)).stages if stage.name == "digits.a")
    assert first.lanes == 1
    padded = NETWORKS["ways"].replace("{kernel=[2,2], strides=[2,2]}", "{kernel=[4,4], pads=[1,1,1,1], strides=[2,2]}")
    for text, most in ((padded, 3), (NETWORKS["ways"], 24)):
        found = plan(stages_of(parse(text)), large(networks))
        (mean,) = (stage for stage in found.stages if stage.name == "ways.m")
        assert 1 <= mean.lanes <= most
        assert (mean.lanes > 3) == (text != padded)


def test_a_layer_says_why_it_takes_several_pixels(networks: ModuleType) -> None:
    stages = plan(stages_of(parse(NETWORKS["digits"])), large(networks)).stages
    first = next(stage for stage in stages if isinstance(stage, SumStage))
    assert pixels_reason(first) == (
        f"{first.pixels} pixels at once: all 75 weights work in every cycle, and a pixel at a time would take 96"
    )
    assert pixels_reason(replace(first, pixels=1)).startswith(f"{first.vectors} windows come together")
    assert pixels_reason(replace(first, lanes=1, pixels=1)) == pixels_reason(stages[0]) == ""


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("digits.a", Given(pixels=5), "pixels 5 does not divide 96, its positions"),
        ("digits.a", Given(pixels=2, simd=5), "pixels 2, but its rows and columns take turns"),
        (
            "digits.a",
            Given(pixels=96),
            "pixels 96 is 7,200 multipliers, more than 4,096\n.*it may be 1, 2, .* 32, 48$",
        ),
        ("digits.a", Given(pixels=8), "no design has the foldings that are given"),
        ("digits.c", Given(pixels=2), "pixels 2 does not divide 1, its positions"),
    ],
)
def test_pixels_that_cannot_be_are_refused(name: str, given: Given, message: str, networks: ModuleType) -> None:
    with pytest.raises(CompileError, match=message):
        plan(stages_of(parse(NETWORKS["digits"])), networks.BOARD, given={name: given})


def test_a_window_and_a_product_take_no_longer_than_estimated(networks: ModuleType) -> None:
    """Stepped through cycle by cycle, in foldings of several windows a token and several pixels at once."""
    rng, spread = np.random.default_rng(11), []
    for text in NETWORKS.values():
        for _ in range(60):
            for stage in networks.randomly_folded(stages_of(parse(text)), rng):
                if isinstance(stage, SumStage) and stage.scan is not None and stage.vectors > 1:
                    took = networks.paired_interval(stage)
                    assert took <= stage_cycles(stage), stage
                    spread.append((stage_cycles(stage) - took) / took)
    assert len(spread) > 30
    assert float(np.median(spread)) < 0.25


def test_an_accelerator_of_several_pixels_runs_by_itself(cases: dict[str, Case], folders: dict[str, Path]) -> None:
    """As `bitwright csim` runs it."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++: apt-get install g++")
    name = next(iter(cases))
    np.testing.assert_array_equal(Accelerator(folders[name]).run(cases[name].golden[0]), cases[name].golden[1])
