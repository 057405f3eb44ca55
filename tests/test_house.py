"""The house itself: what a wheel carries, what an import costs, which floor may know which, and how sources look."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import bitwright

ROOT = Path(__file__).parents[1]
FRONT = ROOT / "src" / "bitwright"
ROOMS = ("ir", "passes", "backends", "tuner", "train", "models")
MADE = shutil.ignore_patterns(
    "__pycache__", "*.egg-info", ".*", "build", "dist", "venv", "*.so", "*.part", "shared", "tests"
)  # what is no source, and the tests, which no wheel carries

LINES = 450
LONGER = {"backends/hls/driver/accelerator.py"}  # copied to the board, where it stands alone
TEXT = {".py", ".hpp", ".h", ".cpp", ".tcl", ".toml", ".md", ".yml", ".ir", ".txt", ".cfg"}
HEAVIEST = 3_000_000
UNFINISHED = [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("HA", "CK")]  # in halves, or this file would be found

# Public and without a docstring: the name and the signature say it all.
PLAIN = {
    "models/lenet5_cpp/export.py": {"main"},
    "models/train.py": {"parsed", "main"},
}


def sources(*folders: str, suffixes: frozenset[str] | set[str] = frozenset({".py"})) -> Iterator[tuple[str, Path]]:
    """The sources in these folders, with their path from the root."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            made = "__pycache__" in name or ".egg-info" in name or path.is_relative_to(ROOT / "build")
            if path.is_file() and path.suffix in suffixes and not made:
                yield name, path


PACKAGE = dict(sources(*ROOMS, "src"))


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, place / "copy", symlinks=True, ignore=MADE)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(place / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = place.glob("*.whl")
    return found


def test_the_wheel_carries_every_file_of_every_room(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {"bitwright/" + path.relative_to(FRONT).as_posix() for path in FRONT.glob("*.*")}
    expected |= {"bitwright/" + path.relative_to(FRONT).as_posix() for path in (FRONT / "cli").glob("*.py")}
    for room in ROOMS:
        files = [path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        expected |= {"bitwright/" + path.relative_to(ROOT).as_posix() for path in files}
    assert packed == expected
    suffixes = {Path(name).suffix for name in packed}
    assert suffixes >= {".py", ".toml", ".hpp", ".h", ".cpp", ".tcl", ".onnx", ".npz"}
    for name in (
        "py.typed",
        "testing.py",
        "models/lenet5.onnx",
        "models/data/mnist-test.npz",
        "models/data/README.md",
        "backends/hls/boards/pynq-z2.toml",
        "backends/hls/driver/accelerator.py",
        "backends/hls/include/bitwright/stream.hpp",
        "backends/hls/csim/hls_stream.h",
        "backends/hls/scripts/build.tcl",
    ):
        assert f"bitwright/{name}" in packed


def test_the_wheel_names_its_licence_and_its_ways_in(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.split("/", 1)[1]: name for name in archive.namelist() if ".dist-info/" in name}
        entries = archive.read(inside["entry_points.txt"]).decode()
        metadata = archive.read(inside["METADATA"]).decode()
    assert "licenses/LICENSE" in inside
    assert "bitwright = bitwright.cli.main:main" in entries
    assert "bitwright = bitwright.testing" in entries
    assert f"Version: {bitwright.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata


def test_the_installed_wheel_compiles_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, system_site_packages=True, with_pip=False, symlinks=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    install = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True)
    place = next(home.rglob("site-packages"))
    # The requirements come from where this runs, behind the wheel's own folder.
    others = [path for path in (*site.getsitepackages(), *sys.path) if path.endswith("-packages")]
    (place / "requirements.pth").write_text("\n".join(others) + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*command: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = run(str(python), "-c", "import bitwright.models as m; print(m.__file__)").strip()
    assert Path(where).is_relative_to(place)
    assert "pynq-z2" in run(str(scripts / "bitwright"), "list", "boards")
    model = Path(where).parent / "lenet5.onnx"
    made = run(str(scripts / "bitwright"), "compile", str(model), "--target", "pynq", "-o", "out")
    assert made.splitlines()[-1].endswith("written to out")
    assert len(list((elsewhere / "out").rglob("*.hpp"))) > 10
    assert (elsewhere / "out" / "driver" / "accelerator.py").is_file()


# Imports


def _modules_after(statement: str) -> set[str]:
    """The top-level modules that a statement imports into a fresh interpreter."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", ["bitwright", "bitwright.testing", "bitwright.cli.main"])
def test_an_import_takes_nothing_heavy(module: str) -> None:
    taken = _modules_after(f"import {module}")
    assert "bitwright" in taken
    assert not taken & {"onnx", "onnxruntime", "torch", "rich", "numpy", "networkx", "ml_dtypes", "google"}


def test_help_takes_nothing_heavy() -> None:
    taken = _modules_after("from bitwright.cli.main import run; run(['--help']); run(['compile', '--help'])")
    assert not taken & {"onnx", "onnxruntime", "torch", "numpy"}


def test_everything_public_is_there() -> None:
    assert sorted(bitwright.__all__) == bitwright.__all__
    assert set(bitwright.__all__) >= {
        "compile",
        "diff",
        "load",
        "parse",
        "run_passes",
        "save",
        "score",
        "show",
        "simulate",
    }
    for name in bitwright.__all__:
        assert callable(getattr(bitwright, name))
        assert getattr(bitwright, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        _ = bitwright.frobnicate  # type: ignore[attr-defined]


def test_no_floor_knows_one_above_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_every_room_has_its_floor() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = set(re.findall(r"bitwright\.\w+", str(contracts)))
    inside = {path.stem for path in FRONT.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert named == {f"bitwright.{name}" for name in inside - {"__init__", "__main__", "__pycache__"}}


def test_imports_are_absolute() -> None:
    found = [
        name
        for name, path in sources(*ROOMS, "src", "tests", "benchmarks")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not found


# Sources


def test_the_rooms_are_linked_into_the_package() -> None:
    for room in ROOMS:
        link = FRONT / room
        assert link.is_symlink()
        assert os.readlink(link) == f"../../{room}"
        assert link.resolve() == ROOT / room
        assert Path(str(importlib.import_module(f"bitwright.{room}").__file__)).resolve().parent == ROOT / room


def test_what_is_public_has_a_docstring() -> None:
    bare = [
        f"{name}: {made.name}"
        for name, path in PACKAGE.items()
        for made in ast.parse(path.read_text("utf-8")).body
        if isinstance(made, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not made.name.startswith("_")
        and name.split("/")[0] in ROOMS
        and ast.get_docstring(made) is None
        and made.name not in PLAIN.get(name, ())
    ]
    assert not bare


def test_every_module_says_what_it_is() -> None:
    assert not [name for name, path in PACKAGE.items() if ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None]


def test_no_file_is_long() -> None:
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in sources(*ROOMS, "src", suffixes=TEXT)}
    assert {name for name, lines in lengths.items() if lines > LINES} <= LONGER


def test_nothing_is_left_to_do_in_the_sources() -> None:
    words = re.compile(rf"\b({'|'.join(''.join(word) for word in UNFINISHED)})\b")
    everywhere = [*sources(*ROOMS, "src", "tests", "docs", "benchmarks", ".github", suffixes=TEXT)]
    everywhere += [(path.name, path) for path in ROOT.iterdir() if path.suffix in TEXT]
    assert len(everywhere) > 100
    assert not [name for name, path in everywhere if words.search(path.read_text("utf-8"))]


def test_data_are_small() -> None:
    data = dict(sources(*ROOMS, "tests", suffixes={".npz", ".onnx"}))
    assert len(data) >= 3
    assert not {name: path.stat().st_size for name, path in data.items() if path.stat().st_size >= HEAVIEST}
