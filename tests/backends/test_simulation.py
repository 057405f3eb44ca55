"""backends/simulation against ir.evaluate: to the bit where it says exact, in every format, cut or whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright.models
from bitwright.backends.simulation import run as run_module
from bitwright.backends.simulation.run import Simulation, session_of
from bitwright.backends.simulation.score import Score, score, simulate
from bitwright.ir import edit
from bitwright.ir.assign import computed_values, spread, weight_values
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.formats import Affine, Canonical, Format
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph, Value
from bitwright.ir.ops import result_shape
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Type
from bitwright.ir.verify import verify
from bitwright.models import datasets
from bitwright.passes import STRUCTURE, Context, run_passes

assert bitwright.models.__file__ is not None
LENET = Path(bitwright.models.__file__).parent / "lenet5.onnx"
Random = np.random.Generator
BATCH = 3


class Drawing:
    """A network drawn at random, op by op."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph("drawn", {"": 17})
        self.value = edit.add_input(self.graph, "x", Type(F32, (BATCH, 2, 7, 7)), "image")

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.random.random() < share)

    def weight(self, *shape: int) -> Value:
        data = self.random.integers(-16, 17, shape) / np.float32(self.random.choice([8, 16]))
        return edit.add_weight(self.graph, f"w{len(self.graph.values)}", Tensor(data.astype(np.float32)))

    def add(self, op: str, *operands: Value, **attributes: Any) -> Value:
        node = edit.add_node(self.graph, op, operands, {f"v{len(self.graph.nodes)}": Type(F32)}, attributes)
        shape = operands[0].tensor_type.shape if op.startswith("onnx.") else result_shape(node)
        edit.set_type(node.result, Type(F32, shape))
        return node.result

    def activation(self) -> dict[str, Any]:
        act = str(self.random.choice(["none", "relu", "clip"]))
        return {"act": act, **({"act_min": -0.7, "act_max": 1.3} if act == "clip" else {})}

    def sum(self) -> Value:
        _, channels, rows, cols = self.value.tensor_type.static_shape or ()
        groups = channels if channels < 4 and self.chance(0.2) else 1
        outputs = groups * int(self.random.integers(1, 4))
        kernel = tuple(int(k) for k in self.random.integers(1, [min(rows, 3) + 1, min(cols, 3) + 1]))
        bias = [self.weight(outputs)] * self.chance()
        more: dict[str, Any] = {"pads": (0, 1, 1, 0)} if self.chance(0.3) and min(kernel) > 1 else {}
        if self.chance(0.3) and rows - kernel[0] > 1 and cols - kernel[1] > 1:
            more |= {"pool": (2, 2)} | ({"pool_strides": (1, 2)} if self.chance() else {})
        weight = self.weight(outputs, channels // groups, *kernel)
        return self.add("conv2d", self.value, weight, *bias, kernel=kernel, groups=groups, **self.activation(), **more)

    def network(self, others: bool = True) -> Graph:
        before = self.value
        kinds = ["sum", "sum", "maxpool2d", "relu", "transpose"]
        kinds += ["add", "concat", "avgpool2d", "pad", "clip", "mul", "onnx", "constant"] if others else []
        for kind in self.random.choice(kinds, int(self.random.integers(2, 7))):
            skip, before = before, self.value
            shape = self.value.tensor_type.static_shape or ()
            if kind == "sum":
                self.value = self.sum()
            elif kind in ("maxpool2d", "avgpool2d") and min(shape[2:]) > 2:
                more = {"count_pads": 1} if kind == "avgpool2d" and self.chance() else {}
                pads = {"pads": (1, 0, 0, 1)} if self.chance(0.3) else {}
                self.value = self.add(kind, self.value, kernel=(2, int(self.random.integers(2, 4))), **pads, **more)
            elif kind in ("add", "mul") and skip.tensor_type.shape == shape:
                self.value = self.add(kind, self.value, skip)
            elif kind == "concat":
                self.value = self.add(kind, self.value, before, axis=1)
            elif kind == "transpose":
                self.value = self.add(kind, self.value, perm=(0, 1, 3, 2))
            elif kind == "pad":
                self.value = self.add(kind, self.value, pads=(0, 0, 1, 0, 0, 0, 0, 1), value=0.6)
            elif kind == "clip":
                self.value = self.add(kind, self.value, min=-0.6, max=2.7)
            elif kind == "onnx":
                self.value = self.add(str(self.random.choice(["onnx.Abs", "onnx.Neg"])), self.value)
            elif kind == "constant":
                self.value = self.add("add", self.value, self.weight(shape[1], 1, 1))
            elif kind == "relu":
                self.value = self.add("relu", self.value)
        flat = self.add("flatten", self.add("globalavgpool", self.value) if self.chance(0.2) and others else self.value)
        features = (flat.tensor_type.static_shape or ())[1]
        fc = self.add("dense", flat, self.weight(4, features), self.weight(4), **self.activation())
        edit.add_output(self.graph, fc, "scores")
        if others and self.chance(0.3):
            edit.add_output(self.graph, self.add("softmax", fc), "probabilities")
        verify(self.graph)
        return self.graph


def give_formats(graph: Graph, random: Random, kinds: tuple[str, ...], narrow: bool = True) -> None:
    """A random format for all that takes one, near what its numbers need."""
    plain = evaluate(graph, images(0), [value.name for value in computed_values(graph)])
    for value in computed_values(graph):
        kind = str(random.choice(kinds))
        found = float(np.abs(plain[value.name]).max()) * float(random.choice([0.5, 1.0, 2.0]))
        edit.set_type(value, value.tensor_type.with_format(_format(kind, random, found, None, narrow)))
    for value in weight_values(graph):
        assert value.tensor is not None
        data = np.abs(value.tensor.data)
        axis = 0 if random.random() < 0.4 else None
        most = data.max(tuple(range(1, data.ndim)) if axis == 0 else None)
        kind = str(random.choice([kind for kind in kinds if kind[0] != "U"]))
        edit.set_type(value, value.tensor_type.with_format(_format(kind, random, most, axis, narrow)))
    spread(graph)
    verify(graph)


def _format(kind: str, random: Random, most: Any, axis: int | None, narrow: bool) -> Format:
    width = int(random.integers(2, 7 if narrow else 16))
    if kind == "AFFINE":
        most = np.maximum(most, 0.1)
        return Affine.spanning(max(width, 4), -np.asarray(most), np.asarray(most), axis)
    if kind == "BIN":
        return Canonical(1, 0, 0).covering(most, axis)
    made = parse_format(
        f"{kind} {min(width, 4) if kind.endswith('EXP') else max(width, 6) if kind == 'FLOAT' else width}"
    )
    assert isinstance(made, Canonical)
    return made.covering(most, axis)


def images(seed: int, count: int = BATCH) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {"image": (random.integers(-32, 33, (count, 2, 7, 7)) / 16).astype(np.float32)}


EXACT = ("FIXED", "FIXED", "UFIXED", "EXP", "UEXP", "BIN")
SEEDS = range(100)


def network(seed: int, kinds: tuple[str, ...] = EXACT, **options: bool) -> Graph:
    drawing = Drawing(seed)
    graph = drawing.network(**options)
    give_formats(graph, drawing.random, kinds)
    return graph


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


# against ir.evaluate


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


# ops in the middle, odd graphs


def assert_runs_as_evaluated(text: str, inputs: Mapping[str, Array], tolerance: float = 0) -> dict[str, Array]:
    graph = parse(text)
    verify(graph)
    wanted = evaluate(graph, inputs)
    for bake_from in (1, 10**9):
        found = Simulation(graph, 1, bake_from=bake_from).run(inputs)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert found[name].shape == array.shape
            assert np.abs(found[name] - array).max(initial=0) <= tolerance, f"{name}:\n{found[name]}\n{array}"
    return found


def test_ops_outside_the_hardware_set_in_the_middle() -> None:
    """With operands that are integers, none, and computed; several results, some with formats; named as the output."""
    assert_runs_as_evaluated(
        """graph @g {
          opset ai.onnx=17
          input %x as "image" : FIXED<8,B=-2>[N,2,7,7]
          weight %w = 00000001 : FIXED<4>[4,2,3,3]
          weight %v = 00000002 : FIXED<4>[2,2,1,1]
          weight %starts = [1] : i64[1]
          weight %ends = [5] : i64[1]
          weight %axes = [2] : i64[1]
          weight %halves = [2,2] : i64[2]
          weight %indices = [1,0,0] : i64[3]
          weight %low = [-0.5] : f32[]
          %c = conv2d(%x, %w) {kernel=[3,3]} : FIXED<7,B=-3>[N,4,5,5]
          %s = onnx.Slice(%c, %starts, %ends, %axes) : FIXED<6,B=-3>[N,4,4,5]
          %a, %b = onnx.Split(%s, %halves) {axis=1} : FIXED<5,B=-3>[N,2,4,5], f32[N,2,4,5]
          %clipped = onnx.Clip(%b, %low) : FIXED<8,B=-2>[N,2,4,5]
          %d = conv2d(%a, %v) {kernel=[1,1]} : FIXED<8,B=-2>[N,2,4,5]
          %sum = add(%d, %clipped) : FIXED<8,B=-3>[N,2,4,5]
          %picked = onnx.Gather(%sum, %indices) {axis=1} : FIXED<8,B=-3>[N,3,4,5]
          %y = onnx.Neg(%picked) : FIXED<7,B=-3>[N,3,4,5]
          output %y
          output %a
        }""",
        images(0),
    )


def test_weights_where_activations_are_expected() -> None:
    """relu and dense of a weight, a computed bias, weights that a caller may replace: as before any pass."""
    text = """graph @g {
      input %x : FIXED<6,B=-2>[N,2]
      input %w.given = [1.0,0.5,0.25,-1.0] : FIXED<6,B=-2>[2,2]
      weight %w = [1.0,2.0,-1.0,0.5] : FIXED<6,B=-2>[2,2]
      weight %k = [0.5,-0.75] : f32[2]
      %positive = relu(%w) : FIXED<6,B=-2>[2,2]
      %b = clip(%k) {min=-0.25} : f32[2]
      %fc = dense(%x, %positive) : FIXED<6,B=-3>[N,2]
      %fc2 = dense(%fc, %w, %b) : FIXED<8,B=-3>[N,2]
      %fc3 = dense(%w, %w) : FIXED<8,B=-3>[2,2]
      %fc4 = dense(%x, %w.given) {act=clip, act_max=1.0} : FIXED<8,B=-3>[N,2]
      output %fc2
      output %fc3
      output %fc4
    }"""
    x = np.array([[1.25, -0.5], [3.0, 2.0], [0.125, -4.0]], np.float32)
    found = assert_runs_as_evaluated(text, {"x": x})
    other = assert_runs_as_evaluated(text, {"x": x, "w.given": np.array([[0.5, 0.5], [2, 1]], np.float32)})
    assert not np.array_equal(found["fc4"], other["fc4"])
    assert np.array_equal(found["fc2"], other["fc2"])


def test_outputs_that_are_inputs_or_weights() -> None:
    text = """graph @g {
      input %x as "image" : FIXED<4>[2]
      weight %w = [0.3,0.7] : FIXED<4>[2]
      output %x as "y"
      output %w
    }"""
    found = assert_runs_as_evaluated(text, {"image": np.array([0.3, 9], np.float32)})
    assert {name: array.tolist() for name, array in found.items()} == {"y": [0.25, 1.75], "w": [0.25, 0.75]}


def test_an_output_with_the_name_of_its_node() -> None:
    """onnxruntime takes a node's name once."""
    text = """graph @g {
      opset ai.onnx=17
      input %x : f32[N,2]
      %y = onnx.Sigmoid(%x) : f32[N,2]
      %z = onnx.Abs(%y) : f32[N,2]
      output %y
      output %z as "x.1"
    }"""
    assert_runs_as_evaluated(text, {"x": np.array([[1, -1]], np.float32)}, 1e-6)


def test_subgraphs_see_real_numbers() -> None:
    graph = parse("""graph @g {
      opset ai.onnx=17
      input %x : FIXED<6,B=-2>[2]
      input %c : bool[]
      weight %w = [2.0,4.0] : f32[2]
      %r = relu(%x) : FIXED<6,B=-2>[2]
      %y = onnx.If(%c) {else_branch=graph @e { %p = onnx.Neg(%r) : f32[2]
          output %p
        }, then_branch=graph @t { %m = onnx.Mul(%r, %w) : f32[2]
          output %m
        }} : FIXED<4,B=-3>[2]
      output %y
    }""")
    x = np.array([0.8, -1], np.float32)
    run = Simulation(graph, 1).run
    assert run({"x": x, "c": np.array(True)})["y"].tolist() == [2, 0]
    assert run({"x": x, "c": np.array(False)})["y"].tolist() == [0, 0]


def test_a_sum_for_old_operator_sets() -> None:
    """The quantisers need operator set 13, hardswish 14."""
    text = """graph @g {
      opset ai.onnx=7
      input %x : FIXED<6,B=-2>[N,3]
      weight %w = 00000001 : FIXED<4>[2,3]
      %y = dense(%x, %w) {act=relu} : EXP<4>[N,2]
      output %y
    }"""
    assert_runs_as_evaluated(text, {"x": np.array([[1, -1, 2], [0.3, 3, -2]], np.float32)})


# one session, many formats


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every session that is built."""
    sizes: list[int] = []

    def counted(model: bytes | str, threads: int = 0) -> Any:
        sizes.append(len(model))
        return session_of(model, threads)

    monkeypatch.setattr(run_module, "session_of", counted)
    return sizes


def with_formats(graph: Graph, formats: Mapping[str, str]) -> Graph:
    graph = edit.copy(graph)
    for name, text in formats.items():
        edit.set_type(graph.values[name], graph.values[name].tensor_type.with_format(parse_format(text)))
    spread(graph)
    verify(graph)
    return graph


SMALL = """graph @small {
  opset ai.onnx=17
  input %x as "image" : FIXED<8,B=-2>[N,2,7,7]
  weight %w = 00000001 : FIXED<4>[3,2,3,3]
  weight %b = [0.5,-0.25,1.0] : f32[3]
  weight %k = [1.0,0.5,0.25] : FIXED<4>[3,1,1]
  weight %v = 00000002 : FIXED<4>[4,12]
  %conv = conv2d(%x, %w, %b) {act=clip, act_max=2.3, act_min=-1.1, kernel=[3,3], pool=[2,2]} : FIXED<7,B=-2>[N,3,2,2]
  %scaled = mul(%conv, %k) : FIXED<8,B=-2>[N,3,2,2]
  %flat = flatten(%scaled) : FIXED<8,B=-2>[N,12]
  %fc = dense(%flat, %v) : FIXED<9,B=-3>[N,4]
  output %fc as "scores"
}"""


@pytest.mark.parametrize(
    "formats",
    [
        {"x": "FIXED 5 -1", "w": "FIXED 3", "conv": "FIXED 4", "scaled": "FIXED 4 1", "v": "FIXED 2", "fc": "FIXED 5"},
        {"x": "UFIXED 5", "conv": "UFIXED 7 -1"},
        {"w": "FIXED<5,B={-1,0,3}@0>", "v": "EXP<4,B={3,4,5,6}@0>"},
        {"w": "EXP 3", "v": "BIN 1 2"},
        {"w": "FLOAT 16", "v": "AFFINE<8,scale=0.01,zero=100>"},
        {"w": "AFFINE<8,scale={0.1,0.2,0.3}@0,zero=5>"},
    ],
)
def test_other_numbers_build_no_session(formats: dict[str, str], built: list[int]) -> None:
    base = parse(SMALL)
    other = with_formats(base, formats)
    simulation = Simulation(base, 1)
    before = simulation.run(images(0))["scores"]
    assert len(built) == 1
    assert all(simulation.exact.values())
    simulation.use(other)
    found = simulation.run(images(0))["scores"]
    assert len(built) == 1
    fresh = Simulation(other, 1)
    assert np.array_equal(found, fresh.run(images(0))["scores"])
    assert not np.array_equal(found, before)
    assert simulation.exact == fresh.exact
    if all(fresh.exact.values()):
        assert np.array_equal(found, evaluate(other, images(0))["scores"])
    simulation.use(base)
    assert np.array_equal(simulation.run(images(0))["scores"], before)


def test_another_kind_of_activation_builds_one_session_once(built: list[int]) -> None:
    base = parse(SMALL)
    simulation = Simulation(base, 1)
    for name, kinds in {"conv": ["EXP 4", "BIN", "FLOAT 9", "AFFINE<8,scale=0.1>"], "x": ["EXP 5"]}.items():
        for kind in kinds:
            other = with_formats(base, {name: kind})
            for graph in (base, other, base, other):
                simulation.use(graph)
                simulation.run(images(0))
    assert len(built) == 5  # EXP and FLOAT have one quantiser


def test_a_move_that_begins_to_round_builds_a_session(built: list[int]) -> None:
    base = parse(SMALL)
    other = parse(SMALL.replace("%flat = flatten(%scaled) : FIXED<8,B=-2>", "%flat = flatten(%scaled) : FIXED<4,B=-2>"))
    simulation = Simulation(base, 1)
    simulation.run(images(0))
    simulation.use(other)
    assert np.array_equal(simulation.run(images(0))["scores"], Simulation(other, 1).run(images(0))["scores"])


def test_weights_of_unchanged_formats_stay_quantised_and_new_data_do_not() -> None:
    base = parse(SMALL)
    simulation = Simulation(base, 1)
    simulation.run(images(0))
    changed = edit.copy(base)
    tensor = changed.values["w"].tensor
    assert tensor is not None
    edit.set_tensor(changed.values["w"], Tensor(-tensor.data))
    kept = dict(simulation.parameters.quantized)
    simulation.use(changed)
    found = simulation.run(images(0))["scores"]
    assert np.array_equal(found, Simulation(changed, 1).run(images(0))["scores"])
    assert all(simulation.parameters.quantized[key] is array for key, array in kept.items())
    assert len(simulation.parameters.quantized) == len(kept) + 1


@pytest.mark.parametrize("start", range(0, 40, 10))
def test_the_baked_path_and_the_one_of_parameters_agree(start: int, built: list[int]) -> None:
    for seed in range(start, start + 10):
        graph = network(seed)
        simulation = Simulation(graph, 1, bake_from=4)
        if all(simulation.exact.values()):
            few, many = images(seed), images(seed, 4)
            many["image"][:3] = few["image"]
            given, baked = simulation.run(few), simulation.run(many)
            for name, array in given.items():
                if graph.outputs[0].name == name:
                    assert np.array_equal(array, baked[name][:3]), f"seed {seed}\n{graph}"
    assert len(built) >= 4


def test_a_baked_session_is_of_the_present_formats(built: list[int]) -> None:
    base = parse(SMALL)
    simulation = Simulation(base, 1, bake_from=1)
    first = simulation.run(images(0))["scores"]
    simulation.run(images(1))
    assert len(built) == 1
    simulation.use(with_formats(base, {"conv": "FIXED 3"}))
    second = simulation.run(images(0))["scores"]
    assert len(built) == 2
    assert not np.array_equal(first, second)
    assert np.array_equal(second, Simulation(simulation.graph, 1).run(images(0))["scores"])


# cut


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_a_cut_network_gives_what_the_whole_gives(start: int) -> None:
    for seed in range(start, start + 10):
        graph = network(seed)
        simulation = Simulation(graph, 1)
        whole = simulation.run(images(seed))
        for position in range(1, len(graph.nodes)):
            after = graph.nodes[position:]
            shown = {id(output.value) for output in graph.outputs}
            made = [*graph.inputs, *(node.result for node in graph.nodes[:position])]
            border = [v.name for v in made if id(v) in shown or any(node in after for node, _ in v.uses)]
            inner = simulation.run(images(seed), wanted=border)
            found = simulation.run(inner, given=border, wanted=[output.value.name for output in graph.outputs])
            for output in graph.outputs:
                assert np.array_equal(found[output.value.name], whole[output.name]), f"seed {seed}, {border}\n{graph}"


def test_given_numbers_are_brought_to_their_format() -> None:
    simulation = Simulation(parse(SMALL), 1)
    x = images(0)["image"] + np.float32(0.001)
    assert np.array_equal(simulation.run({"x": x}, given=["x"])["scores"], simulation.run({"image": x})["scores"])


def test_inputs_and_the_same_value_twice_may_be_wanted() -> None:
    simulation = Simulation(parse(SMALL.replace('as "image" ', "")), 1)
    found = simulation.run({"x": images(0)["image"]}, wanted=["x", "fc", "x"])
    assert list(found) == ["x", "fc"]
    assert np.array_equal(found["x"], evaluate(simulation.graph, {"x": images(0)["image"]}, ["x"])["x"])


# any number of samples


def test_any_number_of_samples_in_pieces() -> None:
    graph = parse(SMALL)
    x = images(0, 23)["image"]
    whole = Simulation(graph, 1).run({"image": x})["scores"]
    for batch, bake_from in ((1, 10**9), (7, 10**9), (23, 10**9), (5, 1), (100, 1)):
        found = Simulation(graph, 1, batch, bake_from).run({"image": x})["scores"]
        assert np.array_equal(found, whole), (batch, bake_from)


def test_no_samples_give_no_scores() -> None:
    assert Simulation(parse(SMALL), 1).run(images(0, 0))["scores"].shape == (0, 4)


def test_inputs_that_are_no_batch_go_whole() -> None:
    text = """graph @g {
      input %x : FIXED<6,B=-2>[N,3]
      input %scale : f32[]
      input %shift : f32[3]
      %m = mul(%x, %scale) : f32[N,3]
      %y = add(%m, %shift) : FIXED<8,B=-3>[N,3]
      %n = mul(%scale, %scale) : f32[]
      output %y
      output %n
    }"""
    x = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
    inputs = {"x": x, "scale": np.array(0.5, np.float32), "shift": np.array([1, 2, 3], np.float32)}
    found = Simulation(parse(text), 1, batch=2).run(inputs)
    wanted = evaluate(parse(text), inputs)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


STATIC = """graph @static {
  opset ai.onnx=17
  input %x as "image" : f32[1,2,7,7]
  weight %w = 00000001 : f32[4,2,3,3]
  weight %v = 00000002 : f32[5,100]
  %conv = conv2d(%x, %w) {kernel=[3,3]} : f32[1,4,5,5]
  %flat = reshape(%conv) {shape=[1,100]} : f32[1,100]
  %fc = dense(%flat, %v) : f32[1,5]
  output %fc as "scores"
}"""


def test_a_network_exported_for_one_sample_takes_many_after_normalise() -> None:
    x = images(0, 6)
    graph = run_passes(parse(STATIC), f"{STRUCTURE},annotate-formats{{input_max=2}}")
    single = [Simulation(graph, 1).run({"image": x["image"][i : i + 1]})["scores"] for i in range(6)]
    for simulation in (Simulation(graph, 1), Simulation(graph, 1, bake_from=1), Simulation(graph, 1, batch=4)):
        assert np.array_equal(simulation.run(x)["scores"], np.concatenate(single))
    assert np.array_equal(evaluate(graph, x)["scores"], np.concatenate(single))


def test_a_network_for_one_sample_says_so_before_normalise() -> None:
    with pytest.raises(CompileError) as error:
        Simulation(parse(STATIC), 1).run(images(0, 6))
    assert error.value.message.startswith("onnxruntime does not run @static on these inputs: ")
    assert error.value.help == "a network that was exported for one sample takes more after the pass normalise"


def test_numbers_of_other_types_become_float32() -> None:
    graph = parse(SMALL)
    pixels = np.random.default_rng(0).integers(0, 4, (2, 2, 7, 7))
    wanted = Simulation(graph, 1).run({"image": pixels.astype(np.float32)})["scores"]
    for dtype in (np.float64, np.uint8, np.int64):
        assert np.array_equal(Simulation(graph, 1).run({"image": pixels.astype(dtype)})["scores"], wanted)


TAKES = "the model takes FIXED<8,B=-2>[N,2,7,7]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": {"a": np.ones(1), "b": np.ones(1)}}, 'input "image" is missing; given: a, b'),
        ({"inputs": {"image": np.ones((1, 7, 7))}}, f'input "image" has shape [1, 7, 7], {TAKES}'),
        ({"inputs": {}, "wanted": ["conv9"]}, 'input "image" is missing; given: nothing'),
        ({"inputs": images(0), "wanted": ["conv9"]}, "@small has no value %conv9"),
        ({"inputs": {"conv9": 1}, "given": ["conv9"]}, "@small has no value %conv9"),
        ({"inputs": {"x": 1}, "given": ["conv"]}, "%conv is given no numbers; given: x"),
        ({"inputs": {"x": np.ones((1, 4))}, "given": ["x"]}, f'input "x" has shape [1, 4], {TAKES}'),
        ({"inputs": {"flat": np.ones((1, 12))}, "given": ["flat"], "wanted": ["conv"]}, "%x is needed and not given"),
    ],
)
def test_inputs_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError) as error:
        Simulation(parse(SMALL), 1).run(**arguments)
    assert error.value.message == message


def test_an_activation_with_a_format_a_channel_is_refused() -> None:
    graph = parse("graph @g { input %x : FIXED<8,B={0,1}@1>[N,2]\n output %x }")
    with pytest.raises(CompileError, match=r"^%x: an activation has one format, not one a channel$"):
        Simulation(graph, 1)


def test_what_onnxruntime_does_not_take_is_said() -> None:
    graph = parse("graph @g { opset ai.onnx=17\n input %x : f32[N,2]\n %y = onnx.Nonsense(%x) : f32[N,2]\n output %y }")
    with pytest.raises(CompileError, match=r"^onnxruntime does not run this network: "):
        Simulation(graph, 1).run({"x": np.ones((1, 2), np.float32)})


# score


def scores_of(x: Array) -> Graph:
    """A network that gives its input."""
    return parse(
        f"graph @same {{ input %x : f32[N,{x.shape[1]}]\n %y = quantize(%x) : f32[N,{x.shape[1]}]\n output %y }}"
    )


@pytest.mark.parametrize(("metric", "k"), [("top1", 1), ("top5", 5)])
def test_scores_are_those_of_a_stable_sort(metric: str, k: int) -> None:
    """Of equal scores, the lower class is taken first, as argmax does."""
    random = np.random.default_rng(0)
    x = random.integers(0, 4, (500, 8)).astype(np.float32)
    y = random.integers(0, 8, 500)
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    found = score(scores_of(x), x, y, metric=metric)
    assert found == Score(
        metric, float(np.mean([label in row for label, row in zip(y, order, strict=True)])), 500, True
    )
    assert 0.1 < found.value < 0.9
    if k == 1:
        assert found.value == np.mean(x.argmax(1) == y)


def test_scores_that_are_no_numbers_are_wrong() -> None:
    x = np.array([[np.nan, np.nan], [1, np.nan], [0, 1]], np.float32)
    assert score(scores_of(x), x, np.array([0, 0, 1])).value == 1 / 3


def test_agreement_is_with_the_other_networks_choice() -> None:
    graph = parse(SMALL)
    coarse = with_formats(graph, {"w": "FIXED 2", "v": "BIN 1 2"})
    x = images(0, 200)["image"]
    ours, theirs = (Simulation(g, 1).run({"image": x})["scores"].argmax(1) for g in (coarse, graph))
    found = score(coarse, x, None, metric="agreement", reference=graph)
    assert found == Score("agreement", float((ours == theirs).mean()), 200, True)
    assert 0.1 < found.value < 0.9
    assert score(graph, x, None, metric="agreement", reference=graph).value == 1


def test_a_metric_may_be_a_function() -> None:
    def worst(scores: Array, labels: Array) -> float:
        return float(scores[np.arange(len(labels)), labels].min())

    x = np.array([[1, 2], [3, 4]], np.float32)
    assert score(scores_of(x), x, np.array([1, 0]), metric=worst) == Score("worst", 2.0, 2, True)


def test_formats_for_the_score_leave_the_graph_alone() -> None:
    graph = parse(SMALL)
    before = str(graph)
    x = images(0, 50)["image"]
    formats = {"conv.weight": parse_format("FIXED 2"), "fc.input": parse_format("BIN")}
    found = score(graph, x, np.zeros(50, np.int64), formats)
    assert str(graph) == before
    other = with_formats(graph, {"w": "FIXED 2", "scaled": "BIN"})
    assert found.value == np.mean(Simulation(other, 1).run({"image": x})["scores"].argmax(1) == 0)


@pytest.mark.parametrize(
    ("arguments", "message", "help"),
    [
        ({"metric": "top3"}, "there is no metric 'top3'", "the metrics are agreement, top1, top5"),
        ({"y": None}, "top1 needs labels, and the data have none", "--metric agreement needs none"),
        ({"metric": "agreement"}, "agreement compares with another graph, and none is given", None),
        ({"y": np.array([0, 4])}, "labels run from 0 to 4, the network has 4 classes", None),
        ({"y": np.array([-1, 0])}, "labels run from -1 to 0, the network has 4 classes", None),
        ({"y": np.array([0])}, "2 samples and 1 labels make no score", None),
        ({"x": np.zeros((0, 2, 7, 7)), "y": np.zeros(0, np.int64)}, "0 samples and 0 labels make no score", None),
    ],
)
def test_scores_that_cannot_be(arguments: dict[str, Any], message: str, help: str | None) -> None:
    given = {"x": images(0, 2)["image"], "y": np.array([0, 1]), **arguments}
    with pytest.raises(CompileError) as error:
        score(parse(SMALL), given.pop("x"), given.pop("y"), **given)
    assert (error.value.message, error.value.help) == (message, help)


def test_a_network_of_two_inputs_has_no_score() -> None:
    graph = parse("graph @two { input %x : f32[N,2]\n input %z : f32[N,2]\n %y = add(%x, %z) : f32[N,2]\n output %y }")
    with pytest.raises(CompileError, match=r"^@two has 2 inputs; a score takes networks of one$"):
        score(graph, np.ones((1, 2), np.float32), np.array([0]))


def test_simulate_takes_an_array_for_a_lone_input() -> None:
    graph, x = parse(SMALL), images(0)
    assert np.array_equal(simulate(graph, x["image"], 1)["scores"], Simulation(graph, 1).run(x)["scores"])
    assert np.array_equal(simulate(graph, x, 1)["scores"], Simulation(graph, 1).run(x)["scores"])


# LeNet-5


def test_lenet_in_fixed_8_reads_digits_as_well_as_in_float() -> None:
    train, test = datasets.load("mnist", "train", limit=500), datasets.load("mnist", "test")
    assert test.y is not None
    plain = run_passes(load(LENET), STRUCTURE)
    context = Context({"image": train.x})
    narrow = run_passes(plain, "annotate-formats,derive-accumulators", context)
    before, after = score(plain, test.x, test.y), score(narrow, test.x, test.y)
    assert (before.samples, after.samples) == (10_000, 10_000)
    assert before.value >= 0.989
    assert after.value >= before.value - 0.003
    assert after.exact
    few = {"image": test.x[:100]}
    assert np.array_equal(Simulation(narrow, 1).run(few)["logits"], evaluate(narrow, few)["logits"])
