"""Small networks for the tests of the HLS backend: drawn at random, folded, written, and compiled several at once."""

from __future__ import annotations

import math
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bitwright.backends.hls.board import Board, load_board
from bitwright.backends.hls.csim import Accelerator, Port, loaded, read_network
from bitwright.backends.hls.estimate import estimate
from bitwright.backends.hls.fifos import sized
from bitwright.backends.hls.loops import loops_of
from bitwright.backends.hls.package import write_package
from bitwright.backends.hls.plan import Plan, divisors
from bitwright.backends.hls.stages import JoinStage, PortStage, Stage, SumStage, stages_of
from bitwright.ir import edit
from bitwright.ir.assign import computed_values, spread, weight_values
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Attribute, Graph, Value
from bitwright.ir.ops import result_shape
from bitwright.ir.tensor import Array, Tensor
from bitwright.ir.types import F32, Type

BOARD = load_board("pynq-z2")
Rng = np.random.Generator


# ---- a network, layer by layer ----------------------------------------------------------------------------------


class Builder:
    """Layers in float32, each on `value`, the last one's result; `give_formats` makes fixed point of it."""

    def __init__(self, name: str, shape: Sequence[int], rng: Rng, unsigned: bool = False) -> None:
        self.graph = Graph(name, {"": 17})
        self.rng = rng
        self.value = edit.add_input(self.graph, f"{name}.x", Type(F32, (1, *shape)))
        self.frames = np.asarray(rng.uniform(0 if unsigned else -1, 1, (4, *shape)), np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.value.tensor_type.static_shape or ())[1:]

    def next_name(self, op: str) -> str:
        """Of the network's own: `bundled` compiles several networks as one source."""
        return f"{self.graph.name}.{op}{len(self.graph.nodes)}"

    def add(self, op: str, weights: Iterable[Value] = (), **attributes: Attribute) -> None:
        name = self.next_name(op)
        node = edit.add_node(self.graph, op, [self.value, *weights], {name: Type(F32)}, attributes)
        edit.set_type(node.result, Type(F32, result_shape(node)))
        self.value = node.result

    def meet(self, op: str, others: Sequence[Value], **attributes: Attribute) -> None:
        """add, mul or concat of the value and others."""
        self.add(op, others, **attributes)

    def conv(self, outputs: int, size: int, groups: int = 1, stride: int = 1, **attributes: Attribute) -> None:
        """A convolution that keeps the image, but for its stride."""
        pad, channels = size // 2, self.shape[0]
        given: dict[str, Attribute] = {"kernel": (size, size), "pads": (pad,) * 4, "strides": (stride, stride)}
        given |= {"groups": groups} if groups > 1 else {}
        self.sum("conv2d", (outputs, channels // groups, size, size), **given, **attributes)

    def sum(self, op: str, shape: tuple[int, ...], **attributes: Attribute) -> None:
        """conv2d or dense with random weights, and a random bias more often than not."""
        name = self.next_name(op)
        data = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        weights = [edit.add_weight(self.graph, f"{name}.w", Tensor(data.astype(np.float32)))]
        if self.rng.random() < 0.7:
            bias = self.rng.normal(0, 0.3, shape[0]).astype(np.float32)
            weights.append(edit.add_weight(self.graph, f"{name}.b", Tensor(bias)))
        self.add(op, weights, **attributes)

    def done(self) -> Graph:
        edit.add_output(self.graph, self.value, f"{self.graph.name}.y")
        return self.graph


def pick(rng: Rng, *choices: int) -> int:
    return int(rng.choice(choices))


def drawn(seed: int) -> tuple[Graph, list[Stage], Array]:
    """A random network with formats, its stages in a random folding, and inputs. Draws again where it is refused."""
    rng = np.random.default_rng(seed)
    while True:
        net = _architecture(f"net{seed}", rng)
        graph = net.done()
        give_formats(graph, net.frames, rng, wide=rng.random() < 0.2)
        try:
            return graph, randomly_folded(stages_of(graph), rng), net.frames
        except CompileError as error:
            if not any(reason in error.message for reason in REFUSALS):
                raise


REFUSALS = ("sums need", "falls on different steps", "places from its result", "levels")


def _architecture(name: str, rng: Rng) -> Builder:
    if rng.random() < 0.15:
        net = Builder(name, [pick(rng, 1, 3, 8, 12)], rng, bool(rng.random() < 0.3))
    else:
        shape = [pick(rng, 1, 2, 3, 4, 6), pick(rng, 1, 3, 5, 6, 8), pick(rng, 4, 5, 7, 9)]
        net = Builder(name, shape, rng, bool(rng.random() < 0.3))
        for _ in range(pick(rng, 1, 2, 3)):
            if min(net.shape[1:]) < 1 or net.shape[2] < 2:
                break
            _image_layer(net, rng)
    if len(net.shape) == 3 and rng.random() < 0.6:
        net.add("flatten")
    if len(net.shape) == 1:
        for _ in range(pick(rng, 1, 2)):
            net.sum("dense", (pick(rng, 1, 2, 5, 6, 10), net.shape[0]), **_activation(rng))
    return net


def branching(seed: int) -> tuple[Graph, list[Stage], Array]:
    """The same of a network with branches: residual, concat and squeeze-excite blocks, grouped convolutions, means."""
    rng = np.random.default_rng(seed)
    while True:
        net = Builder(f"dag{seed}", [pick(rng, 2, 4), pick(rng, 5, 6), pick(rng, 5, 7)], rng)
        if rng.random() < 0.7:
            net.conv(pick(rng, 2, 4, 6), 3, **_activation(rng))
        for _ in range(pick(rng, 1, 2)):
            (_residual, _inception, _gated)[int(rng.integers(3))](net, rng)
        if rng.random() < 0.4:
            net.add("globalavgpool")
        if rng.random() < 0.3:
            net.add("flatten")
            net.sum("dense", (3, net.shape[0]), **_activation(rng))
        graph = net.done()
        give_formats(graph, net.frames, rng)
        try:
            return graph, randomly_folded(stages_of(graph), rng), net.frames
        except CompileError as error:
            if not any(reason in error.message for reason in REFUSALS):
                raise


def _residual(net: Builder, rng: Rng) -> None:
    x, channels = net.value, net.shape[0]
    stride = pick(rng, 1, 1, 2) if min(net.shape[1:]) > 3 else 1
    outputs = channels if stride == 1 and rng.random() < 0.6 else pick(rng, 2, 4, 6)
    net.conv(channels, 3, int(rng.choice([1, 1, channels])), stride, **_activation(rng))
    net.conv(outputs, pick(rng, 1, 3))
    way = net.value
    net.value = x
    if stride > 1 or outputs != channels:
        net.conv(outputs, 1, stride=stride)
    net.meet("add", [way])
    kind = rng.choice(["none", "relu", "clip"])
    if kind != "none":
        net.add(str(kind), **({"min": -0.5, "max": float(rng.choice([0.75, np.inf]))} if kind == "clip" else {}))


def _inception(net: Builder, rng: Rng) -> None:
    x, ways = net.value, []
    for kind in rng.permutation(["one", "three", "grouped", "mean", "max", "same"])[: pick(rng, 2, 3, 4)]:
        net.value = x
        if kind in ("one", "three"):
            net.conv(pick(rng, 1, 2, 4), 1 if kind == "one" else 3, **_activation(rng))
        elif kind == "grouped":
            net.conv(2 * net.shape[0], 3, 2, **_activation(rng))
        elif kind != "same":
            extra: dict[str, Attribute] = {"count_pads": int(rng.integers(2))} if kind == "mean" else {}
            net.add("avgpool2d" if kind == "mean" else "maxpool2d", kernel=(3, 3), pads=(1,) * 4, **extra)
        ways.append(net.value)
    net.value = ways[0]
    net.meet("concat", ways[1:], axis=1)
    if rng.random() < 0.5:
        net.add("avgpool2d", kernel=(2, 2), strides=(pick(rng, 1, 2), 1))


def _gated(net: Builder, rng: Rng) -> None:
    x, channels = net.value, net.shape[0]
    net.add("globalavgpool")
    net.conv(pick(rng, 1, 2), 1, act="relu")
    net.conv(channels, 1, act="clip", act_min=0.0, act_max=1.0)
    gate, op = net.value, str(rng.choice(["mul", "mul", "add"]))
    net.value, other = (x, gate) if rng.random() < 0.5 else (gate, x)
    net.meet(op, [other])


def _activation(rng: Rng) -> dict[str, Attribute]:
    kind = rng.choice(["none", "relu", "clip"])
    if kind == "clip":
        low, high = float(rng.choice([-np.inf, -0.5, 0.0])), float(rng.choice([0.25, 1.0, 6.0, np.inf, 3.4e38]))
        return {"act": "clip", "act_min": low, "act_max": high}
    return {"act": str(kind)} if kind == "relu" else {}


def _image_layer(net: Builder, rng: Rng) -> None:
    channels, rows, cols = net.shape
    kind = rng.choice(["conv", "conv", "conv", "pool", "one", "cover"])
    outputs = pick(rng, 1, 2, 3, 4, 6)
    if kind == "one":
        net.sum("conv2d", (outputs, channels, 1, 1), kernel=(1, 1), **_activation(rng))
        return
    if kind == "cover":
        net.sum("conv2d", (outputs, channels, rows, cols), kernel=(rows, cols), **_activation(rng))
        return
    kernel = (min(rows, pick(rng, 1, 2, 3)), min(cols, pick(rng, 1, 2, 3, 5)))
    strides = (pick(rng, 1, 1, 2, 3), pick(rng, 1, 1, 2, 3))
    pads = tuple(int(rng.integers(0, kernel[i % 2])) if rng.random() < 0.5 else 0 for i in range(4))
    if kind == "pool":
        net.add("maxpool2d", kernel=kernel, strides=strides, pads=pads)
        return
    extra: dict[str, Attribute] = {}
    sizes = [((rows, cols)[i] + pads[i] + pads[2 + i] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
    if rng.random() < 0.4:
        pool = (min(sizes[0], pick(rng, 1, 2, 3)), min(sizes[1], pick(rng, 1, 2, 3)))
        extra["pool"] = pool
        if rng.random() < 0.4:
            extra["pool_strides"] = (pick(rng, 1, 2, 3), pick(rng, 1, 2))
    shape = (outputs, channels, *kernel)
    net.sum("conv2d", shape, kernel=kernel, strides=strides, pads=pads, **extra, **_activation(rng))


def give_formats(graph: Graph, frames: Array, rng: Rng, wide: bool = False) -> None:
    """Random formats: of any width and kind that there are engines for, some too small for their numbers."""
    names = [value.name for value in graph.values.values() if value.tensor is None]
    found = evaluate(graph, {"": frames}, names)
    for value in computed_values(graph):
        numbers = found[value.name]
        width = pick(rng, 20, 24, 27, 31, 32) if wide else int(rng.integers(2, 17))
        unsigned = rng.random() < (0.5 if numbers.min() >= 0 else 0.1)
        format = Canonical(0, 0, width) if unsigned else Canonical(1, 0, width - 1)
        largest = float(np.abs(numbers).max()) * float(rng.choice([0.3, 1.0, 1.0, 3.0]))
        edit.set_type(value, value.tensor_type.with_format(format.covering(largest)))
    for value in weight_values(graph):
        assert value.tensor is not None
        kind = rng.choice(["FIXED", "FIXED", "BIN", "EXP"])
        width = pick(rng, 16, 20, 24) if wide else int(rng.integers(2, 17))
        levels = pick(rng, 1, 2, 3, 4)
        format = {"FIXED": Canonical(1, 0, width - 1), "BIN": Canonical(1, 0, 0), "EXP": Canonical(1, levels, 0)}[kind]
        per_channel = rng.random() < 0.4
        axes = tuple(range(1, value.tensor.data.ndim)) if per_channel else None
        largest_weight = np.abs(value.tensor.data.astype(np.float64)).max(axes)
        chosen = format.covering(largest_weight, 0 if per_channel else None)
        edit.set_type(value, value.tensor_type.with_format(chosen))
    spread(graph)


# The three ways in which networks branch, at their plan's own foldings.
BLOCKS = {
    "residual": """graph @residual {
      input %residual.x : FIXED<8>[N,3,8,8]
      weight %residual.c0.w = 000000a1 : FIXED<6>[4,3,3,3]
      weight %residual.c1.w = 000000a2 : BIN<1,B=2>[4,4,3,3]
      weight %residual.c2.w = 000000a3 : EXP<4,B=9>[4,4,3,3]
      %residual.c0 = conv2d(%residual.x, %residual.c0.w) {act=relu, kernel=[3,3], pads=[1,1,1,1]} : FIXED<8>[N,4,8,8]
      %residual.c1 = conv2d(%residual.c0, %residual.c1.w) {act=relu, kernel=[3,3], pads=[1,1,1,1]} : FIXED<8>[N,4,8,8]
      %residual.c2 = conv2d(%residual.c1, %residual.c2.w) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<7,B=1>[N,4,8,8]
      %residual.s = add(%residual.c2, %residual.c0) : FIXED<8,B=-1>[N,4,8,8]
      %residual.r = relu(%residual.s) : UFIXED<6>[N,4,8,8]
      output %residual.r as "residual.y"
    }""",
    "inception": """graph @inception {
      input %inception.x : FIXED<8>[N,4,6,7]
      weight %inception.a.w = 000000a4 : FIXED<5>[2,4,1,1]
      weight %inception.b.w = 000000a5 : FIXED<4,B={0,1,0,1}@0>[4,2,3,3]
      %inception.a = conv2d(%inception.x, %inception.a.w) {kernel=[1,1]} : FIXED<6>[N,2,6,7]
      %inception.b = conv2d(%inception.x, %inception.b.w) {groups=2, kernel=[3,3], pads=[1,1,1,1]} : FIXED<8>[N,4,6,7]
      %inception.p = avgpool2d(%inception.x) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<9>[N,4,6,7]
      %inception.c = concat(%inception.a, %inception.b, %inception.p) {axis=1} : FIXED<7>[N,10,6,7]
      output %inception.c as "inception.y"
    }""",
    "gated": """graph @gated {
      input %gated.x : FIXED<8>[N,4,5,6]
      weight %gated.d.w = 000000a6 : FIXED<6>[4,1,3,3]
      weight %gated.u.w = 000000a7 : FIXED<6>[2,4]
      weight %gated.v.w = 000000a8 : FIXED<6>[4,2]
      %gated.d = conv2d(%gated.x, %gated.d.w) {act=relu, groups=4, kernel=[3,3], pads=[1,1,1,1]} : UFIXED<7>[N,4,5,6]
      %gated.m = globalavgpool(%gated.d) : UFIXED<9,B=1>[N,4,1,1]
      %gated.f = flatten(%gated.m) : UFIXED<9,B=1>[N,4]
      %gated.u = dense(%gated.f, %gated.u.w) {act=relu} : UFIXED<8>[N,2]
      %gated.v = dense(%gated.u, %gated.v.w) {act=clip, act_max=1.0, act_min=0.0} : UFIXED<6>[N,4]
      %gated.g = reshape(%gated.v) {shape=[0,4,1,1]} : UFIXED<6>[N,4,1,1]
      %gated.s = mul(%gated.g, %gated.d) : FIXED<8>[N,4,5,6]
      %gated.c = clip(%gated.s) {max=0.75, min=0.1} : FIXED<6>[N,4,5,6]
      output %gated.c as "gated.y"
    }""",
    # Ends of what the engines take: means that tie and that fall below a step, sums that shift, a value twice.
    "ends": """graph @ends {
      input %ends.x : FIXED<5>[N,2,4,4]
      %ends.a = avgpool2d(%ends.x) {kernel=[2,2], pads=[1,0,0,1], strides=[1,2]} : FIXED<4,B=-1>[N,2,4,2]
      %ends.b = avgpool2d(%ends.a) {count_pads=1, kernel=[2,2], pads=[1,0,0,1]} : FIXED<12,B=4>[N,2,4,2]
      %ends.s = add(%ends.b, %ends.b) : FIXED<5,B=-9>[N,2,4,2]
      %ends.t = mul(%ends.b, %ends.a) : FIXED<32,B=2>[N,2,4,2]
      %ends.u = add(%ends.t, %ends.s) : FIXED<20>[N,2,4,2]
      %ends.q = quantize(%ends.u) : UFIXED<3>[N,2,4,2]
      %ends.g = globalavgpool(%ends.q) : FIXED<2,B=-2>[N,2,1,1]
      output %ends.g as "ends.y"
    }""",
}


# ---- foldings and folders ----------------------------------------------------------------------------------------


def folded(
    stages: Sequence[Stage],
    choose: Callable[[SumStage], tuple[int, ...]],
    join: Callable[[JoinStage], int] = lambda stage: 1,
    port: Callable[[PortStage], tuple[int, int]] = lambda stage: (stage.lanes, 1),
) -> list[Stage]:
    """The stages with the lanes and depths that follow from what is chosen.

    choose: (pe, simd) or (pe, simd, pixels) of a layer; join: the lanes of an add, mul or concat; port: the lanes and
    the elements of a beat.
    """
    made = unsized(stages, choose, join, port)
    if not all(stage.possible for stage in made):
        return made  # no design, so there are no depths
    return sized(made, estimate(made, BOARD).interval)


def unsized(
    stages: Sequence[Stage],
    choose: Callable[[SumStage], tuple[int, ...]],
    join: Callable[[JoinStage], int],
    port: Callable[[PortStage], tuple[int, int]],
) -> list[Stage]:
    """The same without depths; it ends behind the first stage that is not possible."""
    made: list[Stage] = []
    widths: dict[str, int] = {}
    for stage in stages:
        stage = stage.entered_by([widths[stream] for stream in stage.reads])
        if isinstance(stage, SumStage):
            pe, simd, pixels = (*choose(stage), 1)[:3]
            stage = replace(stage, pe=pe, simd=simd, pixels=pixels)
        elif isinstance(stage, JoinStage):
            stage = replace(stage, lanes=join(stage))
        elif isinstance(stage, PortStage):
            lanes, beat = port(stage)
            stage = replace(stage, lanes=lanes, beat=beat)
        made.append(stage)
        if not stage.possible:
            break
        widths |= dict.fromkeys(stage.writes, stage.out_lanes)
    return made


def joint_widths(stage: JoinStage) -> tuple[int, ...]:
    """The lanes that an add, mul or concat may have: several pixels where both sides have them."""
    parts = divisors(math.gcd(*stage.channels))
    if stage.broadcast:
        return parts
    pixel = sum(stage.channels) if stage.op == "concat" else stage.channels[0]
    return (*parts, *(pixel * n for n in divisors(stage.positions) if pixel * n > parts[-1]))


def port_widths(stage: PortStage) -> list[tuple[int, int]]:
    """The lanes and the elements of a beat that a port may have; an output's lanes are given."""
    fit = [width for width in divisors(stage.elements) if width * stage.container <= 64]
    return [(lanes, beat) for lanes in (fit if stage.is_input else [stage.lanes]) for beat in fit if lanes % beat == 0]


def sum_foldings(stage: SumStage) -> list[tuple[int, int, int]]:
    """Every (pe, simd, pixels) of a layer: several pixels only where nothing else is left to fold."""
    found = [(pe, simd, 1) for pe in divisors(stage.parallel_rows) for simd in divisors(stage.inputs)]
    whole = stage.outputs, stage.inputs
    alone = stage.groups in (1, stage.outputs)
    return found + [(*whole, n) for n in divisors(stage.positions) if n > 1 and alone and n * math.prod(whole) <= 4096]


def randomly_folded(stages: Sequence[Stage], rng: Rng) -> list[Stage]:
    def one(choices: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        return choices[int(rng.integers(len(choices)))]

    while True:
        made = folded(
            stages,
            lambda s: one(sum_foldings(s)),
            lambda s: pick(rng, *joint_widths(s)),
            lambda s: one(port_widths(s)),
        )
        if all(stage.possible for stage in made):
            return made


def paired_interval(stage: SumStage, frames: int = 6) -> int:
    """Cycles from frame to frame of a window and a product with a FIFO of two words between, step by step."""
    window, product = loops_of(stage)
    walk, take = [0] * window.trips, [0] * product.trips  # tokens that each trip gives, and takes
    for trip in window.write_trip(np.arange(window.tokens_out)).tolist():
        walk[trip] += 1
    for trip in product.read_trip(0, np.arange(product.tokens_in[0])).tolist():
        take[trip] += 1
    assert sum(walk) == sum(take)
    assert max(walk) == max(take) == 1
    fifo: deque[int] = deque()
    at, ends, cycle = [0, 0], [], 0
    while len(ends) < frames:
        held = len(fifo)
        if not take[at[1]] or held > 0:
            if take[at[1]]:
                fifo.popleft()
            at[1] += 1
            if at[1] == len(take):
                at[1] = 0
                ends.append(cycle)
        if not walk[at[0]] or held < 2:
            if walk[at[0]]:
                fifo.append(0)
            at[0] = (at[0] + 1) % len(walk)
        cycle += 1
    return ends[-1] - ends[-2]


def write(
    folder: Path,
    graph: Graph,
    stages: Sequence[Stage],
    golden: tuple[Array, Array] | None = None,
    board: Board = BOARD,
    report: Mapping[str, object] | None = None,
) -> Plan:
    """The output folder of folded stages."""
    made = Plan(tuple(stages), estimate(stages, board), board, 0.8)
    nothing = np.zeros((0, 1), np.int64)
    write_package(folder, graph, made, graph.name, "bitwright test", golden or (nothing, nothing), report or {}, 100.0)
    return made


# ---- several folders as one library ------------------------------------------------------------------------------


class Bundled(Accelerator):
    """One accelerator of a library that holds several."""

    def __init__(self, folder: Path, library: Path) -> None:
        network = read_network(folder)
        self.name = str(network["name"])
        self.input, self.output = Port.read(network["input"]), Port.read(network["output"])
        self.binary = loaded(library)
        self.binary.bitwright_run = getattr(self.binary, f"bitwright_run_{self.name}")


def bundled(folders: Sequence[Path], target: Path, *flags: str) -> list[Bundled]:
    """The traced accelerators of several folders whose layers have names of their own, compiled as one source."""
    lines = []
    for folder in folders:
        lines += [f"#define bitwright_run bitwright_run_{top(folder)}", *_including(folder, "csim/csim.cpp")]
        lines += ["#undef bitwright_run"]
    compile_cpp(lines, folders, target, "-shared", "-fPIC", "-DBITWRIGHT_TRACE", *flags)
    return [Bundled(folder, target) for folder in folders]


def testbenches(folders: Sequence[Path], target: Path, *flags: str) -> None:
    """The test benches of several folders as one program, whose arguments are their golden files one after another."""
    lines, calls = [], []
    for index, folder in enumerate(folders):
        lines += [f"#define main main_{top(folder)}", *_including(folder, "tb/testbench.cpp"), "#undef main"]
        call = f"main_{top(folder)}(3, arguments + {2 * index})"
        calls.append(f"failed += {call};")
    lines += ["int main(int, char** arguments) {", "int failed = 0;", *calls, "return failed;", "}"]
    compile_cpp(lines, folders, target, *flags)


def top(folder: Path) -> str:
    return str(read_network(folder)["name"])


def _including(folder: Path, last: str) -> list[str]:
    return [f'#include "{folder}/src/{top(folder)}.cpp"', f'#include "{folder}/{last}"']


def compile_cpp(lines: Sequence[str], folders: Sequence[Path], target: Path, *flags: str) -> None:
    """g++ on one source, with the headers of these folders; any warning is an error."""
    source = target.with_suffix(".cpp")
    source.write_text("\n".join(lines) + "\n")
    places = [f"-I{folders[0] / part}" for part in ("include", "csim")] + [f"-I{folder / 'src'}" for folder in folders]
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    command = ["g++", *strict, *flags, *places, str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
