"""Every file in tests/golden is a test: a pipeline, the graph before, and the graph it becomes.

    // passes: fuse-activations          then remarks, if any
    graph @g { ... }
    // becomes
    graph @g { ... }                     written by `pytest --update-golden`

Both graphs are also evaluated on the same random inputs, and must agree to the relative error that a line
`// within: 0.05` allows (default 1e-5; `order` compares only which scores are higher, `anything` nothing).
`// samples: 8` calibrates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bitwright.ir.diff import diff
from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.ir.text import to_text
from bitwright.ir.verify import verify
from bitwright.passes import Context, parse_pipeline, run_passes
from bitwright.passes.table import PASSES

FOLDER = Path(__file__).parent.parent / "golden"
CASES = sorted(path.stem for path in FOLDER.glob("*.ir"))
BECOMES = "// becomes\n"
BATCH = 3


@dataclass(frozen=True)
class Case:
    """One file: its parts, and the values of its `// key: value` lines."""

    path: Path
    before: str
    after: str

    @classmethod
    def read(cls, name: str) -> Case:
        path = FOLDER / f"{name}.ir"
        before, _, after = path.read_text().partition(BECOMES)
        return cls(path, before, after)

    def line(self, key: str, default: str | None = None) -> str:
        found = re.search(rf"^// {key}: (.*)$", self.before, re.MULTILINE)
        assert found or default is not None, f"{self.path.name} lacks a line // {key}:"
        return found[1] if found else str(default)


def random_inputs(graph: Graph, count: int, seed: int) -> dict[str, Array]:
    """Inputs without a default value; an open or single first dimension takes `count` samples if all can."""
    random = np.random.default_rng(seed)
    made = {}
    for value in graph.inputs:
        if value.tensor is None:
            shape = [dim if isinstance(dim, int) else count for dim in value.tensor_type.shape or ()]
            numbers = random.uniform(-1, 1, shape) * 3
            made[graph.input_name(value)] = numbers.astype(value.tensor_type.dtype)
    return made


def assert_agree(ours: Array, theirs: Array, within: str, name: str) -> None:
    assert ours.shape == theirs.shape, name
    if within == "order":
        assert np.array_equal(ours.argsort(-1), theirs.argsort(-1)), name
        return
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    scale = np.abs(ours).max(initial=1e-6)
    assert np.isfinite(theirs).all(), name
    assert np.abs(ours - theirs).max(initial=0) <= float(within) * scale, name


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, update_golden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    case = Case.read(name)
    before = parse(case.before, file=case.path.name)
    verify(before)
    kept = to_text(before)
    samples = case.line("samples", "")
    context = Context(random_inputs(before, int(samples), 0) if samples else None)
    after = run_passes(before, case.line("passes"), context)
    verify(after)
    assert to_text(before) == kept, "the passes changed the graph they were given"
    if update_golden:
        case.path.write_text(case.before + BECOMES + to_text(after))
    else:
        assert to_text(after) == case.after
        assert diff(parse(case.after), after) == ""
    for seed in range(0 if case.line("within", "1e-5") == "anything" else 3):
        inputs = random_inputs(before, BATCH, seed)
        ours, theirs = evaluate(before, inputs), evaluate(after, inputs)
        assert ours.keys() == theirs.keys()
        for output in ours:
            assert_agree(ours[output], theirs[output], case.line("within", "1e-5"), output)


@pytest.mark.parametrize("name", [name for name in CASES if not re.search("formats|pruned|split", name)])
def test_a_second_run_changes_nothing(name: str) -> None:
    """What a structure pass leaves, it leaves alone, and says so; formats are chosen anew, more is pruned and split."""
    case = Case.read(name)
    pipeline = case.line("passes")
    graph = run_passes(parse(case.before), pipeline)
    said: list[bool] = []
    again = run_passes(graph, pipeline, on_step=lambda step: said.append(step.changed))
    assert to_text(again) == to_text(graph)
    assert not any(said)


def test_every_pass_has_a_case() -> None:
    used = {made.name for name in CASES for made in parse_pipeline(Case.read(name).line("passes"))}
    assert used == set(PASSES)


@pytest.mark.parametrize(
    ("within", "theirs", "fits"),
    [
        ("1e-5", [1.0, 2.0, 4.0], True),
        ("1e-5", [1.0, 2.0, 4.001], False),
        ("1e-5", [1.0, 2.0, np.nan], False),
        ("0.1", [1.0, 2.3, 4.0], True),
        ("order", [0.1, 0.2, 0.7], True),
        ("order", [0.2, 0.1, 0.7], False),
    ],
)
def test_the_comparison_can_fail(within: str, theirs: list[float], fits: bool) -> None:
    compare: Callable[[], None] = lambda: assert_agree(np.array([1.0, 2.0, 4.0]), np.array(theirs), within, "y")  # noqa: E731
    if fits:
        compare()
    else:
        with pytest.raises(AssertionError):
            compare()
