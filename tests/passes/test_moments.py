"""Second moments: against double precision, and of inputs that are too large for them."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.ir.errors import CompileError
from bitwright.passes.moments import gram, products


def test_they_are_those_of_double_precision() -> None:
    x = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
    expected = np.einsum("ni,nj->ij", x.astype(np.float64), x.astype(np.float64))
    np.testing.assert_allclose(products(x), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(gram(x), expected / 300, rtol=1e-4, atol=1e-5)
    assert (products(x).dtype, gram(x).dtype) == (np.float32, np.float64)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1e19, 1e25, np.inf])
def test_inputs_without_squares_are_refused_without_a_warning(size: float) -> None:
    x = (np.random.default_rng(1).normal(size=(300, 20)) * size).astype(np.float32)
    with pytest.raises(CompileError, match="too large") as caught:
        gram(x)
    assert "scale the data" in (caught.value.help or "")
