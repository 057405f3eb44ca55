"""whittle, bitwright's own search: measure, solve, validate.

1. measure   one float pass over all images (tuner/whittle/floats.py); for every variable and width the numbers in
             closed form (tuner/whittle/layer.py), and the damage to the output with that one changed, measured at some
             widths (tuner/whittle/sensitivity.py)
2. solve     the whole front of cost against predicted damage (tuner/whittle/knapsack.py), its wide steps filled
3. validate  the cheapest point of the front that holds, in steps by the true losses (tuner/whittle/bracket.py), each
             answer on as few images as it takes
4. again     damages measured in the context of the point found, solved and validated again, while that makes it cheaper
             and some narrower format would not lose too much if all else were float
5. trim      one variable at a time a width narrower while the accuracy holds, the largest expected saving first; what
             failed once is not tried again

Numbers are fitted to the first half of the images at most, the images of the tests are those after them: how well
numbers suit the images that they were fitted to says little of others.

What saves less than a two-hundredth of the objective, times the chance that it holds, is not validated; with few
variables, whose steps are large, what saves less than 6 % of a variable's mean share.

A problem that asks for no refinement ends after 3. One with a budget has its widest formats tested before 1, so that it
has something to give whenever the budget ends.

A shared budget of accuracy is thus spent where it saves most, and no accuracy evaluation is spent on what closed form
decides: biases, kinds, and how numbers are rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from threadpoolctl import threadpool_limits

from bitwright.backends.simulation.score import hits
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.problem import OutOfTime, Problem
from bitwright.tuner.space import Variable, covering
from bitwright.tuner.whittle.bracket import Bracket
from bitwright.tuner.whittle.knapsack import Option, Point, filled, front
from bitwright.tuner.whittle.network import Assignment, Network, widths
from bitwright.tuner.whittle.sensitivity import Sensitivity
from bitwright.tuner.whittle.validate import Outcome, Validation

WIDEST = (8, 16)  # bits of the widest formats tried; the second only if the first do not hold
ROUNDS = 3
ROUND_WORTH = 0.01  # the share of the objective that a round must have saved for another one
WORTH = 0.06  # the share of a variable's mean share in the objective that a validation must be expected to save
LEAST_WORTH = 0.005  # in the objective, however many variables there are
FEW = 32  # images that are fitted to, however few there are
NARROWER, WIDER = -1, 1  # the widths that are measured again in context


def search(problem: Problem) -> Candidate:
    """The cheapest candidate found; the reference if no format holds. Raises CompileError without a simulation."""
    judge = problem.judge
    if not isinstance(judge, SimulationJudge):
        raise CompileError("whittle needs the network itself, not a command", help="--algorithm libnumber")
    with threadpool_limits(1, "blas"):  # more threads wait for each other: long, where others use the cores too
        return _Whittle(problem, judge).run()


@dataclass(frozen=True)
class Around:
    """Damages around an assignment: its own, and what it grows by with one variable in another format."""

    base: float
    increments: list[dict[Canonical, float]]

    def damage(self, assignment: Assignment) -> float | None:
        """That of an assignment, if the increments add up; None for a format that was not measured."""
        total = self.base
        for formats, format in zip(self.increments, assignment, strict=True):
            if format not in formats:
                return None
            total += formats[format]
        return total


class _Whittle:
    def __init__(self, problem: Problem, judge: SimulationJudge) -> None:
        self.problem = problem
        fitted = max(FEW, len(judge.x) // 2)
        self.network = Network(problem, judge.graph, judge.x, problem.space.per_channel, judge.threads, fitted)
        scores = judge.checked(self.network.floats.scores)
        right = hits(judge.k, scores, judge.y)
        problem.record(problem.float32, "full", 1.0, lambda: float(right.mean()))
        self.validation = Validation(problem, judge, scores, right, self.network.floats.fitted)
        self.sensitivity = Sensitivity(self.network)
        self.variables = problem.space.variables
        self.covering = cache(covering)
        self.worth = max(LEAST_WORTH, WORTH / len(self.variables))
        self.options: list[list[Canonical]] = []
        self.outcomes: dict[Assignment, Outcome] = {}
        self.losses: dict[Assignment, float] = {}
        self.around = Around(0.0, [])
        self.fronts: dict[int, tuple[list[Point], list[list[Canonical]]]] = {}

    def run(self) -> Candidate:
        found = None
        try:
            while found is None and self.explore():
                found = self.measured()
        except OutOfTime as end:
            self.problem.deadline = None  # what was accepted is still measured
            raise OutOfTime(self.measured() or self.problem.float32) from end
        return found or self.problem.float32

    def explore(self) -> bool:
        """Go down from the cheapest point that holds; whether anything is accepted, after all that is known by now."""
        found = self.started()
        if found is not None and self.problem.refine:
            self.refine(found)
        return found is not None

    def refine(self, found: Assignment) -> None:
        """Accept cheaper assignments, from one that holds on."""
        for _ in range(ROUNDS):
            self.around = self.narrower(found)
            if not any(self.is_hopeful(found, number) for number in range(len(found))):
                break
            self.around = self.wider(found)
            better = self.validated(*self.front_around(found), found)
            if better is None or better == found:
                break
            saved, found = 1 - self.cost(better) / self.cost(found), better
            if saved < ROUND_WORTH:
                break
        self.trim(found)

    def started(self) -> Assignment | None:
        """The cheapest point that holds on the first front, or None if no format does."""
        if self.problem.deadline is not None and not self.outcomes:
            self.test_widest()
        for widest in WIDEST:
            self.options = [self.formats(variable, widest) for variable in self.variables]
            if widest not in self.fronts:
                self.fronts[widest] = self.first_front()
            found = self.validated(*self.fronts[widest])
            if found is not None:
                return found
        return None

    def test_widest(self) -> None:
        """Test the widest formats, so that a budget that ends while damages are measured leaves what holds."""
        for widest in WIDEST:
            kinds = [list(widths(variable, widest).values())[-1] for variable in self.variables]
            assignment = tuple(map(self.closest, self.variables, kinds))
            self.outcomes[assignment] = self.validation.tested(self.network.build(assignment))
            if self.outcomes[assignment].holds:
                return

    # ---- 1. measure

    def formats(self, variable: Variable, widest: int) -> list[Canonical]:
        """For every width, narrowest first, the kind of least error over the variable's tensors."""
        return [self.closest(variable, kinds) for kinds in widths(variable, widest).values()]

    def closest(self, variable: Variable, kinds: Sequence[Canonical]) -> Canonical:
        return min(kinds, key=lambda kind: self.error(variable, kind))

    def error(self, variable: Variable, format: Canonical) -> float:
        if variable.role == "input":
            return sum(self.network.input_format(target, format)[1] for target in variable.targets)
        return sum(self.network.weight_start(target, format)[1] for target in variable.targets)

    # ---- 2. solve

    def first_front(self) -> tuple[list[Point], list[list[Canonical]]]:
        widest = tuple(formats[-1] for formats in self.options)
        table = []
        for number, (variable, formats) in enumerate(zip(self.variables, self.options, strict=True)):
            damages = self.sensitivity.alone(variable.targets, formats)
            prices = [self.part(widest, number, format) for format in formats]
            table.append([Option(*both) for both in zip(prices, damages, strict=True)])
        return filled(table, front(table)), self.options

    def narrower(self, found: Assignment) -> Around:
        """Damages measured with one variable a width narrower, everything else as in `found`."""
        base = self.sensitivity.together(found)
        return Around(base, [self.increments(found, number, NARROWER, base) for number in range(len(found))])

    def wider(self, found: Assignment) -> Around:
        """What is around `found` by now, and damages measured with one variable a width wider."""
        base = self.around.base
        known = enumerate(self.around.increments)
        return Around(base, [own | self.increments(found, number, WIDER, base) for number, own in known])

    def increments(self, found: Assignment, number: int, step: int, base: float) -> dict[Canonical, float]:
        """What the damage grows by with a variable so many widths on, and 0 for its own; if that matters in cost."""
        formats, own = self.options[number], found[number]
        at, cost = formats.index(own) + step, self.cost(found)
        if not 0 <= at < len(formats) or abs(self.price(found, number, formats[at]) - cost) <= self.worth * cost:
            return {own: 0.0}
        return {own: 0.0, formats[at]: self.sensitivity.changed(found, number, formats[at]) - base}

    def is_hopeful(self, found: Assignment, number: int) -> bool:
        """Whether a narrower format may hold if the others lost nothing: wider ones can take back no more than that."""
        for format in self.around.increments[number].keys() - {found[number]}:
            move = (*found[:number], format, *found[number + 1 :])
            damages = self.around.base, self.around.increments[number][format]
            step = self.bracket((found, move), damages, (0, self.losses[found]))
            if step.expected_saving(1) > self.worth * self.cost(found):
                return True
        return False

    def front_around(self, found: Assignment) -> tuple[list[Point], list[list[Canonical]]]:
        """The front of these damages."""
        options = [list(formats) for formats in self.around.increments]
        table = [
            [Option(self.part(found, number, format), damage) for format, damage in formats.items()]
            for number, formats in enumerate(self.around.increments)
        ]
        return filled(table, front(table)), options

    def price(self, assignment: Assignment, number: int, format: Canonical) -> float:
        """The objective with one variable in another format."""
        return self.cost((*assignment[:number], format, *assignment[number + 1 :]))

    def part(self, assignment: Assignment, number: int, format: Canonical) -> float:
        """The part of a variable in the objective: parts add up to it, as far as what formats save does."""
        others = self.cost(assignment) * (1 - 1 / len(assignment))
        return self.price(assignment, number, format) - others

    def cost(self, assignment: Assignment) -> float:
        """The objective of an assignment, its biases covering."""
        formats = {
            target.name: self.covering(format, target)
            for variable, format in zip(self.variables, assignment, strict=True)
            for target in variable.targets
        }
        return self.problem.cost(self.problem.formats(formats))

    # ---- 3. validate

    def validated(
        self, points: list[Point], options: list[list[Canonical]], held: Assignment | None = None
    ) -> Assignment | None:
        """The cheapest point that holds; None if not even the first does.

        held: an assignment that does, and that the points' damages are measured from; only cheaper ones are of use.
        """
        assignments = [tuple(o[i] for o, i in zip(options, point.choice, strict=True)) for point in points]
        damages = [point.damage for point in points]
        known = None
        if held is not None:
            cheaper = [i for i, assignment in enumerate(assignments) if self.cost(assignment) < self.cost(held)]
            assignments = [held, *(assignments[i] for i in cheaper)]
            damages = [self.around.base, *(self.around.base + damages[i] for i in cheaper)]
            known = 0, self.losses[held]
        bracket = self.bracket(assignments, damages, known)
        while bracket.open and not (bracket.low >= 0 and self.is_close(bracket)):
            number = bracket.next()
            self.test(assignments[number], bracket, number)
        return assignments[bracket.low] if bracket.low >= 0 else None

    def bracket(
        self, assignments: Sequence[Assignment], damages: Sequence[float], held: tuple[int, float] | None
    ) -> Bracket:
        costs = [self.cost(assignment) for assignment in assignments]
        return Bracket(costs, damages, self.validation.allowed, self.validation.images, held)

    def is_close(self, bracket: Bracket) -> bool:
        """Whether no point that is open can be expected to save much over the one that holds."""
        return max(map(bracket.expected_saving, bracket.open)) <= self.worth * bracket.costs[bracket.low]

    def test(self, assignment: Assignment, bracket: Bracket, number: int) -> bool:
        """Whether an assignment, a point of the bracket, holds; its loss is what is believed then."""
        if assignment not in self.outcomes:
            self.outcomes[assignment] = self.validation.tested(self.network.build(assignment))
        found = self.outcomes[assignment]
        self.losses[assignment] = bracket.narrow(number, found.holds, found.lost, found.deviation, found.scatter)
        return found.holds

    # ---- 5. trim

    def trim(self, found: Assignment) -> None:
        """One width narrower wherever that may hold, what is expected to save most first, until nothing more does."""
        refused: set[int] = set()
        while True:
            moves = {
                number: (*found[:number], formats[formats.index(own) - 1], *found[number + 1 :])
                for number, (formats, own) in enumerate(zip(self.options, found, strict=True))
                if formats.index(own) > 0 and number not in refused
            }
            steps = {number: self.step(found, move) for number, move in moves.items() if self.is_worth(found, move)}
            saved = {number: step.expected_saving(1) for number, step in steps.items()}
            number = max(saved, key=lambda number: saved[number], default=None)
            if number is None or saved[number] <= self.worth * self.cost(found):
                return
            if self.test(moves[number], steps[number], 1):
                found = moves[number]
            else:
                refused.add(number)

    def is_worth(self, found: Assignment, move: Assignment) -> bool:
        return self.cost(found) - self.cost(move) > self.worth * self.cost(found)

    def step(self, found: Assignment, move: Assignment) -> Bracket:
        """From an assignment that holds to one that may."""
        if self.around.damage(move) is None:
            self.around = self.narrower(found)
        damages = [self.around.damage(assignment) for assignment in (found, move)]
        known = [damage for damage in damages if damage is not None]
        return self.bracket((found, move), known, (0, self.losses[found]))

    def measured(self) -> Candidate | None:
        """The cheapest accepted assignment that also holds on all images; those that do not are refused by then."""
        accepted = [assignment for assignment, outcome in self.outcomes.items() if outcome.holds]
        for assignment in sorted(accepted, key=self.cost):
            candidate = self.network.build(assignment)
            self.outcomes[assignment] = self.validation.measured(candidate)
            if self.outcomes[assignment].holds:
                return candidate
        return None
