"""bitwright prune: a smaller network, or what pruning each layer costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitwright.cli.files import model_file, whole
from bitwright.cli.output import json_option, print_json, print_table, progress
from bitwright.cli.percent import Percent

if TYPE_CHECKING:
    from bitwright.pruning import Pruned, Sensitivity


@click.command("prune")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="D", help="mnist, an .npz, a folder of class folders, file.py:function.")
@click.option("--sparsity", type=Percent(), help="The share of the channels that goes, as 50% or 0.5.")
@click.option("--sensitivity", "is_survey", is_flag=True, help="Prune each layer alone, at 10% to 90%, and tell.")
@click.option(
    "--by",
    type=click.Choice(["hessian", "frobenius", "last", "random"]),
    help="Which channels go (default: hessian; with --sensitivity, random).",
)
@click.option("--layer", default="", metavar="L", help="Prune this layer alone (default: all that can be).")
@click.option("--side", type=click.Choice(["output", "input"]), default="output", show_default=True, help="Of --layer.")
@click.option("--weights", is_flag=True, help="Set single weights to zero instead: hardware gains nothing by it.")
@click.option(
    "--refit",
    type=click.Choice(["weights", "biases", "none"]),
    help="Fit what is left to the float network (default: weights; with --sensitivity, none).",
)
@click.option("--metric", default="top1", show_default=True, help="top1, top5, or agreement (needs no labels).")
@click.option("--images", type=click.IntRange(1), default=2000, show_default=True, help="Of --sensitivity.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random choices and splits.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="An .onnx or .ir file; with --sensitivity, a folder."
)
@json_option
def command(
    model: Path,
    data: str,
    sparsity: float | None,
    is_survey: bool,
    output: Path | None,
    as_json: bool,
    images: int,
    **given: Any,
) -> None:
    """Take channels out of MODEL, refit the rest on 1,000 images without labels, and write the smaller network."""
    if is_survey == (sparsity is not None):
        raise click.UsageError("give a --sparsity, or --sensitivity, and not both")
    given["unit"] = "weights" if given.pop("weights") else "channels"
    if given["unit"] == "weights" and (given["by"] or given["side"] == "input"):
        raise click.UsageError("--weights go by their magnitude: leave out --by and --side")
    name = model.stem
    if is_survey:
        if given.pop("layer") or given.pop("side") == "input":
            raise click.UsageError("--sensitivity prunes the outputs of every layer: leave out --layer and --side")
        _survey(model, data, output or Path("build") / f"{name}-sensitivity", as_json, images, given)
    else:
        assert sparsity is not None
        if given["side"] == "input" and not given["layer"]:
            raise click.UsageError("--side input goes with a --layer")
        _prune(model, data, sparsity, output or Path("build") / f"{name}-pruned.onnx", as_json, given)


def _prune(model: Path, data: str, sparsity: float, out: Path, as_json: bool, given: dict[str, Any]) -> None:
    from bitwright.ir.errors import CompileError
    from bitwright.ir.files import save
    from bitwright.pruning import prune

    if out.suffix not in (".onnx", ".ir"):
        raise CompileError(f"{out}: a graph is saved as .onnx or .ir")
    chosen: dict[str, Any] = {"by": given.pop("by") or "hessian", "refit": given.pop("refit") or "weights"}
    with progress(as_json) as say:
        say("pruning")
        found = prune(model_file(model), data, sparsity, **chosen, **given)
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as path:
        save(found.graph, path)
    if as_json:
        print_json(_report(found, out))
        return
    rows = [
        [title, f"{size.parameters:,}", f"{size.multiplications:,}", f"{accuracy:.4f}"]
        for title, size, accuracy in (
            ("before", found.whole, found.float_accuracy),
            ("after", found.size, found.accuracy),
        )
    ]
    print_table(["", "parameters", "multiplications", found.metric], rows)
    for note in found.notes:
        click.echo(f"note: {note}")
    click.echo(f"accuracy on {found.images:,} images; written to {out}")


def _report(found: Pruned, out: Path) -> dict[str, Any]:
    accuracies = {"metric": found.metric, "images": found.images, "before": found.float_accuracy}
    return {
        "file": str(out),
        "before": asdict(found.whole),
        "after": asdict(found.size),
        "accuracy": {**accuracies, "after": found.accuracy},
        "notes": list(found.notes),
    }


def _survey(model: Path, data: str, out: Path, as_json: bool, images: int, given: dict[str, Any]) -> None:
    from bitwright.pruning import sensitivity, write

    chosen: dict[str, Any] = {"by": given.pop("by") or "random", "refit": given.pop("refit") or "none"}
    with progress(as_json) as say:
        found = sensitivity(model_file(model), data, images=images, say=say, **chosen, **given)
    notes = [*found.notes, *write(found, out)]
    if as_json:
        print_json({**asdict(found), "notes": notes, "folder": str(out)})
        return
    _table(found)
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(
        f"{found.metric} on {found.images:,} training images, {found.float_accuracy:.4f} before; written to {out}"
    )


def _table(found: Sensitivity) -> None:
    """A row a layer, a column a sparsity."""
    layers = list(dict.fromkeys(point.layer for point in found.points))
    sparsities = sorted({point.sparsity for point in found.points})
    at = {(point.layer, point.sparsity): point.accuracy for point in found.points}
    rows = [[layer, *(f"{at[layer, sparsity]:.4f}" for sparsity in sparsities)] for layer in layers]
    print_table(["layer", *(f"{sparsity:.0%}" for sparsity in sparsities)], rows)
