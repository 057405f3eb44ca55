"""Rules 1 to 7: what stands in a dataflow region, and how its streams connect the processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hls_rules.source import LOOPS, Call, Design, Finding, Function, declared, pragma, pragmas, text, walk

QUIET = (
    "preproc_call",
    "comment",
    "{",
    "}",
    ";",
    "using_declaration",
    "alias_declaration",
    "static_assert_declaration",
)
NON_BLOCKING = ("read_nb", "write_nb", "empty", "full", "size", "capacity")


@dataclass(frozen=True)
class Step:
    """A call of a dataflow region: which names it reads and writes."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


def check(design: Design) -> Iterator[Finding]:
    if design.top is None:
        yield Finding(1, "src", "there is no dataflow region that nobody calls")
    for region in design.regions:
        yield from _body(design, region)
        yield from _locals(design, region)
        yield from _wires(design, region)
    for process in design.processes:
        yield from _process(process)
    for function in design.functions:
        yield from _loops(function)
        yield from _streams(design, function)


def _body(design: Design, region: Function) -> Iterator[Finding]:
    """1: declarations and calls of void functions that stay functions."""
    for child in region.body.children:
        if child.type in (*QUIET, "declaration"):
            continue
        if child.type != "expression_statement" or child.named_children[0].type != "call_expression":
            yield Finding(1, region.where, f"a dataflow body holds declarations and calls only, not {child.type}")
            continue
        call = Call(child.named_children[0])
        called = design.function(call)
        if called is None:
            yield Finding(1, region.where, f"{call.name} has no definition here")
        elif called.returns != "void":
            yield Finding(1, region.where, f"{called.name} returns {called.returns}; what dataflow calls is void")
        elif any(found.name == "INLINE" and "off" not in found.options for found in pragmas(called.body, *LOOPS)):
            yield Finding(1, called.where, "what dataflow calls is not inlined")


def _locals(design: Design, region: Function) -> Iterator[Finding]:
    """2: no local but a stream is static; every argument is a parameter, a local or a table."""
    names = {param.name for param in region.params} | set(design.tables)
    for node in region.locals:
        stream = text(node.child_by_field_name("type")).startswith("hls::stream")
        if not stream and any(text(child) == "static" for child in node.children):
            yield Finding(2, region.where, f"{text(node)}: a local of a dataflow region is not static")
        names |= {name for name, _ in declared(node)}
    for call in _calls(region):
        for argument in call.arguments:
            if argument.isidentifier() and argument not in names:
                yield Finding(2, region.where, f"{argument} is not declared in the region")


def _calls(region: Function) -> list[Call]:
    statements = [child for child in region.body.children if child.type == "expression_statement"]
    return [Call(child.named_children[0]) for child in statements if child.named_children[0].type == "call_expression"]


def _steps(design: Design, region: Function) -> list[Step]:
    steps = []
    for call in _calls(region):
        called, reads, writes = design.function(call), [], []
        for place, argument in enumerate(call.arguments):
            if called is not None and called.params[place].stream:
                ways = design.direction(called, place)
                reads += [argument] * ("read" in ways)
                writes += [argument] * ("write" in ways)
        steps.append(Step(tuple(reads), tuple(writes)))
    return steps


def _wires(design: Design, region: Function) -> Iterator[Finding]:
    """3, 4 and 7: one writer before one reader; ports at the ends; nothing is written that nobody reads."""
    steps = _steps(design, region)
    local = {}
    for node in region.locals:
        if "const" not in text(node).split() and "constexpr" not in text(node).split():
            local |= {name: node for name, _ in declared(node)}
    depths = {
        found.options.get("variable"): found.options.get("depth") for found in region.pragmas if found.name == "STREAM"
    }
    depths |= {
        name: "" for name, node in local.items() if re.search(r", \w+>$", text(node.child_by_field_name("type")))
    }
    for name in local:
        writers = [n for n, step in enumerate(steps) if name in step.writes]
        readers = [n for n, step in enumerate(steps) if name in step.reads]
        if writers and not readers:
            yield Finding(7, region.where, f"{name} is written and never read")
        elif len(writers) != 1 or len(readers) != 1:
            yield Finding(3, region.where, f"{name} has {len(writers)} writers and {len(readers)} readers")
        elif readers[0] <= writers[0]:
            yield Finding(3, region.where, f"{name} is read before it is written")
        elif name not in depths and _bypasses(steps, writers[0], readers[0]):
            yield Finding(3, region.where, f"{name} passes by other stages and has no depth of its own")
    for param in (param for param in region.params if param.stream):
        users = [n for n, step in enumerate(steps) if param.name in (*step.reads, *step.writes)]
        if len(users) != 1:
            yield Finding(
                6, region.where, f"the port {param.name} has {len(users)} users; a stream has one at each end"
            )
            continue
        inside = set(local)
        if param.name in steps[users[0]].reads and any(inside & {*step.reads} for step in steps[: users[0]]):
            yield Finding(4, region.where, f"the input {param.name} is not read at the start")
        if param.name in steps[users[0]].writes and any(inside & {*step.writes} for step in steps[users[0] + 1 :]):
            yield Finding(4, region.where, f"the output {param.name} is not written at the end")


def _bypasses(steps: list[Step], writer: int, reader: int) -> bool:
    """Whether another way leads from the writer to the reader, over stages between them."""
    reached = set(steps[writer].writes)
    stages = 0
    for step in steps[writer + 1 : reader]:
        if reached & set(step.reads):
            reached |= set(step.writes)
            stages += 1
    direct = set(steps[writer].writes) & set(steps[reader].reads)
    return stages > 0 and bool((reached - set(steps[writer].writes)) & set(steps[reader].reads)) and bool(direct)


def _process(process: Function) -> Iterator[Finding]:
    """4: no loop of a process has several exits."""
    for node in process.nodes:
        if node.type in ("goto_statement", "throw_statement"):
            yield Finding(4, process.where, f"a {node.type} in a process")
        if node.type in LOOPS:
            for inner in walk(node, "switch_statement"):
                if inner.type in ("break_statement", "return_statement"):
                    yield Finding(4, process.where, f"a loop with a {inner.type} has several exits")


def _loops(function: Function) -> Iterator[Finding]:
    """5: a loop that is a dataflow region counts from 0 to a constant by 1."""
    for loop in function.loops:
        body = loop.child_by_field_name("body")
        if body is None or not any((p := pragma(child)) and p.name == "DATAFLOW" for child in body.children):
            continue
        begin = text(loop.child_by_field_name("initializer")).rstrip(";").split("=")[-1].strip()
        update = text(loop.child_by_field_name("update")).replace(" ", "")
        if loop.type != "for_statement" or begin != "0" or not ("++" in update or update.endswith("+=1")):
            yield Finding(5, function.where, "a dataflow loop starts at 0 and counts by 1")


def _streams(design: Design, function: Function) -> Iterator[Finding]:
    """6: streams are passed by reference, block, and have a depth of at least 2; 7: what a function reads is read."""
    streams = {param.name for param in function.params if param.stream}
    for node in function.locals:
        if text(node.child_by_field_name("type")).startswith("hls::stream"):
            streams |= {name for name, _ in declared(node)}
    for index, param in enumerate(function.params):
        if param.stream and not param.reference:
            yield Finding(6, function.where, f"the stream {param.name} is passed by value")
        if param.stream and len(design.direction(function, index)) == 2:
            yield Finding(6, function.where, f"{function.name} is at both ends of {param.name}")
        if param.stream and not design.direction(function, index):
            yield Finding(7, function.where, f"the stream {param.name} is neither read nor written")
    for call in function.calls:
        head, _, method = call.head.rpartition(".")
        if head in streams and method in NON_BLOCKING:
            yield Finding(6, function.where, f"{head}.{method}: what a stream holds differs between csim and the board")
    for found in function.pragmas:
        depth = found.options.get("depth", "2")
        if found.name == "STREAM" and (not depth.isdigit() or int(depth) < 2):
            yield Finding(6, function.where, f"a depth of {depth}")
