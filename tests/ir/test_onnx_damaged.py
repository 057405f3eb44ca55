"""Files that are no models, damaged ones, and graphs that are not whole are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnx_models import model, network, refused

from bitwright.ir.errors import CompileError
from bitwright.ir.files import load


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    data = network().SerializeToString()
    way_out = "\n  help: give an .onnx or .ir file; one that was cut short is to be exported or copied again"
    no_graph = "not an ONNX model, or cut short (it has no graph)" + way_out
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


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    data = model("float[2] x", "zzzz = Relu (x)  y = Relu (zzzz)").SerializeToString()
    path.write_bytes(data.replace(b"zzzz", b"\xff\xfe\xfd\xfc"))
    assert refused(path) == r"the name b'\xff\xfe\xfd\xfc' is not UTF-8"
