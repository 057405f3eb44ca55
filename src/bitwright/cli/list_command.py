"""bitwright list: what there is, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from bitwright.cli.output import json_option, print_json, print_table

Rows = tuple[list[str], list[list[str]]]


def _passes() -> Rows:
    import dataclasses

    from bitwright.passes import known_passes

    rows = []
    for name, kind in sorted(known_passes().items()):
        options = ", ".join(f.name for f in dataclasses.fields(kind))
        rows.append([name, options, (kind.__doc__ or "").strip().split("\n")[0]])
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
    return ["algorithm", "what it does"], [["uniform", "the narrowest FIXED width for all tensors (--tolerance)"]]


def _objectives() -> Rows:
    return ["objective", "what it is"], [["interval", "cycles between frames, as small as the board allows"]]


def _metrics() -> Rows:
    from bitwright.backends.simulation.score import METRICS

    rows = [[name, "share of samples whose label is among the highest scores"] for name in METRICS]
    return ["metric", "what it is"], [*rows, ["agreement", "share of samples that the float network decides alike"]]


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
}


@click.command("list")
@click.argument("kind", type=click.Choice(sorted(KINDS)), metavar="KIND")
@json_option
def command(kind: str, as_json: bool) -> None:
    """List what there is of one KIND.

    Kinds are algorithms, boards, datasets, formats, metrics, models, objectives and passes.
    """
    columns, rows = KINDS[kind]()
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)
