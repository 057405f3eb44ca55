"""Each engine of the header library on small odd shapes, against numpy.

One program holds all cases; it reads their inputs from stdin and writes their outputs to stdout, as int64.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest

Ints = npt.NDArray[np.int64]
Compiler = Callable[..., None]

FRAMES = 2


@dataclass(frozen=True)
class Format:
    text: str
    low: int
    high: int


def fixed(bits: int) -> Format:
    return Format(f"Fixed<{bits}>", 1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1)


def unsigned(bits: int) -> Format:
    return Format(f"UFixed<{bits}>", 0, (1 << bits) - 1)


@dataclass(frozen=True)
class Conv:
    """A convolution; in_/out are formats, image and pads as [rows, columns] and [top, left, bottom, right]."""

    image: tuple[int, int, int]
    outputs: int
    kernel: tuple[int, int]
    lanes: int
    simd: int
    pe: int
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    in_format: Format = field(default_factory=lambda: fixed(8))
    out_format: Format = field(default_factory=lambda: fixed(8))
    weight: str = "Fixed<8>"
    shifts: tuple[int, ...] = (6,)
    clip: tuple[int, int] | None = None  # of the accumulator
    activation: str = "None"
    dense: bool = False
    pixels: int = 1  # side by side
    packing: int = 1  # products of a multiplication

    @property
    def vectors(self) -> int:
        """Windows that a token completes."""
        return self.pixels if self.dense else max(1, self.lanes // self.image[2] // self.stride[1])


CONVS = [
    Conv((7, 9, 4), 6, (3, 5), lanes=2, simd=10, pe=3, stride=(2, 1), pads=(1, 2, 0, 1)),
    Conv((5, 6, 3), 4, (2, 3), lanes=1, simd=18, pe=4, pads=(0, 1, 1, 2), shifts=(7, 5, 6, 8)),
    Conv((8, 7, 2), 2, (3, 2), lanes=2, simd=1, pe=1, stride=(3, 2), shifts=(5,), activation="Relu", clip=(0, 1 << 40)),
    Conv((6, 6, 4), 4, (1, 1), lanes=2, simd=4, pe=2, in_format=unsigned(7), out_format=unsigned(5), shifts=(6, 9)),
    Conv((4, 5, 2), 4, (3, 3), lanes=1, simd=6, pe=2, pads=(1, 1, 1, 1), out_format=fixed(16), shifts=(-2, 1, 0, -1)),
    Conv((4, 4, 2), 2, (2, 2), lanes=2, simd=8, pe=2, out_format=fixed(20), shifts=(-3,), in_format=fixed(5)),
    Conv((5, 5, 3), 3, (3, 3), lanes=3, simd=9, pe=3, shifts=(3,), activation="Clip<-8, 23>", clip=(-61, 187)),
    Conv((1, 12, 2), 3, (1, 4), lanes=2, simd=2, pe=3, stride=(1, 3), pads=(0, 2, 0, 0)),
    Conv((5, 4, 4), 2, (5, 4), lanes=4, simd=16, pe=1, weight="Bin<>", shifts=(4,)),
    Conv((6, 5, 2), 4, (3, 3), lanes=2, simd=3, pe=2, pads=(2, 1, 0, 1), weight="Exp<4>", shifts=(5, 6, 7, 8)),
    Conv(
        (4, 6, 2),
        2,
        (3, 3),
        lanes=1,
        simd=9,
        pe=1,
        in_format=fixed(16),
        weight="Fixed<16>",
        shifts=(20,),
        out_format=fixed(16),
    ),
    Conv(
        (4, 5, 1),
        2,
        (2, 2),
        lanes=1,
        simd=4,
        pe=2,
        in_format=fixed(32),
        weight="Fixed<32>",
        shifts=(40, 37),
        out_format=fixed(32),
    ),
    Conv(
        (4, 5, 1),
        2,
        (3, 2),
        lanes=1,
        simd=2,
        pe=2,
        in_format=fixed(2),
        weight="Fixed<2>",
        shifts=(1,),
        out_format=fixed(2),
    ),
    Conv((3, 3, 4), 5, (3, 3), lanes=4, simd=6, pe=5, dense=True),
    Conv((3, 3, 4), 6, (1, 1), lanes=4, simd=2, pe=1, dense=True, shifts=(6, 7, 5)),
    Conv((1, 1, 12), 4, (1, 1), lanes=6, simd=4, pe=2, dense=True, shifts=(6,)),
    # Several pixels a token: one window after another, two at once, all at once; strides, pads of every kind.
    Conv((5, 8, 1), 3, (5, 5), lanes=2, simd=25, pe=3, pads=(2, 2, 2, 2)),
    Conv((6, 12, 2), 4, (3, 3), lanes=8, simd=6, pe=2, pads=(1, 1, 1, 1), shifts=(5, 6)),
    Conv((6, 12, 1), 2, (3, 3), lanes=4, simd=9, pe=2, pads=(0, 1, 1, 1), pixels=2),
    Conv((7, 8, 3), 2, (3, 5), lanes=12, simd=45, pe=2, pads=(1, 0, 2, 4), pixels=4),
    Conv((6, 12, 2), 3, (3, 3), lanes=8, simd=9, pe=1, stride=(2, 2), pads=(1, 1, 1, 1)),
    Conv((4, 6, 1), 2, (2, 3), lanes=3, simd=6, pe=2, stride=(1, 3), pads=(0, 0, 1, 0), shifts=(3,)),
    Conv((6, 14, 1), 2, (3, 7), lanes=7, simd=21, pe=2, pads=(3, 6, 3, 0), pixels=7),
    Conv((3, 4, 4), 5, (1, 1), lanes=4, simd=4, pe=5, dense=True, pixels=3, shifts=(5,)),
    Conv((3, 4, 4), 5, (1, 1), lanes=16, simd=4, pe=5, dense=True, pixels=2, weight="Exp<4>"),
    # Packed products: pe that packing divides and does not, one slice and several, several pixels, narrow numbers.
    Conv((5, 6, 3), 4, (2, 3), lanes=1, simd=9, pe=4, pads=(0, 1, 1, 2), shifts=(7, 5, 6, 8), packing=2),
    Conv((4, 5, 2), 6, (3, 3), lanes=1, simd=6, pe=3, in_format=unsigned(8), packing=2),
    Conv((1, 1, 12), 4, (1, 1), lanes=6, simd=4, pe=1, dense=True, packing=2),
    Conv((3, 4, 4), 5, (1, 1), lanes=4, simd=4, pe=5, dense=True, pixels=3, shifts=(5,), packing=2),
    Conv((4, 4, 3), 6, (2, 2), lanes=1, simd=6, pe=6, in_format=fixed(4), weight="Fixed<4>", shifts=(2,), packing=4),
    Conv((4, 4, 3), 4, (2, 2), lanes=3, simd=6, pe=4, in_format=unsigned(4), weight="Fixed<4>", packing=3),
    # Padding wider than the kernel, and rows of one word.
    Conv((2, 3, 2), 2, (1, 1), lanes=2, simd=2, pe=1, pads=(1, 2, 1, 3)),
    Conv((3, 1, 1), 2, (2, 1), lanes=1, simd=2, pe=2, pads=(2, 1, 3, 2), stride=(2, 1)),
]


@dataclass(frozen=True)
class Pool:
    image: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    lanes: int
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    number: Format = field(default_factory=lambda: fixed(8))


POOLS = [
    Pool((6, 8, 4), (2, 2), (2, 2), lanes=2),
    Pool((7, 9, 3), (3, 3), (2, 2), lanes=1, pads=(1, 1, 1, 1)),
    Pool((5, 7, 4), (3, 2), (1, 1), lanes=4, pads=(1, 0, 0, 1)),
    Pool((7, 5, 2), (2, 3), (3, 2), lanes=2, number=unsigned(4)),
    Pool((5, 5, 2), (1, 1), (2, 2), lanes=1),
    Pool((4, 10, 1), (4, 1), (1, 3), lanes=1, number=fixed(16)),
    Pool((6, 8, 3), (2, 2), (2, 2), lanes=6),
    Pool((6, 8, 3), (2, 2), (2, 2), lanes=12),
    Pool((5, 12, 2), (3, 3), (1, 1), lanes=8, pads=(1, 1, 1, 1)),
    Pool((5, 12, 1), (3, 3), (2, 2), lanes=4, pads=(2, 2, 1, 0)),
    Pool((3, 2, 1), (2, 2), (1, 1), lanes=1, pads=(1, 1, 0, 0)),
]

REGROUPS = [(1, 1, 4), (6, 4, 24), (4, 6, 36), (1, 5, 15), (8, 1, 16), (3, 6, 12), (6, 3, 12)]  # from, to, elements


class Program:
    """The cases as C++ text, with their inputs and what must come out."""

    def __init__(self, reference: ModuleType, convs: list[Conv], pools: list[Pool]) -> None:
        self.ref = reference
        self.rng = np.random.default_rng(1234)
        self.text: list[str] = []
        self.calls: list[str] = []
        self.inputs: list[Ints] = []
        self.outputs: list[Ints] = []
        for n, conv in enumerate(convs):
            self.conv(f"Conv{n}", conv)
        for n, pool in enumerate(pools):
            self.pool(f"Pool{n}", pool)
        for n, widths in enumerate(REGROUPS):
            self.regroup(f"Regroup{n}", *widths)
        self.rounding()

    def case(self, name: str, ports: tuple[str, str], body: list[str], inputs: Ints, outputs: Ints) -> None:
        """A top function between two ports, each a (format, elements, lanes) struct made by `port`."""
        source, sink = ports
        self.text += [
            f"void {name.lower()}(hls::stream<Port<{source}>::Axis>& in, hls::stream<Port<{sink}>::Axis>& out) {{",
            f'    hls::stream<Vec<{source}::Format, {source}::lanes>> x("x");',
            f'    hls::stream<Vec<{sink}::Format, {sink}::lanes>> y("y");',
            f"    nn::read_axis<{source}>(in, x);",
            *body,
            f"    nn::write_axis<{sink}>(y, out);",
            "}",
        ]
        self.calls.append(f"    ok = frames({name.lower()}, csim::Inputs<{source}>(), csim::Outputs<{sink}>()) && ok;")
        self.inputs.append(inputs)
        self.outputs.append(outputs)

    def port(self, name: str, number: str, elements: int, lanes: int) -> str:
        """With as many elements a beat as 64 bits hold, of those that divide the lanes."""
        container = 1 << max(3, (int(re.findall(r"\d+", number)[0]) - 1).bit_length())
        beat = max(n for n in range(1, lanes + 1) if lanes % n == 0 and n * container <= 64)
        sizes = {"elements": elements, "lanes": lanes, "beat": beat}
        self.text.append(self.ref.struct(name, {"Format": number}, sizes))
        return name

    def weights(self, kind: str, shape: tuple[int, int]) -> tuple[Ints, Ints]:
        """Values and codes."""
        if kind == "Bin<>":
            codes = self.rng.integers(0, 2, shape)
            return 1 - 2 * codes, codes
        if kind.startswith("Exp"):
            values = self.rng.choice([-1, 0, 1], shape) * (1 << self.rng.integers(0, 7, shape))
            return values, self.ref.exp_codes(values, 4)
        largest = (1 << (int(kind[6:-1]) - 1)) - 1
        values = self.rng.integers(-largest, largest, shape, endpoint=True)
        return values, values

    def conv(self, name: str, c: Conv) -> None:
        rows, cols, channels = c.image
        inputs = c.kernel[0] * c.kernel[1] * channels
        weights, codes = self.weights(c.weight, (c.outputs, inputs))
        bias = self.rng.integers(-100, 100, c.outputs, endpoint=True)
        shift = np.resize(np.array(c.shifts), c.outputs)
        images = self.rng.integers(c.in_format.low, c.in_format.high, (FRAMES, *c.image), endpoint=True)
        images[0].flat[::3] = c.in_format.high
        accs = np.stack([self.ref.conv2d(image, weights, bias, c.kernel, c.stride, c.pads) for image in images])
        clipped = accs if c.clip is None else np.clip(accs, *c.clip)
        expected = self.ref.requantise(clipped, shift, c.out_format.low, c.out_format.high)
        out_rows, out_cols = accs.shape[1:3]
        numbers = {
            "positions": out_rows * out_cols,
            "inputs": inputs,
            "outputs": c.outputs,
            "conv_groups": 1,
            "adder_tree": c.pe % 2,  # trees in some, chains in others
            "in_dsp": c.simd % 2,
            "packing": c.packing,
            "acc_bits": self.ref.acc_bits(weights, bias, c.in_format.low, c.in_format.high),
            "min_shift": int(shift.min()),
            "max_shift": int(shift.max()),
            "lanes": c.lanes,
            "simd": c.simd,
            "pe": c.pe,
            "vectors": c.vectors,
            "pixels": c.pixels,
        }
        if not c.dense:
            numbers |= self.scan(c.image, (out_rows, out_cols), c.kernel, c.stride, c.pads)
        types = {
            "In": c.in_format.text,
            "Out": c.out_format.text,
            "Weight": c.weight,
            "Activation": f"nn::{c.activation}",
        }
        self.text.append(self.ref.struct(name, types, numbers))
        self.text.append(self.ref.tables(name, name.lower(), codes, bias, shift, c.pe, c.simd))
        ports = (
            self.port(f"{name}In", c.in_format.text, rows * cols * channels, c.lanes),
            self.port(f"{name}Out", c.out_format.text, out_rows * out_cols * c.outputs, c.pe * c.pixels),
        )
        low = name.lower()
        engine = "dense" if c.dense else "conv2d"
        call = f"    nn::{engine}<{name}>(x, y, {low}_weights, {low}_bias, {low}_shift);"
        self.case(f"run_{name}", ports, [call], images, expected)

    def pool(self, name: str, p: Pool) -> None:
        images = self.rng.integers(p.number.low, p.number.high, (FRAMES, *p.image), endpoint=True)
        images[1] = p.number.low  # padding must not win
        expected = np.stack([self.ref.maxpool2d(image, p.kernel, p.stride, p.pads) for image in images])
        out_rows, out_cols, channels = expected.shape[1:]
        numbers = self.scan(p.image, (out_rows, out_cols), p.kernel, p.stride, p.pads) | {"lanes": p.lanes}
        self.text.append(self.ref.struct(name, {"Format": p.number.text}, numbers))
        leaving = p.lanes if p.lanes <= channels else p.lanes // p.stride[1]
        ports = (
            self.port(f"{name}In", p.number.text, images[0].size, p.lanes),
            self.port(f"{name}Out", p.number.text, out_rows * out_cols * channels, leaving),
        )
        self.case(f"run_{name}", ports, [f"    nn::maxpool2d<{name}>(x, y);"], images, expected)

    def scan(
        self,
        image: tuple[int, int, int],
        out: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        pads: tuple[int, int, int, int],
    ) -> dict[str, int]:
        names = ("in_rows", "in_cols", "channels", "out_rows", "out_cols", "kernel_rows", "kernel_cols")
        names += ("stride_rows", "stride_cols", "pad_top", "pad_left", "pad_bottom", "pad_right")
        return dict(zip(names, (*image, *out, *kernel, *stride, *pads), strict=True))

    def regroup(self, name: str, width: int, to: int, elements: int) -> None:
        values = self.rng.integers(-127, 128, (FRAMES, elements))
        ports = (self.port(f"{name}In", "Fixed<8>", elements, width), self.port(f"{name}Out", "Fixed<8>", elements, to))
        call = f"    nn::regroup<Regroup<Fixed<8>, {width}, {to}, {elements}>>(x, y);"
        self.case(f"run_{name}", ports, [call], values, values)

    def rounding(self) -> None:
        """Every accumulator of 10 bits under every shift of a layer whose channels differ."""
        acc = np.arange(-512, 512)
        shifts = np.arange(-3, 13)
        types = {"Out": "Fixed<8>", "Activation": "nn::None"}
        self.text.append(self.ref.struct("Rounds", types, {"acc_bits": 10, "min_shift": -3, "max_shift": 12}))
        self.calls.append(
            "    for (int acc = -512; acc < 512; ++acc) {\n"
            "        for (int shift = -3; shift <= 12; ++shift) {\n"
            "            put(static_cast<int>(nn::requantize<Rounds>(acc, shift)));\n"
            "        }\n    }"
        )
        self.outputs.append(self.ref.requantise(np.stack([acc] * len(shifts), axis=1), shifts, -127, 127))

    def write(self, path: Path) -> Path:
        path.write_text(PRELUDE + "\n".join(self.text) + MAIN.replace("CALLS", "\n".join(self.calls)))
        return path


PRELUDE = """
#include <cstdio>
#include "csim.hpp"
#include "bitwright/layers.hpp"

using namespace bitwright;

static void put(std::int64_t value) { std::fwrite(&value, sizeof value, 1, stdout); }

template <class Top, class In, class Out>
bool frames(Top& top, csim::Inputs<In> in, csim::Outputs<Out> out) {
    std::int64_t inputs[FRAMES * In::elements], outputs[FRAMES * Out::elements];
    if (std::fread(inputs, sizeof inputs, 1, stdin) != 1) return false;
    const std::int64_t* const from[] = {inputs};
    std::int64_t* const to[] = {outputs};
    const int status = csim::run(top, in, out, from, to, FRAMES);
    if (status != 0) std::fprintf(stderr, "%s\\n", bitwright_error());
    std::fwrite(outputs, sizeof outputs, 1, stdout);
    return status == 0;
}

""".replace("FRAMES", str(FRAMES))

MAIN = """
int main() {
    bool ok = true;
CALLS
    return ok ? 0 : 1;
}
"""


@pytest.fixture(scope="session")
def program(reference: ModuleType) -> Program:
    return Program(reference, CONVS, POOLS)


def check(program: Program, binary: Path) -> None:
    given = b"".join(values.astype(np.int64).tobytes() for values in program.inputs)
    done = subprocess.run([str(binary)], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    got = np.frombuffer(done.stdout, np.int64)
    start = 0
    for case, expected in enumerate(program.outputs):
        np.testing.assert_array_equal(
            got[start : start + expected.size].reshape(expected.shape), expected, err_msg=f"case {case}"
        )
        start += expected.size
    assert start == got.size


def test_native_engines(program: Program, compile_cpp: Compiler, tmp_path: Path) -> None:
    compile_cpp([program.write(tmp_path / "engines.cpp")], "-O1", "-o", str(tmp_path / "engines"))
    check(program, tmp_path / "engines")


def test_engines_under_the_sanitisers(reference: ModuleType, compile_cpp: Compiler, tmp_path: Path) -> None:
    some = Program(reference, CONVS[1::4], POOLS[1::3])
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    compile_cpp([some.write(tmp_path / "engines.cpp")], *flags, "-o", str(tmp_path / "engines"))
    check(some, tmp_path / "engines")


def test_engines_with_ap_types(
    reference: ModuleType, compile_cpp: Compiler, ap_flags: list[str], tmp_path: Path
) -> None:
    """And with the wider beats of Vivado HLS."""
    some = Program(
        reference,
        [CONVS[n] for n in (1, 4, 8, 9, 11, 17, 19, 20)] + [conv for conv in CONVS if conv.packing > 1],
        POOLS[1:2] + POOLS[7:9],
    )
    flags = [*ap_flags, "-DBITWRIGHT_VIVADO_HLS"]
    compile_cpp([some.write(tmp_path / "engines.cpp")], *flags, "-o", str(tmp_path / "engines"))
    check(some, tmp_path / "engines")


def test_the_cases_reach_ties_and_saturation(program: Program) -> None:
    """The inputs are hard enough: both ends of a format come out, and ties go both ways."""
    first = program.outputs[0]
    assert first.min() == -127
    assert first.max() == 127
    rounds = program.outputs[-1].reshape(1024, -1)
    assert [rounds[512 + acc, 4] for acc in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]  # acc / 2


WRONG = {
    "simd divides the inputs": ("simd = 3", "simd = 4"),
    "pe divides the outputs": ("pe = 2", "pe = 3"),
    "lanes divide the channels": ("lanes = 1", "lanes = 3"),
    "out_rows follows from the kernel": ("out_rows = 4", "out_rows = 5"),
    "inputs are the elements under the kernel": ("inputs = 18", "inputs = 21"),
    "tokens divide the rows": ("lanes = 1", "lanes = 4"),
    "the product takes the windows of a token": ("vectors = 1", "vectors = 2"),
    "nothing else is left to fold": ("pixels = 1", "pixels = 2"),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_shape_does_not_compile(
    message: str, reference: ModuleType, compile_cpp: Compiler, tmp_path: Path
) -> None:
    numbers = {
        "positions": 12,
        "inputs": 18,
        "outputs": 4,
        "conv_groups": 1,
        "acc_bits": 20,
        "min_shift": 1,
        "max_shift": 1,
    }
    numbers |= {"channels": 2, "in_rows": 6, "in_cols": 5, "out_rows": 4, "out_cols": 3, "kernel_rows": 3}
    numbers |= {"kernel_cols": 3, "stride_rows": 1, "stride_cols": 1, "pad_top": 0, "pad_left": 0, "pad_bottom": 0}
    numbers |= {"pad_right": 0, "lanes": 1, "simd": 3, "pe": 2, "vectors": 1, "pixels": 1}
    types = {"In": "Fixed<8>", "Out": "Fixed<8>", "Weight": "Fixed<8>", "Activation": "nn::None"}
    struct = reference.struct("Layer", types, numbers).replace(*WRONG[message])
    use = "template struct bitwright::Fold<Layer>;\nint used = Window<Layer>::trips;\n"
    source = tmp_path / "wrong.cpp"
    source.write_text(f'#include "bitwright/layers.hpp"\nusing namespace bitwright;\n{struct}{use}')
    with pytest.raises(AssertionError, match=message):
        compile_cpp([source], "-fsyntax-only")


BROKEN = """
#include <cstdio>
#include <cstdlib>
#include "csim.hpp"
#include "bitwright/axis.hpp"
using namespace bitwright;
using F = Fixed<8>;
template <int N> struct Port { using Format = F; static constexpr int elements = N, lanes = 1, beat = 1; };
template <int SINK> void top(hls::stream<Beat<F>>& in, hls::stream<Beat<F>>& out) {
    hls::stream<Vec<F, 1>> middle("middle");
    nn::read_axis<::Port<4>>(in, middle);
    nn::write_axis<::Port<SINK>>(middle, out);
}
template <int SINK, int OUT> int run() {
    const std::int64_t values[4] = {1, 2, 3, 4};
    std::int64_t back[8];
    const std::int64_t* const from[] = {values};
    std::int64_t* const to[] = {back};
    return csim::run(top<SINK>, csim::Inputs<::Port<4>>(), csim::Outputs<::Port<OUT>>(), from, to, 1);
}
int main() {
    const auto say = [](int status) { std::printf("%d %s\\n", status, bitwright_error()); };
    say(run<5, 5>());
    say(run<3, 3>());
    say(run<4, 3>());
    say(run<4, 4>());
}
"""


def test_a_broken_dataflow_says_where(compile_cpp: Compiler, tmp_path: Path) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text(BROKEN)
    compile_cpp([source], "-o", str(tmp_path / "broken"))
    done = subprocess.run([str(tmp_path / "broken")], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "1 frame 0: stream middle was read while empty",
        "1 frame 0: 1 tokens are left in stream middle",
        "1 frame 0: TLAST is not on the last beat",
        "0 ",
    ]
