"""Energy and traffic of a frame, by hand."""

from __future__ import annotations

import pytest

from bitwright.backends.hls.energy import energy, traffic
from bitwright.backends.hls.stages import stages_of
from bitwright.ir.energy import mac_energy
from bitwright.ir.formats import Canonical
from bitwright.ir.parse import parse

NET = """graph @tiny {
  input %x : FIXED<8>[N,2,6,6]
  weight %conv.w = 000000a1 : WEIGHT[6,2,3,3]
  %conv = conv2d(%x, %conv.w) {kernel=[3,3]} : FIXED<6>[N,6,4,4]
  output %conv as "y"
}"""


@pytest.mark.parametrize(("bits", "product", "addition"), [(8, 0.2, 0.03), (32, 3.1, 0.1)])
def test_integers_cost_what_table_1_says(bits: int, product: float, addition: float) -> None:
    """A sum is as wide as its product, which the table does not add up: its bits are twice those of its row."""
    format = Canonical(1, 0, bits - 1)
    assert mac_energy(format, format, 1) == pytest.approx(product + 2 * addition, abs=0.021)


@pytest.mark.parametrize(("format", "picojoules"), [(Canonical(1, 5, 10), 1.1 + 0.4), (Canonical(1, 8, 23), 3.7 + 0.9)])
def test_floats_cost_what_table_1_says(format: Canonical, picojoules: float) -> None:
    assert mac_energy(format, format, 1) == pytest.approx(picojoules)


def test_a_frame_costs_its_products_and_moves_its_bits() -> None:
    macs = 16 * 6 * 18
    stages = stages_of(parse(NET.replace("WEIGHT", "FIXED<4>")))
    # 32 product bits; a sum has 4 + 8 bits and 5 for 18 inputs.
    assert energy(stages) == pytest.approx(macs * (3.1 / 1024 * 32 + 0.1 / 32 * 17))
    assert traffic(stages) == {
        "weight_bits": macs * 4,
        "fifo_bits": 72 * 8 + 96 * 6,
        "input_bits": 72 * 8,
        "output_bits": 96 * 6,
    }


def test_powers_of_two_cost_no_product() -> None:
    assert energy(stages_of(parse(NET.replace("WEIGHT", "EXP<3>")))) < 0.5 * energy(
        stages_of(parse(NET.replace("WEIGHT", "FIXED<4>")))
    )
