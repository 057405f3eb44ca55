"""Every model of onnx.backend.test that onnxruntime runs computes the same after import -> text -> parse -> export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from bitwright.ir.files import store
from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text
from bitwright.ir.verify import verify

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
NEWEST_IR = 13  # generated cases carry the newest IR version, which onnxruntime does not read yet
RANDOM = ("onnx.Bernoulli", "onnx.Dropout", "onnx.Multinomial", "onnx.RandomUniformLike", "onnx.RandomNormalLike")


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read(path: Path, info: onnx.ValueInfoProto) -> object:
    """One input of a model's test data, as onnxruntime takes it."""
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def plain(item: object) -> object:
    """An input as onnxruntime takes it: an array rather than a scalar or a TensorProto."""
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if isinstance(item, np.generic) else item


def cases() -> Iterator[tuple[str, onnx.ModelProto, dict[str, object]]]:
    """Name, model and inputs of every case that has data."""
    for kind in KINDS:
        for case in load_model_tests(kind=kind):
            name = f"{kind}/{case.name}"
            if case.model_dir is None:
                assert case.model is not None
                assert case.data_sets is not None
                names = [info.name for info in case.model.graph.input]
                arrays = [plain(x) for x in case.data_sets[0][0]]
                case.model.ir_version = min(case.model.ir_version, NEWEST_IR)
                yield name, case.model, dict(zip(names, arrays, strict=False))
                continue
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            given = {tensor.name for tensor in model.graph.initializer}
            inputs = [info for info in model.graph.input if info.name not in given]
            data = folder / "test_data_set_0"
            yield name, model, {info.name: read(data / f"input_{i}.pb", info) for i, info in enumerate(inputs)}


def run(model: bytes, feeds: dict[str, object]) -> list[object]:
    return session(model).run(None, feeds)


def same(a: object, b: object) -> bool:
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if a is None or b is None:
        return a is b
    left, right = np.asarray(a), np.asarray(b)
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind in "fc":
        return bool(np.allclose(left, right, rtol=1e-5, atol=1e-6, equal_nan=True))
    return bool(np.array_equal(left, right))


def survives(name: str, model: onnx.ModelProto, feeds: dict[str, object], expected: list[object]) -> str:
    """What is wrong after the round trip, or nothing."""
    try:
        graph = from_model(model)
        verify(graph)
        text = to_text(graph)
        again = parse(text, store(graph))
        verify(again)
        if to_text(again) != text:
            return f"{name}: the text changed"
        outputs = run(to_model(again).SerializeToString(), feeds)
    except Exception as error:
        return f"{name}: {type(error).__name__}: {str(error)[:300]}"
    if any(node.op in RANDOM for node in graph.nodes):
        return ""  # its outputs differ from run to run
    return "" if len(expected) == len(outputs) and all(map(same, expected, outputs)) else f"{name}: outputs differ"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_backend_model_survives_the_round_trip(capsys: pytest.CaptureFixture[str]) -> None:
    models = refused = 0
    failures = []
    for name, model, feeds in cases():
        models += 1
        try:
            expected = run(model.SerializeToString(), feeds)
        except Exception:  # onnxruntime raises what it likes for a model or a dtype that it does not take
            refused += 1
            continue
        failures += filter(None, [survives(name, model, feeds, expected)])
    with capsys.disabled():
        print(f"\nround trip: {models} models, {refused} refused by onnxruntime, {models - refused} compared")
    assert not failures, f"{len(failures)} failures:\n" + "\n".join(failures)
    assert models - refused > 1300
