"""The eleven networks of the libnumber paper: their target layers, and the formats of its Table 5.

Target layers are the convolutions, in multilayer perceptrons the dense layers; branches of one target layer share its
format. The structures are those of Caffe's models and of Darknet's configurations; those of the two perceptrons are the
ones that models/README.md gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Layer:
    """positions x a matrix [outputs, inputs], of `groups` blocks; places: of the image that is walked over."""

    outputs: int
    inputs: int
    positions: int = 1
    places: int = 1
    groups: int = 1

    @property
    def macs(self) -> int:
        return self.positions * self.outputs * self.inputs


@dataclass(frozen=True)
class Network:
    """groups: the layers of each target layer; activation and weights: formats, In FIXED(n), En EXP(n)."""

    name: str
    groups: tuple[tuple[Layer, ...], ...]
    activation: str
    weights: tuple[str, ...]

    @property
    def layers(self) -> list[Layer]:
        return [layer for group in self.groups for layer in group]

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def conv(outputs: int, channels: int, kernel: int, side: int, entering: int = 0, groups: int = 1) -> Layer:
    """side: of the result; entering: of the padded image, if it is not as large as the result with its rim."""
    walked = entering or side + kernel - 1
    return Layer(outputs, channels * kernel * kernel // groups, side * side, walked * walked, groups)


def single(*layers: Layer) -> tuple[tuple[Layer, ...], ...]:
    return tuple((layer,) for layer in layers)


def perceptron(*sizes: int) -> tuple[tuple[Layer, ...], ...]:
    return single(*(Layer(outputs, inputs) for inputs, outputs in pairwise(sizes)))


def inception(channels: int, side: int, *widths: int) -> tuple[Layer, ...]:
    """1x1; 1x1 and 3x3; 1x1 and 5x5; 1x1 after pooling."""
    one, reduce3, three, reduce5, five, pooled = widths
    return (
        *(conv(width, channels, 1, side) for width in (one, reduce3)),
        conv(three, reduce3, 3, side),
        conv(reduce5, channels, 1, side),
        conv(five, reduce5, 5, side),
        conv(pooled, channels, 1, side),
    )


def residuals() -> tuple[tuple[Layer, ...], ...]:
    """ResNet-50 as published: the first convolution, and 16 blocks, of which the first of each size has a shortcut."""
    groups, entering = [(conv(64, 3, 7, 112, 230),)], 64
    for width, blocks, side in ((64, 3, 56), (128, 4, 28), (256, 6, 14), (512, 3, 7)):
        for block in range(blocks):
            before = side * 2 if block == 0 and width > 64 else side
            layers = [
                conv(width, entering, 1, side, before),
                conv(width, width, 3, side),
                conv(4 * width, width, 1, side),
            ]
            if block == 0:
                layers.append(conv(4 * width, entering, 1, side, before))
            groups.append(tuple(layers))
            entering = 4 * width
    return tuple(groups)


def vgg() -> tuple[tuple[Layer, ...], ...]:
    plan = ((64, 224, 2), (128, 112, 2), (256, 56, 3), (512, 28, 3), (512, 14, 3))
    layers, channels = [], 3
    for width, side, count in plan:
        for _ in range(count):
            layers.append(conv(width, channels, 3, side))
            channels = width
    return single(*layers)


def mlpconv(outputs: int, channels: int, kernel: int, side: int, last: int, entering: int = 0) -> tuple[Layer, ...]:
    """A convolution and two of 1x1, of Network in Network."""
    return (
        conv(outputs, channels, kernel, side, entering),
        conv(outputs, outputs, 1, side),
        conv(last, outputs, 1, side),
    )


NIN = (
    *mlpconv(96, 3, 11, 54, 96, 224),
    *mlpconv(256, 96, 5, 27, 256),
    *mlpconv(384, 256, 3, 13, 384),
    *mlpconv(1024, 384, 3, 6, 1000),
)
ALEXNET = (
    conv(96, 3, 11, 55, 227),
    conv(256, 96, 5, 27, groups=2),
    conv(384, 256, 3, 13),
    conv(384, 384, 3, 13, groups=2),
    conv(256, 384, 3, 13, groups=2),
)
GOOGLENET = (
    (conv(64, 3, 7, 112, 230),),
    (conv(64, 64, 1, 56), conv(192, 64, 3, 56)),
    inception(192, 28, 64, 96, 128, 16, 32, 32),
    inception(256, 28, 128, 128, 192, 32, 96, 64),
    inception(480, 14, 192, 96, 208, 16, 48, 64),
    inception(512, 14, 160, 112, 224, 24, 64, 64),
    inception(512, 14, 128, 128, 256, 24, 64, 64),
    inception(512, 14, 112, 144, 288, 32, 64, 64),
    inception(528, 14, 256, 160, 320, 32, 128, 128),
    inception(832, 7, 256, 160, 320, 32, 128, 128),
    inception(832, 7, 384, 192, 384, 48, 128, 128),
)
DARKNET = (
    *(conv(w, c, 3, s) for c, w, s in ((3, 16, 224), (16, 32, 112), (32, 64, 56), (64, 128, 28), (128, 256, 14))),
    conv(512, 256, 3, 7),
    conv(1024, 512, 3, 4),
    conv(1000, 1024, 1, 4),
)
TINY_YOLO = (
    *(conv(w, c, 3, s) for c, w, s in ((3, 16, 416), (16, 32, 208), (32, 64, 104), (64, 128, 52), (128, 256, 26))),
    conv(512, 256, 3, 13),
    conv(1024, 512, 3, 13),
    conv(1024, 1024, 3, 13),
    conv(125, 1024, 1, 13),
)


def network(name: str, groups: tuple[tuple[Layer, ...], ...], formats: str) -> Network:
    activation, weights = formats.split(" / ")
    return Network(name, groups, activation, tuple(weights.split("-")))


NETWORKS = (
    network("MLP-M", perceptron(784, 128, 32, 10), "I3 / E3-E2-E3"),
    network("MLP-C", perceptron(3072, 224, 128, 64, 10), "I4 / I2-E3-I3-I4"),
    network("LeNet", single(conv(20, 1, 5, 24), conv(50, 20, 5, 8)), "I2 / E2-E2"),
    network("Cuda-convnet", single(conv(32, 3, 5, 32), conv(32, 32, 5, 16), conv(64, 32, 5, 8)), "I3 / I4-E3-I4"),
    network("AlexNet", single(*ALEXNET), "I5 / I5-I6-E4-E3-E4"),
    network("NiN", single(*NIN), "I6 / I4-I4-I6-E4-I5-I5-I6-I4-I6-E4-I5-I6"),
    network("VGG-16", vgg(), "I8 / I5-I3-I7-I5-I5-I4-E4-I4-I4-I5-I6-I4-I3"),
    network("GoogLeNet", GOOGLENET, "I6 / I6-I6-I5-I6-I4-I6-I5-I5-I5-I4"),
    network("ResNet-50", residuals(), "I7 / I6-I7-I5-I6-I6-I4-I5-I5-I5-I4-I4-I5-I6-I5-I3-I4"),
    network("DarkNet-ref", single(*DARKNET), "I7 / I8-I7-I8-I6-I6-I6-E4-I5"),
    network("Tiny YOLO", single(*TINY_YOLO), "I8 / I6-I6-I7-I6-I5-I5-I3-E3-I5"),
)

# Networks of Figure 9(b), and the widths that `bitwright tune` found for the inputs of their target layers where the
# data are here: 1 %, weights FIXED(16), activations FIXED, models/caffe_lenet.onnx (docs/hardware.md has the command).
SERIAL: dict[str, tuple[int, ...]] = {"LeNet": (2, 2), "Cuda-convnet": (), "AlexNet": (), "NiN": (), "GoogLeNet": ()}
