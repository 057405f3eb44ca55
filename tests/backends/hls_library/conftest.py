"""How the tests of the HLS header library find it, compile against it and know what must come out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
HLS = HERE.parents[2] / "backends" / "hls"


@pytest.fixture(scope="session")
def reference(load_file: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load_file("hls_library_reference", HERE / "reference.py")


@pytest.fixture(scope="session")
def lenet5_weights(load_file: Callable[[str, Path], ModuleType]) -> ModuleType:
    return load_file("hls_library_lenet5_weights", HERE / "lenet5_weights.py")


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
