"""How long and how fast a training goes; without torch, so that help texts can show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Settings:
    """The settings of a training.

    epochs: times every sample is seen; batch: samples a step; rate: the largest step of a number, relative to the size
    of its tensor (training.py); seed: of the order, of distortions and of what is held back; learn_biases: of formats;
    keep: the epoch that is best on what is held back, or the last one.
    """

    epochs: int = 5
    batch: int = 64
    rate: float = 0.02
    seed: int = 0
    learn_biases: bool = False
    keep: Keep = "best"
