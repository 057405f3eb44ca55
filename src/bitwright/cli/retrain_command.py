"""bitwright retrain: a network's weights, trained a little more in its formats."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitwright.cli.files import model_file, whole
from bitwright.cli.output import json_option, print_json
from bitwright.train.settings import Settings

if TYPE_CHECKING:
    from bitwright.ir.graph import Graph
    from bitwright.retraining import Retrained
    from bitwright.train.training import Progress as Told

CALIBRATION_SAMPLES = 256
USUAL = Settings()


@click.command("retrain")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="D", help="mnist, an .npz, a folder of class folders, file.py:function.")
@click.option("--formats", metavar="F", help='Formats to give MODEL first: a file, or one for all such as "FIXED 4".')
@click.option("--teacher", type=click.Path(path_type=Path), help="The float network to learn scores from.")
@click.option("--no-labels", is_flag=True, help="Learn from the teacher alone.")
@click.option(
    "--epochs", type=click.IntRange(1), default=USUAL.epochs, show_default=True, help="Times each sample is seen."
)
@click.option("--batch", type=click.IntRange(1), default=USUAL.batch, show_default=True, help="Samples a step.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=USUAL.rate,
    show_default=True,
    help="The largest step of a number, relative to the size of its tensor.",
)
@click.option("--learn-biases", is_flag=True, help="Learn the biases of formats, too, rounded to integers.")
@click.option("--augment", type=click.Choice(["flip", "turn"]), help="Distort the pictures that are trained on.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order, distortions and splits."
)
@click.option(
    "--keep",
    type=click.Choice(["best", "last"]),
    default=USUAL.keep,
    show_default=True,
    help="The epoch that is best on held samples, or the last: where an earlier training saw those samples.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint beside the output, if there is one.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="An .ir or .onnx (default: build/<name>-retrained.ir)."
)
@json_option
def command(
    model: Path,
    data: str,
    formats: str | None,
    teacher: Path | None,
    output: Path | None,
    resume: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train MODEL a little more, with its formats' rounding in the loop.

    It learns from labels, from a teacher (--teacher, or MODEL itself where --formats are given), or from both. The
    best epoch by a tenth of the training samples is written, the start if none is better; or the last (--keep last).
    """
    from bitwright.ir.errors import CompileError
    from bitwright.ir.files import load, save
    from bitwright.retraining import require_torch, retrain

    output = output or Path("build") / f"{model.stem}-retrained.ir"
    if output.suffix not in (".ir", ".onnx"):
        raise CompileError(f"{output}: a graph is saved as .ir or .onnx")
    require_torch()
    graph = load(model_file(model))
    taught = None if teacher is None else load(model_file(teacher))
    if formats is not None:
        graph, original = _with_formats(graph, formats, data)
        taught = taught or original
    output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = output.with_name(output.name + ".checkpoint")
    with _watching(as_json) as say:
        found = retrain(
            graph,
            data,
            Settings(**{name: given[name] for name in ("epochs", "batch", "rate", "seed", "learn_biases", "keep")}),
            teacher=taught,
            labels=not given["no_labels"],
            augment=given["augment"],
            checkpoint=checkpoint,
            resume=resume,
            say=say,
        )
    with whole(output) as path:
        save(found.graph, path)
    checkpoint.unlink(missing_ok=True)
    _show(found, output, given["rate"], as_json)


def _with_formats(graph: Graph, formats: str, data: str) -> tuple[Graph, Graph]:
    """The network in the formats, after the passes they need, and without them."""
    from bitwright.models.datasets import load as load_data
    from bitwright.passes import STRUCTURE, run_passes
    from bitwright.retraining import in_formats

    original = run_passes(graph, STRUCTURE)
    x = load_data(data, "train").x
    spread = x[:: max(1, len(x) // CALIBRATION_SAMPLES)]  # data may be sorted by class
    return in_formats(original, formats, spread[:CALIBRATION_SAMPLES]), original


@contextmanager
def _watching(silent: bool) -> Iterator[Any]:
    """A function that is told of every step: a bar on a terminal, and a line an epoch."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    shown = -1  # nothing yet
    with Progress(*columns, console=console, disable=silent or not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("retraining", total=None)

        def say(progress: Told) -> None:
            nonlocal shown
            bar.update(task, completed=progress.step, total=progress.steps)
            epoch, news = progress.epoch, progress.epoch.number > shown
            if silent or not news:
                return
            first, shown = shown < 0, epoch.number
            if first and progress.step:
                console.print(f"going on after step {progress.step:,} of {progress.steps:,}")
            elif not first:
                console.print(f"epoch {epoch.number:3}  loss {epoch.loss:.4f}  held samples {epoch.agreeing:.4f}")

        yield say


def _show(found: Retrained, output: Path, rate: float, as_json: bool) -> None:
    before, after = found.before, found.after
    if as_json:
        epochs = [
            {"epoch": e.number, "loss": e.loss if e.number else None, "held_loss": e.held_loss, "held": e.agreeing}
            for e in found.epochs
        ]
        told = {"metric": after.metric, "before": before.value, "after": after.value, "samples": after.samples}
        print_json(told | {"exact": after.exact, "best": found.best, "epochs": epochs, "file": str(output)})
        return
    what = "accuracy" if after.metric == "top1" else after.metric
    click.echo(f"note: {found.note}")
    if not found.best:
        click.echo("note: no epoch is better on held samples: the network is the one that was given")
        click.echo(f"help: a rate below {rate:g} moves a network less that is near its best already (--rate)")
    click.echo(f"{what} {before.value:.4f} -> {after.value:.4f} on {after.samples:,} samples; written to {output}")
