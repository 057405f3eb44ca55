"""Training: what it learns from, that it never makes a network worse, and that nothing but seed and data decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright
from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array, Tensor
from bitwright.passes import Context, run_passes
from bitwright.retraining import in_formats

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'bitwright[train]'")

from bitwright.train.settings import Settings  # noqa: E402
from bitwright.train.training import Trained, held_back, train  # noqa: E402

TEXT = """\
graph @small {
  input %image : f32[N,1,6,6]
  weight %conv1.w = 00000001 : f32[8,1,3,3]
  weight %conv1.b = 00000002 : f32[8]
  %conv1 = conv2d(%image, %conv1.w, %conv1.b) {act=relu, kernel=[3,3], pool=[2,2]} : f32[N,8,2,2]
  %flat = flatten(%conv1) : f32[N,32]
  weight %fc2.w = 00000003 : f32[4,32]
  weight %fc2.b = 00000004 : f32[4]
  %fc2 = dense(%flat, %fc2.w, %fc2.b) : f32[N,4]
  %shares = softmax(%fc2) : f32[N,4]
  output %shares
}
"""
QUICK = Settings(epochs=3, batch=16)


def samples(count: int = 300, seed: int = 0) -> tuple[Array, Array]:
    """Pictures of one bright quarter, whose class is which."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 4, count)
    x = random.uniform(0, 0.6, (count, 1, 6, 6)).astype(np.float32)
    for picture, label in zip(x, y, strict=True):
        row, column = divmod(int(label), 2)
        picture[0, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3] += 0.4
    return x, y


def accuracy(graph: Graph, x: Array, y: Array) -> float:
    return float((evaluate(graph, {"image": x})["shares"].argmax(1) == y).mean())


@pytest.fixture(scope="module")
def float_network() -> Graph:
    """A network that knows the quarters."""
    x, y = samples(600, 1)
    found = train(bitwright.parse(TEXT), x, y, Settings(epochs=15, batch=16, rate=0.05))
    assert accuracy(found.graph, *samples(400, 2)) > 0.97
    return found.graph


def coarse(graph: Graph) -> Graph:
    """The network in formats so narrow that it fails."""
    return in_formats(graph, "FIXED 2", samples(100)[0])


def numbers(graph: Graph) -> dict[str, Array]:
    return {value.name: value.tensor.data for value in graph.weights}


def assert_same(one: Trained, other: Trained) -> None:
    assert str(one.graph) == str(other.graph)  # weights are known by the hashes of their bits
    assert one.epochs[1:] == other.epochs[1:]


def test_labels_teach_a_quantised_network(float_network: Graph) -> None:
    graph = coarse(float_network)
    before = accuracy(graph, *samples(400, 2))
    found = train(graph, *samples(), QUICK)
    after = accuracy(found.graph, *samples(400, 2))
    assert before < 0.9 < after
    assert [epoch.number for epoch in found.epochs] == [0, 1, 2, 3]
    assert found.best > 0
    for value in found.graph.weights:
        number = value.tensor_type.number
        if number is not None:
            np.testing.assert_array_equal(number.quantize(value.tensor.data), value.tensor.data)


def test_the_last_epoch_is_kept_where_that_is_wanted(float_network: Graph) -> None:
    """What is trained on has wrong labels, and the start alone gives those that the held samples have."""
    x, y = samples()
    held, shown = held_back(len(x), QUICK.seed)
    y[held] = evaluate(float_network, {"image": x[held]})["shares"].argmax(1)
    y[shown] = (y[shown] + 1) % 4
    best, last = (train(float_network, x, y, replace(QUICK, keep=keep)) for keep in ("best", "last"))
    assert best.epochs[1:] == last.epochs[1:]
    assert (best.best, last.best) == (0, QUICK.epochs)
    assert accuracy(last.graph, x[held], y[held]) == pytest.approx(last.epochs[-1].agreeing)
    assert accuracy(best.graph, x[held], y[held]) == 1 > last.epochs[-1].agreeing


def test_biases_of_formats_are_learned_where_that_is_wanted(float_network: Graph) -> None:
    graph = coarse(float_network)
    settings = replace(QUICK, rate=0.2)  # so that biases move in few steps
    kept, moved = (train(graph, *samples(), replace(settings, learn_biases=b)).graph for b in (False, True))
    assert {v.name: v.type for v in kept.values.values()} == {v.name: v.type for v in graph.values.values()}
    assert {v.name: v.type for v in moved.values.values()} != {v.name: v.type for v in graph.values.values()}
    assert moved.inputs[0].type == graph.inputs[0].type


def test_a_teacher_teaches_without_labels(float_network: Graph) -> None:
    graph = coarse(float_network)
    x, y = samples()
    found = train(graph, x, None, QUICK, teacher=float_network)
    assert accuracy(found.graph, *samples(400, 2)) > 0.9
    held = found.epochs[found.best]
    assert held.agreeing > found.epochs[0].agreeing
    both = train(graph, x, y, QUICK, teacher=float_network)
    assert accuracy(both.graph, *samples(400, 2)) > 0.9
    assert str(both.graph) != str(found.graph)


def test_a_pruned_network_keeps_its_names(float_network: Graph) -> None:
    pruned = run_passes(float_network, "prune-channels{sparsity=0.9,layer=conv1}")
    assert pruned.values["conv1.w"].tensor.shape == (1, 1, 3, 3)
    found = train(pruned, *samples(), QUICK)
    assert list(found.graph.values) == list(pruned.values)
    assert {v.name: v.type for v in found.graph.values.values()} == {v.name: v.type for v in pruned.values.values()}
    assert found.graph.outputs[0].value.name == "shares"
    before, after = (accuracy(graph, *samples(400, 2)) for graph in (pruned, found.graph))
    assert after > before


def test_a_network_that_gets_worse_stays_as_it_was(float_network: Graph) -> None:
    x, y = samples()
    ruined = train(float_network, x, y, Settings(epochs=2, batch=16, rate=1.0))
    best = ruined.epochs[ruined.best]
    assert (best.agreeing, -best.held_loss) == max((epoch.agreeing, -epoch.held_loss) for epoch in ruined.epochs)
    assert ruined.best == 0
    for name, data in numbers(ruined.graph).items():
        np.testing.assert_array_equal(data, numbers(float_network)[name])


def test_a_tenth_is_never_trained_on(float_network: Graph) -> None:
    x, y = samples(20)
    plain = train(float_network, x, y, Settings(epochs=1, batch=6)).epochs
    trained_on, held = set(), set()
    for i in range(20):
        other = y.copy()
        other[i] = (y[i] + 1) % 4
        start, end = train(float_network, x, other, Settings(epochs=1, batch=6)).epochs
        trained_on |= {i} if end.loss != plain[1].loss else set()
        held |= {i} if start.held_loss != plain[0].held_loss else set()
    assert len(held) == 2
    assert trained_on == set(range(20)) - held


def test_a_training_that_overflows_gives_the_start(float_network: Graph) -> None:
    x, y = samples(100)
    found = train(float_network, x, y, Settings(epochs=2, batch=16, rate=1e30))
    assert found.best == 0
    assert not np.isfinite(found.epochs[2].held_loss)
    assert accuracy(found.graph, *samples(400, 2)) == accuracy(float_network, *samples(400, 2))


def test_scores_stay_float_behind_what_only_moves_them() -> None:
    text = TEXT.replace(
        "%shares = softmax(%fc2)", "%turned = reshape(%fc2) {shape=[0,4]} : f32[N,4]\n  %shares = softmax(%turned)"
    )
    made = in_formats(bitwright.parse(text), "FIXED 2", samples(50)[0])
    types = {name: str(value.type) for name, value in made.values.items()}
    assert types["fc2"] == types["turned"] == "f32[N,4]"
    assert types["conv1"].startswith("UFIXED<2")
    assert types["fc2.w"].startswith("FIXED<2,B={")


def test_the_seed_decides(float_network: Graph) -> None:
    graph, before = coarse(float_network), torch.are_deterministic_algorithms_enabled()
    one, again = (train(graph, *samples(), QUICK) for _ in range(2))
    assert_same(one, again)
    other = train(graph, *samples(), Settings(epochs=3, batch=16, seed=1))
    assert str(other.graph) != str(one.graph)
    assert torch.are_deterministic_algorithms_enabled() == before


class Stopped(Exception):
    """Raised in the middle of a training."""


@pytest.mark.parametrize("step", [17, 18, 40])
def test_a_stopped_training_goes_on_to_the_same_bits(float_network: Graph, tmp_path: Path, step: int) -> None:
    graph, (x, y) = coarse(float_network), samples()

    def mirrored(batch: Any) -> Any:
        return torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch, batch + 0.05)

    given: dict[str, Any] = {"augment": mirrored, "checkpoint": tmp_path / "state"}
    whole = train(graph, x, y, QUICK, augment=mirrored)
    assert str(whole.graph) != str(train(graph, x, y, QUICK).graph)

    def stop(progress: Any) -> None:
        if progress.step == step:
            raise Stopped

    with pytest.raises(Stopped):
        train(graph, x, y, QUICK, say=stop, **given)
    steps: list[int] = []
    resumed = train(graph, x, y, QUICK, resume=True, say=lambda progress: steps.append(progress.step), **given)
    assert_same(whole, resumed)
    assert steps[0] == 17 * (step // 17)  # 17 steps an epoch
    assert not list(tmp_path.glob("*.part"))


def test_a_checkpoint_inside_an_epoch(float_network: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, (x, y) = coarse(float_network), samples()
    whole = train(graph, x, y, QUICK)
    monkeypatch.setattr("bitwright.train.training.SECONDS", 0.0)  # after every step

    def stop(progress: Any) -> None:
        if progress.step == 25:
            raise Stopped

    with pytest.raises(Stopped):
        train(graph, x, y, QUICK, checkpoint=tmp_path / "state", say=stop)
    steps: list[int] = []
    given: dict[str, Any] = {"checkpoint": tmp_path / "state", "resume": True}
    assert_same(whole, train(graph, x, y, QUICK, say=lambda progress: steps.append(progress.step), **given))
    assert steps[0] == 25
    assert_same(whole, train(graph, x, y, QUICK, **given))  # there is nothing left to do


def test_a_checkpoint_of_something_else_is_refused(float_network: Graph, tmp_path: Path) -> None:
    graph, (x, y), place = coarse(float_network), samples(), tmp_path / "state"
    train(graph, x, y, Settings(epochs=1), checkpoint=place)
    other = {"checkpoint": place, "resume": True}
    for changed in (
        lambda: train(graph, x, y, Settings(epochs=2), **other),
        lambda: train(graph, x + 1, y, Settings(epochs=1), **other),
        lambda: train(graph, x, 3 - y, Settings(epochs=1), **other),
        lambda: train(float_network, x, y, Settings(epochs=1), **other),
        lambda: train(graph, x, y, Settings(epochs=1), teacher=float_network, **other),
    ):
        with pytest.raises(CompileError, match="is of another network, other data or other settings\n  help: leave"):
            changed()
    place.write_bytes(b"PK no checkpoint")
    with pytest.raises(CompileError, match="not a checkpoint, or damaged"):
        train(graph, x, y, Settings(epochs=1), **other)


def test_a_layer_of_zeros_can_learn(float_network: Graph) -> None:
    graph = edit.copy(float_network)
    for name in ("fc2.w", "fc2.b"):
        value = graph.values[name]
        edit.set_tensor(value, Tensor(np.zeros_like(value.tensor.data)))
    found = train(graph, *samples(), Settings(epochs=5, batch=16, rate=0.05))
    assert accuracy(found.graph, *samples(400, 2)) > 0.9


def test_what_cannot_be_trained_is_said(float_network: Graph) -> None:
    x, y = samples(40)
    with pytest.raises(CompileError, match="labels run from 0 to 7, the network has 4 classes"):
        train(float_network, x, np.where(y == 3, 7, y))
    with pytest.raises(CompileError, match="nothing to learn from: no labels and no teacher"):
        train(float_network, x, None)
    with pytest.raises(CompileError, match=r"input \"image\" has shape \[40, 1, 5, 6\]"):
        train(float_network, x[:, :, 1:], y)
    three = run_passes(bitwright.parse(TEXT.replace("[4", "[3").replace("N,4", "N,3")), "remove-dead", Context())
    with pytest.raises(CompileError, match="the network has 4 classes, its teacher 3"):
        train(float_network, x, None, teacher=three)
    with pytest.raises(CompileError, match="no weights of conv2d or dense to train"):
        train(bitwright.parse("graph @g {\n  input %x : f32[N,4]\n  %y = relu(%x) : f32[N,4]\n  output %y\n}\n"),
              x[:, 0, 0, :4], y)  # fmt: skip
