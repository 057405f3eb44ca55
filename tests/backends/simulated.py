"""Networks to simulate: drawn op by op with random formats, and a small one, on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitwright.ir import edit
from bitwright.ir.assign import computed_values, spread, weight_values
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Affine, Canonical, Format
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph, Value
from bitwright.ir.ops import result_shape
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Type
from bitwright.ir.verify import verify

Random = np.random.Generator
BATCH = 3


class Drawing:
    """A network drawn at random, op by op."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = Graph("drawn", {"": 17})
        self.value = edit.add_input(self.graph, "x", Type(F32, (BATCH, 2, 7, 7)), "image")

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.random.random() < share)

    def weight(self, *shape: int) -> Value:
        data = self.random.integers(-16, 17, shape) / np.float32(self.random.choice([8, 16]))
        return edit.add_weight(self.graph, f"w{len(self.graph.values)}", Tensor(data.astype(np.float32)))

    def add(self, op: str, *operands: Value, **attributes: Any) -> Value:
        node = edit.add_node(self.graph, op, operands, {f"v{len(self.graph.nodes)}": Type(F32)}, attributes)
        shape = operands[0].tensor_type.shape if op.startswith("onnx.") else result_shape(node)
        edit.set_type(node.result, Type(F32, shape))
        return node.result

    def activation(self) -> dict[str, Any]:
        act = str(self.random.choice(["none", "relu", "clip"]))
        return {"act": act, **({"act_min": -0.7, "act_max": 1.3} if act == "clip" else {})}

    def sum(self) -> Value:
        _, channels, rows, cols = self.value.tensor_type.static_shape or ()
        groups = channels if channels < 4 and self.chance(0.2) else 1
        outputs = groups * int(self.random.integers(1, 4))
        kernel = tuple(int(k) for k in self.random.integers(1, [min(rows, 3) + 1, min(cols, 3) + 1]))
        bias = [self.weight(outputs)] * self.chance()
        more: dict[str, Any] = {"pads": (0, 1, 1, 0)} if self.chance(0.3) and min(kernel) > 1 else {}
        if self.chance(0.3) and rows - kernel[0] > 1 and cols - kernel[1] > 1:
            more |= {"pool": (2, 2)} | ({"pool_strides": (1, 2)} if self.chance() else {})
        weight = self.weight(outputs, channels // groups, *kernel)
        return self.add("conv2d", self.value, weight, *bias, kernel=kernel, groups=groups, **self.activation(), **more)

    def network(self, others: bool = True) -> Graph:
        before = self.value
        kinds = ["sum", "sum", "maxpool2d", "relu", "transpose"]
        kinds += ["add", "concat", "avgpool2d", "pad", "clip", "mul", "onnx", "constant"] if others else []
        for kind in self.random.choice(kinds, int(self.random.integers(2, 7))):
            skip, before = before, self.value
            shape = self.value.tensor_type.static_shape or ()
            if kind == "sum":
                self.value = self.sum()
            elif kind in ("maxpool2d", "avgpool2d") and min(shape[2:]) > 2:
                more = {"count_pads": 1} if kind == "avgpool2d" and self.chance() else {}
                pads = {"pads": (1, 0, 0, 1)} if self.chance(0.3) else {}
                self.value = self.add(kind, self.value, kernel=(2, int(self.random.integers(2, 4))), **pads, **more)
            elif kind in ("add", "mul") and skip.tensor_type.shape == shape:
                self.value = self.add(kind, self.value, skip)
            elif kind == "concat":
                self.value = self.add(kind, self.value, before, axis=1)
            elif kind == "transpose":
                self.value = self.add(kind, self.value, perm=(0, 1, 3, 2))
            elif kind == "pad":
                self.value = self.add(kind, self.value, pads=(0, 0, 1, 0, 0, 0, 0, 1), value=0.6)
            elif kind == "clip":
                self.value = self.add(kind, self.value, min=-0.6, max=2.7)
            elif kind == "onnx":
                self.value = self.add(str(self.random.choice(["onnx.Abs", "onnx.Neg"])), self.value)
            elif kind == "constant":
                self.value = self.add("add", self.value, self.weight(shape[1], 1, 1))
            elif kind == "relu":
                self.value = self.add("relu", self.value)
        flat = self.add("flatten", self.add("globalavgpool", self.value) if self.chance(0.2) and others else self.value)
        features = (flat.tensor_type.static_shape or ())[1]
        fc = self.add("dense", flat, self.weight(4, features), self.weight(4), **self.activation())
        edit.add_output(self.graph, fc, "scores")
        if others and self.chance(0.3):
            edit.add_output(self.graph, self.add("softmax", fc), "probabilities")
        verify(self.graph)
        return self.graph


def give_formats(graph: Graph, random: Random, kinds: tuple[str, ...], narrow: bool = True) -> None:
    """A random format for all that takes one, near what its numbers need."""
    plain = evaluate(graph, images(0), [value.name for value in computed_values(graph)])
    for value in computed_values(graph):
        kind = str(random.choice(kinds))
        found = float(np.abs(plain[value.name]).max()) * float(random.choice([0.5, 1.0, 2.0]))
        edit.set_type(value, value.tensor_type.with_format(_format(kind, random, found, None, narrow)))
    for value in weight_values(graph):
        assert value.tensor is not None
        data = np.abs(value.tensor.data)
        axis = 0 if random.random() < 0.4 else None
        most = data.max(tuple(range(1, data.ndim)) if axis == 0 else None)
        kind = str(random.choice([kind for kind in kinds if kind[0] != "U"]))
        edit.set_type(value, value.tensor_type.with_format(_format(kind, random, most, axis, narrow)))
    spread(graph)
    verify(graph)


def _format(kind: str, random: Random, most: Any, axis: int | None, narrow: bool) -> Format:
    width = int(random.integers(2, 7 if narrow else 16))
    if kind == "AFFINE":
        most = np.maximum(most, 0.1)
        return Affine.spanning(max(width, 4), -np.asarray(most), np.asarray(most), axis)
    if kind == "BIN":
        return Canonical(1, 0, 0).covering(most, axis)
    made = parse_format(
        f"{kind} {min(width, 4) if kind.endswith('EXP') else max(width, 6) if kind == 'FLOAT' else width}"
    )
    assert isinstance(made, Canonical)
    return made.covering(most, axis)


def images(seed: int, count: int = BATCH) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {"image": (random.integers(-32, 33, (count, 2, 7, 7)) / 16).astype(np.float32)}


EXACT = ("FIXED", "FIXED", "UFIXED", "EXP", "UEXP", "BIN")


def network(seed: int, kinds: tuple[str, ...] = EXACT, **options: bool) -> Graph:
    drawing = Drawing(seed)
    graph = drawing.network(**options)
    give_formats(graph, drawing.random, kinds)
    return graph


def with_formats(graph: Graph, formats: Mapping[str, str]) -> Graph:
    graph = edit.copy(graph)
    for name, text in formats.items():
        edit.set_type(graph.values[name], graph.values[name].tensor_type.with_format(parse_format(text)))
    spread(graph)
    verify(graph)
    return graph


SMALL = """graph @small {
  opset ai.onnx=17
  input %x as "image" : FIXED<8,B=-2>[N,2,7,7]
  weight %w = 00000001 : FIXED<4>[3,2,3,3]
  weight %b = [0.5,-0.25,1.0] : f32[3]
  weight %k = [1.0,0.5,0.25] : FIXED<4>[3,1,1]
  weight %v = 00000002 : FIXED<4>[4,12]
  %conv = conv2d(%x, %w, %b) {act=clip, act_max=2.3, act_min=-1.1, kernel=[3,3], pool=[2,2]} : FIXED<7,B=-2>[N,3,2,2]
  %scaled = mul(%conv, %k) : FIXED<8,B=-2>[N,3,2,2]
  %flat = flatten(%scaled) : FIXED<8,B=-2>[N,12]
  %fc = dense(%flat, %v) : FIXED<9,B=-3>[N,4]
  output %fc as "scores"
}"""
