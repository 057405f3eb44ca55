"""The header library's arithmetic in exact numpy integers, and the text of the headers that a test compiles.

Images are [rows, columns, channels], as the streams carry them; a matrix of weights is [outputs, inputs].
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def windows(
    image: Ints, kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int], fill: int
) -> Ints:
    """Every window of the padded image: [out rows, out columns, kernel rows, kernel columns, channels]."""
    top, left, bottom, right = pads
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(0, 1))[:: stride[0], :: stride[1]]
    return np.moveaxis(views, 2, 4)


def requantise(acc: Ints, shift: Ints, low: int, high: int) -> Ints:
    """acc / 2^shift to nearest, ties to even, then within [low, high]; channels are the last axis."""
    out = np.empty_like(acc)
    for channel, places in enumerate(shift):
        a = acc[..., channel]
        if places <= 0:
            out[..., channel] = a << -places
            continue
        quotient = a >> places
        rest, half = a - (quotient << places), 1 << (places - 1)
        out[..., channel] = quotient + ((rest > half) | ((rest == half) & (quotient % 2 == 1)))
    return np.clip(out, low, high)


def conv2d(
    image: Ints,
    weights: Ints,
    bias: Ints,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> Ints:
    """The accumulators of a convolution, [out rows, out columns, outputs]."""
    views = windows(image, kernel, stride, pads, 0)
    return views.reshape(*views.shape[:2], -1) @ weights.T + bias


def maxpool2d(image: Ints, kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]) -> Ints:
    lowest = int(np.iinfo(np.int64).min)
    return windows(image, kernel, stride, pads, lowest).max(axis=(2, 3))


def fold(weights: Ints, pe: int, simd: int) -> Ints:
    """[outputs, inputs] as the ROM holds it, [folds, pe, simd]."""
    outputs, inputs = weights.shape
    tiles = weights.reshape(outputs // pe, pe, inputs // simd, simd)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, pe, simd)


def exp_codes(weights: Ints, bits: int) -> Ints:
    """Signed powers of two as EXP codes: the sign above the level, level 0 is zero, level e is 2^(e - 1)."""
    size = np.abs(weights)
    level = np.where(size == 0, 0, np.log2(np.maximum(size, 1)).astype(np.int64) + 1)
    assert np.array_equal(np.where(level == 0, 0, 1 << np.maximum(level - 1, 0)), size)
    assert level.max() < 1 << (bits - 1)
    return np.where(weights < 0, 1 << (bits - 1), 0) + level


def acc_bits(weights: Ints, bias: Ints, in_low: int, in_high: int) -> int:
    """The bits of a signed accumulator that holds every sum of these weights."""
    positive, negative = np.maximum(weights, 0).sum(1), np.minimum(weights, 0).sum(1)
    high = int((bias + positive * in_high + negative * in_low).max())
    low = int((bias + positive * in_low + negative * in_high).min())
    return max(max(high, 0).bit_length(), (-min(low, 0) - 1).bit_length() if low < 0 else 0) + 1


def braces(values: Ints) -> str:
    if values.ndim == 1:
        return "{" + ", ".join(map(str, values.tolist())) + "}"
    return "{" + ",\n".join(map(braces, values)) + "}"


def tables(layer: str, name: str, weights: Ints, bias: Ints, shift: Ints, pe: int, simd: int) -> str:
    """The tables of one layer as its weights header declares them; `weights` are codes of the weight format."""
    by_pe = f"[Fold<{layer}>::groups][{layer}::pe]"
    return "\n".join(
        [
            f"static const {layer}::Weight::Code {name}_weights[Fold<{layer}>::folds][{layer}::pe][{layer}::simd] =",
            f"    {braces(fold(weights, pe, simd))};",
            f"static const Const<{layer}::acc_bits> {name}_bias{by_pe} = {braces(bias.reshape(-1, pe))};",
            f"static const Const<8> {name}_shift{by_pe} = {braces(shift.reshape(-1, pe))};",
            "",
        ]
    )


def struct(name: str, types: Mapping[str, str], numbers: Mapping[str, int]) -> str:
    lines = [f"    using {key} = {value};" for key, value in types.items()]
    lines += [f"    static constexpr int {key} = {value};" for key, value in numbers.items()]
    return "\n".join([f"struct {name} {{", *lines, "};", ""])
