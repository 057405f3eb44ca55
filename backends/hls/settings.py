"""The two small files that tell the fixed scripts and the fixed driver about one network.

`settings.tcl` is sourced by `scripts/build.tcl` and `scripts/block_design.tcl`, `network.json` is read by
`driver/accelerator.py`. Both come from plain arguments: nothing here knows a graph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bitwright.ir.errors import InternalError

NETWORK_VERSION = 1


@dataclass(frozen=True)
class Port:
    """One side of the accelerator as the host sees it: an array of one frame, and how it becomes bytes.

    An element is the integer q with the value q * 2**step_exponent, q within `low` .. `high`, in
    `container_bits` bits, little-endian (two's complement where `low` is negative). The array has `shape`
    (without the batch axis); its axes go over the stream in `order` (the last one fastest; None: as they
    stand). A beat of `beat_bits` carries `beat_elements` elements from its low end up, the rest is zero
    (None: one element a beat). `kind` "sign" has two integers, `low` and `high`; "float32" sends the values as they
    are.
    """

    name: str
    shape: tuple[int, ...]
    step_exponent: int = 0
    low: int = 0
    high: int = 0
    container_bits: int = 32
    kind: str = "integer"
    order: tuple[int, ...] | None = None
    beat_bits: int | None = None
    beat_elements: int | None = None

    @property
    def stream_bits(self) -> int:
        """The width of the stream, TDATA: what `in_bits` and `out_bits` are."""
        return self.container_bits if self.beat_bits is None else self.beat_bits

    def entry(self) -> dict[str, Any]:
        """What network.json says of this port."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "order": list(range(len(self.shape)) if self.order is None else self.order),
            "step_exponent": self.step_exponent,
            "range": [self.low, self.high],
            "container_bits": self.container_bits,
            "signed": self.low < 0,
            "beat_bits": self.stream_bits,
            "beat_elements": self.beat_elements or 1,
        }


def network_json(
    *,
    name: str,
    input: Port,
    output: Port,
    bitstream: str | None = None,
    accelerator: str = "accelerator",
    dma: str = "dma",
) -> str:
    """The text of network.json; `accelerator` and `dma` are the cells of scripts/block_design.tcl."""
    for port in (input, output):
        _check_port(port)
    network = {
        "version": NETWORK_VERSION,
        "name": name,
        "bitstream": f"{name}.bit" if bitstream is None else bitstream,
        "input": input.entry(),
        "output": output.entry(),
        "ip": {"accelerator": accelerator, "dma": dma},
    }
    lines = [f'  "{key}": {json.dumps(value)}' for key, value in network.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def settings_tcl(
    *,
    top: str,
    part: str,
    clock_ns: float,
    board: str,
    sources: Sequence[str],
    in_bits: int,
    out_bits: int,
    board_part: str | None = None,
    processor: str | None = None,
    testbench: Sequence[str] = ("tb/testbench.cpp",),
    golden: Sequence[str] = ("tb/golden_input.txt", "tb/golden_output.txt"),
    steps: Sequence[str] = ("csim", "csynth", "export"),
) -> str:
    """The text of scripts/settings.tcl; paths are relative to the output folder.

    `sources` are the C++ files to synthesise (headers are found by -I), `golden` the arguments of the test
    bench, `in_bits` and `out_bits` the widths of the two streams. `board_part` and `processor` are those of
    the board (see `bitwright.backends.hls.board.Board`).
    """
    for side, bits in (("in_bits", in_bits), ("out_bits", out_bits)):
        if not _is_stream_width(bits):
            raise InternalError(f"{side} is {bits}: a stream of an AXI DMA has 8, 16, 32, ... 1024 bits")
    if not clock_ns > 0:
        raise InternalError(f"clock_ns is {clock_ns}")
    if not sources:
        raise InternalError("no source to synthesise")
    entries: list[tuple[str, str]] = [
        ("top", _word(top)),
        ("part", _word(part)),
        ("clock_ns", f"{clock_ns:.6g}"),
        ("board", _word(board)),
        ("board_part", _word(board_part or "")),
        ("processor", _word(processor or "none")),
        ("in_bits", str(in_bits)),
        ("out_bits", str(out_bits)),
        ("sources", _list(sources)),
        ("testbench", _list(testbench)),
        ("golden", _list(golden)),
        ("steps", _list(steps)),
    ]
    head = "# What scripts/build.tcl and scripts/block_design.tcl need to know of this network.\n"
    return head + "".join(f"set {name} {value}\n" for name, value in entries)


def _word(text: str) -> str:
    """`text` as one Tcl word, taken literally."""
    if text and not set(text) & set(' \t\n\r"$;[]{}\\#'):
        return text
    if set(text) & set("{}\\"):
        return '"' + "".join(f"\\{c}" if c in '"$[]{}\\' else c for c in text) + '"'
    return "{" + text + "}"


def _list(words: Sequence[str]) -> str:
    inner = " ".join(_word(word) for word in words)
    return "[list " + inner + "]" if set(inner) & set("\\") else "{" + inner + "}"


def _is_stream_width(bits: int) -> bool:
    return 8 <= bits <= 1024 and bits & (bits - 1) == 0


def _check_port(port: Port) -> None:
    """Faults of the caller, found here rather than on the board."""
    bits = port.container_bits
    signed = port.low < 0
    ends = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    faults = {
        f"container_bits is {bits}": bits not in (8, 16, 32, 64),
        f"kind is {port.kind!r}": port.kind not in ("integer", "sign", "float32"),
        "float32 needs 32 bits": port.kind == "float32" and bits != 32,
        f"the range {port.low} .. {port.high} is empty or wider than {bits} bits": port.kind != "float32"
        and not ends[0] <= port.low < port.high <= ends[1],
        f"the stream has {port.stream_bits} bits": not _is_stream_width(port.stream_bits),
        "a beat is narrower than its elements": port.stream_bits < bits * (port.beat_elements or 1),
        f"the order {port.order} is no permutation of the axes": port.order is not None
        and sorted(port.order) != list(range(len(port.shape))),
    }
    for fault, present in faults.items():
        if present:
            raise InternalError(f"port {port.name!r}: {fault}")
