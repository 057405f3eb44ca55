"""The bias that covers a magnitude is the one of the finest step that holds it."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rationals import SMALL, biases, wide_formats

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, binary, exp, fixed, float_format, parse


@given(wide_formats(), st.floats(1e-300, 1e300) | st.floats(1e-3, 1e3) | st.integers(1, 4096).map(float))
def test_covering_is_the_finest_step_that_holds_the_magnitude(f: Canonical, magnitude: float) -> None:
    found = f.covering(magnitude)
    assert isinstance(found.bias, int)
    assert (found.n_s, found.n_e, found.n_f) == (f.n_s, f.n_e, f.n_f)
    lowest, highest = ((1 << f.n_e) - 1 if f.n_e else 0) - 1023, 1023 - f.n_f
    assert found.max >= magnitude or found.bias == lowest
    if found.bias < highest:
        assert found.at(found.bias + 1).max < magnitude
    own = float(f.max)
    assert f.covering(own).bias == f.bias
    above = math.nextafter(own, math.inf)
    if math.isfinite(above) and f.bias > lowest:
        assert f.covering(above).bias == f.bias - 1  # type: ignore[operator]


def test_covering_covers_everything_that_lenet_could_ask_for() -> None:
    """No clipping at the ends for magnitudes of this world."""
    for n_s, n_e, n_f in SMALL:
        if n_e == n_f == 0:
            continue
        for magnitude in (1e-20, 1e-3, 0.5, 1.0, 1.0 + 2**-50, 2.0, 255.0, 256.0, 1e20):
            found = Canonical(n_s, n_e, n_f, biases(n_e)[0]).covering(magnitude)
            assert isinstance(found.bias, int)
            assert found.max >= magnitude
            try:
                finer = found.at(found.bias + 1)
            except CompileError:
                continue  # as fine as float64 goes
            assert finer.max < magnitude


def test_covering_per_channel_zero_and_bin() -> None:
    sizes = np.array([0.0, 0.3, 5.0, 1000.0])
    for f in (fixed(8), exp(4), float_format(8), parse("UFIXED 6"), binary()):
        whole = f.covering(sizes, 2)  # type: ignore[attr-defined]
        assert whole.axis == 2
        assert whole.bias == tuple(f.covering(float(size)).bias for size in sizes)  # type: ignore[attr-defined]
        assert whole.bias[0] == 0
    assert [binary().covering(m).bias for m in (1.0, 1.4, 1.5, 2.0, 0.3, 1e-3)] == [0, 0, -1, -1, 2, 10]
