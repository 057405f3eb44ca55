"""Writes what the C++ programs of this folder read: the weights of lenet5.onnx and the MNIST test images.

    python -m bitwright.models.lenet5_cpp.export OUT

OUT/weights.bin   every layer's weights and biases, float32, in the order of lenet5.onnx: conv1.weight, conv1.bias, ...
OUT/data.bin      an image after the other: a byte for its label and 28 x 28 bytes, rows of pixels, 255 is ink

Numbers are little-endian.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from bitwright.models import datasets

MODEL = Path(__file__).parents[1] / "lenet5.onnx"


def weights() -> bytes:
    """The initializers of lenet5.onnx one after the other, as they lie in memory."""
    arrays = [numpy_helper.to_array(tensor) for tensor in onnx.load(MODEL).graph.initializer]
    return b"".join(array.astype("<f4").tobytes() for array in arrays)


def data() -> bytes:
    """Label and pixels of the 10,000 test images."""
    digits = datasets.load("mnist", "test")
    assert digits.y is not None
    pixels = np.rint(digits.x * 255).astype(np.uint8).reshape(len(digits.x), -1)
    return np.hstack([digits.y.astype(np.uint8)[:, None], pixels]).tobytes()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write weights.bin and data.bin for the C++ LeNet-5.")
    parser.add_argument("out", type=Path, help="the folder to write to, made if it is not there")
    folder = parser.parse_args(arguments).out
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.bin").write_bytes(weights())
    (folder / "data.bin").write_bytes(data())


if __name__ == "__main__":
    main()
