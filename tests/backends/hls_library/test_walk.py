"""The walk of a kernel: windows and poolings of random shapes against numpy, and every read and write in its trip.

The headers run on streams that write down what is done to them (events.h); loops.py says in closed form at which trip
each token is read and written. Both must tell the same story.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.loops import Loop, loops_of
from bitwright.backends.hls.stages import PoolStage, Scan, SumStage
from bitwright.ir.formats import Canonical

Compiler = Callable[..., None]
BITS = Canonical(1, 0, 15)
LOWEST = -BITS.max_code

# A stream that writes down what is done to it.
EVENTS = """
#ifndef EVENTS_H
#define EVENTS_H
#include <deque>
#include <string>
namespace hls {
inline std::string& events() {
    static std::string all;
    return all;
}
template <class T, int DEPTH = 0>
struct stream {
    std::deque<T> tokens;
    explicit stream(const char*) {}
    T read() {
        events() += 'r';
        const T token = tokens.at(0);
        tokens.pop_front();
        return token;
    }
    void write(const T& token) {
        events() += 'w';
        tokens.push_back(token);
    }
};
}  // namespace hls
#endif
"""
MAIN = """
#include <cstdio>
#include "bitwright/window.hpp"
#include "bitwright/maxpool.hpp"
using namespace bitwright;

template <class In, class Out, class Process>
void walk(Process process, const short* image, int tokens, int trips) {
    hls::stream<In> in("in");
    hls::stream<Out> out("out");
    for (int t = 0; t < tokens; ++t) {
        In token;
        for (auto& element : token.data) element = *image++;
        in.tokens.push_back(token);
    }
    hls::events().clear();
    process(in, out);
    std::printf("%d %d %s", trips, static_cast<int>(in.tokens.size()), hls::events().c_str());
    for (const Out& token : out.tokens) {
        for (const auto& element : token.data) std::printf(" %d", static_cast<int>(element));
    }
    std::printf("\\n");
}

STRUCTS
int main() {
CALLS
}
"""


def scans(seed: int) -> Iterator[tuple[Scan, int]]:
    """Random walks, each with every width of token that it takes."""
    rng = np.random.default_rng(seed)
    while True:
        channels, rows, cols = int(rng.integers(1, 4)), int(rng.integers(1, 7)), int(rng.choice([1, 3, 4, 6, 8, 12]))
        kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 6)))
        strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        most = [kernel[i % 2] + (1 if rng.random() < 0.2 else 0) for i in range(4)]
        pads = tuple(int(rng.integers(0, n)) if rng.random() < 0.7 else 0 for n in most)
        size = [(rows, cols)[i] + pads[i] + pads[2 + i] - kernel[i] for i in (0, 1)]
        if min(size) < 0:
            continue
        out = (size[0] // strides[0] + 1, size[1] // strides[1] + 1)
        top, left, bottom, right = pads
        scan = Scan(channels, (rows, cols), out, kernel, strides, (top, left, bottom, right))
        yield from ((scan, lanes) for lanes in range(1, channels * cols + 1) if scan.takes(lanes))


def conv(scan: Scan, lanes: int, simd: int) -> SumStage:
    """The window of a convolution; its product is not looked at."""
    inputs = scan.kernel[0] * scan.kernel[1] * scan.channels
    number, none = np.zeros((1, inputs), np.int64), np.zeros(1, np.int64)
    positions = scan.out[0] * scan.out[1]
    return SumStage(
        name="c", line="", format=BITS, layout=(1, *scan.out), reads=("x",), lanes=lanes, in_format=BITS,
        weight_format=Canonical(1, 0, 1), weights=number, codes=number, bias=none, shift=none, acc_bits=32, levels=0,
        act=(None, None), positions=positions, scan=scan, simd=simd,
    )  # fmt: skip


def pooling(scan: Scan, lanes: int) -> PoolStage:
    layout = (scan.channels, *scan.out)
    return PoolStage(name="p", line="", format=BITS, layout=layout, reads=("x",), lanes=lanes, scan=scan)


def is_pooling(scan: Scan) -> bool:
    """Whether every window holds a pixel."""
    return all(pad < scan.kernel[i % 2] for i, pad in enumerate(scan.pads))


def some(seed: int, count: int) -> Iterator[SumStage | PoolStage]:
    rng = np.random.default_rng(seed)
    for scan, lanes in scans(seed):
        stage: SumStage | PoolStage
        if is_pooling(scan) and rng.random() < 0.5:
            stage = pooling(scan, lanes)
        else:
            inputs = scan.kernel[0] * scan.kernel[1] * scan.channels
            stage = conv(scan, lanes, int(rng.choice([n for n in range(1, inputs + 1) if inputs % n == 0])))
        if rng.random() < 0.4:
            yield stage
            count -= 1
        if count == 0:
            return


# ---- the headers --------------------------------------------------------------------------------------------------


def struct(reference: ModuleType, name: str, stage: SumStage | PoolStage) -> str:
    scan = stage.scan
    assert scan is not None
    keys = ("in_rows", "in_cols", "out_rows", "out_cols", "kernel_rows", "kernel_cols", "stride_rows", "stride_cols")
    numbers = dict(zip(keys, (*scan.size, *scan.out, *scan.kernel, *scan.strides), strict=True))
    numbers |= dict(zip(("pad_top", "pad_left", "pad_bottom", "pad_right"), scan.pads, strict=True))
    numbers |= {"channels": scan.channels, "lanes": stage.lanes}
    if isinstance(stage, PoolStage):
        return str(reference.struct(name, {"Format": "Fixed<16>"}, numbers))
    numbers |= {"positions": stage.positions, "inputs": stage.inputs, "outputs": 1, "conv_groups": 1, "acc_bits": 32}
    numbers |= {"simd": stage.simd, "pe": 1, "vectors": stage.vectors, "pixels": 1}
    return str(reference.struct(name, {"In": "Fixed<16>", "Weight": "Fixed<2>"}, numbers))


def call(name: str, stage: SumStage | PoolStage, values: list[int]) -> str:
    process, out = (
        ("maxpool2d", f"Scan<{name}>::out_lanes")
        if isinstance(stage, PoolStage)
        else ("window2d", f"Window<{name}>::out_lanes")
    )
    trips = f"{'Pool' if isinstance(stage, PoolStage) else 'Window'}<{name}>::trips"
    types = f"Vec<Fixed<16>, {name}::lanes>, Vec<Fixed<16>, {out}>"
    image = f"    static const short {name}_image[] = {{{', '.join(map(str, values))}}};\n"
    return f"{image}    walk<{types}>(process::{process}<{name}>, {name}_image, {len(values) // stage.lanes}, {trips});"


def told(loop: Loop) -> str:
    """Reads and writes in the order of their trips; a trip reads before it writes."""
    reads = [(int(trip), "r") for trip in loop.read_trip(0, np.arange(loop.tokens_in[0]))]
    writes = [(int(trip), "w") for trip in loop.write_trip(np.arange(loop.tokens_out))]
    return "".join(event for _, event in sorted(reads + writes))


def expected(reference: ModuleType, stage: SumStage | PoolStage, image: np.ndarray) -> np.ndarray:
    """What leaves, in the order of the stream."""
    scan = stage.scan
    assert scan is not None
    if isinstance(stage, PoolStage):
        return np.asarray(reference.maxpool2d(image, scan.kernel, scan.strides, scan.pads).reshape(-1))
    views = reference.windows(image, scan.kernel, scan.strides, scan.pads, 0).reshape(stage.positions, -1)
    tokens = views.reshape(-1, stage.vectors, stage.inputs // stage.simd, stage.simd)
    return np.asarray(tokens.transpose(0, 2, 1, 3).reshape(-1))


@pytest.mark.parametrize(("seed", "types"), [(1, "native"), (2, "native"), (3, "ap_int")])
def test_the_headers_walk_as_the_loops_say(
    seed: int, types: str, reference: ModuleType, compile_cpp: Compiler, ap_flags: list[str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    stages = list(some(seed, 60 if types == "native" else 12))
    images = [rng.integers(LOWEST, -LOWEST, (*stage.scan.size, stage.scan.channels)) for stage in stages if stage.scan]
    (tmp_path / "hls_stream.h").write_text(EVENTS)
    structs = "\n".join(struct(reference, f"L{n}", stage) for n, stage in enumerate(stages))
    calls = [call(f"L{n}", stage, images[n].reshape(-1).tolist()) for n, stage in enumerate(stages)]
    source = tmp_path / "walk.cpp"
    source.write_text(MAIN.replace("STRUCTS", structs).replace("CALLS", "\n".join(calls)))
    flags = ap_flags if types == "ap_int" else []
    compile_cpp([source], f"-I{tmp_path}", "-O0", *flags, "-o", str(tmp_path / "walk"))
    lines = subprocess.run([str(tmp_path / "walk")], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(stages)
    for stage, image, line in zip(stages, images, lines, strict=True):
        loop = loops_of(stage)[0]
        trips, left, events, *values = line.split()
        assert (int(trips), int(left)) == (loop.trips, 0), stage
        assert events == told(loop), stage
        np.testing.assert_array_equal(np.array(values, np.int64), expected(reference, stage, image), err_msg=str(stage))


def test_the_random_walks_have_everything() -> None:
    """Pixels side by side, strides among them, padding of every kind, wider than the kernel; short rows; groups."""
    found = set()
    for stage in (*some(1, 60), *some(2, 60)):
        scan = stage.scan
        assert scan is not None
        steps = scan.steps(stage.lanes)
        yes = {
            "pixels": steps.pixels > 1,
            "windows": steps.windows > 1,
            "pixels of one window": steps.pixels > 1 == steps.windows,
            "strided pixels": steps.pixels > 1 < scan.strides[1],
            "groups": steps.groups > 1,
            "wide padding": steps.first != (0, 0),
            "padding": any(scan.pads),
            "padded pixels": steps.pixels > 1 and any(scan.pads),
            "idle words": steps.cols > steps.tokens,
            "pool of pixels": steps.pixels > 1 and isinstance(stage, PoolStage),
            "several chunks": isinstance(stage, SumStage) and stage.simd < stage.inputs and steps.windows > 1,
        }
        found |= {name for name, holds in yes.items() if holds}
    assert found == set(yes)


# ---- the closed forms ---------------------------------------------------------------------------------------------


def test_the_closed_forms_count_trip_by_trip() -> None:
    """reads_until and writes_until are the counts of read_trip and write_trip, before the first trip and after the last
    one, too.
    """
    for stage in some(4, 400):
        for loop in loops_of(stage):
            trip = np.arange(-2, loop.trips + 3)
            read, written = loop.read_trip(0, np.arange(loop.tokens_in[0])), loop.write_trip(np.arange(loop.tokens_out))
            for trips in (read, written):
                assert np.all(np.diff(trips) > 0), stage
                assert 0 <= trips[0] <= trips[-1] < loop.trips
            np.testing.assert_array_equal(loop.reads_until(0, trip), (read[None] <= trip[:, None]).sum(1))
            np.testing.assert_array_equal(loop.writes_until(trip), (written[None] <= trip[:, None]).sum(1))


def test_a_window_leaves_when_its_last_pixel_has_come() -> None:
    """Not before; and where nothing is wider than the kernel, with the token that brings it or the one in its place."""
    for scan, lanes in (pair for _, pair in zip(range(400), scans(5), strict=False)):
        loop, steps = loops_of(conv(scan, lanes, scan.kernel[0] * scan.kernel[1] * scan.channels))[0], scan.steps(lanes)
        come = loop.read_trip(0, np.arange(loop.tokens_in[0])).reshape(scan.size[0], steps.tokens, -1)[:, :, -1]
        left = loop.write_trip(np.arange(loop.tokens_out)).reshape(scan.out[0], -1)
        for (row, token), trip in np.ndenumerate(left):
            last_row = min(row * scan.strides[0] + scan.kernel[0] - 1 - scan.pads[0], scan.size[0] - 1)
            column = (token * steps.windows + steps.windows - 1) * scan.strides[1] + scan.kernel[1] - 1 - scan.pads[1]
            if min(last_row, column) < 0:
                continue  # of padding alone
            assert trip >= come[last_row, min(column, scan.size[1] - 1) // steps.pixels]
            if last_row == row * scan.strides[0] + scan.kernel[0] - 1 - scan.pads[0] and column < scan.size[1]:
                assert trip == come[last_row, column // steps.pixels], "as soon as it is there"


@pytest.mark.parametrize("pixels", [1, 2, 4, 7])
def test_padding_takes_no_step(pixels: int) -> None:
    """LeNet-5's first layer: the tokens of the image, and those that the first window waits for."""
    scan = Scan(1, (28, 28), (28, 28), (5, 5), (1, 1), (2, 2, 2, 2))
    assert scan.steps(pixels).total == 784 // pixels + 2 * (28 // pixels) + -(-(pixels + 2) // pixels) - 1
    assert {1: 842, 2: 421, 4: 211, 7: 121}[pixels] == scan.steps(pixels).total
