"""explicit-pads: every small pooling that rounds up computes the same with its padding written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.ops import window_extent
from bitwright.ir.parse import parse
from bitwright.passes import run_passes

SIZES, KERNELS, STRIDES, PADS, DILATIONS = range(3, 9), (1, 2, 3), (1, 2, 3, 4), (0, 1), (1, 2)


def pooling(op: str, size: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int) -> Graph:
    rows = window_extent(size, kernel, stride, *pads, dilation, True)
    attributes = (
        f"ceil=1, dilations=[{dilation},1], kernel=[{kernel},2], pads=[{pads[0]},0,{pads[1]},0], strides=[{stride},2]"
    )
    text = f"graph @g {{ input %x : f32[N,1,{size},5] %y = {op}(%x) {{{attributes}}} : f32[N,1,{rows},3] output %y }}"
    return parse(text)


@pytest.mark.parametrize("op", ["maxpool2d", "avgpool2d"])
def test_the_padding_stands_for_the_rounding(op: str) -> None:
    random = np.random.default_rng(0)
    tried = 0
    for size, kernel, stride, before, after, dilation in itertools.product(
        SIZES, KERNELS, STRIDES, PADS, PADS, DILATIONS
    ):
        if max(before, after) >= kernel or dilation * (kernel - 1) + 1 > size:
            continue
        graph = pooling(op, size, kernel, stride, (before, after), dilation)
        padded = run_passes(graph, "explicit-pads")
        assert "ceil" not in padded.nodes[0].attributes
        x = {"x": random.normal(size=(2, 1, size, 5)).astype(np.float32)}
        np.testing.assert_array_equal(evaluate(padded, x)["y"], evaluate(graph, x)["y"])
        tried += 1
    assert tried > 300


def test_an_open_size_keeps_it() -> None:
    text = "graph @g { input %x : f32[N,1,H,4] %y = maxpool2d(%x) {ceil=1, kernel=[3,3]} : f32[N,1,?,2] output %y }"
    assert run_passes(parse(text), "explicit-pads").nodes[0].attributes["ceil"] == 1
