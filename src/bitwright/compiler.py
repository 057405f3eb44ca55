"""The whole road: ONNX -> graph -> passes -> formats -> accuracy -> plan -> output folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.backends.hls.board import load_board
from bitwright.backends.hls.compare import is_exact
from bitwright.backends.hls.cpp import Names
from bitwright.backends.hls.energy import energy, traffic
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.package import check_target, write_package
from bitwright.backends.hls.plan import UTILISATION, Plan, bottleneck, plan
from bitwright.backends.hls.plan_file import read_plan
from bitwright.backends.hls.reasons import multipliers_reason, pixels_reason, products_a_slice
from bitwright.backends.hls.stages import SumStage, as_integers, ports_of, span, stages_of, why_not
from bitwright.backends.simulation.run import Simulation
from bitwright.backends.simulation.score import Score, score
from bitwright.ir.assign import weight_values
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import check_shape
from bitwright.ir.files import load, store
from bitwright.ir.formats.base import check_finite
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array
from bitwright.ir.text import to_text
from bitwright.ir.types import Type
from bitwright.passes import Context, Pass, run_passes
from bitwright.passes.accumulators import DeriveAccumulators
from bitwright.passes.formats import AnnotateFormats, AssignFormats
from bitwright.tuner.groups import tune_groups
from bitwright.tuner.joint import tune_channels
from bitwright.tuner.platforms import load_platform
from bitwright.tuner.problem import Constraint
from bitwright.tuner.tune import Options, Samples, Tuned, tune_network
from bitwright.tuning import MOST_IMAGES, PREPARE

if TYPE_CHECKING:
    from bitwright.models.datasets import Dataset

DEFAULT_FORMATS = "FIXED 8"
OTHER_WIDTHS = (16, 24)  # of tensors that no layer reads, where the others were searched for
CALIBRATION_SAMPLES = 1000
GOLDEN_FRAMES = 10
SLOWEST_MHZ, FASTEST_MHZ = 1, 1000
OUT_ROOT = Path("build")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Compiled:
    """What compile did: graphs, plan, accuracies (None without labelled data), notes to the user, and the folder."""

    graph: Graph
    plan: Plan
    folder: Path
    clock_mhz: float
    float_score: Score | None = None
    score: Score | None = None
    notes: list[str] = field(default_factory=list)
    bottleneck: str = ""

    def report(self) -> dict[str, Any]:
        """The same as plain data: report.json."""
        found = self.plan.estimate
        total = found.total
        return {
            "network": self.graph.name,
            "board": self.plan.board.name,
            "clock_mhz": self.clock_mhz,
            "accuracy": None if self.score is None else _score_entry(self.score),
            "float_accuracy": None if self.float_score is None else _score_entry(self.float_score),
            "bottleneck": self.bottleneck,
            "interval_cycles": found.interval,
            "latency_cycles": found.latency,
            "frames_per_second": found.frames_per_second(self.clock_mhz),
            "energy_pj": round(energy(self.plan.stages), 1),
            "traffic": traffic(self.plan.stages),
            "resources": {"lut": total.lut, "ff": total.ff, "bram18": total.bram18, "dsp": total.dsp},
            "layers": [
                {
                    "name": stage.name,
                    "format": str(stage.format),
                    "weights": str(stage.weight_format) if isinstance(stage, SumStage) else None,
                    "pe": stage.pe if isinstance(stage, SumStage) else None,
                    "simd": stage.simd if isinstance(stage, SumStage) else None,
                    "pixels": stage.pixels if isinstance(stage, SumStage) else None,
                    "pixels_reason": pixels_reason(stage),
                    "multipliers_reason": multipliers_reason(stage),
                    "packing": products_a_slice(stage),
                    "fifo": [stage.depth(side) for side in range(len(stage.reads))],
                    "cycles": cycles,
                    "lut": cost.lut,
                    "ff": cost.ff,
                    "bram18": cost.bram18,
                    "dsp": cost.dsp,
                }
                for stage, cost, cycles in found.stages
            ],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Asked:
    """What is searched for: a relative loss of accuracy, and whether channels may go or have widths in groups."""

    tolerance: float
    prune: bool = False
    channel_groups: bool = False


def compile(
    model: str | Path | Graph,
    target: str,
    *,
    data: str | None = None,
    formats: str | None = None,
    tolerance: float | None = None,
    prune: bool = False,
    channel_groups: bool = False,
    passes: str | None = None,
    clock_mhz: float | None = None,
    utilisation: float = UTILISATION,
    fps: float | None = None,
    plan_file: str | Path | None = None,
    out: str | Path | None = None,
    say: Say = lambda message: None,
) -> Compiled:
    """Compile a network for a board and write the output folder (default: build/<network>).

    data: a source of bitwright.models.datasets: its training split chooses ranges, its test split measures accuracy;
    formats: `KIND width` for all tensors, or a file of formats a tensor; tolerance: relative loss of accuracy, for
    which the formats of fewest bits are searched (bitwright.tuner.whittle); prune: whether channels may go as well;
    channel_groups: whether output channels of a layer may have several widths; passes: run after the structure passes;
    fps: frames a second, for the smallest design that reaches them; plan_file: what is decided of the plan (plan.toml).
    Raises CompileError for whatever the user can mend.
    """
    from bitwright import __version__

    board = load_board(target)
    clock = board.clock_mhz if clock_mhz is None else clock_mhz
    if not SLOWEST_MHZ <= clock <= FASTEST_MHZ:
        raise CompileError(f"a clock of {clock:g} MHz is not from {SLOWEST_MHZ} to {FASTEST_MHZ} MHz")
    if formats is not None and tolerance is not None:
        raise CompileError("formats are given or searched for, not both", help="leave out --formats or --tolerance")
    if tolerance is not None and data is None:
        raise CompileError("a tolerance needs labelled data to measure accuracy on", help="give --data")
    asked = None if tolerance is None else Asked(tolerance, prune, channel_groups)
    if (prune or channel_groups) and tolerance is None:
        what = "channels" if prune else "groups of channels"
        raise CompileError(f"{what} are chosen for a tolerance, and none is given", help="--tolerance 1%")
    if fps is not None and not fps > 0:
        raise CompileError(f"{fps:g} frames a second are not above 0")
    if fps is not None and fps > clock * 1e6:
        raise CompileError(
            f"{fps:g} frames a second are more than {clock:g} MHz have cycles", help="give a lower --fps"
        )
    given = read_plan(Path(plan_file)) if plan_file is not None else {}
    say("reading the network")
    graph = load(model) if isinstance(model, str | Path) else model
    folder = Path(out) if out is not None else OUT_ROOT / Names().of(graph.name)
    check_target(folder)
    train, test = _data(data, graph)
    context = calibration(graph, train)
    context.notes += _warnings(model, graph, train, test)

    say("passes")
    graph = run_passes(graph, _prepare(graph, given) + (f",{passes}" if passes else ""), context)
    _check_ops(graph)
    check_weights(graph)
    say("formats")
    annotated = _annotated(graph, formats, asked, context, train)
    say("plan")
    planned = plan(stages_of(annotated), board, utilisation, given, _interval(fps, clock))
    say("accuracy")
    scores = _scores(graph, annotated, test)
    context.notes += _hints(annotated, scores, asked)
    slowest = bottleneck(planned, given)
    result = Compiled(annotated, planned, folder, clock, *scores, notes=context.notes, bottleneck=slowest)
    say("output")
    key = hashlib.sha256(to_text(annotated).encode()).hexdigest()[:8]
    origin = f"bitwright {__version__}, model {key}, target {board.name}"
    report = result.report() | {"data": data, "bitwright": __version__}
    write_package(folder, annotated, planned, graph.name, origin, _golden(annotated, planned, test), report, clock)
    return result


def _prepare(graph: Graph, given: Mapping[str, Given]) -> str:
    """The structure passes, but for the poolings that a plan leaves apart from their convolutions."""
    convolutions = {node.name for node in graph.nodes if node.op == "conv2d"}
    apart = [n for n, one in given.items() if one.fusion is not None and "maxpool" not in one.fusion]
    apart = [name for name in apart if name in convolutions]
    return PREPARE.replace("fuse-pooling", f"fuse-pooling{{apart={'+'.join(apart)}}}") if apart else PREPARE


def _interval(fps: float | None, clock_mhz: float) -> int | None:
    """The most cycles a frame for so many frames a second."""
    return None if fps is None else int(clock_mhz * 1e6 / fps)


def check_weights(graph: Graph) -> None:
    """Raise CompileError, naming the tensor, if a weight is NaN or infinite, or a layer's weights are none."""
    for value in weight_values(graph):
        if value.tensor is not None and not value.tensor.size:
            raise CompileError(f"%{value.name}: there are no weights in {value.type}")
    for value in graph.weights:
        if value.tensor is not None and value.tensor.dtype.kind == "f":
            check_finite(value.tensor.data, "%" + value.name)


def calibration(graph: Graph, data: Dataset | None) -> Context:
    """A context with the first samples of `data`. Raises CompileError if they are not for the graph's one input."""
    if data is None:
        return Context()
    return Context(samples={_input_for(graph, data): data.x[:CALIBRATION_SAMPLES]})


def format_passes(formats: str) -> list[Pass]:
    """The passes that give a graph `formats`: those of a file, or one kind and width for all tensors."""
    if Path(formats).is_file() or formats.endswith((".txt", ".conf")):
        return [AssignFormats(file=formats), DeriveAccumulators()]
    return [AnnotateFormats(weights=formats, activations=formats), DeriveAccumulators()]


def _annotated(
    graph: Graph, formats: str | None, asked: Asked | None, context: Context, train: Dataset | None
) -> Graph:
    """The graph with formats: of a file, of one kind and width, or those of fewest bits that keep the accuracy."""
    if asked is not None:
        if train is None or train.y is None:
            raise CompileError("a tolerance needs labels, and the data have none")
        order = np.random.default_rng(context.seed).permutation(len(train.x))[:MOST_IMAGES]
        return _tuned(graph, asked, Samples(train.x[order], train.y[order]), context)
    if formats is None:
        return run_passes(graph, _default_passes(graph, context), context)
    passes = format_passes(formats)
    if isinstance(passes[0], AssignFormats):
        passes = format_passes(DEFAULT_FORMATS) + passes
        context.notes.append(f"tensors that {formats} does not name are {DEFAULT_FORMATS}")
    return run_passes(graph, passes, context)


def _tuned(graph: Graph, asked: Asked, search: Samples, context: Context) -> Graph:
    """The graph in the formats of fewest bits that keep the accuracy on `search`; what no layer reads is wide."""

    def formats_of(network: Graph, samples: Samples, options: Options) -> Tuned:
        return tune_network(network, samples, None, load_platform("full"), options)

    options = Options(constraint=Constraint(asked.tolerance))
    found = (
        tune_channels(graph, search, None, options, formats_of) if asked.prune else formats_of(graph, search, options)
    )
    if asked.channel_groups:
        found = tune_groups(found, graph, search, None, options, formats_of)
    widths = OTHER_WIDTHS if found.graph is not None and found.cost < found.float_cost else ()
    for width in widths:
        others = AnnotateFormats(weights=f"FIXED {width}", activations=f"FIXED {width}", keep=True)
        annotated = run_passes(found.graph or graph, [others, DeriveAccumulators()], context)
        reached = score(annotated, search.x, search.y).value
        if reached >= found.least:
            fewer = found.float_cost / found.cost
            for name, (left, of) in found.channels.items():
                context.notes.append(f"{name}: {left} of {of} channels are left")
            for name, parts in found.groups.items():
                context.notes.append(f"{name} is in groups of {', '.join(map(str, parts.values()))} channels")
            context.notes.append(
                f"formats of {fewer:.1f} times fewer bits than FLOAT 32, accuracy {reached:.4f} "
                f"on the {len(search.x):,} training samples they were searched on; `bitwright tune` says more"
            )
            return annotated
    raise CompileError(
        f"no formats of up to 16 bits keep {1 - asked.tolerance:.2%} of the accuracy {found.reference:.4f}",
        help="allow a larger tolerance",
    )


def _default_passes(graph: Graph, context: Context) -> list[Pass]:
    """A network that comes quantised keeps its formats; every other tensor gets the default."""
    if any(isinstance(value.type, Type) and value.type.number for value in graph.values.values()):
        context.notes.append(f"the network's own formats are kept; tensors without are {DEFAULT_FORMATS}")
    default = AnnotateFormats(weights=DEFAULT_FORMATS, activations=DEFAULT_FORMATS, keep=True)
    return [default, DeriveAccumulators()]


def _check_ops(graph: Graph) -> None:
    """Raise CompileError for the first op that cannot be built, before anything is measured."""
    for node in graph.nodes:
        reason = why_not(node)
        if reason is not None:
            source = f" ({node.source})" if node.source else ""
            raise CompileError(f"%{node.name}{source}: {reason}", help="`bitwright check` lists every op")


def _data(source: str | None, graph: Graph) -> tuple[Dataset | None, Dataset | None]:
    """Training and test split, checked against the network's input."""
    if source is None:
        return None, None
    from bitwright.models.datasets import load as load_data

    splits = load_data(source, "train"), load_data(source, "test")
    for split in splits:
        _input_for(graph, split)
    return splits


def _input_for(graph: Graph, data: Dataset) -> str:
    """The outside name of the one input of a graph, which must take the samples of `data`."""
    free = [value for value in graph.inputs if value.tensor is None]
    if len(free) != 1:
        raise CompileError(f"@{graph.name} has {len(free)} inputs; data are taken for networks of one")
    name = graph.input_name(free[0])
    check_shape(free[0], name, data.x)
    return name


def _feeds(graph: Graph, x: Array) -> dict[str, Array]:
    return {graph.input_name(graph.inputs[0]): x}


def _scores(graph: Graph, annotated: Graph, test: Dataset | None) -> tuple[Score | None, Score | None]:
    if test is None or test.y is None:
        return None, None
    return score(graph, test.x, test.y), score(annotated, test.x, test.y)


def _golden(graph: Graph, planned: Plan, test: Dataset | None) -> tuple[Any, ...]:
    """Integers of a few frames and of the outputs they must give, in the order of the streams."""
    value, output = graph.inputs[0], graph.outputs[0]
    format = value.tensor_type.number
    assert format is not None
    if test is not None:
        x = test.x[:GOLDEN_FRAMES]
    else:
        shape = [dim for dim in (value.tensor_type.shape or ())[1:] if isinstance(dim, int)]
        x = np.random.default_rng(0).uniform(*span(format), (GOLDEN_FRAMES, *shape)).astype(np.float32)
    y = Simulation(graph).run_exactly(_feeds(graph, x))[output.name]
    return tuple(
        frames.transpose(0, *(axis + 1 for axis in port.order)).reshape(len(frames), -1)
        for port, reals in zip(ports_of(planned.stages), (x, y), strict=True)
        for frames in [as_integers(port.format, reals)]
    )


def _warnings(model: str | Path | Graph, graph: Graph, train: Dataset | None, test: Dataset | None) -> list[str]:
    """What a person should know about the network and the data that were given."""
    found = []
    if isinstance(model, str | Path):
        beside = Path(model).with_suffix(".npz")
        if Path(model).suffix == ".ir" and not beside.is_file() and store(graph):
            found.append(f"there is no {beside}: the weights are made up")
    if train is not None and test is not None and test.y is not None and np.array_equal(train.x, test.x):
        found.append("the data are not split: accuracy is measured on the samples that ranges are chosen on")
    return found


def _hints(graph: Graph, scores: tuple[Score | None, Score | None], asked: Asked | None) -> list[str]:
    """What a person should know about these numbers."""
    found = []
    before, after = scores
    if asked is not None and before is not None and after is not None:
        least = Constraint(asked.tolerance).least(before.value, before.samples)
        if after.value < least:
            way_out = "give more training samples, or `bitwright tune` a larger --margin"
            found.append(f"the accuracy on the test samples is below the {least:.4f} asked for: {way_out}")
    if before is not None and after is not None and after.value < 0.9 * before.value:
        found.append("the formats cost much accuracy: try wider ones, or --tolerance")
    if not is_exact(graph):
        found.append("FLOAT and AFFINE are compared within a tolerance: `bitwright csim` prints it")
    elif after is not None and not after.exact:
        found.append("some sums exceed 24 bits: the accuracy was simulated in float32, approximately")
    if any(not np.any(v.tensor.data) for v in weight_values(graph) if v.tensor is not None):
        found.append("a layer's weights are all zero")
    return found


def _score_entry(found: Score) -> dict[str, Any]:
    return {"metric": found.metric, "value": found.value, "samples": found.samples, "exact": found.exact}
