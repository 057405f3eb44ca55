"""Who measures a candidate's accuracy: the simulation here, or a command of the user's (tuner/command.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import check_labels, class_scores, hits
from bitwright.ir.errors import CompileError
from bitwright.ir.files import store
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.ir.text import to_text
from bitwright.tuner.candidate import Candidate

SMALL = 10
"""The small set is one in so many images: the paper runs 10 of 100 batches."""


class Judge(Protocol):
    """Measures accuracies on a small and a full set of images; another process can be given a copy of it."""

    @property
    def images(self) -> int | None:
        """How many images the full set has, if that is known."""

    def identity(self) -> str:
        """Text that differs whenever accuracies may: the key in the database."""

    def share(self, full: bool) -> float:
        """The cost of an accuracy in full-set equivalents."""

    def accuracy(self, candidate: Candidate, full: bool) -> float:
        """The accuracy on the full or the small set. Raises CompileError if it cannot be had."""


@dataclass(eq=False)
class SimulationJudge:
    """Top-k accuracy of a network in a candidate's formats, by simulation on labelled samples.

    graph: prepared, in float; x: [N, ...] samples; y: int [N]; k: 1 or 5.
    """

    graph: Graph
    x: Array
    y: NDArray[np.int64]
    k: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        if len(self.graph.inputs) != 1:
            raise CompileError(f"@{self.graph.name} has {len(self.graph.inputs)} inputs; the tuner takes one")
        if not len(self.x) or len(self.x) != len(self.y):
            raise CompileError(f"{len(self.x)} samples and {len(self.y)} labels make no score")
        self.simulation = Simulation(self.graph, self.threads)
        self.used: Candidate | None = None  # what the simulation has now, so that it keeps its sessions and numbers

    @property
    def images(self) -> int:
        return len(self.x)

    @property
    def small(self) -> int:
        return max(1, len(self.x) // SMALL)

    def identity(self) -> str:
        digest = hashlib.sha256(to_text(self.graph).encode())
        digest.update(np.ascontiguousarray(self.x).data)
        digest.update(np.ascontiguousarray(self.y).data)
        return f"simulation top{self.k} {digest.hexdigest()[:16]}"

    def share(self, full: bool) -> float:
        return 1.0 if full else self.small / self.images

    def accuracy(self, candidate: Candidate, full: bool) -> float:
        return float(self.hits(candidate, slice(None if full else self.small)).mean())

    def hits(self, candidate: Candidate, which: slice | Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the network is right on each of these images."""
        if candidate is not self.used:
            self.simulation.use(candidate.apply(self.graph))
            self.used = candidate
        return hits(self.k, self.checked(class_scores(self.simulation, self.x[which])), self.y[which])

    def scores(self, graph: Graph, x: Array) -> Array:
        """The first output [N, classes] of the network with other formats and numbers.

        Raises CompileError if there is a label without a class.
        """
        self.used = None
        self.simulation.use(graph)
        return self.checked(class_scores(self.simulation, x))

    def checked(self, scores: Array) -> Array:
        """The scores [N, classes]. Raises CompileError if there is a label without a class."""
        check_labels(self.y, scores.shape[1], self.k)
        return scores

    def __getstate__(self) -> dict[str, Any]:
        return {
            "text": to_text(self.graph),
            "weights": {name: np.array(array) for name, array in store(self.graph).items()},
            **{name: getattr(self, name) for name in ("x", "y", "k", "threads")},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        graph = parse(state.pop("text"), state.pop("weights"))
        self.__init__(graph=graph, **state)  # type: ignore[misc]
