"""Graphs in files: .onnx, or .ir with the weights in an .npz of the same name beside it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.text import tensor_text, to_text
from bitwright.ir.verify import verify


def load(path: str | Path) -> Graph:
    """The graph in an .onnx or .ir file (text without an .npz beside it gets made-up weights).

    Raises CompileError if the file is not there or holds no graph.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a network" if path.is_dir() else "there is no such file"
        raise CompileError(f"{path}: {what}")
    if path.suffix == ".ir":
        beside = path.with_suffix(".npz")
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise CompileError(f"{path}: not a text file") from error
        graph = parse(text, _load_arrays(beside) if beside.is_file() else None, str(path))
    else:
        from bitwright.ir.onnx.read import load_onnx

        graph = load_onnx(path)
    verify(graph, str(path))
    return graph


def save(graph: Graph, path: str | Path) -> None:
    """Write a graph as .onnx, or as .ir and .npz. Raises CompileError for another suffix."""
    path = Path(path)
    if path.suffix == ".onnx":
        from bitwright.ir.onnx.write import save_onnx

        save_onnx(graph, path)
    elif path.suffix == ".ir":
        graph = _with_own_data(graph)
        path.write_text(to_text(graph), "utf-8", newline="\n")
        _save_arrays(store(graph), path.with_suffix(".npz"))
    else:
        raise CompileError(f"{path}: a graph is saved as .onnx or .ir")


def _with_own_data(graph: Graph) -> Graph:
    """The graph with weights that were made from hashes as weights like any other, known by their content."""
    if not any(value.tensor and value.tensor.is_made_up for inner in graph.walk() for value in inner.weights):
        return graph
    graph = edit.copy(graph)
    for inner in graph.walk():
        for value in inner.weights:
            if value.tensor is not None and value.tensor.is_made_up:
                edit.set_tensor(value, Tensor(value.tensor.data))
    return graph


def store(graph: Graph) -> Mapping[str, Array]:
    """The arrays that the text refers to by hash: weights by name, attributes by hash."""
    return {name: _storable(tensor.data) for name, tensor in _tensors(graph) if not tensor_text(tensor).startswith("[")}


def _load_arrays(path: Path) -> Mapping[str, Array]:
    try:
        with np.load(path) as archive:
            return dict(archive)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CompileError(f"{path}: not an .npz file, or damaged ({error})") from error


def _save_arrays(arrays: Mapping[str, Array], path: Path) -> None:
    """An uncompressed .npz; numpy's own function cannot take every name (`file` is its argument)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(name + ".npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)


def _tensors(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    for inner in graph.walk():
        for value in inner.values.values():
            if value.tensor is not None:
                yield value.name, value.tensor
        for node in inner.nodes:
            for attribute in node.attributes.values():
                for item in attribute if isinstance(attribute, tuple) else (attribute,):
                    if isinstance(item, Tensor):
                        yield item.key, item


def _storable(array: Array) -> Array:
    """In a form that .npz holds: ml_dtypes as their bytes; strings as JSON in bytes, bytes in hexadecimal."""
    if array.dtype.kind == "O":
        items = [[item.hex()] if isinstance(item, bytes) else str(item) for item in array.reshape(-1)]
        return np.frombuffer(json.dumps(items).encode(), np.uint8)
    if array.dtype.isbuiltin != 1:
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return array
