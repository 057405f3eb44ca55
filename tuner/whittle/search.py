"""whittle, bitwright's own search: measure, solve, validate.

1. measure   one float pass over about 1,000 unlabelled samples; for every variable and width the numbers in closed form
             (tuner/whittle/layer.py) and the damage to the output with that one changed
2. solve     the whole front of cost against predicted damage (tuner/whittle/knapsack.py)
3. validate  bisection along the front on true accuracy, each answer on as few images as it takes
4. again     damages measured in the context of the point found, solved and validated again, while that makes it cheaper
5. trim      one variable at a time, the largest saving first, a width narrower while the accuracy holds

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
from bitwright.tuner.problem import Problem
from bitwright.tuner.space import Variable, covering
from bitwright.tuner.whittle.knapsack import Option, Point, front
from bitwright.tuner.whittle.network import SAMPLES, Assignment, Network, widths
from bitwright.tuner.whittle.sensitivity import Sensitivity
from bitwright.tuner.whittle.validate import Validation

ROUNDS = 3
REACH = 2  # widths to either side that are measured again in context


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
        scores = judge.scores(judge.graph, judge.x)
        problem.record(problem.float32, "full", 1.0, lambda: float(hits(judge.k, scores, judge.y).mean()))
        self.validation = Validation(problem, judge, scores)
        self.network = Network(problem, judge.graph, judge.x[:SAMPLES], problem.space.per_channel, judge.threads)
        self.sensitivity = Sensitivity(self.network)
        self.variables = problem.space.variables
        self.options = [self.formats(variable) for variable in self.variables]
        self.accepted: list[Assignment] = []

    def run(self) -> Candidate:
        found = self.bisect(*self.first_front())
        if found is None:
            return self.problem.float32
        for _ in range(ROUNDS):
            better = self.bisect(*self.front_around(found))
            if better is None or self.cost(better) >= self.cost(found):
                break
            found = better
        self.trim(found)
        return self.measured()

    # ---- 1. measure

    def formats(self, variable: Variable) -> list[Canonical]:
        """For every width, narrowest first, the kind of least error over the variable's tensors."""
        return [min(kinds, key=lambda kind: self.error(variable, kind)) for kinds in widths(variable).values()]

    def error(self, variable: Variable, format: Canonical) -> float:
        if variable.role == "input":
            return sum(self.network.input_format(target, format)[1] for target in variable.targets)
        return sum(self.network.weight_error(target, format) for target in variable.targets)

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
        near = [self.near(formats, own) for formats, own in zip(self.options, found, strict=True)]
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

    def near(self, formats: list[Canonical], own: Canonical) -> list[Canonical]:
        at = formats.index(own)
        return formats[max(0, at - REACH) : at + REACH + 1]

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

    def bisect(self, points: list[Point], options: list[list[Canonical]]) -> Assignment | None:
        """The cheapest point that holds, found by bisection; None if not even the first does."""
        assignments = [tuple(o[i] for o, i in zip(options, point.choice, strict=True)) for point in points]
        low, high = -1, len(assignments)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.holds(assignments[middle]) else (low, middle)
        return assignments[low] if low >= 0 else None

    def holds(self, assignment: Assignment) -> bool:
        if assignment in self.accepted:
            return True
        held = self.validation.holds(self.network.build(assignment))
        if held:
            self.accepted.append(assignment)
        return held

    # ---- 5. trim

    def trim(self, found: Assignment) -> None:
        """One width narrower wherever that holds, the largest saving first, until nothing more does."""
        refused: set[Assignment] = set()
        while True:
            moves = [
                (*found[:number], formats[formats.index(own) - 1], *found[number + 1 :])
                for number, (formats, own) in enumerate(zip(self.options, found, strict=True))
                if formats.index(own) > 0
            ]
            for move in sorted(moves, key=self.cost):
                if move not in refused and self.holds(move):
                    found = move
                    break
                refused.add(move)
            else:
                return

    def measured(self) -> Candidate:
        """The cheapest accepted assignment that also holds on all images."""
        for assignment in sorted(self.accepted, key=self.cost):
            candidate = self.network.build(assignment)
            if self.problem.accuracy(candidate) >= self.problem.least():
                return candidate
        return self.problem.float32
