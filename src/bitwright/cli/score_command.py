"""bitwright score: a network's accuracy in its formats."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitwright.cli.files import model_file
from bitwright.cli.output import json_option, print_json, progress

if TYPE_CHECKING:
    from bitwright.backends.simulation.score import Metric
    from bitwright.ir.graph import Graph


@click.command("score")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="D", help="mnist, an .npz, a folder of class folders, file.py:function.")
@click.option("--formats", metavar="F", help='A file of formats, or one for all tensors such as "FIXED 8".')
@click.option(
    "--metric", default="top1", show_default=True, metavar="M", help="top1, top5, agreement, file.py:function."
)
@click.option("--limit", type=click.IntRange(1), help="Use the first so many samples only.")
@json_option
def command(model: Path, data: str, formats: str | None, metric: str, limit: int | None, as_json: bool) -> None:
    """Measure MODEL on test data: in the formats of --formats, else in its own, else in float."""
    from bitwright.backends.simulation.score import score
    from bitwright.compiler import calibration, format_passes
    from bitwright.ir.files import load
    from bitwright.models.datasets import load as load_data
    from bitwright.passes import STRUCTURE, run_passes

    graph = load(model_file(model))
    reference = _in_float(graph)
    test = load_data(data, "test", limit)
    with progress(as_json) as say:
        say("scoring")
        if formats is not None:
            reference = run_passes(reference, STRUCTURE)
            graph = run_passes(reference, format_passes(formats), calibration(reference, load_data(data, "train")))
        found = score(graph, test.x, test.y, metric=_metric(metric), reference=reference)
    result = {"metric": found.metric, "value": found.value, "samples": found.samples, "exact": found.exact}
    if as_json:
        print_json(result)
        return
    how = "exact arithmetic" if found.exact else "float32 arithmetic"
    click.echo(f"{found.metric} {found.value:.4f} on {found.samples:,} samples ({how})")


def _in_float(graph: Graph) -> Graph:
    """The network without its formats: what agreement compares with, and what other formats are given to."""
    from bitwright.ir import edit
    from bitwright.ir.types import F32, Type

    made = edit.copy(graph)
    for value in made.values.values():
        if isinstance(value.type, Type) and value.type.number is not None:
            edit.set_type(value, value.type.with_format(F32))
    return made


def _metric(text: str) -> str | Metric:
    """A metric's name, or the function that `file.py:function` names; what the user's code raises is reported."""
    from bitwright.ir.errors import CompileError

    path, colon, name = text.rpartition(":")
    if not colon:
        return text
    if not Path(path).is_file():
        raise CompileError(f"the metric's file {path} does not exist")
    spec = importlib.util.spec_from_file_location("metric", path)
    if spec is None or spec.loader is None:
        raise CompileError(f"the metric's file {path} is no .py file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CompileError(f"{path}: importing it raised {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise CompileError(f"{path} has no function {name}")

    def metric(scores: Any, labels: Any) -> float:
        try:
            return float(function(scores, labels))
        except Exception as error:
            raise CompileError(f"{path}: {name}() raised {type(error).__name__}: {error}") from error

    metric.__name__ = name
    return metric
