"""What a short retraining gives back, in top-1 accuracy on the 10,000 test images, before and after.

    python benchmarks/retraining.py --mnist mnist.npz [--cifar10 cifar10.npz] -o benchmarks/retraining.json

LeNet-5 pruned as in the LeNet paper's Table VI (input channels of conv5 by Frobenius norm, no refit before retraining),
and networks in formats of few bits, from labels, or without labels from the float network. All settings are the
defaults of `bitwright retrain`, in some cases with `--learn-biases` ("+ B"); CIFAR-10 pictures are mirrored and moved
(`--augment flip`). Data are .npz files of x_train, y_train, x_test, y_test with uint8 pixels. Results are written after
each case; a case that is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bitwright.backends.simulation.score import score
from bitwright.ir.files import load
from bitwright.ir.graph import Graph
from bitwright.passes import STRUCTURE, run_passes
from bitwright.retraining import augmentation, in_formats
from bitwright.train.settings import Settings
from bitwright.train.training import train

MODELS = Path(__file__).parents[1] / "models"
PAPER = {"conv5 input -90%": 0.9665}  # Table VI, after retraining


@dataclass(frozen=True)
class Case:
    """A network, what is done to it before, and what it learns from."""

    network: str
    change: str
    teacher: str
    epochs: int
    learn_biases: bool = False


CASES = (
    Case("lenet5", "conv5 input -90%", "labels", 5),
    Case("lenet5", "FIXED 2", "labels", 5),
    Case("lenet5", "FIXED 2", "float network, no labels", 5),
    Case("lenet5", "FIXED 2", "labels", 5, learn_biases=True),
    Case("lenet5", "FIXED 3", "labels", 5),
    Case("lenet5", "FIXED 3", "labels", 5, learn_biases=True),
    Case("lenet5", "conv5 input -90%", "float network, no labels", 5),
    Case("lenet5", "BIN", "labels and float network", 5),
    Case("cifar10_quick", "FIXED 3", "labels and float network", 1),
)


def changed(graph: Graph, case: Case, x: np.ndarray[Any, np.dtype[np.float32]]) -> Graph:
    """The network pruned, or in formats."""
    if not case.change.startswith("conv5"):
        return in_formats(graph, case.change, x[:256])
    sparsity = float(case.change.rpartition("-")[2].rstrip("%")) / 100
    return run_passes(graph, f"prune-channels{{sparsity={sparsity},layer=conv5,side=input,by=frobenius}}")


def measure(case: Case, data: Path) -> dict[str, Any]:
    """Accuracies and seconds of one case."""
    with np.load(data) as arrays:
        x, test = ((arrays[name] / np.float32(255)).astype(np.float32) for name in ("x_train", "x_test"))
        y, test_y = (arrays[name].astype(np.int64) for name in ("y_train", "y_test"))
    if x.ndim == 3:
        x, test = x[:, None], test[:, None]
    original = run_passes(load(MODELS / f"{case.network}.onnx"), STRUCTURE)
    graph = changed(original, case, x)
    began = time.monotonic()
    found = train(
        graph,
        x,
        y if "labels" in case.teacher.removesuffix("no labels") else None,
        Settings(epochs=case.epochs, learn_biases=case.learn_biases),
        teacher=original if "float" in case.teacher else None,
        augment=augmentation("flip") if "cifar10" in case.network else None,
    )
    accuracies = [score(one, test, test_y).value for one in (original, graph, found.graph)]
    names = ("float", "before", "after")
    return dict(zip(names, accuracies, strict=True)) | {"images": len(x), "seconds": round(time.monotonic() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy before and after a short retraining.")
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("retraining.json"))
    given = parser.parse_args()
    done = json.loads(given.output.read_text()) if given.output.exists() else {}
    print(f"{'network':14} {'change':17} {'learns from':25}  float  before  after   paper      s")
    for case in CASES:
        key = f"{case.network}, {case.change}, {case.teacher}, {case.epochs} epochs"
        key += ", biases of formats too" if case.learn_biases else ""
        data = given.cifar10 if "cifar10" in case.network else given.mnist
        if key not in done:
            if data is None:
                continue
            done[key] = measure(case, data)
            part = given.output.with_suffix(".part")
            part.write_text(json.dumps(done, indent=2) + "\n")
            os.replace(part, given.output)
        row = done[key]
        paper = f"{PAPER[case.change]:.4f}" if case.change in PAPER and case.teacher == "labels" else ""
        figures = f"{row['float']:.4f}  {row['before']:.4f}  {row['after']:.4f}  {paper:6} {row['seconds']:6}"
        change = case.change + (" + B" if case.learn_biases else "")
        print(f"{case.network:14} {change:17} {case.teacher:25} {figures}", flush=True)


if __name__ == "__main__":
    main()
