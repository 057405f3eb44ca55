"""backends/simulation of many formats: a session is built where the graph computes otherwise, not for other numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulated import SMALL, images, network, with_formats

from bitwright.backends.simulation import run as run_module
from bitwright.backends.simulation.run import Simulation, session_of
from bitwright.ir import edit
from bitwright.ir.evaluate import evaluate
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every session that is built."""
    sizes: list[int] = []

    def counted(model: bytes | str, threads: int = 0) -> Any:
        sizes.append(len(model))
        return session_of(model, threads)

    monkeypatch.setattr(run_module, "session_of", counted)
    return sizes


@pytest.mark.parametrize(
    "formats",
    [
        {"x": "FIXED 5 -1", "w": "FIXED 3", "conv": "FIXED 4", "scaled": "FIXED 4 1", "v": "FIXED 2", "fc": "FIXED 5"},
        {"x": "UFIXED 5", "conv": "UFIXED 7 -1"},
        {"w": "FIXED<5,B={-1,0,3}@0>", "v": "EXP<4,B={3,4,5,6}@0>"},
        {"w": "EXP 3", "v": "BIN 1 2"},
        {"w": "FLOAT 16", "v": "AFFINE<8,scale=0.01,zero=100>"},
        {"w": "AFFINE<8,scale={0.1,0.2,0.3}@0,zero=5>"},
    ],
)
def test_other_numbers_build_no_session(formats: dict[str, str], built: list[int]) -> None:
    base = parse(SMALL)
    other = with_formats(base, formats)
    simulation = Simulation(base, 1)
    before = simulation.run(images(0))["scores"]
    assert len(built) == 1
    assert all(simulation.exact.values())
    simulation.use(other)
    found = simulation.run(images(0))["scores"]
    assert len(built) == 1
    fresh = Simulation(other, 1)
    assert np.array_equal(found, fresh.run(images(0))["scores"])
    assert not np.array_equal(found, before)
    assert simulation.exact == fresh.exact
    if all(fresh.exact.values()):
        assert np.array_equal(found, evaluate(other, images(0))["scores"])
    simulation.use(base)
    assert np.array_equal(simulation.run(images(0))["scores"], before)


def test_all_sessions_share_one_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of onnxruntime once, and taken by every session; one that whoever uses bitwright made is no error."""
    registered: list[Any] = []

    def register(memory: Any, arena: Any) -> None:
        registered.append(memory.name)
        raise RuntimeError("it is registered already")

    run_module._register_arena.cache_clear()
    monkeypatch.setattr(run_module.onnxruntime, "create_and_register_allocator", register)
    simulation = Simulation(parse(SMALL), 1, bake_from=4)
    simulation.run(images(0))
    simulation.run(images(0, 4))
    sessions = [*simulation.sessions.values(), *simulation.baked.values()]
    entries = [one.get_session_options().get_session_config_entry("session.use_env_allocators") for one in sessions]
    assert entries == ["1", "1"]
    assert len(registered) == 1
    monkeypatch.undo()
    run_module._register_arena.cache_clear()


def test_another_kind_of_activation_builds_one_session_once(built: list[int]) -> None:
    base = parse(SMALL)
    simulation = Simulation(base, 1)
    for name, kinds in {"conv": ["EXP 4", "BIN", "FLOAT 9", "AFFINE<8,scale=0.1>"], "x": ["EXP 5"]}.items():
        for kind in kinds:
            other = with_formats(base, {name: kind})
            for graph in (base, other, base, other):
                simulation.use(graph)
                simulation.run(images(0))
    assert len(built) == 5  # EXP and FLOAT have one quantiser


def test_a_move_that_begins_to_round_builds_a_session(built: list[int]) -> None:
    base = parse(SMALL)
    other = parse(SMALL.replace("%flat = flatten(%scaled) : FIXED<8,B=-2>", "%flat = flatten(%scaled) : FIXED<4,B=-2>"))
    simulation = Simulation(base, 1)
    simulation.run(images(0))
    simulation.use(other)
    assert np.array_equal(simulation.run(images(0))["scores"], Simulation(other, 1).run(images(0))["scores"])


def test_weights_of_unchanged_formats_stay_quantised_and_new_data_do_not() -> None:
    base = parse(SMALL)
    simulation = Simulation(base, 1)
    simulation.run(images(0))
    changed = edit.copy(base)
    tensor = changed.values["w"].tensor
    assert tensor is not None
    edit.set_tensor(changed.values["w"], Tensor(-tensor.data))
    kept = dict(simulation.parameters.quantized)
    simulation.use(changed)
    found = simulation.run(images(0))["scores"]
    assert np.array_equal(found, Simulation(changed, 1).run(images(0))["scores"])
    assert all(simulation.parameters.quantized[key] is array for key, array in kept.items())
    assert len(simulation.parameters.quantized) == len(kept) + 1


@pytest.mark.parametrize("start", range(0, 40, 10))
def test_the_baked_path_and_the_one_of_parameters_agree(start: int, built: list[int]) -> None:
    for seed in range(start, start + 10):
        graph = network(seed)
        simulation = Simulation(graph, 1, bake_from=4)
        if all(simulation.exact.values()):
            few, many = images(seed), images(seed, 4)
            many["image"][:3] = few["image"]
            given, baked = simulation.run(few), simulation.run(many)
            for name, array in given.items():
                if graph.outputs[0].name == name:
                    assert np.array_equal(array, baked[name][:3]), f"seed {seed}\n{graph}"
    assert len(built) >= 4


def test_a_baked_session_is_of_the_present_formats(built: list[int]) -> None:
    base = parse(SMALL)
    simulation = Simulation(base, 1, bake_from=1)
    first = simulation.run(images(0))["scores"]
    simulation.run(images(1))
    assert len(built) == 1
    simulation.use(with_formats(base, {"conv": "FIXED 3"}))
    second = simulation.run(images(0))["scores"]
    assert len(built) == 2
    assert not np.array_equal(first, second)
    assert np.array_equal(second, Simulation(simulation.graph, 1).run(images(0))["scores"])
