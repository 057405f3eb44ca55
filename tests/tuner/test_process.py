"""Command lines of the user's: what they print, how they end, and that an interrupt leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.tuner.process import how_it_ended, last_line, run

SRC = Path(__file__).parents[2] / "src"
INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bitwright.tuner.process import run
run("sleep 50 & echo $! > child; sleep 50", Path.cwd(), 60)
"""


def test_output_and_errors_are_kept_apart(tmp_path: Path) -> None:
    done = run("pwd; echo wrong >&2; cat; exit 7", tmp_path, 10)
    assert (done.status, done.output, done.errors) == (7, f"{tmp_path}\n", "wrong\n")


def test_much_output_holds_nothing_up(tmp_path: Path) -> None:
    done = run("seq 200000; seq 200000 >&2", tmp_path, 20)
    assert done.status == 0
    assert done.output == done.errors
    assert last_line(done.output) == "200000"


def test_time_runs_out(tmp_path: Path) -> None:
    assert run("trap '' TERM INT; sleep 30", tmp_path, 0.1).status is None


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run("true", tmp_path / "missing", 1)


def test_an_interrupt_stops_what_was_started(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(SRC)],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's job may ignore it
    )
    child = tmp_path / "child"
    _wait_until(lambda: child.exists() and child.read_text().endswith("\n"))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) != 0
    _wait_until(lambda: not _runs(int(child.read_text())))


def _wait_until(so: Callable[[], bool]) -> None:
    for _ in range(400):
        if so():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def _runs(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "was still running when its time was over"),
        (-9, "was killed by SIGKILL"),
        (-63, "was killed by signal 63"),
        (126, "cannot be executed"),
        (127, "was not found"),
        (137, "ended with exit status 137"),
    ],
)
def test_ends_in_words(status: int | None, words: str) -> None:
    assert how_it_ended(status) == words


@given(st.text())
def test_the_last_line_is_one_short_line(text: str) -> None:
    line = last_line(text)
    assert len(line) <= 200
    assert line.isprintable()
    assert bool(line.strip()) <= bool(text.strip())
