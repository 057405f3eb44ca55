"""What a command line gave, the networks that it is run on, and how files and tables are read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import bitwright

LENET = Path(__file__).parents[2] / "models" / "lenet5.onnx"
TINY = (Path(__file__).parents[1] / "tiny.ir").read_text()
HUGE = """\
graph @huge {
  input %x : f32[N,2000]
  weight %w = 00000003 : f32[1000,2000]
  %fc1 = dense(%x, %w) : f32[N,1000]
  output %fc1
}
"""


@dataclass(frozen=True)
class Result:
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Result]


@dataclass(frozen=True)
class Network:
    """The tiny network as files, and data that it gets all right in float."""

    onnx: Path
    data: Path
    x: np.ndarray
    """The test split."""
    y: np.ndarray


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def save(text: str, path: Path) -> Path:
    """A network with made-up weights as an .onnx that holds them, whose nodes have the names of the text."""
    graph = bitwright.parse(text)
    bitwright.save(graph, path)
    model = onnx.load(path)
    for proto, node in zip(model.graph.node, graph.nodes, strict=True):
        proto.name = node.name
    onnx.save(model, path)
    return path


def cells(line: str) -> list[str]:
    """The cells of a table's row."""
    return re.split(r"\s{2,}", line.strip())
