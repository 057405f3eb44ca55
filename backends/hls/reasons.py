"""Why every pragma stands where it does: those of the headers by what they say, those of a network by its numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bitwright.backends.hls.adder_cost import graph_of
from bitwright.backends.hls.adders.solve import unshared_graph
from bitwright.backends.hls.board import Board
from bitwright.backends.hls.cost import DSP_LEAST_BITS, bram18, dsp_slices, rom_luts
from bitwright.backends.hls.estimate import multipliers, products_in_dsp, rom_in_bram, rom_shape
from bitwright.backends.hls.stages import (
    ADDERS,
    FloatSumStage,
    JoinStage,
    MeanStage,
    PoolStage,
    RealJoinStage,
    RealMeanStage,
    RealPointStage,
    ScaledSumStage,
    Stage,
    SumStage,
    ends_of,
)
from bitwright.ir.errors import InternalError

INCLUDE = Path(__file__).parent / "include" / "bitwright"
MARK = re.compile(r"#pragma HLS .*|BITWRIGHT_(?:TOKENS?|ROM|STREAM|IN_DSP|IN_LUTS)\([^)]*\);")

# What stands in the headers, the first that matches; {0} is what the pattern captures.
_REASONS = (
    (r"PIPELINE II=1", "a trip starts in every cycle: it takes at most one token of each stream and one word a memory"),
    (r"ARRAY_RESHAPE variable=weights .*dim=2", "the weights of pe rows, which work side by side, are one word"),
    (r"ARRAY_RESHAPE variable=weights .*dim=3", "the weights of simd columns, which work side by side, are one word"),
    (r"ARRAY_RESHAPE variable=(bias|shift|multiplier|offset|scale) ", "the {0} of pe rows is one word"),
    (r"ARRAY_PARTITION variable=x ", "every element of the token is a float that all rows read"),
    (r"ARRAY_PARTITION variable=last ", "the sums that took turns are added in one trip"),
    (r"ARRAY_PARTITION variable=(totals|added) ", "the {0} of a trip are written side by side"),
    (r"ARRAY_PARTITION variable=acc ", "pe sums of each pixel grow side by side, each in a register"),
    (r"ARRAY_PARTITION variable=products ", "the products of a row are added in one cycle"),
    (r"ARRAY_PARTITION variable=(together|made) ", "the weights and products of one multiplication: wires"),
    (r"ARRAY_PARTITION variable=pairs ", "the sums of a level of the adder tree are wires"),
    (
        r"ARRAY_PARTITION variable=window ",
        "every element under the kernel is a register, so that all move in one cycle",
    ),
    (
        r"ARRAY_PARTITION variable=columns ",
        "every column under the kernel is a register, so that all move in one cycle",
    ),
    (r"ARRAY_PARTITION variable=rows ", "the sums of all rows are there at once: wires"),
    (r"ARRAY_PARTITION variable=vectors ", "the vectors of a token, of which a round takes some: wires"),
    (r"ARRAY_PARTITION variable=within ", "every column under the kernel is masked in the same cycle"),
    (r"ARRAY_PARTITION variable=(view|shown) ", "the elements under the kernel seen as tokens: wires"),
    (r"ARRAY_PARTITION variable=(sums|total) ", "the {0} of all lanes are read and written in one cycle"),
    (r"DEPENDENCE variable=lines inter false", "a place comes back after a row, when what was written is there"),
    (r"EXPRESSION_BALANCE off", "the plan asks for a chain, which the tools would make a tree again"),
    (r"INLINE", "wires and gates in the loop that calls it, with no handshake of its own"),
    (r"UNROLL", "all of it in one cycle: there is a circuit for each"),
    (r"DATAFLOW", "the two loops of a layer work at once"),
    (r"STREAM variable=(windows|chunks) depth=2", "the product takes a token as soon as it is there; one more waits"),
    (r"BITWRIGHT_IN_DSP", "a layer's products with in_dsp = true, as the plan says of each, take DSP slices"),
    (r"BITWRIGHT_IN_LUTS", "those with in_dsp = false are narrow, or the DSP slices go to other layers"),
    (r"BITWRIGHT_TOKENS\((\w+)\)", "a token of {0} is one word of a memory"),
    (r"BITWRIGHT_TOKEN\((\w+)\)", "{0} is one word of a stream"),
)
_ENGINES = {
    "conv2d": ("window", "scan", "matvec", "packing", "multiplier", "adder_tree", "formats", "requantize", "layers"),
    "dense": ("regroup", "matvec", "packing", "multiplier", "adder_tree", "formats", "requantize", "layers"),
    "constant_conv2d": ("window", "scan", "constant_matvec", "formats", "requantize", "layers"),
    "constant_dense": ("regroup", "constant_matvec", "formats", "requantize", "layers"),
    "maxpool": ("maxpool", "scan"),
    "avgpool": ("avgpool", "scan", "requantize"),
    "float_conv2d": ("window", "scan", "float_sums", "real"),
    "float_dense": ("regroup", "float_sums", "real"),
    "scaled_conv2d": ("window", "scan", "scaled_sums", "packing", "multiplier", "adder_tree", "formats", "requantize"),
    "scaled_dense": ("regroup", "scaled_sums", "packing", "multiplier", "adder_tree", "formats", "requantize"),
    "real_points": ("real_points", "join", "regroup", "float_sums", "real"),
    "join": ("join", "regroup", "requantize"),
    "point": ("point", "requantize"),
}


def rom_reason(stage: SumStage, board: Board) -> str:
    """Why the weights of a layer lie in block RAM, or in LUTs."""
    width, depth = rom_shape(stage)
    blocks, luts = bram18(depth, width), rom_luts(depth, width)
    size = (
        f"{depth:,} words of {width:,} bits ({stage.outputs * stage.inputs:,} weights of {stage.weight_format.width})"
    )
    if stage.storage:
        return f"{size}: the plan says {stage.storage}"
    if not board.bram36:
        return f"{size}: there is no block RAM"
    choices = [f"{blocks:,} BRAM18", f"{luts:,} LUT"]
    taken, left = choices if rom_in_bram(stage, board) else choices[::-1]
    return f"{size}: {taken} rather than {left}, the smaller share of the board"


def multipliers_reason(stage: Stage) -> str:
    """Of what the products of a layer are made, and why; "" where they are no multiplications."""
    if isinstance(stage, SumStage) and stage.products == ADDERS:
        return _adders_reason(stage)
    if not isinstance(stage, SumStage) or not stage.multiplies:
        return ""
    w, a = stage.weight_format.width, stage.in_format.width
    count = f"{stage.multipliers:,} product{'' if stage.multipliers == 1 else 's'}"
    what = f"{count} of {w} x {a} bits in {'DSPs' if products_in_dsp(stage) else 'LUTs'}"
    natural = dsp_slices(w, a) * stage.multipliers
    if stage.packing > 1:
        shared = f"{count} of {w} x {a} bits in {stage.multiplications:,} DSPs, up to {stage.packing} in each"
        return f"{shared}: {'the plan says so' if stage.products else f'rather than {natural:,}'}"
    if stage.products == "lut" and natural:
        return f"{what} rather than {natural:,} DSPs, which are left to other layers"
    narrow = f"{DSP_LEAST_BITS} bits or more on both sides go to DSPs, narrower ones to LUTs"
    return f"{what}: {'the plan says so' if stage.products else narrow}"


def _adders_reason(stage: SumStage) -> str:
    """What adders take the place of, and what they save."""
    graph, alone = graph_of(stage), unshared_graph(stage.matrix, *ends_of(stage.in_format))
    weights, count = stage.outputs * stage.inputs, len(graph.adders)
    most = multipliers(replace(stage, products="")).lut[1], multipliers(stage).lut[1]
    slices = multipliers(replace(stage, products="")).dsp
    instead = f"{most[0]:,.0f} LUT" + (f" and {slices:,} DSPs" if slices else "")
    return (
        f"{count:,} adders, {graph.depth} deep, make the sums of {weights:,} constant weights, {len(alone.adders):,}"
        f" without common sub-sums: {most[1]:,.0f} LUT at most rather than {instead}"
    )


def products_a_slice(stage: Stage) -> int | None:
    """The most products of a layer that a DSP slice makes at once; None where it makes none."""
    if not isinstance(stage, SumStage) or not products_in_dsp(stage):
        return None
    return min(stage.packing, stage.pe)


def pixels_reason(stage: Stage) -> str:
    """Why a layer works on several pixels at once, or on those that come together one after another; "" for neither."""
    if not isinstance(stage, SumStage) or stage.vectors == 1:
        return ""
    if stage.pixels == 1:
        return f"{stage.vectors} windows come together, quicker than one pixel a cycle, and are taken one after another"
    weights = stage.outputs * stage.inputs
    return (
        f"{stage.pixels} pixels at once: all {weights:,} weights work in every cycle,"
        f" and a pixel at a time would take {stage.positions:,}"
    )


def depth_reason(stage: Stage, side: int) -> str:
    """Why a FIFO is as deep as it is."""
    why = "as many as are ever held at this interval, so that nothing waits"
    if isinstance(stage, JoinStage):
        which = ("left", "right")[side]
        return f"the {which} side of %{stage.name}: {why}; below {stage.least[side]:,} the design would stop for ever"
    return f"before %{stage.name}: {why}"


def reason(line: str) -> str:
    """Why a pragma of the headers is there."""
    for pattern, words in _REASONS:
        match = re.search(pattern, line)
        if match:
            return words.format(*match.groups())
    raise InternalError(f"no reason is known for {line!r}")


def header_pragmas(stages: Sequence[Stage]) -> list[tuple[str, str]]:
    """(header:line, pragma) of every pragma in the headers that these stages use."""
    used = dict.fromkeys(("axis", "types", *(name for stage in stages for name in _ENGINES.get(_kind(stage), ()))))
    found = []
    for name in used:
        for number, line in enumerate((INCLUDE / f"{name}.hpp").read_text("utf-8").splitlines(), 1):
            match = MARK.search(line)
            if match and not line.lstrip().startswith("//"):
                found.append((f"{name}.hpp:{number}", match[0]))
    return found


def _kind(stage: Stage) -> str:
    if isinstance(stage, SumStage):
        arithmetic = {FloatSumStage: "float_", ScaledSumStage: "scaled_"}.get(type(stage), "")
        arithmetic = "constant_" if stage.products == ADDERS else arithmetic
        return arithmetic + ("dense" if stage.scan is None else "conv2d")
    if isinstance(stage, RealPointStage | RealJoinStage | RealMeanStage):
        return "real_points"
    if isinstance(stage, JoinStage):
        return "join"
    names = {PoolStage: "maxpool", MeanStage: "avgpool"}
    return names.get(type(stage), "point" if len(stage.reads) == 1 and stage.writes else "")
