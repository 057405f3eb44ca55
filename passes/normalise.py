"""normalise: what exporters write in many ways, in one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir.graph import Graph
from bitwright.passes.affine import RecogniseAffine
from bitwright.passes.base import Context, Pass
from bitwright.passes.batch import OpenBatch
from bitwright.passes.ceilings import ExplicitPads
from bitwright.passes.dense import RecogniseDense
from bitwright.passes.identities import RemoveIdentities
from bitwright.passes.lines import WidenLines
from bitwright.passes.pads import FusePads
from bitwright.passes.reductions import RecogniseReductions
from bitwright.passes.reshapes import MergeReshapes
from bitwright.passes.transposes import CancelTransposes

MOST_ROUNDS = 20


@dataclass(frozen=True)
class Normalise(Pass):
    """Passes that regularise, again and again until nothing changes: remove-identities, open-batch, widen-lines,
    fuse-pads, explicit-pads, recognise-dense, recognise-affine, recognise-reductions, cancel-transposes and
    merge-reshapes.

    Attributes are regular and Constant nodes are weights since the import.

    - %same = onnx.Identity(%x) : f32[1,84]
    - %y = onnx.MatMul(%same, %w) : f32[1,10]
    + %y = dense(%x, %w) : f32[1,10]
    """

    name: ClassVar[str] = "normalise"

    def run(self, graph: Graph, context: Context) -> bool:
        steps: list[Pass] = [
            RemoveIdentities(),
            OpenBatch(),
            WidenLines(),
            FusePads(),
            ExplicitPads(),
            RecogniseDense(),
            RecogniseAffine(),
            RecogniseReductions(),
            CancelTransposes(),
            MergeReshapes(),
        ]
        for rounds in range(MOST_ROUNDS):
            if not any([step.run(graph, context) for step in steps]):
                return rounds > 0
        return True
