"""Fits against brute force over all biases, and Table IV of the LeNet paper."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.ir.formats import Affine, Canonical, best_bias, best_format, compressed_ratio, parse, stored_bits

FORMATS = ["FIXED 2", "FIXED 4", "FIXED 8", "EXP 2", "EXP 4", "FLOAT 6", "BIN", "UFIXED 3"]


def canonical(text: str) -> Canonical:
    format = parse(text)
    assert isinstance(format, Canonical)
    return format


def squared_error(format: Canonical, x: np.ndarray, weight: np.ndarray | float = 1.0) -> float:
    return float((weight * (x - format.quantize(x)) ** 2).sum())


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("weighted", [False, True])
def test_best_bias_is_the_best_of_all(text: str, weighted: bool) -> None:
    random = np.random.default_rng(3)
    for scale in (1e-3, 0.3, 70.0):
        x = random.standard_t(4, 300) * scale
        x = np.abs(x) if text.startswith("U") else x
        weight = random.random(300) if weighted else None
        fit = best_bias(canonical(text), x, weight)
        least = min(squared_error(canonical(text).at(b), x, 1.0 if weight is None else weight) for b in range(-30, 40))
        assert float(fit.error) == pytest.approx(least)
        assert squared_error(fit.format, x, 1.0 if weight is None else weight) == pytest.approx(least)


def test_one_bias_a_channel_is_each_channels_own() -> None:
    random = np.random.default_rng(4)
    x = random.standard_normal((5, 3, 4)) * np.array([0.01, 1, 100])[None, :, None]
    fit = best_bias(canonical("FIXED 4"), x, axis=1)
    for channel in range(3):
        own = best_bias(canonical("FIXED 4"), x[:, channel])
        assert isinstance(fit.format.bias, tuple)
        assert fit.format.bias[channel] == own.format.bias
        assert fit.error[channel] == pytest.approx(float(own.error))


def test_best_format_takes_the_kind_of_least_error() -> None:
    powers = np.array([1.0, -0.5, 0.25, 8.0, -0.0625, 0.0])
    assert best_format([canonical("FIXED 4"), canonical("EXP 4")], powers).format.kind == "EXP"
    ramp = np.linspace(-1, 1, 15)
    assert best_format([canonical("EXP 4"), canonical("FIXED 4")], ramp).format.kind == "FIXED"


@pytest.mark.parametrize(
    ("bits", "per_tensor", "per_channel"),
    [(1, 0.0313, 0.1113), (2, 0.0625, 0.1425), (4, 0.1250, 0.2050), (8, 0.2500, 0.3300)],
)
def test_table_iv_of_the_lenet_paper(bits: int, per_tensor: float, per_channel: float) -> None:
    """conv5 has 48,000 weights; the paper's channel is one kernel, 120 x 16 of them."""
    shape = (120, 16, 5, 5)
    format = Affine(bits, 1.0)
    assert compressed_ratio(format, shape) == pytest.approx(per_tensor, abs=0.5e-4)
    assert compressed_ratio(format, shape, axes=(0, 1)) == pytest.approx(per_channel, abs=0.5e-4)


def test_the_papers_matrix_of_nine_weights_takes_82_bits() -> None:
    assert stored_bits(Affine(2, 1.0), (3, 3)) == 2 * 3 * 3 + 32 + 32
