"""bitwright tune: the cheapest formats that keep the accuracy."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bitwright.cli.duration import Duration
from bitwright.cli.output import json_option, print_json, print_table
from bitwright.cli.percent import Percent

if TYPE_CHECKING:
    from bitwright.tuner.database import Evaluation
    from bitwright.tuner.tune import Tuned
    from bitwright.tuner.why import Explanation


DESCRIBED = {
    "data": "its commands have their data",
    "tolerance": "its err_margin decides",
    "floor": "its err_margin decides",
    "confidence": "it does not say how many images there are",
    "margin": "it does not say how many images there are",
    "metric": "its program computes the accuracy",
    "objective": "its f_obj decides",
    "layerwise": "its layerwise_opt decides",
    "layers": "its layer_name decides",
    "groups": "its sub_layer_name decides",
    "board": "hardware objectives need the network itself",
    "images": "its cmd_fullset decides",
    "prune": "channels are the network's own",
    "channel_groups": "channels are the network's own",
}


@click.command("tune")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--data", metavar="D", help="mnist, an .npz, a folder of class folders, file.py:function.")
@click.option("--tolerance", type=Percent(whole=False), help="Relative loss of accuracy (default: 1%).")
@click.option("--floor", type=Percent(), help="The least accuracy, instead of a tolerance.")
@click.option(
    "--margin",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Of whittle: so many standard deviations, from images to images, must the loss be inside its bound.",
)
@click.option("--confidence", type=Percent(), help="Ask it of the lower bound of Clopper and Pearson instead, as 0.95.")
@click.option("--metric", default="top1", show_default=True, help="top1, top5, or agreement (needs no labels).")
@click.option(
    "--algorithm",
    metavar="A",
    help="As `bitwright list algorithms` has them (default: whittle, with --network libnumber).",
)
@click.option(
    "--objective",
    default="bits",
    show_default=True,
    metavar="O",
    help="bits, energy, lut, ..., a sum as bits+0.5*energy, f.py:f.",
)
@click.option("--platform", default=None, metavar="P", help="full (default), paper, or a descriptor file [:NAME].")
@click.option("--layerwise", default="both", show_default=True, help="both, weights, activations, none.")
@click.option("--layers", metavar="L", help="Target layers by name or op, as conv1,conv2 or dense (default: all).")
@click.option("--group", "groups", multiple=True, metavar="A,B", help="Layers that share formats; may be repeated.")
@click.option("--target", "board", default="pynq-z2", show_default=True, help="The board of hardware objectives.")
@click.option("--images", type=click.IntRange(1), default=10_000, show_default=True, help="Search on at most so many.")
@click.option(
    "--prune",
    type=click.Choice(["auto", "none"]),
    default="none",
    show_default=True,
    help="auto: channels may go too, where that is cheaper.",
)
@click.option(
    "--channel-groups",
    type=click.Choice(["auto", "none"]),
    default="none",
    show_default=True,
    help="auto: groups of a layer's output channels may have widths of their own, where that is cheaper.",
)
@click.option("--budget", type=Duration(), help="Stop after 60s, 5m, 1h with the best found so far.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random choices and splits.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that measure accuracies.")
@click.option("--cluster", metavar="ADDRESS", help="Measure on a Dask cluster, as tcp://host:8786.")
@click.option("--resume", is_flag=True, help="Go on from the accuracies in the output folder.")
@click.option("--network", type=click.Path(path_type=Path), help="A network descriptor (net.py) instead of MODEL.")
@click.option("--explain", is_flag=True, help="Say of every tensor why it has its format.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The output folder (default: build/<name>-tuned)."
)
@json_option
def command(
    model: Path | None,
    network: Path | None,
    output: Path | None,
    explain: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Find the cheapest number formats of MODEL that keep its accuracy on data.

    With --network and --platform, of any program that reads libnumber's configuration file and prints its accuracy.
    """
    if (model is None) == (network is None):
        raise click.UsageError("give a MODEL, or a descriptor with --network")
    if network is not None:
        _refuse_what_the_descriptor_says()
    if explain and network is not None:
        raise click.UsageError("--explain needs a MODEL: the portable mode knows accuracies alone")
    source = model or network
    assert source is not None
    out = output or Path("build") / f"{source.stem}-tuned"
    watch = _Watch(as_json)
    found = _searched(model, network, out, watch, given)
    _show(found, out, as_json, explain)


def _refuse_what_the_descriptor_says() -> None:
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        if name in DESCRIBED and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{option.opts[0]} does not go with --network: {DESCRIBED[name]}")


def _searched(model: Path | None, network: Path | None, out: Path, watch: _Watch, given: dict[str, Any]) -> Tuned:
    from bitwright.tuner.outputs import check_folder
    from bitwright.tuner.problem import Constraint
    from bitwright.tuner.tune import Options
    from bitwright.tuning import tune, tune_portable

    if given["tolerance"] is not None and given["floor"] is not None:
        raise click.UsageError("give --tolerance or --floor, not both")
    tolerance = 0.01 if given["tolerance"] is None else given["tolerance"]
    options = Options(
        algorithm=given["algorithm"] or ("whittle" if model else "libnumber"),
        constraint=Constraint(tolerance, given["floor"], given["confidence"], given["margin"]),
        **{name: given[name] for name in ("budget", "seed", "jobs", "cluster", "resume")},
        say=watch,
    )
    check_folder(out)
    replay = shlex.join(["bitwright", *sys.argv[1:]])
    if network is not None:
        if given["platform"] is None:
            raise click.UsageError("--network needs --platform, a file with supported_formats")
        return tune_portable(network, given["platform"], options, out=out, command=replay)
    assert model is not None
    if given["data"] is None:
        raise click.UsageError("give --data, whose accuracy is to be kept")
    return tune(
        model,
        given["data"],
        options,
        platform=given["platform"] or "full",
        layers=_names(given["layers"] or ""),
        groups=[_names(group) for group in given["groups"]],
        prune=given["prune"] == "auto",
        channel_groups=given["channel_groups"] == "auto",
        out=out,
        command=replay,
        **{name: given[name] for name in ("objective", "layerwise", "board", "metric", "images")},
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


class _Watch:
    """Prints the front as it grows: every candidate that nothing before beats in both.

    Those measured in full, and those that hold by a test on some of the images, with the accuracy that this expects.
    """

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.count = 0
        self.front: list[Evaluation] = []

    def __call__(self, found: Evaluation) -> None:
        self.count += 1
        beaten = any(e.objective <= found.objective and e.accuracy >= found.accuracy for e in self.front)
        if self.silent or found.images not in ("full", "estimate") or beaten:
            return
        self.front.append(found)
        about = "~" if found.images == "estimate" else " "
        click.echo(f"{self.count:6,}  accuracy {about}{found.accuracy:.4f}  objective {found.objective:,.6g}", err=True)


def _show(found: Tuned, out: Path, as_json: bool, explain: bool) -> None:
    from bitwright.ir.formats import short
    from bitwright.tuner.outputs import report

    why = _explained(found) if explain else None
    if as_json:
        told = report(found, shlex.join(["bitwright", *sys.argv[1:]])) | {"folder": str(out)}
        print_json(told if why is None else told | {"why": [one.as_dict() for one in why]})
        return
    sizes = {target.name: target.size for target in found.problem.space.targets}
    rows = [
        [name, f"{sizes[name]:,}", _brief(short(format))]
        for name, format in found.candidate.formats.items()
        if name in sizes
    ]
    print_table(["tensor", "values", "format"], rows)
    if found.channels:
        print_table(["layer", "channels", "of"], [[name, *map(str, pair)] for name, pair in found.channels.items()])
    if found.groups:
        print_table(["layer", "groups of channels"], [[name, _sizes(parts)] for name, parts in found.groups.items()])
    for note in found.notes:
        click.echo(f"note: {note}")
    click.echo(
        f"{_gain(found.cost, found.float_cost)}; "
        f"space of {found.problem.space.size:.3g}, {len(found.trace):,} measurements, "
        f"{found.spent:.1f} times the full set, {found.seconds:.1f} s"
    )
    searched = f"accuracy {found.reference:.4f} -> {found.accuracy:.4f} on the search images"
    if found.held_out is not None:
        held, (low, high) = found.held_out, found.held_out.interval
        searched += f"; {held.float_accuracy:.4f} -> {held.accuracy:.4f} [{low:.4f}, {high:.4f}]"
        searched += f" on {held.images:,} held-out images"
    click.echo(f"{searched}; written to {out}")
    if not found.complete:
        click.echo("the budget ended the search: --resume goes on")
    if why is not None:
        from bitwright.cli.explain import print_explanations

        print_explanations(why)


def _sizes(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{part} {size}" for part, size in parts.items())


def _explained(found: Tuned) -> list[Explanation]:
    from bitwright.tuner.why import explanations

    return explanations(found)


def _gain(cost: float, float_cost: float) -> str:
    if cost > 0 and 0 < float_cost < math.inf:
        return f"{float_cost / cost:.2f} times cheaper than FLOAT 32 ({cost:,.6g} of {float_cost:,.6g})"
    return f"objective {cost:,.6g}, of FLOAT 32 {float_cost:,.6g}"


def _brief(text: str) -> str:
    """A format; of biases a channel only how many there are."""
    head, brace, rest = text.partition("{")
    return text if not brace else f"{head}{rest.count(',') + 1} channels>"
