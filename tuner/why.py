"""Why every tensor has its format: its numbers on the grid, what other widths would damage, and what a bit is worth.

    damage     mean KL(p || q) of the output from the float network's, as in tuner/whittle/sensitivity.py, on the first
               250 samples; `alone` with everything else float, `in_context` with everything else as it was found
    price      lambda = (objective - objective of one fewer) / (damage of one fewer - damage), in context: the objective
               that the last bit costs for a unit of damage that it takes away, as the search weighs it

One fewer and one more are the next widths that the platform has. A tensor in another width gets its numbers as the
search made them: refitted (tuner/whittle/layer.py) where it replaced the network's own, else rounded to nearest in the
same kind where there is one, with the bias as far from the covering one as before. For one fewer and one more the
layers after it are refitted too, as the search would: what was fitted to coarse inputs does not suit finer ones.
Accuracies are those of the first 1,000 samples; nothing of this is recorded.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bitwright.backends.simulation.score import hits
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, best_bias, fixed
from bitwright.ir.tensor import Array
from bitwright.tuner.histogram import Histogram, histogram_of
from bitwright.tuner.judge import SimulationJudge
from bitwright.tuner.space import Variable, covering, with_aliases
from bitwright.tuner.targets import Target
from bitwright.tuner.tune import Samples, Tuned, labels
from bitwright.tuner.whittle.network import Built, Network, State, numbers_of
from bitwright.tuner.whittle.sensitivity import divergence, log_probabilities

SAMPLES = 1000
DAMAGE_SAMPLES = 250
WIDTHS = range(1, 9)
MOST_VALUES = 1 << 21
COMPARED_VALUES = 5_000


@dataclass(frozen=True)
class Point:
    """The damage with one tensor in another format; offered: whether the platform has a format of that width."""

    width: int
    format: str
    offered: bool
    alone: float
    in_context: float


@dataclass(frozen=True)
class Step:
    """What changes if one tensor takes the next width: its new format, and new value - present value of each."""

    format: str
    objective: float | None
    damage: float
    accuracy: float


@dataclass(frozen=True)
class Explanation:
    """Why a tensor has its format.

    size: numbers in it (of one sample for an input); numbers: the float ones on the format's grid; curve: by width, 1
    to 8 and the chosen one; price: lambda, None if one fewer does no damage or there is none; fewer, more: None where
    the platform has no such width.
    """

    name: str
    role: str
    size: int
    format: str
    width: int
    numbers: Histogram
    curve: tuple[Point, ...]
    price: float | None
    fewer: Step | None
    more: Step | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: no tuples, no infinities."""
        found = asdict(self)
        return found | {"numbers": self.numbers.as_dict(), "curve": [asdict(point) for point in self.curve]}


def explanations(found: Tuned, samples: Samples | None = None) -> list[Explanation]:
    """Why every tensor of a tuned network has its format, in the order of the space: weights, then inputs.

    samples: what ranges, damages and accuracies are measured on, by default the first 1,000 search images. Raises
    CompileError for the result of a portable search, which has no network.
    """
    judge = found.problem.judge
    if not isinstance(judge, SimulationJudge):
        raise CompileError(
            "the portable mode knows accuracies alone, and cannot explain formats", help="tune the network itself"
        )
    given = samples or Samples(judge.x, judge.y)
    used = Samples(given.x[:SAMPLES], None if given.y is None else given.y[:SAMPLES])
    with threadpool_limits(1, "blas"):  # small matrices, as in the search
        explainer = _Explainer(found, judge, used)
        return [explainer.explained(variable, target) for variable, target in explainer.tensors]


class _Explainer:
    """The network in the formats found, and with one tensor changed."""

    def __init__(self, found: Tuned, judge: SimulationJudge, samples: Samples) -> None:
        self.problem = copy.copy(found.problem)  # what is run here is no part of the search's cost
        self.problem.deadline = None
        self.candidate = found.candidate
        self.judge = judge
        space = self.problem.space
        self.tensors = [(variable, target) for variable in space.variables for target in variable.targets]
        self.network = Network(self.problem, judge.graph, samples.x, space.per_channel, judge.threads)
        self.y = labels(judge.graph, samples)
        self.float_log = log_probabilities(self.network.floats.logits[:DAMAGE_SAMPLES])
        self.built = Built({t.name: found.candidate.formats[t.name] for t in space.targets}, found.candidate.values)
        self.cost = found.cost
        scores = self.scores(self.built, self.network.cuts.inputs(), 0)
        self.damage, self.accuracy = self.damage_of(scores), self.accuracy_of(scores)

    def explained(self, variable: Variable, target: Target) -> Explanation:
        """One tensor's formats, tried alone and in context."""
        own = self.built.formats[target.name]
        offered = self.offered(variable)
        narrower = max((width for width in offered if width < own.width), default=None)
        wider = min((width for width in offered if width > own.width), default=None)
        near = {width for width in (narrower, wider) if width is not None}
        widths = sorted({*WIDTHS, own.width} | near)
        formats = {
            width: own
            if width == own.width
            else self.chosen(target, own, offered.get(width) or [fixed(width, n_s=own.n_s)])
            for width in widths
        }
        place, before = self.network.place(target), self.before(target)
        changes = self.in_context(target, formats, before)
        first = {name: array[:DAMAGE_SAMPLES] for name, array in before.items()}
        damages = {width: self.damage_of(self.scores(built, first, place)) for width, built in changes.items()}
        damages[own.width] = self.damage
        alone = self.alone(target, formats)
        curve = tuple(
            Point(
                width,
                str((self.built if width == own.width else changes[width]).formats[target.name]),
                width in offered or width == own.width,
                alone[width],
                damages[width],
            )
            for width in widths
            if width in WIDTHS or width == own.width
        )

        def step(width: int | None) -> Step | None:
            if width is None:
                return None
            state = State(changes[width], before, place)
            if self.refits():
                state = self.refitted(target, state)
            built, scores = state.built, self.scores(state.built, state.values, state.place)
            return Step(
                str(built.formats[target.name]),
                self.dearer(target, built.formats[target.name]),
                self.damage_of(scores) - self.damage,
                self.accuracy_of(scores) - self.accuracy,
            )

        fewer, more = step(narrower), step(wider)
        return Explanation(
            target.name,
            target.role,
            target.size,
            str(own),
            own.width,
            self.numbers(target, own),
            curve,
            None if narrower is None or fewer is None else price(fewer.objective, damages[narrower] - self.damage),
            fewer,
            more,
        )

    # ---- which formats

    def refits(self) -> bool:
        """Whether the search replaced the network's numbers."""
        return bool(self.candidate.values)

    def offered(self, variable: Variable) -> dict[int, list[Canonical]]:
        """The formats of a variable by width; for refitting those that it can do, FIXED, EXP and BIN."""
        found: dict[int, list[Canonical]] = {}
        for format in variable.formats:
            if not self.refits() or format.n_e == 0 or format.n_f == 0:
                found.setdefault(format.width, []).append(format)
        return found

    def chosen(self, target: Target, own: Canonical, formats: Sequence[Canonical]) -> Canonical:
        """Of formats of one width that which the search would take: of least error, or of the same kind."""
        if len(formats) == 1:
            return formats[0]
        if not self.refits():
            same = [format for format in formats if format.kind == own.kind]
            return same[0] if same else min(formats, key=lambda format: self.plain_error(target, format))
        if target.role == "weight":
            return min(formats, key=lambda format: self.network.weight_start(target, format)[1])
        return min(formats, key=lambda format: float(best_bias(format, self.some(target)).error))

    def plain_error(self, target: Target, format: Canonical) -> float:
        values = self.some(target)
        return float(np.square(values - covering(format, target).quantize(values)).sum())

    def some(self, target: Target) -> Array:
        """Some of the tensor's numbers, for comparing kinds."""
        values = self.exact(target).reshape(-1)
        return values[:: max(1, values.size // COMPARED_VALUES)]

    def rebiased(self, target: Target, format: Canonical) -> Canonical:
        """With its bias as far from the covering one as the tensor's own format has it."""
        own = self.built.formats[target.name]
        made, base = covering(format, target), covering(own, target)
        if own.kind != format.kind or own.axis is not None:
            return made
        return made.at(int(made.biases) + int(own.biases) - int(base.biases))

    # ---- other formats

    def in_context(self, target: Target, formats: dict[int, Canonical], before: dict[str, Array]) -> dict[int, Built]:
        """By width, the whole network with one tensor in another format; not for the width it has."""
        own = self.built.formats[target.name]
        wanted = {width: format for width, format in formats.items() if width != own.width}
        if not self.refits():
            return {w: self.built.with_format(target, self.rebiased(target, f)) for w, f in wanted.items()}
        if target.role == "input":
            return {
                w: self.built.with_format(target, self.network.input_format(target, f)[0]) for w, f in wanted.items()
            }
        state = State(self.built, before, self.network.place(target))
        return {width: self.network.extended(state, target, format).built for width, format in wanted.items()}

    def refitted(self, target: Target, state: State) -> State:
        """The network with one tensor changed, and all layers after it refitted to what that leaves them."""
        order = self.network.order
        at = order.index(target) + 1
        kept = [self.network.node(one) for one in order[:at] if one.role == "weight"]
        names = {value.name for node in kept for value in node.operands[1:3] if value is not None}
        formats = {one.name: state.built.formats[one.name] for one in order[:at]}
        values = {name: array for name, array in state.built.values.items() if name in names}
        state = State(Built(formats, values), state.values, state.place)
        for one in order[at:]:
            state = self.network.extended(state, one, self.built.formats[one.name])
        return state

    def alone(self, target: Target, formats: dict[int, Canonical]) -> dict[int, float]:
        """By width, the damage with everything else in float."""
        wanted = {width: format for width, format in formats.items() if width in WIDTHS}
        own = self.built.formats[target.name]
        wanted[own.width] = own
        if not self.refits():
            built = [Built().with_format(target, self.rebiased(target, format)) for format in wanted.values()]
        elif target.role == "input":
            built = [
                Built().with_format(target, self.network.input_format(target, format)[0]) for format in wanted.values()
            ]
        else:
            node = self.network.node(target)
            fits = self.network.fit_alone(target, list(wanted.values()))
            built = [Built().with_format(target, fitted.format, numbers_of(node, fitted)) for fitted in fits]
        place = self.network.place(target)
        live = self.network.cuts.live[place]
        values = {name: self.network.floats.values[name][:DAMAGE_SAMPLES] for name in live}
        damages = [self.damage_of(self.scores(one, values, place)) for one in built]
        return dict(zip(wanted, damages, strict=True))

    # ---- measuring

    def before(self, target: Target) -> dict[str, Array]:
        """The values before a tensor's layer: all formats as found but that of this tensor."""
        formats = {name: format for name, format in self.built.formats.items() if name != target.name}
        self.network.use(Built(formats, self.built.values))
        return self.network.cuts.forward(self.network.cuts.inputs(), 0, self.network.place(target))

    def scores(self, built: Built, values: dict[str, Array], place: int) -> Array:
        """The output [N, classes] of a network from the values live at a place on."""
        self.network.use(built)
        return self.network.cuts.outputs(values, place)

    def damage_of(self, scores: Array) -> float:
        return divergence(self.float_log, scores[:DAMAGE_SAMPLES])

    def accuracy_of(self, scores: Array) -> float:
        return float(hits(self.judge.k, scores, self.y).mean())

    def dearer(self, target: Target, format: Canonical) -> float | None:
        """What the objective grows by if one tensor takes a format; None if that is no number."""
        formats = {**self.built.formats, target.name: format}
        change = self.problem.objective(with_aliases(self.problem.space, formats)) - self.cost
        return change if math.isfinite(change) else None

    # ---- numbers

    def exact(self, target: Target) -> Array:
        """The float numbers of a tensor: a weight's own, or what a layer reads on the first samples."""
        node = self.network.node(target)
        if target.role == "weight":
            tensor = node.operand(1).tensor
            assert tensor is not None
            return tensor.data
        values = self.network.floats.values[node.operand(0).name]
        return values[: max(1, MOST_VALUES * len(values) // max(values.size, 1))]

    def numbers(self, target: Target, own: Canonical) -> Histogram:
        exact = self.exact(target)
        replaced = self.built.values.get(self.network.node(target).operand(1).name) if target.role == "weight" else None
        return histogram_of(exact, own.quantize(exact if replaced is None else replaced), own)


def price(objective: float | None, damage: float) -> float | None:
    """Lambda of a bit: what the objective and the damage change by with one fewer; None if that does no damage."""
    return None if objective is None or damage <= 0 else -objective / damage
