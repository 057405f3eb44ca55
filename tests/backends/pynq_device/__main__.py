"""Runs the driver of an output folder on the board and prints what happened, scenario by scenario, as JSON.

    python -m pynq_device FOLDER LIBRARY

FOLDER holds driver/, frames.npz (x, and y as it must come out) and timing.json (latency, interval, load and store in
cycles of 10 ns); LIBRARY is its compiled C++. Software and interrupts take next to no time unless a scenario says so: a
register's access a cycle.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pynq_device.block import Timing
from pynq_device.board import Board, Device
from pynq_device.network import Network

CYCLE = 10e-9
TIMEOUT = 0.25


class Bench:
    """A fresh board with the driver on it, and frames with the results that must come."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.network = json.loads((folder / "driver" / "network.json").read_text())
        self.compute = Network(library, self.network)
        self.timing = Timing(**{k: v * CYCLE for k, v in json.loads((folder / "timing.json").read_text()).items()})
        with np.load(folder / "frames.npz") as frames:
            self.x, self.y = frames["x"], frames["y"]
        sys.path.insert(0, str(folder / "driver"))
        self.driver = importlib.import_module("accelerator")

    def board(self, access: float = CYCLE, interrupt_delay: float = CYCLE) -> tuple[Board, Device, Any]:
        board = Board(self.timing, self.compute, access, interrupt_delay)
        device = Device(board)
        net = self.driver.Accelerator(network=self.network, overlay=device.overlay(), loop=board.loop, timeout=TIMEOUT)
        return board, device, net

    def run(self, way: str, prepare: Callable[[Board], None] = lambda board: None, **costs: float) -> dict[str, Any]:
        """One batch: whether it is right, and its time in cycles."""
        board, _, net = self.board(**costs)
        prepare(board)
        found: dict[str, Any] = {}
        try:
            equal = getattr(net, way)(self.x) == self.y
            found["equal"] = int(equal.reshape(len(equal), -1).all(1).sum())
        except self.driver.AcceleratorError as error:
            found |= {"error": str(error), "frame": error.frame, "channel": error.channel}
            found["error afterwards"] = said(self.driver.AcceleratorError, lambda: net.predict(self.x[:1]))
        times = board.dma.receive.times
        if len(times) > 1:
            found["interval"] = (times[-1] - times[0]) / (len(times) - 1) / CYCLE
            found["first"] = times[0] / CYCLE
        return found | {"seconds": board.loop.now, "in flight": board.block.most_in_flight}

    def stream(self) -> dict[str, Any]:
        """Frame by frame, and then a batch on the same accelerator."""
        _, _, net = self.board()

        async def collect() -> list[Any]:
            return [y async for y in net.stream(iter(self.x))]

        found = np.stack(asyncio.run(collect()))
        equal = (found == self.y).reshape(len(found), -1).all(1).sum()
        again = (net.predict_naive(self.x[:3]) == self.y[:3]).all()
        net.close()
        return {"equal": int(equal), "again": bool(again)}

    def without(self, cache: str) -> dict[str, Any]:
        """The model's own proof: when a maintenance of the cache does nothing, numbers are wrong."""
        _, device, net = self.board()
        setattr(device, cache, lambda *_: None)
        equal = (net.predict(self.x) == self.y).reshape(len(self.x), -1).all(1).sum()
        return {"equal": int(equal)}


def said(kind: type[Exception], act: Callable[[], Any]) -> str:
    try:
        act()
    except kind as error:
        return str(error)
    return "nothing"


def main(folder: Path, library: Path) -> None:
    bench = Bench(folder, library)
    found: dict[str, Any] = {"pynq": importlib.import_module("pynq").__version__, "stream": bench.stream()}
    for way in ("predict", "predict_naive"):
        found[way] = bench.run(way)
        found[f"{way}, slow software"] = bench.run(way, access=200e-9, interrupt_delay=3e-6)
        for side, bit in (("send", 0x20), ("receive", 0x40)):
            found[f"{way}, {side} error"] = bench.run(way, lambda b, s=side, e=bit: b.faults.error.update({(s, 7): e}))
        found[f"{way}, short"] = bench.run(way, lambda b: b.faults.short.update({5: 4}))
    for side in ("send", "receive"):
        found[f"{side} silent"] = bench.run("predict", lambda b, s=side: b.faults.silent.add((s, 3)))
    for cache in ("flush", "invalidate"):
        found[f"no {cache}"] = bench.without(cache)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
