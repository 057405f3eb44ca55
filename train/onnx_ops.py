"""Ops of ONNX outside the hardware set that networks to be trained often have, in torch; operands are float tensors.

Axes and sizes are read from the node: attributes in old operator sets, constant operands in new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch  # type: ignore[import-not-found, unused-ignore]
from torch.nn import functional  # type: ignore[import-not-found, unused-ignore]

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Node

PlainMeaning = Callable[[Node, Sequence[torch.Tensor]], "torch.Tensor | Sequence[torch.Tensor]"]


def _number(node: Node, name: str, default: float) -> float:
    value = node.attributes.get(name, default)
    assert isinstance(value, int | float)
    return float(value)


def _list(node: Node, name: str, operand: int = 1) -> list[int] | None:
    """A list of integers that is an attribute or a constant operand, or None if it is left out."""
    given = node.attributes.get(name)
    if isinstance(given, tuple):
        return [int(item) for item in given if isinstance(item, int)]
    value = node.optional(operand)
    if value is None:
        return None
    if value.tensor is None:
        raise CompileError(f"%{node.name}: {node.op} with computed {name} cannot be trained")
    return [int(item) for item in value.tensor.data.reshape(-1)]


def _sum(node: Node, x: Sequence[torch.Tensor]) -> torch.Tensor:
    total = x[0]
    for other in x[1:]:
        total = total + other
    return total


def _mean(node: Node, x: Sequence[torch.Tensor]) -> torch.Tensor:
    axes = _list(node, "axes")
    keep = bool(_number(node, "keepdims", 1))
    if not axes:
        unchanged = axes is not None and bool(_number(node, "noop_with_empty_axes", 0))
        return x[0] if unchanged else x[0].mean(tuple(range(x[0].ndim)), keepdim=keep)
    return x[0].mean(axes, keepdim=keep)


def _squeeze(node: Node, x: Sequence[torch.Tensor]) -> torch.Tensor:
    axes = _list(node, "axes")
    return x[0].squeeze() if axes is None else x[0].squeeze(tuple(axes))


def _unsqueeze(node: Node, x: Sequence[torch.Tensor]) -> torch.Tensor:
    axes = _list(node, "axes") or []
    rank = x[0].ndim + len(axes)
    made = x[0]
    for axis in sorted(axis % rank for axis in axes):
        made = made.unsqueeze(axis)
    return made


def _split(node: Node, x: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    axis = int(_number(node, "axis", 0))
    size, parts = x[0].shape[axis], len(node.results)
    each = -(-size // parts)
    sizes = _list(node, "split") or [min(each, size - i * each) for i in range(parts)]
    return list(torch.split(x[0], sizes, axis))


def _lrn(node: Node, x: Sequence[torch.Tensor]) -> torch.Tensor:
    """x / (bias + alpha / size sum of squares of `size` channels around)^beta."""
    size = int(_number(node, "size", 1))
    squares = functional.pad(x[0].square(), [0, 0, 0, 0, (size - 1) // 2, size // 2])
    total = squares.unfold(1, size, 1).sum(-1)
    scale = _number(node, "bias", 1.0) + _number(node, "alpha", 1e-4) / size * total
    return x[0] / scale.pow(_number(node, "beta", 0.75))


PLAIN: dict[str, PlainMeaning] = {
    "onnx.Div": lambda node, x: x[0] / x[1],
    "onnx.LRN": _lrn,
    "onnx.LeakyRelu": lambda node, x: functional.leaky_relu(x[0], _number(node, "alpha", 0.01)),
    "onnx.ReduceMean": _mean,
    "onnx.Sigmoid": lambda node, x: torch.sigmoid(x[0]),
    "onnx.Split": _split,
    "onnx.Squeeze": _squeeze,
    "onnx.Sub": lambda node, x: x[0] - x[1],
    "onnx.Sum": _sum,
    "onnx.Tanh": lambda node, x: torch.tanh(x[0]),
    "onnx.Unsqueeze": _unsqueeze,
}
