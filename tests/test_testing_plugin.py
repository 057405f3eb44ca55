"""The pytest plug-in: graphs compared by structure, golden graphs and texts, in a pytest of their own."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from bitwright.ir.files import save
from bitwright.ir.onnx.read import from_model
from bitwright.ir.onnx.write import to_model
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text
from bitwright.testing import as_graph, assert_same_graph

pytest_plugins = ["pytester"]

TEXT = """graph @g {
  opset ai.onnx=17
  input %x : f32[1,4]
  weight %w = 00000001 : f32[4,4]
  %fc = dense(%x, %w) : f32[1,4]
  %relu = relu(%fc) : f32[1,4]
  output %relu as "y"
}
"""
OTHER = TEXT.replace("relu(", "hardswish(")

HEADER = f"""
from pathlib import Path
from bitwright.ir.parse import parse
from bitwright.testing import assert_same_graph

TEXT = {TEXT!r}
OTHER = {OTHER!r}
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with a test file of its own; pytest runs in this process with the plug-in that is installed."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")
    return pytester


def make(inner: pytest.Pytester, body: str) -> None:
    inner.makepyfile(test_inner=HEADER + body)


def test_equal_graphs_pass(inner: pytest.Pytester) -> None:
    make(
        inner,
        """
def test_renamed():
    assert_same_graph(parse(TEXT), parse(TEXT.replace("%fc", "%other").replace("%w", "%weights")))
""",
    )
    inner.runpytest_inprocess().assert_outcomes(passed=1)


def test_graphs_that_differ_fail_with_the_lines_that_differ(inner: pytest.Pytester) -> None:
    make(
        inner,
        """
def test_changed():
    assert_same_graph(parse(OTHER), parse(TEXT))
""",
    )
    result = inner.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "the graphs differ (- expected, + actual):",
            "- %relu = relu(%fc) : f32?1,4?",
            "+ %relu = hardswish(%fc) : f32?1,4?",
        ],
        consecutive=True,
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*testing.py*")


def test_everything_that_holds_a_graph_is_compared(tmp_path: Path) -> None:
    model = to_model(parse(TEXT))
    graph = from_model(model)
    onnx.save(model, tmp_path / "g.onnx")
    save(graph, tmp_path / "g.ir")
    (tmp_path / "text-alone.ir").write_text(to_text(graph))
    forms = [graph, model, tmp_path / "g.onnx", str(tmp_path / "g.onnx"), tmp_path / "g.ir", tmp_path / "text-alone.ir"]
    for actual in forms:
        for expected in forms:
            assert_same_graph(actual, expected)
    assert as_graph(graph) is graph
    with pytest.raises(pytest.fail.Exception, match=r"\+ %y = hardswish"):
        assert_same_graph(to_model(parse(OTHER)), model)


GOLDEN = """
def test_golden(golden_graph):
    golden_graph(parse(TEXT), "case")
"""


def test_a_golden_graph_that_is_missing_says_how_it_is_made(inner: pytest.Pytester) -> None:
    make(inner, GOLDEN)
    result = inner.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"there is no golden file {inner.path}/golden/case.ir; run pytest --update-golden"])
    assert not (inner.path / "golden").exists()


def test_a_golden_graph_is_written_and_then_compared(inner: pytest.Pytester) -> None:
    make(inner, GOLDEN)
    inner.runpytest_inprocess("--update-golden").assert_outcomes(passed=1)
    assert (inner.path / "golden" / "case.ir").read_text() == TEXT
    inner.runpytest_inprocess().assert_outcomes(passed=1)
    (inner.path / "golden" / "case.ir").write_text(OTHER)
    result = inner.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["- %relu = hardswish(%fc) : f32?1,4?", "+ %relu = relu(%fc) : f32?1,4?"])
    inner.runpytest_inprocess("--update-golden").assert_outcomes(passed=1)
    assert (inner.path / "golden" / "case.ir").read_text() == TEXT


def test_names_and_order_of_a_golden_graph_do_not_count(inner: pytest.Pytester) -> None:
    make(inner, GOLDEN)
    (inner.path / "golden").mkdir()
    (inner.path / "golden" / "case.ir").write_text(TEXT.replace("%fc", "%sum"))
    inner.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_golden_file_that_is_no_graph_is_an_error_with_its_place(inner: pytest.Pytester) -> None:
    make(inner, GOLDEN)
    (inner.path / "golden").mkdir()
    (inner.path / "golden" / "case.ir").write_text(TEXT.replace("dense(", "dense<"))
    result = inner.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*golden/case.ir:5:*"])


def test_golden_texts(inner: pytest.Pytester) -> None:
    make(
        inner,
        """
def test_text(golden_text):
    golden_text("one\\n\\u00e9two\\n", "notes.txt")
""",
    )
    path = inner.path / "golden" / "notes.txt"
    result = inner.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"there is no golden file {path}; run pytest --update-golden"])
    inner.runpytest_inprocess("--update-golden").assert_outcomes(passed=1)
    assert path.read_text(encoding="utf-8") == "one\n\u00e9two\n"
    inner.runpytest_inprocess().assert_outcomes(passed=1)
    path.write_text("one\nthree\n")
    result = inner.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*notes.txt differs; pytest --update-golden writes it anew*"])
    assert path.read_text() == "one\nthree\n"


def test_the_switch_is_known_to_tests(inner: pytest.Pytester) -> None:
    make(inner, "\ndef test_switch(update_golden):\n    assert update_golden\n")
    inner.runpytest_inprocess().assert_outcomes(failed=1)
    inner.runpytest_inprocess("--update-golden").assert_outcomes(passed=1)
    result = inner.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(["*--update-golden*golden*"])
