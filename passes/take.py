"""Some indices of one axis of a value, in any order: its data, its shape and its formats a channel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bitwright.ir import edit
from bitwright.ir.formats import Affine, Canonical
from bitwright.ir.graph import Value
from bitwright.ir.tensor import Tensor
from bitwright.ir.types import Type

Indices = NDArray[np.int64]


def take(value: Value, axis: int, kept: Indices) -> None:
    """Leave a value only these indices of an axis."""
    type = taken_type(value.tensor_type, axis, kept)
    if value.tensor is not None:
        edit.set_tensor(value, taken_tensor(value.tensor, axis, kept))
    edit.set_type(value, type)


def taken_tensor(tensor: Tensor, axis: int, kept: Indices) -> Tensor:
    """These indices of an axis of a tensor."""
    return Tensor(np.ascontiguousarray(tensor.data.take(kept, axis)))


def taken_type(type: Type, axis: int, kept: Indices) -> Type:
    """The type of these indices of an axis, whose size is known."""
    shape, number = type.shape, type.number
    assert shape is not None, f"{type} has no axis {axis}"
    if number is not None and number.axis is not None and number.axis % len(shape) == axis:
        number = _some_formats(number, kept)
    return Type(number or type.format, (*shape[:axis], len(kept), *shape[axis + 1 :]))


def _some_formats(number: Canonical | Affine, kept: Indices) -> Canonical | Affine:
    """A format a channel, of some of the channels."""
    if isinstance(number, Canonical):
        return replace(number, bias=tuple(number.biases[kept].tolist()))
    zeros = tuple(number.zeros[kept].tolist()) if isinstance(number.zero, tuple) else number.zero
    return replace(number, scale=tuple(number.scales[kept].tolist()), zero=zeros)
