"""ONNX in and out: every rule of lowering against onnxruntime, what must stay ONNX's, damaged files, external data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper, parser
from onnx.external_data_helper import set_external_data

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.files import load, save
from bitwright.ir.formats import fixed
from bitwright.ir.graph import Graph
from bitwright.ir.onnx import write
from bitwright.ir.onnx.dtypes import element_of, read_type, write_type
from bitwright.ir.onnx.emit import EMIT
from bitwright.ir.onnx.lower import RULES
from bitwright.ir.onnx.read import from_model, load_onnx
from bitwright.ir.onnx.write import to_model
from bitwright.ir.ops import OPS, window_extent
from bitwright.ir.parse import parse, parse_type
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import node_text, to_text
from bitwright.ir.types import DTYPES, UNKNOWN, Type
from bitwright.ir.verify import verify

Arrays = Mapping[str, np.ndarray]
Check = Callable[[Graph], None]

OPSETS = (7, 9, 11, 13, 17)
IR_VERSIONS = {7: 3, 9: 4, 11: 6, 13: 7, 17: 8}


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(
    inputs: str, body: str, weights: Arrays | None = None, opset: int = 13, output: str = "float[] y"
) -> onnx.ModelProto:
    """A model from its text; weights are initialisers."""
    made = parser.parse_model(
        f'<ir_version: {max(4, IR_VERSIONS.get(opset, 8))}, opset_import: ["": {opset}]>\n'
        f"g ({inputs}) => ({output}) {{ {body} }}"
    )
    for name, array in (weights or {}).items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return made


def run(made: onnx.ModelProto | Path, feeds: Arrays) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(made) if isinstance(made, Path) else made.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(array) for name, array in feeds.items()})


def feeds(made: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Random data for the inputs without a default; 2 for a dimension with a name."""
    found = {}
    given = {tensor.name for tensor in made.graph.initializer}
    for index, info in enumerate(made.graph.input):
        if info.name in given:
            continue
        shape = [dim.dim_value or 2 for dim in info.type.tensor_type.shape.dim]
        array = np.asarray(np.random.default_rng(index).standard_normal(shape) * 4)
        found[info.name] = array.astype(helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
    return found


def assert_same_outputs(made: onnx.ModelProto, graph: Graph, data: Arrays | None = None) -> None:
    data = feeds(made) if data is None else data
    wanted, found = run(made, data), run(to_model(graph), data)
    assert len(wanted) == len(found)
    for a, b in zip(wanted, found, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def lines(graph: Graph) -> list[str]:
    return [node_text(node) for node in graph.nodes]


def lowers(made: onnx.ModelProto, *expected: str) -> Graph:
    """The model becomes these lines, and computes what it did."""
    graph = from_model(made)
    verify(graph)
    assert lines(graph) == list(expected)
    assert_same_outputs(made, graph)
    again = parse(to_text(graph))
    verify(again)
    return graph


def stays(made: onnx.ModelProto, op: str, runs: bool = True) -> Graph:
    """The node of that ONNX op is untouched, and the model computes what it did."""
    graph = from_model(made)
    verify(graph)
    kept = [node for inner in graph.walk() for node in inner.nodes if node.op == f"onnx.{op}"]
    assert kept, to_text(graph)
    for node, proto in zip(kept, [n for n in made.graph.node if n.op_type == op], strict=False):
        assert len(node.operands) == len(proto.input)
        assert set(node.attributes) == {attribute.name for attribute in proto.attribute}
    if runs:
        assert_same_outputs(made, graph)
    return graph


# Convolution


W = random(4, 2, 3, 3)
B = random(4)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("attributes", "arguments", "attribute_text", "shape"),
    [
        ("", "x, w", "kernel=[3,3]", "[1,4,6,7]"),
        ("", "x, w, b", "kernel=[3,3]", "[1,4,6,7]"),
        ("kernel_shape=[3,3], group=1, strides=[1,1], dilations=[1,1]", "x, w, b", "kernel=[3,3]", "[1,4,6,7]"),
        ("strides=[2,1]", "x, w, b", "kernel=[3,3], strides=[2,1]", "[1,4,3,7]"),
        ("pads=[1,2,0,1]", "x, w, b", "kernel=[3,3], pads=[1,2,0,1]", "[1,4,7,10]"),
        ("dilations=[2,3]", "x, w, b", "dilations=[2,3], kernel=[3,3]", "[1,4,4,3]"),
        ('auto_pad="VALID", strides=[2,2]', "x, w, b", "kernel=[3,3], strides=[2,2]", "[1,4,3,4]"),
        ('auto_pad="NOTSET", pads=[1,1,1,1]', "x, w, b", "kernel=[3,3], pads=[1,1,1,1]", "[1,4,8,9]"),
        ('auto_pad="SAME_UPPER"', "x, w, b", "kernel=[3,3], pads=[1,1,1,1]", "[1,4,8,9]"),
        ('auto_pad="SAME_LOWER"', "x, w, b", "kernel=[3,3], pads=[1,1,1,1]", "[1,4,8,9]"),
        ('auto_pad="SAME_UPPER", strides=[2,2]', "x, w", "kernel=[3,3], pads=[0,1,1,1], strides=[2,2]", "[1,4,4,5]"),
        ('auto_pad="SAME_LOWER", strides=[2,2]', "x, w", "kernel=[3,3], pads=[1,1,0,1], strides=[2,2]", "[1,4,4,5]"),
        ('auto_pad="SAME_UPPER", strides=[3,5]', "x, w", "kernel=[3,3], pads=[0,0,1,0], strides=[3,5]", "[1,4,3,2]"),
    ],
)  # fmt: skip
def test_conv(opset: int, attributes: str, arguments: str, attribute_text: str, shape: str) -> None:
    made = model(
        "float[1,2,8,9] x", f"y = Conv <{attributes}> ({arguments})".replace("<>", ""), {"w": W, "b": B}, opset
    )
    names = ", ".join("%" + name for name in arguments.split(", "))
    lowers(made, f"%y = conv2d({names}) {{{attribute_text}}} : f32{shape}")


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_auto_pad_is_onnxruntimes(auto: str, stride: int, kernel: int) -> None:
    attributes = f'auto_pad="{auto}", kernel_shape=[{kernel},2], strides=[{stride},1]'
    for size in (5, 6, 7, 8):
        for op, hardware in (("Conv", "conv2d"), ("MaxPool", "maxpool2d"), ("AveragePool", "avgpool2d")):
            if op != "Conv" and kernel < stride:
                continue  # onnxruntime refuses: it would pad by less than nothing
            arguments, weights = ("x, w", {"w": random(2, 2, kernel, 2)}) if op == "Conv" else ("x", {})
            made = model(f"float[1,2,{size},9] x", f"y = {op} <{attributes}> ({arguments})", weights)
            graph = from_model(made)
            verify(graph)
            assert graph.nodes[0].op == hardware
            assert graph.values["y"].tensor_type.shape == (1, 2, -(-size // stride), 9)
            assert_same_outputs(made, graph)


@pytest.mark.parametrize(("auto", "pads"), [("SAME_UPPER", "[1,2,2,2]"), ("SAME_LOWER", "[2,2,1,2]")])
def test_auto_pad_counts_the_dilation(auto: str, pads: str) -> None:
    """7 in steps of 2 are 4 windows, which reach over 2 * 3 + 4 = 10 with a kernel of 2 and a dilation of 3."""
    attributes = f'auto_pad="{auto}", strides=[2,1], dilations=[3,4]'
    graph = from_model(model("float[1,2,7,9] x", f"y = Conv <{attributes}> (x, w)", {"w": random(4, 2, 2, 2)}))
    verify(graph)
    assert lines(graph) == [
        f"%y = conv2d(%x, %w) {{dilations=[3,4], kernel=[2,2], pads={pads}, strides=[2,1]}} : f32[1,4,4,9]"
    ]


def test_conv_in_groups_and_with_unknown_dimensions() -> None:
    weights = {"w": random(6, 1, 3, 3)}
    lowers(
        model("float[1,2,8,8] x", "y = Conv <group=2> (x, w)", weights),
        "%y = conv2d(%x, %w) {groups=2, kernel=[3,3]} : f32[1,6,6,6]",
    )
    made = model("float[N,2,H,8] x", "y = Conv <pads=[1,1,1,1]> (x, w)", {"w": W}, output="float[N,4,K,8] y")
    graph = from_model(made)
    assert lines(graph) == ["%y = conv2d(%x, %w) {kernel=[3,3], pads=[1,1,1,1]} : f32[N,4,K,8]"]
    made = model("float[1,2,8,8] x, float[4,2,3,3] w", "y = Conv (x, w)")
    lowers(made, "%y = conv2d(%x, %w) {kernel=[3,3]} : f32[1,4,6,6]")
    made = model("float[1,2,8,8] x, float[4,2,3,K] w", "y = Conv <kernel_shape=[3,3]> (x, w)")
    assert from_model(made).nodes[0].op == "onnx.Conv"


def test_conv_that_stays() -> None:
    stays(model("float[1,2,8] x", "y = Conv (x, w)", {"w": random(4, 2, 3)}), "Conv")
    stays(model("float[1,2,8,8,8] x", "y = Conv (x, w)", {"w": random(4, 2, 3, 3, 3)}), "Conv")
    same = 'y = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)'
    stays(model("float[1,2,H,8] x", same, {"w": W}), "Conv", runs=False)
    stays(model("float[] x", "y = Conv (x, w)", {"w": W}), "Conv", runs=False)
    made = model("double[1,2,8,8] x", "y = Conv (x, w)", {"w": W.astype(np.float64)}, output="double[] y")
    stays(made, "Conv", runs=False)


# Pooling


@pytest.mark.parametrize("opset", OPSETS)
def test_pools(opset: int) -> None:
    made = model("float[2,3,8,9] x", "y = MaxPool <kernel_shape=[2,3]> (x)", opset=opset)
    lowers(made, "%y = maxpool2d(%x) {kernel=[2,3]} : f32[2,3,7,7]")
    made = model("float[2,3,8,9] x", "y = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,1]> (x)", opset=opset)
    lowers(made, "%y = maxpool2d(%x) {kernel=[3,3], pads=[1,0,1,1], strides=[2,2]} : f32[2,3,4,4]")
    body = "y = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,1]> (x)"
    lowers(
        model("float[2,3,8,9] x", body, opset=opset),
        "%y = avgpool2d(%x) {kernel=[3,3], pads=[1,0,1,1], strides=[2,2]} : f32[2,3,4,4]",
    )
    lowers(
        model("float[2,3,8,9] x", body.replace("<", "<count_include_pad=1, "), opset=opset),
        "%y = avgpool2d(%x) {count_pads=1, kernel=[3,3], pads=[1,0,1,1], strides=[2,2]} : f32[2,3,4,4]",
    )
    body = "y = AveragePool <count_include_pad=1, kernel_shape=[3,3]> (x)"
    lowers(model("float[2,3,8,9] x", body, opset=opset), "%y = avgpool2d(%x) {kernel=[3,3]} : f32[2,3,6,7]")
    made = model("float[2,3,8,9] x", "y = GlobalAveragePool (x)", opset=opset)
    lowers(made, "%y = globalavgpool(%x) : f32[2,3,1,1]")


@pytest.mark.parametrize("size", [4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("pads", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_ceil_mode_is_onnxruntimes(size: int, pads: tuple[int, int]) -> None:
    for kernel in (2, 3):
        for stride in (1, 2, 3):
            attributes = f"kernel_shape=[{kernel},2], strides=[{stride},2], pads=[{pads[0]},0,{pads[1]},0]"
            pool = f"MaxPool <ceil_mode=1, {attributes}> (x)"
            made = model(f"float[1,2,{size},7] x", f"y = {pool}")
            shape = run(made, feeds(made))[0].shape
            assert shape[2] == window_extent(size, kernel, stride, *pads, 1, True)
            graph = from_model(made)
            verify(graph)
            assert_same_outputs(made, graph)
            inferred = onnx.shape_inference.infer_shapes(made).graph.output[0].type.tensor_type.shape.dim[2]
            if inferred.dim_value == shape[2]:  # onnx counts a last window that is all padding, onnxruntime does not
                assert graph.nodes[0].op == "maxpool2d"
                assert graph.nodes[0].attributes["ceil"] == 1
                assert graph.values["y"].tensor_type.shape == shape
            inside = model(f"float[1,2,{size},7] x", f"p = {pool}  f = Flatten (p)  y = Relu (f)")
            assert_same_outputs(inside, from_model(inside))  # even where onnx infers another shape than there is


def test_dilated_pools() -> None:
    made = model("float[1,2,9,9] x", "y = MaxPool <kernel_shape=[2,2], dilations=[2,3]> (x)")
    lowers(made, "%y = maxpool2d(%x) {dilations=[2,3], kernel=[2,2]} : f32[1,2,7,6]")
    made = model("float[1,2,9,9] x", "y = AveragePool <kernel_shape=[2,2], dilations=[2,3]> (x)", opset=19)
    lowers(made, "%y = avgpool2d(%x) {dilations=[2,3], kernel=[2,2]} : f32[1,2,7,6]")


def test_pools_that_stay() -> None:
    for opset in (9, 11):
        body = "y, i = MaxPool <kernel_shape=[2,2]> (x)"
        stays(model("float[1,2,8,8] x", body, opset=opset, output="float[] y, int64[] i"), "MaxPool")
    body = "y = MaxPool <kernel_shape=[2,2], storage_order=1> (x)"
    stays(model("float[1,2,8,8] x", body), "MaxPool")
    stays(
        model("float[1,2,7,7] x", "y = AveragePool <kernel_shape=[2,2], strides=[2,2], ceil_mode=1> (x)"), "AveragePool"
    )
    for op in ("MaxPool", "AveragePool"):
        stays(model("float[1,2,8] x", f"y = {op} <kernel_shape=[2]> (x)"), op)
        stays(model("float[1,2,8,8,8] x", f"y = {op} <kernel_shape=[2,2,2]> (x)"), op)
    stays(model("float[1,2,8] x", "y = GlobalAveragePool (x)"), "GlobalAveragePool")
    stays(model("uint8[1,2,8,8] x", "y = MaxPool <kernel_shape=[2,2]> (x)", output="uint8[] y"), "MaxPool")
    made = model("float[1,2,8,8] x", "y, i = MaxPool <kernel_shape=[2,2]> (x)")  # the indices are not read, but made
    stays(made, "MaxPool")


# Gemm


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, -2.0])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(5,), (1, 5), (1,), (), (1, 1)])
def test_gemm(opset: int, alpha: float, beta: float, transposed: int, bias: tuple[int, ...]) -> None:
    w, b = random(*((5, 7) if transposed else (7, 5))), random(*bias, seed=1)
    made = model(
        "float[3,7] x", f"y = Gemm <alpha={alpha}, beta={beta}, transB={transposed}> (x, w, b)", {"w": w, "b": b}, opset
    )
    graph = lowers(made, "%y = dense(%x, %w, %b) : f32[3,5]")
    tensors = [graph.values[name].tensor for name in ("w", "b")]
    assert tensors[0] is not None
    assert tensors[1] is not None
    assert np.array_equal(tensors[0].data, np.float32(alpha) * (w if transposed else w.T))
    assert np.array_equal(tensors[1].data, np.broadcast_to(np.float32(beta) * b.reshape(-1), 5))
    assert list(graph.values) == ["x", "w", "b", "y"]


@pytest.mark.parametrize("opset", [11, 13])
def test_gemm_without_bias(opset: int) -> None:
    graph = lowers(
        model("float[N,7] x", "y = Gemm (x, w)", {"w": random(7, 5)}, opset), "%y = dense(%x, %w) : f32[N,5]"
    )
    assert graph.values["w"].tensor_type.shape == (5, 7)
    made = model("float[3,7] x", "y = Gemm <transB=1, beta=0.5> (x, w)", {"w": random(5, 7)}, opset)
    made.graph.node[0].input.append("")
    lowers(made, "%y = dense(%x, %w, _) : f32[3,5]")


def test_gemm_that_stays() -> None:
    w, b = random(7, 5), random(5)
    stays(model("float[7,3] x", "y = Gemm <transA=1> (x, w, b)", {"w": w, "b": b}), "Gemm")
    stays(model("float[3,7] x", "y = Gemm (x, w, b)", {"w": w, "b": random(3, 5)}), "Gemm")
    stays(model("float[3,7] x", "y = Gemm (x, w, b)", {"w": w, "b": random(3, 1)}), "Gemm")
    stays(model("float[3,7] x, float[7,5] w", "y = Gemm (x, w, b)", {"b": b}), "Gemm")
    stays(model("float[3,7] x, float[5,7] w", "y = Gemm <alpha=0.5, transB=1> (x, w, b)", {"b": b}), "Gemm")
    stays(model("float[3,7] x, float[5] b", "y = Gemm <beta=0.5> (x, w, b)", {"w": w}), "Gemm")
    stays(model("float[3,7] x, float[1] b", "y = Gemm (x, w, b)", {"w": w}), "Gemm")
    stays(model("double[3,7] x", "y = Gemm (x, w)", {"w": w.astype(np.float64)}, output="double[] y"), "Gemm")
    stays(model("float[3,7] x", "y = MatMul (x, w)", {"w": w}), "MatMul")


def test_gemm_of_computed_operands() -> None:
    made = model("float[3,7] x, float[5,7] w, float[5] b", "y = Gemm <transB=1> (x, w, b)")
    lowers(made, "%y = dense(%x, %w, %b) : f32[3,5]")
    made = model("float[3,7] x, float[5] b", "y = Gemm <alpha=2.0> (x, w, b)", {"w": random(7, 5)})
    lowers(made, "%y = dense(%x, %w, %b) : f32[3,5]")


def test_gemm_leaves_weights_alone_that_others_read() -> None:
    weights = {"w": random(7, 7), "b": random(7)}
    body = "a = Gemm <beta=2.0> (x, w, b)  c = Gemm (a, w, b)  d = Gemm <transB=1> (c, w, b)  y = Add(d, w)"
    graph = lowers(
        model("float[7,7] x", body, weights),
        "%a = dense(%x, %w.1, %b.1) : f32[7,7]",
        "%c = dense(%a, %w.2, %b) : f32[7,7]",
        "%d = dense(%c, %w, %b) : f32[7,7]",
        "%y = add(%d, %w) : f32[7,7]",
    )
    assert [v.name for v in graph.weights] == ["w", "b", "b.1", "w.1", "w.2"]
    made = model(
        "float[7,7] x", "y = Gemm (x, w, w2)", {"w": random(7, 7), "w2": random(1, 7)}, output="float[] y, float[7,7] w"
    )
    lowers(made, "%y = dense(%x, %w.1, %w2) : f32[7,7]")


def test_a_rule_that_fails_changes_nothing() -> None:
    """The shape that the model declares is not the one that the operands give: the node and its weights stay."""
    weights = {"w": random(7, 5), "b": random(1, 5)}
    made = model("float[3,7] x", "y = Gemm <alpha=2.0> (x, w, b)", weights, output="float[3,6] y")
    graph = from_model(made)
    assert lines(graph) == ["%y = onnx.Gemm(%x, %w, %b) {alpha=2.0} : f32[3,6]"]
    for name, array in weights.items():
        tensor = graph.values[name].tensor
        assert tensor is not None
        assert np.array_equal(tensor.data, array)
        assert graph.values[name].tensor_type.shape == array.shape
    assert len(graph.values) == 4


# The rest


@pytest.mark.parametrize("opset", OPSETS)
def test_batchnorm(opset: int) -> None:
    weights = {name: np.abs(random(3, seed=i)) + 0.1 for i, name in enumerate(("s", "t", "m", "v"))}
    for shape in ("[2,3,5,6]", "[2,3]", "[2,3,4]"):
        made = model(f"float{shape} x", "y = BatchNormalization (x, s, t, m, v)", weights, opset)
        lowers(made, f"%y = batchnorm(%x, %s, %t, %m, %v) : f32{shape}")
    made = model("float[2,3] x", "y = BatchNormalization <epsilon=0.5, momentum=0.1> (x, s, t, m, v)", weights, opset)
    lowers(made, "%y = batchnorm(%x, %s, %t, %m, %v) {epsilon=0.5} : f32[2,3]")
    if opset >= 15:
        body = "y, a, b = BatchNormalization <training_mode=1> (x, s, t, m, v)"
        made = model("float[2,3] x", body, weights, opset, "float[] y, float[] a, float[] b")
        stays(made, "BatchNormalization")
    if opset == 7:
        per_element = {name: np.abs(random(3, 2, 2, seed=i)) + 0.1 for i, name in enumerate(("s", "t", "m", "v"))}
        made = model("float[2,3,2,2] x", "y = BatchNormalization <spatial=0> (x, s, t, m, v)", per_element, opset)
        stays(made, "BatchNormalization", runs=False)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("low", [None, -1.0])
@pytest.mark.parametrize("high", [None, 2.5])
def test_clip(opset: int, low: float | None, high: float | None) -> None:
    bounds = {key: value for key, value in (("min", low), ("max", high)) if value is not None}
    if opset < 11:
        given = ", ".join(f"{key}={value}" for key, value in bounds.items())
        made = model("float[4,5] x", f"y = Clip <{given}> (x)".replace("<>", ""), opset=opset)
    else:
        names = [key if key in bounds else "" for key in ("min", "max")]
        weights = {key: np.float32(value) for key, value in bounds.items()}
        made = model("float[4,5] x", f"y = Clip (x, {', '.join(names)})", weights, opset)
        while made.graph.node[0].input[-1] == "":
            made.graph.node[0].input.pop()
    block = ", ".join(f"{key}={bounds[key]!r}" for key in sorted(bounds))
    graph = lowers(made, f"%y = clip(%x) {{{block}}} : f32[4,5]".replace(" {}", ""))
    assert graph.weights == []


def test_clip_that_stays() -> None:
    bound = {"low": np.float32(-1)}
    stays(model("float[4] x, float high", "y = Clip (x, low, high)", bound), "Clip")
    stays(model("int32[4] x", "y = Clip (x, low)", {"low": np.int32(-1)}, output="int32[] y"), "Clip")


@pytest.mark.parametrize("opset", OPSETS)
def test_activations(opset: int) -> None:
    lowers(model("float[4,N] x", "y = Relu (x)", opset=opset), "%y = relu(%x) : f32[4,N]")
    lowers(model("float[4] x", "y = HardSigmoid (x)", opset=opset), "%y = hardsigmoid(%x) : f32[4]")
    made = model("float[4] x", "y = HardSigmoid <alpha=0.5, beta=0.25> (x)", opset=opset)
    lowers(made, "%y = hardsigmoid(%x) {alpha=0.5, beta=0.25} : f32[4]")
    if opset >= 14:
        lowers(model("float[4] x", "y = HardSwish (x)", opset=opset), "%y = hardswish(%x) : f32[4]")


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("op", "hardware"), [("Add", "add"), ("Mul", "mul")])
def test_elementwise(opset: int, op: str, hardware: str) -> None:
    made = model("float[2,3,4] x, float[3,1] z", f"y = {op} (x, z)", opset=opset)
    lowers(made, f"%y = {hardware}(%x, %z) : f32[2,3,4]")
    made = model("float[1] x", f"y = {op} (x, w)", {"w": random(2, 3)}, opset)
    lowers(made, f"%y = {hardware}(%x, %w) : f32[2,3]")
    made = model("float[N,1] x", f"y = {op} (x, x)", opset=opset)
    lowers(made, f"%y = {hardware}(%x, %x) : f32[N,1]")
    stays(model("int64[2] x", f"y = {op} (x, x)", opset=opset, output="int64[] y"), op)
    stays(model("float[] x", f"y = {op} (x, x)", opset=opset), op)
    stays(model("float[2] x, float[] z", f"y = {op} (x, z)", opset=opset), op)


def test_a_sum_of_two_is_an_addition() -> None:
    lowers(model("float[2,3] x, float[3] z", "y = Sum (x, z)"), "%y = add(%x, %z) : f32[2,3]")
    stays(model("float[3] x", "y = Sum (x)"), "Sum")
    stays(model("float[3] x", "y = Sum (x, x, x)"), "Sum")


@pytest.mark.parametrize("opset", OPSETS)
def test_concat_flatten_and_transpose(opset: int) -> None:
    body = "y = Concat <axis=1> (x, z, x)"
    made = model("float[2,3] x, float[2,1] z", body, opset=opset)
    lowers(made, "%y = concat(%x, %z, %x) {axis=1} : f32[2,7]")
    lowers(model("float[2,3,4] x", "y = Flatten (x)", opset=opset), "%y = flatten(%x) : f32[2,12]")
    lowers(model("float[2,3,4] x", "y = Flatten <axis=0> (x)", opset=opset), "%y = flatten(%x) {axis=0} : f32[1,24]")
    lowers(model("float[N,3,1] x", "y = Flatten <axis=1> (x)", opset=opset), "%y = flatten(%x) : f32[N,3]")
    made = model("float[2,3,4] x", "y = Transpose (x)", opset=opset)
    lowers(made, "%y = transpose(%x) {perm=[2,1,0]} : f32[4,3,2]")
    made = model("float[2,N,4] x", "y = Transpose <perm=[0,2,1]> (x)", opset=opset)
    lowers(made, "%y = transpose(%x) {perm=[0,2,1]} : f32[2,4,N]")
    if opset >= 11:
        made = model("float[2,3,4] x", "y = Flatten <axis=-1> (x)", opset=opset)
        lowers(made, "%y = flatten(%x) {axis=-1} : f32[6,4]")
        made = model("float[2,3] x", "y = Concat <axis=-2> (x, x)", opset=opset)
        lowers(made, "%y = concat(%x, %x) {axis=-2} : f32[4,3]")
    for op, attributes in (("Concat", "<axis=0>"), ("Transpose", "")):
        stays(model("int64[2,3] x", f"y = {op} {attributes} (x)", opset=opset, output="int64[] y"), op)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("source", "target", "shape"),
    [
        ("[2,3,4]", [4, 6], "[4,6]"),
        ("[2,3,4]", [0, -1], "[2,12]"),
        ("[2,3,4]", [-1], "[24]"),
        ("[N,3,4]", [0, 2, -1], "[N,2,6]"),
        ("[2,3,4]", [2, 0, -1, 2], "[2,3,2,2]"),
        ("[1]", [1, 1, 1], "[1,1,1]"),
    ],
)
def test_reshape(opset: int, source: str, target: list[int], shape: str) -> None:
    text = ",".join(map(str, target))
    made = model(f"float{source} x", "y = Reshape (x, s)", {"s": np.array(target)}, opset)
    graph = lowers(made, f"%y = reshape(%x) {{shape=[{text}]}} : f32{shape}")
    assert graph.weights == []


def test_reshape_that_stays() -> None:
    stays(model("float[2,3] x, int64[1] s", "y = Reshape (x, s)"), "Reshape", runs=False)
    stays(model("int64[2,3] x", "y = Reshape (x, s)", {"s": np.array([6])}, output="int64[] y"), "Reshape")
    stays(model("float[2,3] x", "y = Reshape <allowzero=1> (x, s)", {"s": np.array([3, 2])}, 17), "Reshape")
    graph = stays(model("float[1,1] x", "y = Reshape (x, s)", {"s": np.zeros(0, np.int64)}), "Reshape")
    assert "s" in graph.values


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize(
    ("op", "source", "axes", "shape"),
    [
        ("Unsqueeze", "N,3", [2, 3], "[0,0,1,1]"),
        ("Unsqueeze", "N,3", [0], "[1,-1,3]"),
        ("Unsqueeze", "N,3", [1, -1], "[0,1,3,1]"),
        ("Squeeze", "N,3,1,1", [2, 3], "[0,0]"),
        ("Squeeze", "N,1,3", [-2], "[0,3]"),
        ("Squeeze", "1,N,3", [0], "[-1,3]"),
    ],
)
def test_squeeze_and_unsqueeze(opset: int, op: str, source: str, axes: list[int], shape: str) -> None:
    if opset < 13:
        made = model(f"float[{source}] x", f"y = {op} <axes = {axes}> (x)", opset=opset)
    else:
        made = model(f"float[{source}] x", f"y = {op} (x, axes)", {"axes": np.array(axes)}, opset)
    graph = from_model(made)
    assert [node.op for node in graph.nodes] == ["reshape"]
    assert f"{{shape={shape}}}" in lines(graph)[0]
    assert_same_outputs(made, graph)


def test_squeeze_that_stays() -> None:
    stays(model("float[N,1,3] x, int64[1] axes", "y = Squeeze (x, axes)"), "Squeeze", runs=False)
    stays(model("float[N,1,3] x", "y = Squeeze (x)"), "Squeeze")
    stays(model("float[A,B] x", "y = Unsqueeze (x, axes)", {"axes": np.array([0, 2])}), "Unsqueeze")


@pytest.mark.parametrize("opset", [7, 9])
def test_pad_by_attributes(opset: int) -> None:
    made = model("float[2,3] x", "y = Pad <pads=[0,1,2,3]> (x)", opset=opset)
    lowers(made, "%y = pad(%x) {pads=[0,1,2,3]} : f32[4,7]")
    made = model("float[2,3] x", 'y = Pad <mode="constant", pads=[0,-1,0,1], value=1.5> (x)', opset=opset)
    lowers(made, "%y = pad(%x) {pads=[0,-1,0,1], value=1.5} : f32[2,3]")
    stays(model("float[3,3] x", 'y = Pad <mode="reflect", pads=[0,1,1,0]> (x)', opset=opset), "Pad")


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_pad_by_inputs(opset: int) -> None:
    weights: dict[str, np.ndarray] = {"p": np.array([0, 1, 2, 3]), "v": np.array(1.5, np.float32)}
    made = model("float[2,N] x", "y = Pad (x, q)", {"q": np.array([1, 0, 0, 0])}, opset)
    lowers(made, "%y = pad(%x) {pads=[1,0,0,0]} : f32[3,N]")
    made = model("float[2,3] x", "y = Pad (x, p)", {"p": weights["p"]}, opset)
    lowers(made, "%y = pad(%x) {pads=[0,1,2,3]} : f32[4,7]")
    graph = lowers(
        model("float[2,3] x", "y = Pad (x, p, v)", weights, opset),
        "%y = pad(%x) {pads=[0,1,2,3], value=1.5} : f32[4,7]",
    )
    assert graph.weights == []
    stays(model("float[3,3] x", 'y = Pad <mode="edge"> (x, p)', {"p": weights["p"]}, opset), "Pad")
    stays(model("float[2,3] x, float v", "y = Pad (x, p, v)", {"p": weights["p"]}, opset), "Pad")
    stays(model("float[2,3] x, int64[4] p", "y = Pad (x, p)", None, opset), "Pad", runs=False)


def test_pad_of_some_axes_stays() -> None:
    weights = {"p": np.array([1, 2]), "a": np.array([1])}
    stays(model("float[2,3] x", "y = Pad (x, p, , a)", weights, 18), "Pad")


def test_softmax() -> None:
    for opset in OPSETS:
        lowers(model("float[2,5] x", "y = Softmax (x)", opset=opset), "%y = softmax(%x) : f32[2,5]")
        made = model("float[2,3,5] x", "y = Softmax <axis=2> (x)", opset=opset)
        lowers(made, "%y = softmax(%x) : f32[2,3,5]")
    for opset in (7, 11):  # axis 1 of more dimensions means all from there on, together
        stays(model("float[2,3,5] x", "y = Softmax (x)", opset=opset), "Softmax")
        stays(model("float[2,3,5] x", "y = Softmax <axis=1> (x)", opset=opset), "Softmax")
    for opset in (13, 17):
        lowers(model("float[2,3,5] x", "y = Softmax (x)", opset=opset), "%y = softmax(%x) : f32[2,3,5]")
        made = model("float[2,3,5] x", "y = Softmax <axis=1> (x)", opset=opset)
        lowers(made, "%y = softmax(%x) {axis=1} : f32[2,3,5]")
    lowers(model("float[2,3,5] x", "y = Softmax <axis=-1> (x)", opset=11), "%y = softmax(%x) : f32[2,3,5]")


@pytest.mark.parametrize("opset", OPSETS)
def test_argmax(opset: int) -> None:
    made = model("float[4,5] x", "y = ArgMax (x)", opset=opset, output="int64[] y")
    lowers(made, "%y = argmax(%x) : i64[1,5]")
    made = model("float[4,5] x", "y = ArgMax <axis=1, keepdims=0> (x)", opset=opset, output="int64[] y")
    lowers(made, "%y = argmax(%x) {axis=1, keepdims=0} : i64[4]")
    if opset >= 13:
        body = "y = ArgMax <axis=-1, select_last_index=1> (x)"
        made = model("float[4,5] x", body, opset=opset, output="int64[] y")
        lowers(made, "%y = argmax(%x) {axis=-1, last=1} : i64[4,1]")
        ties = {"x": np.zeros((4, 5), np.float32)}
        assert_same_outputs(made, from_model(made), ties)
        stays(model("int32[4,5] x", "y = ArgMax (x)", opset=opset, output="int64[] y"), "ArgMax")


def test_nodes_of_other_domains_and_types_stay() -> None:
    made = model("float[2] x", "y = custom.Relu (x)")
    made.opset_import.append(helper.make_opsetid("custom", 1))
    made.graph.node[0].domain = "custom"
    made.graph.node[0].op_type = "Relu"
    graph = from_model(made)
    assert graph.nodes[0].op == "onnx.custom::Relu"
    stays(model("float16[2] x", "y = Relu (x)", output="float16[] y"), "Relu")
    stays(model("double[2] x", "y = Relu (x)", output="double[] y"), "Relu")


def test_nodes_in_branches_are_lowered_too() -> None:
    body = (
        "y = If (c) <then_branch = t () => (float[] a) { a = Relu (x) },"
        " else_branch = e () => (float[] b) { b = Gemm <alpha=2.0> (x, w) }>"
    )
    made = model("float[3,3] x, bool c", body, {"w": random(3, 3)})
    graph = from_model(made)
    verify(graph)
    assert [node.op for inner in graph.walk() for node in inner.nodes] == ["onnx.If", "relu", "dense"]
    for c in (True, False):
        assert_same_outputs(made, graph, {"x": random(3, 3, seed=4), "c": np.array(c)})


# Fused attributes become nodes


def graph_of(*text: str, opset: int = 13) -> Graph:
    return parse("\n".join(["graph @g {", f"opset ai.onnx={opset}", *text, "}"]))


def kinds(graph: Graph) -> list[str]:
    return [node.op_type for node in to_model(graph).graph.node]


FUSED = "%y = conv2d(%x, %w) {{{act}kernel=[3,3], pool=[2,2]{strides}}} : f32[1,3,{size},{size}]"


@pytest.mark.parametrize(
    ("act", "made", "function"),
    [
        ("act=relu, ", "Relu", lambda x: np.maximum(x, 0)),
        ("act=clip, act_max=1.0, act_min=-0.5, ", "Clip", lambda x: np.clip(x, -0.5, 1)),
        ("act=clip, act_max=1.0, ", "Clip", lambda x: np.minimum(x, 1)),
        ("act=clip, act_min=1.0, ", "Clip", lambda x: np.maximum(x, 1)),
        ("act=hardswish, ", "HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        ("act=hardsigmoid, ", "HardSigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    ],
)
@pytest.mark.parametrize("strides", [(2, 3), (1, 5)])
def test_fused_activations_and_pools_become_nodes(
    act: str, made: str, function: Callable[[np.ndarray], np.ndarray], strides: tuple[int, int]
) -> None:
    head = ["input %x : f32[1,2,8,8]", "weight %w = 00000001 : f32[3,2,3,3]"]
    text = "" if strides[0] == 2 else ", pool_strides=[1,1]"
    graph = graph_of(*head, FUSED.format(act=act, strides=text, size=strides[1]), "output %y", opset=17)
    verify(graph)
    assert kinds(graph) == ["Conv", made, "MaxPool"]
    plain = graph_of(*head, "%y = conv2d(%x, %w) {kernel=[3,3]} : f32[1,3,6,6]", "output %y")
    x = {"x": random(1, 2, 8, 8) * 4}
    sums = function(run(to_model(plain), x)[0])
    step, size = strides
    rows = [
        [sums[..., i * step : i * step + 2, j * step : j * step + 2].max((2, 3)) for j in range(size)]
        for i in range(size)
    ]
    wanted = np.moveaxis(np.array(rows), (0, 1), (2, 3))
    np.testing.assert_allclose(run(to_model(graph), x)[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7)])
@pytest.mark.parametrize("bias", ["", ", %b"])
def test_dense_of_any_rank(opset: int, shape: tuple[int, ...], bias: str) -> None:
    dims = [",".join(map(str, (*shape[:-1], last))) for last in (7, 5)]
    graph = graph_of(
        f"input %x : f32[{dims[0]}]",
        "weight %w = 00000001 : f32[5,7]",
        "weight %b = 00000002 : f32[5]",
        f"%y = dense(%x, %w{bias}) {{act=relu}} : f32[{dims[1]}]",
        "output %y",
        opset=opset,
    )
    verify(graph)
    tensors = [graph.values[name].tensor for name in "wb"]
    w, b = (tensor.data for tensor in tensors if tensor is not None)
    x = random(*shape)
    wanted = np.maximum(x @ w.T + (b if bias else 0), 0)
    np.testing.assert_allclose(run(to_model(graph), {"x": x})[0], wanted, rtol=1e-4, atol=1e-5)
    assert kinds(graph)[-1] == "Relu"
    assert ("Gemm" in kinds(graph)) == (len(shape) == 2)


def test_an_operator_set_that_is_too_old() -> None:
    for opset, line, message in (
        (5, "%y = add(%x, %x) : f32[3,7]", "Add needs operator set 7, the model has 5"),
        (11, "%y = softmax(%x) {axis=0} : f32[3,7]", "Softmax needs operator set 13, the model has 11"),
        (1, "%y = pad(%x) {pads=[0,0,0,0]} : f32[3,7]", "Pad needs operator set 2, the model has 1"),
        (4, "%y = reshape(%x) {shape=[21]} : f32[21]", "Reshape needs operator set 5, the model has 4"),
        (5, "%y = clip(%x) {max=1.0} : f32[3,7]", "Clip needs operator set 6, the model has 5"),
    ):
        graph = graph_of("input %x : f32[3,7]", line, "output %y", opset=opset)
        with pytest.raises(CompileError) as caught:
            to_model(graph)
        assert str(caught.value) == message


@pytest.mark.parametrize(("opset", "made"), [(7, ["HardSigmoid", "Mul"]), (14, ["HardSwish"])])
def test_hardswish_of_any_operator_set(opset: int, made: list[str]) -> None:
    graph = graph_of("input %x : f32[3,7]", "%y = hardswish(%x) : f32[3,7]", "output %y", opset=opset)
    assert kinds(graph) == made
    x = random(3, 7) * 4
    np.testing.assert_allclose(run(to_model(graph), {"x": x})[0], x * np.clip(x / 6 + 0.5, 0, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("opset", "axis", "written"), [(9, -1, 2), (9, 2, 2), (13, -1, 2), (13, 1, 1), (13, -2, -2)])
def test_softmax_of_any_operator_set(opset: int, axis: int, written: int) -> None:
    graph = graph_of(
        "input %x : f32[2,3,5]", f"%y = softmax(%x) {{axis={axis}}} : f32[2,3,5]", "output %y", opset=opset
    )
    made = to_model(graph)
    assert helper.get_node_attr_value(made.graph.node[0], "axis") == written
    x = random(2, 3, 5)
    wanted = np.exp(x) / np.exp(x).sum(axis, keepdims=True)
    np.testing.assert_allclose(run(made, {"x": x})[0], wanted, rtol=1e-5, atol=1e-6)


def test_an_activation_that_is_not_there() -> None:
    head = ["input %x : f32[3,7]", "weight %w = 00000001 : f32[5,7]"]
    graph = graph_of(*head, "%y = dense(%x, %w) {act=tanh} : f32[3,5]", "output %y")
    with pytest.raises(CompileError, match=r"^%y: there is no activation 'tanh'$"):
        to_model(graph)


@pytest.mark.parametrize(
    "op", ["Relu", "GlobalAveragePool", "HardSigmoid", "Flatten", "Transpose", "Softmax", "ArgMax"]
)
def test_the_oldest_operator_sets_go_in_and_out(op: str) -> None:
    made = model("float[1,2,3,4] x", f"y = {op} (x)", opset=1)
    again = to_model(from_model(made))
    assert [node.op_type for node in again.graph.node] == [op]


def test_a_graph_without_operator_sets_gets_one() -> None:
    graph = parse("graph @g {\n input %x : f32[2]\n %y = onnx.Relu(%x) : f32[2]\n output %y\n}")
    assert run(to_model(graph), {"x": np.array([-1, 1], np.float32)})[0].tolist() == [0, 1]
    assert [(entry.domain, entry.version) for entry in to_model(graph).opset_import] == [("", 17)]


def test_every_hardware_op_can_be_written() -> None:
    assert set(EMIT) == set(OPS)
    assert {op for op, _ in RULES.values()} == set(OPS) - {"quantize"}


# Names


def test_outside_names_that_are_also_names_inside() -> None:
    graph = graph_of(
        'input %y as "a" : f32[2]',
        'input %out.sum as "b" : f32[2]',
        "weight %w = [1.0,2.0] : f32[2]",
        "%a = add(%y, %w) : f32[2]",
        "%b = mul(%a, %out.sum) : f32[2]",
        'output %b as "y"',
        'output %a as "w"',
        'output %a as "second"',
        'output %w as "third"',
        'output %y as "copy"',
    )
    made = to_model(graph)
    onnx.checker.check_model(made)
    assert [info.name for info in made.graph.input] == ["a", "b"]
    assert [info.name for info in made.graph.output] == ["y", "w", "second", "third", "copy"]
    a, b = np.array([3, 5], np.float32), np.array([2, 4], np.float32)
    found = run(made, {"a": a, "b": b})
    total = a + np.array([1, 2])
    for array, wanted in zip(found, (total * b, total, total, [1, 2], a), strict=True):
        assert array.tolist() == list(wanted)
    again = from_model(made)
    verify(again)
    assert [array.tolist() for array in run(to_model(again), {"a": a, "b": b})] == [array.tolist() for array in found]


def test_names_made_by_the_writer_meet_none_of_the_graphs() -> None:
    graph = graph_of(
        "input %x : f32[1,7]",
        "weight %w = 00000001 : f32[5,7]",
        "%y = dense(%x, %w) {act=relu} : f32[1,5]",
        "output %y",
        'output %w as "y.sum"',
        'output %x as "y.act"',
    )
    made = to_model(graph)
    onnx.checker.check_model(made)
    assert len(run(made, {"x": random(1, 7)})) == 3


def test_onnx_names_become_names_once() -> None:
    nodes = [
        helper.make_node("Relu", ["image:0"], ["/conv1/Relu_output_0"], "/conv1/Relu"),
        helper.make_node("Relu", ["/conv1/Relu_output_0"], ["node 3:0"], ""),
        helper.make_node("Relu", ["node 3:0"], ["node_3_0"], "n"),
        helper.make_node("Split", ["node_3_0"], ["", "b"], "s", axis=0),
        helper.make_node("Relu", ["b"], ["score"], "last"),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "main graph", [info("image:0", 1, [4])], [info("score", 1, [2])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    found = from_model(made)
    verify(found)
    assert to_text(found).split("\n") == [
        'graph @"main graph" {',
        "  opset ai.onnx=11",
        '  input %image_0 as "image:0" : f32[4]',
        "  %conv1 = relu(%image_0) : f32[4]",
        "  %node_3_0 = relu(%conv1) : f32[4]",
        "  %node_3_0.1 = relu(%node_3_0) : f32[4]",
        "  %_onnx.Split_.unread0, %b = onnx.Split(%node_3_0.1) {axis=0} : ?, f32[2]",
        "  %last = relu(%b) : f32[2]",
        '  output %last as "score"',
        "}",
        "",
    ]
    assert [node.source for node in found.nodes] == [
        'Relu "/conv1/Relu"',
        "Relu",
        'Relu "n"',
        'Split "s"',
        'Relu "last"',
    ]


# Constants and attributes


def test_constants_become_weights() -> None:
    for attribute, text in (
        ("value = float[2] {1.5, 2.5}", "[1.5,2.5] : f32[2]"),
        ("value_float=1.5", "[1.5] : f32[]"),
        ("value_floats=[1.5,2.0]", "[1.5,2.0] : f32[2]"),
        ("value_int=3", "[3] : i64[]"),
        ("value_ints=[3,4]", "[3,4] : i64[2]"),
    ):
        made = model("float[2] x", f"c = Constant <{attribute}> ()  y = Foo (x, c)")
        made.graph.node[1].domain = "custom"
        weight = from_model(made).values["c"]
        assert weight.tensor is not None
        assert f"weight %c = {text}" in to_text(from_model(made))
    for attribute, wanted in (('value_string="é"', np.array("é", object)), ('value_strings=["a","b"]', ["a", "b"])):
        made = model("float[2] x", f"c = Constant <{attribute}> ()  y = Foo (x, c)")
        weight = from_model(made).values["c"]
        assert weight.tensor is not None
        assert weight.tensor.data.tolist() == np.array(wanted, object).tolist()
        assert str(weight.type).startswith("str[")
    values = helper.make_tensor("v", 1, [2], [5.0, 7.0])
    for indices in (helper.make_tensor("i", 7, [2], [1, 5]), helper.make_tensor("i", 7, [2, 2], [0, 1, 1, 2])):
        sparse = helper.make_sparse_tensor(values, indices, [2, 3])
        made = model("float[2] x", "y = Foo (x, c)")
        made.graph.node.insert(0, helper.make_node("Constant", [], ["c"], sparse_value=sparse))
        weight = from_model(made).values["c"]
        assert weight.tensor is not None
        assert weight.tensor.data.tolist() == [[0, 5, 0], [0, 0, 7]]


def test_attributes_of_every_kind_go_in_and_out() -> None:
    node = helper.make_node("Foo", ["x"], ["y"], domain="custom")
    tensor = numpy_helper.from_array(np.arange(40.0), "")
    inner = helper.make_graph([], "inner", [], [])
    kind = helper.make_tensor_type_proto(1, ["N", 2])
    for name, value in {
        "f": 0.5,
        "whole": 2.0,
        "i": 3,
        "s": "text",
        "bytes": b"\xff\x00",
        "floats": [0.5, 2.0],
        "ints": [1, 2],
        "strings": ["a", "b"],
        "t": tensor,
        "tensors": [tensor, tensor],
        "g": inner,
        "type": kind,
        "types": [kind, helper.make_sequence_type_proto(kind)],
    }.items():
        node.attribute.append(helper.make_attribute(name, value))
    for name, type in (("no_ints", 7), ("no_floats", 6), ("no_strings", 8)):
        node.attribute.append(onnx.AttributeProto(name=name, type=type))
    info = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph([node], "g", [info("x", 1, [2])], [info("y", 1, None)]),
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("custom", 1)],
        ir_version=8,
    )
    graph = from_model(made)
    again = parse(to_text(graph), {"x": np.zeros(1)} | {t.key: t.data for t in [Tensor(np.arange(40.0))]})
    for one in (graph, again):
        found = to_model(one).graph.node[0].attribute
        wanted = {attribute.name: attribute for attribute in node.attribute}
        assert {attribute.name: attribute for attribute in found} == wanted


@pytest.mark.parametrize(
    "text",
    [
        *(f"{name}[2,N]" for name in DTYPES),
        "f32[*]",
        "f32[]",
        'f32[?,0,"a b",batch]',
        "seq<f32[*]>",
        "optional<seq<str[N]>>",
        "seq<map<i64[],f32[2]>>",
        "map<str[],seq<i8[]>>",
        "sparse<f64[3,4]>",
        "optional<?>",
    ],
)
def test_types_go_in_and_out(text: str) -> None:
    proto = write_type(parse_type(text))
    assert proto is not None
    assert str(read_type(proto)) == text


def test_types_that_onnx_leaves_open() -> None:
    assert write_type(UNKNOWN) is None
    assert read_type(onnx.TypeProto()) == UNKNOWN
    assert read_type(helper.make_tensor_type_proto(99, [1])) == UNKNOWN
    assert str(read_type(helper.make_tensor_type_proto(1, [None, "", 3]))) == "f32[?,?,3]"
    assert element_of(Type(fixed(8), (2,))) == onnx.TensorProto.FLOAT
    assert str(read_type(write_type(Type(fixed(8), (2,))) or onnx.TypeProto())) == "f32[2]"


def test_functions_of_a_model_are_inlined() -> None:
    made = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13, "local" : 1]>
        g (float[2,7] x) => (float[] y) { h = local.twice (x)  y = local.twice (h) }
        <opset_import: ["" : 13], domain: "local"> twice (a) => (b) { r = Relu (a)  b = Add (r, r) }"""
    )
    graph = from_model(made)
    verify(graph)
    assert [node.op for node in graph.nodes] == ["relu", "add", "relu", "add"]
    assert_same_outputs(made, graph)


def test_metadata_operator_sets_and_names_of_the_default_domain() -> None:
    made = model("float[2] x", "y = Relu (x)")
    made.opset_import[0].domain = "ai.onnx"
    made.graph.node[0].domain = "ai.onnx"
    made.opset_import.append(helper.make_opsetid("custom", 3))
    helper.set_model_props(made, {"author": "me", "bitwright.format.gone": "FIXED 8"})
    graph = from_model(made)
    assert graph.opsets == {"": 13, "custom": 3}
    assert graph.metadata == {"author": "me", "bitwright.format.gone": "FIXED 8"}
    assert lines(graph) == ["%y = relu(%x) : f32[2]"]
    again = to_model(graph)
    assert {(entry.domain, entry.version) for entry in again.opset_import} == {("", 13), ("custom", 3)}
    assert {entry.key: entry.value for entry in again.metadata_props} == graph.metadata
    assert (again.producer_name, again.graph.name) == ("bitwright", "g")


def test_results_that_nobody_reads() -> None:
    """An optional one is left out, as it was; one that must be there stays."""
    made = model("float[4] x", "a, b = Split <axis=0> (x)  y = Relu (b)", opset=11)
    graph = from_model(made)
    assert list(to_model(graph).graph.node[0].output) == ["a", "b"]
    assert_same_outputs(made, graph)
    made = model("float[1,2,8,8] x", "p, i = MaxPool <kernel_shape=[2,2]> (x)  y = Relu (p)")
    graph = from_model(made)
    assert list(to_model(graph).graph.node[0].output) == ["p", ""]
    assert_same_outputs(made, graph)


# Overridable inputs


def test_an_initialiser_that_is_an_input_too() -> None:
    made = model("float[3,7] x, float[5,7] w", "y = Gemm <transB=1> (x, w)", {"w": random(5, 7)})
    graph = lowers(made, "%y = dense(%x, %w) : f32[3,5]")
    assert [value.name for value in graph.inputs] == ["x", "w"]
    assert "input %w = " in to_text(graph)
    assert graph.weights == []
    other = feeds(made) | {"w": random(5, 7, seed=9)}
    assert_same_outputs(made, graph, other)
    assert not np.allclose(run(made, feeds(made))[0], run(made, other)[0])
    made.ir_version = 3
    graph = from_model(made)
    assert [value.name for value in graph.inputs] == ["x"]
    assert [value.name for value in graph.weights] == ["w"]
    assert_same_outputs(made, graph)


def test_what_a_caller_may_override_is_no_constant() -> None:
    """A default that another value may replace is not folded into the op."""
    w, b = random(7, 5), random(5)
    for inputs, body, weights, other in (
        ("float[3,7] x, float[7,5] w", "y = Gemm (x, w)", {"w": w}, {"w": w + 1}),
        ("float[3,7] x, float[5] b", "y = Gemm <beta=2.0> (x, w, b)", {"w": w, "b": b}, {"b": b + 1}),
        ("float[3,7] x, int64[2] s", "y = Reshape (x, s)", {"s": np.array([7, 3])}, {"s": np.array([-1, 1])}),
        ("float[3,7] x, float m", "y = Clip (x, m)", {"m": np.float32(0)}, {"m": np.float32(1)}),
        ("float[3,7] x, int64[4] p", "y = Pad (x, p)", {"p": np.zeros(4, np.int64)}, {"p": np.ones(4, np.int64)}),
    ):
        made = model(inputs, body, weights)
        graph = from_model(made)
        verify(graph)
        for data in (feeds(made), feeds(made) | other):
            assert_same_outputs(made, graph, data)
        made.ir_version = 3
        assert from_model(made).nodes[0].op in OPS


# Formats in a model


def test_chosen_formats_come_back_from_a_model(tmp_path: Path, check: Check) -> None:
    text = """graph @net {
  opset ai.onnx=13
  meta "author" = "me"
  input %x as "image:0" : FIXED<8,B=1>[1,2,8,8]
  weight %w = 00000001 : EXP<4,B={1,2,3}@0>[3,2,3,3]
  weight %b = [1.0,2.0,3.0] : FIXED<16>[3]
  weight %d = 00000002 : AFFINE<4,scale=0.5,zero=1.5,signed>[5,48]
  %conv1 = conv2d(%x, %w, %b) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<4,B=-1>[1,3,8,8]
  %pool1 = maxpool2d(%conv1) {kernel=[2,2], strides=[2,2]} : FIXED<4,B=-1>[1,3,4,4]
  %flat = flatten(%pool1) : FIXED<4,B=-1>[1,48]
  %y = dense(%flat, %d) : FLOAT<16>[1,5]
  output %y as "score"
}
"""
    graph = parse(text)
    save(graph, tmp_path / "net.onnx")
    again = load(tmp_path / "net.onnx")
    check(again)
    made = onnx.load(tmp_path / "net.onnx")
    assert {entry.key for entry in made.metadata_props} == {"author"} | {
        "bitwright.format." + name for name in ("image:0", "w", "b", "d", "conv1", "pool1", "flat", "score")
    }
    edit.rename(again, again.inputs[0], "x")
    edit.rename(again, again.outputs[0].value, "y")
    for name in ("w", "d"):  # made-up data have the hash that the text gives; read ones have their own
        assert again.values[name].tensor is not None
        assert graph.values[name].tensor is not None
        assert np.array_equal(again.values[name].tensor.data, graph.values[name].tensor.data)  # type: ignore[union-attr]
        edit.set_tensor(again.values[name], graph.values[name].tensor)  # type: ignore[arg-type]
    assert to_text(again) == text


def test_formats_follow_the_name_that_a_value_has_in_the_model() -> None:
    graph = graph_of('input %y as "a" : FIXED<8,B=1>[2]', "%a = relu(%y) : FIXED<8,B=2>[2]", 'output %a as "y"')
    again = from_model(to_model(graph))
    assert str(again.inputs[0].type) == "FIXED<8,B=1>[2]"
    assert str(again.outputs[0].value.type) == "FIXED<8,B=2>[2]"
    made = model("float[2] x", "y = Relu (x)")
    helper.set_model_props(made, {"bitwright.format.nobody": "FIXED 8", "bitwright.format.y": "FIXED 8 2"})
    graph = from_model(made)
    assert graph.metadata == {"bitwright.format.nobody": "FIXED 8"}
    assert str(graph.values["y"].type) == "FIXED<8,B=2>[2]"


# Damaged files


def refused(path: Path) -> str:
    with pytest.raises(CompileError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def network() -> onnx.ModelProto:
    body = """c = Conv <pads=[1,1,1,1]> (x, w, b)
        r = Relu (c)
        p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r)
        k = Constant <value_ints=[1,-1]> ()
        f = Reshape (p, k)
        y = Gemm <transB=1, alpha=0.5> (f, v)"""
    return model("float[1,2,8,8] x", body, {"w": random(4, 2, 3, 3), "b": random(4), "v": random(5, 64)})


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    data = network().SerializeToString()
    no_graph = "not an ONNX model, or cut short (it has no graph)"
    for content in (b"", b"\x08\x08", onnx.ModelProto(ir_version=8).SerializeToString()):
        path.write_bytes(content)
        assert refused(path) == no_graph
    for content in (b"hello, I am no model\n", b"\x89PNG\r\n\x1a\n" + bytes(100), data[:-100], data[: len(data) // 2]):
        path.write_bytes(content)
        assert refused(path).startswith("not an ONNX model, or cut short (")
    path.write_bytes(data)
    assert load(path).nodes[0].op == "conv2d"


def test_models_that_are_cut_or_changed_anywhere(tmp_path: Path) -> None:
    """Whatever bytes are damaged: a graph or an error that names the file."""
    path = tmp_path / "net.onnx"
    data = network().SerializeToString()
    random_numbers = np.random.default_rng(0)
    refusals = []
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(random_numbers.integers(1, 4)):
            at = random_numbers.integers(0, 420 if random_numbers.random() < 0.8 else len(data))
            damaged[at] = random_numbers.integers(0, 256)
        path.write_bytes(damaged[: random_numbers.integers(len(data))] if random_numbers.random() < 0.1 else damaged)
        try:
            load(path)
        except CompileError as error:
            refusals.append(str(error))
    assert 100 < len(refusals) < 399
    assert all(message.startswith(f"{path}: ") for message in refusals)


def test_graphs_that_are_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"

    def said(body: str, change: Callable[[onnx.GraphProto], object] = lambda graph: None) -> str:
        made = model("float[2] x", body)
        change(made.graph)
        onnx.save(made, path)
        return refused(path)

    assert said("a = Relu (b)  b = Relu (a)  y = Relu (x)") == 'the graph has a cycle through "Relu", "Relu"'
    name = [lambda graph: setattr(graph.node[0], "name", "relu_1")]
    assert said("a = Add (x, a)  y = Relu (a)", name[0]) == 'the graph has a cycle through "relu_1", "Relu"'
    assert said("y = Relu (z)") == 'node "Relu" reads "z", which nothing produces'
    assert said("y = Relu (z)", name[0]) == 'node "relu_1" reads "z", which nothing produces'
    assert said("z = Relu (x)") == 'output "y" is produced by no node'
    body = (
        "y = If (x) <then_branch = t () => (float[] a) { a = Relu (b) },"
        " else_branch = e () => (float[] b) { b = Relu (x) }>"
    )
    assert said(body) == 'node "Relu" reads "b", which nothing produces'
    constant = "c = Constant <value_int=1> ()  y = Add (x, c)"
    for change in (
        lambda graph: graph.node[0].attribute.pop(),
        lambda graph: graph.node[0].output.pop(),
        lambda graph: setattr(graph.node[0].attribute[0], "name", "valeu"),
        lambda graph: setattr(graph.node[0].attribute[0], "type", 0),
        lambda graph: setattr(graph.node[0].attribute[0], "name", "value_ints"),
    ):
        message = said(constant, change)
        assert message in (
            'node "Constant" is a constant without a value',
            'node "Add" reads "c", which nothing produces',
        )
    assert said("y = Foo <a=1> (x)", lambda graph: setattr(graph.node[0].attribute[0], "type", 0)) == (
        'attribute "a" of node Foo has no type that ONNX defines'
    )
    tensor = helper.make_tensor("w", 1, [3], [1, 2, 3])
    tensor.dims[0] = 4
    assert said("y = Add (x, w)", lambda graph: graph.initializer.append(tensor)).startswith('tensor "w" is damaged: ')
    shape = helper.make_tensor("w", 1, [3], [1, 2, 3])
    shape.dims[0] = -3
    assert said("y = Add (x, w)", lambda graph: graph.initializer.append(shape)) == (
        'tensor "w" is damaged: its shape is [-3]'
    )
    kind = helper.make_tensor("w", 1, [1], [1])
    kind.data_type = 99
    assert said("y = Add (x, w)", lambda graph: graph.initializer.append(kind)) == (
        'tensor "w" has element type 99, which ONNX does not define'
    )
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", 1, [1], [5.0]), helper.make_tensor("i", 7, [1], [9]), [2]
    )
    message = said("y = Add (x, w)", lambda graph: graph.sparse_initializer.append(sparse))
    assert message.startswith('sparse tensor "w" is damaged: ')


def test_nodes_in_any_order(check: Check) -> None:
    made = network()
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    graph = from_model(made)
    check(graph)
    verify(graph)
    assert [node.name for node in graph.nodes] == ["c", "r", "p", "f", "y"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    data = model("float[2] x", "zzzz = Relu (x)  y = Relu (zzzz)").SerializeToString()
    path.write_bytes(data.replace(b"zzzz", b"\xff\xfe\xfd\xfc"))
    assert refused(path) == r"the name b'\xff\xfe\xfd\xfc' is not UTF-8"


# External data


def external(folder: Path, names: tuple[str, ...] = ("w", "b", "v")) -> Path:
    """The network with the data of some weights in net.bin."""
    made = network()
    at = 0
    with open(folder / "net.bin", "wb") as file:
        for tensor in made.graph.initializer:
            if tensor.name not in names:
                continue
            raw = tensor.raw_data
            file.write(raw)
            set_external_data(tensor, "net.bin", at, len(raw))
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            at += len(raw)
    path = folder / "net.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def test_external_data_are_read_when_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = external(tmp_path)
    mapped: list[int] = []
    memmap = np.memmap

    def spy(*arguments: object) -> np.memmap:
        mapped.append(int(arguments[3]))  # type: ignore[call-overload]
        return memmap(*arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "memmap", spy)
    graph = load_onnx(path)
    verify(graph)
    assert [node.op for node in graph.nodes] == ["conv2d", "relu", "maxpool2d", "reshape", "dense"]
    assert mapped == []
    tensors = {name: graph.values[name].tensor for name in "wbv"}
    assert all(tensor is not None and tensor._array is None for tensor in tensors.values())
    tensor = tensors["v"]
    assert tensor is not None
    assert tensor.data.shape == (5, 64)
    assert tensor.data is tensor.data
    assert mapped == [4 * (4 * 2 * 9 + 4)]  # alpha was folded into what is read only now
    assert np.array_equal(tensor.data, np.float32(0.5) * random(5, 64))
    x = feeds(network())
    np.testing.assert_allclose(run(to_model(graph), x)[0], run(network(), x)[0], rtol=1e-5, atol=1e-5)
    assert len(mapped) == 3


def test_external_data_that_are_missing_or_short(tmp_path: Path) -> None:
    path = external(tmp_path)
    data = tmp_path / "net.bin"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    assert refused(path) == 'external data "net.bin" ends before tensor "v" does'
    data.write_bytes(whole[:280])
    assert refused(path) == 'external data "net.bin" ends before tensor "w" does'
    data.unlink()
    assert refused(path) == 'external data "net.bin" of tensor "w" is not beside the model'


@pytest.mark.parametrize(
    "name", ["f32", "f64", "f16", "bf16", "f8e4m3fn", "f8e5m2", "i8", "u8", "i64", "bool", "i4", "u4", "f4e2m1"]
)
def test_external_data_of_every_element_type(name: str, tmp_path: Path) -> None:
    dtype = DTYPES[name]
    values = np.arange(-3, 4) if name[0] in "fbi" and name != "bool" else np.arange(7)
    array = values.astype(dtype)
    tensor = numpy_helper.from_array(array, "w")
    raw = tensor.raw_data
    (tmp_path / "w.bin").write_bytes(b"12345" + raw)
    set_external_data(tensor, "w.bin", 5, len(raw))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    info = helper.make_tensor_value_info("w", tensor.data_type, [7])
    graph = helper.make_graph([], "g", [], [info], [tensor])
    path = tmp_path / "net.onnx"
    onnx_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path.write_bytes(onnx_model.SerializeToString())
    found = load(path).values["w"].tensor
    assert found is not None
    assert found.data.dtype == dtype
    assert found.data.tobytes() == array.tobytes()
    (tmp_path / "w.bin").write_bytes(b"12345" + raw[:-1])
    assert refused(path) == 'external data "w.bin" ends before tensor "w" does'


def big() -> Graph:
    graph = parse(
        """graph @big {
  opset ai.onnx=21
  input %x : f32[2,2048]
  weight %w = 00000001 : f32[64,2048]
  weight %small = [1.0] : f32[1]
  weight %q = 00000003 : i4[10001]
  weight %s = 00000004 : str[1000]
  weight %h = 00000005 : f16[5000]
  %y = dense(%x, %w) : f32[2,64]
  %z = add(%y, %small) : f32[2,64]
  %k = onnx.Identity(%h) : f16[5000]
  %l = onnx.DequantizeLinear(%q, %small) : f32[10001]
  %t = onnx.Identity(%s) : str[1000]
  output %z
  output %k
  output %l
  output %t
}
"""
    )
    verify(graph)
    return graph


def test_weights_too_large_for_one_message_go_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = big()
    x = {"x": random(2, 2048)}
    wanted = run(to_model(graph), x)
    path, beside = tmp_path / "big.onnx", tmp_path / "big.onnx.data"
    save(graph, path)
    assert not beside.exists()
    monkeypatch.setattr(write, "LIMIT", 1000)
    save(graph, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    made = onnx.load(path, load_external_data=False)
    outside = {t.name: {e.key: e.value for e in t.external_data} for t in made.graph.initializer if t.external_data}
    assert set(outside) == {"w", "h"}
    assert outside["w"] == {"location": "big.onnx.data", "offset": "0", "length": str(64 * 2048 * 4)}
    assert int(outside["h"]["offset"]) % write.ALIGNMENT == 0
    for found in (run(path, x), run(to_model(load(path)), x)):
        for a, b in zip(found, wanted, strict=True):
            assert np.array_equal(a, b)
    again = load(path)
    for name, value in graph.values.items():
        other = again.values[name].tensor
        if value.tensor is not None:
            assert other is not None
            assert other.data.tolist() == value.tensor.data.tolist()
            assert other.dtype == value.tensor.dtype


def test_a_model_is_saved_over_the_file_that_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "LIMIT", 1000)
    path = tmp_path / "big.onnx"
    save(big(), path)
    x = {"x": random(2, 2048)}
    wanted = run(path, x)
    for _ in range(2):
        graph = load(path)  # its weights are mapped from the file beside
        edit.add_weight(graph, "more", Tensor(np.zeros(3000, np.float32)))
        edit.rename(graph, graph.values["more"], edit.unique_name(graph, "more"))
        graph.values = dict(reversed(graph.values.items()))  # in another order, so at another place of the file
        save(graph, path)
        for a, b in zip(run(path, x), wanted, strict=True):
            assert np.array_equal(a, b)


def test_ml_dtypes_go_through_a_model() -> None:
    for name, dtype in DTYPES.items():
        if name in ("str", "i2", "u2", "f8e8m0"):
            continue
        graph = Graph("g", {"": 23})
        array = np.array([1, 0, 1], dtype)
        edit.add_output(graph, edit.add_weight(graph, "w", Tensor(array)))
        tensor = from_model(to_model(graph)).weights[0].tensor
        assert tensor is not None
        assert tensor.dtype == dtype
        assert tensor.data.tobytes() == array.tobytes(), name
    assert ml_dtypes.bfloat16 in {dtype.type for dtype in DTYPES.values()}
