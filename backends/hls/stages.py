"""A graph as a chain of stages: what stands in the accelerator's dataflow, in order, with numbers only.

    input -> conv | dense | pool -> ... -> output

A stage knows its geometry, the integers of its weights in the order in which its stream brings the inputs, and its
rounding; plan.py gives it a folding. Tensors flow pixel by pixel with channels last, so a flatten needs no stage: the
columns of the dense after it are put into that order. Anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bitwright.ir.accumulate import accumulator
from bitwright.ir.edit import unique_name
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.ops import integer, integers, real, string
from bitwright.ir.text import node_text
from bitwright.ir.types import Type, quote

Ints = NDArray[np.int64]

WIDEST_FORMAT = 32
WIDEST_ACCUMULATOR = 63
MOST_LEVELS = 63
LEAST_ROW = 4  # words of a line buffer's row: a write has landed before its place comes back (scan.hpp)
POOLED = ".pool"
CHANNELS_FIRST = (0, 3, 1, 2)
SUPPORTED = "conv2d, dense, maxpool2d, relu and clip behind them, flatten and reshape before dense"


@dataclass(frozen=True)
class Scan:
    """The walk of a kernel over an image: sizes as (rows, columns), pads as (top, left, bottom, right)."""

    channels: int
    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]

    def takes(self, lanes: int) -> bool:
        """Whether rows of tokens of `lanes` channels are long enough for the line buffer, if there is one."""
        _, left, _, right = self.pads
        words = (left + self.size[1] + right) * (self.channels // lanes)
        return self.kernel[0] == 1 or words >= LEAST_ROW


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One layer: what it is called, its line of the graph, the format and number of elements of its result.

    lanes: elements of the token that enters, filled in by the plan.
    """

    name: str
    line: str
    format: Canonical
    elements: int
    lanes: int = 1

    @property
    def out_lanes(self) -> int:
        """Elements of the token that leaves."""
        return self.lanes


@dataclass(frozen=True, kw_only=True)
class PortStage(Stage):
    """The AXI stream that comes in or goes out.

    outside: its name; shape: of a frame, as the graph has it; order: its axes as the stream brings them, the last one
    fastest, which is channels last.
    """

    outside: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    is_input: bool


@dataclass(frozen=True, kw_only=True)
class SumStage(Stage):
    """A conv2d or dense: positions times a matrix [outputs, inputs], rounded once.

    weights: integers in the order of the stream; codes: what the memory holds; bias: in steps of the accumulator;
    shift: places to the right, a channel; act: (low, high) in steps of the result, None where open; scan: None where
    whole tokens make the input vector (dense, 1x1 convolutions, kernels that cover the image).
    """

    in_format: Canonical
    weight_format: Canonical
    weights: Ints
    codes: Ints
    bias: Ints
    shift: Ints
    acc_bits: int
    levels: int
    act: tuple[int | None, int | None]
    positions: int
    scan: Scan | None
    pe: int = 1
    simd: int = 1

    @property
    def outputs(self) -> int:
        return len(self.weights)

    @property
    def inputs(self) -> int:
        return int(self.weights.shape[1])

    @property
    def out_lanes(self) -> int:
        return self.pe


@dataclass(frozen=True, kw_only=True)
class PoolStage(Stage):
    """Max pooling of the narrow numbers behind a rounding."""

    scan: Scan


def stages_of(graph: Graph) -> list[Stage]:
    """The stages of a graph of one input and one output. Raises CompileError naming what cannot be built, and why."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise CompileError(
            f"@{graph.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not one of each"
        )
    nodes = list(_chain(graph))
    value = graph.inputs[0]
    port = _port(graph, value, is_input=True)
    layout = port.shape  # the frame that flows: [C,H,W], or [K]
    if nodes and nodes[0].op == "transpose":  # the frame comes channels last, as the stream wants it
        _keeps_format(nodes[0])
        layout = _frame(nodes.pop(0).result)
        port = replace(port, order=(0, 1, 2))
    found: list[Stage] = [port]
    for node in nodes:
        made, layout = _BUILDERS[node.op](node, layout)
        found += made
    last = graph.outputs[0].value
    if len(found) == 1:
        raise CompileError(f"@{graph.name} computes nothing that hardware could do")
    if len(layout) == 3 and len(_frame(last)) == 1 and layout[0] > 1 < layout[1] * layout[2]:
        raise CompileError(
            f"the output %{last.name} is a flattened image, which leaves the accelerator with its channels last",
            help="end before the flatten, or with a dense behind it",
        )
    return [*found, _port(graph, last, is_input=False, taken={stage.name for stage in found})]


def pool_name(graph: Graph, node: Node) -> str:
    """What the pooling that is fused into a convolution of `graph` is called."""
    return unique_name(graph, node.name + POOLED)


def ports_of(stages: Sequence[Stage]) -> tuple[PortStage, PortStage]:
    """The two ends of a chain of stages."""
    first, last = stages[0], stages[-1]
    assert isinstance(first, PortStage)
    assert isinstance(last, PortStage)
    return first, last


def why_not(node: Node) -> str | None:
    """Why a node cannot be built, or None if it can; for `bitwright check`, which asks before formats are chosen."""
    if node.op == "transpose":
        first = node.operand(0).producer is None and integers(node, "perm") == CHANNELS_FIRST
        return None if first else "only a transpose of an input from channels last needs no engine"
    if node.op not in _BUILDERS:
        return f"{node.op} has no engine; there are {SUPPORTED}"
    if node.op == "conv2d":
        if integer(node, "groups") != 1:
            return "grouped convolutions have no engine yet"
        if integers(node, "dilations") != (1, 1):
            return "dilated convolutions have no engine yet"
    if node.op == "maxpool2d":
        if integers(node, "dilations") != (1, 1) or integer(node, "ceil"):
            return "max pooling with dilations or rounding up has no engine yet"
        kernel = integers(node, "kernel")
        if any(pad >= kernel[i % 2] for i, pad in enumerate(integers(node, "pads"))):
            return "its padding is as wide as its kernel"
    if node.op in ("conv2d", "dense"):
        if string(node, "act") not in ("none", "relu", "clip"):
            return f"the activation {string(node, 'act')} has no engine yet"
        if node.operand(1).tensor is None:
            return "its weights are computed, not constant"
    shape = node.result.type.shape if isinstance(node.result.type, Type) else None
    if shape is None or not all(isinstance(dim, int) for dim in shape[1:]):
        return f"its result has no fixed shape: {node.result.type}"
    if node.op in ("flatten", "reshape") and len(shape) != 2:
        return "only a reshape to one row a sample needs no engine"
    return None


def _chain(graph: Graph) -> Iterator[Node]:
    """The nodes, each of which must read what the one before it gives."""
    value = graph.inputs[0]
    for node in graph.nodes:
        reason = why_not(node)
        if reason:
            raise _refused(node, reason)
        if node.operand(0) is not value:
            raise _refused(node, f"it does not read %{value.name}: branches have no engine yet")
        yield node
        value = node.result
    if graph.outputs[0].value is not value:
        raise CompileError(f"the output %{graph.outputs[0].value.name} is not the last value, %{value.name}")


def _refused(node: Node, reason: str) -> CompileError:
    source = f" ({node.source})" if node.source else ""
    return CompileError(f"%{node.name}{source}: {reason}\n  {node_text(node)}")


def _format(value: Value, what: str) -> Canonical:
    """The format of an activation, which must be FIXED or UFIXED."""
    number = value.tensor_type.number
    usable = isinstance(number, Canonical) and number.kind in ("FIXED", "UFIXED") and number.axis is None
    if not usable or not isinstance(number, Canonical) or number.width > WIDEST_FORMAT:
        raise CompileError(
            f"{what} %{value.name} is {value.type}; engines take FIXED and UFIXED of at most {WIDEST_FORMAT} bits",
            help='choose formats with --formats "FIXED 8"',
        )
    return number


def _frame(value: Value) -> tuple[int, ...]:
    shape = value.tensor_type.shape
    if shape is None or len(shape) not in (2, 4) or not all(isinstance(dim, int) for dim in shape[1:]):
        raise CompileError(f"%{value.name} : {value.type} is no [N,C,H,W] or [N,K] of fixed size")
    return tuple(dim for dim in shape[1:] if isinstance(dim, int))


def _port(graph: Graph, value: Value, is_input: bool, taken: Collection[str] = ()) -> PortStage:
    """One end. Its name is the outside's for an output, made longer while a stage is called so."""
    frame = _frame(value)
    format = _format(value, "input" if is_input else "output")
    outside = graph.input_name(value) if is_input else graph.outputs[0].name
    renamed = "" if outside == value.name else f" as {quote(outside)}"
    line = f"input %{value.name}{renamed} : {value.type}" if is_input else f"output %{value.name}{renamed}"
    name = value.name if is_input else outside
    while name in taken:
        name += ".out"
    return PortStage(
        name=name,
        line=line,
        format=format,
        elements=int(np.prod(frame)),
        outside=outside,
        shape=frame,
        order=(1, 2, 0) if len(frame) == 3 else tuple(range(len(frame))),
        is_input=is_input,
    )


def _sum(node: Node, layout: tuple[int, ...]) -> tuple[list[Stage], tuple[int, ...]]:
    """conv2d or dense, and the pooling that is fused into it."""
    in_format, out_format = _format(node.operand(0), "input"), _format(node.result, "result")
    sums = accumulator(node)
    weight = node.operand(1)
    number = weight.tensor_type.number
    if sums is None or not isinstance(number, Canonical) or number.kind not in ("FIXED", "BIN", "EXP"):
        raise _refused(node, f"weights of {weight.type} have no engine yet; there are FIXED, BIN and EXP")
    if sums.bits > WIDEST_ACCUMULATOR:
        raise _refused(node, f"its sums need {sums.bits} bits, engines have at most {WIDEST_ACCUMULATOR}")
    assert weight.tensor is not None
    real_weights = number.quantize(weight.tensor.data, "%" + weight.name).astype(np.float64)
    exponents = sums.weight_exponents.reshape(-1, *[1] * (real_weights.ndim - 1))
    steps = np.ldexp(real_weights, -exponents).astype(np.int64)
    scan, positions, matrix = _geometry(node, layout, steps)
    shift = int(out_format.step_exponents) - sums.exponents
    if np.abs(shift).max(initial=0) >= WIDEST_ACCUMULATOR:
        raise _refused(
            node, f"its sums lie {np.abs(shift).max()} places from its result: the formats do not fit together"
        )
    codes, levels = _codes(node, number, matrix)
    before_pool = _unpooled(node, layout)
    stage = SumStage(
        name=node.name,
        line=node_text(node),
        format=out_format,
        elements=int(np.prod(before_pool)),
        in_format=in_format,
        weight_format=number,
        weights=matrix,
        codes=codes,
        bias=sums.bias.astype(np.int64),
        shift=shift.astype(np.int64),
        acc_bits=sums.bits,
        levels=levels,
        act=_act(node, out_format),
        positions=positions,
        scan=scan,
    )
    pool = integers(node, "pool")
    if not pool:
        return [stage], before_pool
    strides = integers(node, "pool_strides") or pool
    pooled = _frame(node.result)
    walk = Scan(pooled[0], _pair(before_pool[1:]), _pair(pooled[1:]), _pair(pool), _pair(strides), (0, 0, 0, 0))
    _takes_rows(node, walk)
    made = PoolStage(
        name=pool_name(node.graph, node),
        line=f"the pooling of %{node.name}",
        format=out_format,
        elements=int(np.prod(pooled)),
        scan=walk,
    )
    return [stage, made], pooled


def _geometry(node: Node, layout: tuple[int, ...], steps: Ints) -> tuple[Scan | None, int, Ints]:
    """Scan (or None), positions, and the weights as a matrix whose columns are in the order of the stream."""
    if node.op == "dense":
        if len(layout) == 1:
            return None, 1, steps
        channels, rows, cols = layout
        if steps.shape[1] != channels * rows * cols:
            raise _refused(node, "it works on the last axis of an image: flatten it before")
        return None, 1, steps.reshape(-1, channels, rows, cols).transpose(0, 2, 3, 1).reshape(len(steps), -1)
    if len(layout) != 3:
        raise _refused(node, "a convolution takes an image")
    matrix = steps.transpose(0, 2, 3, 1).reshape(len(steps), -1)
    size, kernel, strides = _pair(layout[1:]), _pair(integers(node, "kernel")), _pair(integers(node, "strides"))
    pads, out = integers(node, "pads"), _unpooled(node, layout)
    covers = kernel == size and not any(pads)
    if covers or (kernel == (1, 1) and strides == (1, 1) and not any(pads)):
        return None, out[1] * out[2], matrix
    walk = Scan(layout[0], size, _pair(out[1:]), kernel, strides, (pads[0], pads[1], pads[2], pads[3]))
    _takes_rows(node, walk)
    return walk, out[1] * out[2], matrix


def _unpooled(node: Node, layout: tuple[int, ...]) -> tuple[int, ...]:
    """The frame of the sums, before pooling: [C,H,W] or [K]."""
    outputs = (node.operand(1).tensor_type.static_shape or (0,))[0]
    if node.op == "dense":
        return (outputs,)
    pads, kernel, strides = integers(node, "pads"), integers(node, "kernel"), integers(node, "strides")
    sizes = [(layout[1 + i] + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
    return (outputs, *sizes)


def _codes(node: Node, number: Canonical, matrix: Ints) -> tuple[Ints, int]:
    """What the weight memory holds, and the highest level of EXP."""
    if number.kind == "FIXED":
        return matrix, 0
    if number.kind == "BIN":
        return (matrix < 0).astype(np.int64), 0
    level = np.where(matrix == 0, 0, np.frexp(np.abs(matrix).astype(np.float64))[1]).astype(np.int64)
    highest = int(level.max(initial=0))
    if highest > MOST_LEVELS or number.width > 7:
        raise _refused(
            node, f"EXP weights take at most 7 bits and {MOST_LEVELS} levels, not {number.width} and {highest}"
        )
    return np.where(matrix < 0, 1 << (number.width - 1), 0) + level, max(highest, 1)


def _act(node: Node, format: Canonical) -> tuple[int | None, int | None]:
    """The activation's bounds in steps of the result, rounded like everything else; one beyond the format is open."""
    act = string(node, "act")
    if act == "relu":
        return 0, None
    if act == "none":
        return None, None
    sums = accumulator(node)
    assert sums is not None
    least, most = -format.max_code if format.n_s else 0, format.max_code
    bounds: list[float] = []
    for bound in (real(node, "act_min"), real(node, "act_max")):
        on_steps = np.ldexp(np.rint(np.ldexp(bound, -sums.exponents)), sums.exponents)
        rounded = set(np.clip(np.rint(on_steps / format.step), least - 1, most + 1).tolist())
        if len(rounded) > 1:
            raise _refused(node, "the bound of its clip falls on different steps of its channels")
        bounds.append(rounded.pop())
    low, high = min(bounds), bounds[1]
    return None if low < least else int(min(low, most)), None if high > most else int(max(high, least))


def _pool(node: Node, layout: tuple[int, ...]) -> tuple[list[Stage], tuple[int, ...]]:
    frame, format = _frame(node.result), _format(node.result, "result")
    _keeps_format(node)
    pads = integers(node, "pads")
    kernel, strides = _pair(integers(node, "kernel")), _pair(integers(node, "strides"))
    walk = Scan(layout[0], _pair(layout[1:]), _pair(frame[1:]), kernel, strides, (pads[0], pads[1], pads[2], pads[3]))
    elements = int(np.prod(frame))
    _takes_rows(node, walk)
    return [PoolStage(name=node.name, line=node_text(node), format=format, elements=elements, scan=walk)], frame


def _flatten(node: Node, layout: tuple[int, ...]) -> tuple[list[Stage], tuple[int, ...]]:
    """No stage: the dense after it takes the stream as it comes."""
    _keeps_format(node)
    if np.prod(_frame(node.result)) != np.prod(layout):
        raise _refused(node, "it does not give one row a sample")
    return [], layout


def _keeps_format(node: Node) -> None:
    """Raise CompileError if an op that only moves numbers is to round them."""
    if node.operand(0).tensor_type.number != node.result.tensor_type.number:
        raise _refused(node, f"{node.op} keeps its input's format, {node.operand(0).type}")


def _takes_rows(node: Node, scan: Scan) -> None:
    """Raise CompileError if even tokens of one number make rows that are too short."""
    if not scan.takes(1):
        raise _refused(node, f"its padded rows have fewer than {LEAST_ROW} numbers, the least that a line buffer takes")


def _pair(items: tuple[int, ...]) -> tuple[int, int]:
    first, second = items
    return first, second


_BUILDERS: dict[str, Callable[[Node, tuple[int, ...]], tuple[list[Stage], tuple[int, ...]]]] = {
    "conv2d": _sum,
    "dense": _sum,
    "flatten": _flatten,
    "maxpool2d": _pool,
    "reshape": _flatten,
}
