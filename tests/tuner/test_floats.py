"""One pass of all images: what is kept of it, against onnxruntime on all of them at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitwright.backends.simulation.run import Simulation
from bitwright.ir.graph import Graph
from bitwright.tuner.whittle.floats import LEAST_SAMPLES, affordable, float_pass
from bitwright.tuning import prepared

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return prepared(MODELS / "mlp_m.onnx")


@pytest.mark.parametrize("images", [20, 50, 300])
@pytest.mark.parametrize("needed", [{}, {"fc2": 10}, {"image": 70, "relu1": 120}, {"relu1": 1_000}])
def test_what_is_kept(graph: Graph, images: int, needed: dict[str, int]) -> None:
    names = {
        name: value.name
        for name, value in zip(("image", "relu1", "fc2"), (graph.inputs[0], *hidden(graph)), strict=True)
    }
    needed = {names[name]: count for name, count in needed.items()}
    x = np.random.default_rng(0).random((images, 1, 28, 28), np.float32)
    samples = min(50, images)
    found = float_pass(graph, x, samples, [names["image"], names["relu1"]], needed, threads=1)

    wanted = [names["relu1"], names["fc2"], graph.outputs[0].value.name]
    whole = Simulation(graph, 1).run({"image": x}, wanted=wanted) | {names["image"]: x}
    np.testing.assert_allclose(found.scores, whole[wanted[2]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.logits, found.scores[:samples])
    for name in (names["image"], names["relu1"]):
        np.testing.assert_allclose(found.values[name], whole[name][:samples], rtol=1e-5, atol=1e-6)
    poor = {name: count for name, count in needed.items() if count > samples and images > samples}
    assert set(found.further) == set(poor)
    for name, count in poor.items():
        np.testing.assert_allclose(found.further[name], whole[name][samples:count], rtol=1e-5, atol=1e-6)


def hidden(graph: Graph) -> list:
    """What the second and the third layer read."""
    dense = [node for node in graph.nodes if node.op == "dense"]
    return [node.operand(0) for node in dense[1:]]


def test_a_large_network_is_kept_of_fewer_samples(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    name = graph.inputs[0].name
    monkeypatch.setattr("bitwright.tuner.whittle.floats.MOST_BYTES", 4 * 784 * 100)
    assert affordable(graph, [name]) == 100
    assert affordable(graph, [name] * 100) == LEAST_SAMPLES
