"""backends/simulation against ir.evaluate: to the bit where it says exact, in every format."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from simulated import EXACT, images, network

from bitwright.backends.simulation.run import Simulation
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Affine, Canonical
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph, Value
from bitwright.ir.parse import parse
from bitwright.ir.types import Type
from bitwright.ir.verify import verify

SEEDS = range(100)


def inner_names(graph: Graph) -> list[str]:
    return [value.name for value in graph.values.values() if value.tensor is None]


def surely_exact(graph: Graph, exact: Mapping[str, bool]) -> set[str]:
    """The values that are exact, and so is all that they are made of."""
    sure = {value.name for value in graph.weights} | {v.name for v in graph.inputs if exact.get(v.name, False)}
    for node in graph.nodes:
        known = exact.get(node.name, False)
        if known and all(value is None or value.name in sure for value in node.operands):
            sure.add(node.name)
    return sure & set(inner_names(graph))


@pytest.mark.parametrize("start", SEEDS[::10])
def test_what_is_called_exact_is_equal_to_the_bit(start: int) -> None:
    for seed in range(start, start + 10):
        graph = network(seed)
        simulation = Simulation(graph, 1)
        names = inner_names(graph)
        wanted = evaluate(graph, images(seed), names)
        found = simulation.run(images(seed), wanted=names)
        for name in surely_exact(graph, simulation.exact):
            assert np.array_equal(found[name], wanted[name]), f"seed {seed}: %{name}\n{graph}"
        exactly = simulation.run_exactly(images(seed), names)
        for name in names:
            if graph.values[name].tensor_type.number is not None:
                assert np.array_equal(exactly[name], wanted[name]), f"seed {seed}: %{name}\n{graph}"


def test_most_of_these_networks_are_exact_and_some_are_not() -> None:
    """The test above says something, and so does `exact`."""
    drawn = [network(seed) for seed in SEEDS]
    whole = [all(Simulation(graph, 1).exact.values()) for graph in drawn]
    assert 40 <= sum(whole) <= 95
    ops = {node.op for graph, sure in zip(drawn, whole, strict=True) if sure for node in graph.nodes}
    assert {"conv2d", "dense", "add", "mul", "concat", "avgpool2d", "globalavgpool", "pad", "clip", "softmax"} <= ops
    kinds = {value.tensor_type.number.kind for graph in drawn for value in graph.values.values() if number(value)}
    assert kinds == set(EXACT)


def number(value: Value) -> Canonical | Affine | None:
    return value.type.number if isinstance(value.type, Type) else None


@pytest.mark.parametrize("kinds", [("FIXED", "FLOAT"), ("AFFINE",), ("FLOAT",), ("AFFINE", "FIXED", "UFIXED")])
def test_float_and_affine_formats_are_near(kinds: tuple[str, ...]) -> None:
    """In float32 a rounding here and there goes to the neighbour."""
    differ = total = 0
    for seed in range(40):
        graph = network(seed, kinds, others=False)
        simulation = Simulation(graph, 1)
        assert not all(simulation.exact.values()) or "FIXED" in kinds
        wanted, found = evaluate(graph, images(seed))["scores"], simulation.run(images(seed))["scores"]
        differ += int((np.abs(wanted - found) > 1e-6 * np.abs(wanted).max()).sum())
        total += wanted.size
        assert np.abs(wanted - found).max() <= 0.5 * np.abs(wanted).max() + 1e-6, f"seed {seed}\n{graph}"
    assert differ <= 0.05 * total


@pytest.mark.parametrize("act", ["hardswish", "hardsigmoid"])
@pytest.mark.parametrize("opset", [13, 17])
def test_curved_activations_are_near_and_not_called_exact(act: str, opset: int) -> None:
    graph = parse(f"""
        graph @g {{
          opset ai.onnx={opset}
          input %x : FIXED<8,B=-2>[1,2,7,7]
          weight %w = 00000001 : FIXED<5,B={{0,1,2}}@0>[3,2,3,3]
          %c = conv2d(%x, %w) {{act={act}, kernel=[3,3]}} : FIXED<9,B=-2>[1,3,5,5]
          %s = {act}(%x) : FIXED<9,B=-2>[1,2,7,7]
          output %c
          output %s
        }}""")
    x = {"x": images(0)["image"]}
    simulation = Simulation(graph, 1)
    assert simulation.exact == {"x": True, "c": False, "s": False}
    wanted, found = evaluate(graph, x), simulation.run(x)
    for name in ("c", "s"):
        assert (wanted[name] == found[name]).mean() > 0.99
        assert np.abs(wanted[name] - found[name]).max() <= 2.0**-5
    assert all(np.array_equal(wanted[name], array) for name, array in simulation.run_exactly(x).items())


@pytest.mark.parametrize(
    ("line", "exact"),
    [
        ("%y = dense(%x, %w) : FIXED<8>[1,4]", True),
        ("%y = dense(%wide, %w) : FIXED<8>[1,4]", False),
        ("%y = dense(%x, %w) : FIXED<26>[1,4]", False),
        ("%y = dense(%x, %w) : AFFINE<8,scale=0.1>[1,4]", False),
        ("%y = dense(%x, %w) : FLOAT<16>[1,4]", True),
        ("%y = dense(%half, %w) : FIXED<8>[1,4]", False),
        ("%y = dense(%x, %w) : f32[1,4]", True),
        ("%y = add(%x, %x) : FIXED<8>[1,4]", True),
        ("%y = add(%x, %fine) : FIXED<8>[1,4]", False),
        ("%y = add(%x, %b) : FIXED<8>[1,4]", False),
        ("%y = mul(%x, %x) : FIXED<8>[1,4]", True),
        ("%y = mul(%x, %wide) : FIXED<8>[1,4]", False),
        ("%y = concat(%x, %wide, %half) {axis=0} : FIXED<8>[3,4]", True),
        ("%y = globalavgpool(%i) : FIXED<8>[1,2,1,1]", True),
        ("%y = globalavgpool(%i) : FIXED<8,B=12>[1,2,1,1]", False),
        ("%y = globalavgpool(%i) : EXP<4>[1,2,1,1]", True),
        ("%y = globalavgpool(%i) : EXP<8>[1,2,1,1]", False),
        ("%y = avgpool2d(%i) {kernel=[2,2]} : FIXED<8>[1,2,5,4]", True),
        ("%y = onnx.Abs(%x) : FIXED<8>[1,4]", False),
        ("%y = batchnorm(%x, %b, %b, %b, %b) : FIXED<8>[1,4]", False),
        ("%y = relu(%x) : FIXED<4>[1,4]", False),
        ("%y = quantize(%x) : FIXED<4>[1,4]", True),
    ],
)
def test_what_is_called_exact(line: str, exact: bool) -> None:
    graph = parse(f"""
        graph @g {{
          input %x : FIXED<8>[1,4]
          input %wide : FIXED<20>[1,4]
          input %fine : FIXED<8,B=18>[1,4]
          input %half : FLOAT<16>[1,4]
          input %i : FIXED<8>[1,2,6,5]
          weight %w = 00000001 : FIXED<8>[4,4]
          weight %b = [1.0,2.0,3.0,4.0] : f32[4]
          {line}
          output %y
        }}""")
    verify(graph)
    assert Simulation(graph, 1).exact["y"] is exact


def test_averages_of_every_sum_are_exact_at_ties_too() -> None:
    """onnxruntime divides: times a reciprocal, 49 x 0.5 steps would round to the wrong side."""
    for rows, cols in ((7, 7), (3, 3), (5, 1), (6, 7)):
        graph = parse(f"""
            graph @g {{
              input %x : FIXED<6,B=-4>[1,1,{rows},{cols}]
              %y = globalavgpool(%x) : FIXED<4,B=-4>[1,1,1,1]
              output %y
            }}""")
        random = np.random.default_rng(0)
        x = random.integers(-31, 32, (5000, 1, rows, cols)).astype(np.float32)
        x[:2000] = random.integers(-31, 32, (2000, 1, 1, 1)) / np.ones((1, 1, rows, cols))  # whole numbers: many ties
        simulation = Simulation(graph, 1)
        assert simulation.exact == {"x": True, "y": True}
        assert np.array_equal(simulation.run({"x": x})["y"], evaluate(graph, {"x": x})["y"])


def test_relu_of_a_format_without_zero_is_rounded_again() -> None:
    text = "graph @g { input %x : BIN<1>[2]\n %y = relu(%x) : BIN<1>[2]\n output %y }"
    x = {"x": np.array([-3, 3], np.float32)}
    assert Simulation(parse(text), 1).run(x)["y"].tolist() == evaluate(parse(text), x)["y"].tolist() == [1, 1]


FORMATS_OF_FLOAT32 = [
    *("FLOAT 16", "BFLOAT16", "FP8_E4M3", "FP8_E5M2", "MS_FP9", "FLOAT<6,E=3,B=-20>", "UFLOAT<9,E=6,B=31>", "FLOAT 24"),
    *(
        "FLOAT<30,E=7>",
        "FLOAT<31,E=8>",
        "FLOAT<25,E=3,B=100>",
        "EXP 4",
        "EXP 5 -3",
        "EXP 8",
        "UEXP 4 10",
        "EXP<2,B=0>",
        "FIXED 8",
        "FIXED 24 3",
        "UFIXED 8 -9",
        "BIN 1 -4",
    ),
]


@pytest.mark.parametrize("text", FORMATS_OF_FLOAT32)
def test_quantisers_are_exact_on_every_exponent_and_tie(text: str) -> None:
    """Every power of two that float32 has, what is half way between, and the neighbours of both."""
    format = parse_format(text)
    assert isinstance(format, Canonical)
    ties = {0, 1, 2**format.n_f - 1, *range(0, 2**format.n_f, 1 + 2**format.n_f // 16)}
    fractions = [1 + (2 * k + 1) / 2 ** (format.n_f + 1) for k in ties]
    numbers = np.array([2.0**e * f for e in range(-149, 128) for f in (1.0, 1.25, 1.5, 1.75, *fractions)])
    with np.errstate(over="ignore"):
        singles = numbers.astype(np.float32)
    singles = singles[np.isfinite(singles)]
    near = np.concatenate([singles, np.nextafter(singles, np.float32(0)), np.nextafter(singles, np.float32(3e38))])
    x = np.concatenate([near, -near, [0.0, -0.0, np.finfo(np.float32).max, np.finfo(np.float32).tiny]])
    x = x.astype(np.float32)[:, None]
    graph = parse(f'graph @g {{ input %x : {format}[N,1]\n output %x as "y" }}')
    with np.errstate(over="ignore", under="ignore"):
        wanted = format.quantize(x.astype(np.float64))
    found = Simulation(graph, 1, batch=len(x)).run({"x": x})["y"]
    wrong = np.flatnonzero(found.astype(np.float64) != np.clip(wanted, -3.4028234663852886e38, 3.4028234663852886e38))
    assert not wrong.size, f"{x[wrong[0]]}: {found[wrong[0]]}, not {wanted[wrong[0]]} ({wrong.size} of {len(x)})"
