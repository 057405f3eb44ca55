"""What all tests share: the same examples of hypothesis every time, a check of a graph, a loader, vendors' headers."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from bitwright.backends.hls import csim
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph

settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


def check_graph(graph: Graph) -> None:
    """Names, uses, producers, parents and order, found by walking and compared with what the graph itself knows."""
    read: Counter[tuple[int, int, int]] = Counter()
    known: Counter[tuple[int, int, int]] = Counter()
    names: list[str] = []

    def walk(inner: Graph, above: frozenset[int]) -> None:
        results = [result for node in inner.nodes for result in node.results]
        assert set(map(id, inner.values.values())) == set(map(id, (*inner.inputs, *inner.weights, *results)))
        assert len(inner.values) == len(inner.inputs) + len(inner.weights) + len(results)
        for name, value in inner.values.items():
            assert value.name == name
            names.append(name)
            known.update((id(value), id(node), index) for node, index in value.uses)
        assert set(inner.external) <= {value.name for value in inner.inputs}
        made = set(above) | {id(value) for value in (*inner.inputs, *inner.weights)}
        assert all(value.producer is None for value in (*inner.inputs, *inner.weights))
        for node in inner.nodes:
            assert node.graph is inner
            for index, value in enumerate(node.operands):
                if value is not None:
                    assert id(value) in made, f"%{value.name} is read by %{node.name} before it is made"
                    read[id(value), id(node), index] += 1
            for subgraph in node.subgraphs():
                assert subgraph.parent is node
                walk(subgraph, frozenset(made))
            assert all(result.producer is node for result in node.results)
            made |= {id(result) for result in node.results}
        assert all(id(output.value) in made for output in inner.outputs)

    walk(graph, frozenset())
    assert known == read
    assert len(names) == len(set(names))


@pytest.fixture(scope="session")
def check() -> Callable[[Graph], None]:
    """The check of everything that a graph knows."""
    return check_graph


@pytest.fixture(scope="session")
def load_file() -> Callable[[str, Path], ModuleType]:
    """load_file(name, path): a file outside every package as the module `name`."""

    def load(name: str, path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def ap_headers() -> Path:
    """The folder of the ap_* headers; skips where they are not installed."""
    try:
        return csim.ap_headers()
    except CompileError as error:
        pytest.skip(str(error))
