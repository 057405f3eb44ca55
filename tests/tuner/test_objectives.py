"""Objectives: by hand, against the estimate of the accelerator, and what is said of those that are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import stages_of
from bitwright.ir import edit
from bitwright.ir.assign import assign
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, parse
from bitwright.ir.formats.named import BIN, FLOAT32, exp, fixed, float_format
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse as parse_graph
from bitwright.passes import Context, run_passes
from bitwright.tuner.objectives import Bits, macs, objective_of
from bitwright.tuner.targets import Target, targets_of

TARGETS = [Target("a.weight", "weight", 150, 1.0), Target("a.input", "input", 784, 1.0)]
RNG = np.random.default_rng(8)


def numbers(count: int) -> str:
    return ",".join(f"{number:.3f}" for number in RNG.normal(size=count))


NETWORK = f"""
graph @small {{
  input %x : f32[N,2,6,6]
  weight %conv.weight = [{numbers(72)}] : f32[4,2,3,3]
  weight %conv.bias = [{numbers(4)}] : f32[4]
  weight %fc.weight = [{numbers(108)}] : f32[3,36]
  weight %fc.bias = [{numbers(3)}] : f32[3]
  %conv = conv2d(%x, %conv.weight, %conv.bias) {{
    act=relu, dilations=[1,1], groups=1, kernel=[3,3], pads=[1,1,1,1], strides=[2,2]
  }} : f32[N,4,3,3]
  %flat = flatten(%conv) {{axis=1}} : f32[N,36]
  %fc = dense(%flat, %fc.weight, %fc.bias) : f32[N,3]
  output %fc
}}
"""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return parse_graph(NETWORK)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return RNG.normal(size=(20, 2, 6, 6)).astype(np.float32)


def formats_of(graph: Graph, x: np.ndarray, weights: str, inputs: str) -> Mapping[str, Canonical]:
    found = {}
    for target in targets_of(graph, x):
        format = parse(weights if target.role == "weight" else inputs)
        assert isinstance(format, Canonical)
        found[target.name] = format.covering(target.max_abs)
    return found


# ---- bits


def test_bits_by_hand() -> None:
    assert Bits(TARGETS)({"a.weight": fixed(3), "a.input": exp(5)}) == 3 * 150 + 5 * 784
    assert Bits(TARGETS)({"a.weight": BIN, "a.input": FLOAT32}) == 150 + 32 * 784


def test_biases_a_channel_count_five_bits_each() -> None:
    format = fixed(3).at((1, 2, 3, 4, 5, 6), 0)
    assert Bits(TARGETS)({"a.weight": format, "a.input": fixed(2)}) == 3 * 150 + 5 * 6 + 2 * 784


@pytest.mark.parametrize("text", ["bits", "Default", " default ", " bits ", "1*bits"])
def test_names_of_the_default(text: str) -> None:
    assert objective_of(text, None, TARGETS)({"a.weight": fixed(4), "a.input": fixed(4)}) == 4 * 934


# ---- energy


def test_multiplications(graph: Graph) -> None:
    assert {node.name: macs(node) for node in graph.nodes if node.op != "flatten"} == {
        "conv": 4 * 18 * 9,
        "fc": 108,
    }


def test_multiplications_of_dilated_grouped_convolutions() -> None:
    graph = parse_graph(f"""
        graph @grouped {{
          input %x : f32[N,4,9,8]
          weight %c.weight = [{numbers(48)}] : f32[6,2,2,2]
          %c = conv2d(%x, %c.weight) {{
            dilations=[3,2], groups=2, kernel=[2,2], pads=[0,1,2,0], strides=[1,3]
          }} : f32[N,6,8,3]
          output %c
        }}
    """)
    assert macs(graph.nodes[0]) == 6 * 8 * (8 * 3)


def test_energy_of_integers_by_hand(graph: Graph, x: np.ndarray) -> None:
    """FIXED 4 x FIXED 8: 3.1/1024 pJ for each of 32 product bits, and a sum of 4 + 8 bits and its carries."""
    energy = objective_of("energy", graph, targets_of(graph, x))
    conv = 648 * (3.1 / 1024 * 4 * 8 + 0.1 / 32 * (4 + 8 + 5))  # 18 products: 5 bits of carries
    dense = 108 * (3.1 / 1024 * 4 * 8 + 0.1 / 32 * (4 + 8 + 6))  # 36 products
    assert energy(formats_of(graph, x, "FIXED 4", "FIXED 8")) == pytest.approx(conv + dense)


def test_energy_of_32_bit_integers_is_the_tables() -> None:
    """3.1 pJ a product and 0.1 pJ a sum of 32 bits; the sum of 64-bit products takes twice that."""
    graph = parse_graph(
        "graph @one {\n  input %x : f32[N,1]\n  weight %f.weight = [1] : f32[1,1]\n"
        "  %f = dense(%x, %f.weight) : f32[N,1]\n  output %f\n}"
    )
    energy = objective_of("energy", graph, targets_of(graph, np.ones((1, 1), np.float32)))
    assert energy({"f.weight": fixed(32), "f.input": fixed(32)}) == pytest.approx(3.1 + 0.2)
    assert energy({"f.weight": FLOAT32, "f.input": FLOAT32}) == pytest.approx(3.7 + 0.9)
    assert energy({"f.weight": FLOAT32, "f.input": fixed(8)}) == pytest.approx(3.7 + 0.9)
    assert energy({"f.weight": float_format(16), "f.input": float_format(16)}) == pytest.approx(1.1 + 0.4)
    assert energy({"f.weight": float_format(24), "f.input": fixed(8)}) == pytest.approx((1.1 + 3.7 + 0.4 + 0.9) / 2)
    assert energy({"f.weight": float_format(8), "f.input": float_format(8)}) == pytest.approx((1.1 + 0.4) / 2)


@pytest.mark.parametrize(("weight", "bits"), [("BIN", 1 + 1), ("EXP 3", 3 + 1), ("EXP 4", 7 + 1)])
def test_powers_of_two_do_not_multiply(graph: Graph, x: np.ndarray, weight: str, bits: int) -> None:
    """A weight of EXP 3 is a multiple of its step of 1, 2 or 4 and a sign; EXP 4 reaches 64."""
    energy = objective_of("energy", graph, targets_of(graph, x))
    conv, dense = 648 * 0.1 / 32 * (bits + 8 + 5), 108 * 0.1 / 32 * (bits + 8 + 6)
    assert energy(formats_of(graph, x, weight, "FIXED 8")) == pytest.approx(conv + dense)


def test_energy_grows_with_the_width(graph: Graph, x: np.ndarray) -> None:
    energy = objective_of("energy", graph, targets_of(graph, x))
    for kind, widths in (("FIXED", range(2, 33)), ("FLOAT", range(6, 33))):
        found = [energy(formats_of(graph, x, f"{kind} {width}", f"{kind} {width}")) for width in widths]
        assert found[0] > 0
        assert found == sorted(set(found))


def test_energy_counts_the_target_layers_alone(graph: Graph, x: np.ndarray) -> None:
    both = objective_of("energy", graph, targets_of(graph, x))
    parts = [objective_of("energy", graph, targets_of(graph, x, [layer])) for layer in ("conv", "fc")]
    formats = formats_of(graph, x, "FIXED 5", "FIXED 7")
    assert sum(part(formats) for part in parts) == pytest.approx(both(formats))


# ---- hardware


@pytest.mark.parametrize("figure", ["lut", "bram", "dsp", "latency"])
def test_hardware_is_what_the_plan_estimates(graph: Graph, x: np.ndarray, figure: str) -> None:
    context = Context(samples={"x": x})
    objective = objective_of(figure, graph, targets_of(graph, x), "pynq-z2", context)
    for weights, inputs in (("FIXED 8", "FIXED 8"), ("EXP 3", "FIXED 5"), ("BIN", "UFIXED 3")):
        formats = formats_of(graph, x, weights, inputs)
        made = run_passes(edit.copy(graph), "annotate-formats{weights=FIXED 16,activations=FIXED 16}", context)
        assign(made, formats)
        stages = stages_of(run_passes(made, "derive-accumulators", context))
        found = plan(stages, load_board("pynq-z2"), search=False).estimate
        expected = {
            "lut": sum(found.total.lut) / 2,
            "bram": found.total.bram18,
            "dsp": found.total.dsp,
            "latency": found.latency,
        }[figure]
        assert objective(formats) == expected


def test_what_cannot_be_built_is_infinitely_dear(graph: Graph, x: np.ndarray) -> None:
    objective = objective_of("lut", graph, targets_of(graph, x), "pynq-z2", Context(samples={"x": x}))
    assert objective(formats_of(graph, x, "FLOAT 32", "FLOAT 32")) == math.inf
    assert objective(formats_of(graph, x, "EXP 8", "FIXED 16")) == math.inf  # no accumulator is so wide
    assert objective(formats_of(graph, x, "FIXED 4", "FIXED 4")) < math.inf


def test_a_network_without_engines_is_refused_at_once() -> None:
    graph = parse_graph("""
        graph @branches {
          input %x : f32[N,2]
          weight %a.weight = [1,2,3,4] : f32[2,2]
          %a = dense(%x, %a.weight) : f32[N,2]
          %s = hardswish(%a) : f32[N,2]
          output %s
        }
    """)
    x = np.ones((3, 2), np.float32)
    with pytest.raises(CompileError, match="hardswish"):
        objective_of("lut", graph, targets_of(graph, x), "pynq-z2", Context(samples={"x": x}))


def test_a_board_that_is_none(graph: Graph, x: np.ndarray) -> None:
    with pytest.raises(CompileError, match="board"):
        objective_of("lut", graph, targets_of(graph, x), "abacus", Context(samples={"x": x}))


# ---- sums and functions


def test_weighted_sums(graph: Graph, x: np.ndarray) -> None:
    targets = targets_of(graph, x)
    formats = formats_of(graph, x, "FIXED 4", "FIXED 8")
    bits, energy = (objective_of(name, graph, targets)(formats) for name in ("bits", "energy"))
    for text, factors in (
        ("bits+energy", (1, 1)),
        ("bits + 0.5 * energy", (1, 0.5)),
        ("2*bits+.25*energy", (2, 0.25)),
        ("1e-2*energy+3.*bits", (3, 0.01)),
        ("1e+2*energy+bits", (1, 100)),
        ("bits+bits", (2, 0)),
        ("0*energy + bits", (1, 0)),
    ):
        assert objective_of(text, graph, targets)(formats) == pytest.approx(factors[0] * bits + factors[1] * energy)


def test_a_function_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def cost(formats, targets):\n"
        "    return sum(formats[t.name].width * t.size for t in targets if t.role == 'weight') + len(formats)\n"
    )
    objective = objective_of(f"{file}:cost", None, TARGETS)
    assert objective({"a.weight": fixed(3), "a.input": fixed(9)}) == 3 * 150 + 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bit", "there is no objective 'bit'"),
        ("", "there is no objective ''"),
        ("bits+", "there is no objective ''"),
        ("bits+speed", "there is no objective 'speed'"),
        ("two*bits", "there is no objective 'two*bits'"),
        ("1.2.3*bits", "there is no objective '1.2.3*bits'"),
        (".*bits", "there is no objective '.*bits'"),
        ("-1*bits", "there is no objective '-1*bits'"),
        ("bits*2", "there is no objective 'bits*2'"),
    ],
)
def test_objectives_that_are_none(text: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        objective_of(text, None, TARGETS)
    assert caught.value.message == message
    assert "bits, energy, lut, bram, dsp, latency" in (caught.value.help or "")


@pytest.mark.parametrize("text", ["energy", "bits+lut"])
def test_some_need_the_network(text: str) -> None:
    with pytest.raises(CompileError, match=r"the objective (energy|lut) needs the network itself"):
        objective_of(text, None, TARGETS)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def price(formats, targets): return 1", "no function cost"),
        ("cost = 3", "no function cost"),
        ("def cost(:", "importing it raised SyntaxError"),
        ("raise ValueError('first\\nsecond')", "importing it raised ValueError: second"),
        ("import sys; sys.exit(4)", "importing it raised SystemExit: 4"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, source: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(CompileError) as caught:
        objective_of(f"{file}:cost", None, TARGETS)
    assert message in caught.value.message
    assert str(file) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"mine\.py: no such file"):
        objective_of(f"{tmp_path}/mine.py:cost", None, TARGETS)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("formats['b.weight']", "cost() raised KeyError: 'b.weight'"),
        ("'much'", "cost() gave 'much', which is no number"),
        ("None", "cost() gave None, which is no number"),
        ("float('nan')", "cost() gave nan, which is no number"),
    ],
)
def test_functions_that_give_no_number(tmp_path: Path, body: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"def cost(formats, targets):\n    return {body}")
    with pytest.raises(CompileError) as caught:
        objective_of(f"{file}:cost", None, TARGETS)({"a.weight": fixed(3), "a.input": fixed(9)})
    assert message in caught.value.message
    assert "\n" not in caught.value.message
