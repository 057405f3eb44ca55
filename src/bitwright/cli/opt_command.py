"""bitwright opt: run passes on a network."""

from __future__ import annotations

from pathlib import Path

import click

from bitwright.cli.files import model_file, whole
from bitwright.cli.output import progress


@click.command("opt")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--passes", required=True, metavar="P", help='The pipeline, such as "normalise,fuse-pooling{only=conv1}".'
)
@click.option("--data", metavar="D", help="Calibration data, for passes that measure.")
@click.option("--print-diff", is_flag=True, help="Print what each pass changed, and its time.")
@click.option(
    "--dump-after", metavar="FOLDER", type=click.Path(path_type=Path), help="Write the graph after each pass."
)
@click.option(
    "--as",
    "style",
    type=click.Choice(["qdq", "qonnx", "fake-quant"]),
    help="Write formats as quantiser nodes: ONNX's, QONNX's, or plain float ops (default: as metadata).",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write an .onnx or .ir file instead of printing.")
def command(
    model: Path,
    passes: str,
    data: str | None,
    print_diff: bool,
    dump_after: Path | None,
    style: str | None,
    output: Path | None,
) -> None:
    """Run passes on MODEL and print or write the result."""
    from bitwright.backends.simulation.export import save_fake_quant
    from bitwright.ir.diff import diff
    from bitwright.ir.errors import CompileError
    from bitwright.ir.files import load, save
    from bitwright.ir.onnx.explicit import with_quantizers
    from bitwright.ir.text import to_text
    from bitwright.passes import Context, Step, run_passes

    if output is not None and output.suffix not in (".onnx", ".ir"):
        raise CompileError(f"{output}: a graph is saved as .onnx or .ir")
    if style is not None and (output is None or output.suffix != ".onnx"):
        raise CompileError(f"--as {style} writes an .onnx file", help="give one with -o")
    graph = load(model_file(model))
    context = Context()
    if data is not None:
        from bitwright.compiler import calibration
        from bitwright.models.datasets import load as load_data

        context = calibration(graph, load_data(data, "train"))
    steps: list[Step] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if print_diff and step.before is not None:
            click.echo(f"// {step.ran} ({step.seconds * 1e3:.1f} ms)", err=True)
            click.echo(diff(step.before, step.after), nl=False, err=True)
        if dump_after is not None:
            dump_after.mkdir(parents=True, exist_ok=True)
            (dump_after / f"{len(steps):02}-{step.ran.name}.ir").write_text(to_text(step.after), "utf-8")

    with progress(silent=print_diff) as say:
        say("running passes")
        result = run_passes(graph, passes, context, on_step, keep_before=print_diff)
    for note in context.notes:
        click.echo(f"note: {note}", err=True)
    if output is None:
        click.echo(to_text(result), nl=False)
    else:
        with whole(output) as path:
            if style == "fake-quant":
                save_fake_quant(result, path)
            else:
                save(result if style is None else with_quantizers(result, "qdq" if style == "qdq" else "qonnx"), path)
