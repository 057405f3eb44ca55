"""Averages trained files of one network: the ends of several cycles of training, weight by weight.

    python -m bitwright.models.average resnet20 third.onnx fourth.onnx --data cifar10.npz -o models/resnet20.onnx

Stochastic weight averaging (Izmailov and others, 2018): the mean of networks that one training passes through lies
deeper in its valley than they do. What batch normalisations know of their inputs is measured anew, on distorted
training pictures. Needs the extra `[train]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]

from bitwright.ir.errors import CompileError
from bitwright.models.recipes import RECIPES, Pictures, Recipe, read
from bitwright.models.to_onnx import to_onnx
from bitwright.models.train import plain, take, write

MEASURED, GROUP = 20_000, 500
"""Pictures that batch normalisations are measured on, and of them at a time."""


def averaged(recipe: Recipe, paths: Sequence[Path], pictures: Pictures) -> nn.Sequential:
    """The mean of these networks, ready to be scored. Raises CompileError if a file is of another network."""
    networks = []
    for path in paths:
        network = recipe.network()
        plain(network)
        take(network, onnx.load(path), path)
        networks.append(network.state_dict())
    made = recipe.network()
    plain(made)
    state = made.state_dict()
    for place, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([network[place] for network in networks]).mean(0))
    made.load_state_dict(state)
    normalisations = [layer for layer in made.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in normalisations:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all groups
    made.train()
    with torch.no_grad():
        for group in torch.randperm(len(pictures.x))[:MEASURED].split(GROUP) if normalisations else ():
            made(recipe.kind.distort(pictures.x[group]))
    return made.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Average trained files of one network.")
    parser.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("files", nargs="+", type=Path, metavar="ONNX", help="trained files of the network")
    parser.add_argument("--data", required=True, help="npz with x_train, y_train, x_test, y_test, pixels 0..255")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(given.seed)
    recipe = RECIPES[given.name]
    try:
        test = read(given.data, "test", recipe.kind)
        network = averaged(recipe, given.files, read(given.data, "train", recipe.kind))
    except CompileError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"on {len(test.x):,} test images:")
    write(network, to_onnx(network, given.name, recipe.kind), test, given.output)


if __name__ == "__main__":
    main()
