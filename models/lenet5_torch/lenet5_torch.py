"""The accuracy of LeNet-5 in PyTorch, the weights and the input of every layer in the formats that a file names.

    python lenet5_torch.py PICTURES config.txt        # prints "Accuracy : 0.995400"

A line of the file is `conv1.weight FIXED 8 1`: name, kind, width, and bias where it is not the default; what it does
not name is float. Nothing of bitwright is used: this is what a framework needs to take part in its search.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

HERE = Path(__file__).parent
Format = tuple[int, int, int]
"""Exponent bits, fraction bits and bias: libnumber's <1, n_e, n_f, B>."""


def read_config(file: Path) -> dict[str, Format]:
    """The formats in a configuration file, by name. Raises ValueError for another kind than FLOAT, FIXED, EXP, BIN."""
    formats = {}
    for line in file.read_text().splitlines():
        name, kind, *numbers = line.split("//")[0].split() or ("", "")
        if name:
            width = int(numbers[0])
            floats = next(bits for least, bits in ((19, 8), (9, 5), (6, 4), (0, 2)) if width >= least)
            exponent = {"FLOAT": floats, "FIXED": 0, "EXP": width - 1, "BIN": 0}.get(kind)
            if exponent is None:
                raise ValueError(f"{name} is {kind}, which is not FLOAT, FIXED, EXP or BIN")
            default = 2 ** (exponent - 1) - 1 if exponent else 0
            bias = int(numbers[1]) if len(numbers) > 1 else default
            formats[name] = (exponent, width - 1 - exponent, bias)
    return formats


def nearest(x: Tensor, format: Format | None) -> Tensor:
    """The nearest numbers of a format, ties to even, saturated; None is float."""
    if format is None:
        return x
    exponent, fraction, bias = format
    if exponent == fraction == 0:  # BIN
        return torch.where(x >= 0, 2.0**-bias, -(2.0**-bias))
    x = x.double()
    unit = 2.0**-fraction
    quantum = torch.full_like(x, unit * 2.0 ** (1 - bias))
    largest = (1 - unit) * 2.0 ** (1 - bias)
    if exponent:
        power = torch.ldexp(torch.ones_like(x), torch.frexp(x).exponent - 1)  # 2^floor(log2 |x|)
        quantum = torch.maximum(quantum, power * unit)
        largest = (2 - unit) * 2.0 ** (2**exponent - 1 - bias)
    return (torch.round(x / quantum) * quantum).clamp(-largest, largest).float()


class LeNet5:
    """The network, its weights from lenet5.onnx and already in their formats."""

    def __init__(self, formats: dict[str, Format]) -> None:
        self.formats = formats
        tensors = onnx.load(HERE.parent / "lenet5.onnx").graph.initializer
        read = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in tensors}
        self.tensors = {name: nearest(tensor, formats.get(name)) for name, tensor in read.items()}

    def layer(self, name: str, x: Tensor, padding: int = 0) -> Tensor:
        """A convolution, or a fully connected layer where the weights are a matrix."""
        x = nearest(x, self.formats.get(f"{name}.input"))
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        if weight.dim() == 2:
            return functional.linear(x.flatten(1), weight, bias)
        return functional.conv2d(x, weight, bias, padding=padding)

    def __call__(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.layer("conv1", x, padding=2).relu(), 2)
        x = functional.max_pool2d(self.layer("conv3", x).relu(), 2)
        x = self.layer("conv5", x).relu()
        x = self.layer("fc6", x).relu()
        return self.layer("fc7", x)


def main() -> None:
    """Print the accuracy on the first PICTURES test images."""
    if len(sys.argv) != 3:
        sys.exit("usage: lenet5_torch.py PICTURES config.txt")
    pictures, config = int(sys.argv[1]), Path(sys.argv[2])
    with np.load(HERE.parent / "data" / "mnist-test.npz") as data:
        x, y = torch.from_numpy(data["x"][:pictures]), torch.from_numpy(data["y"][:pictures])
    network = LeNet5(read_config(config))
    with torch.inference_mode():
        digits = network(x[:, None].float() / 255).argmax(1)
    print(f"Accuracy : {(digits == y).double().mean().item():.6f}")


if __name__ == "__main__":
    main()
