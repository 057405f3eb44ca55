"""Files of the command line: where a model lies, and results that are written in whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bitwright.ir.errors import CompileError


def model_file(path: Path) -> Path:
    """The file to load: the model.ir of an output folder, or the path itself."""
    if not path.is_dir():
        return path
    if not (path / "model.ir").is_file():
        raise CompileError(f"{path} is a folder without a model.ir", help="give an .onnx or .ir file")
    return path / "model.ir"


def report_of(folder: Path, *lists: str) -> dict[str, Any]:
    """report.json of an output folder, with these lists. Raises CompileError if it is not as compile writes it."""
    path = folder / "report.json"
    if not path.is_file():
        raise CompileError(f"{folder} is no output folder of bitwright compile (it has no report.json)")
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except ValueError as error:  # of the text or of its encoding
        raise CompileError(f"{path} is not a JSON file", help="compile the network again") from error
    if not isinstance(found, dict):
        raise CompileError(f"{path} holds no report", help="compile the network again")
    for name in lists:
        if not isinstance(found.get(name), list):
            raise CompileError(f"{path} has no {name}", help="compile again: an older version wrote it")
    return found


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to in place of `path`: what lies there and beside it afterwards is moved, `path` last."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as place:
            yield Path(place) / path.name
            for made in sorted(Path(place).iterdir(), key=lambda made: made.name == path.name):
                made.replace(path.with_name(made.name))
    except OSError as error:
        raise CompileError(f"{path} cannot be written: {error.strerror or error}") from error
