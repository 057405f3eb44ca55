"""Everything a board needs, as files of one output folder, written in whole or not at all.

src/ include/ tb/ scripts/ driver/ csim/     the accelerator, its test bench, how to build and how to drive it
model.ir model.npz                           the graph with its formats
report.json                                  what was measured and estimated
plan.toml                                    folding, fusion, storage, FIFOs: for compile --plan
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.emit import emit, integers_text, pragmas
from bitwright.backends.hls.plan import Plan
from bitwright.backends.hls.plan_file import plan_text
from bitwright.backends.hls.reasons import header_pragmas, reason
from bitwright.backends.hls.settings import Port, network_json, settings_tcl
from bitwright.backends.hls.stages import PortStage, is_integer, largest, ports_of, takes_sign
from bitwright.backends.hls.trips import estimated_trips
from bitwright.ir.errors import CompileError
from bitwright.ir.files import save
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph

HERE = Path(__file__).parent
COPIED = {
    "include/bitwright": ("include/bitwright", "*.hpp"),
    "csim": ("csim", "*.h*"),
    "scripts": ("scripts", "*.tcl"),
    "driver": ("driver", "*.py"),
}
REPORT = "report.json"
MARKS = (REPORT, "driver/network.json")  # what shows that a folder is one of ours


def write_package(
    folder: Path,
    graph: Graph,
    plan: Plan,
    name: str,
    origin: str,
    golden: Sequence[NDArray[np.int64]],
    report: Mapping[str, Any],
    clock_mhz: float,
) -> None:
    """Write the folder, replacing one that an earlier run wrote.

    golden: integers of input and output, [frames, elements] in stream order; report: what report.json says.
    Raises CompileError if the folder is something else, or cannot be written.
    """
    files = emit(plan, name, origin)
    files["tb/golden_input.txt"] = integers_text(list(golden[0]))
    files["tb/golden_output.txt"] = integers_text(list(golden[1]))
    files |= _settings(plan, files, clock_mhz)
    files["plan.toml"] = plan_text(plan, origin)
    trips = [{"stage": stage, "trips": trips} for stage, trips in estimated_trips(plan.stages)]
    report = {**report, "trips": trips, "pragmas": _pragmas(plan, name)}
    files[REPORT] = json.dumps(report, indent=2) + "\n"
    check_target(folder)
    target = folder.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=_nearest(target)) as place:
            made = Path(place) / "new"
            _write(made, files, graph)
            target.parent.mkdir(parents=True, exist_ok=True)
            _swap(made, target, Path(place) / "old")
    except OSError as error:
        raise CompileError(f"{folder} cannot be written: {error.strerror or error}") from error


def _pragmas(plan: Plan, name: str) -> list[dict[str, str]]:
    """Every pragma of the text that is written, where it stands, and why."""
    top = [{"where": "src", "pragma": line, "reason": why} for line, why in pragmas(plan, name)]
    headers = header_pragmas(plan.stages)
    return top + [{"where": where, "pragma": line, "reason": reason(line)} for where, line in headers]


def check_target(folder: Path) -> None:
    """Raise CompileError if writing to `folder` would overwrite something that is not an earlier output."""
    if folder.exists() and not folder.is_dir():
        raise CompileError(f"{folder} is a file", help="give a folder with -o")
    if folder.is_dir() and any(folder.iterdir()) and not all((folder / mark).is_file() for mark in MARKS):
        raise CompileError(f"{folder} is not empty and no output of bitwright", help="give another folder with -o")
    target = folder.resolve()
    if target in (Path.cwd(), *Path.cwd().parents):
        raise CompileError(f"{folder} is the folder you are in, or above it", help="give another folder with -o")
    nearest = _nearest(target)
    if not nearest.is_dir():
        raise CompileError(f"{folder} cannot be written: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise CompileError(f"{folder} cannot be written: no permission to write in {nearest}")


def _nearest(target: Path) -> Path:
    """The lowest folder above `target` that is there: what is written lies in it until it is complete."""
    return next(parent for parent in target.parents if parent.exists())


def _write(place: Path, files: Mapping[str, str], graph: Graph) -> None:
    for target, (source, pattern) in COPIED.items():
        (place / target).mkdir(parents=True)
        for path in sorted((HERE / source).glob(pattern)):
            shutil.copyfile(path, place / target / path.name)
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, "utf-8")
    save(graph, place / "model.ir")


def _swap(made: Path, folder: Path, old: Path) -> None:
    """Put `made` where `folder` is; what was there before goes to `old`."""
    try:
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise


def _settings(plan: Plan, files: Mapping[str, str], clock_mhz: float) -> dict[str, str]:
    source = next(path for path in files if path.startswith("src/") and path.endswith(".cpp"))
    top, ports = Path(source).stem, [_port(stage) for stage in ports_of(plan.stages)]
    board = plan.board
    settings = settings_tcl(
        top=top,
        part=board.part,
        clock_ns=1000.0 / clock_mhz,
        board=board.name,
        sources=[source],
        in_bits=ports[0].stream_bits,
        out_bits=ports[1].stream_bits,
        board_part=board.board_part,
        processor=board.processor,
    )
    network = network_json(name=top, input=ports[0], output=ports[1])
    return {"scripts/settings.tcl": settings, "driver/network.json": network}


def _port(stage: PortStage) -> Port:
    format = stage.format
    assert isinstance(format, Canonical)
    most = largest(format)
    return Port(
        stage.outside,
        stage.shape,
        int(format.step_exponents) if is_integer(format) else 0,
        -most if format.n_s else 0,
        most,
        stage.container,
        kind="sign" if takes_sign(format) else "integer" if is_integer(format) else "float32",
        order=stage.order,
        beat_bits=stage.beat_bits,
        beat_elements=stage.beat,
    )
