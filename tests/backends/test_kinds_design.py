"""Whole designs of FLOAT and AFFINE: LeNet-5 on MNIST, what the plan and the estimate say of them, and their loops."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls import cores
from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.compare import compare_layers, input_format, tolerance
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.estimate import engine_cost, estimate, stage_cycles
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.loops import Turns, loops_of
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import FloatSumStage, ScaledSumStage, SumStage, stages_of
from bitwright.backends.hls.widths import Choices
from bitwright.backends.simulation.run import Simulation
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.models.datasets import load as load_data
from bitwright.passes import STRUCTURE, Context, run_passes

MODELS = Path(__file__).parents[2] / "models"
IMAGES = 60


def lenet5(formats: str) -> Graph:
    graph = load(MODELS / "lenet5.onnx")
    samples = load_data("mnist", "train", 200).x
    annotate = f"annotate-formats{{weights={formats},activations={formats}}}"
    context = Context(samples={graph.input_name(graph.inputs[0]): samples})
    return run_passes(graph, f"{STRUCTURE},{annotate},derive-accumulators", context)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")
@pytest.mark.parametrize("formats", ["FLOAT 16", "FLOAT 32", "FP8_E4M3", "AFFINE 8", "AFFINE 4", "EXP 5"])
def test_lenet5_on_mnist(formats: str, networks: ModuleType, tmp_path: Path) -> None:
    """Within the tolerance of the judge and of onnxruntime, and right where they are."""
    graph = lenet5(formats)
    planned = plan(stages_of(graph), load_board("pynq"))
    networks.write(tmp_path / "made", graph, planned.stages)
    accelerator = Accelerator(tmp_path / "made", trace=True, flags=["-O1"])
    data = load_data("mnist", "test", IMAGES)
    y = accelerator.output.from_stream(accelerator.run(accelerator.input.to_stream(data.x, input_format(graph))))
    (judged,) = evaluate(graph, {"": data.x}).values()
    (simulated,) = Simulation(graph).run({graph.input_name(graph.inputs[0]): data.x}).values()
    assert (np.abs(y - judged) <= tolerance(graph, judged)).all()
    assert (np.abs(y - simulated) <= 2 * tolerance(graph, judged)).all()
    assert {row.name: row.first for row in compare_layers(accelerator, graph, data.x[:8]) if row.differ} == {}
    np.testing.assert_array_equal(y.argmax(1), judged.argmax(1))
    assert (y.argmax(1) == data.y).mean() >= (0.9 if formats == "EXP 5" else 0.98)


# ---- loops and estimates ------------------------------------------------------------------------------------------

TINY = """graph @tiny {
  input %x : FLOAT<16>[N,4,5,6]
  weight %w = 000000f1 : FLOAT<16>[8,4,3,3]
  weight %t = 000000f4 : FLOAT<16>[6,48]
  %c = conv2d(%x, %w) {kernel=[3,3], pads=[1,1,1,1]} : FLOAT<16>[N,8,5,6]
  %p = maxpool2d(%c) {kernel=[2,2], strides=[2,2]} : FLOAT<16>[N,8,2,3]
  %f = flatten(%p) : FLOAT<16>[N,48]
  %y = dense(%f, %t) : FLOAT<16>[N,6]
  output %y
}"""


def sums(pe: int, simd: int) -> FloatSumStage:
    stage = next(stage for stage in stages_of(parse(TINY)) if stage.name == "c")
    assert isinstance(stage, FloatSumStage)
    return replace(stage, pe=pe, simd=simd)


@pytest.mark.parametrize(("pe", "simd"), [(1, 1), (2, 3), (8, 36), (4, 12), (1, 36), (8, 9)])
def test_turns_in_closed_form_are_those_of_the_loop(pe: int, simd: int) -> None:
    """Stepped through: a token is read at the first turn of a chunk, one written at each working turn of the last."""
    stage = sums(pe, simd)
    loop = loops_of(stage)[-1]
    assert isinstance(loop, Turns)
    chunks, sharing = 36 // simd, 8 // pe
    turns = sharing if chunks == 1 else max(sharing, 6)
    reads, writes = [], []
    trip = 0
    for _ in range(5 * 6):
        for chunk in range(chunks):
            for turn in range(turns):
                if turn == 0:
                    reads.append(trip)
                if chunk == chunks - 1 and turn < sharing:
                    writes.append(trip)
                trip += 1
    assert loop.trips == trip
    assert (loop.tokens_in, loop.tokens_out) == ((len(reads),), len(writes))
    np.testing.assert_array_equal(loop.read_trip(0, np.arange(len(reads))), reads)
    np.testing.assert_array_equal(loop.write_trip(np.arange(len(writes))), writes)
    trips = np.arange(trip)
    np.testing.assert_array_equal(loop.reads_until(0, trips), np.searchsorted(reads, trips, "right"))
    np.testing.assert_array_equal(loop.writes_until(trips), np.searchsorted(writes, trips, "right"))


def test_an_addition_takes_six_trips_before_its_sum_is_added_to() -> None:
    """Two rows that share a vector in chunks: 6 trips a chunk; in one chunk: 2 trips; eight rows: 8 trips a chunk."""
    positions, deep = 5 * 6, {simd: cores.DEPTH + 4 * int(np.ceil(np.log2(simd))) for simd in (1, 18, 36)}
    expected = {(4, 18): 2 * 6, (1, 1): 36 * 8, (1, 36): 8, (8, 36): 1}
    for (pe, simd), trips in expected.items():
        stage = replace(sums(pe, simd), scan=None, lanes=simd)
        assert stage_cycles(stage) == positions * trips - 1 + deep[simd] - 1 + 2


def test_products_of_float32_take_five_dsp() -> None:
    """3 a product and 2 an addition: the float LeNet of docs/estimate.md has 13 in its conv2, 65 DSP, and 71 in all."""
    assert (cores.MULTIPLY.dsp, cores.ADD.dsp) == (3, 2)
    text = """graph @single {
      input %x : FLOAT<32>[N,13]
      weight %w = 000000f5 : FLOAT<32>[4,13]
      %y = dense(%x, %w) : FLOAT<32>[N,4]
      output %y
    }"""
    stage = next(stage for stage in stages_of(parse(text)) if isinstance(stage, FloatSumStage))
    board = load_board("pynq")
    assert engine_cost(replace(stage, simd=13), board).dsp == 65
    assert engine_cost(replace(stage, pe=2, simd=13), board).dsp == 130
    assert engine_cost(stage, board).dsp == 5


def test_an_affine_scale_is_one_product_an_output() -> None:
    """Whatever simd is, a row has one scale of 24 bits; a zero point in the middle of the codes costs nothing."""

    def layer(zero: str) -> ScaledSumStage:
        text = f"""graph @scaled {{
          input %x : FIXED<8>[N,12]
          weight %w = 000000f6 : AFFINE<8,scale=0.01,zero={zero}>[4,12]
          %y = dense(%x, %w) : FIXED<8>[N,4]
          output %y
        }}"""
        return next(stage for stage in stages_of(parse(text)) if isinstance(stage, ScaledSumStage))

    board = load_board("pynq")

    def dsp(stage: SumStage, pe: int, simd: int) -> int:
        return engine_cost(replace(stage, pe=pe, simd=simd), board).dsp

    centred, moved = layer("128"), layer("100.5")
    assert [dsp(centred, pe, simd) for pe, simd in ((1, 1), (1, 12), (4, 12))] == [1 + 1, 12 + 1, 48 + 4]
    shared = dsp(moved, 1, 1) - dsp(centred, 1, 1)
    assert shared > 0
    assert dsp(moved, 4, 12) - dsp(centred, 4, 12) == shared, "rows of one scale share the product of the zero point"


@pytest.mark.parametrize(
    ("number", "given", "message"),
    [
        ("FLOAT<16>", Given(pixels=2), "%c: pixels 2, but a layer of FLOAT or AFFINE takes one at a time"),
        ("AFFINE<8,scale=0.5>", Given(pixels=2), "%c: pixels 2, but a layer of FLOAT or AFFINE takes one at a time"),
        ("FLOAT<16>", Given(adder_tree=False), "%c: float32 products are added by a tree"),
    ],
)
def test_what_a_plan_cannot_ask_of_float_and_affine(
    number: str, given: Given, message: str, networks: ModuleType
) -> None:
    graph = parse(f"""graph @one {{
      input %x : {number}[N,1,4,4]
      weight %c.w = 000000c1 : {number}[2,1,1,1]
      %c = conv2d(%x, %c.w) {{kernel=[1,1]}} : {number}[N,2,4,4]
      output %c
    }}""")
    with pytest.raises(CompileError) as caught:
        plan(stages_of(graph), networks.BOARD, given={"c": given})
    key = "adder_tree" if given.pixels is None else "pixels"
    assert str(caught.value) == f"{message}\n  help: leave {key} out"


def test_the_search_knows_what_the_estimate_says() -> None:
    """The folded design's slowest stage is no slower than the target that the search was given."""
    board = load_board("pynq")
    choices = Choices(stages_of(lenet5("FLOAT 16")), board)
    found = [(target, choices.cheapest(target)) for target in choices.targets[:: len(choices.targets) // 9]]
    designs = [(target, made) for target, made in found if made is not None]
    assert len(designs) > 2
    for target, made in designs:
        assert estimate(made, board).interval <= target + 1
