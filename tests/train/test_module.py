"""A graph in torch against the judge (exact integers in numpy) and onnxruntime, bit for bit where float32 is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import bitwright
from bitwright.backends.simulation.run import Simulation
from bitwright.ir import edit
from bitwright.ir.accumulate import accumulator
from bitwright.ir.assign import computed_values, layers, spread, weight_values
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical, best_bias, parse
from bitwright.ir.graph import Attribute, Graph, Value
from bitwright.ir.ops import result_shape
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Type
from bitwright.ir.verify import verify
from bitwright.models.datasets import load as load_data
from bitwright.passes import STRUCTURE, run_passes

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'bitwright[train]'")

from bitwright.train.module import Network, learned_graph  # noqa: E402
from bitwright.train.rounding import Quantizer  # noqa: E402

LENET = Path(__file__).parents[2] / "models" / "lenet5.onnx"
Rng = np.random.Generator


def scores(graph: Graph, x: Array, double: bool = False) -> Array:
    """What torch gives, in float32 or in float64."""
    network = Network(graph)
    with torch.no_grad():
        return (network.double() if double else network)(torch.from_numpy(x)).numpy()


def give_formats(graph: Graph, rng: Rng, weights: Sequence[str], inputs: Sequence[str], frames: Array) -> None:
    """Random formats that cover the numbers; every second weight has a bias a channel."""
    float_values = evaluate(graph, {"": frames}, [value.name for value in computed_values(graph)])
    for value in weight_values(graph):
        format, data = parse(str(rng.choice(weights))), value.tensor.data
        assert isinstance(format, Canonical)
        if rng.random() < 0.5:
            format = format.covering(np.abs(data).reshape(len(data), -1).max(1), 0)
        else:
            format = format.covering(float(np.abs(data).max()))
        edit.set_type(value, value.tensor_type.with_format(format))
    for value in computed_values(graph):
        numbers = float_values[value.name]
        format = parse(str(rng.choice(inputs)))
        assert isinstance(format, Canonical)
        if format.n_s == 0 and numbers.min() < 0:
            format = Canonical(1, format.n_e, format.n_f)
        edit.set_type(value, value.tensor_type.with_format(format.covering(0.8 * float(np.abs(numbers).max()))))
    spread(graph)


# LeNet-5


@pytest.mark.parametrize(
    ("weights", "inputs"), [("FIXED 4", "FIXED 4"), ("EXP 4", "UFIXED 3"), ("BIN", "UFIXED 2"), ("FIXED 3", "BIN")]
)
def test_lenet5_is_the_same_in_numpy_onnxruntime_and_torch(weights: str, inputs: str) -> None:
    graph = run_passes(bitwright.load(LENET), STRUCTURE)
    x = load_data("mnist", "test", 60).x
    give_formats(graph, np.random.default_rng(0), [weights], [inputs], x)
    simulation = Simulation(graph, threads=1)
    assert all(simulation.exact.values())
    (simulated,), (judged,) = simulation.run({"image": x}).values(), evaluate(graph, {"image": x}).values()
    assert len(np.unique(judged)) > 1
    np.testing.assert_array_equal(scores(graph, x), judged)
    np.testing.assert_array_equal(scores(graph, x, double=True), judged)
    np.testing.assert_array_equal(simulated, judged)


def test_wide_formats_are_exact_in_float64() -> None:
    graph = run_passes(bitwright.load(LENET), STRUCTURE)
    x = load_data("mnist", "test", 20).x
    give_formats(graph, np.random.default_rng(0), ["FIXED 16"], ["FIXED 16"], x)
    assert not all(Simulation(graph, threads=1).exact.values())
    (judged,) = evaluate(graph, {"image": x}).values()
    np.testing.assert_array_equal(scores(graph, x, double=True), judged)
    np.testing.assert_allclose(scores(graph, x), judged, atol=1e-2)


# Random small networks


class Builder:
    """A network of random layers in float32, of 2 to 6 channels."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.graph = Graph("drawn", {"": 17})
        self.frames = rng.uniform(-1, 1, (3, pick(rng, 1, 2, 3), 9, pick(rng, 8, 9))).astype(np.float32)
        self.input = edit.add_input(self.graph, "x", Type(F32, ("N", *self.frames.shape[1:])))

    def add(self, op: str, operands: Sequence[Value], **attributes: Attribute) -> Value:
        name = f"{op}{len(self.graph.nodes)}"
        node = edit.add_node(self.graph, op, operands, {name: Type(F32)}, attributes)
        edit.set_type(node.result, Type(F32, result_shape(node)))
        return node.result

    def weight(self, shape: Sequence[int], scale: float) -> Value:
        data = self.rng.normal(0, scale, shape).astype(np.float32)
        return edit.add_weight(self.graph, edit.unique_name(self.graph, "w"), Tensor(data))

    def sum(self, op: str, x: Value, shape: Sequence[int], **attributes: Attribute) -> Value:
        weights = [self.weight(shape, 1 / np.sqrt(np.prod(shape[1:])))]
        if self.rng.random() < 0.7:
            weights.append(self.weight(shape[:1], 0.3))
        act = str(self.rng.choice(["none", "relu", "clip"]))
        if act == "clip":
            attributes |= {"act_min": -0.3, "act_max": 0.77}
        return self.add(op, [x, *weights], act=act, **attributes)

    def conv(self, x: Value, same: bool = False, outputs: int | None = None) -> Value:
        rng, channels = self.rng, x.tensor_type.shape[1]
        groups = channels if rng.random() < 0.3 else 1
        outputs = outputs or (groups * pick(rng, 1, 2) if groups > 1 else pick(rng, 2, 4))
        groups = groups if outputs % groups == 0 else 1
        shape = (outputs, channels // groups, 3, 3)
        if same:
            return self.sum("conv2d", x, shape, kernel=(3, 3), pads=(1, 1, 1, 1), groups=groups)
        pads = tuple(int(p) for p in rng.integers(0, 3, 4))
        strides, dilations = (pick(rng, 1, 2), pick(rng, 1, 2)), (pick(rng, 1, 2), 1)
        more = {"pool": (2, 2)} if rng.random() < 0.3 else {}
        return self.sum(
            "conv2d", x, shape, kernel=(3, 3), pads=pads, strides=strides, dilations=dilations, groups=groups, **more
        )

    def block(self, x: Value) -> Value:
        kind = pick(self.rng, 0, 1, 2, 3, 4, 5, 6, 7)
        channels, rows, cols = x.tensor_type.shape[1:]
        if kind == 0:
            return self.add("add", [x, self.conv(x, True, channels)])
        if kind == 1:
            return self.add("concat", [self.conv(x, True), x, self.conv(x, True)], axis=1)
        if kind == 2:
            return self.add("mul", [x, self.add("clip", [self.conv(x, True, channels)], min=-0.3, max=0.6)])
        if kind == 3 and min(rows, cols) > 3:
            window = {"kernel": (2, 3), "strides": (2, 2), "pads": (1, 1, 0, 1), "ceil": pick(self.rng, 0, 1)}
            return self.add("maxpool2d", [self.add("relu", [x])], **window)
        if kind == 4 and min(rows, cols) > 3:
            window = {"kernel": (2, 2), "strides": (2, 1), "pads": (0, 1, 1, 0), "ceil": pick(self.rng, 0, 1)}
            return self.add("avgpool2d", [x], count_pads=pick(self.rng, 0, 1), **window)
        if kind == 5:
            return self.add("pad", [x], pads=(0, 0, 1, 0, 0, 0, 0, 2), value=0.4)
        return self.conv(x) if min(rows, cols) > 5 else self.conv(x, True)

    def network(self) -> Graph:
        value = self.conv(self.input, True)
        for _ in range(pick(self.rng, 1, 2, 3)):
            value = self.block(value)
        if self.rng.random() < 0.5:
            value = self.add("globalavgpool", [value])
        value = self.add("flatten", [value])
        value = self.sum("dense", value, (4, value.tensor_type.shape[1]))
        edit.add_output(self.graph, value, "y")
        return self.graph


def pick(rng: Rng, *choices: int) -> int:
    return int(rng.choice(choices))


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_are_the_same_in_numpy_onnxruntime_and_torch(seed: int) -> None:
    made = Builder(np.random.default_rng(seed))
    graph, x = made.network(), made.frames
    np.testing.assert_allclose(scores(graph, x), evaluate(graph, {"x": x})["y"], atol=1e-5)
    weights, inputs = ["FIXED 3", "FIXED 4", "BIN", "EXP 3", "FIXED 2"], ["FIXED 4", "UFIXED 3", "UFIXED 4", "FIXED 5"]
    give_formats(graph, made.rng, weights, inputs, x)
    judged = evaluate(graph, {"x": x})["y"]
    np.testing.assert_array_equal(scores(graph, x, double=True), judged)
    simulation = Simulation(graph, threads=1)
    if all(simulation.exact.values()):
        np.testing.assert_array_equal(simulation.run({"x": x})["y"], judged)
        np.testing.assert_array_equal(scores(graph, x), judged)


def test_most_random_networks_are_exact_in_float32() -> None:
    exact, ops = 0, set()
    for seed in range(40):
        made = Builder(np.random.default_rng(seed))
        graph = made.network()
        ops |= {node.op for node in graph.nodes}
        give_formats(graph, made.rng, ["FIXED 3", "BIN"], ["FIXED 4"], made.frames)
        exact += all(Simulation(graph, threads=1).exact.values())
    assert exact > 10
    assert ops >= {"add", "avgpool2d", "clip", "concat", "conv2d", "dense", "globalavgpool", "maxpool2d", "mul", "pad"}


FLOAT = """\
graph @float {
  input %x : f32[N,2,6,6]
  weight %w1 = 00000001 : f32[4,2,3,3]
  %c1 = conv2d(%x, %w1) {act=hardswish, kernel=[3,3]} : f32[N,4,4,4]
  weight %scale = 00000002 : f32[4]
  weight %shift = 00000003 : f32[4]
  weight %mean = 00000004 : f32[4]
  weight %var = [0.5,1.0,2.0,3.0] : f32[4]
  %bn = batchnorm(%c1, %scale, %shift, %mean, %var) {epsilon=0.01} : f32[N,4,4,4]
  %hs = hardsigmoid(%bn) : f32[N,4,4,4]
  %hw = hardswish(%hs) : f32[N,4,4,4]
  %t = transpose(%hw) {perm=[0,2,3,1]} : f32[N,4,4,4]
  %r = reshape(%t) {shape=[0,-1]} : f32[N,64]
  weight %w2 = 00000005 : f32[5,64]
  %d1 = dense(%r, %w2) {act=hardsigmoid} : f32[N,5]
  %soft = softmax(%d1) : f32[N,5]
  output %soft
}
"""


def test_float_ops_are_those_of_onnxruntime_to_a_tolerance() -> None:
    graph = bitwright.parse(FLOAT)
    x = np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype(np.float32)
    (expected,) = Simulation(graph, threads=1).run({"x": x}, wanted=["d1"]).values()
    found = scores(graph, x)  # what softmax reads
    np.testing.assert_allclose(found, expected, atol=1e-6)
    (shares,) = evaluate(graph, {"x": x}).values()
    np.testing.assert_allclose(torch.softmax(torch.from_numpy(found), 1).numpy(), shares, atol=1e-6)


X = "f32[2,5,3,4]"
OPS = {
    "onnx.Div": (X, ["00000001 : f32[5,1,1]"], ""),
    "onnx.LRN": (X, [], "{alpha=0.3, beta=0.6, bias=1.5, size=3}"),
    "onnx.LeakyRelu": (X, [], "{alpha=0.2}"),
    "onnx.ReduceMean": (X, [], "{axes=[2,3], keepdims=0}"),
    "onnx.Sigmoid": (X, [], ""),
    "onnx.Split": (X, ["[3,2] : i64[2]"], "{axis=1}"),
    "onnx.Squeeze": ("f32[2,5,1,1]", ["[2,3] : i64[2]"], ""),
    "onnx.Sub": (X, ["00000002 : f32[5,1,1]"], ""),
    "onnx.Sum": (X, ["00000003 : f32[5,3,4]", "00000004 : f32[4]"], ""),
    "onnx.Tanh": (X, [], ""),
    "onnx.Unsqueeze": ("f32[2,5]", ["[1,3] : i64[2]"], ""),
}


@pytest.mark.parametrize("op", OPS)
def test_plain_onnx_ops_are_those_of_onnxruntime(op: str) -> None:
    type, weights, attributes = OPS[op]
    operands = ", ".join(["%x", *(f"%w{i}" for i in range(len(weights)))])
    results, types = ("%a, %y", "f32[*], f32[*]") if op == "onnx.Split" else ("%y", "f32[*]")
    lines = [f"input %x : {type}", *(f"weight %w{i} = {weight}" for i, weight in enumerate(weights))]
    lines.append("weight %one = [1.0] : f32[1]")  # behind it: a sigmoid at the end is what decides, not the scores
    text = "\n  ".join(
        ["graph @g {", "opset ai.onnx=17", *lines, f"{results} = {op}({operands}) {attributes} : {types}"]
    )
    graph = bitwright.parse(text + "\n  %z = onnx.Sub(%y, %one) : f32[*]\n  output %z\n}\n")
    x = np.random.default_rng(0).standard_normal([int(dim) for dim in type[4:-1].split(",")]).astype(np.float32)
    expected = Simulation(graph, threads=1).run({"x": x})["z"]
    np.testing.assert_allclose(scores(graph, x), expected, rtol=1e-5, atol=1e-6)
    assert (expected != -1).any()


# What is learned


def test_gradients_of_a_layer_are_those_derived_by_hand() -> None:
    """y = Q(relu(w x + b)), L = sum (y - 2)^2 / 2: dL/dy = dL/db = y - 2, and straight through dL/dw = (y - 2) x.

    x = (5, 2) / 8, on steps of 1/8; w on steps of 1/2; b = (2, 3, 5) / 16, on the accumulator's steps of 1/16;
    sums = (3, 17, -9) / 16; y = (1, 4, 0) / 4, on steps of 1/4; relu lets nothing through to the third.
    """
    graph = bitwright.parse("""\
graph @one {
  input %x : FIXED<4,B=1>[N,2]
  weight %w = [0.3,-0.8,0.9,0.9,-1.0,-1.0] : FIXED<3,B=0>[3,2]
  weight %b = [0.1,0.2,0.3] : f32[3]
  %y = dense(%x, %w, %b) {act=relu} : UFIXED<3,B=0>[N,3]
  output %y
}
""")
    network = Network(graph)
    y = network(torch.tensor([[0.6, 0.3]]))
    assert y.tolist() == [[0.25, 1.0, 0.0]]
    ((y - 2) ** 2 / 2).sum().backward()
    gradients = {
        value.name: latent.grad.tolist() for value, latent in zip(network.learned, network.latent, strict=True)
    }
    assert gradients["w"] == [[-1.75 * 0.625, -1.75 * 0.25], [-0.625, -0.25], [0.0, 0.0]]
    assert gradients["b"] == [-1.75, -1.0, 0.0]


def test_what_was_learned_goes_back_under_the_same_names(check: Callable[[Graph], None]) -> None:
    graph = run_passes(bitwright.load(LENET), STRUCTURE)
    x = load_data("mnist", "test", 40).x
    give_formats(graph, np.random.default_rng(1), ["FIXED 3", "EXP 3"], ["FIXED 4"], x)
    graph = run_passes(graph, "derive-accumulators")
    network = Network(graph)
    with torch.no_grad():
        for latent in network.latent:
            latent += 0.2 * latent.std() * torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    network.clamp()
    learned = learned_graph(network)
    check(learned)
    assert list(learned.values) == list(graph.values)
    assert [str(node) for node in learned.nodes] == [str(node) for node in graph.nodes]
    assert {value.name: value.type for value in learned.values.values()} == {
        value.name: value.type for value in graph.values.values()
    }
    with torch.no_grad():
        trained = network(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(evaluate(learned, {"image": x})["logits"], trained)
    assert (trained != evaluate(graph, {"image": x})["logits"]).any()
    for node in layers(learned):
        weight, bias, exact = node.operand(1), node.operand(2), accumulator(node)
        data = weight.tensor.data
        np.testing.assert_array_equal(weight.tensor_type.number.quantize(data), data)
        np.testing.assert_array_equal(np.ldexp(exact.bias, exact.exponents), bias.tensor.data)
        assert node.attributes["acc"] == exact.bits


# Biases of formats


@pytest.mark.parametrize("seed", range(30))
def test_formats_whose_biases_moved_are_the_same_in_numpy_and_torch(seed: int) -> None:
    """The graph that comes out has the formats that torch computes with, and is one that verifies."""
    made = Builder(np.random.default_rng(seed))
    graph, x = made.network(), made.frames
    weights, inputs = ["FIXED 3", "FIXED 4", "BIN", "EXP 3", "FIXED 2"], ["FIXED 4", "UFIXED 3", "FIXED 5"]
    give_formats(graph, made.rng, weights, inputs, x)
    network = Network(graph, learn_biases=True).double()
    with torch.no_grad():
        for bias in network.biases:
            bias += torch.from_numpy(made.rng.uniform(-2, 2, tuple(bias.shape)))
    network.clamp()
    learned = learned_graph(network)
    verify(learned)
    with torch.no_grad():
        trained = network(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(evaluate(learned, {"x": x})["y"], trained)
    moved = {v.name for v in graph.values.values() if v.type != learned.values[v.name].type}
    assert moved
    assert "x" not in moved
    for value in learned.values.values():
        before, after = graph.values[value.name].tensor_type.number, value.tensor_type.number
        assert before is after is None or (before.kind, before.width) == (after.kind, after.width)


def test_values_that_only_move_learn_one_bias() -> None:
    graph = bitwright.parse("""\
graph @moves {
  input %x : FIXED<4,B=1>[N,2,4,4]
  weight %w = 000000f1 : FIXED<3,B={0,1}@0>[2,2,1,1]
  weight %v = 000000f2 : FIXED<3,B=0>[3,16]
  %c = conv2d(%x, %w) {kernel=[1,1]} : FIXED<5,B=0>[N,2,4,4]
  %m = maxpool2d(%c) {kernel=[2,2], strides=[2,2]} : FIXED<5,B=0>[N,2,2,2]
  %j = concat(%m, %m) {axis=1} : FIXED<5,B=0>[N,4,2,2]
  %f = flatten(%j) : FIXED<5,B=0>[N,16]
  %y = dense(%f, %v) : FIXED<6,B=-2>[N,3]
  output %y
}
""")
    network = Network(graph, learn_biases=True)
    values = graph.values
    quantizers = {name: network.quantizers[id(value)] for name, value in values.items()}
    assert quantizers["c"] is quantizers["m"]
    assert quantizers["j"] is quantizers["f"] is not quantizers["c"]
    assert sorted(tuple(bias.shape) for bias in network.biases) == [(), (), (), (), (2,)]  # %c, %j, %v, %y, %w
    assert quantizers["x"].bias is None
    assert not Network(graph).biases


def test_a_bias_that_is_too_small_learns_to_grow() -> None:
    """Numbers of a hundredth on steps of a half are all 0; with the step learned they are told apart."""
    x = torch.linspace(-0.3, 0.3, 61)
    quantizer = Quantizer(parse("FIXED 4 0"))
    bias = quantizer.learn_bias()
    assert bias is not None
    optimiser = torch.optim.Adam([bias], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        ((quantizer(x) - x) ** 2).sum().backward()
        optimiser.step()
        quantizer.follow()
    assert quantizer.format == best_bias(parse("FIXED 4"), x.numpy()).format


def test_an_op_without_a_gradient_is_named() -> None:
    graph = bitwright.parse(FLOAT.replace("hardswish(%hs)", "onnx.Softplus(%hs)"))
    with pytest.raises(CompileError, match=r"%hw: onnx\.Softplus cannot be trained\n  help: these ops can: add, "):
        Network(graph)
