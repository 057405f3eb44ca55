"""bitwright report: an output folder's figures, with those of a real synthesis in place of estimates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitwright.cli.files import report_of
from bitwright.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from bitwright.backends.hls.csynth import Synthesis


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--csynth", type=click.Path(path_type=Path), help="A csynth.xml: its numbers replace the estimates.")
@json_option
def command(folder: Path, csynth: Path | None, as_json: bool) -> None:
    """Print the figures of output FOLDER; with --csynth those of a synthesis, beside the estimates."""
    report = {key: value for key, value in report_of(folder, "layers").items() if key != "pragmas"}
    found = None if csynth is None else _read(csynth, folder)
    rows = _rows(report, found)
    if found is not None:
        _replace(report, found, str(csynth))
    if as_json:
        print_json(report)
        return
    print_table(["figure", "estimate", "synthesis", "estimate / synthesis"], rows)
    if found is not None:
        print_table(
            ["module", "cycles", "interval", "LUT", "FF", "BRAM18", "DSP"],
            [
                [m.name, _said(m.latency), _said(m.interval), *(f"{m.resources[key]:,}" for key in _AMOUNTS)]
                for m in found.modules
            ],
        )
    source = "estimated" if found is None else f"synthesised by HLS {found.version} for {found.part}"
    click.echo(
        f"{report['network']}: {report['frames_per_second']:,.0f} frames/s at {report['clock_mhz']:g} MHz, {source}"
    )


_AMOUNTS = ("lut", "ff", "bram18", "dsp")


def _read(path: Path, folder: Path) -> Synthesis:
    from bitwright.backends.hls.csim import read_network
    from bitwright.backends.hls.csynth import read_csynth
    from bitwright.ir.errors import CompileError

    found, name = read_csynth(path), read_network(folder)["name"]
    if found.top.name != name:
        raise CompileError(f"{path} is the report of {found.top.name!r}, not of {name!r}, which {folder} holds")
    return found


def _rows(report: dict[str, Any], found: Synthesis | None) -> list[list[str]]:
    """Figure, estimate, synthesis and their ratio."""
    rows = []
    top = None if found is None else found.top
    cycles = {"interval_cycles": top.interval if top else None, "latency_cycles": top.latency if top else None}
    for key, real in cycles.items():
        rows.append([key, f"{report[key]:,}", _said(real), f"{report[key] / real:.2f}" if real else ""])
    for key in _AMOUNTS:
        given, real = report["resources"][key], top.resources[key] if top else None
        low, high = given if isinstance(given, list) else (given, given)
        text = f"{low:,.0f}" if low == high else f"{low:,.0f}-{high:,.0f}"
        ratio = "-".join(f"{end / real:.2f}" for end in dict.fromkeys((low, high))) if real else ""
        rows.append([key.upper(), text, _said(real), ratio if real else ""])
    return rows


def _replace(report: dict[str, Any], found: Synthesis, source: str) -> None:
    """The numbers of the synthesis in place of the estimates; what it does not say stays estimated."""
    report["resources"] |= {key: found.top.resources[key] for key in _AMOUNTS}
    if found.top.latency is not None:
        report["latency_cycles"] = found.top.latency
    if found.top.interval is not None:
        report["interval_cycles"] = found.top.interval
        report["frames_per_second"] = report["clock_mhz"] * 1e6 / found.top.interval
    report["synthesis"] = {
        "file": source,
        "version": found.version,
        "part": found.part,
        "target_ns": found.target_ns,
        "estimated_ns": found.estimated_ns,
    }


def _said(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
