"""How the tests of the HLS backend find what they share: their small networks, the rules of HLS code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def ap_flags(ap_headers: Path) -> list[str]:
    """The flags of a build with the ap_* types."""
    # Inlined into our code, the headers' own uninitialised reads are reported as ours.
    quiet = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    return ["-DBITWRIGHT_AP_TYPES", *quiet, "-isystem", str(ap_headers)]


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """networks.py beside this file."""
    spec = importlib.util.spec_from_file_location("hls_networks", Path(__file__).with_name("networks.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def hls_rules() -> ModuleType:
    """The package hls_rules beside this file."""
    pytest.importorskip("tree_sitter_cpp", reason="needs tree-sitter-cpp: pip install tree-sitter tree-sitter-cpp")
    place = Path(__file__).with_name("hls_rules")
    spec = importlib.util.spec_from_file_location("hls_rules", place / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
