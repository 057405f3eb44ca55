"""A network run layer by layer: what layers read, also after a layer has changed, and how many samples are taken."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from bitwright.ir import edit
from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array, Tensor
from bitwright.passes import Context
from bitwright.passes.walk import LEAST_SAMPLES, MOST_BYTES, MOST_SAMPLES, Walk, affordable

TEXT = """graph @g {
  input %x : f32[N,3]
  weight %w1 = 00000001 : f32[3,3]
  weight %w2 = 00000002 : f32[3,3]
  weight %w3 = 00000003 : f32[2,3]
  %a = dense(%x, %w1) : f32[N,3]
  %b = relu(%a) : f32[N,3]
  %c = dense(%b, %w2) : f32[N,3]
  %d = add(%c, %b) : f32[N,3]
  %e = dense(%d, %w3) : f32[N,2]
  output %e
}
"""


def test_layers_read_what_changed_layers_give() -> None:
    graph = parse(TEXT)
    x = {"x": np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)}
    ran: list[int] = []

    def executor(graph: Graph, inputs: Mapping[str, Array], watch: Collection[str]) -> dict[str, Array]:
        ran.append(len(graph.nodes))
        return evaluate(graph, inputs, watch)

    walk = Walk(graph, x, Context(executor=executor))
    nodes = {node.name: node for node in graph.nodes}
    np.testing.assert_array_equal(walk.input_of(nodes["a"]), x["x"])
    edit.set_tensor(graph.values["w1"], Tensor(np.eye(3, dtype=np.float32)))
    np.testing.assert_array_equal(walk.input_of(nodes["c"]), np.maximum(x["x"], 0))
    edit.set_tensor(graph.values["w2"], Tensor(np.eye(3, dtype=np.float32)))
    np.testing.assert_array_equal(walk.input_of(nodes["e"]), 2 * np.maximum(x["x"], 0))
    assert ran == [2, 2]


def test_how_many_samples_are_taken() -> None:
    small = {"x": np.zeros((5000, 3), np.float32)}
    assert len(affordable(parse(TEXT), small)["x"]) == MOST_SAMPLES
    wide = TEXT.replace("%d = add(%c, %b) : f32[N,3]", "%d = add(%c, %b) : f32[N,1000,1000]")
    assert len(affordable(parse(wide), small)["x"]) == MOST_BYTES // 4_000_000
    huge = wide.replace("f32[N,1000,1000]", "f32[N,100000,1000]")
    assert len(affordable(parse(huge), small)["x"]) == LEAST_SAMPLES
