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

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.cpp import Names, Printer, end_header, header, table
from bitwright.backends.hls.estimate import rom_in_bram, stage_cycles
from bitwright.backends.hls.plan import Plan
from bitwright.backends.hls.stages import PoolStage, PortStage, Scan, Stage, SumStage, ports_of
from bitwright.ir.formats import Canonical

INPUT_STREAM = "pixels "  # the blank makes it nobody else's name


def emit(plan: Plan, name: str, origin: str) -> dict[str, str]:
    """The generated files by path. name: the network's; origin: the words that every file's first line carries."""
    return _Emitter(plan, name, origin).files()


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

    def files(self) -> dict[str, str]:
        files = {
            "src/formats.hpp": self.formats(),
            "src/shapes.hpp": self.shapes(),
            f"src/{self.top}.hpp": self.top_header(),
            f"src/{self.top}.cpp": self.top_function(),
            "csim/csim.cpp": self.csim(),
            "tb/testbench.cpp": self.testbench(),
        }
        for stage in self.sums():
            files[f"src/weights/{self.names.of(stage.name)}.hpp"] = self.weights(stage)
        return files

    def sums(self) -> list[SumStage]:
        return [stage for stage in self.plan.stages if isinstance(stage, SumStage)]

    def guard(self, file: str) -> str:
        return f"{self.top}_{file}_HPP".upper()

    def format_of(self, index: int) -> str:
        """The alias of the format in which stage `index` gives its numbers."""
        stage = self.plan.stages[index]
        if isinstance(stage, PoolStage) or (isinstance(stage, PortStage) and not stage.is_input):
            return self.format_of(index - 1)
        return f"{self.names.of(stage.name)}_t"

    def formats(self) -> str:
        printer = header(
            [f"{self.origin}: the formats of {self.top}"], self.guard("formats"), ["bitwright/formats.hpp"]
        )
        with printer.namespace(self.space):
            printer.line("using namespace bitwright;")
            printer.line()
            for index, stage in enumerate(self.plan.stages):
                if isinstance(stage, SumStage) or index == 0:
                    printer.line(f"using {self.format_of(index)} = {_format(stage.format)};")
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
                    self.shape(printer, index, stage)
        return end_header(printer)

    def shape(self, printer: Printer, index: int, stage: Stage) -> None:
        cycles = stage_cycles(stage)
        if isinstance(stage, PortStage):
            printer.line(f"using Format = {self.format_of(index)};")
            printer.line(f"static constexpr int elements = {stage.elements}, lanes = {stage.lanes};")
        elif isinstance(stage, PoolStage):
            printer.line(f"using Format = {self.format_of(index)};")
            _scan(printer, stage.scan)
            printer.line(f"static constexpr int lanes = {stage.lanes};  // {cycles:,} cycles")
        elif isinstance(stage, SumStage):
            printer.line(f"using In = {self.format_of(index - 1)};")
            printer.line(f"using Out = {self.format_of(index)};")
            printer.line(f"using Weight = {self.names.of(stage.name)}_weight_t;")
            printer.line(f"using Activation = {_activation(stage)};")
            if stage.scan is not None:
                _scan(printer, stage.scan)
            sizes = f"positions = {stage.positions}, inputs = {stage.inputs}, outputs = {stage.outputs}"
            printer.line(f"static constexpr int {sizes};")
            shifts = f"min_shift = {int(stage.shift.min())}, max_shift = {int(stage.shift.max())}"
            printer.line(f"static constexpr int acc_bits = {stage.acc_bits}, {shifts};")
            folding = f"lanes = {stage.lanes}, simd = {stage.simd}, pe = {stage.pe}"
            count = stage.pe * stage.simd
            plural = "" if count == 1 else "s"
            printer.line(f"static constexpr int {folding};  // {count:,} multiplier{plural}, {cycles:,} cycles")

    def weights(self, stage: SumStage) -> str:
        name, struct = self.names.of(stage.name), self.names.struct(stage.name)
        head = [f"{self.origin}: the integers of %{stage.name}"]
        printer = header(head, self.guard(f"weights_{name}"), ["shapes.hpp"])
        by_pe = f"[Fold<{struct}>::groups][{struct}::pe]"
        tables = (
            (
                f"{struct}::Weight::Code {name}_weights[Fold<{struct}>::folds][{struct}::pe][{struct}::simd]",
                folded(stage),
            ),
            (f"Const<{struct}::acc_bits> {name}_bias{by_pe}", stage.bias.reshape(-1, stage.pe)),
            (f"Const<8> {name}_shift{by_pe}", stage.shift.reshape(-1, stage.pe)),
        )
        with printer.namespace(self.space):
            for index, (declaration, values) in enumerate(tables):
                if index:
                    printer.line()
                printer.block(f"static const {declaration} = {table(values)};")
        return end_header(printer)

    def signature(self, space: str, library: str) -> str:
        types = (self.format_of(0), self.format_of(len(self.plan.stages) - 1))
        pairs = zip(types, self.ports, strict=True)
        return f"void {self.top}(" + ", ".join(f"hls::stream<{library}Beat<{space}{t}>>& {p}" for t, p in pairs) + ")"

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
        for layer in self.sums():
            printer.line(f'#include "weights/{self.names.of(layer.name)}.hpp"')
        printer.line()
        printer.line(f"using namespace {self.space};")
        printer.line()
        with printer.braces(self.signature("", "")):
            self.body(printer)
        return str(printer)

    def body(self, printer: Printer) -> None:
        for port in self.ports:
            printer.lines.append(f"#pragma HLS INTERFACE axis port={port}")
        printer.lines.append("#pragma HLS INTERFACE s_axilite port=return")
        printer.lines.append("#pragma HLS DATAFLOW")
        for layer in self.sums():
            if rom_in_bram(layer, self.plan.board):
                printer.line(f"BITWRIGHT_ROM({self.names.of(layer.name)}_weights, BRAM);")
        printer.line()
        inner = self.plan.stages[:-1]
        streams = [self.names.of(INPUT_STREAM), *(self.names.of(stage.name) for stage in inner[1:])]
        for index, (stage, stream) in enumerate(zip(inner, streams, strict=True)):
            token = f"Vec<{self.format_of(index)}, {stage.out_lanes}>"
            printer.line(f'hls::stream<{token}> {stream}("{stage.name}");')
        printer.line()
        printer.line(f"nn::read_axis<{self.names.struct(self.input.name)}>({self.ports[0]}, {streams[0]});")
        for index, stage in enumerate(inner[1:], 1):
            struct, wires = self.names.struct(stage.name), f"{streams[index - 1]}, {streams[index]}"
            if isinstance(stage, SumStage):
                name = self.names.of(stage.name)
                engine = "conv2d" if stage.scan is not None else "dense"
                printer.line(f"nn::{engine}<{struct}>({wires}, {name}_weights, {name}_bias, {name}_shift);")
            else:
                printer.line(f"nn::maxpool2d<{struct}>({wires});")
        printer.line(f"nn::write_axis<{self.names.struct(self.output.name)}>({streams[-1]}, {self.ports[1]});")

    def csim(self) -> str:
        ports = f"Inputs<{self.names.struct(self.input.name)}>(), Outputs<{self.names.struct(self.output.name)}>()"
        printer = Printer()
        printer.line(f"// {self.origin}: {self.top} as a C function, for C simulation")
        printer.block(f'#include "csim.hpp"\n\n#include "{self.top}.hpp"\n')
        printer.block(f"using namespace bitwright::csim;\nusing namespace {self.space};\n")
        printer.line('extern "C" int bitwright_run(const std::int64_t* const* inputs, std::int64_t* const* outputs,')
        with printer.braces("                             std::int64_t frames)"):
            printer.line(f"return run({self.top}, {ports}, inputs, outputs, frames);")
        return str(printer)

    def testbench(self) -> str:
        ports = f"{self.names.struct(self.input.name)}, {self.names.struct(self.output.name)}"
        printer = Printer()
        printer.line(f"// {self.origin}: runs {self.top} on golden vectors; 0 if every output is as it should be")
        printer.block(
            f'#include "bitwright/testbench.hpp"\n\n#include "{self.top}.hpp"\n\nusing namespace {self.space};\n'
        )
        with printer.braces("int main(int count, char** arguments)"):
            printer.line(f"return testbench<{ports}>({self.top}, count, arguments);")
        return str(printer)


def folded(stage: SumStage) -> NDArray[np.int64]:
    """The codes as the memory holds them, [folds, pe, simd]: fold g * chunks + c has rows g * pe, columns c * simd."""
    tiles = stage.codes.reshape(stage.outputs // stage.pe, stage.pe, stage.inputs // stage.simd, stage.simd)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, stage.pe, stage.simd)


def _format(format: Canonical) -> str:
    name = "Fixed" if format.n_s else "UFixed"
    return f"{name}<{format.width}, {format.bias}>"


def _weight_format(stage: SumStage) -> str:
    format = stage.weight_format
    bias = f", {format.bias}" if isinstance(format.bias, int) and format.bias else ""
    if format.kind == "BIN":
        return f"Bin<{format.bias if isinstance(format.bias, int) else 0}>"
    return f"Exp<{format.width}, {stage.levels}>" if format.kind == "EXP" else f"Fixed<{format.width}{bias}>"


def _activation(stage: SumStage) -> str:
    low, high = stage.act
    if low == 0 and high is None:
        return "nn::Relu"
    if low is None and high is None:
        return "nn::None"
    lower, upper = "-nn::unbounded" if low is None else str(low), "nn::unbounded" if high is None else str(high)
    return f"nn::Clip<{lower}, {upper}>"


def _scan(printer: Printer, scan: Scan) -> None:
    def line(**numbers: int) -> None:
        printer.line("static constexpr int " + ", ".join(f"{key} = {value}" for key, value in numbers.items()) + ";")

    line(
        channels=scan.channels,
        in_rows=scan.size[0],
        in_cols=scan.size[1],
        out_rows=scan.out[0],
        out_cols=scan.out[1],
    )
    line(
        kernel_rows=scan.kernel[0],
        kernel_cols=scan.kernel[1],
        stride_rows=scan.strides[0],
        stride_cols=scan.strides[1],
    )
    top, left, bottom, right = scan.pads
    line(pad_top=top, pad_left=left, pad_bottom=bottom, pad_right=right)


def integers_text(frames: Sequence[NDArray[np.int64]]) -> str:
    """Golden vectors: a frame a line, integers in the order of the stream."""
    return "".join(" ".join(map(str, frame.reshape(-1).tolist())) + "\n" for frame in frames)
