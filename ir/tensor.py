"""A constant tensor: data that is read when it is needed, known by the hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

HASH_DIGITS = 8


class Tensor:
    """Immutable data of one dtype and shape; strings are object arrays of str or bytes.

    `Tensor(array)` holds the array; `Tensor(load=..., dtype=..., shape=...)` calls `load` at the first use of `data`
    (a memory map of an external file, say). `key` is given where the data is made from it, as in a graph of text alone.
    """

    def __init__(
        self,
        array: Array | None = None,
        *,
        load: Callable[[], Array] | None = None,
        dtype: np.dtype[Any] | None = None,
        shape: tuple[int, ...] | None = None,
        key: str | None = None,
    ) -> None:
        if array is not None:
            array = np.asarray(array).view()
            array.flags.writeable = False
            dtype, shape = array.dtype, array.shape
        assert dtype is not None
        assert shape is not None
        self._array = array
        self._load = load
        self._key = key
        self._made_up = key is not None
        self.dtype = dtype
        self.shape = shape

    @property
    def data(self) -> Array:
        """The array, read-only."""
        if self._array is None:
            assert self._load is not None
            array = self._load()
            array.flags.writeable = False
            self._array = array
        return self._array

    @property
    def is_made_up(self) -> bool:
        """Whether the data were made from the key rather than the key from the data."""
        return self._made_up

    @property
    def size(self) -> int:
        """How many elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def key(self) -> str:
        """The hash of dtype, shape and content, as hexadecimal digits."""
        if self._key is None:
            digest = hashlib.sha256(f"{self.dtype}{list(self.shape)}".encode())
            data = self.data
            if data.dtype.kind == "O":
                for item in data.flat:
                    raw, mark = (item, "b") if isinstance(item, bytes) else (str(item).encode(), "")
                    digest.update(f"{mark}{len(raw)}:".encode() + raw)
            else:
                digest.update(np.ascontiguousarray(data).view(np.uint8).reshape(-1).data)
            self._key = digest.hexdigest()[:HASH_DIGITS]
        return self._key

    @classmethod
    def from_key(cls, key: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Tensor:
        """Data made from `key` as the seed of a generator: small random numbers, the same for the same key."""

        def load() -> Array:
            generator = np.random.default_rng(int(key, 16))
            if dtype.kind == "O":
                return np.full(shape, key, object)
            if "int" in dtype.name or dtype.kind == "b":
                return generator.integers(0, 2, shape).astype(dtype)
            fan_in = max(1, int(np.prod(shape[1:], dtype=np.int64)))
            return np.asarray(generator.standard_normal(shape) / np.sqrt(fan_in)).astype(dtype)

        return cls(load=load, dtype=dtype, shape=shape, key=key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tensor) and (self is other or self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)
