"""The factor and the equations against numpy's own, in both precisions and on both sides of a block."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.ir.errors import CompileError
from bitwright.passes.cholesky import lower_factor, solved

SIZES = [1, 2, 63, 64, 65, 200]


def definite(size: int) -> np.ndarray:
    x = np.random.default_rng(size).normal(size=(2 * size, size))
    return x.T @ x / size + 0.01 * np.eye(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("dtype", "near"), [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_the_factor_multiplies_back(size: int, dtype: type, near: float) -> None:
    h = definite(size).astype(dtype)
    factor = lower_factor(h)
    assert factor.dtype == dtype
    np.testing.assert_array_equal(factor, np.tril(factor))
    np.testing.assert_allclose(factor.T @ factor, h, atol=near)


@pytest.mark.parametrize("size", SIZES)
def test_equations_have_numpys_answer(size: int) -> None:
    h, b = definite(size), np.random.default_rng(0).normal(size=(size, 3))
    before = b.copy()
    np.testing.assert_allclose(solved(h, b), np.linalg.solve(h, b), rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(b, before)


def test_what_is_not_definite_is_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        lower_factor(np.diag([1.0, -1.0, 1.0]))


@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_squares_that_are_no_numbers_are_refused(number: float) -> None:
    h = definite(70)
    h[69, 0] = number
    with pytest.raises(CompileError, match="too large") as caught:
        solved(h, np.ones((70, 1)))
    assert "scale the data" in (caught.value.help or "")
