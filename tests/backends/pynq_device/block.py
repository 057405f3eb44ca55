"""The HLS block: the control registers of ap_ctrl_hs over AXI-Lite, and a pipeline of frames.

It takes a frame an interval and puts its result out a latency later. Registers (UG1399, "AXI4-Lite control register"):
0x00 control (bit 0 start, 1 done, cleared on read, 2 idle, 7 auto-restart), 0x04 global interrupt enable, 0x08
interrupt enable, 0x0C interrupt status, in which ones toggle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynq_device.board import Board

START, DONE, IDLE, AUTO_RESTART = 0x01, 0x02, 0x04, 0x80


@dataclass(frozen=True)
class Timing:
    """Seconds: of a frame in all, between two, in which the input of one enters, in which a result leaves."""

    latency: float
    interval: float
    load: float
    store: float


class Block:
    """compute: the bytes of an input frame to those of its result."""

    def __init__(self, board: Board, timing: Timing, compute: Callable[[bytes], bytes]) -> None:
        self.board, self.timing, self.compute = board, timing, compute
        self.control, self.enabled, self.mask, self.status = IDLE, 0, 0, 0
        self.free_at = 0.0
        self.taken = self.done = 0
        self.most_in_flight = 0

    @property
    def interrupt(self) -> bool:
        return bool(self.enabled & 1 and self.status & self.mask)

    def read(self, offset: int) -> int:
        value = {0x00: self.control, 0x04: self.enabled, 0x08: self.mask, 0x0C: self.status}[offset]
        if offset == 0x00:
            self.control &= ~DONE
        return value

    def write(self, offset: int, value: int) -> None:
        if offset == 0x00:
            self.control = self.control & (DONE | IDLE) | value & (START | AUTO_RESTART)
            self.take()
        elif offset == 0x04:
            self.enabled = value & 1
        elif offset == 0x08:
            self.mask = value & 3
        elif offset == 0x0C:
            self.status ^= value & 3

    def take(self) -> None:
        """Takes the frame that the DMA offers, as soon as the first stage is free."""
        send = self.board.dma.send
        if not send.offering or not self.control & START:
            return
        now = self.board.loop.time()
        begin = max(now, self.free_at)
        self.free_at = begin + self.timing.interval
        frame, self.taken = self.taken, self.taken + 1
        self.most_in_flight = max(self.most_in_flight, self.taken - self.done)
        self.control &= ~IDLE if self.control & AUTO_RESTART else ~(IDLE | START)
        data = send.begin()
        self.board.at(begin + self.timing.load, lambda: send.complete(len(data)))
        self.board.at(begin + self.timing.latency, lambda: self.finish(frame, data))

    def finish(self, frame: int, data: bytes) -> None:
        self.done += 1
        self.control |= DONE | (IDLE if self.done == self.taken else 0)
        self.status |= 1 & self.mask
        result = self.compute(data)
        self.board.dma.receive.arrive(result[: self.board.faults.short.get(frame, len(result))])
