"""How the tests of the HLS backend find what they share: their small networks, the rules of HLS code."""

from __future__ import annotations

from collections.abc import Callable
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
def networks(load_file: Callable[[str, Path], ModuleType]) -> ModuleType:
    """networks.py beside this file."""
    return load_file("hls_networks", Path(__file__).with_name("networks.py"))


@pytest.fixture(scope="session")
def hls_rules(load_file: Callable[[str, Path], ModuleType]) -> ModuleType:
    """The package hls_rules beside this file."""
    pytest.importorskip("tree_sitter_cpp", reason="needs tree-sitter-cpp: pip install tree-sitter tree-sitter-cpp")
    return load_file("hls_rules", Path(__file__).with_name("hls_rules") / "__init__.py")
