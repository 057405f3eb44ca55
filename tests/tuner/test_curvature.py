"""Curvatures of whole layers and of segments of their inputs, against numpy and against layers of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.ir.formats.named import BIN, exp, fixed
from bitwright.ir.graph import Node
from bitwright.ir.parse import parse as parse_graph
from bitwright.tuner.whittle import curvature as module
from bitwright.tuner.whittle.curvature import Curvature, joined, segment_count, split, times, upper
from bitwright.tuner.whittle.layer import SCATTER, Statistics
from bitwright.tuner.whittle.rounding import Grid, damage, improved, rounded


def curvature_of(rng: np.random.Generator, inputs: int) -> Curvature:
    """Of correlated inputs."""
    x = rng.normal(size=(60, inputs)) @ rng.normal(size=(inputs, inputs))
    return Curvature.of(x.T @ x / 60)


@pytest.mark.parametrize("inputs", [1, 2, 7, 64, 70, 200])
def test_the_factor_is_that_of_the_curvature(inputs: int) -> None:
    found = curvature_of(np.random.default_rng(inputs), inputs)
    assert sorted(found.order) == list(range(inputs))
    turned = found.h[np.ix_(found.order, found.order)]
    assert np.all(np.diff(np.diagonal(turned)) <= 0)
    np.testing.assert_array_equal(found.factor, np.tril(found.factor))
    np.testing.assert_allclose(found.factor.T @ found.factor, turned, rtol=1e-9, atol=1e-12)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    h = np.zeros((3, 3))
    h[0, 0] = 4.0
    for found in (Curvature.of(h), Curvature.of(np.zeros((3, 3)))):
        assert np.isfinite(found.factor).all()
        q = rounded(np.array([[0.4, 0.6, -2.0]]), found, Grid([(fixed(2), 1)]))
        assert set(q.ravel()) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("inputs", [1, 64, 130])
def test_half_a_product_gives_the_first_sums_of_a_sweep(inputs: int) -> None:
    rng = np.random.default_rng(inputs)
    curvature = curvature_of(rng, inputs)
    e = rng.normal(size=(inputs, 3)).astype(np.float32)
    turned = curvature.h[np.ix_(curvature.order, curvature.order)]
    expected = turned @ e / np.diagonal(turned)[:, None]
    np.testing.assert_allclose(curvature.pull(curvature.shares @ e), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inputs", [1, 7, 130])
@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_ridged_equations_are_solved(inputs: int, ridge: float) -> None:
    rng = np.random.default_rng(inputs)
    curvature = curvature_of(rng, inputs)
    b = rng.normal(size=(inputs, 3))
    raised = curvature.h + ridge * np.diagonal(curvature.h).mean() * np.eye(inputs)
    for _ in range(2):  # the factor that was kept gives the same
        np.testing.assert_allclose(raised @ curvature.solved(ridge, b), b, rtol=1e-3, atol=1e-3)


# ---- segments


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 6))
def test_rows_are_split_into_runs_of_inputs(rows: int, inputs: int, segments: int) -> None:
    x = np.arange(1, rows * inputs + 1).reshape(rows, inputs)
    found = split(x, segments)
    np.testing.assert_array_equal(joined(found, inputs), x)
    if segments > 1:
        n = -(-inputs // segments)
        assert found.shape == (segments, rows, n)
        np.testing.assert_array_equal(found.swapaxes(0, 1).reshape(rows, -1)[:, inputs:], 0)
        np.testing.assert_array_equal(found[0], x[:, :n])


@given(st.integers(1, 30_000))
def test_only_many_inputs_are_split_and_segments_are_of_like_size(inputs: int) -> None:
    count = segment_count(inputs)
    assert (count == 1) == (inputs <= module.MOST_INPUTS)
    if count > 1:
        assert module.SEGMENT / 2 < inputs / count <= module.SEGMENT


@pytest.mark.parametrize("n", [1, 5, 130])
def test_products_are_of_each_segment(n: int) -> None:
    rng = np.random.default_rng(n)
    matrix = np.triu(rng.normal(size=(3, n, n))).astype(np.float32)
    columns = rng.normal(size=(n, 3, 4)).astype(np.float32)
    expected = np.stack([matrix[i].astype(np.float64) @ columns[:, i] for i in range(3)], 1)
    np.testing.assert_allclose(times(matrix, columns), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(upper(matrix, columns), expected, rtol=1e-4, atol=1e-4)


def segmented(rng: np.random.Generator, inputs: int, segments: int) -> tuple[Curvature, list[Curvature]]:
    """The curvature of correlated inputs in segments, and that of each as a layer of its own, filled up."""
    x = rng.normal(size=(60, inputs)) @ rng.normal(size=(inputs, inputs))
    moments = np.stack([own.T @ own / 60 for own in split(x, segments)])
    return Curvature.of(moments), [Curvature.of(own) for own in moments]


@pytest.mark.parametrize("inputs", [9, 26, 210])
@pytest.mark.parametrize("format", [fixed(3, -1), exp(3), BIN])
@pytest.mark.parametrize("sweeps", [0, 2])
def test_segments_are_rounded_as_layers_of_their_own(inputs: int, format: object, sweeps: int) -> None:
    """26 inputs are filled up with one more. Products of both may add up in another order."""
    rng = np.random.default_rng(inputs)
    together, alone = segmented(rng, inputs, 3)
    w, grid = rng.normal(size=(4, inputs)), Grid([(format, 4)])  # type: ignore[list-item]
    found = rounded(w, together, grid, sweeps)
    own = [rounded(part, one, grid, sweeps) for part, one in zip(split(w, 3), alone, strict=True)]
    expected = joined(np.stack(own), inputs)
    assert found.shape == w.shape
    assert np.mean(found == expected) > 0.98
    np.testing.assert_allclose(damage(w, found, together), damage(w, expected, together), rtol=0.05)
    parts = [damage(part, q, one) for part, q, one in zip(split(w, 3), split(found, 3), alone, strict=True)]
    np.testing.assert_allclose(damage(w, found, together), np.sum(parts, 0), rtol=1e-3)


def test_descent_in_segments_does_no_harm() -> None:
    rng = np.random.default_rng(1)
    curvature, _ = segmented(rng, 50, 4)
    w, grid = rng.normal(size=(5, 50)), Grid([(fixed(3, -1), 5)])
    before = rounded(w, curvature, grid, 0)
    after = improved(before.astype(np.float64), w, curvature, grid, 3)
    assert np.all(damage(w, after, curvature) <= damage(w, before, curvature) * (1 + 1e-4))
    assert damage(w, after, curvature).sum() < 0.98 * damage(w, before, curvature).sum()


def test_each_segment_has_equations_of_its_own() -> None:
    rng = np.random.default_rng(2)
    together, alone = segmented(rng, 26, 3)
    b = rng.normal(size=(3, 9, 4))
    expected = np.stack([one.solved(0.1, part) for one, part in zip(alone, b, strict=True)])
    np.testing.assert_allclose(together.solved(0.1, b), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(together.powers, np.stack([np.diagonal(one.h) for one in alone]))


def dense(inputs: int, bias: bool) -> Node:
    """A layer of three outputs."""
    rng = np.random.default_rng(inputs)
    numbers = ",".join(f"{number:.4f}" for number in rng.normal(size=3 * inputs))
    return parse_graph(f"""
        graph @dense {{
          input %x : f32[N,{inputs}]
          weight %d.weight = [{numbers}] : f32[3,{inputs}]
          {"weight %d.bias = [0.1,-0.2,0.3] : f32[3]" if bias else ""}
          %d = dense(%x, %d.weight{", %d.bias" if bias else ""}) : f32[N,3]
          output %d
        }}
    """).nodes[0]


def refitted(w: NDArray, x: NDArray, exact: NDArray, h: NDArray, ridge: float) -> NDArray:
    """The weights of a segment that suit x, near w, in double precision."""
    raised = h + ridge * np.diagonal(h).mean() * np.eye(len(h))
    return w + np.linalg.solve(raised, (w @ (exact - x).T @ x / len(x)).T).T


@pytest.mark.parametrize("rows", [15, 400], ids=["few", "many"])
@pytest.mark.parametrize("bias", [True, False])
def test_segments_are_refitted_each_by_itself(rows: int, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 22 inputs, in segments of 6, 6, 6 and 4; with few rows by the float inputs' own, damped H."""
    monkeypatch.setattr(module, "MOST_INPUTS", 10)
    monkeypatch.setattr(module, "SEGMENT", 6)
    node, rng = dense(22, bias), np.random.default_rng(rows)
    exact = (rng.normal(size=(rows, 22)) @ rng.normal(size=(22, 22)) + bias).astype(np.float32)
    x = fixed(3, 0).quantize(exact)
    floating = Statistics(node, [exact])
    (group,) = Statistics(node, [x], [exact], floating).groups
    tensor = node.operand(1).tensor
    assert tensor is not None
    here, wanted = (part.astype(np.float64) - bias * part.mean(0, np.float64) for part in (x, exact))
    ends = [(0, 6), (6, 12), (12, 18), (18, 22)]
    for number, (start, stop) in enumerate(ends):
        own = here[:, start:stop]
        h = own.T @ own / rows
        if rows < 22:
            h = floating.groups[0].curvature.h[number][: stop - start, : stop - start].astype(np.float64)
        ridge = max(0.01, SCATTER * 22 / rows)
        # the ridge is in mean diagonals of a segment that is filled up
        ridge *= (stop - start) / 6 if rows >= 22 else h_share(floating, number, stop - start)
        expected = refitted(tensor.data[:, start:stop].astype(np.float64), own, wanted[:, start:stop], h, ridge)
        np.testing.assert_allclose(group.w[:, start:stop], expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("step", "is_near"), [(0.1, True), (0.8, False)])
def test_what_hardly_differs_from_the_float_inputs_is_refitted_by_theirs(step: float, is_near: bool) -> None:
    """60 rows of 22 inputs, which are few, beside 400 of the float inputs; changes of 0.03 and 0.23 deviations."""
    node, rng = dense(22, False), np.random.default_rng(5)
    more = rng.normal(size=(400, 22)).astype(np.float32)
    exact = more[:60]
    x = (np.rint(exact / step) * step).astype(np.float32)
    floating = Statistics(node, [more])
    (group,) = Statistics(node, [x], [exact], floating).groups
    here = x.astype(np.float64)
    h = floating.groups[0].curvature.h.astype(np.float64) if is_near else here.T @ here / 60
    tensor = node.operand(1).tensor
    assert tensor is not None
    expected = refitted(tensor.data.astype(np.float64), here, exact, h, SCATTER * 22 / 60)
    np.testing.assert_allclose(group.w, expected, rtol=1e-4, atol=1e-4)


def h_share(floating: Statistics, number: int, inputs: int) -> float:
    """The mean diagonal of a segment's H over that of its inputs alone."""
    diagonal = np.diagonal(floating.groups[0].curvature.h[number])
    return float(diagonal.mean() / diagonal[:inputs].mean())


@pytest.mark.parametrize("format", [fixed(3), exp(3), BIN])
def test_a_layer_in_segments_is_fitted_better_than_to_nearest(format: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """On inputs that it was not fitted to, neighbours being alike, and not much worse than as one."""
    node, rng = dense(40, True), np.random.default_rng(3)
    mixed = 0.8 ** np.abs(np.arange(40)[:, None] - np.arange(40))
    exact, unseen = ((rng.normal(size=(800, 40)) @ mixed).astype(np.float32) for _ in range(2))
    errors = []
    for most in (40, 10):
        monkeypatch.setattr(module, "MOST_INPUTS", most)
        monkeypatch.setattr(module, "SEGMENT", 20)
        statistics = Statistics(node, [exact])
        start = statistics.start(format, False).format  # type: ignore[arg-type]
        (fitted,) = statistics.fit([start])
        assert 0 < statistics.error(fitted) < 1
        tensor = node.operand(1).tensor
        assert tensor is not None
        power = np.square(unseen @ tensor.data.T).sum()
        errors.append(float(np.square(unseen @ (fitted.weight - tensor.data).T).sum() / power))
        nearest = np.square(unseen @ (start.quantize(tensor.data) - tensor.data).T).sum() / power
        assert errors[-1] < 0.8 * nearest
    assert errors[1] < 2 * errors[0]
