"""What is left to the host at the outputs: the highest score stays the highest, and everything else stays."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.backends.simulation.score import score, simulate
from bitwright.ir.formats.named import fixed
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.scores import scores_of
from bitwright.passes.base import Context
from bitwright.passes.pipeline import run_passes

RNG = np.random.default_rng(4)
X = RNG.normal(size=(300, 6)).astype(np.float32)
WEIGHTS = ",".join(f"{number:.3f}" for number in RNG.normal(size=30))


def ending(text: str, shows: str = "y") -> Graph:
    """A dense layer of five scores %d, and what comes after it."""
    return parse(f"""graph @g {{
      opset ai.onnx=17
      input %x : f32[N,6]
      weight %d.weight = [{WEIGHTS}] : f32[5,6]
      %d = dense(%x, %d.weight) : f32[N,5]
      {text}
      output %{shows}
    }}""")


FINAL = {
    "softmax": "%y = softmax(%d) : f32[N,5]",
    "log-softmax": "%y = onnx.LogSoftmax(%d) {axis=1} : f32[N,5]",
    "sigmoid": "%y = onnx.Sigmoid(%d) : f32[N,5]",
    "argmax": "%y = argmax(%d) {axis=1} : i64[N,1]",
    "argmax without the axis": "%y = argmax(%d) {axis=-1, keepdims=0} : i64[N]",
    "softmax and argmax": "%p = softmax(%d) : f32[N,5]\n %y = argmax(%p) {axis=1} : i64[N,1]",
}


@pytest.mark.parametrize("name", FINAL)
def test_outputs_show_the_scores_before(name: str) -> None:
    graph = ending(FINAL[name])
    context = Context()
    dropped = run_passes(graph, "drop-softmax", context)
    assert [node.op for node in dropped.nodes] == ["dense"]
    assert dropped.outputs[0].name == "y"
    assert '"y" shows the scores before %y, which is left to the host' in context.notes
    scores = simulate(dropped, X)["y"]
    assert np.array_equal(scores, simulate(ending("", "d"), X)["d"])
    if "argmax" in name:
        assert np.array_equal(simulate(graph, X)["y"].ravel(), scores.argmax(1))


@pytest.mark.parametrize(
    ("text", "shows"),
    [
        ("%y = softmax(%d) {axis=0} : f32[N,5]", "y"),
        ("%y = argmax(%d) : i64[1,5]", "y"),
        ("%y = argmax(%d) {axis=-2} : i64[1,5]", "y"),
        ("%p = softmax(%d) : f32[N,5]\n %y = relu(%p) : f32[N,5]", "p"),
    ],
    ids=["over the samples", "over the samples by default", "over the samples from behind", "read by another node"],
)
def test_what_else_is_asked_of_it_stays(text: str, shows: str) -> None:
    graph = ending(text, shows)
    assert len(run_passes(graph, "drop-softmax").nodes) == len(graph.nodes)


@pytest.mark.parametrize("name", FINAL)
def test_a_score_is_that_of_the_scores(name: str) -> None:
    """Labelled, and by agreement, in two bits, where answers change; an index is the score of no class."""
    bare, graph = ending("", "d"), ending(FINAL[name])
    formats = {"d.weight": fixed(2).at(1)}
    z = simulate(bare, X)["d"]
    coarse = X @ fixed(2).at(1).quantize(bare.values["d.weight"].tensor.data).T  # type: ignore[union-attr]
    y = RNG.integers(0, 5, len(X))
    assert scores_of(graph).name == "d"
    assert score(graph, X, y, formats).value == np.mean(coarse.argmax(1) == y)
    agreement = score(graph, X, None, formats, "agreement", graph).value
    assert agreement == np.mean(coarse.argmax(1) == z.argmax(1))
    assert 0.3 < agreement < 0.95
