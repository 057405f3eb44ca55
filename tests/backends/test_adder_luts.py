"""LUTs of adder graphs against those that yosys maps for xc7, and against products with the same constant weights.

One run of `synth_xilinx -family xc7 -nodsp` over graphs between registers. yosys is a second opinion, not the vendor's
tools; what it counts stands here and in docs/estimate.md.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

from bitwright.backends.hls.adder_cost import LUTS_A_BIT
from bitwright.backends.hls.adders.graph import AdderGraph, Ints, Output, range_of, width_of
from bitwright.backends.hls.adders.sharing import shared, unshared

pytestmark = pytest.mark.skipif(shutil.which("yosys") is None, reason="needs yosys: apt-get install yosys")

# Outputs, inputs, bits of weights (1: BIN) and activations: LUTs of the graph; those of yosys for it, and of some for
# trees that share nothing and for a sum of products with these constants, which takes its time.
MATRICES = {
    (6, 6, 6, 6): (365, 399, 558, 1070),
    (16, 16, 2, 4): (159, 142, 149, 187),
    (8, 8, 4, 8): (485, 537),
    (12, 12, 1, 4): (324, 307),
}
KINDS = ("shared", "alone", "products")


def matrix(outputs: int, inputs: int, bits: int) -> Ints:
    rng = np.random.default_rng(3)
    if bits == 1:
        return rng.choice([-1, 1], (outputs, inputs))
    most = (1 << (bits - 1)) - 1
    return np.clip(np.rint(rng.normal(0, most / 2.5, (outputs, inputs))), -most, most).astype(np.int64)


def of_graph(graph: AdderGraph, name: str) -> str:
    """A module with registers at the inputs and outputs, an assignment for each adder."""
    bits = width_of(graph.low, graph.high)
    lines = [f"wire signed [{bits - 1}:0] n{i} = r[{bits * i} +: {bits}];" for i in range(graph.inputs)]
    for node, adder in enumerate(graph.adders, graph.inputs):
        operation = "-" if adder.subtracts else "+"
        value = f"{shifted(adder.left, adder.left_shift)} {operation} {shifted(adder.right, adder.right_shift)}"
        lines.append(f"wire signed [{width_of(*graph.ranges[node]) - 1}:0] n{node} = {value};")
    outputs = [("-" if out.negative else "") + shifted(out.node, out.shift) for out in graph.outputs]
    return module(name, bits * graph.inputs, lines, outputs, [width_of(*ends_of(graph, out)) for out in graph.outputs])


def shifted(node: int | None, places: int) -> str:
    return "1'sd0" if node is None else f"$signed({{n{node}, {places}'d0}})" if places else f"n{node}"


def ends_of(graph: AdderGraph, output: Output) -> tuple[int, int]:
    if output.node is None:
        return 0, 0
    scale = -(1 << output.shift) if output.negative else 1 << output.shift
    form = {place: weight * scale for place, weight in graph.forms[output.node].items()}
    return range_of(form, graph.low, graph.high)


def of_products(weights: Ints, high: int, name: str) -> str:
    """The same with a product for each weight."""
    bits = width_of(-high, high)
    wide = width_of(-high * int(np.abs(weights).sum(1).max()), 0)
    lines = [f"wire signed [{wide - 1}:0] n{i} = $signed(r[{bits * i} +: {bits}]);" for i in range(weights.shape[1])]
    rows = [
        " + ".join(f"n{i} * $signed({wide}'d{int(weight) % (1 << wide)})" for i, weight in enumerate(row))
        for row in weights
    ]
    return module(name, bits * weights.shape[1], lines, rows, [wide] * len(weights))


def module(name: str, bits: int, lines: list[str], outputs: list[str], widths: list[int]) -> str:
    places = np.cumsum([0, *widths])
    given = [f"y[{place} +: {width}] <= {out};" for out, place, width in zip(outputs, places, widths, strict=False)]
    ports = f"input clk, input [{bits - 1}:0] x, output reg [{places[-1] - 1}:0] y"
    body = "\n".join([*lines, "always @(posedge clk) begin r <= x;", *given, "end"])
    return f"(* keep_hierarchy *) module {name}({ports});\nreg [{bits - 1}:0] r;\n{body}\nendmodule\n"


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """LUTs of each module."""
    folder, modules, ports, uses = tmp_path_factory.mktemp("yosys"), [], ["input clk"], []
    for number, shape in enumerate(MATRICES):
        weights, high = matrix(*shape[:3]), (1 << (shape[3] - 1)) - 1
        for kind in KINDS[: len(MATRICES[shape]) - 1]:
            name = f"{kind}{number}"
            graph = (shared if kind == "shared" else unshared)(weights, -high, high)
            text = of_products(weights, high, name) if kind == "products" else of_graph(graph, name)
            modules.append(text)
            sizes = [int(size) + 1 for size in re.findall(r"put (?:reg )?\[(\d+):0\]", text)]
            ports += [f"input [{sizes[0] - 1}:0] {name}_x", f"output [{sizes[1] - 1}:0] {name}_y"]
            uses.append(f"{name} its_{name}(.clk(clk), .x({name}_x), .y({name}_y));")
    top = "\n".join([f"module top({', '.join(ports)});", *uses, "endmodule\n"])
    (folder / "top.v").write_text("".join(modules) + top)
    script = "read_verilog top.v; synth_xilinx -family xc7 -flatten -nodsp -top top; tee -q -o cells.txt stat"
    done = subprocess.run(["yosys", "-q", "-p", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for part in re.split(r"^=== ", (folder / "cells.txt").read_text(), flags=re.M)[1:]:
        found[part.split(" ", 1)[0]] = sum(map(int, re.findall(r"^ +LUT\d +(\d+)$", part, re.M)))
    return found


@pytest.mark.parametrize("shape", MATRICES)
def test_adders_take_the_luts_that_are_estimated(shape: tuple[int, int, int, int], counted: dict[str, int]) -> None:
    """Within the range; fewer than without sharing, which are fewer than products with the same constants."""
    number, high = list(MATRICES).index(shape), (1 << (shape[3] - 1)) - 1
    luts = shared(matrix(*shape[:3]), -high, high).luts
    mapped = [counted[f"{kind}{number}"] for kind in KINDS if f"{kind}{number}" in counted]
    low, most = (share * luts for share in LUTS_A_BIT)
    assert low <= mapped[0] <= most
    assert mapped == sorted(mapped)
    assert [luts, *mapped] == pytest.approx(list(MATRICES[shape]), rel=0.05)  # of another yosys
