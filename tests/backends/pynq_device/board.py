"""The board: the blocks of scripts/block_design.tcl at their addresses, as a pynq.Device and what Overlay makes of it.

MMIO, DefaultIP, Interrupt, UioController, allocate and pynq.lib.dma are PYNQ's own and see registers, memory and a file
only. An access of the CPU to a register takes time, which lets a program that polls get on.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pynq
from pynq.interrupt import _InterruptController
from pynq.lib.dma import DMA
from pynq.overlay import DefaultIP, _IPMap
from pynq.uio import UioController

from pynq_device.block import Block, Timing
from pynq_device.clock import VirtualLoop
from pynq_device.dma import Dma
from pynq_device.interrupts import Controller
from pynq_device.memory import Memory

IRQ = 61  # of the first line from the logic to the processor
ADDRESSES = {"accelerator": 0x4000_0000, "dma": 0x4040_0000, "interrupts": 0x4180_0000}
SIZE = 0x10000
PINS = ("accelerator/interrupt", "dma/mm2s_introut", "dma/s2mm_introut")
PARAMETERS = {
    "c_include_sg": "0",
    "c_sg_length_width": "26",
    "c_include_mm2s": "1",
    "c_m_axi_mm2s_data_width": "64",
    "c_include_s2mm": "1",
    "c_m_axi_s2mm_data_width": "64",
}


@dataclass
class Faults:
    """What goes wrong, at which frame."""

    error: dict[tuple[str, int], int] = field(default_factory=dict)  # side and frame: a bit of the DMA's status
    silent: set[tuple[str, int]] = field(default_factory=set)  # the line to the controller stays low
    short: dict[int, int] = field(default_factory=dict)  # bytes after which TLAST comes too early


class Board:
    """access: seconds of a register's read or write; interrupt_delay: from a line's rise to the reader's wake-up."""

    def __init__(
        self, timing: Timing, compute: Callable[[bytes], bytes], access: float, interrupt_delay: float
    ) -> None:
        self.loop = VirtualLoop()
        self.access, self.interrupt_delay = access, interrupt_delay
        self.events: list[tuple[float, int, Callable[[], object]]] = []
        self.ticket = itertools.count()
        self.faults = Faults()
        self.memory = Memory()
        self.block = Block(self, timing, compute)
        self.dma = Dma(self)
        lines = [lambda: self.block.interrupt, lambda: self.dma.send.interrupt, lambda: self.dma.receive.interrupt]
        self.interrupts = Controller(self, lines)
        self.at_address = {
            ADDRESSES["accelerator"]: self.block,
            ADDRESSES["dma"]: self.dma,
            ADDRESSES["interrupts"]: self.interrupts,
        }

    def at(self, when: float, action: Callable[[], object]) -> None:
        heapq.heappush(self.events, (when, next(self.ticket), action))
        self.loop.call_at(when, self.run)

    def run(self) -> None:
        while self.events and self.events[0][0] <= self.loop.time() + 1e-12:
            heapq.heappop(self.events)[2]()

    def spend(self) -> None:
        self.loop.now += self.access
        self.run()


class Device(pynq.Device):
    """The board as PYNQ's active device, its registers behind REGISTER_RW."""

    def __init__(self, board: Board) -> None:
        super().__init__(f"board {id(board)}")
        self.board = board
        self.capabilities = {"REGISTER_RW": True}
        self.timestamp = self.tag  # another bitstream as far as PYNQ's interrupts are concerned
        pins = {pin: {"controller": "interrupts", "index": n, "fullpath": pin} for n, pin in enumerate(PINS)}
        self.interrupt_pins = pins
        self.interrupt_controllers = {"interrupts": {"parent": "", "index": 0, "raw_irq": IRQ}}
        self.ip_dict = {
            name: {
                "fullpath": name,
                "phys_addr": address,
                "addr_range": SIZE,
                "parameters": PARAMETERS if name == "dma" else {},
                "interrupts": {pin.split("/")[1]: entry for pin, entry in pins.items() if pin.startswith(name + "/")},
                "driver": DMA if name == "dma" else DefaultIP,
                "device": self,
            }
            for name, address in ADDRESSES.items()
        }
        pynq.Device.active_device = self
        board.loop.call_soon(self.register_uio)

    def register_uio(self) -> None:
        """What PYNQ finds by /proc/interrupts and opens on a board."""
        _InterruptController._uio_devices[IRQ] = UioController(self.board.interrupts.kernel.device.detach())

    def overlay(self) -> Any:
        """What a loaded Overlay is: a map from names to drivers, which are made when they are first asked for."""
        nothing: dict[str, Any] = {}
        return _IPMap(
            {"ip": self.ip_dict, "hierarchies": nothing, "interrupts": nothing, "gpio": nothing, "memories": nothing}
        )

    def read_registers(self, address: int, length: int) -> bytes:
        self.board.spend()
        return self.board.at_address[address & ~(SIZE - 1)].read(address % SIZE).to_bytes(length, "little")

    def write_registers(self, address: int, data: bytes) -> None:
        self.board.spend()
        self.board.at_address[address & ~(SIZE - 1)].write(address % SIZE, int.from_bytes(data, "little"))
        self.board.interrupts.look()

    def allocate(self, shape: tuple[int, ...], dtype: Any, **_: Any) -> Any:
        return self.board.memory.allocate(self, shape, dtype)

    def flush(self, bo: int, offset: int, _address: int, size: int) -> None:
        self.board.memory.flush(bo + offset, size)

    def invalidate(self, bo: int, offset: int, _address: int, size: int) -> None:
        self.board.memory.invalidate(bo + offset, size)
