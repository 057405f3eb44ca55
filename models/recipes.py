"""How each network is trained: its settings, its pictures and how they are distorted.

Weight decay and smoothed labels keep weights, activations and logits in narrow ranges, which is what narrow number
formats want. Every picture is seen once an epoch, under a small random distortion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]
from torch.nn import functional  # type: ignore[import-not-found, unused-ignore]

from bitwright.ir.errors import CompileError
from bitwright.models import datasets, networks

ROTATION = math.radians(10.0)
SCALE = 0.1
SHIFT = 2.0 / 14.0  # two pixels of 28, in the units of affine_grid (half the picture is 1)
STEP = 4  # pixels that a colour picture may move


@dataclass(frozen=True)
class Pictures:
    """Pictures float32 [N, C, H, W] in [0, 1] and their classes int64 [N]."""

    x: torch.Tensor
    y: torch.Tensor


@dataclass(frozen=True)
class Kind:
    """What a network looks at: the shape of one picture, what pixel and class mean, how training distorts."""

    shape: tuple[int, int, int]
    pixels: str
    a_class: str
    distort: Callable[[torch.Tensor], torch.Tensor]


def turn(x: torch.Tensor) -> torch.Tensor:
    """Each picture of x, [N, C, H, W], turned, scaled and shifted a little, at random."""

    def draw(bound: float) -> torch.Tensor:
        return (2.0 * torch.rand(len(x)) - 1.0) * bound

    angle, scale = draw(ROTATION), 1.0 + draw(SCALE)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cos, -sin, draw(SHIFT), sin, cos, draw(SHIFT)], dim=1)
    grid = functional.affine_grid(rows.reshape(-1, 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def flip(x: torch.Tensor) -> torch.Tensor:
    """Each picture of x, [N, C, H, W], moved by up to STEP pixels and mirrored half of the time, at random."""
    count, _, height, width = x.shape
    windows = functional.pad(x, [STEP] * 4).unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * STEP + 1, (2, count))
    moved = windows[torch.arange(count), :, down, right]
    return torch.where(torch.rand(count, 1, 1, 1) < 0.5, moved, moved.flip(3))


DIGITS = Kind((1, 28, 28), "pixels in [0, 1], 1 is ink", "digit", turn)
COLOURS = Kind((3, 32, 32), "red, green and blue in [0, 1]", "class", flip)


@dataclass(frozen=True)
class Recipe:
    """A network, what it looks at, and the settings of stochastic gradient descent (Nesterov, cosine)."""

    network: Callable[[], nn.Sequential]
    kind: Kind
    epochs: int
    batch: int = 64
    peak_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-3
    label_smoothing: float = 0.05
    warm_up: float = 0.1
    """The fraction of all steps in which the rate climbs to its peak; a cosine down to zero follows."""
    bfloat16: bool = False
    """Multiply in bfloat16 and keep channels last, which is faster; sums and weights stay in float32."""

    def rate(self, progress: float) -> float:
        """The learning rate after this fraction of all steps."""
        if progress < self.warm_up:
            return self.peak_rate * progress / self.warm_up
        return self.peak_rate * 0.5 * (1.0 + math.cos(math.pi * (progress - self.warm_up) / (1.0 - self.warm_up)))


RECIPES = {
    "lenet5": Recipe(networks.lenet5, DIGITS, epochs=40),
    "caffe_lenet": Recipe(networks.caffe_lenet, DIGITS, epochs=10),
    "mlp_m": Recipe(networks.mlp_m, DIGITS, epochs=30, weight_decay=1e-4),
    "mlp_c": Recipe(networks.mlp_c, COLOURS, epochs=85, batch=128, weight_decay=5e-4),
    "cifar10_quick": Recipe(
        networks.cifar10_quick, COLOURS, epochs=24, peak_rate=0.03, weight_decay=5e-4, bfloat16=True
    ),
    "resnet20": Recipe(networks.resnet20, COLOURS, epochs=22, peak_rate=0.1, weight_decay=5e-4, bfloat16=True),
}


def read(source: str, split: datasets.Split, kind: Kind) -> Pictures:
    """One split of a data set of `datasets.load`, with pixels in 0..255 or in [0, 1]."""
    found = datasets.load(source, split)
    x = torch.from_numpy(found.x / 255.0 if found.x.max() > 1.0 else found.x)
    if found.y is None:
        raise CompileError(f"{source}: no labels", help="training needs y, the class of every picture")
    if tuple(x.shape[1:]) not in (kind.shape, kind.shape[kind.shape[0] == 1 :]):
        raise CompileError(f"{source}: pictures of {_text(x.shape[1:])}, the network takes {_text(kind.shape)}")
    return Pictures(x.reshape(-1, *kind.shape), torch.from_numpy(found.y))


def _text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
