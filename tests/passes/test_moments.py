"""Second moments, of much and of little, against products in double precision."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.passes import moments


@pytest.mark.parametrize("much", [0, 1e12], ids=["in two halves", "at once"])
@pytest.mark.parametrize("rows", [1, 2, 501])
def test_squares_are_sums_over_rows(rows: int, much: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "MUCH", much)
    x = np.random.default_rng(rows).normal(size=(rows, 40)).astype(np.float32)
    found, exact = moments.squares(x), x.T.astype(np.float64) @ x.astype(np.float64)
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()
    assert np.array_equal(found, found.T)
