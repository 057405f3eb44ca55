"""Rules 8 to 13: loops, memories and what cannot be built at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tree_sitter import Node

from hls_rules.source import LOOPS, Design, Finding, Function, Pragma, declared, pragma, pragmas, text, walk, words

FLOATS = {"float", "double", "half"}
FLOAT_ADD = 4  # cycles, at least
ON_HEAP = {"malloc", "calloc", "realloc", "free"}
PARTITIONS = ("ARRAY_PARTITION", "ARRAY_RESHAPE")
PORTS = 2


def check(design: Design) -> Iterator[Finding]:
    for function in design.functions:
        yield from _pipelines(function)
        yield from _banks(function)
        yield from _carried(function)
        yield from _placed(design, function)
        yield from _bounded(function)
    yield from _tables(design)
    yield from _recursion(design)


def own(loop: Node) -> list[Pragma]:
    """The pragmas of a loop's own body."""
    body = loop.child_by_field_name("body")
    return [] if body is None else [found for child in body.children if (found := pragma(child))]


def loops(node: Node) -> list[Node]:
    return [found for found in walk(node) if found.type in LOOPS]


def marked(loop: Node, name: str) -> bool:
    return any(found.name == name for found in own(loop))


def variables(function: Function) -> set[str]:
    """What is not known when the function is built: parameters and locals that are no constants."""
    names = {param.name for param in function.params}
    for node in function.locals:
        if not words(text(node).split("=")[0]) & {"const", "constexpr"}:
            names |= {name for name, _ in declared(node)}
    return names


def counter(loop: Node) -> str:
    start = loop.child_by_field_name("initializer")
    return next((name for name, _ in declared(start)), "") if start is not None else ""


def _bound(loop: Node, function: Function, counters: set[str]) -> set[str]:
    """The variables that decide when a loop ends, other than counters of loops."""
    return words(text(loop.child_by_field_name("condition"))) & variables(function) - counters


def _pipelines(function: Function) -> Iterator[Finding]:
    """8: a pipelined loop has no pipelined one inside, only constant bounds; a loop that runs is pipelined."""
    every = function.loops
    counters = {counter(loop) for loop in every}
    inside = {node.id for loop in every if marked(loop, "PIPELINE") for node in loops(loop) if node.id != loop.id}
    whole = any(found.name in ("PIPELINE", "INLINE") for found in pragmas(function.body, *LOOPS))
    for loop in every:
        if loop.id in inside:
            if marked(loop, "PIPELINE"):
                yield Finding(8, function.where, "PIPELINE stands on an outer loop of a pipelined loop")
            if _bound(loop, function, counters):
                yield Finding(8, function.where, f"the bound of a loop to unroll is no constant: {text(loop)[:60]}")
        elif len(loops(loop)) == 1 and not (marked(loop, "PIPELINE") or marked(loop, "UNROLL") or whole):
            above = [outer for outer in every if loop in loops(outer)[1:]]
            if not any(marked(outer, "UNROLL") for outer in above):
                yield Finding(
                    8, function.where, f"an innermost loop is neither pipelined nor unrolled: {text(loop)[:60]}"
                )


def _banks(function: Function) -> Iterator[Finding]:
    """9: a dimension that an unrolled loop indexes is partitioned; a bank is used at most twice an iteration."""
    ranks = {param.name: param.rank for param in function.params if param.rank}
    for node in function.locals:
        ranks |= {name: rank for name, rank in declared(node) if rank}
    cut: dict[str, set[int]] = {name: set() for name in ranks}
    for found in function.pragmas:
        name, dim = found.options.get("variable", ""), int(found.options.get("dim", "1"))
        if found.name in PARTITIONS and name in ranks:
            if dim > ranks[name]:
                yield Finding(9, function.where, f"{name} has no dimension {dim}")
            cut[name] |= set(range(1, ranks[name] + 1)) if dim == 0 else {dim}
    for loop in (loop for loop in function.loops if marked(loop, "PIPELINE")):
        unrolled = {counter(inner) for inner in loops(loop)} - {counter(loop)}
        uses: dict[str, int] = dict.fromkeys(ranks, 0)
        for node in walk(loop):
            name, indices = _subscript(node)
            if name not in ranks or len(indices) < ranks[name]:
                continue
            for dim, index in enumerate(indices, 1):
                if words(index) & unrolled and dim not in cut[name]:
                    yield Finding(9, function.where, f"{name}: dimension {dim} is indexed by an unrolled loop")
            uses[name] += len(cut[name]) < ranks[name] and not cut[name]
        for name, count in uses.items():
            if count > PORTS:
                yield Finding(
                    9, function.where, f"{name}: {count} accesses an iteration, and a memory has {PORTS} ports"
                )


def _subscript(node: Node) -> tuple[str, list[str]]:
    """The array and the indices of an outermost a[i][j]; no name for anything else."""
    if node.type != "subscript_expression" or (node.parent and node.parent.type == "subscript_expression"):
        return "", []
    indices = []
    while node.type == "subscript_expression":
        indices.insert(0, text(node.child_by_field_name("indices")))
        inner = node.child_by_field_name("argument")
        assert inner is not None
        node = inner
    return text(node), indices


def _carried(function: Function) -> Iterator[Finding]:
    """10: no float sum from one iteration to the next at an interval shorter than its addition."""
    floats = {
        name
        for node in function.locals
        if words(text(node.child_by_field_name("type"))) & FLOATS
        for name, _ in declared(node)
    }
    for loop in (loop for loop in function.loops if marked(loop, "PIPELINE")):
        interval = next(found.options.get("II", "1") for found in own(loop) if found.name == "PIPELINE")
        inner = {name for node in walk(loop) if node.type == "declaration" for name, _ in declared(node)}
        for node in walk(loop):
            if node.type != "assignment_expression" or (interval.isdigit() and int(interval) >= FLOAT_ADD):
                continue
            target, value = (text(node.child_by_field_name(side)) for side in ("left", "right"))
            again = text(node.child_by_field_name("operator")) != "=" or target in words(value)
            if target in floats - inner and again:
                yield Finding(10, function.where, f"{target} is a float carried through a loop of interval {interval}")


def _placed(design: Design, function: Function) -> Iterator[Finding]:
    """11: a pragma follows, in the same function, what it names; m_axi arguments are not cut."""
    seen = {param.name for param in function.params} | set(design.tables)
    masters = {
        found.options.get("port")
        for found in function.pragmas
        if found.name == "INTERFACE" and "m_axi" in {*found.options, found.options.get("mode")}
    }
    for node in function.nodes:
        if node.type == "declaration":
            seen |= {name for name, _ in declared(node)}
        found = pragma(node)
        if found is None or not (name := found.options.get("variable") or found.options.get("port")):
            continue
        if name != "return" and name not in seen:
            yield Finding(11, function.where, f"{found.name} names {name}, which is not declared above it here")
        if found.name in PARTITIONS and name in masters:
            yield Finding(11, function.where, f"{name} lies in memory outside and cannot be cut")


def _tables(design: Design) -> Iterator[Finding]:
    """12: tables are static const with initialisers; a ROM holds a table; no array is filled in every call."""
    for name, node in design.tables.items():
        if not {"static", "const"} <= words(text(node).split("=")[0]) or "=" not in text(node):
            yield Finding(12, name, "a table is static const and has an initialiser")
    for function in design.functions:
        constant = {param.name for param in function.params} | set(design.tables)
        for node in function.locals:
            if any(rank for _, rank in declared(node)) or "= {" in text(node):
                if {"static", "const"} <= words(text(node).split("=")[0]):
                    constant |= {name for name, _ in declared(node)}
                elif "= {" in text(node):
                    yield Finding(12, function.where, f"filled in every call: {text(node)[:60]}")
        for found in function.pragmas:
            kind = (found.options.get("type") or found.options.get("core", "")).lower()
            if kind.startswith("rom") and found.options.get("variable") not in constant:
                yield Finding(12, function.where, f"{found.options.get('variable')} is no table of constants")
            if found.name == "BIND_STORAGE" and found.options.get("impl", "").lower() not in ("bram", "lutram", "uram"):
                yield Finding(12, function.where, f"BIND_STORAGE without a memory: {text(found.node).strip()}")


def _bounded(function: Function) -> Iterator[Finding]:
    """13: no memory from a heap, no loop whose trips nobody knows."""
    counters = {counter(loop) for loop in function.loops}
    for loop in function.loops:
        known = loop.type == "for_statement" and loop.child_by_field_name("condition") is not None
        if (not known or _bound(loop, function, counters)) and not marked(loop, "LOOP_TRIPCOUNT"):
            yield Finding(13, function.where, f"the trips of a loop are not known: {text(loop)[:60]}")
    for node in walk(function.node):
        if node.type in ("new_expression", "delete_expression"):
            yield Finding(13, function.where, f"memory from the heap: {text(node)[:60]}")
        if node.type == "virtual":
            yield Finding(13, function.where, "a virtual function")
    for name in (call.name for call in function.calls if call.name in ON_HEAP):
        yield Finding(13, function.where, f"memory from the heap: {name}")
    for name in (text(node.child_by_field_name("type")) for node in function.locals):
        if name.startswith("std::"):
            yield Finding(13, function.where, f"memory from the heap: {name}")


def _recursion(design: Design) -> Iterator[Finding]:
    """13: no function calls itself; a template may call another instance of it."""
    called: dict[str, set[str]] = {}
    for function in design.functions:
        if any(text(child) == "constexpr" for child in function.node.children):  # done before anything is built
            continue
        names = set()
        for call in function.calls:
            if not re.search(rf"<.*>::{re.escape(function.name)}$", call.head, re.DOTALL) and "." not in call.head:
                names.add(call.name)
        called.setdefault(function.name, set()).update(names)
    for name in called:
        reached: set[str] = set()
        ahead = set(called[name])
        while ahead:
            reached |= ahead
            ahead = {inner for outer in ahead for inner in called.get(outer, ())} - reached
        if name in reached:
            yield Finding(13, name, "a function that calls itself")
