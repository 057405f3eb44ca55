"""relu and clip as stages of their own, on the input and behind add, concat and pooling: every bit, in every kind."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.compare import compare_layers, input_format
from bitwright.backends.hls.stages import PointStage, stages_of
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.parse import parse

FORMATS = (
    *("FLOAT 16", "FLOAT 18", "FLOAT 24", "FLOAT 32", "BFLOAT16", "HALF", "UFLOAT 16"),
    *("EXP 5", "EXP 9", "FIXED 8", "UFIXED 6", "AFFINE<8,scale=0.0078,zero=120>"),
)

# Of x, of 2 x, or of one of several numbers: float32 rounds nowhere.
POINTS = """graph @p {
  input %p.x : F[N,2,4,6]
  %p.first = relu(%p.x) : F[N,2,4,6]
  %p.sum = add(%p.x, %p.first) : F[N,2,4,6]
  %p.added = clip(%p.sum) {max=0.7, min=-0.3} : F[N,2,4,6]
  %p.both = concat(%p.x, %p.added) {axis=1} : F[N,4,4,6]
  %p.joined = clip(%p.both) {max=0.625, min=-0.6} : F[N,4,4,6]
  %p.most = maxpool2d(%p.joined) {kernel=[1,2], strides=[1,2]} : F[N,4,4,3]
  %p.pooled = relu(%p.most) : F[N,4,4,3]
  output %p.pooled
}"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")
def test_points_give_every_bit_in_every_format(networks: ModuleType, tmp_path: Path) -> None:
    texts = [
        POINTS.replace("@p", f"@p{index}").replace("%p.", f"%p{index}.").replace("F[", f"{parse_format(text)}[")
        for index, text in enumerate(FORMATS)
    ]
    graphs = [parse(text) for text in texts]
    folders = [tmp_path / graph.name for graph in graphs]
    rng = np.random.default_rng(3)
    for folder, graph in zip(folders, graphs, strict=True):
        networks.write(folder, graph, networks.randomly_folded(stages_of(graph), rng))
    accelerators = networks.bundled(folders, tmp_path / "points.so", "-O0")
    for text, graph, accelerator in zip(FORMATS, graphs, accelerators, strict=True):
        x = rng.uniform(-0.9, 0.9, (20, 2, 4, 6)).astype(np.float32)
        y = accelerator.output.from_stream(accelerator.run(accelerator.input.to_stream(x, input_format(graph))))
        (expected,) = evaluate(graph, {"": x}).values()
        np.testing.assert_array_equal(y, expected, err_msg=text)
        assert (expected > 0).any(), text
        assert [row.first for row in compare_layers(accelerator, graph, x) if row.differ] == [], text


@pytest.mark.parametrize("text", FORMATS)
def test_registers_of_points_hold_what_flows_and_no_more(text: str) -> None:
    graph = parse(POINTS.replace("F[", f"{parse_format(text)}["))
    points = [stage for stage in stages_of(graph) if type(stage) is PointStage]
    assert {stage.name for stage in points} >= {"p.first", "p.added", "p.joined", "p.pooled"}
    assert all(stage.acc_bits <= stage.in_format.width + 1 for stage in points)
