"""bitwright compile: a network to an accelerator with everything its board needs."""

from __future__ import annotations

from pathlib import Path

import click

from bitwright.cli.files import model_file
from bitwright.cli.output import json_option, print_json, print_table, progress
from bitwright.cli.percent import Percent


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="BOARD", help="A board's name, or a .toml file that describes one.")
@click.option(
    "--data", metavar="D", help="Chooses ranges and measures accuracy: mnist, .npz, folder, file.py:function."
)
@click.option(
    "--formats", metavar="F", help='A file of formats, or one for all tensors such as "FIXED 8" (the default).'
)
@click.option(
    "--tolerance", type=Percent(whole=False), help="Relative loss of accuracy, as 1%: finds the formats of fewest bits."
)
@click.option(
    "--prune",
    type=click.Choice(["auto", "none"]),
    default="none",
    show_default=True,
    help="auto: channels may go too, within the tolerance.",
)
@click.option(
    "--channel-groups",
    type=click.Choice(["auto", "none"]),
    default="none",
    show_default=True,
    help="auto: groups of a layer's output channels may have widths of their own, within the tolerance.",
)
@click.option("--passes", metavar="P", help="More passes, run before formats are chosen.")
@click.option("--clock-mhz", type=float, help="The clock (default: the board's).")
@click.option("--utilisation", type=Percent(), default="80%", show_default=True, help="The share of the board to use.")
@click.option("--fps", type=float, help="Frames a second: the smallest design that reaches them, not the fastest.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="A plan.toml, whole or in part.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The output folder (default: build/<network>).")
@json_option
def command(
    model: Path,
    target: str,
    data: str | None,
    formats: str | None,
    tolerance: float | None,
    prune: str,
    channel_groups: str,
    passes: str | None,
    clock_mhz: float | None,
    utilisation: float,
    fps: float | None,
    plan_file: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compile MODEL (.onnx, .ir, or an output folder) for a board."""
    from bitwright.compiler import compile

    with progress(as_json) as say:
        made = compile(
            model_file(model),
            target,
            data=data,
            formats=formats,
            tolerance=tolerance,
            prune=prune == "auto",
            channel_groups=channel_groups == "auto",
            passes=passes,
            clock_mhz=clock_mhz,
            utilisation=utilisation,
            fps=fps,
            plan_file=plan_file,
            out=output,
            say=say,
        )
    report = made.report()
    if as_json:
        print_json(report | {"folder": str(made.folder)})
        return
    print_table(*_table(made))
    for note in made.notes:
        click.echo(f"note: {note}")
    click.echo(made.bottleneck)
    click.echo(_summary(report, made.folder))


def _table(made: object) -> tuple[list[str], list[list[str]]]:
    """A row a stage: what it is, its formats, folding, cycles and resources."""
    from bitwright.backends.hls.stages import SumStage
    from bitwright.compiler import Compiled

    assert isinstance(made, Compiled)
    columns = ["layer", "op", "shape", "weights", "result", "folding", "cycles", "LUT", "FF", "BRAM18", "DSP"]
    rows = []
    found = made.plan.estimate
    for stage, cost, cycles in found.stages:
        kind = _kind(stage)
        shape, weights, folding = f"{stage.elements}", "", ""
        if isinstance(stage, SumStage):
            shape = f"{stage.positions} x {stage.outputs} x {stage.inputs}"
            weights, folding = _short(stage.weight_format), f"pe {stage.pe} simd {stage.simd}"
            folding += f" pixels {stage.pixels}" if stage.pixels > 1 else ""
        rows.append([stage.name, kind, shape, weights, _short(stage.format), folding, f"{cycles:,}", *_amounts(cost)])
    board = made.plan.board
    rows.append(["total", "", "", "", "", "", f"{found.interval:,}", *_amounts(found.total)])
    limits = [f"{board.lut:,}", f"{board.ff:,}", f"{2 * board.bram36:,}", f"{board.dsp:,}"]
    rows.append([board.name, "", "", "", "", "", "", *limits])
    return columns, rows


def _kind(stage: object) -> str:
    """The word for an engine."""
    from bitwright.backends.hls.stages import ForkStage, JoinStage, MeanStage, PointStage, PoolStage, SumStage

    if isinstance(stage, SumStage):
        return "dense" if stage.scan is None else "depthwise" if stage.depthwise else "conv"
    if isinstance(stage, JoinStage):
        return stage.op
    words = {PoolStage: "maxpool", MeanStage: "avgpool", PointStage: "rounding", ForkStage: "fork"}
    return next((word for kind, word in words.items() if isinstance(stage, kind)), "axi stream")


def _short(format: object) -> str:
    """A format, with its list a channel only mentioned."""
    from bitwright.backends.hls.stages import Scaled
    from bitwright.ir.formats import Affine, Canonical

    assert isinstance(format, Canonical | Affine | Scaled)
    if format.axis is not None:
        return f"{format.kind}<{format.width},{'B' if isinstance(format, Canonical) else 'scale'} per channel>"
    return str(format) if isinstance(format, Canonical) else f"{format.kind}<{format.n}>"


def _amounts(cost: object) -> list[str]:
    from bitwright.backends.hls.cost import Cost

    assert isinstance(cost, Cost)
    ranges = [f"{low:,.0f}-{high:,.0f}" for low, high in (cost.lut, cost.ff)]
    return [*ranges, f"{cost.bram18}", f"{cost.dsp}"]


def _summary(report: dict[str, object], folder: Path) -> str:
    """One line: accuracy, fit, speed."""
    before, after = report["float_accuracy"], report["accuracy"]
    accuracy = "accuracy not measured (no labelled data)"
    if isinstance(before, dict) and isinstance(after, dict):
        how = "" if after["exact"] else ", approximately"
        samples = f"{after['samples']:,} test samples"
        accuracy = f"accuracy {before['value']:.4f} -> {after['value']:.4f} on {samples}{how}"
    speed = f"{report['frames_per_second']:,.0f} frames/s at {report['clock_mhz']:g} MHz"
    interval = f"a frame every {report['interval_cycles']:,} cycles"
    return f"{accuracy}; fits {report['board']}; estimated {interval}, {speed}; written to {folder}"
