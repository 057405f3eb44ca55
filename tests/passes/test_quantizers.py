"""Quantised models of other tools: QONNX's own examples, and what onnxruntime.quantization makes of LeNet-5."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnxruntime import quantization

from bitwright.backends.simulation.run import Simulation, session_of
from bitwright.backends.simulation.score import score, top
from bitwright.ir.files import load
from bitwright.models.datasets import load as load_data
from bitwright.passes import STRUCTURE, run_passes

LENET = Path(__file__).parents[2] / "models" / "lenet5.onnx"


class Quant(OpRun):
    """QONNX's Quant by its definition: round((x / scale) + zero) within the range of so many bits."""

    op_domain = "onnx.brevitas"

    def _run(self, x, scale, zero, bits, narrow=0, rounding_mode="ROUND", signed=1):  # type: ignore[no-untyped-def]
        assert rounding_mode == "ROUND"
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        q = np.rint(np.clip(x / scale + zero, low, high))
        return (((q - zero) * scale).astype(np.float32),)


GeneralQuant = type("Quant", (Quant,), {"op_domain": "qonnx.custom_op.general"})


class FloatQuant(OpRun):
    """QONNX's FloatQuant: as many leading digits as the mantissa has, of x / scale, saturating."""

    op_domain = "onnx.brevitas"

    def _run(self, x, scale, n_e, n_f, bias, largest, **flags):  # type: ignore[no-untyped-def]
        y = (x / scale).astype(np.float64)
        quantum = np.exp2(np.maximum(np.frexp(y)[1] - 1 - n_f, 1 - bias - n_f))
        return ((np.clip(np.rint(y / quantum) * quantum, -largest, largest) * scale).astype(np.float32),)


def examples() -> Path:
    spec = importlib.util.find_spec("qonnx")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("qonnx is not installed: pip install --no-deps qonnx==1.0.0")
    return Path(spec.submodule_search_locations[0]) / "data" / "onnx"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("bsd300x3-espcn/subpixel/quant_model.onnx", 24),
        ("bsd300x3-espcn/nn_resize/quant_model.onnx", 24),
        ("eltwise_chanlast_testcase.onnx", 31),
        ("floatquant_exec/qonnx_act_weight_fp8.onnx", 3),
    ],
)
def test_qonnx_examples_become_formats_and_compute_the_same(name: str, size: int) -> None:
    path = examples() / name
    graph = run_passes(load(path), STRUCTURE)
    assert not [node.op for node in graph.nodes if "Quant" in node.op]
    assert any(value.tensor_type.number is not None for value in graph.values.values())
    model = onnx.load(path)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    if len(shape) == 4:  # these are convolutions all the way: a small picture will do
        shape = [1, shape[1], size, size]
        model.graph.input[0].type.CopyFrom(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape))
    x = np.random.default_rng(0).random(shape, np.float32)
    for entry in model.opset_import:  # ONNX's reference of the older BatchNormalization trains
        entry.version = 15 if entry.domain == "" else 1
    model.opset_import.extend([onnx.helper.make_opsetid("qonnx.custom_op.general", 1)])
    oracle = ReferenceEvaluator(model, new_ops=[Quant, GeneralQuant, FloatQuant])
    (expected,) = oracle.run(None, {model.graph.input[0].name: x})
    found = simulated(path, x)
    # float32 sums of another order may round to the neighbour now and then, never further
    steps = np.unique(expected)
    step = np.diff(steps).min() if len(steps) > 1 else 1.0
    assert (np.abs(found - expected) > 0.5 * step).mean() < 0.01
    assert np.abs(found - expected).max() <= 4 * np.diff(steps).max()


def simulated(path: Path, x: np.ndarray) -> np.ndarray:
    """The example on a picture of another size than it was exported with."""
    from bitwright.ir.onnx.read import from_model

    model = onnx.load(path)
    for info in (model.graph.input[0], *model.graph.output):
        kind = info.type.tensor_type
        kind.ClearField("shape")
    model.graph.input[0].type.CopyFrom(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, list(x.shape)))
    graph = run_passes(from_model(model), STRUCTURE)
    (found,) = Simulation(graph, 1).run({model.graph.input[0].name: x}).values()
    return found


class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: np.ndarray) -> None:
        self.batches = iter(np.split(x, 4))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_statically_quantised_lenet_keeps_its_accuracy(tmp_path: Path, per_channel: bool, symmetric: bool) -> None:
    """To the last image: the model in onnxruntime, and its import in the simulation."""
    target = tmp_path / "quantised.onnx"
    quantization.quantize_static(
        str(LENET),
        str(target),
        Calibration(load_data("mnist", "train", 200).x),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
    )
    test = load_data("mnist", "test")
    assert test.y is not None
    session = session_of(str(target), 2)
    logits = np.concatenate([session.run(None, {"image": part})[0] for part in np.array_split(test.x, 50)])
    graph = run_passes(load(target), STRUCTURE)
    assert not [node.op for node in graph.nodes if node.op.startswith("onnx.")]
    assert all(node.result.tensor_type.number is not None for node in graph.nodes if node.op in ("conv2d", "dense"))
    assert score(graph, test.x, test.y).value == top(1, logits, test.y)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_quantised_mean_of_the_image_is_a_pooling(tmp_path: Path, keepdims: int) -> None:
    """What `x.mean([2, 3])` becomes behind a quantised convolution: within the last steps of what onnxruntime gives."""
    flat = "f = Flatten (m)  y = Gemm (f, v)" if keepdims else "y = Gemm (m, v)"
    body = f"c = Conv (image, w)  m = ReduceMean <axes=[2,3], keepdims={keepdims}> (c)  {flat}"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 13]> g (float[n,3,6,6] image) => (float[n,5] y) {{ {body} }}'
    )
    rng = np.random.default_rng(0)
    x, w, v = (rng.standard_normal(size).astype(np.float32) for size in ((16, 3, 6, 6), (4, 3, 3, 3), (4, 5)))
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in (("w", w), ("v", v)))
    onnx.save(model, tmp_path / "float.onnx")
    target = tmp_path / "quantised.onnx"
    format = quantization.QuantFormat.QDQ
    quantization.quantize_static(tmp_path / "float.onnx", target, Calibration(x), quant_format=format)
    graph = run_passes(load(target), STRUCTURE)
    assert {node.op for node in graph.nodes} == {"conv2d", "globalavgpool", "flatten", "dense"}
    (wanted,) = session_of(str(target), 1).run(None, {"image": x})
    (found,) = Simulation(graph, 1).run({"image": x}).values()
    means = [node.result.tensor_type.number for node in graph.nodes if node.op == "globalavgpool"]
    assert means
    assert None not in means
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
