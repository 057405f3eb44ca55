"""A small stand-in for PYNQ and a board, in virtual time.

The stand-in has the registers of an AXI DMA in simple mode and of an HLS block, memory that the CPU sees
through a cache (a missing flush or invalidate gives wrong numbers), and an accelerator that is a numpy function
with a latency and an interval. The DMA channel behaves as the one of PYNQ 4.0: no error is noticed by its
wait_async, and only the completion interrupt is enabled. Time is the event loop's own, and passes only when
nothing is left to do: a test that waits five seconds for a timeout takes none.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pynq_device.clock import VirtualLoop

from bitwright.backends.hls.driver.accelerator import Accelerator
from bitwright.backends.hls.settings import Port

US = 1e-6


class Buffer(np.ndarray):
    """Memory as the CPU sees it; what the DMA sees is `memory`."""

    memory: np.ndarray

    def flush(self) -> None:
        self.memory[...] = self

    def invalidate(self) -> None:
        self[...] = self.memory

    def freebuffer(self) -> None:
        self.memory = None  # type: ignore[assignment]


@dataclass
class Faults:
    """What goes wrong, at which frame."""

    error: dict[tuple[str, int], int] = field(default_factory=dict)  # a bit of the DMA's status
    silent: set[tuple[str, int]] = field(default_factory=set)  # the interrupt never comes
    short: dict[int, int] = field(default_factory=dict)  # bytes that the accelerator puts out instead
    hang: int | None = None  # the accelerator never finishes this frame


class Hardware:
    """The logic of the board: the accelerator, the DMA's two directions, registers, interrupts, time."""

    def __init__(self, compute: Callable[[np.ndarray], np.ndarray], latency: float, interval: float) -> None:
        self.compute, self.latency, self.interval = compute, latency, interval
        self.load, self.store = 0.6 * interval, 2 * US
        self.interrupt_delay = 3 * US
        self.faults = Faults()
        self.loop = VirtualLoop()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.ticket = itertools.count()
        self.registers = {0x00: 0x04, 0x04: 0, 0x08: 0, 0x0C: 0}
        self.written: list[tuple[int, int]] = []
        self.taken = self.done = self.stored = 0
        self.free_at = 0.0
        self.results: list[np.ndarray] = []
        self.channels = {side: Registers(self, side) for side in ("send", "receive")}

    # time

    def after(self, delay: float, action: Callable[[], None]) -> None:
        when = self.loop.time() + delay
        heapq.heappush(self.events, (when, next(self.ticket), action))
        self.loop.call_at(when, self.run)

    def run(self) -> None:
        while self.events and self.events[0][0] <= self.loop.time() + 1e-12:
            heapq.heappop(self.events)[2]()

    def spend(self, seconds: float) -> None:
        """A register access of the CPU takes time: what lets a program that polls get on."""
        self.loop.now += seconds
        self.run()

    # the accelerator

    def read(self, offset: int) -> int:
        self.spend(0.2 * US)
        value = self.registers[offset]
        if offset == 0x00:
            self.registers[0x00] &= ~0x02
        return value

    def write(self, offset: int, value: int) -> None:
        self.spend(0.2 * US)
        self.written.append((offset, value))
        if offset == 0x00:
            keep = self.registers[0x00] & 0x07
            self.registers[0x00] = keep | (value & 0x81)
            self.load_frame()
        elif offset == 0x0C:
            self.registers[0x0C] ^= value
        else:
            self.registers[offset] = value

    def load_frame(self) -> None:
        """Takes the frame that waits at the input, if the accelerator is started and its first stage free."""
        send = self.channels["send"]
        if send.buffer is None or send.moving or not self.registers[0x00] & 0x01:
            return
        send.moving = True
        now = self.loop.time()
        begin = max(now, self.free_at)
        self.free_at = begin + self.interval
        self.registers[0x00] &= ~0x04
        if not self.registers[0x00] & 0x80:
            self.registers[0x00] &= ~0x01
        frame, self.taken = self.taken, self.taken + 1
        data = np.array(send.buffer.memory[: send.length])
        self.after(begin - now + self.load, lambda: send.complete(frame, send.length))
        if frame != self.faults.hang:
            self.after(begin - now + self.latency, lambda: self.finish(data))

    def finish(self, data: np.ndarray) -> None:
        self.done += 1
        self.registers[0x00] |= 0x02 | (0x04 if self.done == self.taken else 0)
        self.registers[0x0C] |= self.registers[0x08] & 0x01
        self.results.append(self.compute(data))
        self.store_frame()

    def store_frame(self) -> None:
        """Writes the oldest result into the buffer that the receive channel was given."""
        receive = self.channels["receive"]
        if receive.buffer is None or receive.moving or not self.results:
            return
        receive.moving = True
        result, frame = self.results.pop(0), self.stored
        self.stored += 1
        result = result[: self.faults.short.get(frame, len(result))]
        buffer = receive.buffer
        if len(result) > receive.length:
            self.after(self.store, lambda: receive.halt(0x10))
            return

        def stored() -> None:
            buffer.memory[: len(result)] = result
            receive.complete(frame, len(result))

        self.after(self.store, stored)


class Registers:
    """One direction of the DMA."""

    def __init__(self, hardware: Hardware, side: str) -> None:
        self.hardware, self.side = hardware, side
        self.status = 0x0000  # started, no transfer yet: neither halted nor idle
        self.length = 0
        self.count = 0
        self.buffer: Buffer | None = None
        self.moving = False
        self.interrupt = Interrupt(hardware, lambda: bool(self.status & 0x1000))

    def begin(self, buffer: Buffer, length: int) -> None:
        self.buffer, self.length = buffer, length
        self.status &= ~0x02
        frame, self.count = self.count, self.count + 1
        if (self.side, frame) in self.hardware.faults.error:
            bit = self.hardware.faults.error[self.side, frame]
            self.hardware.after(1 * US, lambda: self.halt(bit))
        elif self.side == "send":
            self.hardware.load_frame()
        else:
            self.hardware.store_frame()

    def complete(self, frame: int, length: int) -> None:
        self.buffer, self.moving, self.length = None, False, length
        self.status |= 0x02
        if (self.side, frame) not in self.hardware.faults.silent:
            self.status |= 0x1000
            self.interrupt.rise()
        if self.side == "receive":
            self.hardware.store_frame()

    def halt(self, bit: int) -> None:
        self.status |= 0x01 | bit | 0x4000  # the error interrupt is not enabled by PYNQ's driver
        self.buffer = None


class Interrupt:
    """A line of the interrupt controller, as `pynq.Interrupt`: level-sensitive, heard only while waited for."""

    def __init__(self, hardware: Hardware, high: Callable[[], bool]) -> None:
        self.hardware, self.high = hardware, high
        self.waiters: list[asyncio.Event] = []

    def rise(self) -> None:
        waiters, self.waiters = self.waiters, []
        for event in waiters:
            self.hardware.after(self.hardware.interrupt_delay, event.set)

    async def wait(self) -> None:
        assert asyncio.get_running_loop() is self.hardware.loop, "PYNQ's interrupts live on one loop"
        event = asyncio.Event()
        self.waiters.append(event)
        if self.high():
            self.rise()
        await event.wait()


class Channel:
    """What `pynq.lib.dma` gives for one direction."""

    def __init__(self, registers: Registers) -> None:
        self.registers = registers
        self.transferred = 0
        self.first = True
        self.active: Buffer | None = None

    @property
    def running(self) -> bool:
        return not self.registers.status & 0x01

    @property
    def idle(self) -> bool:
        self.registers.hardware.spend(0.2 * US)
        return bool(self.registers.status & 0x02)

    def transfer(self, array: Buffer, start: int = 0, nbytes: int = 0) -> None:
        if not self.running:
            raise RuntimeError("DMA channel not started")
        if not self.idle and not self.first:
            raise RuntimeError("DMA channel not idle")
        if self.registers.side == "send":
            array.flush()
        self.first, self.active = False, array
        self.registers.begin(array, nbytes or array.nbytes - start)

    def settle(self) -> None:
        assert self.active is not None
        if self.registers.side == "receive":
            self.active.invalidate()
        self.transferred, self.active = self.registers.length, None

    def wait(self) -> None:
        while not self.idle:
            pass
        self.settle()

    async def wait_async(self) -> None:
        if not self.running:
            raise RuntimeError("DMA channel not started")
        while not self.idle:
            await self.registers.interrupt.wait()
        self.registers.status &= ~0x1000
        self.settle()


class Dma:
    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        self.sendchannel = Channel(hardware.channels["send"])
        self.recvchannel = Channel(hardware.channels["receive"])
        self.mm2s_introut: Any = hardware.channels["send"].interrupt
        self.s2mm_introut: Any = hardware.channels["receive"].interrupt
        self.buffer_max_size = (1 << 26) - 1

    def read(self, offset: int) -> int:
        self.hardware.spend(0.2 * US)
        return self.hardware.channels["send" if offset == 0x04 else "receive"].status

    def write(self, offset: int, value: int) -> None:
        self.hardware.channels["send" if offset == 0x04 else "receive"].status &= ~(value & 0x1000)


class Overlay:
    def __init__(self, hardware: Hardware) -> None:
        self.accelerator = hardware
        self.dma = Dma(hardware)
        self.ip_dict = {"accelerator": {}, "dma": {}, "interrupts": {}}


def allocate(shape: tuple[int, ...], dtype: Any) -> Buffer:
    buffer = np.full(shape, 0xAA, dtype).view(Buffer)
    buffer.memory = np.full(shape, 0x55, dtype)
    return buffer


# ---- a network: 12 numbers in, 3 out ----------------------------------------------------------------------

IN = Port("x", (3, 2, 2), step_exponent=-4, low=-127, high=127, container_bits=8)
OUT = Port("scores", (3,), step_exponent=-6, low=-(2**15), high=2**15 - 1, container_bits=32)
WEIGHTS = np.random.default_rng(7).integers(-9, 10, (3, 12))
LATENCY, INTERVAL = 450 * US, 100 * US


def compute(data: np.ndarray) -> np.ndarray:
    return (WEIGHTS @ data.view(np.int8).astype(np.int64)).astype("<i4").view(np.uint8)


def expected(x: np.ndarray) -> np.ndarray:
    q = np.clip(np.rint(x.reshape(len(x), -1) * 16), -127, 127)
    return (q @ WEIGHTS.T / 64).astype(np.float32)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(0, 3, (count, 3, 2, 2)).astype(np.float32)


@dataclass
class Bench:
    """An accelerator on its hardware."""

    hardware: Hardware
    overlay: Overlay
    net: Accelerator

    def took(self, work: Callable[[], Any]) -> tuple[Any, float]:
        begin = self.hardware.loop.now
        result = work()
        return result, self.hardware.loop.now - begin
