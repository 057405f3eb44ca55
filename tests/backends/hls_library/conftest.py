"""How the tests of the HLS header library find it, compile against it and know what must come out."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
HLS = HERE.parents[2] / "backends" / "hls"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hls_library_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    return load("reference")


@pytest.fixture(scope="session")
def lenet5_weights() -> ModuleType:
    return load("lenet5_weights")


@pytest.fixture(scope="session")
def compile_cpp() -> Callable[..., None]:
    """compile_cpp(sources, flags): g++ as for C simulation; not one warning may come up."""

    def run(sources: list[Path], *flags: str) -> None:
        includes = [f"-I{HLS / 'include'}", f"-I{HLS / 'csim'}", f"-I{sources[0].parent}"]
        warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
        command = ["g++", "-std=c++17", *warnings, *flags, *includes, *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return run
