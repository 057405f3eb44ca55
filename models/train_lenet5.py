"""The recipe of lenet5.onnx: LeNet-5 (LeCun et al., 1998) with ReLU and max pooling, trained on MNIST.

    python -m bitwright.models.train_lenet5 --mnist mnist.npz -o models/lenet5.onnx

Needs the extra `[train]` (torch). Every image is seen once an epoch, under a small random affine distortion.
Weight decay and smoothed labels keep weights, activations and logits in narrow ranges, which is what narrow
number formats want. One thread and fixed seeds: the same torch build on the same kind of processor gives the
same bytes. The test images are looked at once, at the end; `--holdout` is there to compare settings.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped, unused-ignore]
import torch  # type: ignore[import-not-found, unused-ignore]
from onnx import helper, numpy_helper
from torch import nn  # type: ignore[import-not-found, unused-ignore]
from torch.nn import functional  # type: ignore[import-not-found, unused-ignore]

BATCH = 64
PEAK_RATE = 0.05
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.05
WARM_UP = 0.1  # of all steps, linear; a cosine down to zero follows

ROTATION = math.radians(10.0)
SCALE = 0.1
SHIFT = 2.0 / 14.0  # two pixels of 28, in the units of affine_grid (half the picture is 1)


@dataclass(frozen=True)
class Digits:
    """Pictures float32 [N, 1, 28, 28] in [0, 1] and their labels int64 [N]."""

    x: torch.Tensor
    y: torch.Tensor


def read(path: Path, split: str) -> Digits:
    """One split of a file with x_train, y_train, x_test, y_test (uint8), as Keras distributes MNIST."""
    with np.load(path) as arrays:
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    pixels = torch.from_numpy(x.astype(np.float32) / np.float32(255.0))
    return Digits(pixels.reshape(-1, 1, 28, 28), torch.from_numpy(y.astype(np.int64)))


def lenet5() -> nn.Sequential:
    """The network, its layers numbered as in the paper."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
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
    )


def distort(x: torch.Tensor) -> torch.Tensor:
    """Each picture turned, scaled and shifted a little, at random."""

    def draw(bound: float) -> torch.Tensor:
        return (2.0 * torch.rand(len(x)) - 1.0) * bound

    angle, scale = draw(ROTATION), 1.0 + draw(SCALE)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cos, -sin, draw(SHIFT), sin, cos, draw(SHIFT)], dim=1)
    grid = functional.affine_grid(rows.reshape(-1, 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def rate(progress: float) -> float:
    """The learning rate after this fraction of all steps."""
    if progress < WARM_UP:
        return PEAK_RATE * progress / WARM_UP
    return PEAK_RATE * 0.5 * (1.0 + math.cos(math.pi * (progress - WARM_UP) / (1.0 - WARM_UP)))


def train(network: nn.Sequential, digits: Digits, epochs: int) -> None:
    optimiser = torch.optim.SGD(
        network.parameters(), lr=0.0, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    count = len(digits.x)
    steps = epochs * math.ceil(count / BATCH)
    step = 0
    for epoch in range(epochs):
        began, total = time.monotonic(), 0.0
        order = torch.randperm(count)
        for start in range(0, count, BATCH):
            batch = order[start : start + BATCH]
            step += 1
            for group in optimiser.param_groups:
                group["lr"] = rate(step / steps)
            logits = network(distort(digits.x[batch]))
            loss = functional.cross_entropy(logits, digits.y[batch], label_smoothing=LABEL_SMOOTHING)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimiser.step()
            total += loss.item() * len(batch)
        took = time.monotonic() - began
        print(f"epoch {epoch + 1:3d} of {epochs}  loss {total / count:.4f}  {took:.1f} s", flush=True)


def score(network: nn.Sequential, digits: Digits) -> float:
    """The fraction of digits that torch gets right; prints the range of every layer on the way."""
    x = digits.x
    with torch.no_grad():
        for name, layer in network.named_children():
            x = layer(x)
            if isinstance(layer, nn.Conv2d | nn.Linear):
                widest = layer.weight.abs().max().item()
                print(f"{name:6s} weights up to {widest:.3f}, outputs {x.min():.2f} .. {x.max():.2f}")
    return int((x.argmax(1) == digits.y).sum()) / len(digits.y)


def attributes(layer: nn.Module) -> tuple[str, dict[str, Any]]:
    """The ONNX operator of a layer and its attributes."""
    match layer:
        case nn.Conv2d():
            pads = [int(p) for p in layer.padding]
            return "Conv", {
                "kernel_shape": list(layer.kernel_size),
                "pads": pads + pads,
                "strides": list(layer.stride),
            }
        case nn.MaxPool2d(kernel_size=int(side)):
            return "MaxPool", {"kernel_shape": [side, side], "strides": [side, side]}
        case nn.Linear():
            return "Gemm", {"transB": 1}
        case nn.Flatten():
            return "Flatten", {"axis": 1}
        case nn.ReLU():
            return "Relu", {}
        case _:
            raise TypeError(f"{type(layer).__name__} has no ONNX form here")


def to_onnx(network: nn.Sequential) -> onnx.ModelProto:
    """The network as ONNX: a value has the name of the node that makes it, a weight that of its layer."""
    nodes, weights, value = [], [], "image"
    for name, layer in network.named_children():
        inputs = [value]
        for role, tensor in layer.named_parameters():
            inputs.append(f"{name}.{role}")
            weights.append(numpy_helper.from_array(tensor.detach().numpy(), inputs[-1]))
        kind, given = attributes(layer)
        value = "logits" if name == "fc7" else name
        nodes.append(helper.make_node(kind, inputs, [value], name, **given))
    float32 = onnx.TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", float32, ["N", 1, 28, 28], "pixels in [0, 1], 1 is ink")
    logits = helper.make_tensor_value_info("logits", float32, ["N", 10], "one score a digit, the largest wins")
    model = helper.make_model(
        helper.make_graph(nodes, "lenet5", [image], [logits], weights),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="bitwright",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def score_onnx(model: onnx.ModelProto, digits: Digits) -> float:
    """The fraction of digits that onnxruntime gets right."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": digits.x.numpy()})
    return float(np.mean(logits.argmax(axis=1) == digits.y.numpy()))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train LeNet-5 on MNIST and write it as ONNX.")
    parser.add_argument("--mnist", type=Path, required=True, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--holdout",
        type=int,
        default=0,
        metavar="N",
        help="keep the last N training images out and score them instead of the test images",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("lenet5.onnx"))
    given = parser.parse_args(arguments)
    if not given.mnist.is_file():
        parser.error(f"{given.mnist}: no such file")
    if given.epochs < 1:
        parser.error("--epochs: train for 1 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    given = parsed(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(given.seed)
    digits = read(given.mnist, "train")
    kept = len(digits.x) - given.holdout
    network = lenet5()
    train(network, Digits(digits.x[:kept], digits.y[:kept]), given.epochs)
    model = to_onnx(network)

    judge = Digits(digits.x[kept:], digits.y[kept:]) if given.holdout else read(given.mnist, "test")
    accuracy, again = score(network, judge), score_onnx(model, judge)
    print(f"{'held-out' if given.holdout else 'test'} accuracy {accuracy:.2%} in torch, {again:.2%} in onnxruntime")
    if abs(accuracy - again) > 2.0 / len(judge.x):  # a near tie may fall the other way
        raise SystemExit("error: the .onnx does not compute what was trained")

    scratch = given.output.with_name(given.output.name + ".part")
    onnx.save(model, scratch)
    os.replace(scratch, given.output)
    print(f"wrote {given.output}: {sum(p.numel() for p in network.parameters()):,} parameters")


if __name__ == "__main__":
    main()
