"""For tests of compilers: graphs compared by structure, and golden graphs. A pytest plug-in of the package.

    from bitwright.testing import assert_same_graph

    def test_my_pass(golden_graph):
        assert_same_graph(my_pass(model), expected)        # onnx.ModelProto, Graph, or a path of an .onnx or .ir file
        golden_graph(my_pass(model), "my-pass")            # golden/my-pass.ir beside the test

`pytest --update-golden` writes the golden files anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

if TYPE_CHECKING:
    import onnx

    from bitwright.ir.graph import Graph

GraphLike: TypeAlias = "Graph | onnx.ModelProto | str | Path"


def assert_same_graph(actual: GraphLike, expected: GraphLike) -> None:
    """Fail with the structural difference (`-` expected, `+` actual) unless both graphs compute the same.

    Names of inner values and the order of independent nodes do not count; ops, attributes, formats, shapes, weights and
    the outside names of inputs and outputs do.
    """
    from bitwright.ir.diff import diff

    __tracebackhide__ = True
    changes = diff(as_graph(expected), as_graph(actual))
    if changes:
        pytest.fail("the graphs differ (- expected, + actual):\n" + changes, pytrace=False)


def as_graph(graph: GraphLike) -> Graph:
    """A graph from whatever holds one."""
    from bitwright.ir.files import load
    from bitwright.ir.graph import Graph

    if isinstance(graph, Graph):
        return graph
    if isinstance(graph, str | Path):
        return load(graph)
    from bitwright.ir.onnx.read import from_model

    return from_model(graph)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden graphs anew instead of comparing")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written anew."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def golden_text(request: pytest.FixtureRequest, update_golden: bool) -> Callable[[str, str], None]:
    """Compare a text with `golden/<name>` beside the test, or write it there."""

    def check(text: str, name: str) -> None:
        __tracebackhide__ = True
        path = request.path.parent / "golden" / name
        if update_golden:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file():
            pytest.fail(f"there is no golden file {path}; run pytest --update-golden", pytrace=False)
        assert text == path.read_text(encoding="utf-8"), f"{path.name} differs; pytest --update-golden writes it anew"

    return check


@pytest.fixture
def golden_graph(
    request: pytest.FixtureRequest, golden_text: Callable[[str, str], None], update_golden: bool
) -> Callable[[GraphLike, str], None]:
    """Compare a graph with `golden/<name>.ir` beside the test by structure, or write its text there."""

    def check(graph: GraphLike, name: str) -> None:
        from bitwright.ir.text import to_text

        __tracebackhide__ = True
        path = request.path.parent / "golden" / f"{name}.ir"
        if update_golden or not path.is_file():
            golden_text(to_text(as_graph(graph)), path.name)
            return
        assert_same_graph(graph, path)

    return check
