"""Weights of every format as the engine in float32 holds them: the very numbers, whatever differs from row to row."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.backends.hls import cores
from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.estimate import engine_cost, rom_shape, stage_cycles
from bitwright.backends.hls.stages import FloatSumStage, stages_of
from bitwright.backends.hls.stages.float_weights import float_weights, of_all_channels
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Affine, Canonical, parse
from bitwright.ir.parse import parse as parse_graph
from bitwright.ir.tensor import Array


def held(format: Canonical, codes: Array) -> Array:
    """What the engine reads: integers times a step of FIXED, patterns of anything else."""
    return codes * float(format.step) if format.kind == "FIXED" else format.decode(codes)


@pytest.mark.parametrize(
    ("n_s", "n_e", "n_f"), [(1, 0, 0), (1, 0, 1), (1, 0, 5), (1, 1, 0), (1, 3, 0), (1, 2, 3), (0, 3, 2), (1, 1, 1)]
)
@pytest.mark.parametrize("biases", [(2, 2, 2), (0, 1, 2), (4, -3, 1), (7, 0, 0)])
def test_one_format_has_the_numbers_of_all_channels(n_s: int, n_e: int, n_f: int, biases: tuple[int, ...]) -> None:
    """Every number of every channel, the smallest and the largest among them; no bit more for one bias."""
    format = Canonical(n_s, n_e, n_f, biases, axis=0)
    rows = [Canonical(n_s, n_e, n_f, bias).values() for bias in biases]
    count = max(map(len, rows))
    matrix = np.stack([np.resize(row, count) for row in rows])
    found = float_weights(format, matrix)
    assert found is not None
    assert found.scale is None
    np.testing.assert_array_equal(held(found.format, found.codes), matrix)
    if len(set(biases)) == 1:
        assert of_all_channels(format) == Canonical(n_s, n_e, n_f, biases[0])
    else:
        assert found.format.width <= format.width + 3 or n_e == 0


@pytest.mark.parametrize("text", ["AFFINE<5,scale=0.1,zero=11>", "AFFINE<8,scale=0.02,signed,narrow>"])
def test_affine_is_integers_times_a_scale(text: str) -> None:
    format = parse(text)
    assert isinstance(format, Affine)
    matrix = format.quantize(np.random.default_rng(3).normal(0, 1, (4, 50)))
    found = float_weights(format, matrix)
    assert found is not None
    assert found.scale is not None
    assert found.format.width <= format.n + 1
    np.testing.assert_allclose(found.codes * found.scale[:, None], matrix, rtol=1e-15)


def test_a_zero_point_with_a_fraction_takes_float32() -> None:
    format = parse("AFFINE<4,scale=0.1,zero=7.3>")
    matrix = format.quantize(np.random.default_rng(3).normal(0, 1, (2, 9)).astype(np.float32)).astype(np.float64)
    found = float_weights(format, matrix)
    assert found is not None
    assert (found.format.width, found.scale) == (32, None)
    np.testing.assert_array_equal(held(found.format, found.codes), matrix)


def layer(weights: str) -> FloatSumStage:
    text = f"""graph @one {{
      input %x : FLOAT<16>[N,6]
      weight %w = 000000e7 : {weights}[4,6]
      %y = dense(%x, %w) : FLOAT<16>[N,4]
      output %y
    }}"""
    return next(stage for stage in stages_of(parse_graph(text)) if isinstance(stage, FloatSumStage))


def test_a_scale_costs_a_product_a_row_and_its_cycles() -> None:
    scaled, plain, board = layer("AFFINE<6,scale=0.1,zero=32>"), layer("FIXED<7>"), load_board("pynq")
    assert scaled.scaled
    assert not plain.scaled
    assert engine_cost(scaled, board).dsp == engine_cost(plain, board).dsp + cores.MULTIPLY.dsp
    assert stage_cycles(scaled) == stage_cycles(plain) + cores.MULTIPLY_DEPTH
    assert rom_shape(layer("FLOAT<8,E=4,B={7,6,7,5}@0>")) == (9, 24)
    assert rom_shape(layer("AFFINE<6,scale=0.1,zero=1.5>")) == (32, 24)


@pytest.mark.parametrize("weights", ["FIXED<16,B={0,9,0,0}@0>", "EXP<8,B={127,0,9,-100}@0>", "FLOAT<40>"])
def test_what_float32_does_not_hold_is_refused(weights: str) -> None:
    with pytest.raises(CompileError, match="have no engine with FLOAT activations; there are FLOAT and EXP within"):
        layer(weights)
