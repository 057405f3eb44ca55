"""TensorProto <-> Tensor. External data are mapped into memory and read only when they are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import SparseTensorProto, TensorProto, external_data_helper, numpy_helper

from bitwright.ir.errors import CompileError
from bitwright.ir.onnx.dtypes import ELEMENTS, NAMES
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import DTYPES

PACKED = {"f4e2m1": 4, "i2": 2, "u2": 2, "i4": 4, "u4": 4}  # bits of those that share a byte


def read_tensor(proto: TensorProto, folder: Path | None) -> Tensor:
    """The tensor; external data are looked for in `folder`. Raises CompileError if they are not there or too short."""
    if proto.data_type not in NAMES:
        raise CompileError(f'tensor "{proto.name}" has element type {proto.data_type}, which ONNX does not define')
    name = NAMES[proto.data_type]
    dtype, shape = DTYPES[name], tuple(int(dim) for dim in proto.dims)
    if min(shape, default=0) < 0:
        raise CompileError(f'tensor "{proto.name}" is damaged: its shape is {list(shape)}')
    if proto.data_location != TensorProto.EXTERNAL:
        try:
            array = numpy_helper.to_array(proto)
        except (ValueError, TypeError) as error:
            raise CompileError(f'tensor "{proto.name}" is damaged: {error}') from error
        if name == "str":
            array = np.array(array, object)
        return Tensor(array.astype(dtype, copy=False).reshape(shape))
    info = external_data_helper.ExternalDataInfo(proto)
    path = (folder or Path()) / info.location
    packed = name in PACKED
    count = int(np.prod(shape, dtype=np.int64))
    need = (info.offset or 0) + (count * PACKED.get(name, 8 * dtype.itemsize) + 7) // 8
    if not path.is_file():
        raise CompileError(f'external data "{info.location}" of tensor "{proto.name}" is not beside the model')
    if path.stat().st_size < need:
        raise CompileError(f'external data "{info.location}" ends before tensor "{proto.name}" does')

    def load() -> Array:
        if packed:
            external_data_helper.load_external_data_for_tensor(proto, str(folder or Path()))
            return numpy_helper.to_array(proto).reshape(shape)
        if not count:
            return np.zeros(shape, dtype)
        return np.memmap(path, dtype, "r", info.offset or 0, shape)

    return Tensor(load=load, dtype=dtype, shape=shape)


def read_sparse(proto: SparseTensorProto, folder: Path | None) -> Tensor:
    """A sparse tensor as a dense one."""
    values = read_tensor(proto.values, folder).data
    indices = read_tensor(proto.indices, folder).data
    try:
        dense = np.zeros(tuple(proto.dims), values.dtype)
        dense[tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, dense.shape)] = values
    except (ValueError, IndexError) as error:
        raise CompileError(f'sparse tensor "{proto.values.name}" is damaged: {error}') from error
    return Tensor(dense)


def write_tensor(tensor: Tensor, name: str) -> TensorProto:
    """The TensorProto with its data inside."""
    array = tensor.data
    if array.dtype.kind == "O":
        return onnx.helper.make_tensor(name, TensorProto.STRING, tensor.shape, list(array.reshape(-1)))
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(tensor.shape), name)


def is_mapped(tensor: Tensor) -> bool:
    """Whether numpy holds the data as an external file does."""
    return tensor.dtype.kind != "O" and all(DTYPES[name] != tensor.dtype for name in PACKED)


def refer_tensor(tensor: Tensor, name: str, location: str, offset: int) -> TensorProto:
    """A TensorProto whose data stand at `offset` of the external file `location`."""
    proto = TensorProto(name=name, dims=tensor.shape, data_location=TensorProto.EXTERNAL)
    proto.data_type = next(ELEMENTS[key] for key, dtype in DTYPES.items() if dtype == tensor.dtype)
    length = tensor.size * tensor.dtype.itemsize
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        proto.external_data.add(key=key, value=str(value))
    return proto
