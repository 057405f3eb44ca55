"""What the tests of graphs share: modules beside this file, whose asserts show what differs, and graphs to edit."""

from __future__ import annotations

import pytest
from edited import BRANCHES, NET

from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse

pytest.register_assert_rewrite("exact_sums", "graph_equality", "onnx_models")


@pytest.fixture
def net() -> Graph:
    return parse(NET)


@pytest.fixture
def branches() -> Graph:
    return parse(BRANCHES)
