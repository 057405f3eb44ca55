"""Runs a compiled network on a PYNQ board. Needs numpy and pynq only; copied unchanged into every output folder.

    from accelerator import Accelerator

    net = Accelerator()                    # network.json beside this file names the bitstream
    scores = net.predict(images)           # a batch, first axis; blocks
    scores = await net.predict_async(images)
    async for y in net.stream(camera()):   # one frame at a time, for as long as frames come
        ...

`predict`, `predict_async` and `stream` overlap: frame n+1 is sent as soon as the interrupt says that frame n
has gone in, without waiting for the result of frame n, so that every stage of the accelerator is at work on a
frame of its own. `predict_naive` sends a frame and waits for its result before it touches the next.

Interrupts are awaited on one event loop in a thread of its own: PYNQ ties its interrupt objects to the loop
that first used them, so a notebook's loop, or a new one for each asyncio.run, would not do.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import json
import math
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# The HLS block's registers (ap_ctrl_hs over AXI-Lite).
CONTROL, GLOBAL_INTERRUPT, INTERRUPT_ENABLE, INTERRUPT_STATUS = 0x00, 0x04, 0x08, 0x0C
START, DONE, IDLE, AUTO_RESTART = 0x01, 0x02, 0x04, 0x80
# The AXI DMA's status register of each direction, and its bits.
DMA_STATUS = {"send": 0x04, "receive": 0x34}
DMA_HALTED, DMA_IDLE, DMA_INTERRUPT = 0x01, 0x02, 0x1000
DMA_ERRORS = {
    0x10: "internal error: the stream's packet is longer than the buffer, or the length is 0",
    0x20: "slave error: the memory did not answer",
    0x40: "decode error: no memory at that address",
}
DMA_INTERRUPTS = {"send": "mm2s_introut", "receive": "s2mm_introut"}

POLL_S = 0.05  # a DMA error raises no interrupt under PYNQ's driver: the status is looked at this often
STREAM_AHEAD = 64  # frames that `stream` takes before the caller has taken the results of earlier ones
END = object()


class AcceleratorError(RuntimeError):
    """The hardware did not do what it should; `frame` and `channel` ("send" or "receive") say where."""

    def __init__(self, message: str, frame: int | None = None, channel: str | None = None) -> None:
        where = "" if frame is None else f"frame {frame}, {channel} channel: "
        super().__init__(where + message)
        self.frame = frame
        self.channel = channel


class Port:
    """One side of the accelerator: how an array of numbers becomes the bytes of a frame, and back."""

    def __init__(self, entry: dict[str, Any], where: str) -> None:
        def take(key: str, good: Callable[[Any], bool], wanted: str) -> Any:
            if key not in entry:
                raise ValueError(f"{where}: the key {key!r} is missing")
            if not good(entry[key]):
                raise ValueError(f"{where}: {key!r} must be {wanted}, not {entry[key]!r}")
            return entry[key]

        self.name: str = take("name", lambda v: isinstance(v, str), "a string")
        self.kind: str = take("kind", lambda v: v in ("integer", "sign", "float32"), '"integer", "sign" or "float32"')
        self.shape = tuple(take("shape", lambda v: _integers(v) and min(v, default=1) > 0, "a list of sizes"))
        axes = list(range(len(self.shape)))
        order = take("order", lambda v: _integers(v) and sorted(v) == axes, f"a permutation of {axes}")
        self.exponent: int = take("step_exponent", _integer, "an integer")
        bits = take("container_bits", lambda v: v in (8, 16, 32, 64), "8, 16, 32 or 64")
        signed = take("signed", lambda v: isinstance(v, bool), "true or false")
        limits = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        self.low, self.high = take(
            "range",
            lambda v: _integers(v) and len(v) == 2 and limits[0] <= v[0] <= v[1] <= limits[1],
            f"two integers within {limits[0]} .. {limits[1]}",
        )
        beat = take("beat_bits", lambda v: _integer(v) and v >= bits and v % bits == 0, f"a multiple of {bits}")
        self.per_beat: int = take(
            "beat_elements", lambda v: _integer(v) and 1 <= v <= beat // bits, f"1 to {beat // bits}"
        )
        self.lanes: int = beat // bits
        self.dtype = np.dtype("<f4" if self.kind == "float32" else f"<{'i' if signed else 'u'}{bits // 8}")
        self.size = math.prod(self.shape)
        self.beats = -(-self.size // self.per_beat)
        self.frame_bytes = self.beats * beat // 8
        self._to_stream = (0, *(axis + 1 for axis in order))
        self._stream_shape = tuple(self.shape[axis] for axis in order)
        self._from_stream = (0, *(order.index(axis) + 1 for axis in axes))
        # float32 holds integers up to 2^24 exactly, and a power of two scales them without rounding
        wide = self.kind != "float32" and max(-self.low, self.high) > 1 << 24
        self.value_dtype = np.dtype(np.float64 if wide else np.float32)

    def quantise(self, frames: Any, first: int = 0) -> Any:
        """Frames as the integers that go in: rounded half to even in steps, saturated, or as signs; NaN is refused."""
        x = np.asarray(frames)
        if x.shape[1:] != self.shape:
            hint = "; a single frame needs a batch axis in front, x[None]" if x.shape == self.shape else ""
            raise ValueError(f"the input {self.name!r} takes {('n', *self.shape)}, not {x.shape}{hint}")
        values = x.astype(np.float64)
        finite = np.isfinite(values).reshape(len(x), self.size).all(axis=1)
        if not finite.all():
            frame = first + int(np.argmin(finite))
            raise ValueError(f"frame {frame} of the input {self.name!r} holds NaN or infinity")
        if self.kind == "float32":
            return values.astype(self.dtype)
        if self.kind == "sign":
            return np.where(values >= 0, self.high, self.low).astype(self.dtype)
        steps = np.rint(np.ldexp(values, -self.exponent))
        return np.clip(steps, self.low, self.high).astype(self.dtype)

    def pack(self, frames: Any, first: int = 0) -> Any:
        """Frames (n, *shape) as bytes (n, frame_bytes)."""
        integers = self.quantise(frames, first)
        count = len(integers)
        padded = np.zeros((count, self.beats * self.per_beat), self.dtype)
        padded[:, : self.size] = integers.transpose(self._to_stream).reshape(count, self.size)
        beats = np.zeros((count, self.beats, self.lanes), self.dtype)
        beats[:, :, : self.per_beat] = padded.reshape(count, self.beats, self.per_beat)
        return beats.reshape(count, self.beats * self.lanes).view(np.uint8)

    def unpack(self, raw: Any) -> Any:
        """Bytes (n, frame_bytes) as values (n, *shape)."""
        count = len(raw)
        beats = np.ascontiguousarray(raw).view(self.dtype).reshape(count, self.beats, self.lanes)
        elements = beats[:, :, : self.per_beat].reshape(count, self.beats * self.per_beat)[:, : self.size]
        values = elements.reshape((count, *self._stream_shape)).transpose(self._from_stream)
        if self.kind == "float32":
            return np.ascontiguousarray(values)
        return np.ldexp(np.ascontiguousarray(values, self.value_dtype), self.exponent)


class Accelerator:
    """A bitstream on the board's logic, driven through PYNQ's DMA.

    `network` is network.json or its content, `bitstream` overrides the one it names. `timeout` is how long, in
    seconds, one transfer of one frame may take. `buffers` is the number of input and of output buffers: one
    is filled or read while another is under way. `overlay` takes an overlay that is already loaded; `loop` an
    event loop that nobody runs yet, instead of the one shared by all accelerators of the process.
    """

    def __init__(
        self,
        bitstream: str | os.PathLike[str] | None = None,
        network: str | os.PathLike[str] | dict[str, Any] | None = None,
        *,
        timeout: float = 5.0,
        buffers: int = 2,
        overlay: Any = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if timeout <= 0 or buffers < 2:
            raise ValueError("timeout must be above 0 seconds and buffers 2 or more")
        entries, folder, where = _network(network)
        self.input = Port(entries["input"], f"{where}, input")
        self.output = Port(entries["output"], f"{where}, output")
        self.name: str = entries["name"]
        self.timeout = timeout
        self._broken: str | None = None
        self._closed = False
        self._own_loop = loop is not None
        self._loop = _run_in_thread(loop) if loop is not None else _shared_loop()
        pynq = importlib.import_module("pynq")
        if overlay is None:
            path = folder / entries["bitstream"] if bitstream is None else Path(bitstream)
            if not path.exists():
                raise FileNotFoundError(f"no bitstream {path}: copy bitstream/*.bit and *.hwh beside {where}")
            overlay = pynq.Overlay(str(path))
        self._call(self._open(pynq, overlay, entries["ip"], buffers))

    async def _open(self, pynq: Any, overlay: Any, ip: dict[str, str], buffers: int) -> None:
        """Finds the blocks; on the loop, because PYNQ makes its interrupt objects here."""
        found = {}
        for role in ("accelerator", "dma"):
            try:
                found[role] = getattr(overlay, ip[role])
            except AttributeError:
                names = ", ".join(sorted(getattr(overlay, "ip_dict", {}))) or "none"
                raise AcceleratorError(f"the bitstream has no block {ip[role]!r}; it has {names}") from None
        self._block, self._dma = found["accelerator"], found["dma"]
        self._channels = {"send": self._dma.sendchannel, "receive": self._dma.recvchannel}
        for port in (self.input, self.output):
            limit = getattr(self._dma, "buffer_max_size", port.frame_bytes)
            if port.frame_bytes > limit:
                raise AcceleratorError(f"a frame of {port.name!r} has {port.frame_bytes} bytes, the DMA takes {limit}")
        self._inputs = [pynq.allocate((self.input.frame_bytes,), np.uint8) for _ in range(buffers)]
        self._outputs = [pynq.allocate((self.output.frame_bytes,), np.uint8) for _ in range(buffers)]
        for buffer in self._outputs:
            buffer.flush()  # no line of the cache may be written back over what the DMA will write
        self._busy = asyncio.Lock()

    # ---- what a user calls --------------------------------------------------------------------------------

    def predict(self, x: Any) -> Any:
        """The outputs of a batch (n, *input shape), frames overlapped; blocks until the last is there."""
        return self._call(self._batch(self.input.pack(x), self._overlapped))

    async def predict_async(self, frames: Any) -> Any:
        """As `predict`, without blocking the caller's event loop."""
        return await self._awaited(self._batch(self.input.pack(frames), self._overlapped))

    def predict_naive(self, x: Any) -> Any:
        """The outputs of a batch, one frame after the other, polled: start, send, wait, receive."""
        return self._call(self._batch(self.input.pack(x), self._one_by_one))

    async def stream(self, frames: Any) -> AsyncIterator[Any]:
        """Outputs of frames that come one by one, in order; `frames` is an iterable or an async iterable.

        At most STREAM_AHEAD frames are taken ahead of the results that the caller has taken. A source or a
        caller that stops early leaves the accelerator empty and ready.
        """
        here = asyncio.get_running_loop()
        source = _as_async(frames)
        results: asyncio.Queue[Any] = asyncio.Queue()
        room = asyncio.Semaphore(STREAM_AHEAD)
        count = 0

        async def next_frame() -> Any:
            nonlocal count
            await room.acquire()
            try:
                frame = await source.__anext__()
            except StopAsyncIteration:
                return END
            packed = self.input.pack(np.asarray(frame)[None], count)[0]
            count += 1
            return packed

        async def pull() -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(next_frame(), here))

        async def push(_frame: int, raw: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the caller's loop has ended: nobody wants the result
                here.call_soon_threadsafe(results.put_nowait, np.array(raw))

        running = asyncio.ensure_future(self._awaited(self._guarded(self._overlapped, pull, push)))
        running.add_done_callback(lambda _: results.put_nowait(END))
        try:
            while True:
                raw = await results.get()
                if raw is END:
                    break
                room.release()
                yield self.output.unpack(raw[None])[0]
            await running
        finally:
            if not running.done():
                running.cancel()
                await self._awaited(self._idle())

    async def _idle(self) -> None:
        """Waits until nothing is under way."""
        async with self._busy:
            pass

    def close(self) -> None:
        """Waits for what is under way and gives the buffers back; the bitstream stays loaded."""
        if self._closed:
            return
        self._call(self._idle())
        self._closed = True
        if self._broken is None:  # else a transfer may still be under way: its buffer must not be reused
            for buffer in (*self._inputs, *self._outputs):
                buffer.freebuffer()
        if self._own_loop:
            self._loop.call_soon_threadsafe(self._loop.stop)

    # ---- between the caller's thread and the loop's ---------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a KeyboardInterrupt here must stop the work there
            raise

    async def _awaited(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        if self._closed:
            work.close()
            raise AcceleratorError("this accelerator is closed; make a new one")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _batch(self, packed: Any, how: Callable[..., Awaitable[None]]) -> Any:
        raw = np.empty((len(packed), self.output.frame_bytes), np.uint8)
        waiting = iter(packed)

        async def pull() -> Any:
            return next(waiting, END)

        async def push(frame: int, result: Any) -> None:
            raw[frame] = result

        await self._guarded(how, pull, push)
        return self.output.unpack(raw)

    async def _guarded(self, how: Callable[..., Awaitable[None]], pull: Any, push: Any) -> None:
        """One run at a time, and none after a fault that left a frame somewhere in the hardware."""
        async with self._busy:
            if self._broken is not None:
                raise AcceleratorError(f"this accelerator cannot be used: {self._broken}; make a new one")
            await how(pull, push)

    # ---- frames overlapped, by interrupts -------------------------------------------------------------------

    async def _overlapped(self, pull: Any, push: Any) -> None:
        """Four tasks hand frames on: pack into a free buffer, send, receive, deliver."""
        for side, pin in DMA_INTERRUPTS.items():
            if getattr(self._dma, pin, None) is None:
                raise AcceleratorError(
                    f"the bitstream has no interrupt dma/{pin} for the {side} channel; build it with"
                    " scripts/block_design.tcl, or use predict_naive"
                )
        free_inputs, packed, started = _queue(self._inputs), _queue(), _queue()
        free_outputs, received = _queue(self._outputs), _queue()
        stopped = False

        async def pack() -> None:
            frame = 0
            try:
                while True:
                    raw = await pull()
                    if raw is END:
                        return
                    buffer = await free_inputs.get()
                    buffer[:] = raw
                    packed.put_nowait((frame, buffer))
                    frame += 1
            finally:
                packed.put_nowait(END)

        async def send() -> None:
            while True:
                item = await packed.get()
                if item is END:
                    started.put_nowait(END)
                    return
                frame, buffer = item
                self._transfer("send", frame, buffer)
                started.put_nowait(frame)
                await self._finished("send", frame, self.input.frame_bytes)
                free_inputs.put_nowait(buffer)

        async def receive() -> None:
            while True:
                frame = await started.get()
                if frame is END:
                    received.put_nowait(END)
                    return
                buffer = await free_outputs.get()
                self._transfer("receive", frame, buffer)
                await self._finished("receive", frame, self.output.frame_bytes)
                received.put_nowait((frame, buffer))

        async def deliver() -> None:
            while True:
                item = await received.get()
                if item is END:
                    return
                frame, buffer = item
                if not stopped:
                    await push(frame, buffer)
                free_outputs.put_nowait(buffer)

        self._enable()
        packing = asyncio.ensure_future(pack())
        hardware = [asyncio.ensure_future(work()) for work in (send, receive, deliver)]
        try:
            await asyncio.wait(hardware, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            # No further frames; those under way are waited for, so that the next run finds nothing left over.
            stopped = True
            packing.cancel()
            await asyncio.wait(hardware, return_when=asyncio.FIRST_EXCEPTION)
            raise
        finally:
            faults = [task.exception() for task in hardware if task.done() and not task.cancelled()]
            fault = next((fault for fault in faults if fault is not None), None)
            if fault is not None or not all(task.done() for task in hardware):
                self._broken = f"a frame was lost ({fault})" if fault else "a frame was left in it"
            for task in (packing, *hardware):
                task.cancel()
            self._disable()
        if fault is not None:
            await asyncio.wait([packing])
            raise fault
        await packing  # raises what the source of frames raised

    def _enable(self) -> None:
        self._block.write(INTERRUPT_STATUS, self._block.read(INTERRUPT_STATUS))  # ones toggle: clears
        self._block.write(INTERRUPT_ENABLE, 0x01)
        self._block.write(GLOBAL_INTERRUPT, 0x01)
        self._block.write(CONTROL, AUTO_RESTART | START)  # takes the next frame without being told

    def _disable(self) -> None:
        self._block.write(CONTROL, 0x00)
        self._block.write(GLOBAL_INTERRUPT, 0x00)

    def _transfer(self, side: str, frame: int, buffer: Any) -> None:
        """Starts a transfer; PYNQ flushes the cache before a send, and invalidates it after a receive."""
        try:
            self._channels[side].transfer(buffer)
        except (RuntimeError, ValueError) as error:
            raise AcceleratorError(self._dma_error(side) or str(error), frame, side) from error

    async def _finished(self, side: str, frame: int, expected: int) -> None:
        """Waits for the interrupt of a transfer that is under way, and checks how it went."""
        waiting = asyncio.ensure_future(self._channels[side].wait_async())
        deadline = self._loop.time() + self.timeout
        try:
            while not waiting.done():
                left = deadline - self._loop.time()
                error = self._dma_error(side)
                if error is not None or left <= 0:
                    raise AcceleratorError(error or self._overdue(side), frame, side)
                await asyncio.wait([waiting], timeout=min(POLL_S, left))
            waiting.result()
        except AcceleratorError:
            raise
        except RuntimeError as error:
            raise AcceleratorError(self._dma_error(side) or str(error), frame, side) from error
        finally:
            waiting.cancel()
        self._check_length(side, frame, expected)

    def _dma_error(self, side: str) -> str | None:
        status = self._dma.read(DMA_STATUS[side])
        wrong = [text for bit, text in DMA_ERRORS.items() if status & bit]
        return f"DMA {'; '.join(wrong)} (status 0x{status:04x})" if wrong else None

    def _overdue(self, side: str) -> str:
        """What can be said of a transfer of which nothing was heard in time."""
        if self._dma.read(DMA_STATUS[side]) & DMA_IDLE:
            return (
                f"the transfer is done but no interrupt came within {self.timeout:g} s: is dma/"
                f"{DMA_INTERRUPTS[side]} wired to the AXI interrupt controller?"
            )
        finished = "has" if self._block.read(INTERRUPT_STATUS) & 0x01 else "has not"
        control = self._block.read(CONTROL)
        return (
            f"the transfer is not done after {self.timeout:g} s; the accelerator {finished} finished a frame in"
            f" this run, its control register is 0x{control:02x}"
        )

    def _check_length(self, side: str, frame: int, expected: int) -> None:
        moved = self._channels[side].transferred
        if moved != expected:
            raise AcceleratorError(f"short frame: {moved} bytes came instead of {expected}", frame, side)

    # ---- one frame after the other, by polling --------------------------------------------------------------

    async def _one_by_one(self, pull: Any, push: Any) -> None:
        frame = 0
        sent, received = self._inputs[0], self._outputs[0]
        try:
            while True:
                raw = await pull()
                if raw is END:
                    return
                sent[:] = raw
                self._block.write(CONTROL, START)
                self._transfer("send", frame, sent)
                self._poll("send", frame, self.input.frame_bytes)
                self._transfer("receive", frame, received)
                self._poll("receive", frame, self.output.frame_bytes)
                await push(frame, received)
                frame += 1
        except AcceleratorError as error:
            self._broken = f"a frame was lost ({error})"
            raise

    def _poll(self, side: str, frame: int, expected: int) -> None:
        deadline = self._loop.time() + self.timeout
        while not self._dma.read(DMA_STATUS[side]) & DMA_IDLE:
            error = self._dma_error(side)
            if error is not None or self._loop.time() > deadline:
                raise AcceleratorError(error or self._overdue(side), frame, side)
        self._channels[side].wait()  # returns at once: invalidates the cache and notes the length
        self._dma.write(DMA_STATUS[side], DMA_INTERRUPT)  # nobody waited for it: clear it
        self._check_length(side, frame, expected)


_loop_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _shared_loop() -> asyncio.AbstractEventLoop:
    """The loop on which this process awaits interrupts, for good: PYNQ caches what is tied to it."""
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = _run_in_thread(asyncio.new_event_loop())
        return _loop


def _run_in_thread(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()

    threading.Thread(target=run, name="accelerator-interrupts", daemon=True).start()
    return loop


def _queue(items: Sequence[Any] = ()) -> asyncio.Queue[Any]:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    for item in items:
        queue.put_nowait(item)
    return queue


async def _as_async(frames: Any) -> AsyncIterator[Any]:
    if hasattr(frames, "__aiter__"):
        async for frame in frames:
            yield frame
        return
    for frame in frames:
        yield frame


def _network(network: Any) -> tuple[dict[str, Any], Path, str]:
    """The entries of network.json, the folder that its paths are relative to, and how to call it in errors."""
    folder, where = Path(__file__).parent, "network"
    if not isinstance(network, dict):
        path = folder / "network.json" if network is None else Path(network)
        folder, where = path.parent, path.name
        try:
            network = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(network, dict) or network.get("version") != 1:
        raise ValueError(f"{where}: not a network of version 1")
    for key, kind in (("name", str), ("bitstream", str), ("input", dict), ("output", dict), ("ip", dict)):
        if not isinstance(network.get(key), kind):
            raise ValueError(f"{where}: the key {key!r} is missing or not a {kind.__name__}")
    for role in ("accelerator", "dma"):
        if not isinstance(network["ip"].get(role), str):
            raise ValueError(f"{where}, ip: the key {role!r} is missing or not a str")
    return network, folder, where


def _integer(value: Any) -> bool:
    return type(value) is int


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)
