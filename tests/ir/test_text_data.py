"""The data of a graph in text and beside it: every element type, hashes, data made from the text alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from graph_equality import same_array

from bitwright.ir import edit
from bitwright.ir.files import load, save, store
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import to_text
from bitwright.ir.types import DTYPES, UNKNOWN, Native, Type


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 7), (0, 2), (5, 0)])
def test_every_element_type_survives_files(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    dtype = DTYPES[name]
    random = np.random.default_rng(1)
    if name == "str":
        pool = np.array(["", "a", "é\n", '"', b"\xff\x00", b"", "b'a'"], object)
        array = pool[random.integers(0, len(pool), shape)] if shape else np.array("x", object)
    elif name == "bool":
        array = random.integers(0, 2, shape).astype(bool)
    elif name in ("i2", "u2", "i4", "u4", "f4e2m1"):
        low = {"i2": -2, "i4": -8}.get(name, 0)
        array = random.integers(low, low + (4 if name[1] == "2" else 6), shape).astype(dtype)
    else:
        size = int(np.prod(shape)) * dtype.itemsize
        array = np.frombuffer(random.bytes(size), dtype).reshape(shape)
    graph = Graph("g")
    weight = edit.add_weight(graph, "file", Tensor(array))  # a name that numpy's own savez cannot take
    edit.add_node(graph, "onnx.Foo", [weight], {"y": UNKNOWN}, {"value": Tensor(array), "many": (Tensor(array),)})
    save(graph, tmp_path / "g.ir")
    again = load(tmp_path / "g.ir")
    assert to_text(again) == to_text(graph)
    node = again.nodes[0]
    for tensor in (again.values["file"].tensor, node.attributes["value"], node.attributes["many"][0]):  # type: ignore[index]
        assert isinstance(tensor, Tensor)
        assert tensor.dtype == dtype
        assert same_array(tensor.data, array)
        assert not tensor.data.flags.writeable
    assert again.values["file"].tensor_type == Type(Native(name), shape)


@pytest.mark.parametrize("name", DTYPES)
def test_text_alone_makes_the_same_data_every_time(name: str) -> None:
    text = f"graph @g {{\n  weight %w = 0badcafe : {name}[3,5]\n}}\n"
    first, second = (parse(text).values["w"].tensor for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.dtype, first.data.dtype, first.data.shape) == (DTYPES[name], DTYPES[name], (3, 5))
    assert first == second
    assert first.data.tobytes() == second.data.tobytes() or name == "str"
    assert first.key == "0badcafe"
    other = parse(text.replace("0badcafe", "0badcaff")).values["w"].tensor
    assert other is not None
    assert first != other
    assert hash(first) == hash(second)
    if name in ("f32", "f64", "f16", "bf16", "i64", "u8", "bool", "i4", "str"):
        assert not np.array_equal(first.data, other.data)


def test_the_hash_is_of_type_shape_and_content() -> None:
    base = np.arange(40, dtype=np.float32).reshape(4, 10)
    others = [base.astype(np.float64), base.T, base.reshape(10, 4), base + 1, -base, base.astype(np.int32)]
    keys = [Tensor(array).key for array in (base, *others)]
    assert len(set(keys)) == len(keys)
    assert Tensor(base.copy()).key == Tensor(np.asfortranarray(base)).key == keys[0]
    assert all(re.fullmatch("[0-9a-f]{8}", key) for key in keys)
    assert Tensor(np.arange(4)) != 4
    texts = [["ab", "c"], ["a", "bc"], [b"ab", b"c"], ["ab", b"c"]]
    keys = [Tensor(np.array(items, object)).key for items in texts]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("array", "key"),
    [
        (np.arange(6, dtype=np.float32).reshape(2, 3), "105dad27"),
        (np.array(["a", "é", b"b"], object), "a53d4174"),
        (np.arange(4).astype(ml_dtypes.int4), "e927c45c"),
        (np.zeros(0, np.int64), "b7dde657"),
    ],
)
def test_hashes_in_old_files_stay_right(array: np.ndarray, key: str) -> None:
    assert Tensor(array).key == key


def test_a_tensor_is_read_once_and_never_written() -> None:
    calls = []

    def read() -> np.ndarray:
        calls.append(1)
        return np.ones(3, np.float32)

    tensor = Tensor(load=read, dtype=np.dtype(np.float32), shape=(3,))
    assert (tensor.size, calls) == (3, [])
    assert tensor.data is tensor.data
    assert tensor == Tensor(np.ones(3, np.float32))
    assert calls == [1]
    for array in (tensor.data, Tensor(np.zeros(2)).data):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_strings_stand_as_json_in_the_npz() -> None:
    made = Graph("g")
    edit.add_weight(made, "s", Tensor(np.array(["a", "é", b"\x00"], object)))
    assert json.loads(store(made)["s"].tobytes()) == ["a", "é", ["00"]]
    edit.add_weight(made, "h", Tensor(np.zeros(3, ml_dtypes.float8_e5m2)))
    assert store(made)["h"].dtype == np.uint8
