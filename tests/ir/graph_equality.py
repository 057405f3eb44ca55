"""What must be the same of two graphs: everything but sources, NaNs by what they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bitwright.ir.graph import Attribute, EmptyList, Graph, Node
from bitwright.ir.ops import OPS
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import tensor_text


def same_array(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit, except for what a NaN carries."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "O":
        return [(type(x), x) for x in a.flat] == [(type(x), x) for x in b.flat]
    if a.tobytes() == b.tobytes():
        return True
    return a.dtype.kind == "f" and all(
        (math.isnan(x) and math.isnan(y)) or repr(x) == repr(y)
        for x, y in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True)
    )


def same_attribute(a: Any, b: Any, data: bool) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, EmptyList):
        return bool(a.kind == b.kind)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same_attribute(x, y, data) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, Graph):
        return assert_same(a, b, data)
    if isinstance(a, Tensor):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and same_tensor(a, b, data)
    return bool(a == b)


def same_tensor(a: Tensor, b: Tensor, data: bool) -> bool:
    """With the data in hand, or where they stand in the text, the same data; else data of the same name and kind."""
    if data or tensor_text(a).startswith("["):
        return same_array(a.data, b.data)
    return (a.key, a.shape) == (b.key, b.shape)


def used(node: Node) -> dict[str, Attribute]:
    defaults = OPS[node.op].attributes if node.op in OPS else {}
    return {key: value for key, value in node.attributes.items() if key not in defaults or value != defaults[key]}


def assert_same(a: Graph, b: Graph, data: bool) -> bool:
    """Everything but sources, which text does not hold."""
    assert (a.name, a.opsets, a.metadata, a.external) == (b.name, b.opsets, b.metadata, b.external)
    assert [v.name for v in a.inputs] == [v.name for v in b.inputs]
    assert [v.name for v in a.weights] == [v.name for v in b.weights]
    assert a.values.keys() == b.values.keys()
    for name, value in a.values.items():
        other = b.values[name]
        assert value.type == other.type
        assert (value.tensor is None) == (other.tensor is None)
        if value.tensor is not None and other.tensor is not None:
            assert same_tensor(value.tensor, other.tensor, data), name
    assert [(o.value.name, o.name) for o in a.outputs] == [(o.value.name, o.name) for o in b.outputs]
    for x, y in zip(a.nodes, b.nodes, strict=True):
        assert x.op == y.op
        assert [v and v.name for v in x.operands] == [v and v.name for v in y.operands]
        assert [v.name for v in x.results] == [v.name for v in y.results]
        left, right = used(x), used(y)
        assert left.keys() == right.keys()
        for key, attribute in left.items():
            assert same_attribute(attribute, right[key], data), (key, attribute, right[key])
    return True
