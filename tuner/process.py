"""A command line of the user's, run to its end or to the end of its time, and nothing of it left running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True)
class Finished:
    """status: the shell's exit status, -N after signal N, None if the time ran out; output, errors: what it printed."""

    status: int | None
    output: str
    errors: str


def run(command: str, folder: Path, seconds: float) -> Finished:
    """Run a command line by the shell in a folder, for at most so many seconds.

    The command has a process group of its own, and whatever is left of that is killed at the end, or if this is
    interrupted. It prints into files rather than pipes, so that a child that lives on holds nothing up. Raises OSError
    if there is no such folder.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        status: int | None = None
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # of a group that is gone, or a zombie's
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return Finished(status, _text(output), _text(errors))


def how_it_ended(status: int | None) -> str:
    """A status in words."""
    if status is None:
        return "was still running when its time was over"
    if status < 0:
        names = {one.value: one.name for one in signal.Signals}
        return f"was killed by {names.get(-status, f'signal {-status}')}"
    return {126: "cannot be executed", 127: "was not found"}.get(status, f"ended with exit status {status}")


def last_line(text: str) -> str:
    """The last line that is not empty, shortened to a line of a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = "".join(c if c.isprintable() else " " for c in lines[-1]) if lines else ""
    return line if len(line) <= 200 else line[:197] + "..."


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
