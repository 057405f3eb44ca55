"""The accelerator of an output folder as a function of bytes: its own C++ for the CPU, behind its AXI ports."""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any

import numpy as np


class Port:
    """A side as network.json describes it: beats of `beat_bits`, whose low end carries `beat_elements` containers."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.elements = math.prod(entry["shape"])
        self.per_beat, self.signed = entry["beat_elements"], entry["signed"]
        self.container, self.beat = entry["container_bits"] // 8, entry["beat_bits"] // 8
        self.beats = -(-self.elements // self.per_beat)

    def integers(self, frame: bytes) -> list[int]:
        """The elements of a frame in the order of the stream."""
        assert len(frame) == self.beats * self.beat
        found = []
        for beat in range(self.beats):
            for n in range(self.per_beat):
                begin = beat * self.beat + n * self.container
                found.append(int.from_bytes(frame[begin : begin + self.container], "little", signed=self.signed))
        return found[: self.elements]

    def frame(self, integers: list[int]) -> bytes:
        """The bytes that the elements make on the stream."""
        padded = integers + [0] * (self.beats * self.per_beat - self.elements)
        mask = (1 << 8 * self.container) - 1
        made = b""
        for beat in range(self.beats):
            words = padded[beat * self.per_beat :][: self.per_beat]
            value = sum((word & mask) << (8 * self.container * n) for n, word in enumerate(words))
            made += value.to_bytes(self.beat, "little")
        return made


class Network:
    """Called with the bytes of an input frame it gives those of the output."""

    def __init__(self, library: Path, network: dict[str, Any]) -> None:
        self.input, self.output = Port(network["input"]), Port(network["output"])
        self.binary = ctypes.CDLL(str(library))
        self.binary.bitwright_error.restype = ctypes.c_char_p

    def __call__(self, frame: bytes) -> bytes:
        integers = np.array(self.input.integers(frame), np.int64)
        results = np.zeros(self.output.elements, np.int64)
        pointer = ctypes.POINTER(ctypes.c_int64)
        inputs = (pointer * 1)(integers.ctypes.data_as(pointer))
        outputs = (pointer * 1)(results.ctypes.data_as(pointer))
        failed = self.binary.bitwright_run(inputs, outputs, ctypes.c_int64(1))
        assert not failed, self.binary.bitwright_error().decode()
        return self.output.frame(results.tolist())
