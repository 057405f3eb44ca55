"""Passes on other compilers' models: an onnx.ModelProto in and out, and any pass as a pass of onnx_ir."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitwright.passes.base import Context
from bitwright.passes.pipeline import parse_pipeline, run_passes

if TYPE_CHECKING:
    import onnx
    import onnx_ir.passes


def run(model: onnx.ModelProto, pipeline: str, context: Context | None = None) -> onnx.ModelProto:
    """The model after the passes; the given one stays as it was. Formats that passes choose are kept as metadata."""
    from bitwright.ir.onnx.read import from_model
    from bitwright.ir.onnx.write import to_model

    return to_model(run_passes(from_model(model), pipeline, context))


def as_onnx_ir_pass(pipeline: str, context: Context | None = None) -> onnx_ir.passes.FunctionalPass:
    """A pass of onnx_ir (package `onnx-ir`) that runs `pipeline`: for an onnx_ir.passes.Sequential, say."""
    import onnx_ir

    from bitwright.ir.onnx.read import from_model
    from bitwright.ir.onnx.write import to_model

    class BitwrightPass(onnx_ir.passes.FunctionalPass):  # type: ignore[misc]
        """Runs bitwright's passes on a copy of the model."""

        def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
            changed: list[bool] = []
            graph = run_passes(
                from_model(onnx_ir.to_proto(model)), pipeline, context, lambda s: changed.append(s.changed)
            )
            return onnx_ir.passes.PassResult(onnx_ir.from_proto(to_model(graph)), any(changed))

    parse_pipeline(pipeline)  # an unknown pass is an error here, not at the first model
    return BitwrightPass()
