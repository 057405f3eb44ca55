"""bitwright score: a network's accuracy in its formats."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bitwright.cli.output import json_option, print_json, progress


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
    """Measure MODEL on test data: in float, and in its formats if it has any or --formats gives them."""
    from bitwright.backends.simulation.score import score
    from bitwright.ir.files import load
    from bitwright.models.datasets import load as load_data
    from bitwright.passes import STRUCTURE, Context, run_passes

    graph = load(model / "model.ir" if model.is_dir() else model)
    test = load_data(data, "test", limit)
    with progress(as_json) as say:
        say("scoring")
        reference = graph
        if formats is not None:
            train = load_data(data, "train").x[:1000]
            context = Context(samples={graph.input_name(graph.inputs[0]): train})
            reference = run_passes(graph, STRUCTURE)
            graph = run_passes(reference, _format_passes(formats), context)
        found = score(graph, test.x, test.y, metric=_metric(metric), reference=reference)
    result = {"metric": found.metric, "value": found.value, "samples": found.samples, "exact": found.exact}
    if as_json:
        print_json(result)
        return
    how = "exact arithmetic" if found.exact else "float32 arithmetic"
    click.echo(f"{found.metric} {found.value:.4f} on {found.samples:,} samples ({how})")


def _format_passes(formats: str) -> str:
    if Path(formats).is_file() or formats.endswith((".txt", ".conf")):
        return f"assign-formats{{file={formats}}},derive-accumulators"
    return f"annotate-formats{{weights={formats},activations={formats}}},derive-accumulators"


def _metric(text: str) -> str | Callable[[Any, Any], float]:
    """A metric's name, or the function that `file.py:function` names."""
    from bitwright.ir.errors import CompileError

    path, colon, name = text.rpartition(":")
    if not colon:
        return text
    if not Path(path).is_file():
        raise CompileError(f"the metric's file {path} does not exist")
    spec = importlib.util.spec_from_file_location("metric", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise CompileError(f"{path} has no function {name}")

    def metric(scores: Any, labels: Any) -> float:
        return float(function(scores, labels))

    metric.__name__ = name
    return metric
