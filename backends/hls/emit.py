"""A plan as C++: always the same few files, data and wiring only. Every loop is in the header library.

src/formats.hpp          a type for every format, once
src/shapes.hpp           a struct for every stage: shape and folding, under its line of the graph
src/weights/<layer>.hpp  the integers of a layer, in the order in which the fold reads them
src/<net>.hpp, <net>.cpp the top function
csim/csim.cpp            the top function for C simulation
tb/testbench.cpp         the test bench, which compares with golden vectors
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.adder_text import print_sums
from bitwright.backends.hls.cpp import Names, Printer, end_header, header, table
from bitwright.backends.hls.estimate import rom_in_bram
from bitwright.backends.hls.given import storage_of
from bitwright.backends.hls.plan import Plan
from bitwright.backends.hls.reasons import depth_reason, rom_reason
from bitwright.backends.hls.shapes import Shapes, reciprocals
from bitwright.backends.hls.stages import (
    ADDERS,
    DEFAULT_DEPTH,
    SINGLE,
    FloatSumStage,
    ForkStage,
    JoinStage,
    MeanStage,
    Number,
    PointStage,
    PoolStage,
    PortStage,
    RealJoinStage,
    RealMeanStage,
    RealPointStage,
    Scaled,
    ScaledSumStage,
    Stage,
    SumStage,
    deviation,
    is_integer,
    ports_of,
    step_of,
    takes_sign,
)
from bitwright.ir.formats import Affine, Canonical

_ARITHMETIC = {FloatSumStage: "float_", ScaledSumStage: "scaled_", RealJoinStage: "real_"}
_REAL = FloatSumStage | ScaledSumStage | RealJoinStage | RealMeanStage | RealPointStage
_ENGINES = {
    PoolStage: "maxpool2d",
    PointStage: "rescale",
    RealPointStage: "real_rescale",
    ForkStage: "duplicate",
}

INPUT_STREAM = "pixels "  # the blank makes it nobody else's name


def emit(plan: Plan, name: str, origin: str) -> dict[str, str]:
    """The generated files by path. name: the network's; origin: the words that every file's first line carries."""
    return _Emitter(plan, name, origin).files()


def pragmas(plan: Plan, name: str) -> list[tuple[str, str]]:
    """The lines of the top function that tell the tools how to build it, each with its reason."""
    emitter = _Emitter(plan, name, "")
    return [*emitter.interface(), *emitter.memories(), *emitter.depths()]


class _Emitter:
    def __init__(self, plan: Plan, name: str, origin: str) -> None:
        self.plan = plan
        self.origin = origin
        self.names = Names()
        self.top = self.names.of(name)
        self.space = f"{self.top}_net"
        first, last = self.input, self.output = ports_of(plan.stages)
        for stage in plan.stages:
            self.names.of(stage.name)
        self.ports = (self.names.of(first.name), self.names.of(last.name))
        for stage in plan.stages:
            for stream in stage.writes:
                self.names.of(stream)
        self.types = Shapes(plan.stages, self.names)
        # The first stream is no port, and has a name of its own.
        self.variables = {stream: self.names.of(stream) for stage in plan.stages for stream in stage.writes}
        self.variables[first.name] = self.names.of(INPUT_STREAM)

    def files(self) -> dict[str, str]:
        files = {
            "src/formats.hpp": self.formats(),
            "src/shapes.hpp": self.shapes(),
            f"src/{self.top}.hpp": self.top_header(),
            f"src/{self.top}.cpp": self.top_function(),
            "csim/csim.cpp": self.csim(),
            "tb/testbench.cpp": self.testbench(),
        }
        for stage in self.with_tables():
            text = self.weights(stage) if isinstance(stage, SumStage) else self.divisors(stage)
            files[f"src/weights/{self.names.of(stage.name)}.hpp"] = text
        return files

    def sums(self) -> list[SumStage]:
        return [stage for stage in self.plan.stages if isinstance(stage, SumStage)]

    def with_tables(self) -> list[SumStage | MeanStage]:
        tabled = [stage for stage in self.plan.stages if isinstance(stage, SumStage | MeanStage)]
        return [stage for stage in tabled if not isinstance(stage, RealMeanStage)]

    def guard(self, file: str) -> str:
        return f"{self.top}_{file}_HPP".upper()

    def formats(self) -> str:
        printer = header(
            [f"{self.origin}: the formats of {self.top}"], self.guard("formats"), ["bitwright/formats.hpp"]
        )
        with printer.namespace(self.space):
            printer.line("using namespace bitwright;")
            printer.line()
            for stage in self.plan.stages:
                if self.types.has_format(stage):
                    printer.line(f"using {self.types.of(stage.name)} = {_format(stage.format)};")
            printer.line()
            for stage in self.sums():
                printer.line(f"using {self.names.of(stage.name)}_weight_t = {_weight_format(stage)};")
        return end_header(printer)

    def shapes(self) -> str:
        head = f"{self.origin}: the shapes and the folding of {self.top}"
        printer = header([head], self.guard("shapes"), ["bitwright/layers.hpp", "formats.hpp"])
        with printer.namespace(self.space):
            for index, stage in enumerate(self.plan.stages):
                if index:
                    printer.line()
                printer.line(f"// {stage.line}")
                with printer.braces(f"struct {self.names.struct(stage.name)}", "};"):
                    self.types.shape(printer, stage)
        return end_header(printer)

    def weights(self, stage: SumStage) -> str:
        name, struct = self.names.of(stage.name), self.names.struct(stage.name)
        added, floats = stage.products == ADDERS, isinstance(stage, FloatSumStage)
        head = [f"{self.origin}: the {'adders' if added else 'codes' if floats else 'integers'} of %{stage.name}"]
        printer = header(head, self.guard(f"weights_{name}"), ["shapes.hpp"])
        by_pe = f"[Fold<{struct}>::groups][{struct}::pe]"
        codes = f"{struct}::Weight::Code {name}_weights[Fold<{struct}>::folds][{struct}::pe][{struct}::simd]"
        tables = [] if added else [(codes, folded(stage))]
        for column, (type, values) in columns(stage).items():
            declared = f"{type.format(struct)} {name}_{column}{by_pe}"
            tables.append((declared, values.reshape(-1, stage.pe)))
        with printer.namespace(self.space):
            for index, (declaration, numbers) in enumerate(tables):
                if index:
                    printer.line()
                printer.block(f"static const {declaration} = {table(numbers)};")
            if added:
                printer.line()
                print_sums(printer, struct, stage)
        return end_header(printer)

    def divisors(self, stage: MeanStage) -> str:
        name, struct = self.names.of(stage.name), self.names.struct(stage.name)
        head = [f"{self.origin}: the reciprocals of the numbers of pixels in a window of %{stage.name}"]
        printer = header(head, self.guard(f"weights_{name}"), ["shapes.hpp"])
        with printer.namespace(self.space):
            declaration = f"UConst<MeanOf<{struct}>::places + 1> {name}_reciprocals[MeanOf<{struct}>::counts]"
            printer.block(f"static const {declaration} =\n    {table(reciprocals(stage))};")
        return end_header(printer)

    def allowed(self) -> tuple[float, ...]:
        """The tolerance of the outputs, in the port's numbers; nothing where every bit is as it should be."""
        if not any(isinstance(stage, _REAL) for stage in self.plan.stages):
            return ()
        last = self.types.writer[self.output.reads[0]]
        number = last.in_format if isinstance(last, RealPointStage) and last.format == SINGLE else last.format
        amount, share = deviation(number)
        return (amount / step_of(number) if is_integer(number) else amount), share

    def signature(self, space: str, library: str) -> str:
        formats = (self.types.of(self.input.name), self.types.of(self.output.reads[0]))
        arguments = [
            f"hls::stream<{library}Beat<{space}{format}{f', {stage.beat}' if stage.beat > 1 else ''}>>& {port}"
            for stage, format, port in zip((self.input, self.output), formats, self.ports, strict=True)
        ]
        return f"void {self.top}({', '.join(arguments)})"

    def top_header(self) -> str:
        found = self.plan.estimate
        slowest = self.names.of(found.bottleneck.name)
        frame = f"{self.ports[0]}[{self.input.elements}] in, {self.ports[1]}[{self.output.elements}] out"
        comment = [
            f"{self.origin}: the accelerator {self.top}",
            "",
            f"One call takes one frame: {frame}; channels last.",
            f"Estimated: a frame every {found.interval:,} cycles, the slowest stage is {slowest}.",
        ]
        printer = header(comment, self.guard("top"), ["shapes.hpp"])
        printer.line(self.signature(f"{self.space}::", "bitwright::") + ";")
        return end_header(printer)

    def top_function(self) -> str:
        printer = Printer()
        printer.line(f"// {self.origin}: the accelerator {self.top}")
        printer.line(f'#include "{self.top}.hpp"')
        printer.line()
        for layer in self.with_tables():
            printer.line(f'#include "weights/{self.names.of(layer.name)}.hpp"')
        printer.line()
        printer.line(f"using namespace {self.space};")
        printer.line()
        with printer.braces(self.signature("", "")):
            self.body(printer)
        return str(printer)

    def interface(self) -> list[tuple[str, str]]:
        """The pragmas of the top function, each with its reason."""
        found = [
            (f"#pragma HLS INTERFACE axis port={port}", f"an AXI stream for the DMA, elements a beat: {stage.beat}")
            for port, stage in zip(self.ports, (self.input, self.output), strict=True)
        ]
        found.append(("#pragma HLS INTERFACE s_axilite port=return", "the processor starts it and takes its interrupt"))
        found.append(("#pragma HLS DATAFLOW", "all stages work at once, on frames that follow each other"))
        return found

    def memories(self) -> list[tuple[str, str]]:
        """Where the weights of every layer lie, and why."""
        found = []
        for layer in self.sums():
            place = storage_of(layer, rom_in_bram(layer, self.plan.board))
            if place != "logic":
                memory = "BRAM" if place == "bram" else "LUTRAM"
                reason = rom_reason(layer, self.plan.board)
                found.append((f"BITWRIGHT_ROM({self.names.of(layer.name)}_weights, {memory});", reason))
        return found

    def depths(self) -> list[tuple[str, str]]:
        """The FIFOs that are deeper than the tools make one, and why."""
        found = []
        for stage in self.plan.stages:
            for side, stream in enumerate(stage.reads):
                if stage.depth(side) != DEFAULT_DEPTH:
                    line = f"BITWRIGHT_STREAM({self.variables[stream]}, {stage.depth(side)});"
                    found.append((line, depth_reason(stage, side)))
        return found

    def body(self, printer: Printer) -> None:
        printer.lines += [line for line, _ in self.interface()]
        for line, _ in self.memories():
            printer.line(line)
        printer.line()
        for stage in self.plan.stages:
            for stream in stage.writes:
                self.declare(printer, self.variables[stream], self.types.of(stream), stage.out_lanes, stream)
            if isinstance(stage, JoinStage):
                for stream, variable, side in self.regrouped(stage):
                    self.declare(printer, variable, self.types.of(stream), stage.side_lanes(side), variable)
        for line, _ in self.depths():
            printer.line(line)
        printer.line()
        for stage in self.plan.stages:
            self.call(printer, stage)

    def declare(self, printer: Printer, variable: str, format: str, lanes: int, name: str) -> None:
        printer.line(f'hls::stream<Vec<{format}, {lanes}>> {variable}("{name}");')

    def regrouped(self, stage: JoinStage) -> list[tuple[str, str, int]]:
        """The sides of a join whose tokens have another width: the stream, the variable behind its regrouping, side."""
        name = self.names.of(stage.name)
        return [
            (stream, f"{name}_{which}", side)
            for side, (stream, which) in enumerate(zip(stage.reads, ("left", "right"), strict=True))
            if stage.entering[side] != stage.side_lanes(side)
        ]

    def call(self, printer: Printer, stage: Stage) -> None:
        """The process, or processes, of a stage."""
        name, struct = self.names.of(stage.name), self.names.struct(stage.name)
        wires = [self.variables[stream] for stream in stage.reads]
        tables: list[str] = []
        if isinstance(stage, PortStage):
            engine = "read_axis" if stage.is_input else "write_axis"
            wires = [self.ports[0]] if stage.is_input else [*wires, self.ports[1]]
        elif isinstance(stage, SumStage):
            added = stage.products == ADDERS
            arithmetic = "constant_" if added else _ARITHMETIC.get(type(stage), "")
            engine = arithmetic + ("conv2d" if stage.scan is not None else "dense")
            tables = [f"{name}_{table}" for table in (*(() if added else ("weights",)), *columns(stage))]
        elif isinstance(stage, RealMeanStage):
            engine = "real_mean"
        elif isinstance(stage, MeanStage):
            engine = "avgpool2d" if stage.scan is not None else "globalavgpool"
            tables = [f"{name}_reciprocals"]
        elif isinstance(stage, JoinStage):
            engine = _ARITHMETIC.get(type(stage), "") + stage.op
            for stream, variable, side in self.regrouped(stage):
                elements = stage.side_positions(side) * stage.channels[side]
                numbers = f"{stage.entering[side]}, {stage.side_lanes(side)}, {elements}"
                pieces = f"Regroup<{self.types.of(stream)}, {numbers}>"
                printer.line(f"nn::regroup<{pieces}>({self.variables[stream]}, {variable});")
                wires[side] = variable
        else:
            engine = _ENGINES[type(stage)]
        outs = [self.variables[stream] for stream in stage.writes]
        printer.line(f"nn::{engine}<{struct}>({', '.join([*wires, *outs, *tables])});")

    def csim(self) -> str:
        ports = f"Inputs<{self.names.struct(self.input.name)}>(), Outputs<{self.names.struct(self.output.name)}>()"
        printer = Printer()
        printer.line(f"// {self.origin}: {self.top} as a C function, for C simulation")
        printer.block(f'#include "csim.hpp"\n\n#include "{self.top}.hpp"\n')
        printer.block(f"using namespace bitwright::csim;\nusing namespace {self.space};\n")
        printer.line('extern "C" int bitwright_run(const std::int64_t* const* inputs, std::int64_t* const* outputs,')
        with printer.braces("                             std::int64_t frames)"):
            printer.line(f"return run(::{self.top}, {ports}, inputs, outputs, frames);")
        return str(printer)

    def testbench(self) -> str:
        ports = f"{self.names.struct(self.input.name)}, {self.names.struct(self.output.name)}"
        printer = Printer()
        printer.line(f"// {self.origin}: runs {self.top} on golden vectors; 0 if every output is as it should be")
        printer.block(
            f'#include "bitwright/testbench.hpp"\n\n#include "{self.top}.hpp"\n\nusing namespace {self.space};\n'
        )
        with printer.braces("int main(int count, char** arguments)"):
            allowed = "".join(f", {number!r}" for number in self.allowed())
            printer.line(f"return testbench<{ports}>(::{self.top}, count, arguments{allowed});")
        return str(printer)


def columns(stage: SumStage) -> dict[str, tuple[str, NDArray[Any]]]:
    """The tables of a number an output: their C++ type, with {} for the struct, and their numbers."""
    if isinstance(stage, FloatSumStage):
        reals = {"bias": stage.real_bias, "scale": stage.scale}
        return {name: ("float", np.array([f"{float(x)!r}f" for x in column])) for name, column in reals.items()}
    bias = {"bias": ("Const<{}::acc_bits>", stage.bias)}
    if isinstance(stage, ScaledSumStage):
        scales = {"multiplier": stage.multiplier, "offset": stage.offset}
        return bias | {name: (f"Const<{{}}::{name}_bits>", numbers) for name, numbers in scales.items()}
    return bias | {"shift": ("Const<8>", stage.shift)}


def folded(stage: SumStage) -> NDArray[np.int64]:
    """The codes as the memory holds them, [folds, pe, simd]: of each vector all groups of rows, and of each all chunks
    of columns; in float32 all chunks, and of each all groups.
    """
    vectors = stage.outputs // stage.pe // stage.sharing
    tiles = stage.codes.reshape(vectors, stage.sharing, stage.pe, stage.inputs // stage.simd, stage.simd)
    order = (0, 3, 1, 2, 4) if isinstance(stage, FloatSumStage) else (0, 1, 3, 2, 4)
    return tiles.transpose(order).reshape(-1, stage.pe, stage.simd)


def _format(format: Number) -> str:
    if isinstance(format, Scaled):
        words = [f"{np.float32(value).view(np.uint32):#010x}u" for value in (format.scale, 1 / format.scale)]
        return f"Affine<{format.low}, {format.high}, {', '.join(words)}>"
    if format.n_e:
        return f"Float<{format.n_s}, {format.n_e}, {format.n_f}, {format.bias}>"
    if takes_sign(format):
        return f"Signs<{format.bias}>"
    name = "Fixed" if format.n_s else "UFixed"
    return f"{name}<{format.width}, {format.bias}>"


def _weight_format(stage: SumStage) -> str:
    format = stage.weight_format
    if isinstance(format, Affine):
        return f"Linear<{format.n}>"
    assert isinstance(format, Canonical)
    if isinstance(stage, FloatSumStage) and format.n_e:
        return _format(format)
    bias = f", {format.bias}" if isinstance(format.bias, int) and format.bias else ""
    if format.kind == "BIN":
        return f"Bin<{format.bias if isinstance(format.bias, int) else 0}>"
    return f"Exp<{format.width}, {stage.levels}>" if format.kind == "EXP" else f"Fixed<{format.width}{bias}>"


def integers_text(frames: Sequence[NDArray[np.int64]]) -> str:
    """Golden vectors: a frame a line, integers in the order of the stream."""
    return "".join(" ".join(map(str, frame.reshape(-1).tolist())) + "\n" for frame in frames)
