"""Passes: each changes a graph in one way. `run(model, "fuse-batchnorm,...")` takes and gives an onnx.ModelProto."""

from bitwright.passes.base import Context, Pass, Reference, Span
from bitwright.passes.onnx_models import as_onnx_ir_pass, run
from bitwright.passes.pipeline import Step, known_passes, parse_pipeline, run_passes
from bitwright.passes.table import STRUCTURE

__all__ = [
    "STRUCTURE",
    "Context",
    "Pass",
    "Reference",
    "Span",
    "Step",
    "as_onnx_ir_pass",
    "known_passes",
    "parse_pipeline",
    "run",
    "run_passes",
]
