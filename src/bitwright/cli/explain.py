"""What `bitwright tune --explain` prints: what a bit is worth in every tensor, and the tensors' numbers as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bitwright.cli.output import console, print_table

if TYPE_CHECKING:
    from bitwright.tuner.histogram import Histogram
    from bitwright.tuner.why import Explanation, Step

LEVELS = " ▁▂▃▄▅▆▇█"
PLAIN_LEVELS = " .:-=+*#@"


def print_explanations(found: Sequence[Explanation]) -> None:
    """Two tables: why each tensor has its width, and its numbers with the damage that each width would do."""
    columns = ["tensor", "format", "lambda", "one fewer", "accuracy", "one more", "accuracy"]
    click.echo(
        "\nwhat a bit is worth (lambda: objective saved for a unit of damage; accuracies on at most 1,000 images)"
    )
    print_table([*columns, "saturated", "to zero", "numbers used", "SQNR"], [_row(one) for one in found])
    widths = sorted({point.width for one in found for point in one.curve if point.width <= 8})
    click.echo("\nnumbers (red: beyond the format), and the damage to the output of each width, the others as found")
    levels = PLAIN_LEVELS if console().options.ascii_only else LEVELS
    pictures = []
    for one in found:
        damages = {point.width: f"{point.in_context:.2g}" for point in one.curve}
        numbers = one.numbers
        cells = [damages[width] if width != one.width else f"[bold]{damages[width]}[/bold]" for width in widths]
        pictures.append([one.name, f"{numbers.low:.3g}", picture(numbers, levels), f"{numbers.high:.3g}", *cells])
    print_table(["tensor", "from", "", "to", *(f"{width} bits" for width in widths)], pictures)


def picture(numbers: Histogram, levels: str = LEVELS) -> str:
    """A character a bin, as high as its share of the fullest; runs of bins beyond the format in red."""
    most = max(numbers.counts) or 1
    parts = []
    for count, beyond in zip(numbers.counts, numbers.beyond, strict=True):
        mark = levels[-(-count * (len(levels) - 1) // most)]
        parts.append(f"[red]{mark}[/red]" if beyond and count else mark)
    return "".join(parts).replace("[/red][red]", "")


def _row(one: Explanation) -> list[str]:
    numbers = one.numbers
    head, brace, rest = one.format.partition("{")
    return [
        one.name,
        f"{head}{rest.count(',') + 1} channels>" if brace else one.format,
        "-" if one.price is None else f"{one.price:.3g}",
        *_step(one.fewer),
        *_step(one.more),
        f"{numbers.saturated:.2%}",
        f"{numbers.zeroed:.2%}",
        f"{numbers.used:,} of {numbers.codes:,}",
        "exact" if numbers.sqnr is None else f"{numbers.sqnr:.1f} dB",
    ]


def _step(step: Step | None) -> tuple[str, str]:
    if step is None:
        return "-", "-"
    return "?" if step.objective is None else f"{step.objective:+,.4g}", f"{step.accuracy:+.4f}"
