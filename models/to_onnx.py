"""A trained torch network as ONNX: opset 17, IR version 8, input `image`, output `logits`, batch dimension `N`.

A value has the name of the node that makes it (the last one is `logits`), a weight that of its layer: `conv1.weight`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnx
import torch  # type: ignore[import-not-found, unused-ignore]
from onnx import helper, numpy_helper
from torch import nn  # type: ignore[import-not-found, unused-ignore]

from bitwright.models.networks import Residual
from bitwright.models.recipes import Kind


def to_onnx(network: nn.Sequential, name: str, kind: Kind) -> onnx.ModelProto:
    """The network as a checked model called `name`; weights float32."""
    writer = _Writer(last=next(reversed(network._modules)))
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", *kind.shape], kind.pixels)
    with torch.no_grad():
        _, made = writer.write("", network, ("image", torch.zeros(1, *kind.shape)))
    doc = f"one score a {kind.a_class}, the largest wins"
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", made.shape[1]], doc)
    model = helper.make_model(
        helper.make_graph(writer.nodes, name, [image], [logits], writer.weights),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="bitwright",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


Value = tuple[str, torch.Tensor]
"""The name of a value and an example of it."""


@dataclass
class _Writer:
    """Nodes and weights in the order in which values pass through the layers."""

    last: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def write(self, name: str, layer: nn.Module, value: Value) -> Value:
        """Appends the nodes of a layer, or of all layers inside it; returns what they make."""
        if isinstance(layer, nn.Sequential):
            for key, inner in layer.named_children():
                value = self.write(key, inner, value)
            return value
        if isinstance(layer, Residual):
            ends = [self.write(name, branch, value) for branch in (layer.body, layer.shortcut)]
            return self.node("Add", name, [end for end, _ in ends], ends[0][1] + ends[1][1], {})
        inputs, made = [value[0]], layer(value[1])
        for role, tensor in layer.state_dict().items():
            if tensor.ndim:  # all but the number of batches that a batch normalisation has seen
                inputs.append(f"{name}.{role}")
                self.weights.append(numpy_helper.from_array(tensor.numpy(), inputs[-1]))
        kind, attributes = _operator(layer, value[1], made)
        return self.node(kind, name, inputs, made, attributes)

    def node(self, kind: str, name: str, inputs: list[str], made: torch.Tensor, attributes: dict[str, Any]) -> Value:
        """Appends one node and returns its value."""
        output = "logits" if name == self.last else name
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output, made


def _operator(layer: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[str, dict[str, Any]]:
    """The ONNX operator of a layer that makes y from x, and its attributes."""
    match layer:
        case nn.Conv2d():
            pads = [int(p) for p in layer.padding]
            return "Conv", {
                "kernel_shape": list(layer.kernel_size),
                "pads": pads + pads,
                "strides": list(layer.stride),
            }
        case nn.MaxPool2d():
            return "MaxPool", _window(layer, x, y)
        case nn.AvgPool2d():
            return "AveragePool", _window(layer, x, y)
        case nn.AdaptiveAvgPool2d(output_size=1):
            return "GlobalAveragePool", {}
        case nn.BatchNorm2d():
            return "BatchNormalization", {"epsilon": layer.eps}
        case nn.Linear():
            return "Gemm", {"transB": 1}
        case nn.Flatten():
            return "Flatten", {"axis": 1}
        case nn.ReLU():
            return "Relu", {}
        case _:
            raise TypeError(f"{type(layer).__name__} has no ONNX form here")


def _window(pool: nn.MaxPool2d | nn.AvgPool2d, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """The window of an unpadded pooling; what ceil mode lets stick out is padding at the end, which no mean counts."""
    side, stride = pool.kernel_size, pool.stride
    ends = [(made - 1) * stride + side - size for made, size in zip(y.shape[2:], x.shape[2:], strict=True)]
    pads = {"pads": [0, 0, *ends]} if any(end > 0 for end in ends) else {}
    return {"kernel_shape": [side, side], **pads, "strides": [stride, stride]}
