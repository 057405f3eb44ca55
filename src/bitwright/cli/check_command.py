"""bitwright check: which ops can be built, and what stands in the way."""

from __future__ import annotations

from pathlib import Path

import click

from bitwright.cli.output import json_option, print_json, print_table


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", metavar="BOARD", help="Also whether the smallest design of 8-bit numbers fits this board.")
@json_option
def command(model: Path, target: str | None, as_json: bool) -> int:
    """Say of every op of MODEL whether it can be built. Exit code 0: all can, 1: some cannot."""
    from bitwright.backends.hls.stages import SUPPORTED, stages_of, why_not
    from bitwright.compiler import PREPARE
    from bitwright.ir.errors import CompileError
    from bitwright.ir.files import load
    from bitwright.passes import run_passes

    graph = run_passes(load(model), PREPARE)
    rows = [{"name": node.name, "op": node.op, "source": node.source, "why": why_not(node)} for node in graph.nodes]
    problems = [str(row["name"]) for row in rows if row["why"]]
    verdict = None
    if not problems:
        try:
            formatted = run_passes(graph, "annotate-formats,derive-accumulators")
            stages = stages_of(formatted)
            if target is not None:
                verdict = _fit(stages, target)
        except CompileError as error:
            problems.append(graph.name)
            verdict = error.message
    if as_json:
        print_json({"supported": not problems, "ops": rows, "verdict": verdict})
        return 1 if problems else 0
    print_table(
        ["layer", "op", "from", "can be built"],
        [[str(r["name"]), str(r["op"]), str(r["source"]), f"no: {r['why']}" if r["why"] else "yes"] for r in rows],
    )
    if verdict:
        click.echo(verdict)
    if problems:
        click.echo(f"{len(problems)} of {len(rows)} cannot be built; there are engines for {SUPPORTED}")
    else:
        click.echo(f"all {len(rows)} can be built (after the passes {PREPARE})")
    return 1 if problems else 0


def _fit(stages: object, target: str) -> str:
    """What the fastest design of these stages would be. Raises CompileError if none fits."""
    from bitwright.backends.hls.board import load_board
    from bitwright.backends.hls.plan import plan

    board = load_board(target)
    found = plan(stages, board).estimate  # type: ignore[arg-type]
    speed = found.frames_per_second(board.clock_mhz)
    return f"with 8-bit numbers it fits {board.name}: estimated {speed:,.0f} frames/s at {board.clock_mhz:g} MHz"
