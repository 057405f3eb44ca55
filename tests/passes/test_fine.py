"""prune-weights: the smallest go, as many as asked for, and refit knows what the network was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text
from bitwright.passes import Context, run_passes

TEXT = """graph @g {
  input %x : f32[N,8]
  weight %w1 = 00000001 : f32[16,8]
  weight %w2 = 00000002 : f32[4,16]
  %fc1 = dense(%x, %w1) {act=relu} : f32[N,16]
  %fc2 = dense(%fc1, %w2) : f32[N,4]
  output %fc2
}
"""


@given(st.floats(0, 1))
def test_the_smallest_go(sparsity: float) -> None:
    before = parse(TEXT)
    after = run_passes(before, f"prune-weights{{sparsity={sparsity}}}")
    for name in ("w1", "w2"):
        whole, left = (np.abs(g.values[name].tensor.data) for g in (before, after))  # type: ignore[union-attr]
        gone = left == 0
        assert gone.sum() == int(sparsity * whole.size + 1e-9)
        assert whole[gone].max(initial=0) <= whole[~gone].min(initial=np.inf)
        np.testing.assert_array_equal(left[~gone], whole[~gone])


def test_only_one_layer_and_a_note() -> None:
    context = Context()
    after = run_passes(parse(TEXT), "prune-weights{sparsity=0.5,layer=fc2}", context)
    assert after.values["w1"].tensor == parse(TEXT).values["w1"].tensor
    assert after.values["w2"].tensor != parse(TEXT).values["w2"].tensor
    (note,) = context.notes
    assert note.endswith("zeros are stored and multiplied as other weights are; hardware gains nothing")


def test_refit_gives_back_what_was_lost_and_keeps_the_zeros() -> None:
    """Against numpy's least squares of each row over the weights that are left."""
    x = {"x": np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)}
    whole, context = parse(TEXT), Context(x)
    small = run_passes(whole, "prune-weights{sparsity=0.5}", context)
    fitted = run_passes(small, "refit{ridge=0}", context)
    rows = evaluate(fitted, x, ["fc1"])["fc1"].astype(np.float64)
    rows -= rows.mean(0)
    wanted = evaluate(whole, x)["fc2"].astype(np.float64)
    before, after = (graph.values["w2"].tensor.data for graph in (small, fitted))  # type: ignore[union-attr]
    np.testing.assert_array_equal(before == 0, after == 0)
    for row in range(4):
        left = np.flatnonzero(before[row])
        expected = np.linalg.lstsq(rows[:, left], wanted[:, row] - wanted[:, row].mean(), rcond=None)[0]
        np.testing.assert_allclose(after[row, left], expected, rtol=1e-4, atol=1e-5)


def test_nothing_goes() -> None:
    said: list[bool] = []
    context = Context()
    text = to_text(
        run_passes(parse(TEXT), "prune-weights{sparsity=0}", context, lambda step: said.append(step.changed))
    )
    assert text == to_text(parse(TEXT))
    assert said == [False]
    assert context.notes == []
    assert context.reference is None


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(CompileError) as error:
        run_passes(parse(TEXT), "prune-weights{sparsity=0.5,layer=conv1}")
    assert (error.value.message, error.value.help) == ("no layer is named 'conv1'", "the layers are fc1, fc2")
