"""bitwright compiles a trained network (ONNX) to an FPGA accelerator whose numbers are as wide as they need to be.

    graph = bitwright.load("lenet5.onnx")
    graph = bitwright.run_passes(graph, "fold-constants,normalise,fuse-batchnorm,fuse-activations")
    print(bitwright.show(graph))

Heavy modules are imported when a function first needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitwright.backends.simulation.score import score, simulate
    from bitwright.compiler import compile
    from bitwright.ir.diff import diff
    from bitwright.ir.files import load, save
    from bitwright.ir.parse import parse
    from bitwright.ir.text import to_text as show
    from bitwright.passes.pipeline import run_passes
    from bitwright.pruning import prune, sensitivity
    from bitwright.retraining import retrain
    from bitwright.tuning import tune

__version__ = "0.1.0"

_PLACES = {
    "compile": ("bitwright.compiler", "compile"),
    "diff": ("bitwright.ir.diff", "diff"),
    "load": ("bitwright.ir.files", "load"),
    "parse": ("bitwright.ir.parse", "parse"),
    "prune": ("bitwright.pruning", "prune"),
    "retrain": ("bitwright.retraining", "retrain"),
    "run_passes": ("bitwright.passes.pipeline", "run_passes"),
    "save": ("bitwright.ir.files", "save"),
    "score": ("bitwright.backends.simulation.score", "score"),
    "sensitivity": ("bitwright.pruning", "sensitivity"),
    "show": ("bitwright.ir.text", "to_text"),
    "simulate": ("bitwright.backends.simulation.score", "simulate"),
    "tune": ("bitwright.tuning", "tune"),
}

__all__ = [
    "compile",
    "diff",
    "load",
    "parse",
    "prune",
    "retrain",
    "run_passes",
    "save",
    "score",
    "sensitivity",
    "show",
    "simulate",
    "tune",
]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'bitwright' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
