"""docs/estimate.md says what benchmarks/estimate.py finds, and the laws of cycles meet their targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark(load_file: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load_file("estimate_benchmark", ROOT / "benchmarks" / "estimate.py")


def test_the_table_in_the_docs_is_what_the_script_prints(benchmark: ModuleType) -> None:
    text = (ROOT / "docs" / "estimate.md").read_text("utf-8")
    rows = [row for design in benchmark.DESIGNS.values() for row in design()]
    lines = ["| " + " | ".join(benchmark.cells(row)) + " |" for row in rows]
    assert [line for line in lines if line not in text] == []
    assert f"{sum(row.good for row in rows)} of {len(rows)} figures" in text


def test_modules_are_within_5_percent_in_cycles(benchmark: ModuleType) -> None:
    rows = [row for design in benchmark.DESIGNS.values() for row in design() if row.figure == "cycles"]
    assert len(rows) == 12
    assert all(abs(row.estimated - row.real) <= 0.05 * row.real for row in rows)
