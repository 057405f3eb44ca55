"""The networks of this folder as torch modules, one function each; `recipes.py` says how each is trained.

Images are float32 [N, C, H, W] with pixels in [0, 1], logits are float32 [N, 10]. A layer's key becomes its name in
the .onnx, so keys are unique in a network. Every network is a Sequential of plain layers and of `Residual`s.
"""

from __future__ import annotations

import copy
from collections import OrderedDict

import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]


class Residual(nn.Module):  # type: ignore[misc, unused-ignore]
    """The sum of what a body and a shortcut make of the same value; an empty shortcut is the value itself."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


class Centred(nn.Module):  # type: ignore[misc, unused-ignore]
    """A first layer that learns as if the pixels had mean 0 and deviation 1, padding (black) included.

    w ((x - MEAN) / DEVIATION) + b  =  (w / DEVIATION) x + (b - MEAN sum(w) / DEVIATION), which `plain` returns.
    """

    MEAN = 0.473  # of CIFAR-10's training images, all channels together
    DEVIATION = 0.251

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def folded(self) -> dict[str, torch.Tensor]:
        """Weight and bias for pixels as they are."""
        weight = self.layer.weight / self.DEVIATION
        return {"weight": weight, "bias": self.layer.bias - self.MEAN * weight.flatten(1).sum(1)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(self.layer, self.folded(), (x,))

    def plain(self) -> nn.Conv2d | nn.Linear:
        """The ordinary layer that computes the same."""
        layer = copy.deepcopy(self.layer)
        layer.load_state_dict(self.folded())
        return layer


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def lenet5() -> nn.Sequential:
    """LeNet-5 with ReLU and max pooling, [N, 1, 28, 28]; its layers are numbered as in the paper.

    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998.
    """
    return _named(
        conv1=nn.Conv2d(1, 6, 5, padding=2),
        relu1=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        conv3=nn.Conv2d(6, 16, 5),
        relu3=nn.ReLU(),
        pool4=nn.MaxPool2d(2),
        conv5=nn.Conv2d(16, 120, 5),
        relu5=nn.ReLU(),
        flatten=nn.Flatten(),
        fc6=nn.Linear(120, 84),
        relu6=nn.ReLU(),
        fc7=nn.Linear(84, 10),
    )


def caffe_lenet() -> nn.Sequential:
    """Caffe's LeNet, [N, 1, 28, 28]: wider than LeNet-5, no padding, one ReLU (examples/mnist/lenet.prototxt)."""
    return _named(
        conv1=nn.Conv2d(1, 20, 5),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(20, 50, 5),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(800, 500),
        relu1=nn.ReLU(),
        fc2=nn.Linear(500, 10),
    )


def mlp_m() -> nn.Sequential:
    """A small perceptron of three layers for digits, [N, 1, 28, 28]."""
    return _named(
        flatten=nn.Flatten(),
        fc1=nn.Linear(784, 128),
        relu1=nn.ReLU(),
        fc2=nn.Linear(128, 32),
        relu2=nn.ReLU(),
        fc3=nn.Linear(32, 10),
    )


def mlp_c() -> nn.Sequential:
    """A perceptron of four layers for colour pictures, [N, 3, 32, 32]."""
    return _named(
        flatten=nn.Flatten(),
        fc1=Centred(nn.Linear(3072, 224)),
        relu1=nn.ReLU(),
        fc2=nn.Linear(224, 128),
        relu2=nn.ReLU(),
        fc3=nn.Linear(128, 64),
        relu3=nn.ReLU(),
        fc4=nn.Linear(64, 10),
    )


def cifar10_quick() -> nn.Sequential:
    """Caffe's quick network, [N, 3, 32, 32] (examples/cifar10/cifar10_quick.prototxt)."""
    return _named(
        conv1=Centred(nn.Conv2d(3, 32, 5, padding=2)),
        pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(32, 32, 5, padding=2),
        relu2=nn.ReLU(),
        pool2=nn.AvgPool2d(3, 2, ceil_mode=True),
        conv3=nn.Conv2d(32, 64, 5, padding=2),
        relu3=nn.ReLU(),
        pool3=nn.AvgPool2d(3, 2, ceil_mode=True),
        flatten=nn.Flatten(),
        fc1=nn.Linear(1024, 64),
        fc2=nn.Linear(64, 10),
    )


def resnet20() -> nn.Sequential:
    """ResNet-20 for CIFAR-10, [N, 3, 32, 32]; where the size changes, the shortcut is a 1x1 convolution.

    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015, section 4.2. The layers with
    weights are numbered 1 to 20, a sum and a shortcut after the last convolution that they go around.
    """

    def conv(at: int, inside: int, outside: int, stride: int = 1) -> dict[str, nn.Module]:
        return {
            f"conv{at}": nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
            f"bn{at}": nn.BatchNorm2d(outside),
        }

    layers: dict[str, nn.Module] = {**conv(1, 3, 16), "relu1": nn.ReLU()}
    inside = 16
    for at, outside in zip(range(3, 20, 2), [16] * 3 + [32] * 3 + [64] * 3, strict=True):
        stride = outside // inside
        body = {**conv(at - 1, inside, outside, stride), f"relu{at - 1}": nn.ReLU(), **conv(at, outside, outside)}
        shortcut: dict[str, nn.Module] = {}
        if stride > 1:
            shortcut = {
                f"shortcut{at}": nn.Conv2d(inside, outside, 1, stride, bias=False),
                f"shortcut_bn{at}": nn.BatchNorm2d(outside),
            }
        layers |= {f"add{at}": Residual(_named(**body), _named(**shortcut)), f"relu{at}": nn.ReLU()}
        inside = outside
    return _named(**layers, pool20=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc20=nn.Linear(64, 10))
