"""Weights beside the model: read when they are used, checked at once, written where one message is too small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.external_data_helper import set_external_data
from onnx_models import feeds, network, random, refused, run

from bitwright.ir import edit
from bitwright.ir.files import load, save
from bitwright.ir.graph import Graph
from bitwright.ir.onnx import write
from bitwright.ir.onnx.read import load_onnx
from bitwright.ir.onnx.write import to_model
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import DTYPES
from bitwright.ir.verify import verify


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
