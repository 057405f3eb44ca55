"""Rounding in torch against ir/formats bit for bit, and its straight-through gradient against derivations by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.ir.formats import Affine, Canonical, Format, parse

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'bitwright[train]'")

from bitwright.train.rounding import Quantizer, on_steps  # noqa: E402

TEXTS = (
    "FIXED 2 -1", "FIXED 4", "FIXED 8 3", "FIXED 16", "UFIXED 1", "UFIXED 5 2", "BIN", "BIN 1 3", "EXP 2 1", "EXP 4 5",
    "EXP 8", "UEXP 3 4", "FLOAT 8", "FLOAT 16", "FLOAT 32",
)  # fmt: skip
FORMATS: list[Format] = [
    *map(parse, TEXTS),
    Canonical(1, 0, 3, (-2, 0, 5), axis=0),
    Canonical(1, 3, 0, (4, 1, 9), axis=0),
    Canonical(1, 0, 0, (0, 1, -4), axis=0),
    Canonical(0, 0, 4, (1, 2, 3), axis=1),
    Affine(4, 0.3, 7),
    Affine(3, (0.1, 0.25, 3.7), (0, 1.5, 2), axis=0),
]


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_every_number_is_the_one_that_the_format_gives(format: Format, kind: type) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((3, 3, 400)) * 2.0 ** random.integers(-12, 12, (3, 3, 400))
    x[:, :, :200] = np.ldexp(np.rint(np.ldexp(x[:, :, :200], 5)), -6)  # ties of most of these formats
    x[:, :, 0], x[:, :, 1], x[:, :, 2] = 0.0, 1e9, -1e9
    x = x.astype(kind)
    ours = Quantizer(format)(torch.from_numpy(x)).numpy()
    judged = format.quantize(x)
    assert ours.dtype == judged.dtype == kind
    np.testing.assert_array_equal(ours, judged)
    assert len(np.unique(ours)) > 1


@given(st.floats(-1e6, 1e6, width=32), st.integers(0, 1), st.integers(0, 5), st.integers(0, 6), st.integers(-8, 8))
def test_any_number_in_any_format(x: float, n_s: int, n_e: int, n_f: int, bias: int) -> None:
    if not n_s + n_e + n_f:
        return
    format = Canonical(n_s, n_e, n_f, bias)
    array = np.array([x], np.float32)
    np.testing.assert_array_equal(Quantizer(format)(torch.from_numpy(array)).numpy(), format.quantize(array))


def test_float32_holds_narrow_formats_and_not_wide_ones() -> None:
    assert all(Quantizer(format).is_single for format in FORMATS)
    assert not Quantizer(parse("FIXED 32")).is_single
    assert not Quantizer(Canonical(1, 0, 3, (0, 140), axis=0)).is_single


def gradient(format: Format, x: list[float], learned: bool) -> list[float]:
    """The gradient of 2 y0 + 3 y1 + ... by x."""
    given = torch.tensor(x, requires_grad=True)
    factors = torch.arange(2.0, 2.0 + len(x))
    (Quantizer(format)(given, learned) * factors).sum().backward()
    return given.grad.tolist()


def test_the_gradient_passes_where_nothing_saturates() -> None:
    # FIXED 3: -1.5, -1, ..., 1.5
    assert gradient(parse("FIXED 3"), [0.2, -1.5, 1.5, 1.6, -9.0, 0.0], False) == [2, 3, 4, 0, 0, 7]
    assert gradient(parse("UFIXED 2 0"), [-0.1, 0.0, 0.4], False) == [0, 3, 4]
    assert gradient(parse("BIN"), [-0.5, 0.5, 1.5, -1.0], False) == [2, 3, 0, 5]
    assert gradient(parse("EXP 2 1"), [0.3, 1.0, 2.0, 5.0], False)[-1] == 0
    assert gradient(Affine(2, 0.5, 1), [-0.5, 1.0, 1.1, -0.6], False) == [2, 3, 0, 0]


def test_the_gradient_of_learned_numbers_passes_everywhere() -> None:
    assert gradient(parse("FIXED 3"), [0.2, -1.5, 9.0], True) == [2, 3, 4]
    assert gradient(parse("BIN"), [-0.5, 4.0], True) == [2, 3]


@pytest.mark.parametrize(
    ("format", "x", "expected"),
    [
        # FIXED 3: steps of 1/2 up to 3/2. y - x = -0.2 and 0.1; 1.5 for what saturates
        (parse("FIXED 3"), [0.2, 0.9, 9.0], [2 * -0.2 + 3 * 0.1 + 4 * 1.5]),
        (parse("BIN"), [-0.5, 4.0], [2 * -0.5 + 3 * 1.0]),
        (Canonical(1, 0, 2, (0, 1), axis=0), [0.2, 0.4], [2 * -0.2, 3 * 0.1]),
    ],
)
@pytest.mark.parametrize("learned", [False, True])
def test_the_gradient_of_a_bias(format: Format, x: list[float], expected: list[float], learned: bool) -> None:
    quantizer = Quantizer(format)
    bias = quantizer.learn_bias()
    (quantizer(torch.tensor(x), learned) * torch.arange(2.0, 2.0 + len(x))).sum().backward()
    np.testing.assert_allclose(np.ravel(bias.grad.numpy()), -np.log(2) * np.array(expected), rtol=1e-5)


@pytest.mark.parametrize("format", [format for format in FORMATS if isinstance(format, Canonical)], ids=str)
def test_a_format_follows_its_bias(format: Canonical) -> None:
    quantizer = Quantizer(format)
    bias = quantizer.learn_bias()
    if bias is None:
        assert format == parse("FLOAT 32")
        return
    x = torch.linspace(-40, 40, 3 * 3 * 50).reshape(3, 3, 50)
    for move, expected in ((0.4, 0), (0.3, 1), (-2.6, -2), (100.0, 8), (-100.0, -8)):
        with torch.no_grad():
            bias += move
        quantizer.follow()
        new = format.biases + expected
        assert quantizer.format == format.at(int(new) if format.axis is None else tuple(map(int, new)), format.axis), (
            move,
            bias,
        )
        np.testing.assert_array_equal(quantizer(x).detach().numpy(), quantizer.format.quantize(x.numpy()))


def test_a_bias_stays_where_float32_holds_the_numbers() -> None:
    quantizer = Quantizer(Canonical(1, 0, 3, 122))
    bias = quantizer.learn_bias()
    with torch.no_grad():
        bias += 5
    quantizer.follow()
    assert quantizer.format.bias == 124
    assert Quantizer(Affine(4, 0.3, 7)).learn_bias() is None


def test_biases_are_rounded_to_steps_without_an_end() -> None:
    x = torch.tensor([0.3, 0.25, 0.75, -77.2], requires_grad=True)
    y = on_steps(x, torch.tensor([0.5, 0.5, 0.5, 0.25]))
    assert y.tolist() == [0.5, 0.0, 1.0, -77.25]  # half to even
    (y * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [1, 2, 3, 4]
