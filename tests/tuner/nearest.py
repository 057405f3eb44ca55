"""A network that takes the nearest centre, points around these centres, and what a search of it left behind."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse

CLASSES, FEATURES = 4, 8
SAME = ("opt_conf.txt", "tuned.ir", "tuned.npz")


def clusters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around a centre for each class, which overlap a little."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    y = rng.integers(0, CLASSES, count)
    return (centres[y] + 0.9 * rng.normal(size=(count, FEATURES))).astype(np.float32), y


def nearest_centre() -> Graph:
    """Two dense layers: the nearest centre, behind an invertible one."""
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(FEATURES, FEATURES)))[0]

    def text(array: np.ndarray) -> str:
        return ",".join(f"{number:.6f}" for number in array.ravel())

    return parse(f"""
        graph @nearest {{
          input %x : f32[N,{FEATURES}]
          weight %turn.weight = [{text(turn)}] : f32[{FEATURES},{FEATURES}]
          weight %near.weight = [{text(centres @ turn.T)}] : f32[{CLASSES},{FEATURES}]
          weight %near.bias = [{text(-np.square(centres).sum(1) / 2)}] : f32[{CLASSES}]
          %turn = dense(%x, %turn.weight) : f32[N,{FEATURES}]
          %near = dense(%turn, %near.weight, %near.bias) : f32[N,{CLASSES}]
          output %near
        }}
    """)


def rows(folder: Path) -> list[dict[str, str]]:
    """trace.csv without the seconds."""
    with (folder / "trace.csv").open() as stream:
        return [{key: cell for key, cell in row.items() if key != "seconds"} for row in csv.DictReader(stream)]
