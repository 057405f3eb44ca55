"""Which tensors of a graph take a number format, by which names, and giving it to them.

Weights of conv2d and dense, inputs, and the results of every op that computes take a format. Ops that only move numbers
(pooling by maximum, relu, reshape, ...) keep their operand's: nothing is rounded there. What only a concat reads is
rounded once, into the concat's format, unless it is given one of its own. Scores after the last sum (softmax, argmax)
stay float32. The bias of a sum has no format: the contract rounds it to the accumulator's step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Format, parse
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.types import F32, Type

MOVES = ("maxpool2d", "relu", "flatten", "reshape", "transpose")
UNROUNDED = ("softmax", "argmax")


def read_formats(path: Path) -> dict[str, Format]:
    """The formats in a file. Raises CompileError with file and line for a malformed or repeated one."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        what = f"{path}: cannot be read as a file of formats ({error.strerror or error})"
        raise CompileError(what, help='give a file, or a format for all such as "FIXED 8"') from error
    except UnicodeDecodeError as error:
        raise CompileError(f"{path}: cannot be read as a file of formats (it is no text)") from error
    formats: dict[str, Format] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("//")[0].split("#")[0].strip().split(maxsplit=1)
        if not words:
            continue
        if len(words) < 2 or words[0] in formats:
            what = "is given twice" if len(words) == 2 else "has no format"
            raise CompileError(f"{path}:{number}: {words[0]} {what}")
        try:
            formats[words[0]] = parse(words[1])
        except CompileError as error:
            raise CompileError(f"{path}:{number}: {error.message}", error.help) from error
    return formats


def assign(graph: Graph, formats: Mapping[str, Format]) -> None:
    """Give values formats by name. Raises CompileError for a name that the graph does not have."""
    names = format_names(graph)
    given: dict[int, tuple[str, Format]] = {}
    for name, format in formats.items():
        if name not in names:
            raise CompileError(
                f"no tensor is named {name!r}", help="the tensors are " + ", ".join(sorted(names)[:12]) + ", ..."
            )
        value = names[name]
        other = given.setdefault(id(value), (name, format))
        if other[1] != format:
            raise CompileError(f"{other[0]} and {name} are the same tensor (%{value.name}) with two formats")
        edit.set_type(value, value.tensor_type.with_format(format))
    spread(graph, given)


def in_float(graph: Graph) -> Graph:
    """A copy without formats: every float tensor in float32, its numbers as they are."""
    made = edit.copy(graph)
    for value in made.values.values():
        if isinstance(value.type, Type) and value.type.number is not None:
            edit.set_type(value, value.type.with_format(F32))
    return made


def format_names(graph: Graph) -> dict[str, Value]:
    """Every name that a file of formats may use: `<layer>.weight`, `<layer>.input`, and values' own names."""
    names: dict[str, Value] = {}
    for node in layers(graph):
        names[f"{node.name}.weight"] = node.operand(1)
        names[f"{node.name}.input"] = node.operand(0)
    own = {value.name: value for value in (*weight_values(graph), *computed_values(graph))}
    return own | {name: _origin(value) if name.endswith(".input") else value for name, value in names.items()}


def layers(graph: Graph) -> Iterator[Node]:
    """The nodes with weights: conv2d and dense, in order."""
    for node in graph.nodes:
        if node.op in ("conv2d", "dense") and node.operand(1).tensor is not None:
            yield node


def weight_values(graph: Graph) -> list[Value]:
    """The weights of conv2d and dense, each once."""
    return list({id(node.operand(1)): node.operand(1) for node in layers(graph)}.values())


def activation_values(graph: Graph) -> list[Value]:
    """The computed values that are rounded into a format of their own: not what only a concat reads."""
    follow = {id(value) for node in graph.nodes for value in joined(node)}
    return [value for value in computed_values(graph) if id(value) not in follow]


def computed_values(graph: Graph) -> list[Value]:
    """The float inputs, and the results that are computed rather than moved."""
    found = [value for value in graph.inputs if _is_float(value)]
    for node in graph.nodes:
        if node.op not in (*MOVES, *UNROUNDED) and len(node.results) == 1 and _is_float(node.results[0]):
            found.append(node.result)
    return found


def spread(graph: Graph, given: Collection[int] = ()) -> None:
    """Ops that only move numbers have their operand's format, and what only a concat reads has the concat's.

    Of the latter those that have one keep it, unless the concat alone was `given` another (identities of values).
    """
    new = set(given)
    for node in reversed(graph.nodes):
        for value in joined(node):
            number = node.result.tensor_type.number
            is_new = id(node.result) in new and id(value) not in given
            new |= {id(value)} if is_new else set()
            if (is_new or value.tensor_type.number is None) and (number is None or number.axis is None):
                edit.set_type(value, value.tensor_type.with_format(number or F32))
    for node in graph.nodes:
        if node.op in MOVES and isinstance(node.operand(0).type, Type):
            number = node.operand(0).tensor_type.number
            if number is None or number.axis is None:
                edit.set_type(node.result, node.result.tensor_type.with_format(number or F32))


def joined(node: Node) -> list[Value]:
    """The operands of a concat that are computed and that nothing else reads."""
    return [
        value
        for value in (node.operands if node.op == "concat" and _is_float(node.result) else ())
        if value is not None and value.producer is not None and value.producer.op not in (*MOVES, *UNROUNDED)
        if len(value.uses) == 1 and _is_float(value) and not node.graph.is_output(value)
    ]


def _origin(value: Value) -> Value:
    """The value whose numbers `value` moves."""
    while value.producer is not None and value.producer.op in MOVES:
        value = value.producer.operand(0)
    return value


def _is_float(value: Value) -> bool:
    return isinstance(value.type, Type) and value.type.dtype == np.float32
