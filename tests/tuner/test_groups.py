"""Groups of channels with widths of their own: what is proposed, and whole searches in which they win or do not."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitwright.cli.main import run
from bitwright.ir.assign import layers
from bitwright.ir.files import load, save
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.passes.base import Context
from bitwright.passes.channels import find_channels
from bitwright.passes.split import SplitChannels
from bitwright.tuner.groups import WORTH, importance, proposals, tune_groups
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.platforms import load_platform
from bitwright.tuner.problem import Constraint
from bitwright.tuner.targets import target_layers
from bitwright.tuner.tune import Options, Samples, Tuned, tune_network
from bitwright.tuning import tune

CLASSES, FEATURES, NEEDED, IDLE = 4, 8, 8, 24
HIDDEN = NEEDED + IDLE
TOLERANCE = Constraint(0.02)


def text(array: np.ndarray) -> str:
    return "[" + ",".join(f"{number:.5f}" for number in array.ravel()) + f"] : f32[{','.join(map(str, array.shape))}]"


def network(idle: int) -> Graph:
    """Points of four classes, turned and told apart; of the hidden units `idle` are never read, at places drawn."""
    rng = np.random.default_rng(11)
    centres = rng.normal(size=(CLASSES, FEATURES))
    turn = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0]
    units = np.concatenate([turn, rng.normal(size=(idle, FEATURES))])
    back = np.concatenate([turn, np.zeros((idle, FEATURES))])
    shuffled = rng.permutation(len(units))
    return parse(f"""
        graph @idle {{
          input %x : f32[N,{FEATURES}]
          weight %a.weight = {text(units[shuffled])}
          weight %a.bias = {text(np.zeros(len(units)))}
          weight %b.weight = {text(centres @ back[shuffled].T)}
          weight %b.bias = {text(-0.5 * np.square(centres).sum(1))}
          %a = dense(%x, %a.weight, %a.bias) : f32[N,{len(units)}]
          %b = dense(%a, %b.weight, %b.bias) : f32[N,{CLASSES}]
          output %b
        }}""")


def points(graph: Graph, count: int, seed: int) -> Samples:
    """Points around the centres that the network knows, with its own answers as labels."""
    x = (1.2 * np.random.default_rng(seed).normal(size=(count, FEATURES))).astype(np.float32)
    judge = SimulationJudge(graph, x, np.zeros(count, np.int64))
    return Samples(x, judge.scores(graph, x).argmax(1))


def search(graph: Graph, samples: Samples, options: Options) -> Tuned:
    return tune_network(graph, samples, None, load_platform("full"), options)


def idle_units(graph: Graph) -> np.ndarray:
    weight = next(node for node in layers(graph) if node.name == "b").operand(1).tensor
    assert weight is not None
    return np.flatnonzero(~weight.data.any(0))


@pytest.fixture(scope="module")
def whole() -> Graph:
    return network(IDLE)


@pytest.fixture(scope="module")
def samples(whole: Graph) -> Samples:
    return points(whole, 900, 1)


@pytest.fixture(scope="module")
def before(whole: Graph, samples: Samples) -> Tuned:
    return search(whole, samples, Options(constraint=TOLERANCE))


def test_importance_is_what_readers_weigh_a_channel_with() -> None:
    """Also through a residual add, where two layers read the channels, and where a channel is several columns."""
    rng = np.random.default_rng(2)
    fc, conv = rng.normal(size=(5, 12)).round(3), rng.normal(size=(2, 3, 1, 1)).round(3)
    graph = parse(f"""
        graph @read {{
          input %x : f32[N,2,2,2]
          weight %a.w = {text(rng.normal(size=(3, 2, 1, 1)))}
          weight %c.w = {text(rng.normal(size=(3, 2, 1, 1)))}
          weight %d.w = {text(conv)}
          weight %e.w = {text(fc)}
          %a = conv2d(%x, %a.w) {{kernel=[1,1]}} : f32[N,3,2,2]
          %c = conv2d(%x, %c.w) {{kernel=[1,1]}} : f32[N,3,2,2]
          %s = add(%a, %c) : f32[N,3,2,2]
          %d = conv2d(%s, %d.w) {{kernel=[1,1]}} : f32[N,2,2,2]
          %f = flatten(%s) {{axis=1}} : f32[N,12]
          %e = dense(%f, %e.w) : f32[N,5]
          output %d
          output %e
        }}""")
    found = find_channels(graph)
    expected = [np.square(fc[:, 4 * c : 4 * c + 4]).sum() + np.square(conv[:, c]).sum() for c in range(3)]
    for name in ("a", "c"):
        node = next(node for node in layers(graph) if node.name == name)
        assert importance(found, node) == pytest.approx(expected, rel=1e-5)


def test_the_channels_that_are_never_read_come_first(before: Tuned, whole: Graph) -> None:
    assert before.candidate.formats["a.weight"].width > 1
    (proposal,) = proposals(before)
    assert proposal.split.layer == "a"  # b has too few bits, and its channels are the output's
    assert proposal.split.sizes == (8, 8, 8, 8)
    assert set(proposal.split.order[:IDLE]) == set(idle_units(whole).tolist())
    total = sum(before.candidate.formats[t.name].width * t.size for t in before.problem.space.targets)
    assert proposal.share == HIDDEN * FEATURES / total >= WORTH  # one bit less everywhere


def test_groups_win_where_channels_are_idle(before: Tuned, whole: Graph, samples: Samples) -> None:
    held_out = points(whole, 300, 2)
    found = tune_groups(before, whole, samples, held_out, Options(constraint=TOLERANCE), search)
    assert found.groups == {"a": {"a_0": 8, "a_1": 8, "a_2": 8, "a_3": 8}}
    widths = {name: format.width for name, format in found.candidate.formats.items()}
    assert widths["a_0.weight"] == widths["a_1.weight"] == widths["a_2.weight"] == 1
    assert widths["a_3.weight"] > 1
    assert found.cost < 0.8 * before.cost
    assert (found.float_cost, found.reference, found.least) == (before.float_cost, before.reference, before.least)
    assert found.graph is not None
    assert samples.y is not None
    judge = SimulationJudge(found.graph, samples.x, samples.y)
    right = judge.scores(found.graph, judge.x).argmax(1) == judge.y
    assert right.mean() == found.accuracy >= found.least
    assert found.held_out is not None
    assert found.held_out.images == 300
    assert found.spent > before.spent
    parts = sum(widths[f"a_{i}.weight"] * 8 * FEATURES for i in range(4))
    channels = sum((f.channels or 0) * 5 for name, f in found.candidate.formats.items() if name.endswith("weight"))
    assert found.cost == parts + channels + widths["b.weight"] * CLASSES * HIDDEN + (
        widths["a_0.input"] * FEATURES + widths["b.input"] * HIDDEN
    )


def test_groups_are_not_taken_where_they_do_not_save() -> None:
    """Weights that three bits hold exactly, and every answer wanted: none of them can be narrower, in no group."""
    rng = np.random.default_rng(5)
    graph = parse(f"""
        graph @exact {{
          input %x : f32[N,{FEATURES}]
          weight %a.weight = {text(rng.integers(-3, 4, (16, FEATURES)))}
          weight %b.weight = {text(rng.integers(-3, 4, (CLASSES, 16)))}
          %a = dense(%x, %a.weight) : f32[N,16]
          %b = dense(%a, %b.weight) : f32[N,{CLASSES}]
          output %b
        }}""")
    x = rng.integers(-7, 8, (900, FEATURES)).astype(np.float32)
    data = Samples(x, SimulationJudge(graph, x, np.zeros(900, np.int64)).scores(graph, x).argmax(1))
    options = Options(constraint=Constraint(0.0))
    alone = search(graph, data, options)
    assert alone.accuracy == 1
    tried: list[Tuned] = []

    def watched(graph: Graph, samples: Samples, options: Options) -> Tuned:
        tried.append(search(graph, samples, options))
        assert options.constraint == Constraint(floor=alone.least)
        return tried[-1]

    found = tune_groups(alone, graph, data, None, options, watched)
    (once,) = tried
    assert [node.name for node in layers(once.problem.judge.graph)] == ["a_0", "a_1", "a_2", "a_3", "b"]  # type: ignore[attr-defined]
    assert once.cost >= alone.cost
    assert not found.groups
    assert (found.cost, found.graph) == (alone.cost, alone.graph)
    assert found.spent == alone.spent + once.spent


def test_nothing_is_proposed_below_the_narrowest_width(before: Tuned) -> None:
    narrowest = {
        name: format if "input" in name else before.problem.space.variables[0].formats[0]
        for name, format in before.candidate.formats.items()
    }
    assert {format.width for name, format in narrowest.items() if "weight" in name} == {1}
    assert proposals(replace(before, candidate=before.problem.formats(narrowest))) == []
    assert proposals(replace(before, candidate=before.problem.float32)) == []


def test_a_layer_that_shares_its_format_is_left_whole(whole: Graph, samples: Samples) -> None:
    found = tune_network(whole, samples, None, load_platform("full"), Options(constraint=TOLERANCE), layerwise="none")
    assert proposals(found) == []


def test_the_name_of_a_split_layer_means_its_parts(whole: Graph) -> None:
    graph = parse(str(whole))
    SplitChannels("a", (8, 24)).run(graph, Context())
    assert [node.name for node in target_layers(graph, ["a"])] == ["a_0", "a_1"]
    assert [node.name for node in target_layers(graph, ["a_1", "b"])] == ["a_1", "b"]


@pytest.fixture(scope="module")
def files(whole: Graph, samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("idle")
    save(whole, folder / "idle.ir")
    test = points(whole, 300, 2)
    np.savez(folder / "points.npz", x_train=samples.x, y_train=samples.y, x_test=test.x, y_test=test.y)
    return folder / "idle.ir", folder / "points.npz"


def rows(folder: Path) -> int:
    """How many accuracies the database of a search holds."""
    with closing(sqlite3.connect(folder / "tune.sqlite")) as database:
        return int(database.execute("SELECT count(*) FROM evaluations").fetchone()[0])


def test_a_search_in_groups_resumes(files: tuple[Path, Path], tmp_path: Path) -> None:
    """The second time nothing is measured: every accuracy of every network is in the database."""
    model, data = files
    found = tune(model, str(data), Options(constraint=TOLERANCE), channel_groups=True, out=tmp_path)
    measured = rows(tmp_path)
    options = Options(constraint=TOLERANCE, resume=True)
    again = tune(model, str(data), options, channel_groups=True, out=tmp_path)
    assert again.candidate.key == found.candidate.key
    assert (again.cost, again.accuracy, again.groups) == (found.cost, found.accuracy, found.groups)
    assert len(again.trace) == len(found.trace)
    assert rows(tmp_path) == measured > len(found.trace)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["groups"] == {"a": {f"a_{i}": 8 for i in range(4)}}
    assert load(tmp_path / "tuned.ir").values["a"].tensor_type.shape == ("N", HIDDEN)


def test_without_time_nothing_is_split(files: tuple[Path, Path]) -> None:
    model, data = files
    found = tune(model, str(data), Options(budget=0.0), channel_groups=True)
    assert not found.complete
    assert not found.groups


def test_a_split_that_the_budget_ends_leaves_the_search_unfinished(
    before: Tuned, whole: Graph, samples: Samples
) -> None:
    def ended(graph: Graph, samples: Samples, options: Options) -> Tuned:
        return replace(search(graph, samples, replace(options, budget=0.0)), complete=False)

    found = tune_groups(before, whole, samples, None, Options(constraint=TOLERANCE, budget=3600.0), ended)
    assert found.cost == before.cost
    assert not found.complete


def test_both_commands(files: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    model, data = files
    common = [str(model), "--data", str(data), "--tolerance", "2%", "--channel-groups", "auto"]
    assert run(["tune", *common, "--layers", "a,b", "-o", str(tmp_path / "tuned"), "--explain"]) == 0
    assert "a_0 8, a_1 8, a_2 8, a_3 8" in capsys.readouterr().out
    tuned = ["--target", "pynq", "--data", str(data), "-o", str(tmp_path / "built"), "--json"]
    assert run(["compile", str(tmp_path / "tuned" / "tuned.ir"), *tuned]) == 0
    assert run(["csim", str(tmp_path / "built")]) == 0
    assert "equal" in capsys.readouterr().out
    assert run(["compile", *common, "--target", "pynq", "-o", str(tmp_path / "both"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "a is in groups of 8, 8, 8, 8 channels" in told["notes"]
    assert run(["compile", *common, "--prune", "auto", "--target", "pynq", "-o", str(tmp_path / "less"), "--json"]) == 0
    pruned = json.loads(capsys.readouterr().out)
    assert any("channels are left" in note for note in pruned["notes"])
    assert run(["compile", str(model), "--target", "pynq", "--channel-groups", "auto"]) == 2
    assert "groups of channels are chosen for a tolerance, and none is given" in capsys.readouterr().err
