"""bitwright diff: the structural difference of two networks."""

from __future__ import annotations

from pathlib import Path

import click

from bitwright.cli.files import model_file
from bitwright.cli.output import json_option, print_json


@click.command("diff")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@json_option
def command(a: Path, b: Path, as_json: bool) -> int:
    """Compare networks A and B (.onnx, .ir, or output folders) by structure, not by names or order.

    Exit code 0: the same, 1: different.
    """
    from bitwright.ir.diff import diff
    from bitwright.ir.files import load

    changes = diff(load(model_file(a)), load(model_file(b)))
    if as_json:
        print_json({"same": not changes, "changes": changes.splitlines()})
    else:
        for line in changes.splitlines():
            click.secho(line, fg="red" if line.startswith("-") else "green")
    return 1 if changes else 0
