"""ONNX's element types and types of values <-> ours."""

from __future__ import annotations

from onnx import TensorProto, TypeProto

from bitwright.ir.types import UNKNOWN, ContainerType, Dim, Native, Type, ValueType

ELEMENTS = {
    "f32": TensorProto.FLOAT,
    "f64": TensorProto.DOUBLE,
    "f16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "f8e4m3fn": TensorProto.FLOAT8E4M3FN,
    "f8e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "f8e5m2": TensorProto.FLOAT8E5M2,
    "f8e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
    "f8e8m0": getattr(TensorProto, "FLOAT8E8M0", 24),
    "f4e2m1": TensorProto.FLOAT4E2M1,
    "i2": getattr(TensorProto, "INT2", 26),
    "u2": getattr(TensorProto, "UINT2", 25),
    "i4": TensorProto.INT4,
    "u4": TensorProto.UINT4,
    "i8": TensorProto.INT8,
    "u8": TensorProto.UINT8,
    "i16": TensorProto.INT16,
    "u16": TensorProto.UINT16,
    "i32": TensorProto.INT32,
    "u32": TensorProto.UINT32,
    "i64": TensorProto.INT64,
    "u64": TensorProto.UINT64,
    "bool": TensorProto.BOOL,
    "c64": TensorProto.COMPLEX64,
    "c128": TensorProto.COMPLEX128,
    "str": TensorProto.STRING,
}
NAMES = {number: name for name, number in ELEMENTS.items()}


def element_of(type: Type) -> int:
    """The TensorProto element type that carries a value of this type; chosen formats travel as float32."""
    return ELEMENTS[type.format.name] if isinstance(type.format, Native) else TensorProto.FLOAT


def read_type(proto: TypeProto) -> ValueType:
    """Our type of an ONNX type; what it leaves open is unknown."""
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(proto, kind)
        if tensor.elem_type not in NAMES:
            return UNKNOWN
        shape = tuple(_read_dim(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
        type = Type(Native(NAMES[tensor.elem_type]), shape)
        return type if kind == "tensor_type" else ContainerType("sparse", (type,))
    if kind == "sequence_type":
        return ContainerType("seq", (read_type(proto.sequence_type.elem_type),))
    if kind == "optional_type":
        return ContainerType("optional", (read_type(proto.optional_type.elem_type),))
    if kind == "map_type" and proto.map_type.key_type in NAMES:
        key = Type(Native(NAMES[proto.map_type.key_type]), ())
        return ContainerType("map", (key, read_type(proto.map_type.value_type)))
    return UNKNOWN


def write_type(type: ValueType) -> TypeProto | None:
    """The ONNX type, or None where nothing is known."""
    proto = TypeProto()
    if isinstance(type, Type):
        _write_tensor(proto.tensor_type, type)
        return proto
    if not isinstance(type, ContainerType):
        return None
    elements = [write_type(element) for element in type.elements]
    if type.container == "sparse":
        assert isinstance(type.elements[0], Type)
        _write_tensor(proto.sparse_tensor_type, type.elements[0])
    elif type.container == "map":
        assert isinstance(type.elements[0], Type)
        proto.map_type.key_type = element_of(type.elements[0])
        proto.map_type.value_type.CopyFrom(elements[1] or TypeProto())
    else:
        holder = proto.sequence_type if type.container == "seq" else proto.optional_type
        holder.elem_type.CopyFrom(elements[0] or TypeProto())
    return proto


def _write_tensor(proto: TypeProto.Tensor | TypeProto.SparseTensor, type: Type) -> None:
    proto.elem_type = element_of(type)
    if type.shape is None:
        return
    proto.shape.SetInParent()
    for dim in type.shape:
        entry = proto.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim is not None:
            entry.dim_param = dim


def _read_dim(dim: object) -> Dim:
    kind = dim.WhichOneof("value")  # type: ignore[attr-defined]
    if kind == "dim_value":
        return int(dim.dim_value)  # type: ignore[attr-defined]
    return str(dim.dim_param) or None if kind == "dim_param" else None  # type: ignore[attr-defined]
