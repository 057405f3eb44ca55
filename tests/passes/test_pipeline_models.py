"""Pipelines on other compilers' models: the outputs on onnxruntime are what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import bitwright.models
from bitwright import passes
from bitwright.ir.errors import CompileError
from bitwright.ir.onnx.read import from_model
from bitwright.passes import STRUCTURE, Context, as_onnx_ir_pass, run_passes
from bitwright.passes.accumulators import DeriveAccumulators

assert bitwright.models.__file__ is not None
LENET = Path(bitwright.models.__file__).parent / "lenet5.onnx"
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds_of(model: onnx.ModelProto, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    made = {}
    for info in model.graph.input:
        if info.name not in weights:
            dims = [dim.dim_value or 2 for dim in info.type.tensor_type.shape.dim]
            made[info.name] = random.standard_normal(dims).astype(np.float32)
    return made


def assert_computes_the_same(model: onnx.ModelProto, pipeline: str, seeds: int = 2) -> onnx.ModelProto:
    """Run the passes and compare the outputs on onnxruntime; the model after them."""
    given = model.SerializeToString()
    after = passes.run(model, pipeline)
    assert model.SerializeToString() == given, "the given model was changed"
    onnx.checker.check_model(after, full_check=True)
    before_session, after_session = session(model), session(after)
    names = [output.name for output in model.graph.output]
    assert [output.name for output in after.graph.output] == names
    for seed in range(seeds):
        feeds = feeds_of(model, seed)
        pairs = zip(before_session.run(None, feeds), after_session.run(None, feeds), strict=True)
        for name, (ours, theirs) in zip(names, pairs, strict=True):
            assert ours.shape == theirs.shape
            scale = np.abs(ours).max(initial=1e-6)
            assert np.abs(ours - theirs).max(initial=0) < 2e-5 * scale, f"{name} differs:\n{from_model(after)}"
    return after


def model_of(text: str, weights: dict[str, np.ndarray] | None = None, opset: int = 17) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    random = np.random.default_rng(0)
    for name, array in (weights or {}).items():
        data = array if isinstance(array, np.ndarray) else random.standard_normal(array)
        data = data if data.dtype == np.int64 else data.astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(data, name))
    return model


RESIDUAL = model_of(
    """g (float[N,3,8,8] x) => (float[N,10] y) {
        c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w1)
        b1 = BatchNormalization (c1, s, t, m, v)
        r1 = Relu (b1)
        c2 = Conv <kernel_shape=[3,3], auto_pad="SAME_UPPER"> (r1, w2, k)
        b2 = BatchNormalization (c2, s, t, m, v)
        a = Add (b2, r1)
        r2 = Relu (a)
        p = GlobalAveragePool (r2)
        f = Flatten (p)
        y = Gemm <transB=1, alpha=0.5> (f, w3)
    }""",
    {
        "w1": (4, 3, 3, 3),
        "w2": (4, 4, 3, 3),
        "w3": (10, 4),
        **{name: (4,) for name in "stmk"},
        "v": np.array([0.5, 1.0, 2.0, 3.0]),
    },
)
NHWC = model_of(
    """g (float[N,8,8,3] x) => (float[N,5] y) {
        t1 = Transpose <perm=[0,3,1,2]> (x)
        c1 = Conv <kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER"> (t1, w1)
        t2 = Transpose <perm=[0,2,3,1]> (c1)
        a1 = Add (t2, b1)
        r1 = Clip (a1, zero, six)
        t3 = Transpose <perm=[0,3,1,2]> (r1)
        p1 = MaxPool <kernel_shape=[2,2], strides=[2,2]> (t3)
        t4 = Transpose <perm=[0,2,3,1]> (p1)
        f = Reshape (t4, shape)
        m = MatMul (f, w2)
        y = Add (m, b2)
    }""",
    {
        "w1": (4, 3, 3, 3),
        "b1": (4,),
        "w2": (16, 5),
        "b2": (1, 5),
        "zero": np.array(0.0),
        "six": np.array(6.0),
        "shape": np.array([-1, 16]),
    },
    opset=13,
)
VIEW = model_of(
    """g (float[2,3,4,4] x) => (float[2,5] y) {
        s = Shape (x)
        n = Gather <axis=0> (s, zero)
        u = Unsqueeze (n, axes)
        c = Concat <axis=0> (u, rest)
        f = Reshape (x, c)
        y = Gemm (f, w, b)
    }""",
    {"w": (48, 5), "b": (5,), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])},
    opset=13,
)
BRANCH = model_of(
    """g (float[N,4] x, bool c) => (float[N,4] y) {
        i = Identity (x)
        d = Dropout (i)
        h = Relu (d)
        unread = Relu (h)
        y = If (c) <then_branch = t () => (float[N,4] p) { j = Identity (h)
                                                            p = Mul (j, k) },
                    else_branch = e () => (float[N,4] q) { q = Identity (i) }>
    }""",
    {"k": (4,)},
)
SWISH = """g (float[N,4] x) => (float[N,4] y) {
    m = MatMul (x, w)
    a = Add (m, three)
    k = Clip (a, zero, six)
    p = Mul (m, k)
    y = Div (p, six)
}"""
SWISH_WEIGHTS = {"w": (4, 4), "three": np.array(3.0), "zero": np.array(0.0), "six": np.array(6.0)}


@pytest.mark.parametrize(
    ("model", "ops"),
    [
        (onnx.load(LENET), {"Conv": 3, "MaxPool": 2, "Gemm": 2, "Relu": 4, "Flatten": 1}),
        (RESIDUAL, {"Conv": 2, "Relu": 2, "Add": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}),
        (NHWC, {"Transpose": 1, "Conv": 1, "Clip": 1, "MaxPool": 1, "Reshape": 1, "Gemm": 1}),
        (VIEW, {"Reshape": 1, "Gemm": 1}),
        (model_of(SWISH, SWISH_WEIGHTS, 17), {"Gemm": 1, "Mul": 2, "Add": 1, "Clip": 1}),
        (model_of(SWISH, SWISH_WEIGHTS, 11), None),
    ],
    ids=["lenet", "residual", "nhwc", "view", "hardswish", "hardswish-of-opset-11"],
)
def test_structure_passes_keep_what_onnxruntime_computes(model: onnx.ModelProto, ops: dict[str, int] | None) -> None:
    after = assert_computes_the_same(model, STRUCTURE)
    found = [node.op_type for node in after.graph.node]
    assert ops is None or {op: found.count(op) for op in set(found)} == ops


@pytest.mark.parametrize("condition", [True, False])
def test_what_subgraphs_read_is_kept(condition: bool) -> None:
    after = passes.run(BRANCH, STRUCTURE)
    assert [node.op_type for node in after.graph.node] == ["Relu", "If"]
    feeds = {"x": np.array([[1, -2, 3, -4]], np.float32), "c": np.array(condition)}
    (ours,), (theirs,) = session(BRANCH).run(None, feeds), session(after).run(None, feeds)
    assert np.array_equal(ours, theirs)


def test_weights_that_are_listed_as_inputs_are_frozen() -> None:
    """As PyTorch wrote models with IR version 4 for a while."""
    model = onnx.ModelProto()
    model.CopyFrom(RESIDUAL)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    after = assert_computes_the_same(model, STRUCTURE)
    assert [info.name for info in after.graph.input] == ["x"]
    kept = assert_computes_the_same(model, "fold-constants,normalise,fuse-batchnorm,fuse-activations")
    assert [info.name for info in kept.graph.input] == [info.name for info in model.graph.input]
    feeds = feeds_of(model, 3) | {"s": np.array([1, 2, 3, 4], np.float32)}
    assert np.allclose(session(model).run(None, feeds)[0], session(kept).run(None, feeds)[0], atol=1e-5)


KINDS = ("sum", "sum", "norm", "mul", "add", "relu", "clip", "pool", "same", "turn", "skip", "swish", "show", "flat")


def drawn_model(seed: int) -> onnx.ModelProto:
    """A random chain of the things that exporters write, with a skip connection and readers twice here and there."""
    random = np.random.default_rng(seed)
    opset = int(random.choice([11, 13, 15, 17]))
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    shown: list[str] = []

    def weight(array: Any) -> str:
        data = np.asarray(array)
        name = f"w{len(weights)}"
        weights.append(numpy_helper.from_array(data if data.dtype == np.int64 else data.astype(np.float32), name))
        return name

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], f"n{len(nodes)}", **attributes))
        return nodes[-1].output[0]

    shape = [3, 8, 8]
    value, skip = "x", ("x", [3, 8, 8])
    for _ in range(int(random.integers(4, 12))):
        rank = len(shape)
        channels = shape[0] if rank == 3 else shape[-1]
        per_channel = [channels, 1, 1] if rank == 3 else [channels]
        kind = random.choice(KINDS)
        if kind == "sum" and rank == 3:
            k = int(random.integers(1, min(4, shape[1] + 1)))
            outputs = int(random.integers(1, 5))
            w = weight(random.standard_normal((outputs, channels, k, k)) / channels / k)
            bias = [weight(random.standard_normal(outputs))] * int(random.integers(2))
            value = add("Conv", value, w, *bias, kernel_shape=[k, k])
            shape = [outputs, shape[1] - k + 1, shape[2] - k + 1]
        elif kind == "sum":
            outputs = int(random.integers(1, 6))
            value = add("MatMul", value, weight(random.standard_normal((channels, outputs)) / channels))
            shape = [outputs]
        elif kind == "norm" and rank == 3:
            numbers = [weight(random.standard_normal(channels)) for _ in range(3)]
            value = add("BatchNormalization", value, *numbers, weight(random.uniform(0.5, 2, channels)))
        elif kind in ("mul", "add"):
            constant = weight(random.standard_normal(per_channel if random.integers(3) else []))
            value = add(kind.capitalize(), *random.permutation([value, constant]))
        elif kind == "relu":
            value = add("Relu", value)
        elif kind == "clip":
            value = add("Clip", value, weight(random.choice([0.0, -1.0])), weight(6.0))
        elif kind == "pool" and rank == 3 and shape[1] >= 2:
            value = add("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
            shape = [channels, shape[1] // 2, shape[2] // 2]
        elif kind == "same":
            value = add(str(random.choice(["Identity", "Dropout"])), value)
        elif kind == "turn" and rank == 3:
            turned = add("Transpose", value, perm=[0, 2, 3, 1])
            bias = weight(random.standard_normal(channels))
            turned = add("Relu", turned) if random.integers(2) else add("Add", turned, bias)
            value = add("Transpose", turned, perm=[0, 3, 1, 2])
        elif kind == "skip":
            if skip[1] == shape and skip[0] != value:
                value = add("Add", value, skip[0])
            skip = (value, list(shape))
        elif kind == "swish":
            clipped = add("Clip", add("Add", value, weight(3.0)), weight(0.0), weight(6.0))
            value = add("Div", add("Mul", value, clipped), weight(6.0))
        elif kind == "show" and value != "x":
            shown.append(value)
        elif kind == "flat" and rank == 3 and random.integers(3) == 0:
            order = random.permutation(3) + 1 if random.integers(2) else None
            if order is not None:
                value = add("Transpose", value, perm=[0, *map(int, order)])
            size = int(np.prod(shape))
            flat = weight(np.array([-1, size])) if random.integers(2) else ""
            value = add("Reshape", value, flat) if flat else add("Flatten", value)
            shape = [size]
    outputs = [add("Identity", value), *dict.fromkeys(shown)]
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("seed", range(80))
def test_structure_passes_keep_what_random_networks_compute(seed: int) -> None:
    assert_computes_the_same(drawn_model(seed), STRUCTURE)


def with_random_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The weights of a light model are constants by ConstantOfShape; here they are random, variances positive."""
    random = np.random.default_rng(0)
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = shapes[node.input[0]]
        data = random.standard_normal(shape, np.float32) / np.sqrt(max(1, np.prod(shape[1:], dtype=np.int64)))
        data = np.abs(data) + 1 if node.output[0] in variances else data
        model.graph.initializer.append(numpy_helper.from_array(data.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = 8  # before 4, what is no input is no initializer either
    return model


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("squeezenet", {"Dropout"}),
        ("shufflenet", {"BatchNormalization"}),
        ("resnet50", {"BatchNormalization"}),
        ("densenet121", {"Unsqueeze"}),
        ("inception_v2", {"BatchNormalization", "Mul", "Add", "Unsqueeze"}),
    ],
)
def test_structure_passes_keep_what_known_networks_compute(name: str, gone: set[str]) -> None:
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    assert gone <= {node.op_type for node in model.graph.node}
    after = assert_computes_the_same(with_random_weights(model), STRUCTURE, seeds=1)
    assert not gone & {node.op_type for node in after.graph.node}


def test_as_a_pass_of_onnx_ir() -> None:
    pipelines = ["fuse-batchnorm", "fuse-activations,remove-dead"]
    result = onnx_ir.passes.Sequential(*map(as_onnx_ir_pass, pipelines))(onnx_ir.from_proto(RESIDUAL))
    assert result.modified
    after = onnx_ir.to_proto(result.model)
    assert [node.op_type for node in after.graph.node].count("BatchNormalization") == 0
    feeds = feeds_of(RESIDUAL, 0)
    assert np.allclose(session(RESIDUAL).run(None, feeds)[0], session(after).run(None, feeds)[0], atol=1e-5)


def test_as_a_pass_of_onnx_ir_that_finds_nothing() -> None:
    assert not as_onnx_ir_pass("fuse-batchnorm")(onnx_ir.from_proto(VIEW)).modified


def test_as_a_pass_of_onnx_ir_names_an_unknown_pass_at_once() -> None:
    with pytest.raises(CompileError, match="there is no pass 'fuse-batch'"):
        as_onnx_ir_pass("fuse-batch")


def test_formats_are_kept_in_the_models_metadata() -> None:
    after = passes.run(onnx.load(LENET), f"{STRUCTURE},annotate-formats,derive-accumulators")
    found = {entry.key: entry.value for entry in after.metadata_props}
    assert found["bitwright.format.conv1.weight"].startswith("FIXED<8")
    again = from_model(after)
    assert str(again.values["conv1.weight"].tensor_type.format) == found["bitwright.format.conv1.weight"]
    assert DeriveAccumulators().run(run_passes(again, "fuse-activations"), Context())
