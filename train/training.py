"""A short training of a network that was trained before: its numbers get used to fewer channels or narrow formats.

Adam, whose steps are in proportion to each tensor's own size, so that one rate suits networks of any scale: a weight
moves by up to `rate` times the root mean square of its tensor, a bias by that of its layer's sums, the bias of a format
by up to `rate` times BIAS. The rate climbs over the first twentieth of all steps and falls to zero along a cosine.
Latent numbers are kept within their formats' ranges.

A tenth of the samples (at most MOST_HELD) is never trained on. After each epoch it says how good the network is, and
the best one is what comes out: the start itself, where no epoch is better. Who knows that the network saw these samples
in an earlier training, which makes the start look better than it is, keeps the last one. Every random choice follows
from the seed and the step, so that a training that goes on from a checkpoint gives the bits that it would have given in
one go.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found, unused-ignore]
from numpy.typing import NDArray

from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import check_shape
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.text import to_text
from bitwright.train import checkpoint as checkpoints
from bitwright.train.loss import by_class, loss
from bitwright.train.module import SUMS, Network, learned_graph
from bitwright.train.settings import Settings

HELD = 0.1
MOST_HELD = 5000
MEASURED = 256
"""Samples on which the size of a layer's sums is measured."""
GROUP = 500
"""Samples that are scored together."""
BIAS = 0.25
WARM_UP = 0.05
SECONDS = 60.0
"""Between checkpoints inside an epoch."""

Augment = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Epoch:
    """After `number` epochs (0: the start): the mean loss of its steps, and how good the held samples are.

    agreeing: the share of held samples whose highest score is the label's, or the teacher's where there are no labels.
    """

    number: int
    loss: float
    held_loss: float
    agreeing: float


@dataclass(frozen=True)
class Progress:
    """How far a training is, told before its first step and after each; epoch: the last one that was finished."""

    step: int
    steps: int
    epoch: Epoch


@dataclass(frozen=True)
class Trained:
    """The network that a training keeps, the epoch it is of (0: the start), and all epochs."""

    graph: Graph
    best: int
    epochs: list[Epoch]


def held_back(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of so many samples those that are held back, and those that are trained on, in random order."""
    # a stream of its own: a search with the same seed looked at the first samples of the plain one
    order = np.random.default_rng((seed, 1)).permutation(count)
    held = min(max(1, int(HELD * count)), MOST_HELD)
    return order[:held], order[held:]


def train(
    graph: Graph,
    x: Array,
    y: NDArray[np.int64] | None,
    settings: Settings | None = None,
    *,
    teacher: Graph | None = None,
    augment: Augment | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    say: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """The graph with retrained numbers, on training samples x float32 [N, ...] and their labels y (or None).

    teacher: a network of the same classes whose scores are learned from, instead of labels or beside them; augment:
    distorts a batch of samples with torch's random numbers; checkpoint: a file from which `resume` goes on.
    On a GPU if torch has one. Raises CompileError for an op that cannot be trained, labels that are no classes, nothing
    to learn from, or a checkpoint of another training.
    """
    settings = settings or Settings()
    if y is None and teacher is None:
        raise CompileError("there is nothing to learn from: no labels and no teacher", help="--teacher FLOAT_MODEL")
    if settings.epochs < 1 or settings.batch < 1 or len(x) < 2:
        raise CompileError(f"{settings.epochs} epochs in batches of {settings.batch} on {len(x)} samples train nothing")
    for one in (graph, teacher):
        if one is not None and len(one.inputs) == 1:
            try:
                check_shape(one.inputs[0], one.input_name(one.inputs[0]), x)
            except CompileError as error:
                raise CompileError(f"{'the teacher: ' if one is teacher else ''}{error.message}", error.help) from error
    identity = _identity(graph, x, y, settings, teacher, augment)
    with _reproducible():
        run = _Run(graph, x, y, settings, teacher, augment)
        state = checkpoints.read(checkpoint, identity) if checkpoint is not None and resume else None
        if state is None:
            run.start()
        else:
            run.load(state)
        say(Progress(run.step, run.steps, run.epochs[-1]))
        written = time.monotonic()
        while run.step < run.steps:
            finished = run.advance()
            if checkpoint is not None and (finished or time.monotonic() - written > SECONDS):
                checkpoints.write(checkpoint, identity, run.state())
                written = time.monotonic()
            say(Progress(run.step, run.steps, run.epochs[-1]))
        return run.result()


class _Run:
    """A training between two steps."""

    def __init__(
        self,
        graph: Graph,
        x: Array,
        y: NDArray[np.int64] | None,
        settings: Settings,
        teacher: Graph | None,
        augment: Augment | None,
    ) -> None:
        self.settings, self.augment = settings, augment
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = Network(graph, settings.learn_biases).to(self.device)
        if not self.network.learned:
            raise CompileError(f"@{graph.name} has no weights of conv2d or dense to train")
        self.teacher = None if teacher is None else Network(teacher).to(self.device)
        self.x = torch.from_numpy(np.require(x, np.float32, ["C", "W"]))
        self.y = None if y is None else torch.from_numpy(np.require(y, np.int64, ["C", "W"]))
        held, self.shown = held_back(len(x), settings.seed)
        self.held = torch.from_numpy(held)
        self._check_classes()
        self.taught = None if self.teacher is None or augment is not None else self._taught(self.teacher)
        self.batches = math.ceil(len(self.shown) / settings.batch)
        self.steps = settings.epochs * self.batches
        self.step = 0
        self.total = 0.0
        self.epochs: list[Epoch] = []
        self.best = 0
        self.kept = self.latents()
        sizes = [*self._sizes(), *[BIAS] * len(self.network.biases)]
        groups = [{"params": [p], "size": size} for p, size in zip(self.network.trained, sizes, strict=True)]
        self.optimiser = torch.optim.Adam(groups, lr=0.0)

    def start(self) -> None:
        """Clamp what is learned, and measure how good the network is before any step."""
        self.network.clamp()
        self.kept = self.latents()
        self._measure(math.nan)

    def advance(self) -> bool:
        """Make one step; whether it was the last of its epoch."""
        epoch, place = divmod(self.step, self.batches)
        if place == 0:
            self.total = 0.0
            self.order = self._order(epoch)
        batch = self.order[place * self.settings.batch : (place + 1) * self.settings.batch]
        found = loss(*self._compared(self._distorted(self.x[batch]), batch))
        self.optimiser.zero_grad()
        found.backward()  # type: ignore[no-untyped-call, unused-ignore]
        rate = self._rate((self.step + 1) / self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["size"]
        self.optimiser.step()
        self.network.clamp()
        self.total += found.item() * len(batch)
        self.step += 1
        if place + 1 < self.batches:
            return False
        self._measure(self.total / len(self.shown))
        return True

    def latents(self) -> list[torch.Tensor]:
        """A copy of what is learned."""
        return [latent.detach().clone() for latent in self.network.trained]

    def state(self) -> dict[str, Any]:
        """All that changes, as torch saves it."""
        return {
            "step": self.step,
            "total": self.total,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best": self.best,
            "kept": self.kept,
            "latents": self.latents(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.step, self.total, self.best = state["step"], state["total"], state["best"]
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.kept = [kept.to(self.device) for kept in state["kept"]]
        self._put(state["latents"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.order = self._order(self.step // self.batches)

    def result(self) -> Trained:
        self._put(self.kept)
        return Trained(learned_graph(self.network), self.best, self.epochs)

    def _put(self, latents: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for latent, numbers in zip(self.network.trained, latents, strict=True):
                latent.copy_(numbers)
        self.network.clamp()

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.settings.seed, 2 + epoch)).permutation(self.shown)

    def _rate(self, progress: float) -> float:
        if progress < WARM_UP:
            return self.settings.rate * progress / WARM_UP
        return self.settings.rate * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))

    def _distorted(self, x: torch.Tensor) -> torch.Tensor:
        if self.augment is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
                x = self.augment(x)
        return x.to(self.device)

    def _compared(self, x: torch.Tensor, which: Any) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """The scores of samples x, and the labels and the teacher's scores that they should have."""
        labels = None if self.y is None else self.y[which].to(self.device)
        taught = None
        if self.taught is not None:
            taught = self.taught[which]
        elif self.teacher is not None:
            with torch.no_grad():
                taught = self.teacher(x)
        return self.network(x), labels, taught

    def _taught(self, teacher: Network) -> torch.Tensor:
        """The teacher's scores of all samples, which stay the same as long as nothing is distorted."""
        with torch.no_grad():
            return torch.cat([teacher(x.to(self.device)) for x in self.x.split(GROUP)])

    def _measure(self, mean: float) -> None:
        """Score the held samples; the first network is kept, and every better one, or every one."""
        total, right = 0.0, 0
        with torch.no_grad():
            for which in self.held.split(GROUP):
                scores, labels, taught = self._compared(self.x[which].to(self.device), which)
                total += float(loss(scores, labels, taught)) * len(which)
                wanted = labels if labels is not None or taught is None else by_class(taught).argmax(1)
                right += int((by_class(scores).argmax(1) == wanted).sum())
        made = Epoch(len(self.epochs), mean, total / len(self.held), right / len(self.held))
        before = self.epochs[self.best] if self.epochs else None
        self.epochs.append(made)
        better = before is None or (made.agreeing, -made.held_loss) > (before.agreeing, -before.held_loss)
        is_kept = better or self.settings.keep == "last"
        if before is None or (is_kept and math.isfinite(made.held_loss)):
            self.best, self.kept = made.number, self.latents()

    def _sizes(self) -> list[float]:
        """The root mean square of every weight; of a bias that of the sums it is added to."""
        watched: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            self.network(self.x[self.shown[:MEASURED]].to(self.device), watched)
        added = {id(node.operands[2]): node.name for node in self.network.nodes if node.op in SUMS and node.optional(2)}
        sizes = []
        for value, latent in zip(self.network.learned, self.network.latent, strict=True):
            numbers = watched[added[id(value)]] if id(value) in added else latent.detach()
            size = float(numbers.double().square().mean().sqrt())
            sizes.append(size or 1 / math.sqrt(max(1, latent[0].numel())))
        return sizes

    def _check_classes(self) -> None:
        with torch.no_grad():
            scores = [by_class(net(self.x[:1].to(self.device))) for net in (self.network, self.teacher) if net]
        classes = scores[0].shape[1]
        if len(scores) > 1 and scores[1].shape[1] != classes:
            raise CompileError(f"the network has {classes} classes, its teacher {scores[1].shape[1]}")
        if self.y is not None and not 0 <= int(self.y.min()) <= int(self.y.max()) < classes:
            raise CompileError(f"labels run from {self.y.min()} to {self.y.max()}, the network has {classes} classes")


def _identity(
    graph: Graph,
    x: Array,
    y: NDArray[np.int64] | None,
    settings: Settings,
    teacher: Graph | None,
    augment: Augment | None,
) -> str:
    """What a training's result follows from: the networks, the data, the settings and torch's version."""
    data = [Tensor(np.asarray(array)).key for array in (x, y) if array is not None]
    parts = [to_text(graph), to_text(teacher) if teacher else "", *data, str(settings)]
    return "\n".join([*parts, getattr(augment, "__name__", ""), str(torch.__version__)])


@contextmanager
def _reproducible() -> Iterator[None]:
    """Algorithms of torch that give the same bits each time, and float32 that is float32, for a while."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    single = torch.backends.cudnn.allow_tf32
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic in a workspace of its own
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.backends.cudnn.allow_tf32 = single
