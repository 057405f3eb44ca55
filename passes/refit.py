"""refit: layers of a network that others made smaller give again what they gave, as far as their inputs allow.

Layer by layer in order, so that each sees what the refitted ones before it give. moments.py has the formula; t is the
layer's output in the reference network, before its activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node
from bitwright.ir.tensor import Array, Tensor
from bitwright.passes.accumulators import derive
from bitwright.passes.base import Context, Pass, Reference, Span
from bitwright.passes.channels import layers
from bitwright.passes.cholesky import Matrix
from bitwright.passes.moments import RIDGE, fitted
from bitwright.passes.patches import Rows, patches
from bitwright.passes.walk import Walk, affordable

What: TypeAlias = Literal["weights", "biases"]


@dataclass(frozen=True)
class Refit(Pass):
    """Weights and biases of every layer are fitted, on samples, to what the network gave before it was pruned.

    `what` says whether all weights are, or biases alone (which keeps the mean of every output). It comes after the
    passes that prune. A layer without a bias gets one. Layers that share weights stay as they are, and so do zeros.

    - weight %conv2.w = 4b556bef : f32[16,2,5,5]
    + weight %conv2.w = 91c7b353 : f32[16,2,5,5]
    """

    name: ClassVar[str] = "refit"
    what: What = "weights"
    ridge: Annotated[float, Span(0, 1)] = RIDGE

    def run(self, graph: Graph, context: Context) -> bool:
        if context.samples is None:
            raise CompileError(f"{self} measures on samples, and there are none", help="give --data")
        if context.reference is None:
            raise CompileError(
                f"{self}: nothing was pruned before it", help="put it behind prune-channels or prune-weights"
            )
        samples = affordable(context.reference.graph, context.samples)
        targets = _targets(context.reference, samples, context)
        walk = Walk(graph, samples, context)
        fitted = [node for node in layers(graph) if node.name in targets and len(node.operand(1).uses) == 1]
        for node in fitted:
            _check(node, targets[node.name])
            self.fit(node, patches(node, walk.input_of(node)), targets[node.name])
        return bool(fitted)

    def fit(self, node: Node, x: Rows, target: Matrix) -> None:
        """Fit one layer to its target [rows, outputs], for the inputs x of each of its groups."""
        tensor = node.operand(1).tensor
        assert tensor is not None
        w = tensor.data.astype(np.float64).reshape(len(x), tensor.shape[0] // len(x), -1)
        targets = np.split(target, len(x), axis=1)
        if self.what == "weights":
            w = np.stack([self.weights(*group) for group in zip(w, x, targets, strict=True)])
            edit.give_weight(node, 1, _like(tensor, w), node.name + ".weight")
        means = [t.mean(0) - rows @ a.mean(0, np.float64) for rows, a, t in zip(w, x, targets, strict=True)]
        edit.give_weight(node, 2, Tensor(np.concatenate(means).astype(np.float32)), node.name + ".bias")
        if node.attributes.get("acc"):
            derive(node)

    def weights(self, w: Matrix, x: NDArray[np.float32], target: Matrix) -> Matrix:
        """The weights [outputs, inputs] that suit the target [rows, outputs]; zeros stay."""
        here = x - x.mean(0, np.float64)
        missing = target - target.mean(0) - here @ w.T
        if w.all():
            return fitted(w, here, missing, self.ridge)
        made = np.zeros_like(w)
        for row, left in enumerate(map(np.flatnonzero, w)):
            if len(left):
                made[row, left] = fitted(w[None, row, left], here[:, left], missing[:, row, None], self.ridge)[0]
        return made


def _targets(reference: Reference, samples: Mapping[str, Array], context: Context) -> dict[str, Matrix]:
    """What the sums of every layer give in the reference [rows, outputs], of the outputs that are left."""
    walk, targets = Walk(reference.graph, samples, context), {}
    for node in layers(reference.graph):
        weight, bias = node.operand(1).tensor, node.optional(2)
        if weight is None or (bias is not None and bias.tensor is None):
            continue
        x = patches(node, walk.input_of(node))
        w = weight.data.astype(np.float64).reshape(len(x), weight.shape[0] // len(x), -1)
        made = np.concatenate([rows @ own.T for rows, own in zip(x, w, strict=True)], axis=1)
        if bias is not None and bias.tensor is not None:
            made += bias.tensor.data
        targets[node.name] = made[:, reference.rows[node.name]] if node.name in reference.rows else made
    return targets


def _check(node: Node, target: Matrix) -> None:
    """Raise CompileError if a layer has fewer outputs than in the reference and nobody says which."""
    shape = node.operand(1).tensor_type.static_shape or ()
    count = shape[0]
    if count != target.shape[1]:
        raise CompileError(
            f"%{node.name} has {count} outputs, {target.shape[1]} in the reference, and which are left is not known",
            help="name them in Reference.rows",
        )


def _like(tensor: Tensor, numbers: Matrix) -> Tensor:
    return Tensor(np.ascontiguousarray(numbers.reshape(tensor.shape), tensor.dtype))
