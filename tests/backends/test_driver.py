"""The board's driver against a small stand-in for PYNQ: results, time and faults."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from stand_in import INTERVAL, LATENCY, US, Bench, Overlay, expected, images

from bitwright.backends.hls.driver import accelerator as driver
from bitwright.backends.hls.driver.accelerator import AcceleratorError


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
