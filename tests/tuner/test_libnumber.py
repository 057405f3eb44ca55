"""libnumber's four phases, and the searches of its rivals, on accuracies that are known functions of the formats."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.ir.formats.named import FLOAT32, fixed
from bitwright.tuner.algorithms import ALGORITHMS, algorithm, exhaustive, libnumber, random, ristretto, stripes
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem
from bitwright.tuner.space import covering
from bitwright.tuner.targets import Target

FIGURE_5 = {"FLOAT": [16, 32], "FIXED": range(2, 33), "EXP": range(2, 10)}
Formats = Mapping[str, Canonical]
Make = Callable[..., Problem]

few = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


def at_least(**widths: int) -> Callable[[Formats], float]:
    """All right if these tensors (a_weight for a.weight) are so wide, none is EXP and none saturates below a half."""

    def accuracy(formats: Formats) -> float:
        wide = (formats[n.replace("_", ".")].width >= w for n, w in widths.items())
        fair = (f.kind != "EXP" and float(f.max) >= 0.5 for f in formats.values())
        return float(all(wide) and all(fair))

    return accuracy


def noise(formats: Formats, seed: int, least: float = 0.0) -> float:
    """Any number from `least` to 1, the same for the same formats; 1 for FLOAT 32."""
    if all(f == FLOAT32 for f in formats.values()):
        return 1.0
    text = f"{seed} {sorted((name, str(f)) for name, f in formats.items())}"
    return least + (1 - least) * (zlib.crc32(text.encode()) % 1001) / 1000


def names(candidate: Candidate) -> set[str]:
    return {f"{format.kind[0]}{format.width}" for format in candidate.formats.values()}


def covers(problem: Problem, candidate: Candidate) -> bool:
    """Whether all tensors have one kind and width, and the biases of value profiling."""
    targets = {target.name: target for target in problem.space.targets}
    covering_too = all(libnumber.profiled(f, targets[name]) == f for name, f in candidate.formats.items())
    return covering_too and len(names(candidate)) == 1


def asked(problem: Problem, full: bool) -> list[Candidate]:
    return [candidate for candidate, was_full in problem.judge.asked if was_full == full]  # type: ignore[attr-defined]


# ---- phase 1


@pytest.mark.parametrize(
    ("kinds", "narrowest", "order"),
    [
        (FIGURE_5, 3, "F32 F16 F8 F4 F2 F3 E2"),  # Figure 7, whose I is FIXED
        (FIGURE_5, 2, "F32 F16 F8 F4 F2"),
        (FIGURE_5, 5, "F32 F16 F8 F4 F6 F5 E2 E3 E4"),
        (FIGURE_5 | {"FLOAT": [8, 16, 32]}, 3, "F32 F16 F8 F4 F2 F3 E2"),
        ({"FIXED": [4, 6, 16]}, 5, "F32 F16 F6 F4"),
        ({"FLOAT": [32], "EXP": [4, 5]}, 2, "F32 E5"),  # nothing below a width that fails
    ],
)
def test_the_coarse_search_halves_and_then_bisects(
    make_problem: Make, kinds: dict[str, Any], narrowest: int, order: str
) -> None:
    def accuracy(formats: Formats) -> float:
        formats = {name: f for name, f in formats.items() if f.kind != "FLOAT"}
        return float(all(f.width >= narrowest and f.kind == "FIXED" for f in formats.values()))

    problem = make_problem(accuracy, [(10, 20), (30, 40)], kinds)
    libnumber.search(problem)
    together = itertools.takewhile(lambda c: covers(problem, c), asked(problem, full=False))
    assert [" ".join(names(candidate)) for candidate in together] == order.split()


def test_the_coarse_search_begins_with_the_biases_of_profiling(make_problem: Make) -> None:
    problem = make_problem(at_least(a_weight=4), [(10, 20)], FIGURE_5)
    libnumber.search(problem)
    targets = {target.name: target for target in problem.space.targets}
    first = asked(problem, full=False)[2]
    assert first.formats == {name: libnumber.profiled(fixed(8), target) for name, target in targets.items()}


@pytest.mark.parametrize(("magnitude", "bias"), [(0.5794976, 0), (0.16474459, 2), (0.996094, 0), (5.05664, -3)])
def test_profiled_biases_are_those_of_figure_7(magnitude: float, bias: int) -> None:
    """Table 3's magnitudes; the second weight's 3 at Iteration 10 is the first step up."""
    for width in (2, 3, 8):
        assert libnumber.profiled(fixed(width), Target("a.weight", "weight", 1, magnitude)) == fixed(width).at(bias)


# ---- phases 2 and 4


def test_biases_come_first_and_the_most_accurate_is_taken(make_problem: Make) -> None:
    """As iterations 8 to 11 of Figure 7: four biases, the third of which is best; then all four from there."""

    def accuracy(formats: Formats) -> float:
        if formats["a.input"].kind == "FLOAT":
            return 1.0
        steps = {name: int(f.biases) - 1 for name, f in formats.items()}
        wide = all(f.width >= 3 and f.kind == "FIXED" for f in formats.values())
        best = steps == {"a.weight": -1, "b.weight": -1, "a.input": 0, "b.input": -1}
        return 0.0 if not wide else 0.9995 if best else 0.99 if max(steps.values()) <= 0 else 0.5

    problem = make_problem(accuracy, [(10, 20), (30, 40)], FIGURE_5, layerwise="weights", tolerance=0.01)
    libnumber.search(problem)
    measured = asked(problem, full=False)
    start = next(i for i, c in enumerate(measured) if names(c) == {"E2"}) + 1
    base = {name: libnumber.profiled(fixed(3), t) for name, t in ((t.name, t) for t in problem.space.targets)}
    tensors = ["a.weight", "b.weight", "a.input", "b.input"]
    first = [base | {name: base[name].at(int(base[name].biases) + 1)} for name in tensors]
    assert [dict(c.formats) for c in measured[start : start + 4]] == first
    moved = first[2]
    second = [moved | {name: moved[name].at(int(moved[name].biases) + 1)} for name in tensors]
    assert [dict(c.formats) for c in measured[start + 4 : start + 8]] == second


def test_widths_go_where_most_is_saved_for_what_is_lost(make_problem: Make) -> None:
    """Both layers may lose a bit, only one of them: b saves 30 for a loss of 0.004, a 10 for a loss of 0.002."""

    def accuracy(formats: Formats) -> float:
        widths = {name: f.width for name, f in formats.items()}
        if formats["a.weight"].kind == "FLOAT":
            return 1.0
        if widths["a.input"] < 4 or widths["b.input"] < 4 or min(widths.values()) < 3:
            return 0.0
        lost = 0.002 * (widths["a.weight"] < 4) + 0.004 * (widths["b.weight"] < 4)
        return 1 - lost if lost <= 0.005 else 0.0

    problem = make_problem(accuracy, [(10, 1), (30, 1)], {"FLOAT": [32], "FIXED": range(2, 9)})
    found = libnumber.search(problem)
    assert {name: f.width for name, f in found.formats.items()} == {
        "a.weight": 4,
        "b.weight": 3,
        "a.input": 4,
        "b.input": 4,
    }


def test_kinds_change_where_that_is_more_accurate(make_problem: Make) -> None:
    def accuracy(formats: Formats) -> float:
        wide = all(f.width >= 4 for f in formats.values())
        good = formats["a.weight"].kind == "EXP"
        bad = formats["a.input"].kind == "EXP"
        return 0.0 if not wide or bad else 1.0 if good or formats["a.weight"].width >= 16 else 0.995

    problem = make_problem(accuracy, [(10, 20)], FIGURE_5)
    found = libnumber.search(problem)
    assert (found.formats["a.weight"].kind, found.formats["a.input"].kind) == ("EXP", "FIXED")


@few
@given(seed=st.integers(0, 10**6), least=st.sampled_from([0.0, 0.9, 0.989, 0.995]))
def test_every_search_ends_with_what_holds(make_problem: Make, seed: int, least: float) -> None:
    """On accuracies without any order: the loops end, and the answer was measured on the full set."""
    kinds = {"FLOAT": [16, 32], "FIXED": [2, 4, 5], "EXP": [2, 4]}
    for name, known in ALGORITHMS.items():
        if known.needs_network:
            continue
        problem = make_problem(
            lambda formats: noise(formats, seed, least),
            [(10, 20)],
            kinds,
            small=lambda formats: noise(formats, seed + 1, least),
        )
        found = known.load()(problem)
        assert problem.accuracy(found) >= problem.least(), name
        again = make_problem(problem.judge.full, [(10, 20)], kinds, small=problem.judge.small)  # type: ignore[attr-defined]
        assert known.load()(again).key == found.key
        assert [e.candidate for e in again.trace] == [e.candidate for e in problem.trace]


@few
@given(needed=st.tuples(*[st.integers(2, 5)] * 4))
def test_separable_problems_are_solved(make_problem: Make, needed: tuple[int, ...]) -> None:
    """By libnumber as by exhaustive search: each tensor as wide as it must be."""
    tensors = ["a_weight", "a_input", "b_weight", "b_input"]
    accuracy = at_least(**dict(zip(tensors, needed, strict=True)))
    kinds = {"FLOAT": [32], "FIXED": range(2, 6)}
    sizes = [(10, 25), (31, 40)]
    found = libnumber.search(make_problem(accuracy, sizes, kinds))
    best = exhaustive.search(make_problem(accuracy, sizes, kinds))
    for candidate in (found, best):
        assert {n.replace(".", "_"): f.width for n, f in candidate.formats.items()} == dict(
            zip(tensors, needed, strict=True)
        )


# ---- phase 3


def test_the_full_set_may_ask_for_more(make_problem: Make) -> None:
    """The small set takes 2 bits, the full one 3 for weights and 4 for inputs."""
    full = at_least(a_weight=3, a_input=4)
    problem = make_problem(full, [(10, 20)], FIGURE_5, small=at_least(a_weight=2))
    found = libnumber.search(problem)
    assert {name: f.width for name, f in found.formats.items()} == {"a.weight": 3, "a.input": 4}
    assert asked(problem, full=False)
    first, second, *others = asked(problem, full=True)
    assert names(first) == {"F2"}  # what the small set ended with
    assert names(second) == {"F32"}
    for candidate in others[:4]:  # one bit more, or a bias less, at one place
        changed = [name for name, f in candidate.formats.items() if f != first.formats[name]]
        assert len(changed) == 1
        before, after = first.formats[changed[0]], candidate.formats[changed[0]]
        assert (after.width, int(after.biases) - int(before.biases)) in ((3, 0), (2, -1))


def test_recovery_lowers_biases(make_problem: Make) -> None:
    """The full set has larger numbers than value profiling saw: the range must double, no width helps."""

    def full(formats: Formats) -> float:
        return float(formats["a.weight"].kind == "FLOAT" or float(formats["a.weight"].max) >= 2)

    problem = make_problem(full, [(10, 20)], {"FLOAT": [32], "FIXED": [2]}, small=lambda formats: 1.0)
    found = libnumber.search(problem)
    assert found.formats["a.weight"].width == 2
    assert float(found.formats["a.weight"].max) >= 2
    assert problem.accuracy(found) == 1


def test_recovery_ends_with_the_reference_where_nothing_helps(make_problem: Make) -> None:
    def full(formats: Formats) -> float:
        return float(all(f.kind == "FLOAT" for f in formats.values()))

    problem = make_problem(full, [(10, 20)], {"FIXED": [2, 3]}, small=lambda formats: 1.0)
    assert libnumber.search(problem).key == problem.float32.key


def test_iterations_and_their_cost_are_counted(make_problem: Make) -> None:
    problem = make_problem(at_least(a_weight=3, a_input=4), [(10, 20)], FIGURE_5, small=at_least(a_weight=2))
    libnumber.search(problem)
    measured = [(candidate.key, full) for candidate, full in problem.judge.asked]  # type: ignore[attr-defined]
    assert len(set(measured)) == len(measured) == len(problem.trace)
    assert problem.spent == pytest.approx(sum(1.0 if full else 0.1 for _, full in measured))
    last_small = max(i for i, (_, full) in enumerate(measured) if not full)
    first_full = min(i for i, (_, full) in enumerate(measured) if full)
    assert last_small < first_full


def test_an_objective_may_be_infinite(make_problem: Make) -> None:
    """As that of formats which no accelerator has."""

    def objective(formats: Formats) -> float:
        floats = any(f.kind == "FLOAT" for f in formats.values())
        return float("inf") if floats else float(sum(f.width for f in formats.values()))

    problem = make_problem(at_least(a_weight=5, a_input=4), [(10, 20)], FIGURE_5, objective=objective)
    found = libnumber.search(problem)
    assert {name: f.width for name, f in found.formats.items()} == {"a.weight": 5, "a.input": 4}


# ---- rivals


def test_ristretto_takes_powers_of_two_a_group(make_problem: Make) -> None:
    accuracy = at_least(a_weight=3, b_weight=2, c_weight=7, a_input=2, b_input=4, c_input=2)
    problem = make_problem(accuracy, [(10, 20), (30, 40), (50, 60)], FIGURE_5, dense="c")
    found = ristretto.search(problem)
    assert {name: f.width for name, f in found.formats.items()} == {
        "a.weight": 4,
        "b.weight": 4,
        "c.weight": 8,
        "a.input": 4,
        "b.input": 4,
        "c.input": 4,
    }
    assert {f.kind for f in found.formats.values()} == {"FIXED"}
    for candidate in asked(problem, full=True):
        assert {f.width for f in candidate.formats.values() if f.kind == "FIXED"} <= {2, 4, 8, 16}
    assert not asked(problem, full=False)


def test_ristretto_widens_all_when_they_miss_together(make_problem: Make) -> None:
    def accuracy(formats: Formats) -> float:
        return 1 - sum(0.04 * 2.0 ** (2 - f.width) for f in formats.values() if f.kind != "FLOAT")

    problem = make_problem(accuracy, [(10, 20)], FIGURE_5, dense="a", tolerance=0.015)
    alone = {4: 0.01, 2: 0.04}
    assert alone[4] <= 0.015 < 2 * alone[4]
    found = ristretto.search(problem)
    assert {f.width for f in found.formats.values()} == {8}


@pytest.mark.parametrize("search", [ristretto.search, stripes.search])
def test_rivals_give_up_with_the_reference(make_problem: Make, search: Any) -> None:
    problem = make_problem(lambda f: float(all(x.kind == "FLOAT" for x in f.values())), [(10, 20)], FIGURE_5)
    assert search(problem).key == problem.float32.key


def test_stripes_narrows_inputs_alone(make_problem: Make) -> None:
    def accuracy(formats: Formats) -> float:
        if formats["a.input"].kind == "FLOAT":
            return 1.0
        ranges = float(formats["a.input"].max) >= 0.9 and float(formats["b.input"].max) >= 0.2
        return float(ranges and formats["a.input"].width >= 5 and formats["b.input"].width >= 3)

    problem = make_problem(accuracy, [(10, 20), (30, 40)], FIGURE_5)
    found = stripes.search(problem)
    widths = {name: f.width for name, f in found.formats.items()}
    assert widths == {"a.weight": 16, "b.weight": 16, "a.input": 5, "b.input": 3}
    assert {f.kind for f in found.formats.values()} == {"FIXED"}
    assert float(found.formats["b.input"].max) < 0.4  # an integer bit fewer as long as that holds
    targets = {target.name: target for target in problem.space.targets}
    for candidate in asked(problem, full=True):
        if candidate.key != problem.float32.key:
            assert candidate.formats["a.weight"] == covering(fixed(16), targets["a.weight"])


@few
@given(seed=st.integers(0, 10**6))
def test_exhaustive_is_the_optimum(make_problem: Make, seed: int) -> None:
    kinds = {"FLOAT": [32], "FIXED": [2, 3, 4], "EXP": [3]}
    problem = make_problem(lambda formats: noise(formats, seed, 0.97), [(10, 20), (3, 5)], kinds, layerwise="weights")
    found = exhaustive.search(problem)
    rated = []
    for chosen in itertools.product(*(variable.formats for variable in problem.space.variables)):
        formats = {
            target.name: covering(format, target)
            for variable, format in zip(problem.space.variables, chosen, strict=True)
            for target in variable.targets
        }
        accuracy = noise(formats, seed, 0.97)
        if accuracy >= 0.99:
            rated.append((sum(formats[t.name].width * t.size for t in problem.space.targets), -accuracy))
    assert (problem.cost(found), -problem.accuracy(found)) == min(rated)


def test_exhaustive_refuses_large_spaces(make_problem: Make) -> None:
    with pytest.raises(CompileError, match=r"the space has 2\.83e\+06 assignments") as caught:
        exhaustive.search(make_problem(at_least(), [(1, 1), (1, 1)], FIGURE_5))
    assert caught.value.help


@pytest.mark.parametrize("seed", range(3))
def test_random_ends_with_the_best_of_its_draws(make_problem: Make, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(random, "DRAWS", 50)
    monkeypatch.setattr(random, "TRIES", 100)

    def problem(own: int) -> Problem:
        return make_problem(lambda f: noise(f, seed, 0.98), [(10, 20), (30, 40)], FIGURE_5, seed=own)

    first, again, other = problem(seed), problem(seed), problem(seed + 1)
    found = random.search(first)
    assert random.search(again).key == found.key
    random.search(other)
    assert [e.candidate for e in other.trace] != [e.candidate for e in first.trace]
    assert len(first.trace) <= random.DRAWS + 1
    held = [e for e in first.trace if e.accuracy >= first.least()]
    assert first.cost(found) == min(e.objective for e in held) < first.cost(first.float32)
    for number, evaluation in enumerate(first.trace[1:], 1):  # each is cheaper than the best before
        assert evaluation.objective < min(e.objective for e in first.trace[:number] if e in held)


def test_unknown_algorithms() -> None:
    with pytest.raises(CompileError, match="there is no algorithm 'libnumbr', did you mean libnumber") as caught:
        algorithm("libnumbr")
    assert "exhaustive" in (caught.value.help or "")
