"""How far a training has come, in a file that is there in whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]

from bitwright.ir.errors import CompileError


def write(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Replace the file by one of this state; identity: of what is trained, on what and how."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        torch.save({"identity": identity, "state": state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def read(path: Path, identity: str) -> dict[str, Any] | None:
    """The state in the file, or None if there is no file.

    Raises CompileError if the file is none of ours or is of another training.
    """
    if not path.exists():
        return None
    way_out = "leave --resume out to start from the beginning"
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CompileError(f"{path}: not a checkpoint, or damaged", help=way_out) from error
    if not isinstance(found, dict) or found.get("identity") != identity:
        raise CompileError(f"{path} is of another network, other data or other settings", help=way_out)
    state: dict[str, Any] = found["state"]
    return state
