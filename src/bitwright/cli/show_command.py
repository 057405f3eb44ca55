"""bitwright show: a network as text."""

from __future__ import annotations

from pathlib import Path

import click

from bitwright.cli.files import model_file
from bitwright.cli.output import json_option, print_json


@click.command("show")
@click.argument("model", type=click.Path(path_type=Path))
@json_option
def command(model: Path, as_json: bool) -> None:
    """Print MODEL (.onnx, .ir, or an output folder) as text."""
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
