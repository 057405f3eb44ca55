"""The shipped lenet5.onnx: what it is made of, and that it reads digits."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import bitwright.models
from bitwright.models import datasets

assert bitwright.models.__file__ is not None
FILE = Path(bitwright.models.__file__).parent / "lenet5.onnx"

NODES = [
    ("conv1", "Conv"),
    ("relu1", "Relu"),
    ("pool2", "MaxPool"),
    ("conv3", "Conv"),
    ("relu3", "Relu"),
    ("pool4", "MaxPool"),
    ("conv5", "Conv"),
    ("relu5", "Relu"),
    ("flatten", "Flatten"),
    ("fc6", "Gemm"),
    ("relu6", "Relu"),
    ("fc7", "Gemm"),
]
WEIGHTS = {
    "conv1.weight": (6, 1, 5, 5),
    "conv1.bias": (6,),
    "conv3.weight": (16, 6, 5, 5),
    "conv3.bias": (16,),
    "conv5.weight": (120, 16, 5, 5),
    "conv5.bias": (120,),
    "fc6.weight": (84, 120),
    "fc6.bias": (84,),
    "fc7.weight": (10, 84),
    "fc7.bias": (10,),
}


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(FILE)


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(FILE), options, providers=["CPUExecutionProvider"])


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_reads_at_least_989_of_1000_shipped_test_digits(session: onnxruntime.InferenceSession) -> None:
    digits = datasets.load("mnist", "test")
    (logits,) = session.run(["logits"], {"image": digits.x})
    assert logits.shape == (10_000, 10)
    assert np.mean(logits.argmax(axis=1) == digits.y) >= 0.989


def test_one_image_scores_as_it_does_in_a_batch(session: onnxruntime.InferenceSession) -> None:
    x = datasets.load("mnist", "test", limit=8).x
    (batch,) = session.run(None, {"image": x})
    (alone,) = session.run(None, {"image": x[3:4]})
    np.testing.assert_allclose(alone[0], batch[3], atol=1e-4)


def test_is_valid_and_of_the_stated_versions(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]


def test_takes_images_and_gives_logits(model: onnx.ModelProto) -> None:
    assert [(v.name, dims(v)) for v in model.graph.input] == [("image", ["N", 1, 28, 28])]
    assert [(v.name, dims(v)) for v in model.graph.output] == [("logits", ["N", 10])]
    types = {v.type.tensor_type.elem_type for v in [*model.graph.input, *model.graph.output]}
    assert types == {onnx.TensorProto.FLOAT}


def test_nodes_stand_in_the_order_of_the_paper(model: onnx.ModelProto) -> None:
    assert model.graph.name == "lenet5"
    assert [(node.name, node.op_type) for node in model.graph.node] == NODES


def test_values_are_named_after_their_nodes(model: onnx.ModelProto) -> None:
    made = [output for node in model.graph.node for output in node.output]
    assert made == [*(name for name, _ in NODES[:-1]), "logits"]
    assert [node.input[0] for node in model.graph.node] == ["image", *made[:-1]]


def test_weights_have_the_shapes_of_the_layers(model: onnx.ModelProto) -> None:
    assert {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer} == WEIGHTS
    assert sum(numpy_helper.to_array(tensor).size for tensor in model.graph.initializer) == 61_706


def test_weights_are_compact(model: onnx.ModelProto) -> None:
    """No stray weight widens a layer's range: what the recipe's weight decay is for."""
    for tensor in model.graph.initializer:
        assert np.abs(numpy_helper.to_array(tensor)).max() < 2.0, tensor.name
