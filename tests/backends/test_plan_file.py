"""Plan files: what compile writes it takes back, whole or in part, and what cannot be is an error that names it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.cost import Cost
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.emit import emit
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.plan import DoesNotFit, Plan, plan
from bitwright.backends.hls.plan_file import plan_text, read_plan
from bitwright.backends.hls.reasons import multipliers_reason
from bitwright.backends.hls.stages import JoinStage, PoolStage, Stage, SumStage, stages_of
from bitwright.compiler import compile
from bitwright.ir.errors import CompileError
from bitwright.ir.files import load
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.passes import STRUCTURE, Context, run_passes

ROOT = Path(__file__).parents[2]
NET = """graph @tiny {
  input %x : FIXED<8>[N,2,6,6]
  weight %a.b.w = 000000a1 : FIXED<4>[6,2,3,3]
  weight %fc.w = 000000a2 : FIXED<8>[4,24]
  %a.b = conv2d(%x, %a.b.w) {act=relu, kernel=[3,3], pool=[2,2]} : FIXED<6>[N,6,2,2]
  %flat = flatten(%a.b) : FIXED<6>[N,24]
  %fc = dense(%flat, %fc.w) : FIXED<8>[N,4]
  output %fc as "y"
}"""


@pytest.fixture
def network() -> Graph:
    return parse(NET)


def written(planned: Plan, tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(plan_text(planned, "test"))
    return path


def by_name(planned: Plan) -> dict[str, Stage]:
    return {stage.name: stage for stage in planned.stages}


def test_a_plan_that_is_taken_back_gives_the_same_files(networks: ModuleType, tmp_path: Path) -> None:
    drawn = [networks.drawn(seed)[1] for seed in range(6)] + [networks.branching(seed)[1] for seed in range(6)]
    joins = 0
    for stages in drawn:
        first = plan(stages, networks.BOARD)
        again = plan(stages, networks.BOARD, given=read_plan(written(first, tmp_path)))
        assert emit(again, "net", "test") == emit(first, "net", "test")
        assert plan_text(again, "test") == plan_text(first, "test")
        joins += sum(isinstance(stage, JoinStage) for stage in stages)
    assert joins > 3


def test_a_part_of_a_plan_leaves_the_rest_to_the_search(network: Graph, networks: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[layers."a.b"]\npe = 3\nstorage = "bram"\nadder_tree = false\n[layers.fc]\nfifo = 9\nsimd = 12\n')
    made = plan(stages_of(network), networks.BOARD, given=read_plan(path))
    conv, fc = by_name(made)["a.b"], by_name(made)["fc"]
    assert isinstance(conv, SumStage)
    assert isinstance(fc, SumStage)
    assert (conv.pe, conv.storage, conv.adder_tree) == (3, "bram", False)
    assert (fc.simd, fc.depths) == (12, (9,))
    text = "".join(emit(made, "tiny", "test").values())
    assert "BITWRIGHT_ROM(a_b_weights, BRAM);" in text
    assert "BITWRIGHT_STREAM(a_b_pool, 9);" in text
    assert text.count("adder_tree = false") == 1
    # The fastest of all foldings that have what is given.
    speeds = []
    for simd in (1, 2, 3, 6, 9, 18):
        for pe in (1, 2, 4):
            given = {"a.b": Given(pe=3, simd=simd), "fc": Given(pe=pe, simd=12)}
            speeds.append(plan(stages_of(network), networks.BOARD, given=given).estimate.interval)
    assert made.estimate.interval == min(speeds) < max(speeds)


def test_a_chain_of_adders_gives_the_same_bits(
    network: Graph, networks: ModuleType, ap_headers: Path, tmp_path: Path
) -> None:
    """Built with ap_int, the only build that has the adders one by one."""
    frames = np.random.default_rng(0).integers(-127, 128, (20, 72))
    outputs = []
    for tree in (True, False):
        given = {"a.b": Given(pe=2, simd=9, adder_tree=tree), "fc": Given(simd=8, adder_tree=tree)}
        made = plan(stages_of(network), networks.BOARD, given=given)
        networks.write(tmp_path / str(tree), network, made.stages)
        outputs.append(Accelerator(tmp_path / str(tree), ap_types=True).run(frames))
    assert np.array_equal(*outputs)
    assert len(np.unique(outputs[0])) > 5


def test_products_of_any_make_give_the_same_bits(
    network: Graph, networks: ModuleType, ap_headers: Path, tmp_path: Path
) -> None:
    frames = np.random.default_rng(1).integers(-127, 128, (20, 72))
    outputs, slices = [], {}
    for place in ("dsp", "dsp-packed", "lut"):
        path = tmp_path / "mine.toml"
        made_of = f'multipliers = "{place}"'
        path.write_text(f'[layers."a.b"]\npe = 3\nsimd = 9\n{made_of}\n[layers.fc]\npe = 4\nsimd = 8\n{made_of}\n')
        made = plan(stages_of(network), networks.BOARD, given=read_plan(path))
        assert tomllib.loads(plan_text(made, "test"))["layers"]["fc"]["multipliers"] == place
        slices[place] = {stage.name: cost.dsp for stage, cost, _ in made.estimate.stages if cost.dsp}
        shapes = emit(made, "tiny", "test")["src/shapes.hpp"]
        assert shapes.count(f"in_dsp = {'false' if place == 'lut' else 'true'};") == 2
        assert shapes.count(f"packing = {2 if place == 'dsp-packed' else 1};") == 2
        networks.write(tmp_path / place, network, made.stages)
        outputs += [Accelerator(tmp_path / place, ap_types=ap_types).run(frames) for ap_types in (False, True)]
    assert slices == {"dsp": {"a.b": 3 * 9, "fc": 4 * 8}, "dsp-packed": {"a.b": 2 * 9, "fc": 2 * 8}, "lut": {}}
    for output in outputs:
        assert np.array_equal(output, outputs[0])
    assert len(np.unique(outputs[0])) > 5


def test_lenet5_is_not_held_up_by_the_dsps_of_its_board() -> None:
    """In FIXED 8 on pynq-z2: with every product in a DSP of its own, these are what it has too few of."""
    graph = load(ROOT / "models" / "lenet5.onnx")
    samples = np.random.default_rng(0).uniform(0, 1, (4, 1, 28, 28)).astype(np.float32)
    formats = "annotate-formats{weights=FIXED 8,activations=FIXED 8},derive-accumulators"
    context = Context(samples={graph.input_name(graph.inputs[0]): samples})
    stages = stages_of(run_passes(graph, f"{STRUCTURE},{formats}", context))
    board = load_board("pynq-z2")
    layers = [stage.name for stage in stages if isinstance(stage, SumStage)]
    in_dsps = plan(stages, board, given={name: Given(multipliers="dsp") for name in layers})
    free = plan(stages, board)
    assert 2.0 * free.estimate.interval < in_dsps.estimate.interval
    assert in_dsps.estimate.total.dsp > 0.95 * 0.8 * board.dsp >= free.estimate.total.dsp
    assert 2 * in_dsps.estimate.total.lut[1] < free.estimate.total.lut[1] <= 0.8 * board.lut


def test_what_stands_in_for_dsps_is_in_the_plan_and_taken_back(network: Graph, tmp_path: Path) -> None:
    """On a board without DSPs; with them, the same plan keeps its LUTs where the file says so, and only there."""
    board = replace(load_board("pynq-z2"), dsp=0)
    made = plan(stages_of(network), board, given={name: Given(adder_tree=False) for name in ("a.b", "fc")})
    saved = read_plan(written(made, tmp_path))
    assert {name: given.multipliers for name, given in saved.items() if given.multipliers} == {
        "a.b": "lut",
        "fc": "lut",
    }
    fc = by_name(made)["fc"]
    assert isinstance(fc, SumStage)
    instead = f"{fc.multipliers} products of 8 x 6 bits in LUTs rather than {fc.multipliers} DSPs"
    assert multipliers_reason(fc) == f"{instead}, which are left to other layers"
    assert emit(plan(stages_of(network), board, given=saved), "net", "test") == emit(made, "net", "test")
    again = plan(made.stages, load_board("pynq-z2"))
    assert {stage.products for stage in again.stages if isinstance(stage, SumStage)} == {""}
    with pytest.raises(DoesNotFit):
        plan(stages_of(network), board, given={"fc": Given(multipliers="dsp")})


def test_packed_products_are_in_the_plan_and_taken_back(network: Graph, tmp_path: Path) -> None:
    """Where they take a smaller share of the board; on a board of another device, only as far as its slices go."""
    stages = stages_of(network)
    made = plan(stages, load_board("pynq-z2"), given={"fc": Given(pe=4, simd=3)})
    fc = by_name(made)["fc"]
    assert isinstance(fc, SumStage)
    assert multipliers_reason(fc) == "12 products of 8 x 6 bits in 6 DSPs, up to 2 in each: rather than 12"
    saved = read_plan(written(made, tmp_path))
    assert saved["fc"].multipliers == "dsp-packed"
    assert emit(plan(stages, made.board, given=saved), "net", "test") == emit(made, "net", "test")
    alone = plan(stages, made.board, given={"fc": Given(pe=4, simd=3, multipliers="dsp")})
    assert cost_of(made, "fc").dsp * 2 == cost_of(alone, "fc").dsp == 12
    assert cost_of(made, "fc").lut > cost_of(alone, "fc").lut
    assert made.estimate.interval == alone.estimate.interval


def cost_of(planned: Plan, name: str) -> Cost:
    return next(cost for stage, cost, _ in planned.estimate.stages if stage.name == name)


def test_products_that_no_slice_holds_twice_are_refused_by_name(network: Graph) -> None:
    """9 x 9 bits: two are 26 bits of a port, which a DSP48E2 has and a DSP48E1 has not."""
    given = {"fc": Given(multipliers="dsp-packed")}
    stages = stages_of(parse(NET.replace("FIXED<8>[4,24]", "FIXED<9>[4,24]").replace("FIXED<6>", "FIXED<9>")))
    with pytest.raises(
        CompileError, match=r'%fc: multipliers "dsp-packed", but one DSP48E1 makes no two products of 9'
    ):
        plan(stages, load_board("pynq-z2"), given=given)
    assert plan(stages, load_board("zcu104"), given=given).stages
    apart = "%fc = conv2d(%a.b, %fc.w) {groups=6, kernel=[2,2]} : FIXED<8>[N,6,1,1]"
    rows = NET.replace("FIXED<8>[4,24]", "FIXED<8>[6,1,2,2]").replace("  %flat = flatten(%a.b) : FIXED<6>[N,24]\n", "")
    with pytest.raises(CompileError, match="but its rows share no activation"):
        plan(
            stages_of(parse(rows.replace("%fc = dense(%flat, %fc.w) : FIXED<8>[N,4]", apart))),
            load_board("zcu104"),
            given=given,
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[layers.fc]\nmultipliers = 'bram'", 'multipliers of layer \'fc\' must be "dsp" or "dsp-packed" or "lut"'),
        ("[layers.'a.b.pool']\nmultipliers = 'lut'", "%a.b.pool takes no 'multipliers'"),
        ("[layers.fd]\npe = 1", "no layer 'fd'.*did you mean 'fc'"),
        ("[layers.fc]\npe = 3", "%fc: pe 3 does not divide 4, its output channels.*1, 2, 4"),
        ("[layers.fc]\nsimd = 5", "%fc: simd 5 does not divide 24"),
        ("[layers.fc]\nsims = 5", "unknown key 'sims' of layer 'fc'.*did you mean 'simd'"),
        ("[layers.fc]\npe = 2\npartition = [4, 1]", r"%fc: partition \[4, 1\] is not its folding"),
        ("[layers.fc]\nlanes = 2", "%fc takes no 'lanes'.*pe, simd"),
        ("[layers.fc]\npe = 0", "pe of layer 'fc' must be a whole number above 0, not 0"),
        ("[layers.fc]\npe = true", "must be a whole number"),
        ("[layers.fc]\nstorage = 'uram'", 'storage of layer \'fc\' must be "bram" or "lut"'),
        ("[layers.fc]\npe = 4\nsimd = 24\nstorage = 'bram'", "%fc: storage 'bram', but every weight works"),
        ("[layers.fc]\npe = 1\nsimd = 1\nstorage = 'logic'", "%fc: storage 'logic', but its weights take turns"),
        ("[layers.fc]\nfifo = [1, 2]", "%fc: fifo must be 1 number"),
        ("[layers.fc]\nfusion = ['relu']", "%fc has no relu to fuse"),
        ("[layers.'a.b']\nfusion = ['maxpool']", "%a.b: its relu is always fused"),
        ("[layers.a.b]\npe = 1", "unknown key 'b' of layer 'a'.*stands in quotes"),
        ("[fifos]\nx = 1", "unknown key 'fifos'"),
        ("[layers.fc", "not a TOML file"),
        ("layers = 3", "layers must be tables"),
    ],
)
def test_what_a_plan_cannot_say_is_refused_by_name(
    network: Graph, networks: ModuleType, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(CompileError) as caught:
        plan(stages_of(network), networks.BOARD, given=read_plan(path))
    assert re.search(message, str(caught.value).replace("\n", " ")), str(caught.value)


def test_a_fifo_in_which_the_design_would_stop_is_refused(networks: ModuleType) -> None:
    for seed in range(20):
        stages = networks.branching(seed)[1]
        made = plan(stages, networks.BOARD)
        for stage in made.stages:
            if isinstance(stage, JoinStage) and max(stage.least) > 1:
                keep = {s.name: Given(pe=s.pe, simd=s.simd) for s in made.stages if isinstance(s, SumStage)}
                keep |= {s.name: Given(lanes=s.lanes) for s in made.stages if isinstance(s, JoinStage)}
                low = tuple(max(least - 1, 1) for least in stage.least)
                with pytest.raises(CompileError, match=f"%{stage.name}.*stops for ever"):
                    plan(stages, networks.BOARD, given=keep | {stage.name: Given(lanes=stage.lanes, fifo=low)})
                plan(stages, networks.BOARD, given=keep | {stage.name: Given(lanes=stage.lanes, fifo=stage.least)})
                return
    pytest.fail("no network had a join")


def test_table_2_of_the_lenet_paper_compiles(tmp_path: Path) -> None:
    made = compile(
        ROOT / "models" / "lenet5.onnx", "pynq-z2", plan_file=ROOT / "examples" / "table2.toml", out=tmp_path / "out"
    )
    stages = by_name(made.plan)
    pools = [stage for stage in made.plan.stages if isinstance(stage, PoolStage)]
    assert [(pool.name, pool.part_of) for pool in pools] == [("conv1.pool", "conv1"), ("pool4", "")]
    folding = {name: (s.pe, s.simd) for name, s in stages.items() if isinstance(s, SumStage)}
    assert {name: folding[name] for name in ("conv1", "conv3", "conv5", "fc6")} == {
        "conv1": (1, 25),
        "conv3": (2, 25),
        "conv5": (2, 25),
        "fc6": (1, 1),
    }
    top = (tmp_path / "out" / "src" / "lenet5.cpp").read_text()
    assert [line for line in top.splitlines() if "_ROM(" in line][:4] == [
        f"    BITWRIGHT_ROM({name}_weights, BRAM);" for name in ("conv1", "conv3", "conv5", "fc6")
    ]
    saved = tomllib.loads((tmp_path / "out" / "plan.toml").read_text())["layers"]
    given = tomllib.loads((ROOT / "examples" / "table2.toml").read_text())["layers"]
    for name, table in given.items():
        for key, value in table.items():
            assert saved[name][key] in (value, [value])
    accelerator = Accelerator(tmp_path / "out")
    frames = [tuple(map(int, line.split())) for line in (tmp_path / "out/tb/golden_input.txt").read_text().splitlines()]
    expected = (tmp_path / "out/tb/golden_output.txt").read_text().splitlines()
    got = accelerator.run(np.array(frames))
    assert [" ".join(map(str, row)) for row in got.tolist()] == expected
