"""How sure an accuracy is: the interval of Clopper and Pearson (1934) for k successes among n trials.

    low  = the p with P(X >= k | p) = alpha / 2        high = the p with P(X <= k | p) = alpha / 2

exact for the binomial distribution of X, and so never narrower than it should be.
"""

from __future__ import annotations

import math

import numpy as np


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided interval of the success probability."""
    tail = (1 - confidence) / 2
    return lower_bound(successes, trials, 1 - tail), upper_bound(successes, trials, 1 - tail)


def lower_bound(successes: int, trials: int, confidence: float = 0.95) -> float:
    """The one-sided bound: the probability is at least this, but for a chance of 1 - confidence."""
    if successes == 0:
        return 0.0
    return 1 - upper_bound(trials - successes, trials, confidence)


def upper_bound(successes: int, trials: int, confidence: float = 0.95) -> float:
    """The one-sided bound: the probability is at most this, but for a chance of 1 - confidence."""
    if successes >= trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):  # to the last bits of a float64
        middle = (low + high) / 2
        if middle == 1:
            break
        low, high = (middle, high) if _at_most(successes, trials, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(successes: int, trials: int, probability: float) -> float:
    """P(X <= successes) of a binomial distribution."""
    counts = np.arange(successes + 1, dtype=np.float64)
    ratios = np.log(trials - counts[1:] + 1) - np.log(counts[1:])  # of neighbouring binomial coefficients
    choices = np.concatenate([[0.0], np.cumsum(ratios)])
    logs = choices + counts * math.log(probability) + (trials - counts) * math.log1p(-probability)
    top = float(logs.max())
    return float(np.exp(logs - top).sum() * math.exp(top)) if top > -745 else 0.0
