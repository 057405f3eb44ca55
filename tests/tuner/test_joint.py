"""Channels and formats together: the walk, the bits that channels hold, the order in which they go, whole searches."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.cli.main import run
from bitwright.ir import edit
from bitwright.ir.assign import layers
from bitwright.ir.files import load, save
from bitwright.ir.graph import Graph, Value
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor
from bitwright.passes.base import Context
from bitwright.passes.channels import find_channels
from bitwright.passes.pruning import remove_channels
from bitwright.tuner.joint import LEAST_STEP, MOST, STEP, Joint, lowest
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.problem import Constraint
from bitwright.tuner.removal import Bits, removals
from bitwright.tuner.tune import Options
from bitwright.tuning import tune

RNG = np.random.default_rng(31)
CLASSES, FEATURES, HIDDEN = 4, 8, 24


def text(array: np.ndarray) -> str:
    return "[" + ",".join(f"{number:.5f}" for number in array.ravel()) + f"] : f32[{','.join(map(str, array.shape))}]"


CONVOLUTIONS = parse(f"""
graph @branches {{
  input %x : f32[N,3,6,6]
  weight %a.w = {text(RNG.normal(size=(8, 3, 3, 3)))}
  weight %b.w = {text(RNG.normal(size=(8, 3, 3, 3)))}
  weight %c.w = {text(RNG.normal(size=(6, 8, 1, 1)))}
  weight %d.w = {text(RNG.normal(size=(5, 96)))}
  %a = conv2d(%x, %a.w) {{kernel=[3,3]}} : f32[N,8,4,4]
  %b = conv2d(%x, %b.w) {{kernel=[3,3]}} : f32[N,8,4,4]
  %sum = add(%a, %b) : f32[N,8,4,4]
  %r = relu(%sum) : f32[N,8,4,4]
  %c = conv2d(%r, %c.w) {{kernel=[1,1]}} : f32[N,6,4,4]
  %f = flatten(%c) {{axis=1}} : f32[N,96]
  %d = dense(%f, %d.w) : f32[N,5]
  output %d
}}
""")
WIDTHS = {"a": (2, 7), "b": (3, 7), "c": (4, 5), "d": (1, 6)}


def tensors(graph: Graph) -> list[tuple[Value, int]]:
    """Every layer's weights and input, with a width of its own."""
    return [(node.operand(i), WIDTHS[node.name][1 - i]) for node in layers(graph) for i in (1, 0)]


def held(graph: Graph) -> float:
    """The bits of these tensors, from the shapes that the graph has."""
    sizes = [[dim for dim in value.tensor_type.shape or () if isinstance(dim, int)] for value, _ in tensors(graph)]
    return float(sum(width * np.prod(size) for (_, width), size in zip(tensors(graph), sizes, strict=True)))


def samples() -> Context:
    return Context(samples={"x": np.random.default_rng(2).normal(size=(200, 3, 6, 6)).astype(np.float32)})


@given(st.integers(0, 19), st.floats(0.1, 3), st.floats(0.1, 3))
def test_a_walk_finds_the_valley(at: int, down: float, up: float) -> None:
    """Of a function that falls and then rises: the best of the places that the last steps leave."""
    bottom = at * 0.05
    found = lowest(lambda x: down * max(bottom - x, 0) + up * max(x - bottom, 0), STEP, LEAST_STEP, MOST)
    assert abs(found - bottom) < 2 * LEAST_STEP
    assert 0 <= found <= MOST


def test_a_walk_asks_for_no_place_twice_and_begins_at_nothing() -> None:
    asked: list[float] = []

    def cost(x: float) -> float:
        asked.append(x)
        return 1.0

    assert lowest(cost, STEP, LEAST_STEP, MOST) == 0
    assert asked[0] == 0
    assert len(asked) == len(set(asked)) < 8


@pytest.mark.parametrize(
    ("ends", "shares"), [({0.25: 88, 0.5: 80}, [0.25, 0.5, 0.0]), ({0.25: 88, 0.5: 60}, [0.25, 0.5])]
)
def test_the_whole_network_is_searched_to_the_end_where_it_may_be_cheaper(
    ends: dict[float, float], shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rough costs that hardly differ say little of which end is lowest; one that is far below says enough."""
    joint = Joint(CONVOLUTIONS, None, Context(), 1, costs={0.0: 100, 0.25: 90, 0.5: 95, 0.75: 120})  # type: ignore[arg-type]
    asked: list[float] = []

    def refined(joint: Joint, share: float) -> Any:
        asked.append(share)
        return SimpleNamespace(cost={0.0: 70, **ends}[share], accuracy=1.0, least=0.9)

    monkeypatch.setattr(Joint, "refined", refined)
    assert [found.cost for found in joint.ended()] == [{0.0: 70, **ends}[share] for share in shares]
    assert asked == shares


def test_the_bits_saved_are_those_that_pruning_saves() -> None:
    found = find_channels(CONVOLUTIONS)
    bits = Bits(found, tensors(CONVOLUTIONS))
    assert bits.total == held(CONVOLUTIONS)
    groups = [group for group in found.groups if not group.why_not]
    gone: list[int] = []
    for channel in [groups[0].channels[3], groups[1].channels[0], groups[0].channels[5], groups[1].channels[4]]:
        before = bits.total
        saved = bits.saved(channel)
        bits.remove(channel)
        gone.append(channel)
        small = edit.copy(CONVOLUTIONS)
        remove_channels(small, find_channels(small), gone, Context())
        assert bits.total == held(small)
        assert before - saved == pytest.approx(bits.total)


def test_the_order_takes_every_channel_that_can_go() -> None:
    found = find_channels(CONVOLUTIONS)
    order = removals(CONVOLUTIONS, found, tensors(CONVOLUTIONS), samples(), 0.0)
    free = [channel for group in found.groups if not group.why_not for channel in group.channels]
    assert len({removal.channel for removal in order}) == len(order) == len(free) - 2  # one of each group stays
    left = [removal.left for removal in order]
    assert left == sorted(left, reverse=True)
    half = removals(CONVOLUTIONS, found, tensors(CONVOLUTIONS), samples(), 0.5)
    assert half == order[: len(half)]
    assert half[-1].left <= 0.5 < half[-2].left


def test_what_is_never_read_goes_first() -> None:
    """Channels whose readers have no weights for them make no damage."""
    graph = edit.copy(CONVOLUTIONS)
    node = next(node for node in layers(graph) if node.name == "c")
    weight = node.operand(1).tensor
    assert weight is not None
    data = weight.data.copy()
    data[:, [1, 6]] = 0
    edit.set_tensor(node.operand(1), Tensor(data))
    found = find_channels(graph)
    group = next(group for group in found.groups if len(group.channels) == 8)
    order = removals(graph, found, tensors(graph), samples(), 0.0)
    assert {removal.channel for removal in order[:2]} == {group.channels[1], group.channels[6]}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network whose hidden layer has three times the units that it needs, and points of four classes."""
    folder = tmp_path_factory.mktemp("wide")
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(CLASSES, FEATURES))
    turn = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0]
    units = np.concatenate([turn, -turn, turn])
    back = np.concatenate([turn, -turn, np.zeros((FEATURES, FEATURES))])
    graph = parse(f"""
        graph @wide {{
          input %x : f32[N,{FEATURES}]
          weight %a.weight = {text(units)}
          weight %b.weight = {text(centres @ back.T)}
          weight %b.bias = {text(-0.5 * np.square(centres).sum(1))}
          %a = dense(%x, %a.weight) {{act=relu}} : f32[N,{HIDDEN}]
          %b = dense(%a, %b.weight, %b.bias) : f32[N,{CLASSES}]
          output %b
        }}""")
    save(graph, folder / "wide.ir")
    drawn = {}
    for split, count in (("train", 900), ("test", 300)):
        y = rng.integers(0, CLASSES, count)
        drawn[f"x_{split}"] = (centres[y] + 0.5 * rng.normal(size=(count, FEATURES))).astype(np.float32)
        drawn[f"y_{split}"] = y
    np.savez(folder / "points.npz", **drawn)
    return folder / "wide.ir", folder / "points.npz"


def test_a_network_that_is_too_wide_becomes_smaller(wide: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = wide
    options = Options(constraint=Constraint(0.02))
    alone = tune(model, str(data), options)
    found = tune(model, str(data), options, prune=True, out=tmp_path)
    assert found.graph is not None
    (left, of) = found.channels["a"]
    assert of == HIDDEN
    assert left <= 2 * FEATURES
    assert found.graph.values["a"].tensor_type.shape == ("N", left)
    assert found.cost < 0.8 * alone.cost
    assert (found.float_cost, found.reference, found.least) == (alone.float_cost, alone.reference, alone.least)
    assert found.spent > alone.spent
    with np.load(data) as arrays:
        judge = SimulationJudge(found.graph, arrays["x_train"], arrays["y_train"])
        right = judge.scores(found.graph, judge.x).argmax(1) == judge.y
    assert right.mean() == found.accuracy >= found.least
    assert found.held_out is not None
    assert alone.held_out is not None
    assert found.held_out.float_right == alone.held_out.float_right
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["channels"] == {"a": {"left": left, "of": HIDDEN}}
    with (tmp_path / "front.csv").open() as stream:
        front = [(float(row["objective"]), float(row["accuracy"])) for row in csv.DictReader(stream)]
    whole = [(row.objective, row.accuracy) for row in found.trace if row.images == "full"]
    assert front == sorted(
        {one for one in whole if not any(o <= one[0] and a >= one[1] and (o, a) != one for o, a in whole)}
    )
    assert len(front) > 1
    assert load(tmp_path / "tuned.ir").values["a"].tensor_type.shape == ("N", left)


def test_without_time_nothing_goes(wide: tuple[Path, Path]) -> None:
    model, data = wide
    found = tune(model, str(data), Options(budget=0.0), prune=True)
    assert not found.complete
    assert not found.channels


def test_both_commands(wide: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    model, data = wide
    common = [str(model), "--data", str(data), "--tolerance", "2%", "--prune", "auto"]
    assert run(["tune", *common, "-o", str(tmp_path / "tuned")]) == 0
    assert "channels" in capsys.readouterr().out
    assert run(["compile", *common, "--target", "pynq", "-o", str(tmp_path / "built"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert any(note.startswith("a: ") and note.endswith(f" of {HIDDEN} channels are left") for note in told["notes"])
    assert run(["compile", str(model), "--target", "pynq", "--prune", "auto"]) == 2
    assert "channels are chosen for a tolerance" in capsys.readouterr().err
