"""Several searches of networks made from one network: one budget, and the accuracy that was asked of the whole."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.graph import Graph
from bitwright.tuner.problem import Constraint
from bitwright.tuner.tune import Options, Samples, Tuned

Search: TypeAlias = Callable[[Graph, Samples, Options], Tuned]
"""Searches the formats of a network, as tune_network does, and raises as that does."""


@dataclass
class Searches:
    """search: the images of all of them; options: of the first; began: when, as time.monotonic() says it.

    in_time: whether the budget has sufficed so far; right: which of the images the whole float network is right on.
    """

    tune: Search
    search: Samples
    options: Options
    began: float
    right: NDArray[np.bool_]
    in_time: bool = True

    def run(self, network: Graph, least: float | None, refine: bool, resume: bool) -> Tuned:
        """Search a network's formats in the time that is left; least: the accuracy that the whole had to reach."""
        asked = self.options.constraint
        if least is not None:  # the bound for a confidence is in it, and a margin itself
            asked = Constraint(floor=least, margin=asked.margin if asked.confidence is None else 0.0)
        left = None if self.options.budget is None else max(self.options.budget - (time.monotonic() - self.began), 0.0)
        resume = self.options.resume or resume
        options = replace(
            self.options, constraint=asked, budget=left, refine=refine, resume=resume, reference=self.right
        )
        return self.tune(network, self.search, options)

    def is_late(self) -> bool:
        """Whether the budget is spent."""
        budget = self.options.budget
        self.in_time = self.in_time and (budget is None or time.monotonic() - self.began < budget)
        return not self.in_time


def cost_if_it_holds(found: Tuned) -> float:
    """The objective; infinite if the accuracy is not what was asked for."""
    return found.cost if found.accuracy >= found.least else math.inf
