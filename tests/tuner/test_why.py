"""Why a tensor has its format: numbers counted by hand, damages by whole runs, and what the command line tells."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitwright
from bitwright.cli.explain import PLAIN_LEVELS, picture
from bitwright.cli.main import run
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, parse
from bitwright.ir.graph import Graph
from bitwright.tuner.algorithms import ALGORITHMS
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.histogram import BINS, Histogram, distinct, histogram_of, saturates
from bitwright.tuner.platforms import Platform, load_platform, platform_of
from bitwright.tuner.problem import Constraint
from bitwright.tuner.space import covering
from bitwright.tuner.tune import Options, Samples, Tuned, tune_network
from bitwright.tuner.why import Explanation, explanations, price
from bitwright.tuning import prepared

TINY = (Path(__file__).parents[1] / "tiny.ir").read_text()
NAMES = ["conv1.weight", "fc2.weight", "conv1.input", "fc2.input"]
SMALL = platform_of({"small": {"FIXED": [3, 6]}})  # 16 assignments, for the exhaustive search
X = np.random.default_rng(6).uniform(-1, 1, (120, 1, 6, 6)).astype(np.float32)


def canonical(text: str) -> Canonical:
    found = parse(text)
    assert isinstance(found, Canonical)
    return found


@pytest.fixture(scope="module")
def graph() -> Graph:
    return prepared(bitwright.parse(TINY))


def tuned(graph: Graph, algorithm: str, platform: Platform | None = None, **options: Any) -> Tuned:
    options = {"constraint": Constraint(0.1)} | options
    platform = platform or (SMALL if algorithm == "exhaustive" else load_platform("full"))
    return tune_network(graph, Samples(X, None), None, platform, Options(algorithm=algorithm, **options))


@pytest.fixture(scope="module")
def plain(graph: Graph) -> Tuned:
    """Numbers rounded to nearest: weights in FIXED 3, inputs in FIXED 6."""
    found = tuned(graph, "exhaustive")
    widths = {target: "FIXED 3" if target.role == "weight" else "FIXED 6" for target in found.problem.space.targets}
    formats = {target.name: covering(canonical(text), target) for target, text in widths.items()}
    return replace(found, candidate=found.problem.formats(formats))


def divergence(graph: Graph, candidate: Candidate) -> float:
    """The damage of a candidate, from two whole runs."""
    exact, found = (
        np.asarray(bitwright.simulate(one, X)["scores"], np.float64) for one in (graph, candidate.apply(graph))
    )
    p, q = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True) for scores in (exact, found))
    return float((p * np.log(p / q)).sum(1).mean())


def accuracy(graph: Graph, candidate: Candidate) -> float:
    exact, found = (bitwright.simulate(one, X)["scores"].argmax(1) for one in (graph, candidate.apply(graph)))
    return float((exact == found).mean())


# ---- histograms


def test_numbers_are_counted_by_hand() -> None:
    x = np.array([-3.0, -1.0, -0.3, -0.05, 0.0, 0.1, 0.5, 0.87, 0.9, 2.0], np.float32)
    format = canonical("FIXED 4")  # steps of 0.25 up to 1.75
    found = histogram_of(x, format.quantize(x), format)
    assert (found.least, found.most) == (-1.75, 1.75)
    assert found.saturated == pytest.approx(0.2)  # -3 and 2; 1.875 would still round to 1.75
    assert found.zeroed == pytest.approx(0.2)  # -0.05 and 0.1
    assert (found.used, found.codes) == (8, 15)  # -1.75, -1, -0.25, 0, 0.5, 0.75, 1, 1.75
    assert sum(found.counts) == 10
    assert len(found.counts) == BINS
    assert found.counts == tuple(np.histogram(x.astype(np.float64), BINS)[0])
    noise = np.square(x - format.quantize(x)).sum()
    assert found.sqnr == pytest.approx(10 * math.log10(np.square(x).sum() / noise), abs=1e-4)
    assert found.beyond[0]
    assert found.beyond[-1]
    assert not any(found.beyond[7:-2])


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("FIXED 4", [1.87, -1.87], [1.88, -1.88]),
        ("UFIXED 4", [1.93, -0.06], [1.94, -0.07]),  # steps of 0.125 up to 1.875
        ("EXP 3 0", [1.0, 11.9, -11.9], [12.1, -12.1]),  # up to 8, from 12 on to 16
        ("BIN", [1.4, 0.0, -1.4], [1.6, -1.6]),
        ("FLOAT 32", [3e38], []),
    ],
)
def test_saturation_is_more_than_rounding(text: str, inside: list[float], outside: list[float]) -> None:
    format = canonical(text)
    assert not saturates(np.array(inside), format).any()
    assert saturates(np.array(outside), format).all()


def test_channels_have_ends_of_their_own() -> None:
    format = canonical("FIXED 3").at((0, 3), 0)  # up to 1.5 and 0.1875
    x = np.array([[1.0, 0.5], [1.0, 0.1]])
    assert saturates(x, format).tolist() == [[False, False], [True, False]]
    found = histogram_of(x, format.quantize(x), format)
    assert (found.saturated, found.most, found.used) == (0.25, 1.5, 3)


@pytest.mark.parametrize("text", ["FIXED 2", "FIXED 5", "UFIXED 3", "BIN", "EXP 3", "FLOAT 8"])
def test_codes_are_the_numbers_of_a_format(text: str) -> None:
    assert distinct(canonical(text)) == len(canonical(text).values())


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_tensors_have_a_histogram(value: float) -> None:
    found = histogram_of(np.full(7, value), np.full(7, value), canonical("FIXED 4"))
    assert (sum(found.counts), found.sqnr, found.used, found.saturated) == (7, None, 1, 0.0)
    json.dumps(found.as_dict(), allow_nan=False)


# ---- damages and prices


def test_damages_are_those_of_whole_runs(graph: Graph, plain: Tuned) -> None:
    formats = dict(plain.candidate.formats)
    for one in explanations(plain):
        own = formats[one.name]
        assert (one.format, one.width) == (str(own), own.width)
        assert [point.width for point in one.curve] == list(range(1, 9))
        assert [point.width for point in one.curve if point.offered] == [3, 6]
        assert not any(point.format.startswith("UFIXED") for point in one.curve)
        for point in one.curve:
            format = canonical(point.format)
            assert format.width == point.width
            assert point.alone == pytest.approx(divergence(graph, Candidate({one.name: format})), abs=1e-6)
            whole = Candidate({**formats, one.name: format})
            assert point.in_context == pytest.approx(divergence(graph, whole), abs=1e-6)


def test_steps_and_prices_are_differences(graph: Graph, plain: Tuned) -> None:
    seen = set()
    for one in explanations(plain):
        seen.add(one.width)
        assert (one.fewer is None, one.more is None) == (one.width == 3, one.width == 6)
        step = one.more or one.fewer
        assert step is not None
        changed = Candidate({**plain.candidate.formats, one.name: canonical(step.format)})
        damage = divergence(graph, changed) - divergence(graph, plain.candidate)
        assert step.objective == plain.problem.cost(changed) - plain.cost
        assert step.objective == (canonical(step.format).width - one.width) * one.size
        assert step.damage == pytest.approx(damage, abs=1e-6)
        assert step.accuracy == pytest.approx(accuracy(graph, changed) - accuracy(graph, plain.candidate))
        if one.fewer is None:
            assert one.price is None
        elif damage > 1e-4:
            assert one.price == pytest.approx(3 * one.size / damage, rel=1e-3)
    assert seen == {3, 6}  # both a narrower and a wider step were seen


def test_price_needs_damage() -> None:
    assert price(-6.0, 0.5) == 12.0
    assert price(-6.0, 0.0) is None
    assert price(-6.0, -0.1) is None
    assert price(None, 0.5) is None


def test_what_cannot_be_built_has_no_price(plain: Tuned) -> None:
    problem = replace(plain.problem, objective=lambda formats: math.inf)
    for one in explanations(replace(plain, problem=problem), Samples(X[:20], None)):
        assert one.price is None
        assert [step.objective for step in (one.fewer, one.more) if step is not None] == [None]


def test_numbers_of_weights_and_inputs(graph: Graph, plain: Tuned) -> None:
    found = {one.name: one.numbers for one in explanations(plain)}
    weights = {
        "conv1.weight": graph.values["conv1.w"].tensor,
        "fc2.weight": graph.values["fc2.w"].tensor,
    }
    for name, tensor in weights.items():
        assert tensor is not None
        format = plain.candidate.formats[name]
        assert found[name].counts == histogram_of(tensor.data, format.quantize(tensor.data), format).counts
        assert found[name].zeroed == pytest.approx(((tensor.data != 0) & (format.quantize(tensor.data) == 0)).mean())
    assert sum(found["conv1.input"].counts) == X.size
    assert found["conv1.input"].low == float(X.min())
    assert found["fc2.input"].low == 0.0  # after a relu


def test_numbers_that_the_search_replaced_are_what_is_compared(graph: Graph) -> None:
    found = tuned(graph, "whittle")
    assert found.candidate.values
    for one in explanations(found):
        if one.role == "weight":
            name = one.name.replace("weight", "w")
            exact, own = graph.values[name].tensor, found.candidate.values[name]
            assert exact is not None
            noise = float(np.square(exact.data.astype(np.float64) - own).sum())
            signal = float(np.square(exact.data.astype(np.float64)).sum())
            assert one.numbers.sqnr == pytest.approx(10 * math.log10(signal / noise))
            assert one.numbers.used <= one.numbers.codes
        point = next(point for point in one.curve if point.width == one.width)
        assert point.in_context == pytest.approx(divergence(graph, found.candidate), abs=1e-6)


def test_the_last_layer_in_context_is_the_network_with_it_changed(graph: Graph) -> None:
    found = tuned(graph, "whittle")
    last = next(one for one in explanations(found) if one.name == "fc2.weight")
    assert last.more is not None
    near = next(point for point in last.curve if point.format == last.more.format)
    assert last.more.damage == pytest.approx(near.in_context - divergence(graph, found.candidate), abs=1e-6)


# ---- every result


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_results_of_every_algorithm_are_explained(graph: Graph, algorithm: str) -> None:
    found = tuned(graph, algorithm)
    spent, trace = found.spent, len(found.trace)
    told = explanations(found)
    assert [one.name for one in told] == NAMES
    for one in told:
        _check(one, found)
    assert (found.spent, len(found.trace)) == (spent, trace)
    assert explanations(found) == told


def _check(one: Explanation, found: Tuned) -> None:
    back = json.loads(json.dumps(one.as_dict(), allow_nan=False))
    assert back == one.as_dict()
    assert back["numbers"]["codes"] == one.numbers.codes
    assert {point.width for point in one.curve} == {*range(1, 9), one.width}
    assert all(point.alone >= 0 and point.in_context >= 0 for point in one.curve)
    for step, sign in ((one.fewer, -1), (one.more, 1)):
        if step is not None:
            assert sign * (canonical(step.format).width - one.width) > 0
            assert step.objective is not None
            assert sign * step.objective > 0
    assert parse(one.format) == found.candidate.formats[one.name]


def test_float_is_explained(graph: Graph) -> None:
    found = tuned(graph, "exhaustive", platform_of({"one": {"FIXED": [4], "FLOAT": [32]}}), constraint=Constraint(0.0))
    for one in explanations(replace(found, candidate=found.problem.float32)):
        assert (one.width, one.more, one.numbers.sqnr) == (32, None, None)
        assert one.fewer is not None
        assert one.fewer.format.startswith("FIXED<4")
        assert one.fewer.damage > 0
        assert one.curve[-1].in_context == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("layerwise", ["none", "weights"])
def test_tensors_that_share_a_variable_are_changed_one_at_a_time(graph: Graph, layerwise: Any) -> None:
    options = Options(algorithm="whittle", constraint=Constraint(0.1))
    found = tune_network(graph, Samples(X, None), None, load_platform("full"), options, layerwise=layerwise)
    for one in explanations(found):
        if one.more is not None and one.role == "input":
            assert one.more.objective == (canonical(one.more.format).width - one.width) * one.size


def test_other_samples_and_labels(graph: Graph, plain: Tuned) -> None:
    few = explanations(plain, Samples(X[:8], np.zeros(8, np.int64)))
    inputs = next(one for one in few if one.name == "conv1.input")
    assert sum(inputs.numbers.counts) == X[:8].size


def test_the_portable_mode_is_refused(plain: Tuned) -> None:
    portable = replace(plain, problem=replace(plain.problem, judge=object()), graph=None)  # type: ignore[arg-type]
    with pytest.raises(CompileError, match="the portable mode"):
        explanations(portable)


# ---- the command line


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    graph = bitwright.parse(TINY)
    bitwright.save(graph, folder / "tiny.ir")
    y = bitwright.simulate(graph, X)["scores"].argmax(1)
    np.savez(folder / "split.npz", x_train=X[:80], y_train=y[:80], x_test=X[80:], y_test=y[80:])
    return folder / "tiny.ir", folder / "split.npz"


def _tune(files: tuple[Path, Path], out: Path, *more: str) -> int:
    model, data = map(str, files)
    return run(["tune", model, "--data", data, "--tolerance", "10%", "-o", str(out), "--explain", *more])


def test_the_table(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _tune(files, tmp_path) == 0
    out = capsys.readouterr().out
    worth, numbers = out[out.index("what a bit is worth") :].split("\nnumbers (")
    for name in NAMES:
        assert name in worth
        assert name in numbers
    assert "SQNR" in worth
    assert "8 bits" in numbers
    assert len(worth.splitlines()) == len(numbers.splitlines()) == 6


def test_json(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _tune(files, tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["why"]] == NAMES
    assert {one["name"]: one["format"] for one in told["why"]} == told["formats"]


def test_the_command_line_refuses_the_portable_mode(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tune", "--network", "net.py", "--platform", "paper", "--explain"]) == 2
    assert "the portable mode" in capsys.readouterr().err


def test_pictures() -> None:
    drawn = picture(Histogram(0, 4, (0, 1, 8, 16), 0, 4, 0, 0, 4, 4, None), PLAIN_LEVELS)
    assert drawn == " .=@"
    cut = picture(histogram_of(np.linspace(0, 24, 25), np.zeros(25), canonical("UFIXED 3 -3")), PLAIN_LEVELS)
    assert cut.count("[red]") == cut.count("[/red]") == 1
