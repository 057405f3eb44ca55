"""ONNX models in ONNX's own text, run on onnxruntime, and what each becomes as a graph and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper, parser

from bitwright.ir.errors import CompileError
from bitwright.ir.files import load
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.parse import parse
from bitwright.ir.text import node_text, to_text
from bitwright.ir.verify import verify

Arrays = Mapping[str, np.ndarray]
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


def graph_of(*text: str, opset: int = 13) -> Graph:
    return parse("\n".join(["graph @g {", f"opset ai.onnx={opset}", *text, "}"]))


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
