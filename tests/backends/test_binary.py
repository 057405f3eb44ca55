"""BIN activations: +1 and -1, the sign of every sum, with 0 as the padding of a convolution. Every bit is the judge's.

All runs are with bounded streams at the emitted depths, in random foldings.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.compare import compare_layers, input_format, is_exact
from bitwright.backends.hls.driver.accelerator import Port
from bitwright.backends.hls.estimate import engine_cost
from bitwright.backends.hls.package import _port
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import (
    JoinStage,
    MeanStage,
    PointStage,
    PoolStage,
    Stage,
    SumStage,
    ports_of,
    span,
    stages_of,
    takes_sign,
)
from bitwright.backends.simulation.run import Simulation
from bitwright.ir import edit
from bitwright.ir.assign import activation_values, spread
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import binary
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

TEXTS = {
    # As a binarised network has them: padded, pooled, depthwise, to a mean and a row.
    "signs": """graph @signs {
      input %signs.x : BIN<1>[N,3,6,7]
      weight %signs.a.w = 000000b1 : BIN<1>[4,3,3,3]
      weight %signs.a.b = 000000b2 : f32[4]
      weight %signs.d.w = 000000b3 : FIXED<4>[4,1,3,3]
      weight %signs.f.w = 000000b4 : EXP<3>[5,4]
      %signs.a = conv2d(%signs.x, %signs.a.w, %signs.a.b)
        {kernel=[3,3], pads=[1,1,1,1], pool=[2,2], pool_strides=[1,2]} : BIN<1,B=3>[N,4,5,3]
      %signs.m = maxpool2d(%signs.a) {kernel=[2,2], pads=[1,0,0,1]} : BIN<1,B=3>[N,4,5,3]
      %signs.d = conv2d(%signs.m, %signs.d.w) {groups=4, kernel=[3,3], pads=[2,1,1,2]} : BIN<1,B=-20>[N,4,6,4]
      %signs.p = avgpool2d(%signs.d) {kernel=[2,2], pads=[1,0,0,1]} : BIN<1>[N,4,6,4]
      %signs.g = globalavgpool(%signs.p) : FIXED<5,B=1>[N,4,1,1]
      %signs.r = flatten(%signs.g) : FIXED<5,B=1>[N,4]
      %signs.f = dense(%signs.r, %signs.f.w) {act=clip, act_max=0.5, act_min=-0.25} : BIN<1,B=1>[N,5]
      output %signs.f as "signs.y"
    }""",
    # Where streams and formats meet: sums that tie at 0, constants, bounds on either side of 0.
    "meets": """graph @meets {
      input %meets.x : FIXED<3>[N,2,3,5]
      weight %meets.k = [0.75,-0.3] : f32[2,1,1]
      weight %meets.h = [0.25,-0.26] : f32[2,1,1]
      %meets.q = quantize(%meets.x) : BIN<1,B=1>[N,2,3,5]
      %meets.s = add(%meets.q, %meets.x) : BIN<1>[N,2,3,5]
      %meets.t = add(%meets.s, %meets.q) : FIXED<3,B=-1>[N,2,3,5]
      %meets.u = mul(%meets.t, %meets.s) : BIN<1>[N,2,3,5]
      %meets.v = mul(%meets.u, %meets.k) : FIXED<6>[N,2,3,5]
      %meets.w = add(%meets.x, %meets.h) : BIN<1>[N,2,3,5]
      %meets.z = relu(%meets.w) : UFIXED<2>[N,2,3,5]
      %meets.c = concat(%meets.v, %meets.w, %meets.z, %meets.u) {axis=1} : BIN<1,B=2>[N,8,3,5]
      %meets.g = avgpool2d(%meets.c) {count_pads=1, kernel=[3,3], pads=[1,1,1,1]} : FIXED<7,B=2>[N,8,3,5]
      %meets.e = clip(%meets.g) {max=0.1, min=-0.03} : BIN<1>[N,8,3,5]
      output %meets.e as "meets.y"
    }""",
    "bounds": """graph @bounds {
      input %bounds.x : BIN<1,B=-1>[N,4,3,3]
      weight %bounds.w = 000000b5 : FIXED<5>[4,4,1,1]
      %bounds.a = conv2d(%bounds.x, %bounds.w) {act=relu, kernel=[1,1]} : BIN<1>[N,4,3,3]
      %bounds.b = conv2d(%bounds.x, %bounds.w) {act=clip, act_max=-0.5, act_min=-2.0, kernel=[1,1]} : BIN<1>[N,4,3,3]
      %bounds.c = conv2d(%bounds.x, %bounds.w) {kernel=[1,1]} : BIN<1>[N,4,3,3]
      %bounds.d = relu(%bounds.c) : BIN<1>[N,4,3,3]
      %bounds.e = clip(%bounds.c) {max=-0.5, min=-2.0} : BIN<1>[N,4,3,3]
      %bounds.o = concat(%bounds.a, %bounds.b, %bounds.c, %bounds.d, %bounds.e) {axis=1} : BIN<1>[N,20,3,3]
      output %bounds.o as "bounds.y"
    }""",
}
SEEDS = (1, 5, 26)


class Case:
    """A network, its folded stages, inputs, and what must come out."""

    def __init__(self, graph: Graph, stages: list[Stage], x: Array) -> None:
        self.graph, self.stages, self.x = graph, stages, x
        (self.y,) = evaluate(graph, {"": x}).values()


def drawn(networks: ModuleType, seed: int) -> Case:
    """A network with branches of which a half of the tensors are BIN, the input among them; again where refused."""
    graph, _, x = networks.branching(seed)
    rng = np.random.default_rng(seed)
    formats = {value.name: value.tensor_type for value in activation_values(graph)}
    while True:
        for value in activation_values(graph):
            chosen = value.producer is None or rng.random() < 0.5
            number = binary(int(rng.integers(-2, 3))) if chosen else formats[value.name].format
            edit.set_type(value, value.tensor_type.with_format(number))
        spread(graph)
        try:
            return Case(graph, networks.randomly_folded(stages_of(graph), rng), x)
        except CompileError as error:
            if not any(reason in error.message for reason in networks.REFUSALS):
                raise


@pytest.fixture(scope="module")
def cases(networks: ModuleType) -> dict[str, Case]:
    rng = np.random.default_rng(4)
    found = {}
    for name, text in TEXTS.items():
        graph = parse(text.replace("\n        ", " "))
        shape = [dim for dim in (graph.inputs[0].tensor_type.shape or ())[1:] if isinstance(dim, int)]
        x = rng.uniform(*span(input_format(graph)), (12, *shape)).astype(np.float32)
        found[name] = Case(graph, networks.randomly_folded(stages_of(graph), rng), x)
    return found | {f"dag{seed}": drawn(networks, seed) for seed in SEEDS}


@pytest.fixture(scope="module")
def folders(networks: ModuleType, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("binary")
    for name, case in cases.items():
        networks.write(root / name, case.graph, case.stages)
    return {name: root / name for name in cases}


@needs_compiler
def test_every_bit_of_every_layer(networks: ModuleType, cases: dict[str, Case], folders: dict[str, Path]) -> None:
    library = next(iter(folders.values())).parent / "bounded.so"
    for accelerator in networks.bundled(list(folders.values()), library, "-O0", "-DBITWRIGHT_BOUNDED"):
        case = cases[accelerator.name]
        assert is_exact(case.graph)
        sent = accelerator.input.to_stream(case.x, input_format(case.graph))
        np.testing.assert_array_equal(accelerator.output.from_stream(accelerator.run(sent)), case.y)
        rows = compare_layers(accelerator, case.graph, case.x)
        assert {row.name: row.first for row in rows if row.differ} == {}


@needs_compiler
def test_ap_types_give_the_same_bits(
    networks: ModuleType, cases: dict[str, Case], folders: dict[str, Path], ap_flags: list[str], tmp_path: Path
) -> None:
    for accelerator in networks.bundled([folders[n] for n in TEXTS], tmp_path / "ap.so", "-O0", *ap_flags):
        case = cases[accelerator.name]
        sent = accelerator.input.to_stream(case.x, input_format(case.graph))
        np.testing.assert_array_equal(accelerator.output.from_stream(accelerator.run(sent)), case.y)


def test_the_simulation_gives_them_too(cases: dict[str, Case]) -> None:
    for name in TEXTS:
        case = cases[name]
        (y,) = Simulation(case.graph).run({case.graph.input_name(case.graph.inputs[0]): case.x}).values()
        np.testing.assert_array_equal(y, case.y, err_msg=name)


def test_the_text_keeps_the_rules(hls_rules: ModuleType, folders: dict[str, Path]) -> None:
    for name in TEXTS:
        paths = [path for path in sorted(folders[name].rglob("*")) if path.suffix in (".hpp", ".cpp", ".py")]
        texts = {path.relative_to(folders[name]).as_posix(): path.read_text() for path in paths}
        assert hls_rules.violations(texts) == []


def test_every_engine_gives_signs(cases: dict[str, Case]) -> None:
    """And takes them; both signs come out of the networks, and ties are among the sums."""
    stages = [stage for case in cases.values() for stage in case.stages]
    engines = (SumStage, PoolStage, MeanStage, PointStage, JoinStage)
    for engine in engines:
        assert any(takes_sign(stage.format) for stage in stages if isinstance(stage, engine))
    entering = (SumStage, MeanStage, PointStage)
    assert {type(stage) for stage in stages if isinstance(stage, entering) and takes_sign(stage.in_format)} == set(
        entering
    )
    joins = [stage for stage in stages if isinstance(stage, JoinStage) and any(map(takes_sign, stage.in_formats))]
    assert {stage.op for stage in joins} == {"add", "mul", "concat"}
    assert {stage.weight_format.kind for stage in stages if isinstance(stage, SumStage)} == {"FIXED", "BIN", "EXP"}
    for name in ("signs", "meets", "bounds"):
        assert len(np.unique(cases[name].y)) == 2
    d = evaluate(cases["signs"].graph, {"": cases["signs"].x}, ["signs.d"])["signs.d"]
    assert (d[..., :-1, :-1] + d[..., 1:, :-1] + d[..., :-1, 1:] + d[..., 1:, 1:] == 0).any()


def test_padding_is_nothing() -> None:
    """By hand: of an image of +1 and weights of 1, a 3x3 window counts the pixels that it covers."""
    graph = parse("""graph @one {
      input %x : BIN<1>[N,1,2,2]
      weight %w = [1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0] : BIN<1>[1,1,3,3]
      weight %b = [-3.5] : f32[1]
      %y = conv2d(%x, %w, %b) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<6,B=-3>[N,1,2,2]
      output %y
    }""")
    (y,) = evaluate(graph, {"": np.zeros((1, 1, 2, 2))}).values()
    np.testing.assert_array_equal(y, 0.0 * y, "4 - 3.5 is rounded to 4 - 4, half to even")


def test_the_driver_sends_the_signs_that_the_judge_takes() -> None:
    graph = parse(TEXTS["signs"].replace("\n        ", " "))
    entering, leaving = (_port(stage).entry() for stage in ports_of(stages_of(graph)))
    assert (entering["kind"], entering["range"], entering["container_bits"]) == ("sign", [-1, 1], 8)
    x = np.random.default_rng(2).normal(0, 1e-3, (5, 3, 6, 7)).astype(np.float32)
    x[0, 0, 0] = 0
    port = Port(entering, "network.json")
    np.testing.assert_array_equal(port.quantise(x), input_format(graph).integers(x))
    out = Port(leaving, "network.json")
    np.testing.assert_array_equal(out.unpack(out.pack(np.full((1, 5), -0.3))), np.full((1, 5), -0.5))


def test_the_estimate_counts_two_bits_and_no_division(networks: ModuleType) -> None:
    """What BIN saves against numbers of 8 bits: a product of BIN is an addition of two bits, a mean has no division."""
    board = load_board("pynq")

    def costs(number: str) -> dict[str, tuple[float, int]]:
        text = f"""graph @one {{
          input %x : {number}[N,4,6,6]
          weight %w = 000000b7 : BIN<1>[4,4,3,3]
          %c = conv2d(%x, %w) {{kernel=[3,3]}} : {number}[N,4,4,4]
          %m = globalavgpool(%c) : {number}[N,4,1,1]
          output %m
        }}"""
        stages = networks.folded(stages_of(parse(text)), lambda stage: (4, 36))
        return {stage.name: (engine_cost(stage, board).lut[1], engine_cost(stage, board).dsp) for stage in stages}

    signs, numbers = costs("BIN<1>"), costs("FIXED<8>")
    assert signs["c"][0] < numbers["c"][0] / 2
    assert signs["m"][0] < numbers["m"][0] / 2
    assert signs["m"][1] == 0


def test_a_plan_takes_several_pixels_of_signs(networks: ModuleType) -> None:
    graph = parse("""graph @wide {
      input %x : BIN<1>[N,1,8,8]
      weight %w = 000000b8 : BIN<1>[2,1,3,3]
      %c = conv2d(%x, %w) {kernel=[3,3], pads=[1,1,1,1]} : BIN<1>[N,2,8,8]
      output %c
    }""")
    stage = next(stage for stage in plan(stages_of(graph), networks.BOARD).stages if isinstance(stage, SumStage))
    assert stage.pixels > 1


@pytest.mark.parametrize(("low", "high"), [(-1.0, -0.5), (-1.0, 2.0), (0.25, 2.0), (0.0, 0.5)])
def test_a_clip_keeps_the_signs_within_its_bounds(low: float, high: float) -> None:
    """Bounds that leave one sign give that one; the judge clips first and takes the sign then."""
    text = f"""graph @one {{
      input %x : FIXED<4>[N,1]
      %y = clip(%x) {{max={high}, min={low}}} : BIN<1>[N,1]
      output %y
    }}"""
    graph = parse(text)
    (stage,) = (stage for stage in stages_of(graph) if isinstance(stage, PointStage))
    x = np.arange(-7, 8)[:, None] / 4.0
    (y,) = evaluate(graph, {"": x}).values()
    least, most = (-1 if stage.act[0] is None else stage.act[0]), (1 if stage.act[1] is None else stage.act[1])
    np.testing.assert_array_equal(np.where(x < 0, -1, 1).clip(least, most), y)
