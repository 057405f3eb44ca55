"""What a search makes small: a number of a format assignment, by name, as a weighted sum, or a function of the user's.

bits      sum of width x size over weights and inputs of the target layers (the default objective of libnumber); biases
          a channel, which the paper does not have, count 5 bits each
energy    picojoules of a frame's multiplications and additions, from Table I of the LeNet paper (ir/energy.py)
lut, bram, dsp, latency   of the accelerator's estimate on a board (middle of a range; cycles for latency); infinite for
          formats that it cannot be built in

`bits+0.5*energy` is a weighted sum; `mine.py:cost` calls cost({"conv1.weight": format, ...}, targets).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bitwright.backends.hls.board import Board, load_board
from bitwright.backends.hls.estimate import Estimate
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import stages_of
from bitwright.ir import edit
from bitwright.ir.assign import assign, layers
from bitwright.ir.energy import mac_energy
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.ir.formats.named import FIXED8
from bitwright.ir.graph import Graph, Node
from bitwright.ir.user_code import user_number
from bitwright.passes import Context, run_passes
from bitwright.passes.accumulators import DeriveAccumulators
from bitwright.passes.formats import AnnotateFormats
from bitwright.tuner.targets import Target

Formats = Mapping[str, Canonical]
Objective = Callable[[Formats], float]

_TERM = re.compile(r"(?:(?P<factor>(?:[0-9]+\.?|\.[0-9])[0-9]*(?:[eE][+-]?[0-9]+)?)\s*\*\s*)?(?P<name>.+)")
_PLUS = re.compile(r"(?<![0-9.][eE])\+")


@dataclass(frozen=True)
class Bits:
    """The paper's default: bits of all target tensors."""

    targets: Sequence[Target]

    def __call__(self, formats: Formats) -> float:
        return float(sum(_bits(formats[target.name], target.size) for target in self.targets))


def _bits(format: Canonical, size: int) -> int:
    return format.width * size + BIAS_BITS * (format.channels or 0)


@dataclass(frozen=True)
class Energy:
    """Picojoules a frame. layers: for each, the names of weight and input, multiplications, and inputs of one sum."""

    layers: Sequence[tuple[str, str, int, int]]

    def __call__(self, formats: Formats) -> float:
        return sum(macs * mac_energy(formats[weight], formats[x], inputs) for weight, x, macs, inputs in self.layers)


@dataclass(frozen=True)
class Hardware:
    """A figure of the estimate of the fastest plan on a board, made without the search for common sub-sums.

    graph: in the formats of tensors that are no targets, FIXED 16 over their float ranges. Formats that cannot be
    built, or not on this board, cost infinitely much.
    """

    graph: Graph
    board: Board
    figure: str
    context: Context
    known: dict[frozenset[tuple[str, Canonical]], float] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, formats: Formats) -> float:
        key = frozenset(formats.items())
        if key not in self.known:
            self.known[key] = self._figure(formats)
        return self.known[key]

    def _figure(self, formats: Formats) -> float:
        try:
            found = self.estimate(formats)
        except CompileError:
            return math.inf
        if self.figure == "latency":
            return float(found.latency)
        total = found.total
        return {"lut": sum(total.lut) / 2, "bram": float(total.bram18), "dsp": float(total.dsp)}[self.figure]

    def estimate(self, formats: Formats) -> Estimate:
        """Of the fastest plan. Raises CompileError if there is none."""
        made = edit.copy(self.graph)
        assign(made, formats)
        stages = stages_of(run_passes(made, [DeriveAccumulators()], self.context))
        return plan(stages, self.board, search=False).estimate


BIAS_BITS = 5
HARDWARE = ("lut", "bram", "dsp", "latency")
NAMES = ("bits", "energy", *HARDWARE)


def objective_of(
    text: str, graph: Graph | None, targets: Sequence[Target], board: str = "pynq-z2", context: Context | None = None
) -> Objective:
    """The objective that `text` names. Raises CompileError for what it does not know.

    graph: None where only the tensors' sizes are known (the portable mode), which allows bits and files of the user's.
    """
    if text.strip().lower() == "default":
        text = "bits"
    if re.fullmatch(r".+\.py:\w+", text):
        return _of_file(text, targets)
    terms = []
    for part in _PLUS.split(text):
        match = _TERM.fullmatch(part.strip())
        name = match["name"].strip() if match else part
        if match is None or name not in NAMES:
            raise CompileError(
                f"there is no objective {name!r}",
                help=f"they are {', '.join(NAMES)}, sums as bits+0.5*energy, file.py:function",
            )
        if name != "bits" and graph is None:
            raise CompileError(f"the objective {name} needs the network itself", help="use bits or file.py:function")
        terms.append((float(match["factor"] or 1), _named(name, graph, targets, board, context or Context())))
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]
    return lambda formats: sum(factor * term(formats) for factor, term in terms)


def _named(name: str, graph: Graph | None, targets: Sequence[Target], board: str, context: Context) -> Objective:
    if name == "bits":
        return Bits(targets)
    assert graph is not None
    if name == "energy":
        return Energy(_layers(graph, targets))
    annotated = run_passes(edit.copy(graph), [AnnotateFormats("FIXED 16", "FIXED 16")], context)
    hardware = Hardware(annotated, load_board(board), name, context)
    hardware.estimate({target.name: FIXED8.covering(target.max_abs) for target in targets})  # it can be built at all
    return hardware


def _layers(graph: Graph, targets: Sequence[Target]) -> list[tuple[str, str, int, int]]:
    known = {name: target.name for target in targets for name in (target.name, *target.aliases)}
    return [
        (known[f"{node.name}.weight"], known[f"{node.name}.input"], *_work(node))
        for node in layers(graph)
        if f"{node.name}.weight" in known
    ]


def macs(node: Node) -> int:
    """Multiplications of a conv2d or dense for one sample."""
    return _work(node)[0]


def _work(node: Node) -> tuple[int, int]:
    weight = node.operand(1).tensor_type.static_shape or ()
    inputs = math.prod(weight[1:])
    if node.op == "dense":
        return math.prod(weight), inputs
    sides = node.operand(0).tensor_type.shape
    assert sides is not None
    positions = math.prod(_places(node, axis, side) for axis, side in enumerate(sides[2:]) if isinstance(side, int))
    return weight[0] * inputs * positions, inputs


def _places(node: Node, axis: int, side: int) -> int:
    """Places of the window along an axis."""
    from bitwright.ir.ops import integers

    kernel = integers(node, "kernel") or (node.operand(1).tensor_type.static_shape or ())[2:]
    pads = integers(node, "pads") or (0,) * (2 * len(kernel))
    strides = integers(node, "strides") or (1,) * len(kernel)
    dilations = integers(node, "dilations") or (1,) * len(kernel)
    span = dilations[axis] * (kernel[axis] - 1) + 1
    return (side + pads[axis] + pads[axis + len(kernel)] - span) // strides[axis] + 1


def _of_file(text: str, targets: Sequence[Target]) -> Objective:
    path, _, name = text.rpartition(":")
    cost = user_number(Path(path), name, f"{name}(formats, targets), which returns a number")
    return lambda formats: cost(dict(formats), tuple(targets))
