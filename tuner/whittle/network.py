"""The network as whittle sees it: its layers one after the other, refitted to what the formats before them leave.

An assignment takes one format (kind and width) for every variable of the space. `build` gives it biases and numbers,
layer by layer: a layer's inputs are rounded, its weights are refitted to those inputs, and so on. Layers whose formats,
and those of all layers before, were built before are taken from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitwright.ir import edit
from bitwright.ir.assign import format_names, spread
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, best_bias
from bitwright.ir.graph import Graph, Node
from bitwright.ir.tensor import Array, Tensor
from bitwright.passes.cholesky import Matrix
from bitwright.passes.patches import Rounding, Rows, group_count, inputs_of, patches, places_of
from bitwright.tuner.candidate import Candidate
from bitwright.tuner.problem import Problem
from bitwright.tuner.space import Variable
from bitwright.tuner.targets import Role, Target
from bitwright.tuner.whittle.coupled import Coupling
from bitwright.tuner.whittle.curvature import segment_count
from bitwright.tuner.whittle.cuts import Cuts
from bitwright.tuner.whittle.floats import affordable, float_pass
from bitwright.tuner.whittle.influence import SAMPLES, influences, watched, way_back
from bitwright.tuner.whittle.layer import COARSE, ENOUGH, Fitted, Statistics

MOST_BYTES = 1 << 30
MOST_VALUES = 25_000
MOST_ROWS = 16_384  # of the inputs of a layer's sums
MOST_INPUTS = 1 << 25  # in all these rows, or more where a layer needs more: 128 MB
KEPT = 8
MOST_EXPONENT_BITS = 7

Assignment = tuple[Canonical, ...]
"""A format for every variable of the space; its bias is not used."""


@dataclass(frozen=True)
class Built:
    """A network in an assignment: formats with biases by target, and the replaced numbers by value name."""

    formats: Mapping[str, Canonical] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)

    def with_format(self, target: Target, format: Canonical, values: Mapping[str, Array] | None = None) -> Built:
        return Built({**self.formats, target.name: format}, {**self.values, **(values or {})})


@dataclass(frozen=True, eq=False)
class State:
    """What is built so far, and the values of the samples at the cut before node `place`."""

    built: Built
    values: dict[str, Array]
    place: int


class Network:
    """The layers of a problem's network, with the float values of some samples at every cut."""

    def __init__(
        self, problem: Problem, graph: Graph, x: Array, per_channel: bool, threads: int = 0, fitted: int | None = None
    ) -> None:
        """x: images, which all pass through the float network once (for the caller to count).

        The values at all cuts are kept of the first 2,000 (or as many as 1 GB holds), the inputs of layers that have
        many for so few samples of as many as they need. fitted: how many images numbers may be fitted to, the first
        ones; all by default.
        """
        self.problem = problem
        self.graph = graph
        self.per_channel = per_channel
        self.names = format_names(graph)
        targets = {target.name: target for target in problem.space.targets}
        self.variable = {t.name: i for i, v in enumerate(problem.space.variables) for t in v.targets}
        self.cuts = Cuts(graph, x, threads)
        self.order = sorted(targets.values(), key=lambda target: (self.place(target), target.role == "weight"))
        self.way = way_back(graph)
        kept = self._kept()
        self.cuts.x = x[:fitted][: affordable(graph, kept)]
        self.floats = float_pass(graph, x, len(self.cuts.x), kept, self._needed(), threads, fitted)
        self.kept_bytes = 0
        self.starts: dict[tuple[str, str, int], tuple[Canonical, float]] = {}
        self.weight_formats: dict[tuple[str, str, int], Canonical] = {}
        self.rows: dict[str, Rows] = {}
        self.float_statistics: dict[str, Statistics] = {}
        self.couplings: dict[str, Coupling | None] = {}
        self.reached: dict[State, tuple[dict[str, Array], Statistics]] = {}
        self.states: dict[tuple[Canonical, ...], State] = {}

    def node(self, target: Target) -> Node:
        """The first layer that a target belongs to."""
        return self.graph.nodes[self.place(target)]

    def place(self, target: Target) -> int:
        return self.cuts.place[target.layer]

    def _kept(self) -> list[str]:
        """The float inputs of target layers, the values at the cuts before them, and what influences are made of."""
        wanted = [self.node(t).operand(0).name for t in self.order]
        wanted += [self.names[t.name].name for t in self.order if t.role == "input"]
        for place in {self.place(t) for t in self.order}:
            wanted += self.cuts.live[place]
        wanted += watched(self.graph, self.way)
        return list(dict.fromkeys(wanted))

    def _needed(self) -> dict[str, int]:
        """How many samples each weighted input is needed of, to tell of the weights that it meets."""
        needed = {}
        for node in (self.node(target) for target in self.order if target.role == "weight"):
            inputs = inputs_of(node) / segment_count(inputs_of(node))
            needed[node.operand(0).name] = math.ceil(ENOUGH * inputs / places_of(node))
        return needed

    # ---- formats of single tensors

    def patches(self, node: Node, x: Array, rounding: Rounding | None = None) -> Rows:
        """The inputs that a layer's weights meet, of as many places as numbers are fitted to."""
        inputs = inputs_of(node)
        most = max(MOST_INPUTS // (inputs * group_count(node)), ENOUGH * inputs)
        return patches(node, x, rounding, min(MOST_ROWS, most))

    def float_rows(self, target: Target) -> Rows:
        """The float inputs that a layer's weights meet; all others go first if they have come to 1 GB."""
        if target.layer not in self.rows:
            node = self.node(target)
            if sum(part.nbytes for rows in self.rows.values() for part in rows) > MOST_BYTES:
                self.rows.clear()
            self.rows[target.layer] = self.patches(node, self.floats.values[node.operand(0).name])
        return self.rows[target.layer]

    def statistics_of(self, target: Target) -> Statistics:
        """The statistics of a layer on float inputs."""
        if target.layer not in self.float_statistics:
            node, rows = self.node(target), self.float_rows(target)
            if node.operand(0).name in self.floats.further:
                more = self.patches(node, self.floats.further[node.operand(0).name])
                rows = [np.concatenate(both) for both in zip(rows, more, strict=True)]
            self.float_statistics[target.layer] = Statistics(node, rows, coupling=self.coupling_of(node))
        return self.float_statistics[target.layer]

    def coupling_of(self, node: Node) -> Coupling | None:
        """How the outputs of a dense layer make up for each other; None where that is not known."""
        if node.name not in self.couplings:
            m = self.influences.get(node.name)
            self.couplings[node.name] = None if m is None else Coupling.of(m, inputs_of(node))
        return self.couplings[node.name]

    @cached_property
    def influences(self) -> dict[str, Matrix]:
        """Those of the dense layers that they are known of, by some samples' float values."""
        values = {name: self.floats.values[name][:SAMPLES] for name in watched(self.graph, self.way)}
        return influences(self.graph, self.way, values)

    def weight_start(self, target: Target, format: Canonical) -> tuple[Canonical, float]:
        """The format with the biases that suit a layer's weights rounded to nearest, and the error of that."""
        key = target.name, format.kind, format.width
        if key not in self.starts:
            fit = self.statistics_of(target).start(format, self.per_channel)
            self.starts[key] = fit.format, float(fit.error.sum())
        return self.starts[key]

    def weight_format(self, target: Target, format: Canonical) -> Canonical:
        """The format with the biases that suit a layer's weights."""
        key = target.name, format.kind, format.width
        if key not in self.weight_formats:
            start, _ = self.weight_start(target, format)
            coarse = format.width <= COARSE
            self.weight_formats[key] = self.statistics_of(target).shifted(start) if coarse else start
        return self.weight_formats[key]

    def fit_alone(self, target: Target, formats: Sequence[Canonical]) -> list[Fitted]:
        """A layer's numbers in each format, on float inputs, found quickly."""
        starts = [self.weight_format(target, format) for format in formats]
        return self.statistics_of(target).fit(starts, sweeps=0)

    def input_format(self, target: Target, format: Canonical) -> tuple[Canonical, float]:
        """The format with the bias of least squared error on the float values, and that error over their power."""
        key = target.name, format.kind, format.width
        if key not in self.starts:
            values = self._sampled(self.floats.values[self.node(target).operand(0).name])
            fit = best_bias(format, values)
            self.starts[key] = fit.format, float(fit.error) / max(float(np.square(values).sum()), 1e-30)
        return self.starts[key]

    def _sampled(self, values: Array) -> NDArray[np.float64]:
        flat = values.reshape(-1)
        return flat[:: max(1, flat.size // MOST_VALUES)].astype(np.float64)

    # ---- whole assignments

    def build(self, assignment: Assignment) -> Candidate:
        """The candidate of an assignment: biases found, weights refitted layer by layer."""
        built = self.state(assignment, len(self.order)).built
        return self.problem.formats(built.formats, built.values)

    def state(self, assignment: Assignment, count: int) -> State:
        """The network with the first `count` targets built."""
        state = State(Built(), self.cuts.inputs(), 0)
        key: tuple[Canonical, ...] = ()
        for target in self.order[:count]:
            key = (*key, assignment[self.variable[target.name]])
            if key not in self.states:
                self._keep(key, self.extended(state, target, key[-1]), state)
            state = self.states[key]
        return state

    def _keep(self, key: tuple[Canonical, ...], state: State, before: State) -> None:
        """Keep a state; all others go first if they have come to 1 GB."""
        own = {id(array) for array in before.values.values()}
        self.kept_bytes += sum(array.nbytes for array in state.values.values() if id(array) not in own)
        if self.kept_bytes > MOST_BYTES:
            self.kept_bytes = 0
            self.states.clear()
        self.states[key] = state

    def extended(self, state: State, target: Target, format: Canonical) -> State:
        """One more target built: its format's bias, and for weights the numbers."""
        if target.role == "input":
            return State(
                state.built.with_format(target, self.input_format(target, format)[0]), state.values, state.place
            )
        node, place = self.node(target), self.place(target)
        values, statistics = self._reached(state, target)
        (fitted,) = statistics.fit([self.weight_format(target, format)])
        return State(state.built.with_format(target, fitted.format, numbers_of(node, fitted)), values, place)

    def _reached(self, state: State, target: Target) -> tuple[dict[str, Array], Statistics]:
        """The values at the cut before a layer, and the layer's statistics on them; the last few are kept."""
        if state not in self.reached:
            node, graph = self.node(target), self.use(state.built)
            values = self._forward(state, self.place(target))
            name = node.operand(0).name
            number = graph.values[name].tensor_type.number
            x = self.patches(node, values[name], None if number is None else number.quantize)
            coupling = self.coupling_of(node)
            statistics = Statistics(node, x, self.float_rows(target), self.statistics_of(target), coupling)
            if len(self.reached) >= KEPT:
                self.reached.pop(next(iter(self.reached)))
            self.reached[state] = values, statistics
        return self.reached[state]

    def _forward(self, state: State, place: int) -> dict[str, Array]:
        """The values at a cut, from a state in use; at the first layer, before which nothing is changed: float ones."""
        if place == self.place(self.order[0]):
            return {name: self.floats.values[name] for name in self.cuts.live[place]}
        self.problem.charge(len(self.cuts.x) * self.cuts.share(state.place, place))
        return self.cuts.forward(state.values, state.place, place)

    def use(self, built: Built) -> Graph:
        """Run the graph with what is built so far from now on; everything else is float."""
        made = self.apply(built)
        self.cuts.use(made)
        return made

    def apply(self, built: Built) -> Graph:
        """The graph with what is built so far; everything else is float."""
        made = edit.copy(self.graph)
        for name, array in built.values.items():
            edit.set_tensor(made.values[name], Tensor(array))
        for name, format in built.formats.items():
            value = made.values[self.names[name].name]
            edit.set_type(value, value.tensor_type.with_format(format))
        spread(made)
        return made


def numbers_of(node: Node, fitted: Fitted) -> dict[str, Array]:
    """The fitted weights and bias by the names of their values."""
    found: dict[str, Array] = {node.operand(1).name: fitted.weight}
    bias = node.optional(2)
    if bias is not None and fitted.bias is not None:
        found[bias.name] = fitted.bias
    return found


def widths(variable: Variable, widest: int) -> dict[int, list[Canonical]]:
    """The FIXED, EXP and BIN formats of a variable by width, up to `widest` bits (or the narrowest, if all are wider).

    Raises CompileError if it has none.
    """
    found: dict[int, list[Canonical]] = {}
    for format in sorted(variable.formats, key=lambda f: f.width):
        if _is_exact(format, variable.role) and (format.width <= widest or not found):
            found.setdefault(format.width, []).append(format)
    if not found:
        raise CompileError(
            f"{variable.name}: the platform has no FIXED, EXP or BIN format", help="--algorithm libnumber"
        )
    return found


def _is_exact(format: Canonical, role: Role) -> bool:
    """FIXED, BIN, and EXP whose range is one of single precision; weights have a sign."""
    return (format.n_e == 0 or (format.n_f == 0 and format.n_e <= MOST_EXPONENT_BITS)) and (
        format.n_s == 1 or role == "input"
    )
