"""What whittle keeps of a large network is bounded, and what went is made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitwright.ir.formats.named import fixed
from bitwright.models import datasets
from bitwright.passes.patches import inputs_of
from bitwright.tuner.database import Database
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.objectives import Bits
from bitwright.tuner.platforms import load_platform
from bitwright.tuner.problem import Constraint, Problem
from bitwright.tuner.space import space_of
from bitwright.tuner.targets import targets_of
from bitwright.tuner.whittle import network as module
from bitwright.tuner.whittle.layer import ENOUGH
from bitwright.tuner.whittle.network import Network
from bitwright.tuner.whittle.sensitivity import Sensitivity
from bitwright.tuner.workers import Alone
from bitwright.tuning import prepared

LENET = Path(__file__).parents[2] / "models" / "lenet5.onnx"
IMAGES = 400


@pytest.fixture
def network() -> Network:
    graph, data = prepared(LENET), datasets.load("mnist", "train", IMAGES)
    assert data.y is not None
    targets = targets_of(graph, data.x)
    space = space_of(targets, load_platform("full"), "both")
    judge = SimulationJudge(graph, data.x, data.y, threads=1)
    database = Database(None, judge.identity())
    problem = Problem(space, Bits(targets), judge, Constraint(0.01), database, Alone(judge))
    return Network(problem, graph, data.x, True, threads=1)


def test_rows_that_went_are_made_again(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [target for target in network.order if target.role == "weight"]
    before = {target.name: network.float_rows(target) for target in targets}
    assert set(network.rows) == {target.layer for target in targets}
    network.rows.clear()
    monkeypatch.setattr(module, "MOST_BYTES", 0)
    for target in targets * 2:
        np.testing.assert_array_equal(network.float_rows(target), before[target.name])
        assert set(network.rows) == {target.layer}


def test_a_layer_of_many_inputs_has_fewer_rows(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as memory is for, and those that its weights are told from."""
    conv1, conv3 = (next(t for t in network.order if t.name == f"{name}.weight") for name in ("conv1", "conv3"))
    assert [len(network.float_rows(target)[0]) for target in (conv1, conv3)] == [16_000, 16_000]
    network.rows.clear()
    monkeypatch.setattr(module, "MOST_INPUTS", 25 * 2000)
    counts = [len(network.float_rows(target)[0]) for target in (conv1, conv3)]
    assert counts == [2000, max(ENOUGH * inputs_of(network.node(conv3)) // IMAGES, 1) * IMAGES]


def test_damages_count_the_samples_that_are_kept(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Full-set equivalents are of what was run."""
    monkeypatch.setattr("bitwright.tuner.whittle.floats.MOST_BYTES", 0)
    network: Network = request.getfixturevalue("network")
    sensitivity = Sensitivity(network)
    assert sensitivity.samples == len(network.cuts.x) == 32
    target = next(t for t in network.order if t.role == "input")
    sensitivity.alone((target,), [fixed(2), fixed(4)])
    assert network.problem.spent == pytest.approx(2 * 32 / IMAGES * network.cuts.share(network.place(target)))
