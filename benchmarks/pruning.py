"""Pruning: the LeNet paper's experiment, all layers at once, and torch-pruning at equal work.

    python benchmarks/pruning.py --data mnist.npz [--cifar10 cifar10.npz] [--networks NAME=MODEL.onnx]
    python benchmarks/pruning.py --show

mnist.npz holds x_train, y_train, x_test, y_test (uint8 pixels, N,28,28), cifar10.npz the same of N,3,32,32. Channels
are chosen and layers refitted on the first 1,000 training images, without labels; accuracies are those of all test
images, which no case chooses by. The method's own order of layers was settled by looking at test accuracies, though.
Seconds are of this process's CPU time, one thread, the passes alone. Only rows called `retrained` are trained, five
epochs on all training images with their labels (extra `train`).

paper    conv5's input channels of LeNet-5, with the filters of conv3 that make them: Tables V and VI of the paper
all      every layer that can be pruned, at once, each to the same sparsity
rival    torch-pruning 1.6.1 (extra `benchmark`) beside ours, every layer to the same ratio: the smallest
         network that its ratios give with at least as many multiplications as ours. Its `taylor` and `hessian` take the
         gradients of the loss on the same 1,000 images with their labels

Results are written after each case to --output, and a case whose result is there is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from bitwright.backends.simulation.score import score
from bitwright.ir.graph import Graph
from bitwright.passes import Context, run_passes
from bitwright.passes.pruning import PruneChannels
from bitwright.passes.refit import Refit
from bitwright.pruning import Size, context_of
from bitwright.tuning import prepared

MODELS = Path(__file__).parents[1] / "models"
IMAGES = 1000
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
CHOICES = ("last", "random", "frobenius", "hessian")
RIVAL_SPARSITIES = (0.3, 0.5, 0.7)
RIVALS = ("magnitude", "taylor", "hessian")
TABLE_V = {"last": {0.5: 0.2775, 0.7: 0.2775, 0.8: 0.1005, 0.9: 0.1005}}
TABLE_V["frobenius"] = {0.5: 0.971, 0.7: 0.906, 0.8: 0.839, 0.9: 0.3265}
TABLE_VI = {0.7: (0.9060, 0.9795), 0.8: (0.8390, 0.9705), 0.9: (0.3265, 0.9665), 0.95: (0.2680, 0.9355)}

EPOCHS = 5

Row = dict[str, Any]


class Data:
    """Calibration images [1000, ...] with labels, and test images with labels; pixels in [0, 1]."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.x, self.y = self.split("train", IMAGES)
        self.x_test, self.y_test = self.split("test")

    def split(self, name: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        with np.load(self.path) as arrays:
            x, y = arrays[f"x_{name}"][:count], arrays[f"y_{name}"][:count]
        return (x[:, None] if x.ndim == 3 else x).astype(np.float32) / np.float32(255), y.astype(np.int64)

    def accuracy(self, graph: Graph) -> float:
        return score(graph, self.x_test, self.y_test).value


# ---- ours


def biases(graph: Graph, context: Context, data: Data) -> Graph:
    return run_passes(graph, [Refit("biases")], context)


def refitted(graph: Graph, context: Context, data: Data) -> Graph:
    return run_passes(graph, [Refit()], context)


def retrained(graph: Graph, context: Context, data: Data) -> Graph:
    """Refitted, then trained like the paper's: on all training images."""
    from bitwright.train.settings import Settings
    from bitwright.train.training import train

    return train(refitted(graph, context, data), *data.split("train"), Settings(epochs=EPOCHS)).graph


STAGES: dict[str, Callable[[Graph, Context, Data], Graph]] = {
    "pruned": lambda graph, context, data: graph,
    "biases": biases,
    "refitted": refitted,
}


def pruned(graph: Graph, data: Data, one: PruneChannels, after: Callable[[Graph, Context, Data], Graph]) -> Row:
    """One network after pruning and what comes after that."""
    context = context_of(graph, data.x)
    start = time.process_time()
    small = after(run_passes(graph, [one], context), context, data)
    seconds = time.process_time() - start
    size = Size.of(small)
    return {
        "accuracy": data.accuracy(small),
        "parameters": size.parameters,
        "multiplications": size.multiplications,
        "cpu_s": round(seconds, 2),
    }


# ---- torch-pruning


def torch_network(name: str, model: Path) -> Any:
    """The torch module of models/networks.py with the weights of the .onnx."""
    import onnx
    import torch
    from onnx import numpy_helper

    from bitwright.models import networks

    network = getattr(networks, name)()
    for key, layer in network.named_children():
        if isinstance(layer, networks.Centred):
            setattr(network, key, layer.layer)
    weights = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in onnx.load(model).graph.initializer}
    own = network.state_dict()
    for key in own:
        short = ".".join(key.split(".")[-2:])
        if not key.endswith("num_batches_tracked"):
            own[key] = weights[short]
    network.load_state_dict(own)
    return network.eval()


def rival(name: str, model: Path, data: Data, kind: str, least: int) -> Row:
    """torch-pruning's smallest network of at least so many multiplications; the seconds are those of one pruning."""
    import torch

    torch.set_num_threads(1)
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    ratios = (round(0.02 * step, 2) for step in range(1, 49))  # beyond some of them it leaves layers as they are
    *_, ratio = itertools.takewhile(
        lambda r: _multiplications(_torch_pruned(name, model, "magnitude", r, x, y), x[:1]) >= least, ratios
    )
    start = time.process_time()
    network = _torch_pruned(name, model, kind, ratio, x, y)
    seconds = time.process_time() - start
    with torch.no_grad():
        scores = torch.cat([network(torch.tensor(part)) for part in np.array_split(data.x_test, 20)])
    right = scores.reshape(len(scores), -1).argmax(1).numpy() == data.y_test
    return {
        "accuracy": float(right.mean()),
        "multiplications": _multiplications(network, x[:1]),
        "parameters": sum(p.numel() for p in network.parameters()),
        "ratio": ratio,
        "cpu_s": round(seconds, 2),
    }


def _torch_pruned(name: str, model: Path, kind: str, ratio: float, x: Any, y: Any) -> Any:
    import torch
    import torch_pruning

    network = torch_network(name, model)
    importance = {
        "magnitude": torch_pruning.importance.GroupMagnitudeImportance,
        "taylor": torch_pruning.importance.GroupTaylorImportance,
        "hessian": torch_pruning.importance.GroupHessianImportance,
    }[kind]()
    last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    pruner = torch_pruning.pruner.BasePruner(
        network, x[:1], importance=importance, pruning_ratio=ratio, ignored_layers=[last]
    )
    if kind == "taylor":
        torch.nn.functional.cross_entropy(network(x), y).backward()
    if kind == "hessian":  # the squared gradients of every image
        importance.zero_grad()
        for image, label in zip(x.split(1), y.split(1), strict=True):
            network.zero_grad()
            torch.nn.functional.cross_entropy(network(image), label).backward()
            importance.accumulate_grad(network)
    pruner.step()
    network.zero_grad()
    return network


def _multiplications(network: Any, example: Any) -> int:
    """Of all convolutions and dense layers, counted as bitwright counts them."""
    import torch

    total = 0

    def count(layer: Any, inputs: Any, output: Any) -> None:
        nonlocal total
        total += output[0].numel() * layer.weight[0].numel()

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    return total


# ---- cases


def cases(networks: dict[str, tuple[Path, Data]]) -> Iterable[tuple[Row, Callable[[list[Row]], Row]]]:
    """What identifies each result, and how it is made from those before it."""
    if "lenet5" in networks:
        model, data = networks["lenet5"]
        graph = prepared(model)
        for by, sparsity, stage in ((b, s, t) for b in CHOICES for s in SPARSITIES for t in STAGES):
            one = PruneChannels(sparsity, "conv5", by, "input")  # type: ignore[arg-type]
            key = {"part": "paper", "network": "lenet5", "by": by, "sparsity": sparsity, "stage": stage}
            yield key, lambda rows, g=graph, d=data, o=one, t=STAGES[stage]: pruned(g, d, o, t)
        for sparsity in TABLE_VI:
            one = PruneChannels(sparsity, "conv5", "hessian", "input")
            key = {"part": "paper", "network": "lenet5", "by": "hessian", "sparsity": sparsity, "stage": "retrained"}
            yield key, lambda rows, g=graph, d=data, o=one: pruned(g, d, o, retrained)
    for name, (model, data) in networks.items():
        graph = prepared(model)
        whole = {"part": "all", "network": name, "by": "", "sparsity": 0.0, "stage": "float"}
        size = Size.of(graph)
        yield (
            whole,
            lambda rows, g=graph, d=data, s=size: {
                "accuracy": d.accuracy(g),
                "parameters": s.parameters,
                "multiplications": s.multiplications,
                "cpu_s": 0.0,
            },
        )
        for by, sparsity, stage in ((b, s, t) for b in CHOICES for s in RIVAL_SPARSITIES for t in STAGES):
            one = PruneChannels(sparsity, by=by)  # type: ignore[arg-type]
            key = {"part": "all", "network": name, "by": by, "sparsity": sparsity, "stage": stage}
            yield key, lambda rows, g=graph, d=data, o=one, t=STAGES[stage]: pruned(g, d, o, t)
        for kind, sparsity in ((k, s) for k in RIVALS for s in RIVAL_SPARSITIES):
            key = {"part": "rival", "network": name, "by": kind, "sparsity": sparsity, "stage": "torch-pruning"}

            def compare(
                rows: list[Row], n: str = name, m: Path = model, d: Data = data, k: str = kind, s: float = sparsity
            ) -> Row:
                (ours,) = find(rows, part="all", network=n, by="hessian", sparsity=s, stage="refitted")
                return rival(n, m, d, k, ours["multiplications"])

            yield key, compare


def find(rows: list[Row], **key: Any) -> list[Row]:
    return [row for row in rows if all(row.get(name) == value for name, value in key.items())]


# ---- tables


def show(rows: list[Row]) -> None:
    """The tables of docs/pruning.md."""

    def at(**key: Any) -> str:
        found = find(rows, **key)
        return f"{found[0]['accuracy']:.4f}" if found else "-"

    print("\nTable V: conv5's input channels, before retraining")
    print("| sparsity | last, paper | last | Frobenius, paper | Frobenius | hessian | hessian, refitted |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for sparsity in SPARSITIES:
        paper = [f"{TABLE_V[by][sparsity]:.4f}" if sparsity in TABLE_V[by] else "-" for by in ("last", "frobenius")]
        last, norm, ours, fitted = (
            at(part="paper", by=by, sparsity=sparsity, stage=stage)
            for by, stage in (
                ("last", "pruned"),
                ("frobenius", "pruned"),
                ("hessian", "pruned"),
                ("hessian", "refitted"),
            )
        )
        print(f"| {sparsity:g} | {paper[0]} | {last} | {paper[1]} | {norm} | {ours} | {fitted} |")
    print("\nTable VI: before and after five epochs")
    print("| sparsity | before, paper | refitted, no training | after, paper | after |")
    print("| --- | --- | --- | --- | --- |")
    for sparsity, (before, after) in TABLE_VI.items():
        fitted = at(part="paper", by="hessian", sparsity=sparsity, stage="refitted")
        trained = at(part="paper", by="hessian", sparsity=sparsity, stage="retrained")
        print(f"| {sparsity:g} | {before:.4f} | {fitted} | {after:.4f} | {trained} |")
    print("\nAll layers at once")
    print("| network | sparsity | multiplications | choice | pruned | biases | refitted | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in find(rows, part="all", stage="refitted"):
        key = {name: row[name] for name in ("part", "network", "by", "sparsity")}
        stages = " | ".join(at(**key, stage=stage) for stage in ("pruned", "biases", "refitted"))
        work = f"{row['multiplications']:,}"
        print(f"| {row['network']} | {row['sparsity']:g} | {work} | {row['by']} | {stages} | {row['cpu_s']:.1f} |")
    print("\ntorch-pruning, at least as many multiplications as ours")
    print("| network | sparsity | ours: multiplications | accuracy | torch-pruning | multiplications | accuracy |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in find(rows, part="rival"):
        (ours,) = find(
            rows, part="all", network=row["network"], by="hessian", sparsity=row["sparsity"], stage="refitted"
        )
        mine = f"{ours['multiplications']:,} | {ours['accuracy']:.4f}"
        theirs = f"{row['by']} | {row['multiplications']:,} | {row['accuracy']:.4f}"
        print(f"| {row['network']} | {row['sparsity']:g} | {mine} | {theirs} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="MNIST as .npz")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as .npz")
    parser.add_argument("--networks", nargs="*", default=[], metavar="NAME=MODEL", help="more networks of CIFAR-10")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--show", action="store_true", help="print the tables of --output and run nothing")
    options = parser.parse_args()
    rows: list[Row] = json.loads(options.output.read_text()) if options.output.exists() else []
    if not options.show:
        if options.data is None:
            parser.error("--data is needed")
        digits = Data(options.data)
        networks = {name: (MODELS / f"{name}.onnx", digits) for name in ("lenet5", "caffe_lenet", "mlp_m")}
        if options.cifar10 is not None:
            pictures = Data(options.cifar10)
            networks["cifar10_quick"] = (MODELS / "cifar10_quick.onnx", pictures)
            networks |= {name: (Path(path), pictures) for name, path in (n.split("=") for n in options.networks)}
        for key, make in cases(networks):
            if not find(rows, **key):
                rows.append(key | make(rows))
                print(rows[-1], flush=True)
                part = options.output.with_suffix(".part")
                part.write_text(json.dumps(rows, indent=1) + "\n")
                part.replace(options.output)
    show(rows)


if __name__ == "__main__":
    main()
