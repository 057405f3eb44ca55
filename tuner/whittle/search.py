"""whittle, bitwright's own search: measure, solve, validate.

1. measure   one float pass over all images (tuner/whittle/floats.py); for every variable and width the numbers in
             closed form (tuner/whittle/layer.py), and the damage to the output with that one changed, measured at some
             widths (tuner/whittle/sensitivity.py)
2. solve     the whole front of cost against predicted damage (tuner/whittle/knapsack.py)
3. validate  the cheapest point of the front that holds, in steps by the true losses (tuner/whittle/bracket.py), each
             answer on as few images as it takes
4. again     damages measured in the context of the point found, solved and validated again, while that makes it cheaper
5. trim      one variable at a time, the largest saving first, a width narrower while the accuracy holds; what failed
             once, or saves less than a two-hundredth, is not tried

A problem that asks for no refinement ends after 3.

A shared budget of accuracy is thus spent where it saves most, and no accuracy evaluation is spent on what closed form
decides: biases, kinds, and how numbers are rounded.
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from bitwright.backends.simulation.score import hits
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.problem import OutOfTime, Problem
from bitwright.tuner.space import Variable, covering
from bitwright.tuner.whittle.bracket import Bracket
from bitwright.tuner.whittle.knapsack import Option, Point, front
from bitwright.tuner.whittle.network import Assignment, Network, widths
from bitwright.tuner.whittle.sensitivity import Sensitivity
from bitwright.tuner.whittle.validate import Validation

WIDEST = (8, 16)  # bits of the widest formats tried; the second only if the first do not hold
ROUNDS = 3
ROUND_WORTH = 0.01  # the share of the objective that a round must have saved for another one
WORTH = 0.005  # the share of the objective that a validation must be able to save
REACH = 1  # widths to either side that are measured again in context


def search(problem: Problem) -> Candidate:
    """The cheapest candidate found; the reference if no format holds. Raises CompileError without a simulation."""
    judge = problem.judge
    if not isinstance(judge, SimulationJudge):
        raise CompileError("whittle needs the network itself, not a command", help="--algorithm libnumber")
    with threadpool_limits(1, "blas"):  # small matrices: more threads only wait for each other
        return _Whittle(problem, judge).run()


class _Whittle:
    def __init__(self, problem: Problem, judge: SimulationJudge) -> None:
        self.problem = problem
        self.network = Network(problem, judge.graph, judge.x, problem.space.per_channel, judge.threads)
        scores = judge.checked(self.network.floats.scores)
        right = hits(judge.k, scores, judge.y)
        problem.record(problem.float32, "full", 1.0, lambda: float(right.mean()))
        self.validation = Validation(problem, judge, scores, right)
        self.sensitivity = Sensitivity(self.network)
        self.variables = problem.space.variables
        self.options: list[list[Canonical]] = []
        self.accepted: list[Assignment] = []
        self.losses: dict[Assignment, float] = {}

    def run(self) -> Candidate:
        try:
            self.explore()
        except OutOfTime:
            self.problem.deadline = None  # what was accepted is still measured
            self.measured()
            raise
        return self.measured()

    def explore(self) -> None:
        """All assignments that are accepted on the way down."""
        found = self.started()
        if found is None or not self.problem.refine:
            return
        for _ in range(ROUNDS):
            better = self.validated(*self.front_around(found), found)
            if better is None or better == found:
                break
            saved, found = 1 - self.cost(better) / self.cost(found), better
            if saved < ROUND_WORTH:
                break
        self.trim(found)

    def started(self) -> Assignment | None:
        """The cheapest point that holds on the first front, or None if no format does."""
        for widest in WIDEST:
            self.options = [self.formats(variable, widest) for variable in self.variables]
            found = self.validated(*self.first_front())
            if found is not None:
                return found
        return None

    # ---- 1. measure

    def formats(self, variable: Variable, widest: int) -> list[Canonical]:
        """For every width, narrowest first, the kind of least error over the variable's tensors."""
        found = widths(variable, widest).values()
        return [min(kinds, key=lambda kind: self.error(variable, kind)) for kinds in found]

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
            prices = [self.price(widest, number, format) for format in formats]
            table.append([Option(*both) for both in zip(prices, damages, strict=True)])
        return front(table), self.options

    def front_around(self, found: Assignment) -> tuple[list[Point], list[list[Canonical]]]:
        """The front of damages measured with everything else as in `found`."""
        base = self.sensitivity.together(found)
        near = [self.near(number, found) for number in range(len(found))]
        table = [
            [
                Option(
                    self.price(found, number, format),
                    0.0 if format == found[number] else self.sensitivity.changed(found, number, format) - base,
                )
                for format in formats
            ]
            for number, formats in enumerate(near)
        ]
        return front(table), near

    def near(self, number: int, found: Assignment) -> list[Canonical]:
        """The formats that a variable may change to; its own alone, if no change matters to the objective."""
        formats, own = self.options[number], found[number]
        at = formats.index(own)
        near = formats[max(0, at - REACH) : at + REACH + 1]
        prices = [self.price(found, number, format) for format in near]
        return near if max(prices) - min(prices) > WORTH * self.cost(found) else [own]

    def price(self, assignment: Assignment, number: int, format: Canonical) -> float:
        """The objective with one variable in another format."""
        return self.cost((*assignment[:number], format, *assignment[number + 1 :]))

    def cost(self, assignment: Assignment) -> float:
        """The objective of an assignment, its biases covering."""
        formats = {
            target.name: covering(format, target)
            for variable, format in zip(self.variables, assignment, strict=True)
            for target in variable.targets
        }
        return self.problem.cost(self.problem.formats(formats))

    # ---- 3. validate

    def validated(
        self, points: list[Point], options: list[list[Canonical]], held: Assignment | None = None
    ) -> Assignment | None:
        """The cheapest point that holds, only looking for cheaper ones than `held`; None if not even the first does."""
        assignments = [tuple(o[i] for o, i in zip(options, point.choice, strict=True)) for point in points]
        damages = [point.damage for point in points]
        known = None
        if held is not None:
            cheaper = [i for i, assignment in enumerate(assignments) if self.cost(assignment) < self.cost(held)]
            assignments = [held, *(assignments[i] for i in cheaper)]
            damages = [0.0, *(damages[i] for i in cheaper)]
            known = 0, self.losses[held]
        bracket = Bracket(damages, self.validation.allowed, known)
        while bracket.is_open and not (bracket.low >= 0 and self.is_close(assignments, bracket)):
            number = bracket.next()
            bracket.narrow(number, self.holds(assignments[number]), self.losses[assignments[number]])
        return assignments[bracket.low] if bracket.low >= 0 else None

    def is_close(self, assignments: list[Assignment], bracket: Bracket) -> bool:
        """Whether the cheapest point that may still hold is hardly cheaper than the one that does."""
        held = self.cost(assignments[bracket.low])
        return held - self.cost(assignments[bracket.high - 1]) <= WORTH * held

    def holds(self, assignment: Assignment) -> bool:
        if assignment not in self.losses:
            held, self.losses[assignment] = self.validation.tested(self.network.build(assignment))
            if held:
                self.accepted.append(assignment)
        return assignment in self.accepted

    # ---- 5. trim

    def trim(self, found: Assignment) -> None:
        """One width narrower wherever that holds, the largest saving first, until nothing more does."""
        refused: set[int] = set()
        while True:
            moves = [
                (number, (*found[:number], formats[formats.index(own) - 1], *found[number + 1 :]))
                for number, (formats, own) in enumerate(zip(self.options, found, strict=True))
                if formats.index(own) > 0 and number not in refused
            ]
            worth = [(number, move) for number, move in moves if self.cost(move) <= (1 - WORTH) * self.cost(found)]
            for number, move in sorted(worth, key=lambda move: self.cost(move[1])):
                if self.holds(move):
                    found = move
                    break
                refused.add(number)
            else:
                return

    def measured(self) -> Candidate:
        """The cheapest accepted assignment that also holds on all images."""
        for assignment in sorted(self.accepted, key=self.cost):
            candidate = self.network.build(assignment)
            if self.validation.accuracy(candidate) >= self.problem.least():
                return candidate
        return self.problem.float32
