"""A graph as stages: each after those that it reads, with a fork wherever a value has several readers.

A flatten needs no stage: the columns of the dense after it are put into the order in which the pixels come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np

from bitwright.backends.hls.stages.constants import constant_stages
from bitwright.backends.hls.stages.flow import Flow, Made
from bitwright.backends.hls.stages.kinds import ForkStage, PortStage, Stage
from bitwright.backends.hls.stages.layer import OPEN
from bitwright.backends.hls.stages.numbers import SINGLE, is_integer
from bitwright.backends.hls.stages.points import concat_stages, point_stages, product_stages, rounding
from bitwright.backends.hls.stages.pools import mean_stages, pool_stages
from bitwright.backends.hls.stages.refusals import format_of, frame_of, keeps_format, refused, shape_of, why_not
from bitwright.backends.hls.stages.sums import sum_stages
from bitwright.ir.edit import unique_name
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.types import quote


def stages_of(graph: Graph) -> list[Stage]:
    """The stages of a graph of one input and one output. Raises CompileError naming what cannot be built, and why."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise CompileError(
            f"@{graph.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not one of each"
        )
    value = graph.inputs[0]
    port, *entry = _entry(graph, value)
    assert isinstance(port, PortStage)
    flows = {id(value): Flow(value.name, frame_of(value))}
    found: list[Stage] = [port, *entry]
    ends = len(found)
    for node in graph.nodes:
        reason = why_not(node)
        if reason:
            raise refused(node, reason)
        if not node.result.uses and not graph.is_output(node.result):
            raise refused(node, "nothing reads it, and it is no output")
        if node.op == "transpose":  # the frame comes channels last, as the stream wants it
            keeps_format(node)
            if len(value.uses) > 1:
                raise refused(node, f"%{value.name} is read in another order, too")
            frame = frame_of(node.result)
            found[:ends] = [replace(port, order=(0, 1, 2), layout=frame), *(replace(at, layout=frame) for at in entry)]
            flows[id(node.result)] = Flow(value.name, frame)
            continue
        made = _BUILDERS[node.op](node, [flows[id(operand)] for operand in node.operands if id(operand) in flows])
        found += made.stages
        flows[id(node.result)] = made.flow
    last = graph.outputs[0].value
    if len(found) == ends:
        raise CompileError(f"@{graph.name} computes nothing that hardware could do")
    flow = flows[id(last)]
    if len(flow.layout) == 3 and len(frame_of(last)) == 1 and flow.channels > 1 < flow.positions:
        raise CompileError(
            f"the output %{last.name} is a flattened image, which leaves the accelerator with its channels last",
            help="end before the flatten, or with a dense behind it",
        )
    return forked([*found, *_exit(graph, last, flow, {stage.name for stage in found})])


def forked(stages: Sequence[Stage]) -> list[Stage]:
    """The same stages with a fork behind every stream that several read: two copies each, one after another."""
    readers = Counter(stream for stage in stages for stream in stage.reads)
    taken = {stage.name for stage in stages}
    queues: dict[str, list[str]] = {}  # the copies of a stream that are still to be given out
    found: list[Stage] = []
    for index, stage in enumerate(stages):
        reads = tuple(queues[name].pop(0) if name in queues else name for name in stage.reads)
        found.append(replace(stage, reads=reads))
        for stream in stage.writes:
            if readers[stream] > 1:
                names = [reader.name for reader in stages[index + 1 :] for name in reader.reads if name == stream]
                forks, queues[stream] = _forks(stage, stream, names, taken)
                found += forks
    return found


def _forks(stage: Stage, stream: str, readers: Sequence[str], taken: set[str]) -> tuple[list[Stage], list[str]]:
    """The forks of a stream, and its copies in the order of the readers."""
    copies = [_unused(f"{stream}.to.{reader}", taken) for reader in readers]
    forks: list[Stage] = []
    source = stream
    for index, copy in enumerate(copies[:-1]):
        rest = copies[-1] if index == len(copies) - 2 else _unused(f"{stream}.rest", taken)
        name = _unused(f"{stream}.fork", taken)
        line = f"%{stream} has {len(readers)} readers"
        both = (copy, rest)
        forks.append(
            ForkStage(name=name, line=line, format=stage.format, layout=stage.layout, reads=(source,), copies=both)
        )
        source = rest
    return forks, copies


def _unused(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}.{number}", number + 1
    taken.add(candidate)
    return candidate


def _entry(graph: Graph, value: Value) -> list[Stage]:
    """The port that a value comes in by. FLOAT and AFFINE come as FLOAT 32, and are rounded behind it."""
    port = _port(graph, value, is_input=True)
    if is_integer(port.format) or port.format == SINGLE:
        return [port]
    outer = replace(port, name=unique_name(graph, f"{value.name}.in"), format=SINGLE)
    flow = Flow(outer.name, frame_of(value))
    node = value.uses[0][0]
    return [outer, rounding(node, flow, SINGLE, port.format, value.name, f"%{value.name} in its format", OPEN)]


def _exit(graph: Graph, value: Value, flow: Flow, taken: set[str]) -> list[Stage]:
    """The port that a value leaves by, behind a widening to FLOAT 32 if it is FLOAT or AFFINE."""
    end = _port(graph, value, is_input=False, taken=taken)
    if is_integer(end.format) or end.format == SINGLE:
        return [replace(end, reads=(flow.stream,))]
    name = unique_name(graph, f"{flow.stream}.float")
    while name in taken or name == end.name:
        name += ".out"
    node = value.producer
    assert node is not None
    wide = rounding(node, flow, end.format, SINGLE, name, f"%{value.name} in float32", OPEN)
    return [wide, replace(end, reads=(name,), format=SINGLE)]


def _port(graph: Graph, value: Value, is_input: bool, taken: Collection[str] = ()) -> PortStage:
    """One end. Its name is the outside's for an output, made longer while a stage is called so."""
    shape = shape_of(value)
    format = format_of(value, "input" if is_input else "output")
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
        layout=frame_of(value),
        outside=outside,
        shape=shape,
        order=(*range(1, len(shape)), 0),
        is_input=is_input,
    )


def _flatten(node: Node, x: Flow) -> Made:
    """No stage: the dense after it takes the stream as it comes; pixels in other rows come one after another, too."""
    keeps_format(node)
    frame = frame_of(node.result)
    if np.prod(frame) != np.prod(x.layout) or (len(frame) == 3 and frame[0] != x.channels):
        raise refused(node, "it does not give one row a sample")
    return Made([], Flow(x.stream, frame if len(frame) == 3 else x.layout))


def _meeting(node: Node, flows: list[Flow]) -> Made:
    """add or mul: of two streams, or of one and a constant."""
    if len(flows) == 2:
        return product_stages(node, flows[0], flows[1])
    return constant_stages(node, flows[0], int(node.operand(0).tensor is not None))


_BUILDERS: dict[str, Callable[[Node, list[Flow]], Made]] = {
    "add": lambda node, flows: _meeting(node, flows),
    "avgpool2d": lambda node, flows: mean_stages(node, flows[0]),
    "clip": lambda node, flows: point_stages(node, flows[0]),
    "concat": concat_stages,
    "conv2d": lambda node, flows: sum_stages(node, flows[0]),
    "dense": lambda node, flows: sum_stages(node, flows[0]),
    "flatten": lambda node, flows: _flatten(node, flows[0]),
    "globalavgpool": lambda node, flows: mean_stages(node, flows[0]),
    "maxpool2d": lambda node, flows: pool_stages(node, flows[0]),
    "mul": lambda node, flows: _meeting(node, flows),
    "quantize": lambda node, flows: point_stages(node, flows[0]),
    "relu": lambda node, flows: point_stages(node, flows[0]),
    "reshape": lambda node, flows: _flatten(node, flows[0]),
}
