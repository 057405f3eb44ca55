"""The adders of a layer, read from its text: which matrix they multiply by, and whether every sum fits its bits."""

from __future__ import annotations

import re

import numpy as np

from hls_rules.source import Design

NODE = r"(x\[\d+\]|n\d+)"
ADDER = re.compile(rf"const auto (n\d+) = (plus|minus)<(\d+), (\d+), (\d+)>\({NODE}, {NODE}\);")
OUTPUT = re.compile(rf"y\[(\d+)\] = (?:0|(scaled|negative)<acc_bits \+ 1, (\d+)>\({NODE}\));")
Form = dict[int, int]  # the weight of each input


def lines_of(design: Design, name: str) -> list[str] | None:
    """The statements of the sums of a struct; None where it has none."""
    for given in design.texts.values():
        found = re.search(rf"inline void {name}::sums\([^{{]*\) \{{\n(.*?)\n\}}", given, re.DOTALL)
        if found:
            return [line.strip() for line in found[1].split("\n") if "#pragma" not in line and line.strip()]
    return None


def matrix_of(lines: list[str], outputs: int, acc: int, low: int, high: int) -> tuple[np.ndarray, list[str]]:
    """[outputs, inputs] and what is wrong. low, high: of every input; acc: bits of the accumulator."""
    forms: dict[str, Form] = {}
    rows: dict[int, Form] = {}
    wrong = []

    def scaled(node: str, places: int) -> Form:
        form = {int(node[2:-1]): 1} if node[0] == "x" else forms[node]
        return {place: weight << places for place, weight in form.items()}

    for line in lines:
        if found := ADDER.fullmatch(line):
            node, operation, bits, left, right = found[1], found[2], int(found[3]), int(found[4]), int(found[5])
            sign = 1 if operation == "plus" else -1
            forms[node] = _sum(scaled(found[6], left), scaled(found[7], right), sign)
            if not _fits(forms[node], bits, low, high):
                wrong.append(f"{node} does not fit {bits} bits")
        elif found := OUTPUT.fullmatch(line):
            sign = -1 if found[2] == "negative" else 1
            rows[int(found[1])] = _sum({}, scaled(found[4], int(found[3])), sign) if found[2] else {}
            if not _fits(rows[int(found[1])], acc + 1, low, high):
                wrong.append(f"y[{found[1]}] does not fit {acc + 1} bits")
        else:
            wrong.append(f"no adder: {line}")
    if sorted(rows) != list(range(outputs)):
        wrong.append(f"{len(rows)} sums of {outputs}")
    inputs = 1 + max((place for form in rows.values() for place in form), default=0)
    matrix = [[rows.get(row, {}).get(place, 0) for place in range(inputs)] for row in range(outputs)]
    return np.array(matrix, object), wrong


def _sum(one: Form, other: Form, sign: int) -> Form:
    return {place: one.get(place, 0) + sign * other.get(place, 0) for place in {*one, *other}}


def _fits(form: Form, bits: int, low: int, high: int) -> bool:
    ends = [(weight * low, weight * high) for weight in form.values()]
    least, most = sum(map(min, ends)), sum(map(max, ends))
    return -(1 << (bits - 1)) <= least and most < 1 << (bits - 1)
