"""Rules 14 to 16: the ports of the accelerator, its control registers, and the widths of its numbers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import numpy as np

from hls_rules import adders
from hls_rules.source import Design, Finding, Function, text, words

REGISTERS = {"CONTROL": 0x00, "GLOBAL_INTERRUPT": 0x04, "INTERRUPT_ENABLE": 0x08, "INTERRUPT_STATUS": 0x0C}
BITS = {"START": 0x01, "DONE": 0x02, "IDLE": 0x04, "AUTO_RESTART": 0x80}
DRIVER = "driver/accelerator.py"
SHIFT_BITS = 8


def check(design: Design) -> Iterator[Finding]:
    if design.top is not None:
        yield from _axis(design, design.top)
        yield from _control(design, design.top)
    yield from _beats(design)
    for name, struct in design.structs.items():
        if "acc_bits" in struct and "Weight" in struct:
            yield from _widths(design, name, struct)


def _axis(design: Design, top: Function) -> Iterator[Finding]:
    """14: every argument of the top function is a stream of beats on AXI; a beat has 8 * 2^k bits."""
    axis = [
        found.options.get("port")
        for found in top.pragmas
        if found.name == "INTERFACE" and "axis" in {*found.options, found.options.get("mode")}
    ]
    for param in top.params:
        if not param.stream:
            yield Finding(14, top.where, f"{param.name} is no hls::stream")
        if axis.count(param.name) != 1:
            yield Finding(14, top.where, f"{param.name} has {axis.count(param.name)} INTERFACE axis")
    widths = re.findall(r"using Beat = ap_axiu<(.+), \d, \d, \d>;", "\n".join(design.texts.values()))
    for width in widths:
        bits = int(width) if width.isdigit() else 0
        if not re.match(r"(container|beat)_bits\(.*\)$", width) and (bits < 8 or bits & (bits - 1)):
            yield Finding(14, "Beat", f"a beat of {width} bits; a DMA takes 8 * 2^k")
    if not widths:
        yield Finding(14, "Beat", "there is no beat")


def _beats(design: Design) -> Iterator[Finding]:
    """14: who writes beats sets TLAST by where it is in the frame, and all of TKEEP and TSTRB."""
    for function in design.processes:
        ports = [
            param.name
            for index, param in enumerate(function.params)
            if param.stream and "Beat<" in param.type and "write" in design.direction(function, index)
        ]
        if not ports:
            continue
        given = {
            text(node.child_by_field_name("left")).split(".")[-1]: text(node.child_by_field_name("right"))
            for node in function.nodes
            if node.type == "assignment_expression" and "." in text(node.child_by_field_name("left"))
        }
        if not (words(given.get("last", "0")) - {"true", "false"} and not given.get("last", "0").isdigit()):
            yield Finding(14, function.where, "TLAST does not mark the last beat of a frame")
        for field in ("keep", "strb"):
            if not re.fullmatch(r"\(1 << \w+\) - 1|-1|~0", given.get(field, "")):
                yield Finding(14, function.where, f"T{field.upper()} is not all ones")


def _control(design: Design, top: Function) -> Iterator[Finding]:
    """15: one s_axilite port=return, and the registers as the driver writes them."""
    given = [found for found in top.pragmas if found.name == "INTERFACE" and found.options.get("port") == "return"]
    modes = [{*found.options, found.options.get("mode")} for found in given]
    if len(modes) != 1 or "s_axilite" not in modes[0]:
        yield Finding(15, top.where, "the function has not one INTERFACE s_axilite port=return")
    if DRIVER in design.files:
        known: dict[str, int] = {}
        for node in ast.parse(design.files[DRIVER]).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                names = [item.id for item in getattr(node.targets[0], "elts", ()) if isinstance(item, ast.Name)]
                known |= dict(zip(names, (ast.literal_eval(item) for item in node.value.elts), strict=True))
        for name, value in {**REGISTERS, **BITS}.items():
            if known.get(name) != value:
                yield Finding(15, DRIVER, f"{name} is {known.get(name)}, and {value} in ap_ctrl_hs")


def _widths(design: Design, name: str, struct: dict[str, str]) -> Iterator[Finding]:
    """16: codes, bias and shifts fit their types, and no sum of a layer leaves its accumulator."""
    if "multiplier_bits" in struct:
        yield from _scaled_widths(design, name, struct)
        return
    lines = adders.lines_of(design, name)
    kinds = {kind: of for kind, of in _OF.items() if kind != "weights" or lines is None}
    tables = {kind: _table(design, f"[Fold<{name}>::{of}]", kind) for kind, of in kinds.items()}
    missing = [kind for kind, table in tables.items() if table is None]
    acc = int(struct["acc_bits"])
    weight, data = (_resolved(design, struct.get(key, "")) for key in ("Weight", "In"))
    if missing or weight is None or data is None:
        yield Finding(16, name, f"cannot be checked: no {missing or 'format'}")
        return
    bias, shift = tables["bias"].reshape(-1), tables["shift"].reshape(-1)
    low, high = _range(data)
    if lines is not None:
        matrix, wrong = adders.matrix_of(lines, len(bias), acc, low, high)
        yield from (Finding(16, name, what) for what in wrong)
    else:
        values = _decoded(weight, tables["weights"])
        if values is None:
            yield Finding(16, name, f"a code of the weights does not fit {weight}")
            return
        inputs = values.shape[2] * values.shape[0] // tables["bias"].shape[0]
        pe = values.shape[1]
        matrix = (
            values.reshape(-1, inputs // values.shape[2], pe, values.shape[2]).transpose(0, 2, 1, 3).reshape(-1, inputs)
        )
    ends = np.stack([matrix * low, matrix * high])
    least, most = ends.min(axis=0).sum(axis=1) + bias, ends.max(axis=0).sum(axis=1) + bias
    limit = 1 << (acc - 1)
    worst = max(int(most.max()), int(bias.max()))
    if worst >= limit or min(int(least.min()), int(bias.min())) < -limit:
        yield Finding(16, name, f"an accumulator of {acc} bits, and sums from {least.min()} to {worst}")
    found = (int(shift.min()), int(shift.max()))
    stated = (int(struct["min_shift"]), int(struct["max_shift"]))
    up = max(0, -stated[0])
    if not (stated[0] <= found[0] <= found[1] <= stated[1] and stated[0] > -64 and stated[1] < 64):
        yield Finding(16, name, f"shifts from {found[0]} to {found[1]} are not within {stated[0]} to {stated[1]}")
    if max(acc + up, stated[1] + up) + 1 > 128 or abs(found[0]) >= 1 << (SHIFT_BITS - 1):
        yield Finding(16, name, "a shift does not fit its type")


def _scaled_widths(design: Design, name: str, struct: dict[str, str]) -> Iterator[Finding]:
    """The same of sums with a scale: sum q x * multiplier + sum x * offset + bias, each part in its register."""
    kinds = {"weights": "folds", "bias": "groups", "multiplier": "groups", "offset": "groups"}
    tables = {kind: _table(design, f"[Fold<{name}>::{of}]", kind) for kind, of in kinds.items()}
    weight, data = (_resolved(design, struct.get(key, "")) for key in ("Weight", "In"))
    values = None if weight is None or tables["weights"] is None else _decoded(weight, tables["weights"])
    if any(table is None for table in tables.values()) or values is None or data is None:
        yield Finding(16, name, "cannot be checked: no table or format, or a code that does not fit")
        return
    bias, multiplier, offset = (tables[kind].reshape(-1) for kind in ("bias", "multiplier", "offset"))
    inputs = values.shape[2] * values.shape[0] // tables["bias"].shape[0]
    folds = values.reshape(-1, inputs // values.shape[2], values.shape[1], values.shape[2])
    matrix = folds.transpose(0, 2, 1, 3).reshape(-1, inputs)
    low, high = _range(data)
    ends = np.stack([matrix * low, matrix * high])
    sums = ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)
    totals = inputs * low, inputs * high
    most = [
        abs(int(s) * int(m)) + abs(int(t) * int(o)) + abs(int(b))
        for s, t in zip(sums, totals, strict=True)
        for s, m, o, b in zip(s, multiplier, offset, bias, strict=True)
    ]
    registers = {
        "acc_bits": max(most),
        "sum_bits": max(abs(int(s)) for end in sums for s in end),
        "total_bits": max(map(abs, totals)),
        "multiplier_bits": int(np.abs(multiplier).max()),
        "offset_bits": int(np.abs(offset).max()),
    }
    for register, size in registers.items():
        if size >= 1 << (int(struct[register]) - 1):
            yield Finding(16, name, f"{register} is {struct[register]}, and numbers reach {size}")


_OF = {"weights": "folds", "bias": "groups", "shift": "groups"}


def _table(design: Design, size: str, kind: str) -> np.ndarray | None:
    for name, node in design.tables.items():
        if name.endswith(f"_{kind}") and size in text(node).split("=")[0] and "=" in text(node):
            body = text(node).partition("=")[2].strip().rstrip(";").replace("{", "[").replace("}", "]")
            return np.array(ast.literal_eval(body), object)
    return None


def _resolved(design: Design, type: str) -> tuple[str, list[int]] | None:
    """Kind and numbers of a format: conv_t -> UFixed<5, 1> -> ("UFixed", [5, 1])."""
    for _ in range(4):
        type = design.aliases.get(type.strip(), type.strip())
    found = re.fullmatch(r"(\w+)<([-\dxa-fu, ]*)>", type)
    return (found[1], [int(part.strip().rstrip("u"), 0) for part in found[2].split(",")]) if found else None


def _range(format: tuple[str, list[int]]) -> tuple[int, int]:
    kind, numbers = format
    if kind == "Affine":
        return numbers[0], numbers[1]
    if kind == "Signs":
        return -1, 1
    return (
        (0, (1 << numbers[0]) - 1) if kind == "UFixed" else (1 - (1 << (numbers[0] - 1)), (1 << (numbers[0] - 1)) - 1)
    )


def _decoded(format: tuple[str, list[int]], codes: np.ndarray | None) -> np.ndarray | None:
    """The integers that codes stand for, as formats.hpp states them; None if one is no code of the format."""
    kind, numbers = format
    assert codes is not None
    width = 1 if kind == "Bin" else numbers[0]
    low, high = (1 - (1 << (width - 1)), (1 << (width - 1)) - 1) if kind == "Fixed" else (0, (1 << width) - 1)
    if kind == "Linear":
        low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    if codes.min() < low or codes.max() > high:
        return None
    if kind in ("Fixed", "Linear"):
        return codes
    if kind == "Bin":
        return 1 - 2 * codes
    level = codes & ((1 << (width - 1)) - 1)
    size = np.where(level > 0, 2 ** np.maximum(level - 1, 0), 0)
    return np.where(codes >> (width - 1) > 0, -size, size)
