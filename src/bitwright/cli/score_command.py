"""bitwright score: a network's accuracy in its formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.cli.files import model_file
from bitwright.cli.output import json_option, print_json, progress

if TYPE_CHECKING:
    from bitwright.backends.simulation.score import Metric


AS_READ = "float-inputs,remove-identities"
"""What compile does to a model that it reads."""


@click.command("score")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="D", help="mnist, an .npz, a folder of class folders, file.py:function.")
@click.option("--formats", metavar="F", help='A file of formats, or one for all tensors such as "FIXED 8".')
@click.option(
    "--metric", default="top1", show_default=True, metavar="M", help="top1, top5, agreement, file.py:function."
)
@click.option("--reference", type=click.Path(path_type=Path), help="What --metric agreement compares with.")
@click.option("--limit", type=click.IntRange(1), help="Use the first so many samples only.")
@json_option
def command(
    model: Path,
    data: str,
    formats: str | None,
    metric: str,
    reference: Path | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Measure MODEL on test data: in the formats of --formats, else in its own, else in float.

    Without a --reference, agreement is that with MODEL itself in float.
    """
    from bitwright.backends.simulation.score import score
    from bitwright.compiler import calibration, format_passes
    from bitwright.ir.assign import in_float
    from bitwright.ir.files import load
    from bitwright.models.datasets import load as load_data
    from bitwright.passes import STRUCTURE, run_passes

    graph = run_passes(load(model_file(model)), AS_READ)
    own = in_float(graph)
    float_model = own if reference is None else in_float(run_passes(load(model_file(reference)), AS_READ))
    test = load_data(data, "test", limit)
    with progress(as_json) as say:
        say("scoring")
        if formats is not None:
            own = run_passes(own, STRUCTURE)
            graph = run_passes(own, format_passes(formats), calibration(own, load_data(data, "train")))
        found = score(graph, test.x, test.y, metric=_metric(metric), reference=float_model)
    result = {"metric": found.metric, "value": found.value, "samples": found.samples, "exact": found.exact}
    if as_json:
        print_json(result)
        return
    how = "exact arithmetic" if found.exact else "float32 arithmetic"
    click.echo(f"{found.metric} {found.value:.4f} on {found.samples:,} samples ({how})")


def _metric(text: str) -> str | Metric:
    """A metric's name, or the function that `file.py:function` names."""
    from bitwright.ir.user_code import user_number

    path, colon, name = text.rpartition(":")
    return user_number(Path(path), name, f"{name}(scores, labels), which returns a number") if colon else text
