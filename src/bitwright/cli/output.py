"""How results are shown: tables and one line for a person, --json for a program, progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

_NUMBERS = ("cycles", "LUT", "FF", "BRAM18", "DSP", "values", "differ", "saturated", "counted", "estimated")


def console() -> Console:
    """Standard output; as wide as the terminal, or 150 columns where there is none."""
    width = None if sys.stdout.isatty() else 150
    return Console(width=width, highlight=False, soft_wrap=False)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table; columns of numbers are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column in _NUMBERS
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in rows:
        table.add_row(*row)
    console().print(table)


@contextmanager
def progress(silent: bool) -> Iterator[Any]:
    """A function that says what is being done, on standard error; nothing if `silent` or no terminal reads it."""
    if silent or not sys.stderr.isatty():
        yield lambda message: None
        return
    with Console(stderr=True).status("starting") as status:
        yield status.update
