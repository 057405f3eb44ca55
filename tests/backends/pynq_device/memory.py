"""Memory that the CPU sees through a cache and the DMA does not: a missing flush or invalidate gives wrong numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from pynq.buffer import PynqBuffer

BASE, LINE = 0x1000_0000, 64


class Memory:
    """`cached` is what the CPU reads and writes, `dram` what the DMA does; each begins with garbage of its own."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.cached = np.full(size, 5, np.uint8)
        self.dram = np.full(size, 3, np.uint8)
        self.used = 0
        self.freed: list[int] = []

    def allocate(self, device: Any, shape: tuple[int, ...], dtype: Any) -> PynqBuffer:
        """A buffer of PYNQ's own class, on cache lines of its own."""
        begin = self.used
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.used += -(-size // LINE) * LINE
        assert self.used <= len(self.cached), "the model's memory is full"
        place = memoryview(self.cached)[begin : begin + size]
        made = PynqBuffer(shape, dtype, buffer=place, device=device, device_address=BASE + begin, bo=begin)
        made.memory, made.pointer, made.return_to = self, BASE + begin, self
        made.freed = True  # not PYNQ's to unmap
        return made

    def return_pointer(self, pointer: int) -> None:
        self.freed.append(pointer)

    def flush(self, begin: int, size: int) -> None:
        self.dram[begin : begin + size] = self.cached[begin : begin + size]

    def invalidate(self, begin: int, size: int) -> None:
        self.cached[begin : begin + size] = self.dram[begin : begin + size]

    def read(self, address: int, size: int) -> bytes:
        """As the DMA reads."""
        return self.dram[self.place(address, size) :][:size].tobytes()

    def write(self, address: int, data: bytes) -> None:
        """As the DMA writes."""
        begin = self.place(address, len(data))
        self.dram[begin : begin + len(data)] = np.frombuffer(data, np.uint8)

    def place(self, address: int, size: int) -> int:
        begin = address - BASE
        assert 0 <= begin <= begin + size <= self.used, f"the DMA reaches outside the memory, at {address:#x}"
        assert address not in self.freed, f"the DMA reaches a buffer that was given back, at {address:#x}"
        return begin
