"""The AXI DMA in direct mode (PG021), of which a send and a receive channel are used.

Registers of a channel, at 0x00 for MM2S and at 0x30 for S2MM: 0x00 control (bit 0 run, 12 interrupt on completion, 14
on error), 0x04 status (bit 0 halted, 1 idle, 4 to 6 errors, 12 and 14 interrupts, cleared by ones), 0x18 and 0x1C
address, 0x28 length: written to start, read as the bytes that were moved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynq_device.board import Board

RUN, HALTED, IDLE, INTERNAL_ERROR, COMPLETED, FAILED = 0x0001, 0x0001, 0x0002, 0x0010, 0x1000, 0x4000


class Channel(ABC):
    """What both directions share; `side` is "send" or "receive"."""

    def __init__(self, board: Board, side: str) -> None:
        self.board, self.side = board, side
        self.control, self.status, self.address, self.length = 0, HALTED, 0, 0
        self.started = self.finished = 0  # transfers
        self.times: list[float] = []  # when each was complete
        self.busy = False

    @property
    def interrupt(self) -> bool:
        silent = (self.side, self.finished - 1) in self.board.faults.silent
        return bool(self.status & self.control & (COMPLETED | FAILED)) and not silent

    def read(self, offset: int) -> int:
        return {0x00: self.control, 0x04: self.status, 0x28: self.length}[offset]

    def write(self, offset: int, value: int) -> None:
        if offset == 0x00:
            self.control = value
            self.status = self.status & ~HALTED if value & RUN else self.status | HALTED
        elif offset == 0x04:
            self.status &= ~(value & (COMPLETED | FAILED))
        elif offset == 0x18:
            self.address = self.address & ~0xFFFFFFFF | value
        elif offset == 0x1C:
            self.address = self.address & 0xFFFFFFFF | value << 32
        elif offset == 0x28 and not self.status & HALTED:
            assert not self.busy, "a transfer was started while another is under way"
            self.length, self.busy = value, True
            self.status &= ~IDLE
            self.started += 1
            fault = self.board.faults.error.get((self.side, self.started - 1))
            if fault is not None:
                self.busy = False  # nothing moves
                self.board.at(self.board.loop.time() + 1e-6, lambda: self.halt(fault))
            else:
                self.start()

    @abstractmethod
    def start(self) -> None:
        """Begin the transfer of `length` bytes."""

    def complete(self, moved: int) -> None:
        self.length, self.busy = moved, False
        self.finished += 1
        self.times.append(self.board.loop.time())
        self.status |= IDLE | COMPLETED
        self.board.interrupts.look()

    def halt(self, error: int) -> None:
        self.status |= HALTED | FAILED | error
        self.control &= ~RUN
        self.board.interrupts.look()


class Send(Channel):
    """Memory to stream."""

    offering = False

    def start(self) -> None:
        self.offering = True
        self.board.block.take()

    def begin(self) -> bytes:
        self.offering = False
        return self.board.memory.read(self.address, self.length)


class Receive(Channel):
    """Stream to memory: a packet, which ends with TLAST, into one buffer."""

    def __init__(self, board: Board, side: str) -> None:
        super().__init__(board, side)
        self.packets: list[tuple[float, bytes]] = []  # when the first beat of each was there, and the whole of it

    def arrive(self, packet: bytes) -> None:
        """The last beat of a packet would be here now, had nothing stood in its way."""
        self.packets.append((self.board.loop.time() - self.board.block.timing.store, packet))
        if self.busy:
            self.start()

    def start(self) -> None:
        if not self.packets:
            return
        begin, packet = self.packets.pop(0)
        now = self.board.loop.time()
        end = max(now, max(begin, self.times[-1] if self.times else 0.0) + self.board.block.timing.store)
        self.board.at(end, lambda: self.put(packet))

    def put(self, packet: bytes) -> None:
        if len(packet) > self.length:
            self.halt(INTERNAL_ERROR)
            return
        self.board.memory.write(self.address, packet)
        self.complete(len(packet))


class Dma:
    def __init__(self, board: Board) -> None:
        self.send, self.receive = Send(board, "send"), Receive(board, "receive")

    def read(self, offset: int) -> int:
        return self.receive.read(offset - 0x30) if offset >= 0x30 else self.send.read(offset)

    def write(self, offset: int, value: int) -> None:
        if offset >= 0x30:
            self.receive.write(offset - 0x30, value)
        else:
            self.send.write(offset, value)
