"""bitwright check: which ops can be built, and what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bitwright.cli.files import model_file
from bitwright.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from bitwright.backends.hls.board import Board
    from bitwright.backends.hls.stages import Stage


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", metavar="BOARD", help="Also whether the smallest design of 8-bit numbers fits this board.")
@json_option
def command(model: Path, target: str | None, as_json: bool) -> int:
    """Say of every op of MODEL whether it can be built, and whether it fits. Exit code 0: yes, 1: no."""
    from bitwright.backends.hls.board import load_board
    from bitwright.backends.hls.stages import SUPPORTED, stages_of, why_not
    from bitwright.compiler import check_weights
    from bitwright.ir.errors import CompileError
    from bitwright.ir.files import load
    from bitwright.passes import run_passes
    from bitwright.tuning import PREPARE

    board = None if target is None else load_board(target)
    graph = run_passes(load(model_file(model)), PREPARE)
    rows = [{"name": node.name, "op": node.op, "source": node.source, "why": why_not(node)} for node in graph.nodes]
    problems = sum(row["why"] is not None for row in rows)
    possible, verdict = not problems, ""
    if possible:
        check_weights(graph)
        formatted = run_passes(graph, "annotate-formats,derive-accumulators")
        try:
            stages = stages_of(formatted)
            verdict = "" if board is None else _fit(stages, board)
        except CompileError as error:
            possible, verdict = False, str(error)
    if as_json:
        print_json({"possible": possible, "ops": rows, "verdict": verdict})
        return 0 if possible else 1
    print_table(
        ["layer", "op", "from", "can be built"],
        [[str(r["name"]), str(r["op"]), str(r["source"]), f"no: {r['why']}" if r["why"] else "yes"] for r in rows],
    )
    if verdict:
        click.echo(verdict)
    if problems:
        click.echo(f"{problems} of {len(rows)} cannot be built; there are engines for {SUPPORTED}")
    elif possible:
        click.echo(f"all {len(rows)} can be built (after the passes {PREPARE})")
    return 0 if possible else 1


def _fit(stages: Sequence[Stage], board: Board) -> str:
    """What the fastest design of these stages would be. Raises CompileError if none fits."""
    from bitwright.backends.hls.plan import plan

    found = plan(stages, board).estimate
    speed = found.frames_per_second(board.clock_mhz)
    return f"with 8-bit numbers it fits {board.name}: estimated {speed:,.0f} frames/s at {board.clock_mhz:g} MHz"
