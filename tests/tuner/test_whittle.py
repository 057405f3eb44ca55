"""whittle: what it finds holds, is on its formats' grids, and is what it says; and the networks that it takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import class_scores
from bitwright.cli.main import run
from bitwright.ir.files import load, save
from bitwright.ir.formats import Canonical
from bitwright.ir.formats.named import BIN, fixed
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.models import datasets
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.problem import Constraint, OutOfTime
from bitwright.tuner.space import uniform
from bitwright.tuner.tune import Options, Tuned
from bitwright.tuner.whittle.network import Assignment
from bitwright.tuner.whittle.search import _Whittle
from bitwright.tuner.whittle.sensitivity import Sensitivity, along, divergence, log_probabilities
from bitwright.tuner.whittle.validate import Outcome, Validation
from bitwright.tuning import tune

LENET = Path(__file__).parents[2] / "models" / "lenet5.onnx"
IMAGES = 500
RNG = np.random.default_rng(12)


def numbers(*shape: int, rng: np.random.Generator = RNG) -> str:
    array = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
    return "[" + ",".join(f"{number:.4f}" for number in array.ravel()) + f"] : f32[{','.join(map(str, shape))}]"


NETWORKS = {
    "one layer": f"""
        input %x : f32[N,12]
        weight %d.weight = {numbers(5, 12)}
        %d = dense(%x, %d.weight) : f32[N,5]
        output %d""",
    "no biases": f"""
        input %x : f32[N,12]
        weight %a.weight = {numbers(16, 12)}
        weight %b.weight = {numbers(5, 16)}
        %a = dense(%x, %a.weight) {{act=relu}} : f32[N,16]
        %b = dense(%a, %b.weight) : f32[N,5]
        output %b""",
    "groups": f"""
        input %x : f32[N,4,5,5]
        weight %c.weight = {numbers(8, 2, 3, 3)}
        weight %c.bias = {numbers(8)}
        weight %d.weight = {numbers(5, 72)}
        %c = conv2d(%x, %c.weight, %c.bias) {{
          act=relu, groups=2, kernel=[3,3], pads=[1,1,1,1], strides=[2,2]
        }} : f32[N,8,3,3]
        %f = flatten(%c) {{axis=1}} : f32[N,72]
        %d = dense(%f, %d.weight) : f32[N,5]
        output %d""",
    "a residual sum": f"""
        input %x : f32[N,12]
        weight %a.weight = {numbers(12, 12)}
        weight %a.bias = {numbers(12)}
        weight %s.weight = {numbers(12, 12)}
        weight %e.weight = {numbers(5, 12)}
        %a = dense(%x, %a.weight, %a.bias) {{act=relu}} : f32[N,12]
        %s = dense(%x, %s.weight) : f32[N,12]
        %sum = add(%a, %s) : f32[N,12]
        %again = add(%sum, %x) : f32[N,12]
        %e = dense(%again, %e.weight) : f32[N,5]
        output %e""",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    train, test = datasets.load("mnist", "train", IMAGES), datasets.load("mnist", "test", 300)
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, x_train=train.x, y_train=train.y, x_test=test.x, y_test=test.y)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def lenet(digits: Path, folder: Path) -> Tuned:
    return tune(LENET, str(digits), out=folder)


def judged(found: Tuned, candidate: Candidate) -> float:
    """The accuracy on all search images, measured afresh."""
    judge = found.problem.judge
    assert isinstance(judge, SimulationJudge)
    return SimulationJudge(judge.graph, judge.x, judge.y, judge.k).accuracy(candidate, full=True)


def check_numbers(found: Tuned) -> None:
    """Every number that the network has where a format is, is one of that format's."""
    assert found.graph is not None
    values = {name: found.graph.values[name] for name in found.candidate.values}
    weights = [name for name, value in values.items() if value.tensor_type.number is not None]
    assert weights
    for name in weights:
        tensor, number = values[name].tensor, values[name].tensor_type.number
        assert tensor is not None
        assert number is not None
        np.testing.assert_array_equal(number.quantize(tensor.data), tensor.data)
        np.testing.assert_array_equal(tensor.data, found.candidate.values[name])


def test_lenet_holds_and_is_cheaper_than_one_width_for_all(lenet: Tuned) -> None:
    assert lenet.complete
    assert lenet.least == pytest.approx(0.99 * lenet.reference)
    assert judged(lenet, lenet.candidate) == lenet.accuracy >= lenet.least
    problem = lenet.problem
    together = [problem.formats(uniform(problem.space, fixed(width))) for width in (2, 3, 4, 5, 6, 8)]
    holding = next(c for c in together if judged(lenet, c) >= lenet.least)
    assert lenet.cost < 0.75 * problem.cost(holding)
    assert problem.spent < 150


def test_lenets_numbers_are_its_formats(lenet: Tuned) -> None:
    check_numbers(lenet)


def test_the_tuned_file_scores_as_was_said(
    lenet: Tuned, folder: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["score", str(folder / "tuned.ir"), "--data", str(digits), "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert lenet.held_out is not None
    assert score["value"] == lenet.held_out.accuracy
    assert score["samples"] == 300
    graph = load(folder / "tuned.ir")
    judge = lenet.problem.judge
    assert isinstance(judge, SimulationJudge)
    own = SimulationJudge(graph, judge.x, judge.y)
    assert own.accuracy(Candidate({}), full=True) == lenet.accuracy


def tuned(name: str, folder: Path, tolerance: float, count: int = 1600, platform: str = "full") -> Tuned:
    """One of the networks, on random samples and its own answers."""
    graph: Graph = parse(f"graph @net {{{NETWORKS[name]}\n}}")
    shape = [dim for dim in (graph.inputs[0].tensor_type.shape or ())[1:] if isinstance(dim, int)]
    x = np.random.default_rng(3).normal(size=(2 * count, *shape)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    save(graph, folder / "net.ir")
    options = Options(constraint=Constraint(tolerance))
    return tune(folder / "net.ir", str(folder / "data.npz"), options, platform=platform, metric="agreement")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_all_sorts(name: str, tmp_path: Path) -> None:
    """More images than a first test sees: what was accepted early holds on all of them."""
    found = tuned(name, tmp_path, 0.08)
    assert found.complete
    assert found.reference == 1
    assert judged(found, found.candidate) == found.accuracy >= found.least == pytest.approx(0.92)
    assert found.held_out is not None
    assert found.held_out.accuracy > 0.85
    assert found.cost < found.float_cost / 4
    check_numbers(found)
    assert {target.name for target in found.problem.space.targets} <= set(found.candidate.formats)
    judge = found.problem.judge
    assert isinstance(judge, SimulationJudge)
    for evaluation in found.trace:
        if evaluation.images == "full":
            candidate = found.problem.candidates[evaluation.candidate]
            assert judge.accuracy(candidate, full=True) == evaluation.accuracy


@pytest.mark.parametrize("name", ["one layer", "groups", "a residual sum"])
def test_what_layers_are_fitted_to_is_what_reaches_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values at each cut, in their formats, against a run of what was built before it from the images on."""

    def run(search: _Whittle) -> Candidate:
        network = search.network
        assignment = (fixed(3),) * len(search.variables)
        for i, target in enumerate(network.order):
            if target.role != "weight":
                continue
            graph = network.apply(network.state(assignment, i).built)
            reached = network.state(assignment, i + 1).values
            live = network.cuts.live[network.place(target)]
            found = Simulation(graph).run({graph.inputs[0].name: network.cuts.x}, wanted=live)
            assert reached.keys() == found.keys()
            for value in live:
                number = graph.values[value].tensor_type.number
                ours = reached[value] if number is None else number.quantize(reached[value])
                np.testing.assert_allclose(ours, found[value], rtol=1e-5, atol=1e-6)
        return search.problem.float32

    monkeypatch.setattr(_Whittle, "run", run)
    tuned(name, tmp_path, 0.05, 400)


def test_the_same_again(tmp_path: Path) -> None:
    first, again = (tuned("a residual sum", tmp_path, 0.05, 400) for _ in range(2))
    assert first.candidate.key == again.candidate.key
    assert [e.candidate for e in first.trace] == [e.candidate for e in again.trace]
    assert first.spent == again.spent


def test_a_looser_tolerance_is_never_dearer(tmp_path: Path) -> None:
    costs = [tuned("no biases", tmp_path, tolerance, 400).cost for tolerance in (0.01, 0.05, 0.2)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_what_no_format_holds_stays_float(tmp_path: Path) -> None:
    (tmp_path / "narrow.py").write_text('supported_formats = {"NARROW": {"FIXED": [2], "EXP": [2]}}')
    found = tuned("no biases", tmp_path, 0.01, 400, str(tmp_path / "narrow.py"))
    assert found.accuracy == 1
    assert len(found.trace) > 1
    assert found.candidate.key == found.problem.float32.key


def test_damages_between_measured_widths() -> None:
    """On a line of logarithms; beyond the widest measured, a quarter for every bit."""
    found = along([1, 2, 3, 4, 5, 6, 8], [1, 2, 3, 5], [1.0, 0.5, 0.08, 0.02])
    np.testing.assert_allclose(found, [1.0, 0.5, 0.08, 0.04, 0.02, 0.02 / 4, 0.02 / 64])
    assert along([4], [4], [0.3]) == pytest.approx([0.3])


@pytest.mark.parametrize(("refused", "width"), [(0, 8), (1, 16), (2, 32)])
def test_a_budget_that_ends_while_damages_are_measured_leaves_the_widest_formats(
    digits: Path, monkeypatch: pytest.MonkeyPatch, refused: int, width: int
) -> None:
    """Those of 8 bits, or of 16 where these do not hold."""

    def alone(*_: object) -> list[float]:
        raise OutOfTime

    def tested(validation: Validation, candidate: Candidate) -> Outcome:
        asked.append(candidate.key)
        return replace(real(validation, candidate), holds=len(asked) > refused)

    asked: list[str] = []
    real = Validation.tested
    monkeypatch.setattr(Validation, "tested", tested)
    monkeypatch.setattr(Sensitivity, "alone", alone)
    assert tune(LENET, str(digits)).candidate.key == tune(LENET, str(digits), Options(budget=0.0)).candidate.key
    found = tune(LENET, str(digits), Options(budget=3600.0))
    assert not found.complete
    assert {format.width for format in found.candidate.formats.values()} == {width}
    assert judged(found, found.candidate) == found.accuracy >= found.least


def test_a_budget_that_suffices_changes_nothing(lenet: Tuned, digits: Path) -> None:
    found = tune(LENET, str(digits), Options(budget=3600.0))
    assert found.complete
    assert found.candidate.key == lenet.candidate.key


def test_what_is_refused_at_the_end_is_not_taken_when_the_time_is_over(
    lenet: Tuned, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cheapest that was accepted does not hold with the margin, and the time ends with the search."""
    refused: list[str] = []

    def measured(validation: Validation, candidate: Candidate) -> Outcome:
        found = real(validation, candidate)
        if not refused and found.holds:
            refused.append(candidate.key)
        return replace(found, holds=found.holds and candidate.key not in refused)

    def explore(search: _Whittle) -> bool:
        explored(search)
        raise OutOfTime

    real, explored = Validation.measured, _Whittle.explore
    monkeypatch.setattr(Validation, "measured", measured)
    monkeypatch.setattr(_Whittle, "explore", explore)
    found = tune(LENET, str(digits))
    assert not found.complete
    assert refused == [lenet.candidate.key]
    assert found.candidate.key not in refused
    assert found.cost > lenet.cost


def test_a_search_goes_on_where_all_that_it_accepted_is_refused(
    lenet: Tuned, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looked as if it held on a part of the images does not on all of them: other formats do."""
    rounds: list[set[str]] = []

    def measured(validation: Validation, candidate: Candidate) -> Outcome:
        found = real(validation, candidate)
        if len(rounds) > 1:
            return found
        rounds[0].add(candidate.key)
        return replace(found, holds=False, lost=validation.allowed + 1)

    def explore(search: _Whittle) -> bool:
        rounds.append(set())
        return explored(search)

    real, explored = Validation.measured, _Whittle.explore
    monkeypatch.setattr(Validation, "measured", measured)
    monkeypatch.setattr(_Whittle, "explore", explore)
    found = tune(LENET, str(digits))
    assert len(rounds) == 2
    assert lenet.candidate.key in rounds[0]
    assert found.candidate.key not in rounds[0]
    assert found.cost < found.float_cost / 4
    assert found.accuracy >= found.least


def test_biases_of_few_bits_suit_second_order_rounding(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside those that suit rounding to nearest; from five bits on they are the same."""
    shares: dict[int, list[float]] = {}

    def run(search: _Whittle) -> Candidate:
        network = search.network
        for target in (target for target in network.order if target.role == "weight"):
            statistics = network.statistics_of(target)
            for width in (2, 3, 4, 5):
                formats = network.weight_format(target, fixed(width)), network.weight_start(target, fixed(width))[0]
                ours, nearest = (statistics.error(fitted) for fitted in statistics.fit(formats, sweeps=0))
                shares.setdefault(width, []).append(ours / nearest)
        return search.problem.float32

    monkeypatch.setattr(_Whittle, "run", run)
    tune(LENET, str(digits))
    assert all(max(shares[width]) <= 1 + 1e-6 for width in shares)
    assert all(np.mean(shares[width]) < 0.97 for width in (2, 3))
    assert np.mean(shares[4]) < 1
    assert shares[5] == [1.0] * 5


@pytest.mark.parametrize(
    ("at", "narrower", "hopeful"),
    [(0, 0.01, False), (1, 1e9, False), (1, 1e-9, True)],
    ids=["narrowest already", "lost whatever the others do", "hardly matters"],
)
def test_wider_formats_are_measured_where_a_narrower_one_may_hold(
    at: int, narrower: float, hopeful: bool, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With damages that are made up: 1 of the point found, all of what is allowed being lost there."""
    measured: list[tuple[int, int]] = []

    def changed(sensitivity: Sensitivity, found: Assignment, number: int, format: Canonical) -> float:
        measured.append((number, format.width - found[number].width))
        return 1.0 + narrower

    def run(search: _Whittle) -> Candidate:
        search.options = [search.formats(variable, 4) for variable in search.variables]
        found = tuple(formats[at] for formats in search.options)
        search.losses[found] = search.validation.allowed
        search.refine(found)
        return search.problem.float32

    monkeypatch.setattr(Sensitivity, "together", lambda *_: 1.0)
    monkeypatch.setattr(Sensitivity, "changed", changed)
    monkeypatch.setattr(_Whittle, "validated", lambda *_: None)
    monkeypatch.setattr(_Whittle, "trim", lambda *_: None)
    monkeypatch.setattr(_Whittle, "run", run)
    tune(LENET, str(digits))
    assert any(step < 0 for _, step in measured) == (at > 0)
    assert any(step > 0 for _, step in measured) == hopeful


def clusters(rng: np.random.Generator, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Points of four kinds in twelve dimensions, and which kind each is of, by the names of a data file."""
    centres = rng.normal(size=(4, 12))
    points = {}
    for part, count in counts.items():
        points[f"y_{part}"] = rng.integers(0, 4, count)
        points[f"x_{part}"] = (centres[points[f"y_{part}"]] + 0.8 * rng.normal(size=(count, 12))).astype(np.float32)
    return points


def test_coupled_outputs_leave_the_answers_nearer(tmp_path: Path) -> None:
    """A layer of many outputs that few classes look at, in one bit: the divergence on images that nothing saw."""
    rng = np.random.default_rng(3)
    points = clusters(rng, {"train": 1200, "test": 400})
    np.savez(tmp_path / "points.npz", **points)  # type: ignore[arg-type]
    graph = parse(f"""graph @wide {{
        input %x : f32[N,12]
        weight %a.weight = {numbers(48, 12, rng=rng)}
        weight %b.weight = {numbers(4, 48, rng=rng)}
        %a = dense(%x, %a.weight) : f32[N,48]
        %b = dense(%a, %b.weight) : f32[N,4]
        output %b
    }}""")
    save(graph, tmp_path / "wide.ir")
    found: list[float] = []

    def run(search: _Whittle) -> Candidate:
        network = search.network
        assert {name for name in network.influences} == {"a", "b"}
        formats = tuple(fixed(8) if v.role == "input" else BIN for v in search.variables)
        for couplings in ({}, dict.fromkeys("ab")):
            network.couplings, network.states = dict(couplings), {}
            network.reached, network.float_statistics = {}, {}
            made = network.build(formats).apply(network.graph)
            outputs = [class_scores(Simulation(g), points["x_test"]) for g in (network.graph, made)]
            found.append(divergence(log_probabilities(outputs[0]), outputs[1]))
        return search.problem.float32

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Whittle, "run", run)
        tune(tmp_path / "wide.ir", str(tmp_path / "points.npz"))
    coupled, alone = found
    assert coupled < 0.6 * alone


WEIGHTS = {"a": (12, 12), "b": (12, 12), "d": (4, 12)}


def test_layers_that_share_a_bias_are_fitted_one_by_one(tmp_path: Path) -> None:
    """As if each had a copy of its own."""
    points = clusters(np.random.default_rng(0), {"train": 400, "test": 200})
    np.savez(tmp_path / "points.npz", **points)  # type: ignore[arg-type]
    weights = "".join(f"weight %{name}.weight = {numbers(*shape)}\n" for name, shape in WEIGHTS.items())
    halves = "= [" + ",".join(["0.5"] * 12) + "] : f32[12]\n"
    found = []
    for other in ("a.bias", "b.bias"):
        biases = "".join(f"weight %{name} {halves}" for name in dict.fromkeys(("a.bias", other)))
        text = f"""graph @shared {{
            input %x : f32[N,12]
            {weights}{biases}
            %a = dense(%x, %a.weight, %a.bias) {{act=relu}} : f32[N,12]
            %b = dense(%a, %b.weight, %{other}) {{act=relu}} : f32[N,12]
            %d = dense(%b, %d.weight) : f32[N,4]
            output %d
        }}"""
        graph = parse(text)
        options = Options(constraint=Constraint(0.1))
        found.append(tune(graph, str(tmp_path / "points.npz"), options, metric="agreement"))
    shared, own = found
    assert shared.graph is not None
    assert own.graph is not None
    assert (shared.cost, shared.accuracy) == (own.cost, own.accuracy)
    for layer in ("a", "b"):
        biases_of = [network.graph.values[layer].producer.operand(2).tensor.data for network in (shared, own)]  # type: ignore[union-attr]
        np.testing.assert_array_equal(*biases_of)
