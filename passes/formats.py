"""annotate-formats and assign-formats: a number format for every tensor that the hardware moves or stores.

ir/assign.py says which tensors these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from bitwright.ir import edit
from bitwright.ir.assign import activation_values, assign, read_formats, spread, weight_values
from bitwright.ir.formats import Affine, Canonical, Format, parse_kind
from bitwright.ir.graph import Graph, Value
from bitwright.ir.tensor import Array
from bitwright.passes.base import Context, Pass, Span
from bitwright.passes.ranges import Range, bounded, measured

SINGLE_BIAS = 127  # of float32


@dataclass(frozen=True)
class AnnotateFormats(Pass):
    """One kind and width for all weights and one for all activations; each tensor (or channel) gets its own bias.

    An AFFINE needs no scale here: `AFFINE 8` spans the range of each tensor, with 0 among the numbers of activations.
    Biases come from the largest magnitude: of the weights, and of activations on the calibration samples, or, without
    samples, from bounds for inputs in [-input_max, input_max]. `unsigned` takes the sign bit of tensors that are never
    negative for one more bit of value. With `keep`, tensors that have a format keep it.

    - input %x : f32[N,1,28,28]
    + input %x : FIXED<8,B=1>[N,1,28,28]
    - weight %conv1.w = 4b556bef : f32[6,1,5,5]
    + weight %conv1.w = 4b556bef : FIXED<8,B=2>[6,1,5,5]
    """

    name: ClassVar[str] = "annotate-formats"
    weights: str = "FIXED 8"
    activations: str = "FIXED 8"
    per_channel: bool = False
    unsigned: bool = False
    keep: bool = False
    input_max: Annotated[float, Span(1e-30, 1e30)] = 1.0

    def run(self, graph: Graph, context: Context) -> bool:
        weights, activations = parse_kind(self.weights), parse_kind(self.activations)
        weight_list, activation_list = (
            [value for value in values if not (self.keep and value.tensor_type.number)]
            for values in (weight_values(graph), activation_values(graph))
        )
        ranges = self.ranges(graph, context) if activation_list else {}
        for value in weight_list:
            edit.set_type(value, value.tensor_type.with_format(_for_weight(weights, value, self.per_channel)))
        for value in activation_list:
            chosen = _for_range(activations, ranges[value.name], self.unsigned)
            edit.set_type(value, value.tensor_type.with_format(chosen))
        spread(graph, () if self.keep else set(map(id, activation_list)))
        return True

    def ranges(self, graph: Graph, context: Context) -> dict[str, Range]:
        if context.samples is not None:
            return measured(graph, context)
        context.notes.append(
            f"no data: formats cover every input in [-{self.input_max:g}, {self.input_max:g}], wider than data ask"
        )
        return bounded(graph, -self.input_max, self.input_max)


@dataclass(frozen=True)
class AssignFormats(Pass):
    """The formats of a file, a line a tensor as libnumber writes them: `conv1.weight EXP 8`, `fc1.input FIXED 15 -3`.

    A name is a layer's weight or input (`<layer>.weight`, `<layer>.input`), or a value's own. Tensors that the file
    does not name stay as they are.

    - weight %conv1.w = 4b556bef : f32[6,1,5,5]
    + weight %conv1.w = 4b556bef : EXP<8>[6,1,5,5]
    """

    name: ClassVar[str] = "assign-formats"
    file: str

    def run(self, graph: Graph, context: Context) -> bool:
        assign(graph, read_formats(Path(self.file)))
        return True


def _for_weight(format: Format, value: Value, per_channel: bool) -> Format:
    assert value.tensor is not None
    data = value.tensor.data.astype(np.float64)
    axes = tuple(range(1, data.ndim)) if per_channel else None
    axis = 0 if per_channel else None
    if isinstance(format, Canonical):
        return _covering(format, np.abs(data).max(axes, initial=0), axis)
    assert isinstance(format, Affine)
    low, high = np.minimum(data.min(axes), 0), np.maximum(data.max(axes), 0)
    return Affine.spanning(format.n, low, high, axis)


def _for_range(format: Format, range: Range, unsigned: bool) -> Format:
    if isinstance(format, Canonical):
        if unsigned and range.low >= 0 and format.n_s and format.width > 1:
            exponent_bit = int(format.kind == "EXP")
            format = Canonical(0, format.n_e + exponent_bit, format.n_f + 1 - exponent_bit, format.bias)
        return _covering(format, range.magnitude)
    assert isinstance(format, Affine)
    return Affine.spanning(format.n, min(range.low, 0.0), max(range.high, 0.0), whole=True)


def _covering(format: Canonical, magnitude: float | Array, axis: int | None = None) -> Canonical:
    """The bias that still represents `magnitude`, of FLOAT one whose numbers float32 has, too."""
    found = format.covering(magnitude, axis)
    if not (format.n_e and format.n_f) or found.biases.max() <= SINGLE_BIAS:
        return found
    biases = np.minimum(found.biases, SINGLE_BIAS)
    return found.at(int(biases) if axis is None else tuple(int(bias) for bias in biases), axis)
