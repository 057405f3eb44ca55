"""The lines of a complaint, the command lines that must give one, and the files that they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

READERS = ("compile", "check", "opt", "show", "diff", "score")


@dataclass(frozen=True)
class Refusal:
    """The lines of a complaint."""

    lines: list[str]

    @property
    def first(self) -> str:
        return self.lines[0]

    @property
    def help(self) -> str:
        assert self.lines[-1].startswith("  help: "), self.lines
        return self.lines[-1].removeprefix("  help: ")


Refused = Callable[..., Refusal]


def snapshot(place: Path) -> dict[str, bytes | None]:
    """Every file with its content, and every folder."""
    return {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in place.rglob("*")
    }


def command(name: str, model: str) -> list[str]:
    """A command line that reads `model`."""
    return {
        "compile": ["compile", model, "--target", "pynq", "-o", "out"],
        "check": ["check", model],
        "opt": ["opt", model, "--passes", "remove-dead", "-o", "made.onnx"],
        "show": ["show", model],
        "diff": ["diff", "tiny.onnx", model],
        "score": ["score", model, "--data", "good.npz"],
    }[name]


def model_of(nodes: Sequence[onnx.NodeProto], weights: dict[str, Any], outputs: str = "y") -> onnx.ModelProto:
    """A model of one image."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 6, 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
        [numpy_helper.from_array(np.asarray(data, np.float32), name) for name, data in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def network(middle: str = "Relu", **other: Any) -> onnx.ModelProto:
    """conv, `middle`, flatten, gemm; `other` replaces weights."""
    random = np.random.default_rng(7)
    weights = {
        "conv1.w": random.uniform(-1, 1, (2, 1, 3, 3)),
        "conv1.b": random.uniform(-1, 1, 2),
        "fc2.w": random.uniform(-1, 1, (3, 32)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv1.w", "conv1.b"], ["conv1"], "conv1"),
        helper.make_node(middle, ["conv1"], ["act1"], "act1"),
        helper.make_node("Flatten", ["act1"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc2.w"], ["y"], "fc2", transB=1),
    ]
    return model_of(nodes, weights | other)


def dense(rows: int, columns: int) -> str:
    """A dense layer with made-up weights, as text."""
    return (
        f"graph @dense {{\n  input %x : f32[N,{columns}]\n  weight %w = 00000003 : f32[{rows},{columns}]\n"
        f"  %fc1 = dense(%x, %w) : f32[N,{rows}]\n  output %fc1\n}}\n"
    )


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
