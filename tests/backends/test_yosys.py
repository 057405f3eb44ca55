"""DSP slices and block RAMs of the estimate against those that yosys maps for xc7, packed products for xcup as well.

One run of `synth_xilinx -family xc7 -flatten` as far as both are mapped ("-run begin:fine"; LUTs come after), over
arrays of multiply-accumulates, single products and ROMs. yosys is a second opinion, not the vendor's tools: where the
two differ, both figures stand here and in docs/estimate.md, and neither is bent to the other.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bitwright.backends.hls.cost import bram18, dsp_slices

pytestmark = pytest.mark.skipif(shutil.which("yosys") is None, reason="needs yosys: apt-get install yosys")

# Bits of weight and activation (u: unsigned): DSP48E1.
PRODUCTS = {
    ("2", "2"): 0,
    ("3", "4"): 0,
    ("4", "4"): 0,
    ("6", "6"): 1,
    ("6", "16"): 1,
    ("8", "8"): 1,
    ("8", "u8"): 1,
    ("16", "16"): 1,
    ("18", "25"): 1,
    ("25", "18"): 1,
    ("18", "u24"): 1,
    ("19", "25"): 2,
    ("18", "26"): 2,
    ("25", "25"): 2,
    ("26", "26"): 4,
    ("32", "32"): 4,
    ("16", "36"): 2,
}
# Where the estimate says something else: its DSPs, then those of yosys, which takes one for products of 9 bits and
# up; the vendor's tools were seen to build 16 x 5 and 10 x 5 in LUTs. An unsigned number takes a bit of a port more.
OTHERWISE = {
    ("2", "8"): (0, 1),
    ("3", "6"): (0, 1),
    ("4", "5"): (0, 1),
    ("4", "8"): (0, 1),
    ("5", "16"): (0, 1),
    ("5", "26"): (0, 2),
    ("18", "u25"): (1, 2),
}
# Products, and bits of weights and activations.
ARRAYS = ((16, 8, 8), (16, 6, 8), (8, 16, 16), (16, 4, 4), (4, 20, 20))
# Words and bits of a word: blocks of 18 Kbit.
ROMS = {
    (16384, 1): 1,
    (8192, 2): 1,
    (4096, 4): 1,
    (2048, 9): 1,
    (1024, 18): 1,
    (512, 36): 1,
    (512, 37): 2,
    (300, 40): 2,
    (1025, 18): 2,
    (840, 24): 2,
    (60, 300): 9,
}
# yosys lays several words side by side and multiplexes: 3 of 12 bits in a row of 36. The estimate takes no such rows.
ROMS_OTHERWISE = {(3000, 12): (3, 2)}

# Products of one activation by a single multiplication: bits of a weight, of the activation (u: unsigned), products,
# and the distance between two (packing.py); the families that have a slice for them. The last are 26 bits of a port.
PACKED = {
    ("8", "8", 2, 15): ("xc7", "xcup"),
    ("8", "u8", 2, 16): ("xc7", "xcup"),
    ("4", "4", 4, 7): ("xc7", "xcup"),
    ("4", "u4", 3, 8): ("xc7", "xcup"),
    ("9", "9", 2, 17): ("xcup",),
}
FAMILIES = {"xc7": "DSP48E1", "xcup": "DSP48E2"}

PRODUCT = """
(* keep_hierarchy *) module mul_{0}_{1}(input clk, input {2} w, input {3} a, output reg signed [{4}:0] p);
  always @(posedge clk) p <= $signed(w) * {5};
endmodule
"""
ARRAY = """
(* keep_hierarchy *) module macs_{0}_{1}_{2}(input clk, input [{3}:0] w, input [{4}:0] a,
    output reg signed [{5}:0] sum);
  reg [{3}:0] weights; reg [{4}:0] inputs; reg signed [{5}:0] total; integer i;
  always @* begin
    total = 0;
    for (i = 0; i < {0}; i = i + 1) total = total + $signed(weights[{1}*i +: {1}]) * $signed(inputs[{2}*i +: {2}]);
  end
  always @(posedge clk) begin weights <= w; inputs <= a; sum <= total; end
endmodule
"""
ROM = """
(* keep_hierarchy *) module rom_{0}_{1}(input clk, input [{2}:0] address, output reg [{3}:0] word);
  (* rom_style = "block" *) reg [{3}:0] memory [0:{4}];
  initial $readmemh("rom_{0}_{1}.hex", memory);
  always @(posedge clk) word <= memory[address];
endmodule
"""


# The form of include/bitwright/packing.hpp.
SLICE = """
(* keep_hierarchy *) module packed_{0}_{1}(input clk, input [{2}:0] w, input {3} [{4}:0] a, output reg [{5}:0] p);
  wire signed [{6}:0] together = {7};
  wire signed [{8}:0] product = together * {9};
  always @(posedge clk) begin
    p[{10}:0] <= product[{10}:0];
{11}
  end
endmodule
"""


class Top:
    """Verilog: modules, each used once in one top, which exposes all their ports."""

    def __init__(self) -> None:
        self.modules: list[str] = []
        self.ports = ["input clk"]
        self.uses: list[str] = []

    def add(self, name: str, text: str, inputs: dict[str, int], output: tuple[str, int]) -> None:
        self.modules.append(text)
        wires = [f".{port}({name}_{port})" for port in (*inputs, output[0])]
        self.ports += [f"input [{bits - 1}:0] {name}_{port}" for port, bits in inputs.items()]
        self.ports.append(f"output [{output[1] - 1}:0] {name}_{output[0]}")
        self.uses.append(f"  {name} its_{name}(.clk(clk), {', '.join(wires)});")

    def __str__(self) -> str:
        return "\n".join([*self.modules, f"module top({', '.join(self.ports)});", *self.uses, "endmodule", ""])


def verilog(folder: Path) -> str:
    """The design, and the contents of its ROMs in files."""
    top, rng = Top(), np.random.default_rng(1)
    for w, a in (*PRODUCTS, *OTHERWISE):
        bits, sign = int(a.removeprefix("u")), "" if a.startswith("u") else "signed"
        operand = "$signed({1'b0, a})" if a.startswith("u") else "a"
        shapes = f"signed [{int(w) - 1}:0]", f"{sign} [{bits - 1}:0]", int(w) + bits - 1
        top.add(f"mul_{w}_{a}", PRODUCT.format(w, a, *shapes, operand), {"w": int(w), "a": bits}, ("p", int(w) + bits))
    for count, w, a in ARRAYS:
        text = ARRAY.format(count, w, a, count * w - 1, count * a - 1, w + a + 7)
        top.add(f"macs_{count}_{w}_{a}", text, {"w": count * w, "a": count * a}, ("sum", w + a + 8))
    for words, bits in (*ROMS, *ROMS_OTHERWISE):
        address = (words - 1).bit_length()
        text = ROM.format(words, bits, address - 1, bits - 1, words - 1)
        top.add(f"rom_{words}_{bits}", text, {"address": address}, ("word", bits))
        lines = ["".join(map(str, row)) for row in rng.integers(0, 2, (words, bits))]
        (folder / f"rom_{words}_{bits}.hex").write_text("".join(f"{int(line, 2):x}\n" for line in lines))
    return str(top)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """The cells of each module."""
    folder = tmp_path_factory.mktemp("yosys")
    (folder / "top.v").write_text(verilog(folder))
    script = "read_verilog top.v; synth_xilinx -family xc7 -flatten -top top -run begin:fine; tee -q -o cells.txt stat"
    done = subprocess.run(["yosys", "-q", "-p", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, int]] = {}
    for part in re.split(r"^=== ", (folder / "cells.txt").read_text(), flags=re.M)[1:]:
        name = part.split(" ", 1)[0]
        found[name] = {cell: int(count) for cell, count in re.findall(r"^ +(\w+) +(\d+)$", part, re.M)}
    return found


def packed(w: str, a: str, count: int, distance: int) -> str:
    """A module of packed products."""
    weight, bits, sign = int(w), int(a.removeprefix("u")), not a.startswith("u")
    wide = (count - 1) * distance + weight
    together = " + ".join(f"($signed(w[{weight} * {n} +: {weight}]) <<< {n * distance})" for n in range(count))
    split = "\n".join(
        f"    p[{n * distance} +: {distance}] <= product[{n * distance} +: {distance}] + product[{n * distance - 1}];"
        for n in range(1, count)
    )
    factor = "a" if sign else "$signed({1'b0, a})"
    ends = (count * weight - 1, "signed" if sign else "", bits - 1, count * distance - 1, wide - 1)
    product = wide + bits + (not sign) - 1
    return SLICE.format(w, a, *ends, together, product, factor, distance - 1, split)


@pytest.mark.parametrize(("form", "families"), PACKED.items())
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_products_are_one_slice(
    form: tuple[str, str, int, int], families: tuple[str, ...], family: str, tmp_path: Path
) -> None:
    """Of the families whose port takes the weights side by side; of the others more."""
    name = f"packed_{form[0]}_{form[1]}"
    (tmp_path / "top.v").write_text(packed(*form))
    mapping = f"synth_xilinx -family {family} -flatten -top {name} -run begin:fine"
    script = f"read_verilog top.v; {mapping}; tee -q -o cells.txt stat"
    done = subprocess.run(["yosys", "-q", "-p", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(rf"^ +{FAMILIES[family]} +(\d+)$", (tmp_path / "cells.txt").read_text(), re.M)
    assert (found == ["1"]) == (family in families), found


def slices(w: str, a: str) -> int:
    return dsp_slices(int(w), int(a.removeprefix("u")))


def blocks(cells: dict[str, int]) -> int:
    return cells.get("RAMB18E1", 0) + 2 * cells.get("RAMB36E1", 0)


@pytest.mark.parametrize(("w", "a"), PRODUCTS)
def test_products_take_the_dsp_slices_that_yosys_takes(w: str, a: str, mapped: dict[str, dict[str, int]]) -> None:
    assert mapped[f"mul_{w}_{a}"].get("DSP48E1", 0) == slices(w, a) == PRODUCTS[w, a]


@pytest.mark.parametrize(("w", "a"), OTHERWISE)
def test_products_that_yosys_builds_otherwise(w: str, a: str, mapped: dict[str, dict[str, int]]) -> None:
    assert (slices(w, a), mapped[f"mul_{w}_{a}"].get("DSP48E1", 0)) == OTHERWISE[w, a]


@pytest.mark.parametrize(("count", "w", "a"), ARRAYS)
def test_arrays_of_products(count: int, w: int, a: int, mapped: dict[str, dict[str, int]]) -> None:
    """Adders stay in LUTs: an array takes as many slices as its products."""
    assert mapped[f"macs_{count}_{w}_{a}"].get("DSP48E1", 0) == count * dsp_slices(w, a)


@pytest.mark.parametrize(("words", "bits"), ROMS)
def test_roms_take_the_blocks_that_yosys_takes(words: int, bits: int, mapped: dict[str, dict[str, int]]) -> None:
    assert blocks(mapped[f"rom_{words}_{bits}"]) == bram18(words, bits) == ROMS[words, bits]


@pytest.mark.parametrize(("words", "bits"), ROMS_OTHERWISE)
def test_roms_that_yosys_builds_otherwise(words: int, bits: int, mapped: dict[str, dict[str, int]]) -> None:
    assert (bram18(words, bits), blocks(mapped[f"rom_{words}_{bits}"])) == ROMS_OTHERWISE[words, bits]
