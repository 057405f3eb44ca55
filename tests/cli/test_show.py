"""bitwright show and bitwright diff: graphs as text, and what differs."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import TINY, Network, Result, Run, save

import bitwright
from bitwright.ir import edit


def test_show_prints_text_that_parses_back(tiny: Network, built: Path, run: Run) -> None:
    result = run("show", tiny.onnx)
    assert result.code == 0
    assert result.out == bitwright.show(bitwright.load(tiny.onnx))
    assert run("show", built).out == (built / "model.ir").read_text()


def test_show_lists_nodes_for_programs(built: Path, run: Run) -> None:
    found = json.loads(run("show", built, "--json").out)
    assert found["name"] == "tiny"
    assert list(found["inputs"]) == ["image"]
    assert found["inputs"]["image"].startswith("FIXED<6")
    assert list(found["outputs"]) == ["scores"]
    assert [(node["name"], node["op"], node["operands"][0]) for node in found["nodes"]] == [
        ("conv1", "conv2d", "image"),
        ("flat", "flatten", "conv1"),
        ("fc2", "dense", "flat"),
    ]


def test_diff_finds_networks_the_same_whatever_their_names(tiny: Network, tmp_path: Path, run: Run) -> None:
    graph = bitwright.load(tiny.onnx)
    edit.rename(graph, graph.values["conv1"], "first")
    bitwright.save(graph, tmp_path / "renamed.ir")
    assert run("diff", tiny.onnx, tmp_path / "renamed.ir") == Result(0, "", "")
    assert json.loads(run("diff", tiny.onnx, tiny.onnx, "--json").out) == {"same": True, "changes": []}


def test_diff_prints_what_differs(tiny: Network, built: Path, tmp_path: Path, run: Run) -> None:
    other = save(TINY.replace("strides=[2,2]", "strides=[1,1]").replace("2,2,2]", "2,3,3]")
                 .replace("N,8", "N,18").replace("3,8", "3,18"), tmp_path / "other.onnx")  # fmt: skip
    result = run("diff", tiny.onnx, other)
    assert result.code == 1
    assert any(line.startswith("-") and "maxpool2d" in line for line in result.lines)
    assert any(line.startswith("+") and "maxpool2d" in line for line in result.lines)
    found = json.loads(run("diff", tiny.onnx, other, "--json").out)
    assert found == {"same": False, "changes": result.lines}
    assert run("diff", tiny.onnx, built).code == 1
    assert run("diff", built, built / "model.ir").code == 0
