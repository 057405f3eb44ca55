"""prune-weights: single weights become zero, wherever they are: it shows how few a network needs, and saves nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Tensor
from bitwright.passes.base import Context, Pass, Reference, Span
from bitwright.passes.channels import layers


@dataclass(frozen=True)
class PruneWeights(Pass):
    """The smallest weights of every layer (or of `layer`) become zero, this share of them.

    The accelerator stores and multiplies zeros as it does any number: prune-channels is what makes it smaller.

    - weight %fc.w = [0.5,-0.25,1.0,0.125] : f32[2,2]
    + weight %fc.w = [0.5,0.0,1.0,0.0] : f32[2,2]
    """

    name: ClassVar[str] = "prune-weights"
    sparsity: Annotated[float, Span(0, 1)]
    layer: str = ""

    def run(self, graph: Graph, context: Context) -> bool:
        nodes = [node for node in layers(graph) if self.layer in ("", node.name)]
        if self.layer and not nodes:
            there = ", ".join(node.name for node in layers(graph)) or "none"
            raise CompileError(f"no layer is named {self.layer!r}", help=f"the layers are {there}")
        before, changed = edit.copy(graph), False
        for value in {node.operand(1).name: node.operand(1) for node in nodes}.values():
            assert value.tensor is not None
            data = value.tensor.data.copy()
            smallest = np.argsort(np.abs(data), axis=None, kind="stable")[: int(self.sparsity * data.size + 1e-9)]
            if data.flat[smallest].any():
                data.flat[smallest] = 0
                edit.set_tensor(value, Tensor(data))
                changed = True
        if changed:
            context.reference = context.reference or Reference(before)
            context.notes.append(
                f"{self}: zeros are stored and multiplied as other weights are; hardware gains nothing"
            )
        return changed
