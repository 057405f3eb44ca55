"""Hardware ops as ONNX nodes: fused activations and pools, any rank, any operator set that is not too old."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import helper
from onnx_models import graph_of, model, random, run

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.emit import EMIT
from bitwright.ir.onnx.lower import RULES
from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.ops import OPS
from bitwright.ir.parse import parse
from bitwright.ir.verify import verify


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
