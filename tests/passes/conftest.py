"""How the tests of passes find the random networks that they share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def drawn(load_file: Callable[[str, Path], ModuleType]) -> ModuleType:
    """drawn.py beside this file."""
    return load_file("drawn_networks", Path(__file__).with_name("drawn.py"))
