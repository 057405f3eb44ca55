"""The database: what it keeps, for which problem, and across processes."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from bitwright.ir.errors import CompileError
from bitwright.tuner.database import Database, Evaluation

FOUND = Evaluation("a.weight FIXED 3", "full", 0.9875, 1234.5, 1.0, 0.25, "a.weight FIXED 3")


def test_what_is_added_is_found() -> None:
    database = Database(None, "p")
    assert database.find(FOUND.candidate, "full") is None
    database.add(FOUND)
    assert database.find(FOUND.candidate, "full") == FOUND
    assert database.find(FOUND.candidate, "small") is None
    assert database.find(FOUND.candidate + " ", "full") is None


def test_small_and_full_are_kept_apart() -> None:
    database = Database(None, "p")
    small = replace(FOUND, images="small", accuracy=0.5, cost=0.1)
    database.add(FOUND)
    database.add(small)
    assert database.find(FOUND.candidate, "full") == FOUND
    assert database.find(FOUND.candidate, "small") == small


def test_the_first_measurement_stands() -> None:
    database = Database(None, "p")
    database.add(FOUND)
    database.add(replace(FOUND, accuracy=0.1))
    assert database.find(FOUND.candidate, "full") == FOUND


def test_a_cost_may_be_infinite() -> None:
    database = Database(None, "p")
    database.add(replace(FOUND, objective=math.inf))
    found = database.find(FOUND.candidate, "full")
    assert found is not None
    assert found.objective == math.inf


def test_problems_do_not_see_each_other(tmp_path: Path) -> None:
    first, second = Database(tmp_path / "a.sqlite", "p"), Database(tmp_path / "a.sqlite", "q")
    first.add(FOUND)
    assert second.find(FOUND.candidate, "full") is None
    second.add(replace(FOUND, accuracy=0.2))
    second.forget()
    assert second.find(FOUND.candidate, "full") is None
    assert first.find(FOUND.candidate, "full") == FOUND


def test_every_row_is_committed_at_once(tmp_path: Path) -> None:
    """Another process sees it while this one still has the file open."""
    writer = Database(tmp_path / "a.sqlite", "p")
    for number in range(3):
        writer.add(replace(FOUND, candidate=f"c{number}"))
        with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite")) as reader:
            assert reader.execute("select count(*) from evaluations").fetchone() == (number + 1,)
    reopened = Database(tmp_path / "a.sqlite", "p")
    assert reopened.find("c2", "full") == replace(FOUND, candidate="c2")
    assert Database(tmp_path / "a.sqlite", "p2").find("c2", "full") is None


def test_rows_have_the_order_of_their_measurement(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite", "p")
    for number in (5, 1, 3):
        database.add(replace(FOUND, candidate=f"c{number}", objective=number))
    rows = database.connection.execute("select objective from evaluations order by ordinal").fetchall()
    assert rows == [(5,), (1,), (3,)]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_text("this is a text, and no database at all" * 100)
    for path in (tmp_path / "a.sqlite", tmp_path, tmp_path / "missing" / "a.sqlite"):
        with pytest.raises(CompileError, match="cannot be used as a database") as caught:
            Database(path, "p")
        assert str(path) in caught.value.message
