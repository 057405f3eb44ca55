"""The estimate's laws against real synthesis reports, module by module.

    python benchmarks/estimate.py
    python benchmarks/estimate.py --markdown > table.md

The designs are other people's, so their loops are entered by hand: trips from the shapes of the layers, initiation
intervals (II) by the rules of ports and of loop-carried additions or as the source states them. Everything else is the
estimate's own: cycles of a loop, depth of a pipeline, block RAM by aspect ratios, DSP slices and LUTs of a product.
The depth of a pipeline is one number a kind (5 in fixed point, 20 in float, 140 for a float reduction), not fitted.

Real figures: hls4ml's MNIST CNN and jet MLP, Vivado HLS 2020.1, csynth reports in Gabriele-bot/PYNQ_IA; the float
LeNet-5, Vitis HLS 2021.2, csynth.rpt in 22100355/Deep-learning-from-basic-and-implementation-on-FPGA; the LeNet on
PYNQ-Z2 is the paper's Table VII.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bitwright.backends.hls.cost import DSP_LEAST_BITS, bram18, dsp_slices, fabric_luts
from bitwright.backends.hls.estimate import CALL
from bitwright.backends.hls.loops import DEPTH

FLOAT_DEPTH, REDUCTION_DEPTH = 20, 140
OUTER = 2  # one cycle into a nested loop and one out
FLOAT_ADD, FLOAT_MUL = 2, 3  # DSP slices of the vendor's cores
LIMITS = {"cycles": 0.05, "cycles of the design": 0.10, "DSP": 0.20, "BRAM18": 0.20, "LUT": 1.0}


@dataclass(frozen=True)
class Row:
    """A figure of a module, as it was reported and as the laws have it."""

    module: str
    figure: str
    real: float
    estimated: float
    why: str = ""

    @property
    def error(self) -> float:
        """Relative; 0 where both are 0."""
        return (self.estimated - self.real) / self.real if self.real else float(self.estimated > 0)

    @property
    def good(self) -> bool:
        """Whether the error is within the target; a factor of two for LUTs."""
        if self.figure == "LUT":
            return 0.5 <= self.estimated / self.real <= 2.0
        return abs(self.error) <= LIMITS[self.figure]


def cycles(trips: int, ii: int = 1, depth: int = DEPTH) -> int:
    """A pipelined loop with the function around it."""
    return ii * (trips - 1) + depth - 1 + CALL


def nested(times: int, *inner: int) -> int:
    """An outer loop over functions that follow each other."""
    return times * (sum(inner) + OUTER) + CALL


def rounded_up(depth: int) -> int:
    """The next power of two: csynth counts a memory so, placement does not."""
    return 1 << (depth - 1).bit_length()


def mnist_cnn() -> Iterator[Row]:
    """hls4ml, io_stream, 3 to 5 bits, pruned."""
    conv1, conv2 = cycles(28 * 28, 5), cycles(13 * 13, 13)
    dense = cycles(25) + cycles(20)  # 25 tokens of 16 are gathered, then 20 turns of 200 products
    yield Row("conv1 1->16 3x3, II 5", "cycles", 3922, conv1)
    yield Row("conv2 16->16 3x3, II 13", "cycles", 2199, conv2)
    yield Row("dense 400->10, reuse 20", "cycles", 55, dense)
    yield Row("maxpool 26x26x16, II 2", "cycles", 1355, cycles(26 * 26, 2))
    yield Row("relu 26x26x16", "cycles", 679, cycles(26 * 26))
    yield Row("design, interval", "cycles of the design", 3923, max(conv1, conv2, dense) + 1)
    yield Row("design, latency", "cycles of the design", 3973, conv1 + dense)
    yield Row("conv1, 5-bit weights", "DSP", 0, dsp_slices(5, DSP_LEAST_BITS))
    yield Row("conv2, 5-bit weights", "DSP", 0, dsp_slices(5, DSP_LEAST_BITS))
    yield Row("dense, 5-bit weights", "DSP", 0, dsp_slices(5, DSP_LEAST_BITS))
    yield Row("dense, 20 words of 200 x 5 bits", "BRAM18", 28, bram18(20, 200 * 5))
    pruned = "pruned weights vanish; activations of 4 bits are assumed, the source says 3 to 5"
    for module, real, products in (("conv1", 986, 9 * 16 / 5), ("conv2", 14437, 9 * 16 * 16 / 13)):
        yield Row(f"{module}, products of 5 x 4 bits", "LUT", real, products * middle(5, 4), pruned)
    chosen = "the multiplexers that bring 400 inputs to 200 products are not counted"
    yield Row("dense, 200 products of 5 x 4 bits", "LUT", 23488, 200 * middle(5, 4), chosen)


def middle(w: int, a: int) -> float:
    """The middle of the range of LUTs of a product."""
    return sum(fabric_luts("FIXED", w, a)) / 2


def jet_mlp() -> Iterator[Row]:
    """hls4ml, 16-64-32-32-5, ap_fixed<16,6>: four dense layers one after the other.

    The source gives an II of 32; DSPs, block RAM and latency together say 16 turns of two cycles.
    """
    turns = 16
    yield Row("resource strategy, 16 turns of II 2", "cycles of the design", 143, 4 * cycles(turns, 2))
    whole = "the latency strategy pipelines the function, not a loop: its depth is no figure of ours"
    yield Row("latency strategy, II 25", "cycles of the design", 89, 4 * cycles(25), whole)
    sizes = (16 * 64, 64 * 32, 32 * 32, 32 * 5)
    yield Row("resource strategy", "DSP", 271, sum(size // turns for size in sizes) * dsp_slices(16, 16))
    blocks = sum(bram18(turns, size // turns * 16) for size in sizes)
    yield Row("resource strategy, 16 words a layer", "BRAM18", 128, blocks)


def float_lenet() -> Iterator[Row]:
    """Vitis HLS, nested loops in float32, no dataflow: the layers follow each other."""
    conv1 = nested(6, cycles(28 * 28), cycles(28 * 28, 25, REDUCTION_DEPTH))  # 25 pixels through one AXI port
    conv2 = nested(16, cycles(100), cycles(600, 2, REDUCTION_DEPTH))
    pools = [cycles(count, 1, FLOAT_DEPTH) for count in (1176, 400)]
    dense = [cycles(count, 6, FLOAT_DEPTH) for count in (48000, 10080, 840)]  # an addition of 5 and a store
    yield Row("conv1, 6 x 784, II 25", "cycles", 123079, conv1)
    yield Row("pool1", "cycles", 1193, pools[0])
    yield Row("conv2, 16 x 600, II 2", "cycles", 23153, conv2)
    yield Row("pool2", "cycles", 417, pools[1])
    for name, real, found in zip(("fc1", "fc2", "fc3"), (288017, 60495, 5060), dense, strict=True):
        yield Row(f"{name}, II 6", "cycles", real, found)
    yield Row("design", "cycles of the design", 501432, conv1 + conv2 + sum(pools) + sum(dense))
    products = -(-25 // 2)
    in_conv2 = products * (FLOAT_ADD + FLOAT_MUL)
    yield Row("conv2, 25 products in 2 cycles", "DSP", 60, in_conv2)
    yield Row("design, the rest shares one product", "DSP", 71, in_conv2 + FLOAT_ADD + FLOAT_MUL)
    for name, real, weights, biases in (("fc1", 129, 48000, 120), ("fc2", 33, 10080, 84), ("fc3", 2, 840, 0)):
        blocks = bram18(rounded_up(weights), 32) + (bram18(biases, 32) if biases else 0)
        yield Row(f"{name}, words as csynth counts them", "BRAM18", real, blocks)
    exact = (
        "csynth rounds the words up to a power of two, so it says 129; placed, the whole design takes 252 of its 423"
    )
    yield Row("fc1, words as they are", "BRAM18", 129, bram18(48000, 32) + 1, exact)


def paper_lenet() -> Iterator[Row]:
    """Table VII: resources only. What 4 bits in place of 32 save in conv5, 48,000 weights, in blocks of 36 Kbit."""
    saved = [bram18(rounded_up(48000), bits) for bits in (32, 4)]
    why = "the paper does not say how conv5 is partitioned; each part wastes the rest of its last block"
    yield Row("quantisation saves, 140 - 73 BRAM36", "BRAM18", 2 * 67, saved[0] - saved[1], why)


DESIGNS = {
    "hls4ml MNIST CNN": mnist_cnn,
    "hls4ml jet MLP": jet_mlp,
    "float LeNet-5": float_lenet,
    "LeNet of the paper": paper_lenet,
}


def cells(row: Row) -> list[str]:
    """A row as text."""
    verdict = "yes" if row.good else "no"
    return [row.module, row.figure, f"{row.real:,.0f}", f"{row.estimated:,.0f}", f"{row.error:+.1%}", verdict, row.why]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="print tables for docs/estimate.md")
    markdown = parser.parse_args().markdown
    columns = ["module", "figure", "real", "estimate", "error", "within target", "note"]
    everything = []
    for name, rows_of in DESIGNS.items():
        rows = list(rows_of())
        everything += rows
        if markdown:
            print(f"\n**{name}**\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
            print("\n".join(f"| {' | '.join(cells(row))} |" for row in rows))
            continue
        table = Table(*columns, title=name, box=None, title_justify="left")
        for row in rows:
            table.add_row(*cells(row))
        Console(width=150).print(table)
    print(f"\n{sum(row.good for row in everything)} of {len(everything)} figures are within their target")


if __name__ == "__main__":
    main()
