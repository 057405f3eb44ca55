"""Random small weights for the hand-written LeNet-5, its exact model, and its weights/*.hpp."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class LeNet5:
    # name: outputs, inputs, spread of the weights, format's largest weight, spread of the bias
    LAYERS: ClassVar = {
        "conv1": (6, 25, 20, 127, 500),
        "conv3": (16, 150, 20, 127, 1000),
        "conv5": (120, 400, 6, 31, 1000),
        "fc6": (84, 120, 24, 64, 1000),
        "fc7": (10, 84, 40, 127, 1000),
    }
    SHIFTS: ClassVar = {"conv1": [7, 8, 6, 7, 7, 8], "conv3": [8], "conv5": [7], "fc6": [8], "fc7": [2]}
    FOLDING: ClassVar = {"conv1": (2, 25), "conv3": (4, 25), "conv5": (1, 20), "fc6": (1, 5), "fc7": (1, 1)}

    def __init__(self, reference: ModuleType) -> None:
        self.ref = reference
        rng = np.random.default_rng(5)
        self.weights: dict[str, Ints] = {}
        self.bias: dict[str, Ints] = {}
        self.shift: dict[str, Ints] = {}
        for name, (outputs, inputs, spread, largest, bias) in self.LAYERS.items():
            drawn = np.clip(rng.normal(0, spread, (outputs, inputs)).round(), -largest, largest).astype(np.int64)
            if name == "fc6":  # EXP<4>: zero and signed powers of two up to 2^6
                drawn = np.sign(drawn) * (1 << np.log2(np.maximum(np.abs(drawn), 1)).astype(np.int64))
            self.weights[name] = drawn
            self.bias[name] = rng.normal(0, bias, outputs).round().astype(np.int64)
            self.shift[name] = np.resize(np.array(self.SHIFTS[name]), outputs)

    def proven_acc_bits(self, name: str) -> int:
        low = -127 if name == "conv1" else 0
        return int(self.ref.acc_bits(self.weights[name], self.bias[name], low, 127))

    def write(self, folder: Path, empty: bool = False) -> None:
        """`empty` leaves the initialisers out, for a compiler that only reads the types."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.LAYERS:
            layer = name.capitalize()
            codes = self.ref.exp_codes(self.weights[name], 4) if name == "fc6" else self.weights[name]
            text = self.ref.tables(layer, name, codes, self.bias[name], self.shift[name], *self.FOLDING[name])
            if empty:
                text = re.sub(r"=\s*\{[^;]*;", "= {};", text)
            guard = f"LENET5_WEIGHTS_{name.upper()}_HPP"
            (folder / f"{name}.hpp").write_text(
                f'// %{name}.weight, %{name}.bias\n#ifndef {guard}\n#define {guard}\n\n#include "shapes.hpp"\n\n'
                f"namespace lenet5_net {{\n\n{text}\n}}  // namespace lenet5_net\n\n#endif\n"
            )

    def run(self, image: Ints) -> dict[str, Ints]:
        """Every stream's integers for one image of [28, 28, 1]."""
        none, two = (0, 0, 0, 0), (2, 2)
        out = {"image": image}
        x = out["conv1"] = self.layer("conv1", image, (5, 5), (2, 2, 2, 2))
        x = out["pool2"] = self.ref.maxpool2d(x, two, two, none)
        x = out["conv3"] = self.layer("conv3", x, (5, 5), none)
        x = out["pool4"] = self.ref.maxpool2d(x, two, two, none)
        x = out["conv5"] = self.layer("conv5", x, (5, 5), none)
        x = out["fc6"] = self.layer("fc6", x, (1, 1), none)
        out["fc7"] = self.layer("fc7", x, (1, 1), none, relu=False, high=32767)
        return out

    def count_saturations(self, image: Ints) -> dict[str, int]:
        """How many numbers of conv1 the format cuts: those that round to more than 127."""
        acc = self.ref.conv2d(image, self.weights["conv1"], self.bias["conv1"], (5, 5), (1, 1), (2, 2, 2, 2))
        return {
            "conv1_saturated": int((self.ref.requantise(acc, self.shift["conv1"], -(1 << 30), 1 << 30) > 127).sum())
        }

    def layer(
        self,
        name: str,
        x: Ints,
        kernel: tuple[int, int],
        pads: tuple[int, int, int, int],
        relu: bool = True,
        high: int = 127,
    ) -> Ints:
        acc = self.ref.conv2d(x, self.weights[name], self.bias[name], kernel, (1, 1), pads)
        return np.asarray(self.ref.requantise(np.maximum(acc, 0) if relu else acc, self.shift[name], -high, high))
