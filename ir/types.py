"""The type of a value: a number format (or one of ONNX's own element types) and a shape.

f32[1,10]      FIXED<8,B=1>[N,1,28,28]      i64[*] (rank unknown)      f32[N,?] (a dimension unknown)
seq<f32[*]>    optional<i64[3]>             sparse<f32[3,4]>           map<i64[],f32[3]>     ? (nothing known)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeAlias

import ml_dtypes
import numpy as np

from bitwright.ir.formats import Affine, Canonical, Format, to_text
from bitwright.ir.formats.text import Table, tables_of

Dim: TypeAlias = int | str | None
Shape: TypeAlias = tuple[Dim, ...]


@dataclass(frozen=True)
class Native:
    """An element type of ONNX as it is stored, such as `f32`: not a number format that was chosen."""

    name: str

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """How numpy holds it."""
        return DTYPES[self.name]

    def __str__(self) -> str:
        return self.name


DTYPES: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(kind)
    for name, kind in {
        "f32": np.float32,
        "f64": np.float64,
        "f16": np.float16,
        "bf16": ml_dtypes.bfloat16,
        "f8e4m3fn": ml_dtypes.float8_e4m3fn,
        "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
        "f8e5m2": ml_dtypes.float8_e5m2,
        "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
        "f8e8m0": ml_dtypes.float8_e8m0fnu,
        "f4e2m1": ml_dtypes.float4_e2m1fn,
        "i2": ml_dtypes.int2,
        "u2": ml_dtypes.uint2,
        "i4": ml_dtypes.int4,
        "u4": ml_dtypes.uint4,
        "i8": np.int8,
        "u8": np.uint8,
        "i16": np.int16,
        "u16": np.uint16,
        "i32": np.int32,
        "u32": np.uint32,
        "i64": np.int64,
        "u64": np.uint64,
        "bool": np.bool_,
        "c64": np.complex64,
        "c128": np.complex128,
        "str": np.object_,
    }.items()
}

F32 = Native("f32")
I64 = Native("i64")

Element: TypeAlias = Native | Format


@dataclass(frozen=True)
class Type:
    """A tensor: its element format and its shape (None: unknown rank; a dimension: int, name or None)."""

    format: Element
    shape: Shape | None = None

    @property
    def is_native(self) -> bool:
        """Whether no number format was chosen for it."""
        return isinstance(self.format, Native)

    @property
    def number(self) -> Canonical | Affine | None:
        """The number format chosen for it, or None."""
        return self.format if isinstance(self.format, Canonical | Affine) else None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """How ONNX and numpy carry it: formats that were chosen travel as float32."""
        return self.format.dtype if isinstance(self.format, Native) else np.dtype(np.float32)

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape if every dimension is known."""
        if self.shape is None or not all(isinstance(dim, int) for dim in self.shape):
            return None
        return tuple(dim for dim in self.shape if isinstance(dim, int))

    def with_format(self, format: Element) -> Type:
        return replace(self, format=format)

    def with_shape(self, shape: Shape | None) -> Type:
        return replace(self, shape=shape)

    def text(self, tables: str | None = None) -> str:
        """The type as the graph text has it; see formats.text for `tables`."""
        element = self.format.name if isinstance(self.format, Native) else to_text(self.format, tables)
        return element + shape_text(self.shape)

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class ContainerType:
    """seq, optional and sparse of one type; map of a key type and a value type."""

    container: str
    elements: tuple[ValueType, ...]

    def text(self, tables: str | None = None) -> str:
        return f"{self.container}<{','.join(element.text() for element in self.elements)}>"

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class UnknownType:
    """Nothing is known."""

    def text(self, tables: str | None = None) -> str:
        return "?"

    def __str__(self) -> str:
        return "?"


ValueType: TypeAlias = Type | ContainerType | UnknownType
UNKNOWN = UnknownType()

# Up to this many channels a format stands in the type itself; a longer list stands in a table above.
INLINE_CHANNELS = 8


def type_tables(type: ValueType) -> dict[str, Table]:
    """The lists a channel that are too long to stand in the type, by suffix of the value's name."""
    format = type.number if isinstance(type, Type) else None
    if format is None or (format.channels or 0) <= INLINE_CHANNELS:
        return {}
    return tables_of(format)


def shape_text(shape: Shape | None) -> str:
    """A shape as the graph text has it."""
    if shape is None:
        return "[*]"
    return "[" + ",".join(map(_dim_text, shape)) + "]"


def shapes_agree(ours: Shape, theirs: Shape | None) -> bool:
    """Whether two shapes may be those of one tensor."""
    if theirs is None:
        return True
    pairs = zip(ours, theirs, strict=False)
    return len(ours) == len(theirs) and all(not (isinstance(a, int) and isinstance(b, int)) or a == b for a, b in pairs)


def merged_shape(ours: Shape, theirs: Shape | None) -> Shape:
    """Of two shapes that agree, per dimension what is known: a number before a name before nothing."""
    if theirs is None:
        return ours
    return tuple(
        a if isinstance(a, int) or (b is None or (isinstance(b, str) and isinstance(a, str))) else b
        for a, b in zip(ours, theirs, strict=True)
    )


def _dim_text(dim: Dim) -> str:
    if dim is None:
        return "?"
    if isinstance(dim, int):
        return str(dim)
    return dim if re.fullmatch(r"[A-Za-z_]\w*", dim) else quote(dim)


def quote(text: str) -> str:
    """Any text on one line, in quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
