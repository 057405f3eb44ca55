"""What a search leaves in its folder.

opt_conf.txt   the formats, as libnumber's configuration file has them
tuned.ir, tuned.npz   the network in these formats, with the weights and biases that the search found (not in the
               portable mode); `bitwright compile` and `bitwright score` take it
trace.csv      every measurement in order;  trace.png: accuracy and objective by iteration, as the paper's Figure 7
front.csv      the measured candidates that nothing beats in both
report.json    the result, and the command that gives it again
tune.sqlite    the accuracies, from which `--resume` goes on
"""

from __future__ import annotations

import csv
import importlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bitwright.ir.errors import CompileError
from bitwright.ir.files import save
from bitwright.tuner.database import Evaluation
from bitwright.tuner.problem import pareto
from bitwright.tuner.tune import Tuned

DATABASE = "tune.sqlite"
COLUMNS = ("iteration", "images", "accuracy", "objective", "cost", "seconds", "formats")


def check_folder(folder: Path) -> None:
    """Raise CompileError if outputs would lie among files that are none of an earlier search."""
    if folder.exists() and not folder.is_dir():
        raise CompileError(f"{folder} is a file", help="give a folder with -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DATABASE).is_file():
        raise CompileError(f"{folder} is not empty and no output of bitwright tune", help="give another folder with -o")


def write(found: Tuned, folder: Path, command: str) -> list[str]:
    """Write everything but the database; the notes are what could not be, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "opt_conf.txt", found.candidate.text + "\n")
    if found.graph is not None:
        save(found.graph, folder / "tuned.ir")
    _table(folder / "trace.csv", found.trace)
    _table(folder / "front.csv", pareto(row for row in found.trace if row.images == "full"))
    _write(folder / "report.json", json.dumps(report(found, command), indent=2) + "\n")
    return _plot(found, folder / "trace.png")


def report(found: Tuned, command: str) -> dict[str, Any]:
    """The result as plain data."""
    held_out = found.held_out
    return {
        "command": command,
        "complete": found.complete,
        "objective": _finite(found.cost),
        "float_objective": _finite(found.float_cost),
        "space": found.problem.space.size,
        "search": {
            "accuracy": found.accuracy,
            "float_accuracy": found.reference,
            "least": found.least,
            "images": found.problem.judge.images,
        },
        "held_out": None
        if held_out is None
        else {
            "accuracy": held_out.accuracy,
            "float_accuracy": held_out.float_accuracy,
            "images": held_out.images,
            "interval": list(held_out.interval),
        },
        "measurements": len(found.trace),
        "full_set_equivalents": round(found.spent, 3),
        "seconds": round(found.seconds, 3),
        "channels": {name: {"left": left, "of": of} for name, (left, of) in found.channels.items()},
        "groups": {name: dict(parts) for name, parts in found.groups.items()},
        "formats": {name: str(format) for name, format in sorted(found.candidate.formats.items())},
    }


def _finite(cost: float) -> float | None:
    """JSON has no infinity, which is what formats cost that cannot be built."""
    return cost if math.isfinite(cost) else None


def _table(path: Path, rows: Iterable[Evaluation]) -> None:
    part = path.with_suffix(".part")
    with part.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for number, row in enumerate(rows, 1):
            cells = (row.images, row.accuracy, row.objective, row.cost, round(row.seconds, 6))
            writer.writerow([number, *cells, row.formats.replace("\n", "; ")])
    part.replace(path)


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def _plot(found: Tuned, path: Path) -> list[str]:
    """The trace as a picture, if matplotlib is there."""
    try:
        figure_module = importlib.import_module("matplotlib.figure")
    except ImportError:
        return ["no trace.png: it needs matplotlib (pip install 'bitwright[report]')"]
    figure = figure_module.Figure(figsize=(9, 5), layout="constrained")
    accuracy, objective = figure.subplots(2, 1, sharex=True)
    numbered = list(enumerate(found.trace, 1))
    for kind, marker in (("full", "o"), ("small", "."), ("part", ".")):
        own = [
            (i, e) for i, e in numbered if e.images == kind or (kind == "part" and e.images not in ("full", "small"))
        ]
        if own:
            accuracy.plot([i for i, _ in own], [e.accuracy for _, e in own], marker, label=f"{kind} set", markersize=4)
    accuracy.axhline(found.least, color="grey", linewidth=1, label="least accuracy (full set)")
    accuracy.set_ylabel("accuracy")
    accuracy.legend(loc="lower right")
    objective.step([i for i, _ in numbered], [e.objective for _, e in numbered], where="mid")
    objective.set_ylabel("objective")
    if all(0 < e.objective < math.inf for _, e in numbered):
        objective.set_yscale("log")
    objective.set_xlabel("iteration")
    part = path.with_suffix(".part")
    figure.savefig(part, format="png", dpi=120)
    part.replace(path)
    return []
