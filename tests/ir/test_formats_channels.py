"""Formats with a bias, a scale or a zero a channel are those per tensor on each slice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rationals import SMALL, biases

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Affine, Canonical, Format, fixed


@st.composite
def channelled(draw: st.DrawFn) -> tuple[Format, list[Format], int, tuple[int, ...]]:
    """A format a channel, the format of each channel, the axis and a shape."""
    rank = draw(st.integers(1, 4))
    axis = draw(st.integers(-rank, rank - 1))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank)))
    count = shape[axis]
    if draw(st.booleans()):
        n_s, n_e, n_f = draw(st.sampled_from(SMALL))
        many = tuple(draw(st.lists(st.sampled_from(biases(n_e)), min_size=count, max_size=count)))
        whole: Format = Canonical(n_s, n_e, n_f, many, axis)
        return whole, [Canonical(n_s, n_e, n_f, bias) for bias in many], axis, shape
    n, signed = draw(st.integers(1, 32)), draw(st.booleans())
    scales = tuple(draw(st.lists(st.floats(1e-3, 1e3), min_size=count, max_size=count)))
    zeros = tuple(draw(st.lists(st.integers(-9, 300) | st.floats(-9, 300), min_size=count, max_size=count)))
    one = draw(st.booleans())
    whole = Affine(n, scales, zeros[0] if one else zeros, signed, axis)
    pairs = zip(scales, zeros, strict=True)
    return whole, [Affine(n, s, zeros[0] if one else z, signed) for s, z in pairs], axis, shape


@given(channelled(), st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]))
def test_per_channel_is_per_tensor_on_each_slice(
    made: tuple[Format, list[Format], int, tuple[int, ...]], seed: int, dtype: type[np.floating]
) -> None:
    whole, singles, axis, shape = made
    x = (np.random.default_rng(seed).standard_normal(shape) * 20).astype(dtype)
    values, codes = whole.quantize(x), whole.encode(x)
    decoded = whole.decode(codes)
    assert whole.channels == len(singles)
    for channel, single in enumerate(singles):
        part = np.take(x, channel, axis)
        assert np.array_equal(np.take(values, channel, axis), single.quantize(part.astype(values.dtype)))
        assert np.array_equal(np.take(codes, channel, axis), single.encode(part.astype(values.dtype)))
        assert np.array_equal(np.take(decoded, channel, axis), single.decode(np.take(codes, channel, axis)))
    if isinstance(whole, Canonical):
        for name in ("max", "min", "step"):
            assert np.array_equal(getattr(whole, name), [getattr(single, name) for single in singles])
        if whole.is_integer:
            parts = [single.integers(np.take(x, i, axis)) for i, single in enumerate(singles)]  # type: ignore[attr-defined]
            assert np.array_equal(whole.integers(x), np.stack(parts, axis if axis >= 0 else axis + len(shape)))


def test_channels_that_do_not_fit_the_data() -> None:
    for f in (fixed(8).at((1, 2), 1), Affine(8, (0.1, 0.2), 0, axis=1)):
        for x in (np.zeros(2), np.zeros((2, 3)), np.zeros((2, 1)), np.zeros(())):
            shape = list(x.shape)
            with pytest.raises(CompileError) as caught:
                f.quantize(x, "conv1.w")
            assert str(caught.value) == f"conv1.w: 2 channel parameters on axis 1 do not fit shape {shape}"
            with pytest.raises(CompileError) as caught:
                f.decode(x)
            assert str(caught.value) == f"codes: 2 channel parameters on axis 1 do not fit shape {shape}"
