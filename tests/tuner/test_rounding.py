"""Second-order rounding and what it needs: grids, curvatures, patches, and layers refitted to rounded inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.backends.simulation.run import Simulation
from bitwright.ir.formats import Canonical, parse
from bitwright.ir.formats.named import BIN, binary, exp, fixed
from bitwright.ir.graph import Graph, Node
from bitwright.ir.parse import parse as parse_graph
from bitwright.passes.patches import MOST_ROWS, group_count, patches
from bitwright.tuner.whittle.curvature import Curvature
from bitwright.tuner.whittle.layer import Fitted, Statistics
from bitwright.tuner.whittle.rounding import Grid, damage, rounded

FORMATS = ["FIXED 2", "FIXED 3 2", "FIXED 8 -3", "UFIXED 1", "UFIXED 4 1", "BIN<1,B=2>", "EXP 2", "EXP 3 1", "EXP 6"]
POWERS = [text for text in FORMATS if text.startswith("EXP")]
WHOLE = [text for text in FORMATS if not text.startswith("EXP")]


def format_of(text: str) -> Canonical:
    found = parse(text)
    assert isinstance(found, Canonical)
    return found


def curvature_of(rng: np.random.Generator, inputs: int) -> Curvature:
    """Of correlated inputs."""
    x = rng.normal(size=(60, inputs)) @ rng.normal(size=(inputs, inputs))
    return Curvature.of(x.T @ x / 60)


# ---- grids


def nearest(grid: Grid, column: np.ndarray) -> np.ndarray:
    """The numbers that a grid rounds a column to."""
    scaled = column / grid.step
    codes = np.empty_like(scaled)
    grid.round(scaled, codes)
    return codes * grid.step


@given(
    st.lists(st.sampled_from(WHOLE), min_size=1, max_size=4)
    | st.lists(st.sampled_from(POWERS), min_size=1, max_size=4),
    st.integers(0, 10**6),
)
def test_grids_round_as_formats_do(texts: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    formats = [format_of(text) for text in texts]
    grid = Grid([(format, 3) for format in formats])
    for _ in range(20):
        column = (rng.normal(size=3 * len(formats)) * 2.0 ** rng.integers(-8, 9)).astype(np.float32)
        expected = np.concatenate([f.quantize(part) for f, part in zip(formats, column.reshape(-1, 3), strict=True)])
        np.testing.assert_array_equal(nearest(grid, column), expected)


@pytest.mark.parametrize("text", FORMATS)
def test_grids_round_half_way_as_formats_do(text: str) -> None:
    format = format_of(text)
    step = float(format.step)
    column = np.concatenate(
        [np.arange(-40, 41) * step / 4, [0.0, -0.0, 1e9, -1e9, 1e-12, 3 * step, 1.5 * step]]
    ).astype(np.float32)
    np.testing.assert_array_equal(nearest(Grid([(format, len(column))]), column), format.quantize(column))


@pytest.mark.parametrize("kind", [fixed(3), exp(3), BIN])
def test_grids_have_a_bias_for_each_row(kind: Canonical) -> None:
    column = np.random.default_rng(1).normal(size=5).astype(np.float32)
    format = kind.at((0, 1, 2, 3, -1), 0)
    np.testing.assert_array_equal(nearest(Grid([(format, 5)]), column), format.quantize(column))


# ---- rounding


@pytest.mark.parametrize("format", [fixed(3), exp(3)])
def test_no_zero_has_a_sign(format: Canonical) -> None:
    w = np.array([[-0.1, 0.1, -2.0], [0.01, -0.01, -0.2]])
    found = rounded(w, Curvature.of(np.eye(3)), Grid([(format.at(0), 2)]))
    assert np.any(found == 0)
    assert not np.any(np.signbit(found[found == 0]))


def test_damage_is_the_change_of_the_output() -> None:
    rng = np.random.default_rng(2)
    x, w, q = rng.normal(size=(50, 4)), rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    h = x.T @ x
    curvature = Curvature(h, np.arange(4), np.eye(4))
    np.testing.assert_allclose(damage(w, q, curvature), np.square(x @ (q - w).T).sum(0))


def doubly(w: np.ndarray, q: np.ndarray, curvature: Curvature) -> np.ndarray:
    """tr(E H E^T) row by row, all in double precision."""
    e = np.asarray(q, np.float64) - w
    return np.einsum("ij,jk,ik->i", e, curvature.h, e)


def test_tiny_layers_against_all_choices() -> None:
    """Never below the optimum; on average far below rounding to nearest, and near the optimum."""
    rng = np.random.default_rng(3)
    values = fixed(2).values()
    reached, nearest, optimal = [], [], []
    for inputs in (2, 3, 4, 5, 6) * 8:
        curvature = curvature_of(rng, inputs)
        w = rng.uniform(-1.2, 1.2, size=(1, inputs))
        grid = Grid([(fixed(2), 1)])
        choices = np.array(list(itertools.product(values, repeat=inputs)))
        best = doubly(np.broadcast_to(w, choices.shape), choices, curvature).min()
        made = float(doubly(w, rounded(w, curvature, grid), curvature)[0])
        assert made >= best - 1e-9
        reached.append(made)
        nearest.append(float(doubly(w, fixed(2).quantize(w), curvature)[0]))
        optimal.append(best)
    assert np.mean(np.array(reached) <= np.array(nearest) + 1e-9) > 0.9
    assert np.mean(reached) < 0.7 * np.mean(nearest)
    assert np.mean(reached) < 1.5 * np.mean(optimal)


@given(st.sampled_from(FORMATS), st.integers(0, 10**6))
def test_descent_never_does_harm_and_numbers_are_on_the_grid(text: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    format, inputs = format_of(text), int(rng.integers(1, 9))
    curvature = curvature_of(rng, inputs)
    w = rng.normal(size=(4, inputs)) * float(format.max) / 2
    found = [rounded(w, curvature, Grid([(format, 4)]), sweeps) for sweeps in range(4)]
    for q in found:
        np.testing.assert_array_equal(q, format.quantize(q))
    damages = [damage(w, q, curvature) for q in found]
    for before, after in itertools.pairwise(damages):
        assert np.all(after <= before * (1 + 1e-4) + 1e-9)


def test_blocks_and_rows_do_not_change_the_answer() -> None:
    """More columns than a block has, and rows of several formats in one call."""
    rng = np.random.default_rng(6)
    curvature = curvature_of(rng, 130)
    w = rng.normal(size=(3, 130))
    formats = [fixed(3, -1), fixed(2), fixed(5, -1)]
    together = rounded(np.tile(w, (3, 1)), curvature, Grid([(f, 3) for f in formats]), 2)
    left, upper = w[:, curvature.order].copy(), np.linalg.inv(curvature.factor).T
    for j in range(130):  # one column after the other, as the paper writes it
        q = fixed(2).quantize(left[:, j])
        left[:, j + 1 :] -= ((left[:, j] - q) / upper[j, j])[:, None] * upper[j, j + 1 :]
        left[:, j] = q
    plain = np.empty_like(left)
    plain[:, curvature.order] = left
    found = rounded(w, curvature, Grid([(fixed(2), 3)]), 0)
    assert np.mean(found == plain) > 0.98  # that is in single precision
    np.testing.assert_allclose(damage(w, found, curvature), damage(w, plain, curvature), rtol=0.05)
    for number, format in enumerate(formats):
        alone = rounded(w, curvature, Grid([(format, 3)]), 2)
        np.testing.assert_array_equal(together[3 * number : 3 * number + 3], alone)


@pytest.mark.parametrize("inputs", [5, 64, 130])
@pytest.mark.parametrize("sweeps", [1, 2, 3])
def test_sweeps_take_the_best_number_of_each_column_in_turn(inputs: int, sweeps: int) -> None:
    """In double precision and from the whole of H, a number at a time, from the same start."""
    rng = np.random.default_rng(inputs)
    curvature, w, grid = curvature_of(rng, inputs), rng.normal(size=(4, inputs)), Grid([(fixed(3, -1), 4)])
    expected = np.asarray(rounded(w, curvature, grid, 0), np.float64)
    for _ in range(sweeps):
        for j in curvature.order:
            pull = (expected - w) @ curvature.h[j] / curvature.h[j, j]
            expected[:, j] = fixed(3, -1).quantize(expected[:, j] - pull)
    found = rounded(w, curvature, grid, sweeps)
    assert np.mean(found == expected) > 0.98  # that is in single precision
    np.testing.assert_allclose(doubly(w, found, curvature), doubly(w, expected, curvature), rtol=0.05)


# ---- patches and layers


def conv(
    channels: int,
    out: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    seed: int = 0,
    bias: bool = True,
    **given: object,
) -> Graph:
    """A graph of one convolution."""
    said = {"dilations": [1, 1], "groups": 1, "pads": [0, 0, 0, 0], "strides": [1, 1]} | given
    rng = np.random.default_rng(seed)
    count = out * channels // said["groups"] * kernel[0] * kernel[1]  # type: ignore[operator]
    numbers = ",".join(f"{number:.3f}" for number in rng.normal(size=count))
    biases = ",".join(f"{number:.3f}" for number in rng.normal(size=out))
    pads, steps, gaps = said["pads"], said["strides"], said["dilations"]
    sides = [
        (size[i] + pads[i] + pads[i + 2] - gaps[i] * (kernel[i] - 1) - 1) // steps[i] + 1  # type: ignore[index]
        for i in (0, 1)
    ]
    attributes = ", ".join(f"{name}={value}" for name, value in sorted((said | {"kernel": list(kernel)}).items()))
    shape = f"[{out},{channels // said['groups']},{kernel[0]},{kernel[1]}]"  # type: ignore[operator]
    return parse_graph(f"""
        graph @conv {{
          input %x : f32[N,{channels},{size[0]},{size[1]}]
          weight %c.weight = [{numbers}] : f32{shape}
          {f"weight %c.bias = [{biases}] : f32[{out}]" if bias else ""}
          %c = conv2d(%x, %c.weight{", %c.bias" if bias else ""}) {{{attributes}}} : f32[N,{out},{sides[0]},{sides[1]}]
          output %c
        }}
    """)


def weight_of(node: Node) -> NDArray[np.float32]:
    tensor = node.operand(1).tensor
    assert tensor is not None
    return tensor.data


@pytest.mark.parametrize(
    ("channels", "out", "size", "kernel", "given"),
    [
        (1, 2, (5, 5), (3, 3), {}),
        (3, 4, (7, 6), (3, 2), {"strides": [2, 1]}),
        (2, 3, (5, 6), (3, 3), {"pads": [1, 0, 2, 1]}),
        (2, 2, (9, 8), (2, 3), {"dilations": [3, 2]}),
        (4, 6, (6, 6), (3, 3), {"groups": 2, "pads": [1, 1, 1, 1]}),
        (4, 4, (6, 5), (3, 3), {"groups": 4, "strides": [2, 2], "pads": [1, 1, 0, 1], "dilations": [1, 2]}),
    ],
)
def test_patches_times_weights_are_the_convolution(
    channels: int, out: int, size: tuple[int, int], kernel: tuple[int, int], given: dict[str, object]
) -> None:
    graph = conv(channels, out, size, kernel, bias=False, **given)
    node = graph.nodes[0]
    x = np.random.default_rng(1).normal(size=(5, channels, *size)).astype(np.float32)
    expected = Simulation(graph).run({"x": x})["c"]
    groups = patches(node, x)
    assert len(groups) == group_count(node)
    weights = np.split(weight_of(node), len(groups))
    found = np.concatenate([rows @ w.reshape(len(w), -1).T for rows, w in zip(groups, weights, strict=True)], axis=1)
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1).reshape(-1, out), rtol=1e-4, atol=1e-4)


def test_many_places_are_sampled_alike_at_every_call() -> None:
    graph = conv(1, 1, (12, 12), (3, 3))
    x = np.random.default_rng(1).normal(size=(500, 1, 12, 12)).astype(np.float32)
    (rows,) = patches(graph.nodes[0], x)
    assert len(rows) == 500 * (MOST_ROWS // 500) < 500 * 100
    np.testing.assert_array_equal(rows, patches(graph.nodes[0], x)[0])
    (more,) = patches(graph.nodes[0], 2 * x)
    np.testing.assert_array_equal(more, 2 * rows)
    for sample in (0, 499):
        windows = {window.tobytes() for window in patches(graph.nodes[0], x[sample : sample + 1])[0]}
        own = rows[sample * 16 : sample * 16 + 16]
        assert {row.tobytes() for row in own} <= windows
        assert len({row.tobytes() for row in own}) == 16


def test_inputs_are_rounded_and_padding_is_not() -> None:
    """As the network pads: after its inputs have their format. +1 or -1 have no 0 of their own."""
    graph = conv(2, 3, (4, 5), (3, 3), pads=[1, 0, 2, 1])
    x = np.random.default_rng(1).normal(size=(6, 2, 4, 5)).astype(np.float32)
    signs = binary(0)
    (rows,) = patches(graph.nodes[0], x, signs.quantize)
    np.testing.assert_array_equal(rows, patches(graph.nodes[0], signs.quantize(x))[0])
    assert set(np.unique(rows)) == {-1, 0, 1}


def test_dense_layers_meet_their_inputs() -> None:
    graph = parse_graph(
        "graph @d {\n  input %x : f32[N,2]\n  weight %d.weight = [1,2] : f32[1,2]\n"
        "  %d = dense(%x, %d.weight) : f32[N,1]\n  output %d\n}"
    )
    x = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    (rows,) = patches(graph.nodes[0], x)
    np.testing.assert_array_equal(rows, x)


def fit(statistics: Statistics, formats: list[Canonical], per_channel: bool = False) -> list[Fitted]:
    """The numbers of each format, from its biases of least squared error on."""
    return statistics.fit([statistics.start(format, per_channel).format for format in formats])


def layer_error(
    node: Node, weight: NDArray[np.float32], bias: NDArray[np.float32] | None, x: list, exact: list
) -> float:
    """The mean square change of a layer's output."""
    total, own = 0.0, np.split(np.arange(len(weight)), len(x))
    given = node.optional(2)
    before = 0.0 if given is None or given.tensor is None else given.tensor.data
    for rows, float_rows, which in zip(x, exact, own, strict=True):
        w, q = weight_of(node)[which].reshape(len(which), -1), weight[which].reshape(len(which), -1)
        shift = 0.0 if bias is None else (bias - before)[which]
        total += float(np.square(float_rows @ w.T - rows @ q.T - shift).sum())
    return total


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("text", ["FIXED 3", "EXP 3", "BIN"])
def test_refitted_layers_change_their_output_less(text: str, groups: int, bias: bool) -> None:
    """Than weights rounded to nearest do, given the same rounded inputs."""
    graph = conv(4, 6, (8, 8), (3, 3), seed=7, bias=bias, groups=groups)
    node = graph.nodes[0]
    rng = np.random.default_rng(8)
    x = (rng.normal(size=(60, 4, 8, 8)) + 2 * rng.normal(size=(60, 1, 8, 8)) + 0.7).astype(np.float32)
    exact, seen = patches(node, x), patches(node, fixed(3, -2).quantize(x))
    for per_channel in (False, True):
        for statistics, rows in ((Statistics(node, seen, exact), seen), (Statistics(node, exact), exact)):
            (fitted,) = fit(statistics, [format_of(text)], per_channel)
            format = fitted.format
            assert (format.axis, format.channels) == ((0, 6) if per_channel else (None, None))
            np.testing.assert_array_equal(fitted.weight, format.quantize(fitted.weight))
            assert fitted.weight.shape == weight_of(node).shape
            assert (fitted.bias is None) == (not bias)
            plain = format.quantize(weight_of(node))
            assert layer_error(node, fitted.weight, fitted.bias, rows, exact) < layer_error(
                node, plain, None, rows, exact
            )


def test_the_mean_output_stays() -> None:
    graph = conv(2, 3, (6, 6), (3, 3), seed=9)
    node = graph.nodes[0]
    x = (np.random.default_rng(9).normal(size=(40, 2, 6, 6)) + 1).astype(np.float32)
    seen = fixed(2, -2).quantize(x)
    (exact,), (rows,) = patches(node, x), patches(node, seen)
    (fitted,) = fit(Statistics(node, [rows], [exact]), [fixed(2)])
    assert fitted.bias is not None
    bias = node.optional(2)
    assert bias is not None
    assert bias.tensor is not None
    before = exact @ weight_of(node).reshape(3, -1).T + bias.tensor.data
    after = rows @ fitted.weight.reshape(3, -1).T + fitted.bias
    np.testing.assert_allclose(after.mean(0), before.mean(0), atol=1e-4)


def test_several_formats_at_once_are_as_one_by_one() -> None:
    graph = conv(2, 3, (6, 6), (3, 3), seed=10)
    node = graph.nodes[0]
    x = np.random.default_rng(10).normal(size=(40, 2, 6, 6)).astype(np.float32)
    statistics = Statistics(node, patches(node, x))
    formats = [fixed(2), exp(3), BIN, fixed(5), exp(2)]
    for per_channel in (False, True):
        for format, found in zip(formats, fit(statistics, formats, per_channel), strict=True):
            (alone,) = fit(statistics, [format], per_channel)
            assert found.format == alone.format
            assert (found.format.kind, found.format.width) == (format.kind, format.width)
            np.testing.assert_array_equal(found.weight, alone.weight)
            assert statistics.error(found) == pytest.approx(statistics.error(alone))


def test_more_bits_and_biases_a_channel_leave_less_error() -> None:
    graph = conv(2, 6, (6, 6), (3, 3), seed=11)
    node = graph.nodes[0]
    x = np.random.default_rng(11).normal(size=(40, 2, 6, 6)).astype(np.float32)
    statistics = Statistics(node, patches(node, x))
    errors = [statistics.error(fitted) for fitted in fit(statistics, [fixed(width) for width in (2, 3, 4, 6, 8)])]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 1e-3 < errors[0] < 1
    for plain, own in zip(fit(statistics, [fixed(2), exp(2)]), fit(statistics, [fixed(2), exp(2)], True), strict=True):
        assert statistics.error(own) <= statistics.error(plain)
