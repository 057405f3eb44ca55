"""What tests of searches share: a problem whose accuracy is a known function of the formats, instead of a network's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nearest import clusters, nearest_centre

from bitwright.ir.files import save
from bitwright.ir.formats import Canonical
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.database import Database
from bitwright.tuner.objectives import Bits
from bitwright.tuner.platforms import platform_of
from bitwright.tuner.problem import Constraint, Problem
from bitwright.tuner.space import space_of
from bitwright.tuner.targets import Target
from bitwright.tuner.workers import Alone

Accuracy = Callable[[Mapping[str, Canonical]], float]


@dataclass
class Formula:
    """A judge by formula: one for the full set and perhaps another for the small; `asked` is what was measured."""

    full: Accuracy
    small: Accuracy
    images: int | None = None
    asked: list[tuple[Candidate, bool]] = field(default_factory=list)

    def identity(self) -> str:
        return "formula"

    def share(self, full: bool) -> float:
        return 1.0 if full else 0.1

    def accuracy(self, candidate: Candidate, full: bool) -> float:
        self.asked.append((candidate, full))
        return (self.full if full else self.small)(candidate.formats)


def problem_of(
    accuracy: Accuracy,
    sizes: Sequence[tuple[int, int]],
    kinds: Mapping[str, Any],
    *,
    small: Accuracy | None = None,
    images: int | None = None,
    tolerance: float = 0.01,
    floor: float | None = None,
    layerwise: Any = "both",
    dense: str = "",
    database: Database | None = None,
    **more: Any,
) -> Problem:
    """Layers a, b, ... with so many weights and inputs, the largest of each being 1, on a platform of these kinds.

    small: the accuracy on the small set, if it is another; dense: the layers that are no convolutions.
    """
    targets = []
    for layer, (weights, inputs) in zip("abcdefgh", sizes, strict=False):
        kind = "dense" if layer in dense else "conv2d"
        targets.append(Target(f"{layer}.weight", "weight", weights, 1.0, kind=kind))
        targets.append(Target(f"{layer}.input", "input", inputs, 1.0, kind=kind))
    judge = Formula(accuracy, small or accuracy, images)
    return Problem(
        space_of(targets, platform_of({"test": kinds}), layerwise),
        more.pop("objective", Bits(targets)),
        judge,
        Constraint(tolerance, floor, more.pop("confidence", None)),
        database or Database(None, judge.identity()),
        Alone(judge),
        **more,
    )


@pytest.fixture
def make_problem() -> Callable[..., Problem]:
    """Builds a problem whose accuracy is a formula."""
    return problem_of


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of the nearest centre, in a file."""
    path = tmp_path_factory.mktemp("network") / "nearest.ir"
    save(nearest_centre(), path)
    return path


@pytest.fixture
def points(tmp_path: Path) -> Path:
    """A data set without splits."""
    x, y = clusters(600, 1)
    np.savez(tmp_path / "points.npz", x=x, y=y)
    return tmp_path / "points.npz"
