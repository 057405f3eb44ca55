"""How long quantising takes beside numpy's own `clip(round(x * s) / s)`, both measured in one run.

    python benchmarks/formats.py [--elements 1000000] [--rounds 15]

Prints for every kind the median time of quantize on float32 and float64 data, and its ratio to numpy's expression on
the same data. The aim: at most 3 for FIXED, at most 10 for floating kinds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from bitwright.ir.formats import parse

FORMATS = (
    "FIXED 8",
    "UFIXED 8",
    "FIXED 16",
    "FLOAT 8",
    "FLOAT 16",
    "EXP 4",
    "EXP 8",
    "BIN",
    "AFFINE<8,scale=0.05,zero=3>",
)
AIMS = {"FIXED": 3.0, "UFIXED": 3.0}


def medians(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The median seconds of two functions, run in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for function, taken in zip((first, second), times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def numpys_own(x: np.ndarray) -> np.ndarray:
    scale = x.dtype.type(64)
    return np.clip(np.round(x * scale) / scale, x.dtype.type(-1.984375), x.dtype.type(1.984375))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    table = Table(box=None)
    for column in ("format", "data", "numpy ms", "quantize ms", "ratio", "aim"):
        table.add_column(column, justify="right")
    random = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x = random.standard_normal(options.elements).astype(dtype)
        for text in FORMATS:
            format = parse(text)
            own, ours = medians(lambda x=x: numpys_own(x), lambda f=format, x=x: f.quantize(x), options.rounds)
            aim = AIMS.get(format.kind, 10.0)
            row = (text, np.dtype(dtype).name, f"{own * 1e3:.2f}", f"{ours * 1e3:.2f}", f"{ours / own:.2f}", f"{aim:g}")
            table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
