"""The board's driver against a small stand-in for PYNQ, in virtual time.

The stand-in has the registers of an AXI DMA in simple mode and of an HLS block, memory that the CPU sees
through a cache (a missing flush or invalidate gives wrong numbers), and an accelerator that is a numpy function
with a latency and an interval. The DMA channel behaves as the one of PYNQ 4.0: no error is noticed by its
wait_async, and only the completion interrupt is enabled. Time is the event loop's own, and passes only when
nothing is left to do: a test that waits five seconds for a timeout takes none.
"""

from __future__ import annotations

import ast
import asyncio
import heapq
import itertools
import json
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pynq_device.clock import VirtualLoop

from bitwright.backends.hls.driver import accelerator as driver
from bitwright.backends.hls.driver.accelerator import Accelerator, AcceleratorError
from bitwright.backends.hls.settings import Port, network_json
from bitwright.ir.errors import InternalError

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


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    """Builds a bench; the network and the hardware's function can be others."""
    monkeypatch.setitem(sys.modules, "pynq", types.SimpleNamespace(allocate=allocate, Overlay=None))
    made: list[Accelerator] = []

    def build(
        input: Port = IN,
        output: Port = OUT,
        function: Callable[[np.ndarray], np.ndarray] = compute,
        change: Callable[[Overlay], None] = lambda overlay: None,
        **options: Any,
    ) -> Bench:
        hardware = Hardware(function, LATENCY, INTERVAL)
        overlay = Overlay(hardware)
        change(overlay)
        network = json.loads(network_json(name="tiny", input=input, output=output))
        net = Accelerator(network=network, overlay=overlay, loop=hardware.loop, **options)
        made.append(net)
        return Bench(hardware, overlay, net)

    yield build
    for net in made:
        net.close()


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


# ---- results and time -------------------------------------------------------------------------------------


def test_200_frames_come_back_in_order_and_equal(bench: Bench) -> None:
    x = images(200)
    np.testing.assert_array_equal(bench.net.predict(x), expected(x))
    np.testing.assert_array_equal(bench.net.predict_naive(x), expected(x))
    np.testing.assert_array_equal(bench.net.predict(x[:7]), expected(x[:7]))


def test_overlapped_frames_cost_an_interval_and_naive_ones_a_latency(bench: Bench) -> None:
    x = images(200)
    _, overlapped = bench.took(lambda: bench.net.predict(x))
    assert LATENCY + 199 * INTERVAL <= overlapped < LATENCY + 199 * INTERVAL + 100 * US
    _, naive = bench.took(lambda: bench.net.predict_naive(x))
    assert 200 * LATENCY <= naive < 200 * (LATENCY + 10 * US)
    assert naive / overlapped > 4


def test_a_frame_is_sent_before_the_result_of_the_one_before_it(bench: Bench) -> None:
    """Figure 12 of the paper: input goes in while earlier frames are computed."""
    done_when_taken = []
    load = bench.hardware.load_frame

    def watched() -> None:
        before = bench.hardware.taken
        load()
        if bench.hardware.taken > before:
            done_when_taken.append(bench.hardware.done)

    bench.hardware.load_frame = watched  # type: ignore[method-assign]
    bench.net.predict(images(10))
    assert done_when_taken == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]  # five frames in the pipeline, as 450 / 100 says
    done_when_taken.clear()
    bench.net.predict_naive(images(3))
    assert done_when_taken == [10, 11, 12]


def test_more_buffers_change_nothing_of_the_results(make: Callable[..., Bench]) -> None:
    x = images(30)
    np.testing.assert_array_equal(make(buffers=5).net.predict(x), expected(x))


def test_an_empty_batch_and_a_single_frame(bench: Bench) -> None:
    assert bench.net.predict(images(3)[:0]).shape == (0, 3)
    x = images(1)
    np.testing.assert_array_equal(bench.net.predict(x), expected(x))


def test_the_control_registers(bench: Bench) -> None:
    bench.net.predict(images(2))
    assert bench.hardware.written == [
        (0x0C, 0x00), (0x08, 0x01), (0x04, 0x01), (0x00, 0x81),  # clear, enable, start with auto-restart
        (0x00, 0x00), (0x04, 0x00),
    ]  # fmt: skip
    bench.hardware.written.clear()
    bench.net.predict_naive(images(2))
    assert bench.hardware.written == [(0x00, 0x01), (0x00, 0x01)]


# ---- asyncio ----------------------------------------------------------------------------------------------


def test_predict_async_works_from_one_loop_after_another(bench: Bench) -> None:
    x = images(20)
    for _ in range(2):  # PYNQ's interrupts stay on the driver's own loop
        np.testing.assert_array_equal(asyncio.run(bench.net.predict_async(x)), expected(x))


def test_predict_async_leaves_the_callers_loop_free_and_takes_turns(bench: Bench) -> None:
    x = images(40)

    async def both() -> list[np.ndarray]:
        return await asyncio.gather(bench.net.predict_async(x[:20]), bench.net.predict_async(x[20:]))

    first, second = asyncio.run(both())
    np.testing.assert_array_equal(np.concatenate([first, second]), expected(x))


async def as_they_come(frames: np.ndarray) -> AsyncIterator[np.ndarray]:
    for frame in frames:
        await asyncio.sleep(0)
        yield frame


@pytest.mark.parametrize("wrap", [iter, as_they_come, list])
def test_a_stream_gives_one_result_a_frame_in_order(bench: Bench, wrap: Callable[[np.ndarray], Any]) -> None:
    x = images(200)

    async def collect() -> list[np.ndarray]:
        return [y async for y in bench.net.stream(wrap(x))]

    np.testing.assert_array_equal(np.stack(asyncio.run(collect())), expected(x))


def test_a_stream_may_be_left_early(bench: Bench) -> None:
    x = images(60)
    taken = []

    def endless() -> Iterator[np.ndarray]:
        for n in itertools.count():
            taken.append(n)
            yield x[n % 60]

    async def first_five() -> list[np.ndarray]:
        found = []
        async for y in bench.net.stream(endless()):
            found.append(y)
            if len(found) == 5:
                break
        return found

    np.testing.assert_array_equal(np.stack(asyncio.run(first_five())), expected(x[:5]))
    assert len(taken) <= 5 + driver.STREAM_AHEAD + 1
    np.testing.assert_array_equal(bench.net.predict(x), expected(x))  # nothing was left in the pipeline


def test_a_source_that_fails_leaves_the_accelerator_usable(bench: Bench) -> None:
    x = images(10)

    def source() -> Iterator[np.ndarray]:
        yield from x[:4]
        raise OSError("the camera is gone")

    async def collect(found: list[np.ndarray]) -> None:
        async for y in bench.net.stream(source()):
            found.append(y)

    found: list[np.ndarray] = []
    with pytest.raises(OSError, match="the camera is gone"):
        asyncio.run(collect(found))
    np.testing.assert_array_equal(np.stack(found), expected(x[:4]))
    np.testing.assert_array_equal(bench.net.predict(x), expected(x))


def test_a_cancelled_prediction_leaves_nothing_behind(bench: Bench) -> None:
    x = images(30)

    async def impatient() -> None:
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(bench.net.predict_async(images(5000)))
        await loop.run_in_executor(None, lambda: wait_for(lambda: bench.hardware.taken > 20))
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(impatient())
    np.testing.assert_array_equal(bench.net.predict(x), expected(x))
    assert bench.hardware.taken < 5000


def wait_for(happened: Callable[[], bool]) -> None:
    while not happened():
        pass


# ---- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["send", "receive"])
@pytest.mark.parametrize(("bit", "name"), [(0x10, "internal"), (0x20, "slave"), (0x40, "decode")])
@pytest.mark.parametrize("way", ["predict", "predict_naive"])
def test_a_dma_error_names_the_frame_and_the_channel(bench: Bench, side: str, bit: int, name: str, way: str) -> None:
    bench.hardware.faults.error[side, 7] = bit
    with pytest.raises(AcceleratorError, match=f"frame 7, {side} channel: DMA {name} error.*status 0x40") as caught:
        getattr(bench.net, way)(images(20))
    assert (caught.value.frame, caught.value.channel) == (7, side)
    assert bench.hardware.loop.now < 0.2  # seen by looking, long before the timeout
    with pytest.raises(AcceleratorError, match=r"cannot be used: a frame was lost .* make a new one"):
        bench.net.predict(images(1))


@pytest.mark.parametrize("side", ["send", "receive"])
def test_a_missed_interrupt(make: Callable[..., Bench], side: str) -> None:
    bench = make(timeout=0.25)
    bench.hardware.faults.silent.add((side, 3))
    with pytest.raises(AcceleratorError, match=f"frame 3, {side} channel: .*no interrupt came within 0.25 s"):
        bench.net.predict(images(20))
    assert 0.25 < bench.hardware.loop.now < 0.26


@pytest.mark.parametrize("way", ["predict", "predict_naive"])
def test_an_accelerator_that_hangs(make: Callable[..., Bench], way: str) -> None:
    bench = make(timeout=0.1)
    bench.hardware.faults.hang = 0
    message = r"frame 0, receive channel: the transfer is not done after 0.1 s; the accelerator has not finished"
    with pytest.raises(AcceleratorError, match=message):
        getattr(bench.net, way)(images(1))


@pytest.mark.parametrize("way", ["predict", "predict_naive"])
def test_a_short_frame(bench: Bench, way: str) -> None:
    bench.hardware.faults.short[5] = 8
    with pytest.raises(AcceleratorError, match="frame 5, receive channel: short frame: 8 bytes came instead of 12"):
        getattr(bench.net, way)(images(20))


def test_a_frame_that_is_too_long(bench: Bench) -> None:
    bench.hardware.compute = lambda data: np.zeros(13, np.uint8)
    with pytest.raises(AcceleratorError, match="frame 0, receive channel: DMA internal error: the stream's packet"):
        bench.net.predict(images(2))


def test_a_fault_in_a_stream_comes_after_the_good_results(bench: Bench) -> None:
    bench.hardware.faults.error["receive", 6] = 0x20
    x, found = images(20), []

    async def collect() -> None:
        async for y in bench.net.stream(iter(x)):
            found.append(y)

    with pytest.raises(AcceleratorError, match="frame 6, receive channel: DMA slave error"):
        asyncio.run(collect())
    np.testing.assert_array_equal(np.stack(found), expected(x[:6]))


@pytest.mark.parametrize(("pin", "side"), [("mm2s_introut", "send"), ("s2mm_introut", "receive")])
def test_a_bitstream_without_interrupts_can_only_be_polled(make: Callable[..., Bench], pin: str, side: str) -> None:
    bench = make(change=lambda overlay: setattr(overlay.dma, pin, None))
    x = images(3)
    with pytest.raises(AcceleratorError, match=f"no interrupt dma/{pin} for the {side} channel.*predict_naive"):
        bench.net.predict(x)
    np.testing.assert_array_equal(bench.net.predict_naive(x), expected(x))


def test_a_bitstream_of_something_else(make: Callable[..., Bench]) -> None:
    def other(overlay: Overlay) -> None:
        del overlay.dma

    with pytest.raises(AcceleratorError, match="no block 'dma'; it has accelerator, dma, interrupts"):
        make(change=other)


def test_a_frame_larger_than_the_dma_takes(make: Callable[..., Bench]) -> None:
    with pytest.raises(AcceleratorError, match="a frame of 'x' has 12 bytes, the DMA takes 8"):
        make(change=lambda overlay: setattr(overlay.dma, "buffer_max_size", 8))


# ---- numbers ----------------------------------------------------------------------------------------------


def port(**changes: Any) -> driver.Port:
    settings: dict[str, Any] = {"name": "p", "shape": (4,), "low": -8, "high": 7, "container_bits": 8, **changes}
    return driver.Port(Port(**settings).entry(), "p")


def test_rounding_is_half_to_even_and_saturates() -> None:
    halves = port(shape=(9,), step_exponent=-1)
    x = np.array([[0.25, 0.75, 1.25, -0.25, -0.75, 100, -100, 3.74, 3.76]])
    assert halves.quantise(x).tolist() == [[0, 2, 2, 0, -2, 7, -8, 7, 7]]
    eights = port(shape=(3,), step_exponent=3)
    assert eights.quantise(np.array([[4, 12, 20.001]])).tolist() == [[0, 2, 3]]
    unsigned = port(shape=(3,), low=0, high=255)
    assert unsigned.quantise(np.array([[-3, 200.5, 300]])).tolist() == [[0, 200, 255]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_and_do_no_harm(bench: Bench, bad: float) -> None:
    x = images(9)
    x[4, 1, 0, 1] = bad
    for way in (bench.net.predict, bench.net.predict_naive):
        with pytest.raises(ValueError, match="frame 4 of the input 'x' holds NaN or infinity"):
            way(x)

    async def collect() -> list[np.ndarray]:
        return [y async for y in bench.net.stream(iter(x))]

    with pytest.raises(ValueError, match="frame 4 of the input 'x' holds NaN or infinity"):
        asyncio.run(collect())
    np.testing.assert_array_equal(bench.net.predict(x[:4]), expected(x[:4]))


@pytest.mark.parametrize("shape", [(3, 2, 2), (5, 12), (5, 2, 2, 3)])
def test_a_wrong_shape_is_named(bench: Bench, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the input 'x' takes \('n', 3, 2, 2\), not \(") as caught:
        bench.net.predict(np.zeros(shape))
    assert ("x[None]" in str(caught.value)) == (shape == (3, 2, 2))


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("signed", [True, False])
def test_every_container_packs_and_unpacks_little_endian(bits: int, signed: bool) -> None:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    low, high = max(low, -(2**40)), min(high, 2**40)
    p = port(shape=(3,), low=low, high=high, container_bits=bits, step_exponent=0)
    x = np.array([[low, high, 1]], dtype=np.float64)
    raw = p.pack(x)
    assert raw.tobytes() == b"".join(v.to_bytes(bits // 8, "little", signed=signed) for v in (low, high, 1))
    values = p.unpack(raw)
    np.testing.assert_array_equal(values, x)
    assert values.dtype == (np.float64 if high > 2**24 else np.float32)


def test_axes_go_over_the_stream_in_their_order_and_beats_are_padded() -> None:
    p = port(shape=(3, 1, 2), order=(1, 2, 0), beat_bits=32, beat_elements=3)  # pixels of three channels
    x = np.array([[[[1, 2]], [[3, 4]], [[5, 6]]]])
    raw = p.pack(x)
    assert raw.tolist() == [[1, 3, 5, 0, 2, 4, 6, 0]]
    np.testing.assert_array_equal(p.unpack(raw), x)
    ragged = port(shape=(5,), beat_bits=32, beat_elements=3)
    assert ragged.pack(np.array([[1, 2, 3, 4, 5]])).tolist() == [[1, 2, 3, 0, 4, 5, 0, 0]]
    np.testing.assert_array_equal(ragged.unpack(ragged.pack(np.array([[1, 2, 3, 4, 5]]))), [[1, 2, 3, 4, 5]])


def test_padding_does_not_come_back() -> None:
    p = port(shape=(2,), beat_bits=32, beat_elements=2, step_exponent=-2)
    np.testing.assert_array_equal(p.unpack(np.array([[4, 0xFC, 99, 99]], np.uint8)), [[1.0, -1.0]])


def test_float_streams_carry_the_values_themselves(make: Callable[..., Bench]) -> None:
    floats = Port("x", (4,), kind="float32")
    bench = make(floats, floats, lambda data: (data.view("<f4") * 2).view(np.uint8))
    x = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_array_equal(bench.net.predict(x), x * 2)


# ---- network.json and the file itself ---------------------------------------------------------------------


def test_network_json_reads_back(tmp_path: Path) -> None:
    text = network_json(name="tiny", input=IN, output=OUT)
    assert text.splitlines() == [
        "{",
        '  "version": 1,',
        '  "name": "tiny",',
        '  "bitstream": "tiny.bit",',
        '  "input": {"name": "x", "kind": "integer", "shape": [3, 2, 2], "order": [0, 1, 2],'
        ' "step_exponent": -4, "range": [-127, 127], "container_bits": 8, "signed": true, "beat_bits": 8,'
        ' "beat_elements": 1},',
        '  "output": {"name": "scores", "kind": "integer", "shape": [3], "order": [0], "step_exponent": -6,'
        ' "range": [-32768, 32767], "container_bits": 32, "signed": true, "beat_bits": 32, "beat_elements": 1},',
        '  "ip": {"accelerator": "accelerator", "dma": "dma"}',
        "}",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n.pop("bitstream"), "network.json: the key 'bitstream' is missing"),
        (lambda n: n.update(version=2), "network.json: not a network of version 1"),
        (lambda n: n["ip"].pop("dma"), "network.json, ip: the key 'dma' is missing"),
        (lambda n: n["input"].pop("range"), "network.json, input: the key 'range' is missing"),
        (lambda n: n["input"].update(container_bits=12), "input: 'container_bits' must be 8, 16, 32 or 64, not 12"),
        (lambda n: n["input"].update(range=[-129, 5]), r"input: 'range' must be two integers within -128 .. 127"),
        (lambda n: n["output"].update(shape=[3, 0]), r"output: 'shape' must be a list of sizes, not \[3, 0\]"),
        (lambda n: n["output"].update(order=[1]), r"output: 'order' must be a permutation of \[0\]"),
        (lambda n: n["output"].update(beat_elements=2), "output: 'beat_elements' must be 1 to 1, not 2"),
        (lambda n: n["output"].update(step_exponent=0.5), "output: 'step_exponent' must be an integer"),
    ],
)
def test_a_damaged_network_is_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    network = json.loads(network_json(name="tiny", input=IN, output=OUT))
    change(network)
    path = tmp_path / "network.json"
    path.write_text(json.dumps(network))
    with pytest.raises(ValueError, match=message):
        Accelerator(network=path)


def test_files_that_are_missing_or_no_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynq", types.SimpleNamespace(allocate=allocate, Overlay=None))
    path = tmp_path / "network.json"
    with pytest.raises(FileNotFoundError):
        Accelerator(network=path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"network\.json: not a JSON file"):
        Accelerator(network=path)
    path.write_text(network_json(name="tiny", input=IN, output=OUT))
    with pytest.raises(FileNotFoundError, match=r"no bitstream .*tiny\.bit: copy bitstream"):
        Accelerator(network=path)


def test_the_bitstream_is_loaded_from_beside_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    hardware = Hardware(compute, LATENCY, INTERVAL)

    def load(path: str) -> Overlay:
        loaded.append(path)
        return Overlay(hardware)

    monkeypatch.setitem(sys.modules, "pynq", types.SimpleNamespace(allocate=allocate, Overlay=load))
    (tmp_path / "network.json").write_text(network_json(name="tiny", input=IN, output=OUT))
    (tmp_path / "tiny.bit").write_bytes(b"")
    net = Accelerator(network=tmp_path / "network.json", loop=hardware.loop)
    assert loaded == [str(tmp_path / "tiny.bit")]
    net.close()
    with pytest.raises(AcceleratorError, match="this accelerator is closed"):
        net.predict(images(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 5, "high": 5}, "the range 5 .. 5 is empty"),
        ({"high": 128}, "wider than 8 bits"),
        ({"container_bits": 12}, "container_bits is 12"),
        ({"beat_bits": 24, "beat_elements": 3}, "the stream has 24 bits"),
        ({"beat_bits": 16, "beat_elements": 3}, "a beat is narrower than its elements"),
        ({"order": (1,)}, "no permutation"),
        ({"kind": "float32"}, "float32 needs 32 bits"),
    ],
)
def test_a_port_that_cannot_be_is_our_fault(changes: dict[str, Any], message: str) -> None:
    wrong = Port(**{"name": "p", "shape": (4,), "low": -8, "high": 7, "container_bits": 8, **changes})
    with pytest.raises(InternalError, match=message):
        network_json(name="n", input=wrong, output=OUT)


def test_the_driver_runs_on_old_board_images() -> None:
    """PYNQ 2.7 has Python 3.8; nothing but numpy, pynq and the standard library is there."""
    source = Path(driver.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported - sys.stdlib_module_names == {"numpy"}
    assert 'import_module("pynq")' in source
