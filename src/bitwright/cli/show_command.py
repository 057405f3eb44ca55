"""bitwright show: a network as text, or the plan of an output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bitwright.cli.files import model_file, report_of
from bitwright.cli.output import json_option, print_json, print_table


@click.command("show")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--plan", is_flag=True, help="The plan of an output folder: foldings, FIFOs, and why each pragma is there."
)
@json_option
def command(model: Path, plan: bool, as_json: bool) -> None:
    """Print MODEL (.onnx, .ir, or an output folder) as text."""
    if plan:
        _show_plan(model, as_json)
        return
    from bitwright.ir.files import load
    from bitwright.ir.text import to_text

    graph = load(model_file(model))
    if not as_json:
        click.echo(to_text(graph), nl=False)
        return
    nodes = [
        {"name": node.name, "op": node.op, "operands": [v.name if v else None for v in node.operands]}
        | {"types": [str(result.type) for result in node.results]}
        for node in graph.nodes
    ]
    inputs = {graph.input_name(value): str(value.type) for value in graph.inputs}
    outputs = {output.name: str(output.value.type) for output in graph.outputs}
    print_json({"name": graph.name, "inputs": inputs, "outputs": outputs, "nodes": nodes})


def _show_plan(folder: Path, as_json: bool) -> None:
    """Per layer folding, cycles, resources and FIFO depths; then every pragma with its reason."""
    report = report_of(folder, "layers", "pragmas")
    if as_json:
        print_json({key: report[key] for key in ("board", "interval_cycles", "bottleneck", "layers", "pragmas")})
        return
    columns = ["layer", "folding", "cycles", "LUT", "FF", "BRAM18", "DSP", "FIFO"]
    print_table(columns, [_row(layer) for layer in report["layers"]])
    for layer in report["layers"]:
        for why in filter(None, (layer["pixels_reason"], layer["multipliers_reason"])):
            click.echo(f"%{layer['name']}: {why}")
    click.echo(report["bottleneck"])
    click.echo()
    rows = [[entry["where"], entry["pragma"], entry["reason"]] for entry in report["pragmas"]]
    print_table(["where", "pragma", "reason"], rows)


def _row(layer: dict[str, Any]) -> list[str]:
    folding = f"pe {layer['pe']} simd {layer['simd']}" if layer["pe"] else ""
    folding += f" pixels {layer['pixels']}" if (layer["pixels"] or 1) > 1 else ""
    ranges = [f"{layer[key][0]:,.0f}-{layer[key][1]:,.0f}" for key in ("lut", "ff")]
    blocks = [f"{layer['cycles']:,}", *ranges, f"{layer['bram18']}", f"{layer['dsp']}"]
    return [layer["name"], folding, *blocks, " ".join(map(str, layer["fifo"]))]
