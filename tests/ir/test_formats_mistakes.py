"""Data and records that are no number and no format are refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Affine, Canonical, Format, binary, exp, fixed, float_format


@pytest.mark.parametrize("f", [fixed(8), exp(4), float_format(8), binary(), Affine(8, 0.1)], ids=str)
def test_nan_and_infinity_name_the_tensor(f: Format) -> None:
    x = np.zeros((2, 3), np.float32)
    x[1, 2] = np.nan
    help = "a number format has neither NaN nor infinity; check how the model or the data was made"
    with pytest.raises(CompileError) as caught:
        f.quantize(x, "conv1.weight")
    assert caught.value.message == "conv1.weight: NaN at index [1, 2] (1 of 6 elements are not finite)"
    assert caught.value.help == help
    x[0, 1] = -np.inf
    with pytest.raises(CompileError) as caught:
        f.quantize(x, "conv1.weight")
    assert caught.value.message == "conv1.weight: infinity at index [0, 1] (2 of 6 elements are not finite)"
    for infinity in (np.inf, -np.inf):
        with pytest.raises(CompileError, match=r"^w: infinity at index \[2\] \(1 of 3 elements are not finite\)"):
            f.quantize(np.array([1.0, 2.0, infinity]), "w")
    with pytest.raises(CompileError, match=r"^tensor: infinity at index \[\]"):
        f.encode(np.array(np.inf))


def raises(text: str, make: object) -> None:
    with pytest.raises(CompileError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == text


def test_records_that_are_no_format() -> None:
    raises("<2,3,4> is not a number format", lambda: Canonical(2, 3, 4))
    raises("<1,-1,4> is not a number format", lambda: Canonical(1, -1, 4))
    raises("<1,3,-4> is not a number format", lambda: Canonical(1, 3, -4))
    raises("<0,0,0> is not a number format", lambda: Canonical(0, 0, 0))
    unequal = "a bias a channel needs an axis, and an axis a bias a channel"
    raises(f"FIXED<8,B={{1,2}}@None>: {unequal}", lambda: Canonical(1, 0, 7, (1, 2)))
    raises(f"FIXED<8,B=1>: {unequal}", lambda: Canonical(1, 0, 7, 1, 0))
    raises("FIXED<8,B={}@0>: no channels", lambda: Canonical(1, 0, 7, (), 0))
    raises("AFFINE has 1 to 32 bits, not 33", lambda: Affine(33, 0.1))
    raises("AFFINE has 1 to 32 bits, not 0", lambda: Affine(0, 0.1))
    unequal = "AFFINE: a scale a channel needs an axis, and an axis a scale a channel"
    raises(unequal, lambda: Affine(8, (0.1,)))
    raises(unequal, lambda: Affine(8, 0.1, axis=0))
    raises("AFFINE: no channels", lambda: Affine(8, (), axis=0))
    raises("AFFINE: 3 zero points for 2 scales", lambda: Affine(8, (0.1, 0.2), (1, 2, 3), axis=0))
    raises("AFFINE: 3 zero points for 1 scales", lambda: Affine(8, 0.1, (1, 2, 3)))
    for scale in (0.0, -1.0, math.inf, math.nan):
        raises("AFFINE: a scale must be positive and finite", lambda scale=scale: Affine(8, scale))
    for zero in (math.inf, math.nan):
        raises("AFFINE: a zero point must be finite", lambda zero=zero: Affine(8, 0.1, zero))


def test_what_a_format_cannot_answer() -> None:
    raises("w: EXP values are not multiples of one step", lambda: exp(4).integers(np.zeros(1), "w"))
    raises(
        "FIXED<8,B={1,2}@0>: values() lists one tensor's format of at most 20 bits",
        lambda: fixed(8).at((1, 2), 0).values(),
    )
    raises("FIXED<21>: values() lists one tensor's format of at most 20 bits", lambda: fixed(21).values())
    assert len(fixed(20).values()) == 2**20 - 1
    raises("0x100 is not a 8-bit pattern of FIXED<8>", lambda: fixed(8).decode(np.array([1, 256])))
    raises("FLOAT 3 with 2 exponent bits has no fraction bits; use EXP 3", lambda: float_format(3))
