"""C++ sources as the synthesis tools read them: conditionals decided, macros expanded, parsed, looked up by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import tree_sitter_cpp
from tree_sitter import Language, Node, Parser

PARSER = Parser(Language(tree_sitter_cpp.language()))
NOT_SYNTHESISED = ("testbench.hpp", "number.hpp")
LOOPS = ("for_statement", "while_statement", "do_statement", "for_range_loop")


@dataclass(frozen=True)
class Finding:
    """A broken rule; 0 stands for text that cannot be read."""

    rule: int
    where: str
    what: str


@dataclass(frozen=True)
class Pragma:
    """`#pragma HLS NAME key=value flag`: options hold key -> value, and flag -> ""."""

    name: str
    options: dict[str, str]
    node: Node


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def text(node: Node | None) -> str:
    return "" if node is None or node.text is None else node.text.decode()


def walk(node: Node, *skip: str) -> Iterator[Node]:
    """The node and all below it, in order; not into nodes of the types `skip`."""
    yield node
    for child in node.children:
        if child.type not in skip:
            yield from walk(child, *skip)


def pragma(node: Node) -> Pragma | None:
    parts = text(node).split()
    if node.type != "preproc_call" or parts[:2] != ["#pragma", "HLS"]:
        return None
    return Pragma(parts[2].upper(), {k: v for k, _, v in (part.partition("=") for part in parts[3:])}, node)


def pragmas(node: Node, *skip: str) -> list[Pragma]:
    return [found for child in walk(node, *skip) if (found := pragma(child)) is not None]


def declared(declaration: Node) -> list[tuple[str, int]]:
    """Names that a declaration makes, with their number of array dimensions."""
    return [_named(child) for child in declaration.children_by_field_name("declarator")]


def _named(node: Node) -> tuple[str, int]:
    rank = 0
    while (inner := node.child_by_field_name("declarator")) or node.type == "reference_declarator":
        rank += node.type == "array_declarator"
        node = inner or node.children[-1]
    return text(node).split("::")[-1], rank


class Call:
    """A call: its callee as it stands there (`head`) and without namespaces and template arguments (`name`)."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.head = text(node.child_by_field_name("function"))
        self.name = re.sub(r"<.*>", "", self.head, flags=re.DOTALL).split("::")[-1].split(".")[-1].strip()
        listed = node.child_by_field_name("arguments")
        found = [] if listed is None else listed.named_children
        self.arguments = [text(child) for child in found if child.type != "comment"]


@dataclass(frozen=True)
class Param:
    """A parameter: its type's text without the declarator."""

    name: str
    type: str
    rank: int
    reference: bool

    @property
    def stream(self) -> bool:
        return self.type.startswith("hls::stream")


class Function:
    """A function's definition."""

    def __init__(self, node: Node, path: str) -> None:
        self.node, self.path = node, path
        declarator = node.child_by_field_name("declarator")
        while declarator is not None and declarator.type != "function_declarator":
            declarator = declarator.child_by_field_name("declarator") or declarator.children[-1]
        assert declarator is not None
        self.name = text(declarator.child_by_field_name("declarator")).split("::")[-1]
        self.returns = text(node.child_by_field_name("type"))
        body = node.child_by_field_name("body")
        assert body is not None
        self.body = body
        listed = declarator.child_by_field_name("parameters")
        assert listed is not None
        self.params = [
            Param(*_param_name(entry), reference="&" in text(entry).replace("&&", ""))
            for entry in listed.named_children
            if entry.type == "parameter_declaration"
        ]
        self.where = f"{path}: {self.name}"

    @cached_property
    def dataflow(self) -> bool:
        return any(found.name == "DATAFLOW" for child in self.body.children if (found := pragma(child)))

    @cached_property
    def nodes(self) -> list[Node]:
        """All that stands in the body, in order."""
        return list(walk(self.body))

    @cached_property
    def locals(self) -> list[Node]:
        return [node for node in self.nodes if node.type == "declaration"]

    @cached_property
    def loops(self) -> list[Node]:
        return [node for node in self.nodes if node.type in LOOPS]

    @cached_property
    def pragmas(self) -> list[Pragma]:
        return [found for node in self.nodes if (found := pragma(node)) is not None]

    @cached_property
    def calls(self) -> list[Call]:
        return [Call(node) for node in self.nodes if node.type == "call_expression"]


def _param_name(entry: Node) -> tuple[str, str, int]:
    declarator = entry.child_by_field_name("declarator")
    name, rank = ("", 0) if declarator is None else _named(declarator)
    return name, text(entry.child_by_field_name("type")), rank


class Design:
    """The sources of one accelerator, with the macros `defined`."""

    def __init__(self, files: Mapping[str, str], defined: frozenset[str]) -> None:
        wanted = {
            path: given
            for path, given in files.items()
            if path.startswith(("src/", "include/")) and not path.endswith(NOT_SYNTHESISED)
        }
        kept = {path: _decided(given, defined) for path, given in wanted.items()}
        macros = {m[1]: (m[2].split(","), m[3]) for m in _MACRO.finditer("\n".join(kept.values()))}
        self.files = files
        self.texts = {path: _expanded(_blanked(given), macros) for path, given in kept.items()}
        read = {path: _read(path, given) for path, given in self.texts.items()}
        self.trees = {path: root for path, (root, _) in read.items()}
        self.functions = [function for _, functions in read.values() for function in functions]
        self.by_name: dict[tuple[str, int], Function] = {}
        for function in self.functions:
            self.by_name.setdefault((function.name, len(function.params)), function)
        self.directions: dict[tuple[int, int], set[str]] = {}

    @property
    def unread(self) -> list[Finding]:
        return [
            Finding(0, f"{path}:{node.start_point.row + 1}", "does not parse")
            for path, root in self.trees.items()
            if root.has_error
            for node in walk(root)
            if node.type == "ERROR" or node.is_missing
        ]

    def function(self, call: Call) -> Function | None:
        """The definition of what is called."""
        return self.by_name.get((call.name, len(call.arguments)))

    @cached_property
    def regions(self) -> list[Function]:
        """Functions with a dataflow body."""
        return [function for function in self.functions if function.dataflow]

    @cached_property
    def top(self) -> Function | None:
        """The function with a dataflow body that no other calls, in src/."""
        called = {call.name for function in self.functions for call in function.calls}
        mine = [region for region in self.regions if region.path.startswith("src/")]
        return next((region for region in mine if region.name not in called), None)

    @cached_property
    def processes(self) -> list[Function]:
        """What dataflow bodies call, down to the loops."""
        found = {
            id(made): made
            for region in self.regions
            for call in region.calls
            if (made := self.function(call)) is not None and not made.dataflow
        }
        return list(found.values())

    @cached_property
    def tables(self) -> dict[str, Node]:
        """Arrays outside functions."""
        return {
            name: node
            for root in self.trees.values()
            for node in walk(root, "function_definition", "field_declaration_list", "init_declarator")
            if node.type == "declaration"
            for name, rank in declared(node)
            if rank
        }

    @cached_property
    def structs(self) -> dict[str, dict[str, str]]:
        """Constants and types of the structs of src/, as text."""
        found: dict[str, dict[str, str]] = {}
        for path, given in self.texts.items():
            for name, body in re.findall(r"\bstruct (\w+) \{(.*?)\n\};", given, re.DOTALL) * path.startswith("src/"):
                code = re.sub(r"//.*", "", body)
                numbers = re.findall(r"(\w+) = (-?\d+)", code)
                found[name] = {**dict(re.findall(r"using (\w+) = ([^;]+);", code)), **dict(numbers)}
        return found

    @cached_property
    def aliases(self) -> dict[str, str]:
        return dict(re.findall(r"^using (\w+) = ([^;]+);", "\n".join(self.texts.values()), re.MULTILINE))

    def direction(self, function: Function, index: int) -> set[str]:
        """Whether a function reads or writes the stream that is its parameter `index`."""
        known = self.directions.get((id(function), index))
        if known is not None:
            return known
        name = function.params[index].name
        found = self.directions[id(function), index] = set()
        for call in function.calls:
            if call.head in (f"{name}.read", f"{name}.write"):
                found.add(call.head.rpartition(".")[2])
            inner = self.function(call)
            for place, argument in enumerate(call.arguments):
                if inner is not None and argument == name:
                    found |= self.direction(inner, place)
        return found


@cache
def _read(path: str, given: str) -> tuple[Node, list[Function]]:
    """A file's tree and its functions; most files are the same in most designs."""
    root = PARSER.parse(given.encode()).root_node
    nodes = (node for node in walk(root, "declaration") if node.type == "function_definition")
    return root, [Function(node, path) for node in nodes if node.child_by_field_name("body") is not None]


# ---- the preprocessor: conditionals and one-line macros, line by line so that lines keep their numbers -----------

_MACRO = re.compile(r"^#define (BITWRIGHT_\w+)\(([^)]*)\) ?(.*)$", re.MULTILINE)


@cache
def _decided(given: str, defined: frozenset[str]) -> str:
    """Lines that conditionals leave out become empty."""
    lines, stack = [], [(True, True)]  # (this branch is read, one branch was read)
    for line in given.split("\n"):
        found = re.match(r"#(ifdef|ifndef|if|elif|else|endif)\b(.*)", line)
        if found is None:
            lines.append(line if all(read for read, _ in stack) else "")
            continue
        lines.append("")
        kind, rest = found[1], found[2].strip()
        if kind in ("elif", "else", "endif"):
            done = stack.pop()[1]
        if kind == "endif":
            continue
        holds = {
            "ifdef": rest in defined,
            "ifndef": rest not in defined,
            "else": True,
        }.get(kind)
        if holds is None:
            test = re.sub(r"defined\((\w+)\)", lambda m: str(m[1] in defined), rest)
            holds = bool(eval(test.replace("!", " not ").replace("&&", " and ").replace("||", " or ")))
        if kind in ("elif", "else"):
            holds = holds and not done
            stack.append((holds, done or holds))
        else:
            stack.append((holds, holds))
    return "\n".join(lines)


def _blanked(given: str) -> str:
    return re.sub(r"^#define .*$", "", given, flags=re.MULTILINE)


def _expanded(given: str, macros: Mapping[str, tuple[list[str], str]]) -> str:
    lines = []
    for line in given.split("\n"):
        while found := re.search(r"\b(BITWRIGHT_\w+)\(", line):
            if found[1] not in macros or found[1] == "BITWRIGHT_PRAGMA":
                break
            names, body = macros[found[1]]
            end = _closing(line, found.end())
            values = line[found.end() : end].split(",", len(names) - 1)
            for name, value in zip(names, values, strict=True):
                body = re.sub(rf"(?:##)?\b{name.strip()}\b", value.strip(), body)
            line = line[: found.start()] + body + line[end + 1 :]
        lines.append(re.sub(r"^\s*BITWRIGHT_PRAGMA\((.*)\);?$", r"#pragma \1", line))
    return "\n".join(lines)


def _closing(line: str, start: int) -> int:
    depth = 1
    for place in range(start, len(line)):
        depth += (line[place] == "(") - (line[place] == ")")
        if depth == 0:
            return place
    raise ValueError(f"a macro's arguments do not end in their line: {line}")
