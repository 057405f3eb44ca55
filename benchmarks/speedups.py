"""Figure 9 of the libnumber paper as far as models give it: (a) against FLOAT(32) on ku115, (b) on bit-serial hardware.

    python benchmarks/speedups.py

Nothing here was synthesised, and no accuracy is measured: the formats of (a) are those of the paper's Table 5, for a
loss of 7 %. Networks are lists of their target layers (benchmarks/paper_networks.py).

(a) An array of multiply-accumulates is planned for each layer within the same share of the board, FLOAT(32) or tuned. A
product costs what backends/hls/estimate.py says, at the upper end of LUTs; the array's shape divides the layer's, and a
layer takes max(positions x rows / pe x columns / simd, places of its input) trips. FLOAT(32) costs what the vendor's
cores do: 3 DSP a multiplication (fmul, max_dsp) and 2 an addition (fadd, full_dsp), which the reports in
docs/estimate.md bear out; 300 to 730 LUT both together, as csynth's releases differ (no report was at hand). Additions
are interleaved, so both take a trip a cycle. Memory outside the chip is free, which favours FLOAT(32): the paper packs
narrow weights into words to gain from just that.
    layer after layer   the whole share for each in turn, as in the paper; weights come from outside
    all at once         our dataflow: the layers share the chip, and weights live in its block RAM
Our plan gives no layer more than 4,096 multipliers, since the tools take hours over more; layer after layer is given
with and without that limit. Line buffers, FIFOs and control are left out on both sides.

(b) The paper's own model: speed-up 16 / p over 16 bits for activations of p bits, weighted by multiply-accumulates.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bitwright.backends.hls.board import Board, load_board
from bitwright.backends.hls.cost import bram18, dsp_slices, fabric_luts
from bitwright.backends.hls.estimate import loop_cycles
from bitwright.backends.hls.widths import MOST_MULTIPLIERS, divisors

sys.path.insert(0, str(Path(__file__).parent))
from paper_networks import NETWORKS, SERIAL, Layer, Network

BOARD = "ku115"
SHARE = 0.8
DSP_LUT = 32.0  # LUTs beside a product in a DSP: its share of the adder tree, upper end
PAPER_GEOMEAN, PAPER_MOST, PAPER_SERIAL = 3.79, 12.77, 4.19
UNLIMITED = 1 << 30


@dataclass(frozen=True)
class Mac:
    """What one multiply-accumulate costs, and the bits of its weight."""

    lut: float
    dsp: int
    bits: int


FLOAT = {"most LUTs": Mac(730, 5, 32), "fewest": Mac(300, 5, 32)}


def mac(weight: str, activation: str) -> Mac:
    """Of formats as Table 5 writes them: I5 is FIXED(5), E3 is EXP(3)."""
    kind, w, a = {"I": "FIXED", "E": "EXP"}[weight[0]], int(weight[1:]), int(activation[1:])
    dsp = dsp_slices(w, a) if kind == "FIXED" else 0
    return Mac(DSP_LUT if dsp else fabric_luts(kind, w, a)[1], dsp, w)


def fitting(one: Mac, board: Board) -> int:
    """Multiply-accumulates within the share of the board."""
    return int(min(SHARE * board.lut / one.lut, SHARE * board.dsp / one.dsp if one.dsp else math.inf))


@cache
def arrays(layer: Layer) -> tuple[tuple[int, int, int], ...]:
    """The shapes of an array that are worth it, (pe, simd, trips of a frame), smallest first."""
    found: list[tuple[int, int, int]] = []
    shapes = [(pe, simd) for pe in divisors(layer.outputs // layer.groups) for simd in divisors(layer.inputs)]
    for pe, simd in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
        product = layer.positions * (layer.outputs // pe) * (layer.inputs // simd)
        trips = max(product, layer.places)
        if not found or trips < found[-1][2]:
            found.append((pe, simd, trips))
    return tuple(found)


def alone(layer: Layer, one: Mac, board: Board, limit: int) -> int:
    """Cycles of a layer that has the whole share."""
    room = min(fitting(one, board), limit)
    return min(loop_cycles(trips) for pe, simd, trips in arrays(layer) if pe * simd <= room)


def interval(layers: Sequence[Layer], macs: Sequence[Mac], board: Board, limit: int) -> int | None:
    """Cycles a frame of all layers at once; None where the weights do not fit on the chip."""

    def fits(most: int) -> bool:
        lut = dsp = blocks = 0.0
        for layer, one in zip(layers, macs, strict=True):
            chosen = next((a for a in arrays(layer) if loop_cycles(a[2]) <= most and a[0] * a[1] <= limit), None)
            if chosen is None:
                return False
            pe, simd, _ = chosen
            lut, dsp = lut + pe * simd * one.lut, dsp + pe * simd * one.dsp
            words = (layer.outputs // pe) * (layer.inputs // simd)
            blocks += bram18(words, pe * simd * one.bits) if words > 1 else 0
        return lut <= SHARE * board.lut and dsp <= SHARE * board.dsp and blocks <= SHARE * 2 * board.bram36

    candidates = sorted({loop_cycles(trips) for layer in layers for _, _, trips in arrays(layer)})
    low, high = 0, len(candidates)  # fewer cycles need more of everything, but for the last blocks of a memory
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(candidates[middle]) else (middle + 1, high)
    return candidates[low] if low < len(candidates) else None


def spread(network: Network, weights: Sequence[str]) -> list[str]:
    """The format of every layer, from one a target layer; sublayers share theirs."""
    return [format for format, group in zip(weights, network.groups, strict=True) for _ in group]


def candidates(network: Network) -> list[list[str]]:
    """The weights' formats; where the copy of Table 5 lacks one of them, with a neighbour's at every place."""
    given = list(network.weights)
    if len(given) == len(network.groups):
        return [spread(network, given)]
    assert len(given) == len(network.groups) - 1
    return [spread(network, [*given[:n], given[min(n, len(given) - 1)], *given[n:]]) for n in range(len(given) + 1)]


def after(network: Network, limit: int, single: Mac, board: Board) -> float:
    """Layer after layer; the least speed-up that the formats allow."""
    floating = sum(alone(layer, single, board, limit) for layer in network.layers)
    found = []
    for weights in candidates(network):
        macs = [mac(weight, network.activation) for weight in weights]
        pairs = zip(network.layers, macs, strict=True)
        found.append(floating / sum(alone(layer, one, board, limit) for layer, one in pairs))
    return min(found)


def at_once(network: Network, limit: int, single: Mac, board: Board) -> tuple[int | None, int | None]:
    """Cycles a frame of the dataflow in FLOAT(32) and tuned, in the formats that take longest."""
    layers = network.layers
    tuned = [interval(layers, [mac(w, network.activation) for w in ws], board, limit) for ws in candidates(network)]
    known = [cycles for cycles in tuned if cycles is not None]
    floating = interval(layers, [single] * len(layers), board, limit)
    return floating, max(known) if len(known) == len(tuned) else None


def geomean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A Markdown table on stdout."""
    print(f"| {' | '.join(heads)} |")
    print("| --- " * len(heads) + "|")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def figure_a(board: Board) -> Iterator[Sequence[str]]:
    """A row a network, and the geometric means."""
    ways = [(limit, single) for limit in (UNLIMITED, MOST_MULTIPLIERS) for single in FLOAT.values()]
    means: list[list[float]] = [[] for _ in ways]
    for network in NETWORKS:
        found = [after(network, limit, single, board) for limit, single in ways]
        for mean, value in zip(means, found, strict=True):
            mean.append(value)
        floating, tuned = at_once(network, MOST_MULTIPLIERS, FLOAT["most LUTs"], board)
        cycles = ["does not fit" if value is None else f"{value:,}" for value in (floating, tuned)]
        gain = f"{floating / tuned:.2f}x" if floating and tuned else ""
        formats = f"{network.activation} / {'-'.join(network.weights)}"
        yield (
            network.name,
            f"{network.macs / 1e6:,.1f}",
            formats,
            *(f"{value:.2f}x" for value in found),
            *cycles,
            gain,
        )
    yield ("geometric mean", "", "", *(f"{geomean(mean):.2f}x" for mean in means), "", "", "")


def serial(macs: Sequence[int], widths: Sequence[int]) -> float:
    """The speed-up of activations of these widths a layer over 16 bits."""
    return 16 * sum(macs) / sum(count * width for count, width in zip(macs, widths, strict=True))


def figure_b() -> Iterator[Sequence[str]]:
    """The five networks that the paper shares with Stripes."""
    by_name = {network.name: network for network in NETWORKS}
    ideal = []
    for name, ours in SERIAL.items():
        network = by_name[name]
        macs = [sum(layer.macs for layer in group) for group in network.groups]
        width = int(network.activation[1:])
        ideal.append(serial(macs, [width] * len(macs)))
        own = f"{'-'.join(map(str, ours))}: {serial(macs, ours):.2f}x" if ours else "not tuned"
        yield (name, f"{sum(macs) / 1e6:,.1f}", f"{width}", f"{ideal[-1]:.2f}x", own)
    yield ("geometric mean", "", "", f"{geomean(ideal):.2f}x", "")


def main() -> None:
    argparse.ArgumentParser(description="Figure 9 of the libnumber paper, from models.").parse_args()
    board = load_board(BOARD)
    print(f"(a) {BOARD}, {SHARE:.0%} of each resource; models, nothing was synthesised")
    print(f"The paper's figure: geometric mean {PAPER_GEOMEAN}x, at most {PAPER_MOST}x\n")
    layerwise = [f"{limit}, FLOAT(32) of {lut} LUT" for limit in ("any size", "4,096") for lut in (730, 300)]
    heads = ("network", "million MACs", "Table 5", *layerwise, "at once: FLOAT(32)", "tuned", "speed-up")
    table(heads, figure_a(board))
    print(
        f"(b) bit-serial, 16 / p; the paper's figure: geometric mean {PAPER_SERIAL}x, in widths that it does not give\n"
    )
    table(("network", "million MACs", "width of Table 5, 7%", "speed-up", "ours a layer, 1%"), figure_b())


if __name__ == "__main__":
    main()
