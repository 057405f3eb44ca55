"""bitwright list: what there is, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from bitwright.ir.formats import Canonical

Rows = tuple[list[str], list[list[str]]]

OBJECTIVES = {
    "bits": "bits of all weights and inputs (libnumber's default)",
    "energy": "picojoules of a frame's multiplications and additions",
    "lut": "look-up tables of the accelerator, estimated",
    "bram": "block RAMs of 18 kbit, estimated",
    "dsp": "multipliers, estimated",
    "latency": "cycles from a frame to its answer, estimated",
}


def _passes() -> Rows:
    import dataclasses

    from bitwright.passes import known_passes

    rows = []
    for name, kind in sorted(known_passes().items()):
        options = ", ".join(f.name for f in dataclasses.fields(kind))
        first = (kind.__doc__ or "").strip().split("\n\n")[0]
        rows.append([name, options, " ".join(first.split())])
    return ["pass", "options", "what it does"], rows


def _formats() -> Rows:
    from bitwright.ir.formats import NAMED

    rows = [
        ["FLOAT N [B]", "floating point of N bits, <1, n_e, n_f, B>"],
        ["FIXED N [B]", "fixed point of N bits with step 2^(2-N-B)"],
        ["EXP N [B]", "0 and signed powers of two"],
        ["BIN [B]", "two values, +-2^-B"],
        ["AFFINE<N,scale=S,zero=Z>", "integers of N bits with a real scale and a zero point"],
        ["UFIXED, UFLOAT, UEXP", "the unsigned forms"],
    ]
    return ["format", "what it is"], rows + [[name, str(format)] for name, format in NAMED.items()]


def _boards() -> Rows:
    from bitwright.backends.hls.board import boards

    rows = []
    for b in boards():
        amounts = [f"{amount:,}" for amount in (b.lut, b.ff, 2 * b.bram36, b.dsp)]
        rows.append([b.name, ", ".join(b.aliases), b.part, *amounts, f"{b.clock_mhz:g}", b.driver or "", b.certainty])
    return ["board", "also", "part", "LUT", "FF", "BRAM18", "DSP", "MHz", "driver", "figures from"], rows


def _algorithms() -> Rows:
    from bitwright.tuner.algorithms import ALGORITHMS

    return ["algorithm", "what it does"], [[name, one.summary] for name, one in ALGORITHMS.items()]


def _objectives() -> Rows:
    from bitwright.tuner.objectives import NAMES

    rows = [[name, "tune", OBJECTIVES[name]] for name in NAMES]
    forms = [
        ["bits+0.5*energy", "tune", "a sum of these with factors"],
        ["file.py:function", "tune", "function(formats by tensor, tensors) -> number"],
        ["interval", "compile", "cycles between frames, as small as the board allows"],
    ]
    return ["objective", "command", "what is made small"], rows + forms


def _platforms() -> Rows:
    from bitwright.tuner.platforms import BUILT_IN

    rows = [
        [name, _kinds(one.weight), _kinds(one.input), "weights" if one.per_channel else "none"]
        for name, one in BUILT_IN.items()
    ]
    form = ["file.py:NAME", "as supported_formats in it", "the same, or NAME.activation", "none"]
    return ["platform", "weights", "inputs", "a bias a channel"], [*rows, form]


def _kinds(formats: Iterable[Canonical]) -> str:
    """`BIN 1, FIXED 2-16`: runs of widths by kind."""
    widths: dict[str, list[int]] = {}
    for format in formats:
        widths.setdefault(format.kind, []).append(format.width)
    return ", ".join(f"{kind} {_runs(sorted(found))}" for kind, found in widths.items())


def _runs(widths: list[int]) -> str:
    runs: list[list[int]] = []
    for width in widths:
        if runs and runs[-1][-1] == width - 1:
            runs[-1].append(width)
        else:
            runs.append([width])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _metrics() -> Rows:
    from bitwright.backends.simulation.score import METRICS

    highest = {"top1": "the highest score", "top5": "one of the five highest scores"}
    rows = [[name, f"share of samples whose label has {highest[name]}"] for name in METRICS]
    rows.append(["agreement", "share of samples that the float network decides alike"])
    return ["metric", "what it is"], [*rows, ["file.py:function", "what function(scores, labels) returns; for score"]]


def _models() -> Rows:
    import bitwright.models

    folder = Path(next(iter(bitwright.models.__path__)))
    rows = [[path.name, f"{path.stat().st_size:,}", str(path)] for path in sorted(folder.glob("*.onnx"))]
    return ["model", "bytes", "path"], rows


def _datasets() -> Rows:
    from bitwright.models.datasets import names

    rows = [[name, "built in"] for name in names()]
    forms = [["x.npz", "arrays x and y, or x_train ... y_test"], ["folder/", "a folder of class folders of pictures"]]
    return ["dataset", "what it is"], rows + forms + [["file.py:function", "function(split) -> (x, y)"]]


KINDS: dict[str, Callable[[], Rows]] = {
    "algorithms": _algorithms,
    "boards": _boards,
    "datasets": _datasets,
    "formats": _formats,
    "metrics": _metrics,
    "models": _models,
    "objectives": _objectives,
    "passes": _passes,
    "platforms": _platforms,
}


@click.command("list")
@click.argument("kind", type=click.Choice(sorted(KINDS)), metavar="KIND")
@json_option
def command(kind: str, as_json: bool) -> None:
    """List what there is of one KIND.

    Kinds are algorithms, boards, datasets, formats, metrics, models, objectives, passes and platforms.
    """
    columns, rows = KINDS[kind]()
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)
