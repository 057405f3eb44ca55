"""bitwright list, the help of every command, and the way in."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import TINY, Run, cells

import bitwright
from bitwright.cli import main
from bitwright.cli.list_command import KINDS
from bitwright.passes.table import PASSES


def test_every_kind_is_listed(run: Run) -> None:
    expected = {
        "algorithms": ["whittle", "libnumber", "random"],
        "boards": ["pynq-z2", "zcu104", "arty-a7-35t"],
        "datasets": ["mnist"],
        "formats": ["FIXED N [B]", "HALF"],
        "metrics": ["top1", "top5", "agreement"],
        "models": ["lenet5.onnx"],
        "objectives": ["bits", "energy", "latency", "interval"],
        "passes": ["fuse-batchnorm", "annotate-formats", "normalise"],
        "platforms": ["paper", "full", "file.py:NAME"],
    }
    assert expected.keys() == KINDS.keys()
    for kind, names in expected.items():
        result = run("list", kind)
        assert result.code == 0
        rows = [cells(line)[0] for line in result.lines[1:] if not line.startswith(" ")]
        assert set(names) <= set(rows), kind
        found = json.loads(run("list", kind, "--json").out)
        first = next(iter(found[0]))
        assert [row[first] for row in found] == rows, kind
        assert all(row.keys() == found[0].keys() for row in found)


def test_every_pass_is_listed_with_what_it_does(run: Run) -> None:
    rows = json.loads(run("list", "passes", "--json").out)
    assert {row["pass"] for row in rows} >= set(PASSES)
    assert all(len(row["what it does"]) > 10 for row in rows)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], *([name, "--help"] for name in main.COMMANDS)])
def test_help_is_there(arguments: Sequence[str], run: Run) -> None:
    result = run(*arguments)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: bitwright ")


def test_names_that_a_terminal_cannot_show_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "named.ir"
    model.write_text(TINY.replace("fc2", "größe"), "utf-8")
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    with pytest.raises(SystemExit) as ended:
        main.main(["check", str(model)])
    assert ended.value.code == 0
    terminal.seek(0)
    assert "gr\\xf6\\xdfe  dense" in terminal.read()


def test_the_way_in_ends_with_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"bitwright, version {bitwright.__version__}\n"
    with pytest.raises(SystemExit) as ended:
        main.main(["show", "nothing.onnx"])
    assert ended.value.code == 2
