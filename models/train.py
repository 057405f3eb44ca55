"""Trains a network of this folder and writes it as ONNX.

    python -m bitwright.models.train lenet5 --data mnist.npz -o models/lenet5.onnx

`--start` goes on from a network that was trained before, with a new cycle of the learning rate.

Needs the extra `[train]` (torch). One thread and fixed seeds: the same torch build on the same kind of processor
gives the same bytes. The test images are looked at once, at the end; `--holdout` is there to compare settings.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped, unused-ignore]
import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]
from torch.nn import functional  # type: ignore[import-not-found, unused-ignore]

from bitwright.ir.errors import CompileError
from bitwright.models.networks import Centred
from bitwright.models.recipes import RECIPES, Pictures, Recipe, read
from bitwright.models.to_onnx import to_onnx

GROUP = 1000
"""Pictures that are scored together."""
SETTINGS = ("peak_rate", "batch", "weight_decay", "label_smoothing")
"""What an option may change in a recipe."""


def train(recipe: Recipe, pictures: Pictures, epochs: int, start: Path | None = None) -> nn.Sequential:
    """The network of the recipe, trained with the generator of torch as it stands, ready to be scored.

    start: an .onnx of the same network, which goes on from its numbers. Raises CompileError if it is of another.
    """
    network = recipe.network()
    if start is not None:
        plain(network)
        take(network, onnx.load(start), start)
    layout = torch.channels_last if recipe.bfloat16 else torch.contiguous_format
    network.to(memory_format=layout)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=0.0, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    count = len(pictures.x)
    steps = epochs * math.ceil(count / recipe.batch)
    step = 0
    for epoch in range(epochs):
        began, total = time.monotonic(), 0.0
        order = torch.randperm(count)
        for batch in order.split(recipe.batch):
            step += 1
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate(step / steps)
            x = recipe.kind.distort(pictures.x[batch]).contiguous(memory_format=layout)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                logits = network(x)
            loss = functional.cross_entropy(logits.float(), pictures.y[batch], label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimiser.step()
            total += loss.item() * len(batch)
        took = time.monotonic() - began
        print(f"epoch {epoch + 1:3d} of {epochs}  loss {total / count:.4f}  {took:.1f} s", flush=True)
    plain(network)
    return network.eval().to(memory_format=torch.contiguous_format)


def plain(network: nn.Sequential) -> None:
    """Put ordinary layers in the place of centred ones."""
    for name, layer in network.named_children():
        if isinstance(layer, Centred):
            setattr(network, name, layer.plain())


def take(network: nn.Sequential, model: onnx.ModelProto, path: Path) -> None:
    """Give a network the numbers of its .onnx, in which a weight has the name of its layer.

    Raises CompileError if it is of another network.
    """
    given = {weight.name: onnx.numpy_helper.to_array(weight) for weight in model.graph.initializer}
    for place, tensor in network.state_dict().items():
        layer, role = place.split(".")[-2:]
        if tensor.ndim:  # all but the number of batches that a batch normalisation has seen
            found = given.get(f"{layer}.{role}")
            if found is None or found.shape != tuple(tensor.shape):
                raise CompileError(f"{path}: no {layer}.{role} of shape {list(tensor.shape)}, so it is another network")
            tensor.copy_(torch.from_numpy(found.copy()))


def score(network: nn.Sequential, pictures: Pictures) -> float:
    """The fraction of pictures that torch gets right; prints the range of every layer on the way."""
    right = 0
    with torch.no_grad(), _ranges(network):
        for x, y in zip(pictures.x.split(GROUP), pictures.y.split(GROUP), strict=True):
            right += int((network(x).argmax(1) == y).sum())
    return right / len(pictures.y)


@contextmanager
def _ranges(network: nn.Sequential) -> Iterator[None]:
    """Prints the largest weight and the outputs of every layer with weights, over all that it was given."""
    seen: dict[str, tuple[float, float]] = {}
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}

    def watch(name: str, y: torch.Tensor) -> None:
        low, high = seen.get(name, (math.inf, -math.inf))
        seen[name] = (min(low, y.min().item()), max(high, y.max().item()))

    hooks = [
        layer.register_forward_hook(lambda _layer, _x, y, name=name: watch(name, y)) for name, layer in layers.items()
    ]
    yield
    for hook in hooks:
        hook.remove()
    for name, (low, high) in seen.items():
        widest = layers[name].weight.abs().max().item()
        print(f"{name.split('.')[-1]:10s} weights up to {widest:.3f}, outputs {low:.2f} .. {high:.2f}")


def score_onnx(model: onnx.ModelProto, pictures: Pictures) -> float:
    """The fraction of pictures that onnxruntime gets right."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    groups = [session.run(["logits"], {"image": x.numpy()})[0] for x in pictures.x.split(GROUP)]
    return float(np.mean(np.concatenate(groups).argmax(axis=1) == pictures.y.numpy()))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network and write it as ONNX.")
    parser.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--data", required=True, help="npz with x_train, y_train, x_test, y_test, pixels 0..255")
    parser.add_argument("--test", help="the test images, if --data does not hold them")
    parser.add_argument("--epochs", type=int, help="as the recipe says by default")
    parser.add_argument("--rate", dest="peak_rate", type=float, help="the highest learning rate, as the recipe says")
    parser.add_argument("--batch", type=int, help="pictures of a step, as the recipe says by default")
    parser.add_argument("--weight-decay", type=float, help="as the recipe says by default")
    parser.add_argument("--label-smoothing", type=float, help="as the recipe says by default")
    parser.add_argument("--start", type=Path, metavar="ONNX", help="a trained file of the same network to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--holdout",
        type=int,
        default=0,
        metavar="N",
        help="keep the last N training images out and score them instead of the test images",
    )
    parser.add_argument("-o", "--output", type=Path, help="NAME.onnx by default")
    given = parser.parse_args(arguments)
    for option, number, least, below in (
        ("--epochs", given.epochs, 1, math.inf),
        ("--rate", given.peak_rate, 0, math.inf),
        ("--batch", given.batch, 1, math.inf),
        ("--weight-decay", given.weight_decay, 0, math.inf),
        ("--label-smoothing", given.label_smoothing, 0, 1),
    ):
        if number is not None and not least <= number < below:
            end = "" if below == math.inf else f" and below {below}"
            parser.error(f"{option}: at least {least}{end}, not {number:g}")
    given.output = given.output or Path(f"{given.name}.onnx")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    given = parsed(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(given.seed)
    recipe = replace(
        RECIPES[given.name],
        **{name: value for name, value in vars(given).items() if name in SETTINGS and value is not None},
    )
    try:
        pictures = read(given.data, "train", recipe.kind)
        test = read(given.test or given.data, "test", recipe.kind)
    except CompileError as error:
        raise SystemExit(f"error: {error}") from error
    kept = len(pictures.x) - given.holdout
    if not given.holdout and torch.equal(pictures.x, test.x):
        raise SystemExit(f"error: {given.data} holds no test images: give --test or --holdout")
    judge = Pictures(pictures.x[kept:], pictures.y[kept:]) if given.holdout else test
    learned = Pictures(pictures.x[:kept], pictures.y[:kept])
    try:
        network = train(recipe, learned, given.epochs or recipe.epochs, given.start)
    except CompileError as error:
        raise SystemExit(f"error: {error}") from error
    model = to_onnx(network, given.name, recipe.kind)

    print(f"on {len(judge.x):,} {'held-out' if given.holdout else 'test'} images:")
    write(network, model, judge, given.output)


def write(network: nn.Sequential, model: onnx.ModelProto, judge: Pictures, path: Path) -> None:
    """Write a network's .onnx, and print what both get right. Raises SystemExit if they do not agree."""
    accuracy, again = score(network, judge), score_onnx(model, judge)
    print(f"accuracy {accuracy:.2%} in torch, {again:.2%} in onnxruntime")
    if abs(accuracy - again) > 2.0 / len(judge.x):  # a near tie may fall the other way
        raise SystemExit("error: the .onnx does not compute what was trained")

    scratch = path.with_name(path.name + ".part")
    onnx.save(model, scratch)
    os.replace(scratch, path)
    print(f"wrote {path}: {sum(p.numel() for p in network.parameters()):,} parameters")


if __name__ == "__main__":
    main()
