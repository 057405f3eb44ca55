"""Every accuracy that was measured, in SQLite: what a killed search starts again from.

A search is a function of the accuracies it asks for. Started again, it asks for the same ones in the same order, is
answered from here as far as it had come, and ends as if it had never stopped. Each row is committed when it is
measured, so that a process may be killed at any moment.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from bitwright.ir.errors import CompileError

SCHEMA = """
create table if not exists evaluations (
    ordinal integer primary key,
    problem text not null,
    candidate text not null,
    images text not null,
    accuracy real not null,
    objective real not null,
    cost real not null,
    seconds real not null,
    formats text not null,
    unique (problem, candidate, images)
)
"""


@dataclass(frozen=True)
class Evaluation:
    """One accuracy: of which formats (as configuration text), on which images, at what cost.

    cost: in full-set equivalents; seconds: of wall time.
    """

    candidate: str
    images: str
    accuracy: float
    objective: float
    cost: float
    seconds: float
    formats: str


class Database:
    """The evaluations of one problem in a file, or in memory alone."""

    def __init__(self, path: Path | None, problem: str) -> None:
        self.problem = hashlib.sha256(problem.encode()).hexdigest()[:16]
        try:
            self.connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=30)
            self.connection.execute("pragma journal_mode = wal")
            self.connection.execute(SCHEMA)
        except sqlite3.Error as error:
            raise CompileError(f"{path} cannot be used as a database: {error}", help="give another folder") from error

    def find(self, candidate: str, images: str) -> Evaluation | None:
        row = self.connection.execute(
            "select candidate, images, accuracy, objective, cost, seconds, formats from evaluations"
            " where problem = ? and candidate = ? and images = ?",
            (self.problem, _digest(candidate), images),
        ).fetchone()
        return None if row is None else Evaluation(candidate, *row[1:])

    def add(self, found: Evaluation) -> None:
        self.connection.execute(
            "insert or ignore into evaluations"
            " (problem, candidate, images, accuracy, objective, cost, seconds, formats)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self.problem,
                _digest(found.candidate),
                found.images,
                found.accuracy,
                found.objective,
                found.cost,
                found.seconds,
                found.formats,
            ),
        )

    def forget(self) -> None:
        """Remove the evaluations of this problem."""
        self.connection.execute("delete from evaluations where problem = ?", (self.problem,))

    def close(self) -> None:
        self.connection.close()


def _digest(candidate: str) -> str:
    return hashlib.sha256(candidate.encode()).hexdigest()
