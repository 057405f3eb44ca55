"""What the tests of graphs share lies in modules beside this file; their asserts show what differs, as a test's do."""

import pytest

pytest.register_assert_rewrite("exact_sums", "graph_equality", "onnx_models")
