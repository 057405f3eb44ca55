"""The way of an interrupt to PYNQ: the AXI interrupt controller (PG099) and the kernel's UIO device.

Registers: 0x00 status, 0x04 pending, 0x08 enable, 0x0C acknowledge, 0x10 set and 0x14 clear bits of enable, 0x1C master
enable. Inputs are levels: a line that is still high when it is acknowledged is at once there again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pynq_device.board import Board


class Controller:
    """lines: the inputs, number 0 first."""

    def __init__(self, board: Board, lines: Sequence[Callable[[], bool]]) -> None:
        self.lines = lines
        self.status, self.enable, self.master = 0, 0, 0
        self.kernel = Kernel(board, lambda: bool(self.master == 3 and self.status & self.enable))

    def look(self) -> None:
        """The inputs may have changed."""
        for number, high in enumerate(self.lines):
            self.status |= high() << number
        self.kernel.look()

    def read(self, offset: int) -> int:
        return {0x00: self.status, 0x04: self.status & self.enable, 0x08: self.enable, 0x1C: self.master}[offset]

    def write(self, offset: int, value: int) -> None:
        if offset == 0x08:
            self.enable = value
        elif offset == 0x0C:
            self.status &= ~value
        elif offset == 0x10:
            self.enable |= value
        elif offset == 0x14:
            self.enable &= ~value
        elif offset == 0x1C:
            self.master = value
        self.look()


class Kernel:
    """The kernel's side of /dev/uio: an interrupt makes the device readable, and stays off until 1 is written."""

    def __init__(self, board: Board, high: Callable[[], bool]) -> None:
        self.board, self.high = board, high
        self.armed = False
        self.device, self.own = socket.socketpair()  # PYNQ opens the first
        board.loop.add_reader(self.own, self.written)

    def written(self) -> None:
        self.armed = self.own.recv(4) == b"\0\0\0\1"  # as PYNQ writes it: anything but 0 is "on"
        self.look()

    def look(self) -> None:
        if self.armed and self.high():
            self.armed = False
            self.board.at(self.board.loop.time() + self.board.interrupt_delay, lambda: self.own.send(b"\1\0\0\0"))
