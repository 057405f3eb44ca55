"""The struct of every stage: its shape, its folding and its formats, as the header library wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.adder_cost import graph_of
from bitwright.backends.hls.adder_text import declared_sums
from bitwright.backends.hls.cpp import Names, Printer
from bitwright.backends.hls.estimate import products_in_dsp, stage_cycles
from bitwright.backends.hls.stages import (
    ADDERS,
    FloatSumStage,
    ForkStage,
    JoinStage,
    MeanStage,
    PointStage,
    PoolStage,
    PortStage,
    RealJoinStage,
    RealMeanStage,
    RealPointStage,
    ScaledSumStage,
    Scan,
    Stage,
    SumStage,
    writers,
)

LARGEST = float(np.finfo(np.float32).max)


class Shapes:
    """Prints the structs of some stages, whose names are given."""

    def __init__(self, stages: Sequence[Stage], names: Names) -> None:
        self.names = names
        self.writer = writers(stages)

    def has_format(self, stage: Stage) -> bool:
        """Whether a stage gives numbers of a format of its own, rather than those that it reads."""
        return not isinstance(stage, PoolStage | ForkStage) and bool(stage.writes)

    def of(self, stream: str) -> str:
        """The alias of the format of a stream."""
        stage = self.writer[stream]
        return f"{self.names.of(stage.name)}_t" if self.has_format(stage) else self.of(stage.reads[0])

    def shape(self, printer: Printer, stage: Stage) -> None:
        """The members of a stage's struct."""
        if isinstance(stage, SumStage):
            self._sum(printer, stage)
        elif isinstance(stage, MeanStage):
            self._mean(printer, stage)
        elif isinstance(stage, JoinStage):
            self._join(printer, stage)
        elif isinstance(stage, PointStage):
            self._types(printer, In=stage.reads[0], Out=stage.name)
            if isinstance(stage, RealPointStage):
                _clip(printer, stage.clip)
            else:
                printer.line(f"using Activation = {_activation(stage.act)};")
                _numbers(printer, {"acc_bits": stage.acc_bits, "min_shift": stage.shift, "max_shift": stage.shift})
            _numbers(printer, {"elements": stage.elements, "lanes": stage.lanes}, _cycles(stage))
        else:
            self._types(printer, Format=stage.reads[0] if stage.reads else stage.name)
            if isinstance(stage, PoolStage):
                _scan(printer, stage.scan)
                _numbers(printer, {"lanes": stage.lanes}, _cycles(stage))
            else:
                beat = {"beat": stage.beat} if isinstance(stage, PortStage) else {}
                _numbers(printer, {"elements": stage.elements, "lanes": stage.lanes} | beat, _cycles(stage))

    def _types(self, printer: Printer, **streams: str) -> None:
        for name, stream in streams.items():
            printer.line(f"using {name} = {self.of(stream)};")

    def _sum(self, printer: Printer, stage: SumStage) -> None:
        self._types(printer, In=stage.reads[0], Out=stage.name)
        printer.line(f"using Weight = {self.names.of(stage.name)}_weight_t;")
        if isinstance(stage, FloatSumStage):
            _clip(printer, stage.clip)
        else:
            printer.line(f"using Activation = {_activation(stage.act)};")
        if stage.scan is not None:
            _scan(printer, stage.scan)
        sizes = {"positions": stage.positions, "inputs": stage.inputs, "outputs": stage.outputs}
        _numbers(printer, sizes | {"conv_groups": stage.groups})
        if isinstance(stage, FloatSumStage):
            _flags(printer, {"has_scale": stage.scaled})
        else:
            least, most = int(stage.shift.min()), int(stage.shift.max())
            _numbers(printer, {"acc_bits": stage.acc_bits, "min_shift": least, "max_shift": most})
            if stage.products != ADDERS:
                _flags(printer, {"adder_tree": stage.adder_tree, "in_dsp": products_in_dsp(stage) > 0})
                _numbers(printer, {"packing": stage.packing})
        if isinstance(stage, ScaledSumStage):
            _numbers(printer, {"sum_bits": stage.sum_bits, "total_bits": stage.total_bits})
            _numbers(printer, {"multiplier_bits": stage.multiplier_bits, "offset_bits": stage.offset_bits})
            _flags(printer, {"one_scale": stage.one_scale, "has_offset": bool(stage.offset.any())})
        count, what = stage.multipliers, "multiplier"
        if stage.products == ADDERS:
            count, what = len(graph_of(stage).adders) * stage.pixels, "adder"
        note = f"{count:,} {what}{'' if count == 1 else 's'}, {_cycles(stage)}"
        _numbers(printer, {"vectors": stage.vectors, "pixels": stage.pixels})
        _numbers(printer, {"lanes": stage.lanes, "simd": stage.simd, "pe": stage.pe}, note)
        if stage.products == ADDERS:
            printer.line(declared_sums(self.names.struct(stage.name)))

    def _mean(self, printer: Printer, stage: MeanStage) -> None:
        self._types(printer, In=stage.reads[0], Out=stage.name)
        if isinstance(stage, RealMeanStage):
            _numbers(printer, {"channels": stage.channels, "positions": stage.positions})
            _numbers(printer, {"lanes": stage.lanes}, _cycles(stage))
            return
        printer.line("using Activation = nn::None;")
        if stage.scan is not None:
            _scan(printer, stage.scan)
            names = ("first_row", "first_col", "end_row", "end_col")
            _numbers(printer, dict(zip(names, stage.counted, strict=True)))
        else:
            _numbers(printer, {"channels": stage.channels, "positions": stage.positions})
        _flags(printer, {"uniform": len(reciprocals(stage)) == 1})
        _numbers(printer, {"sum_bits": stage.sum_bits, "shift": stage.shift, "most": stage.most})
        _numbers(printer, {"lanes": stage.lanes}, _cycles(stage))

    def _join(self, printer: Printer, stage: JoinStage) -> None:
        self._types(printer, Left=stage.reads[0], Right=stage.reads[1], Out=stage.name)
        real = isinstance(stage, RealJoinStage)
        if not real:
            printer.line("using Activation = nn::None;")
        left, right = stage.channels
        if stage.op == "concat":
            _numbers(printer, {"positions": stage.positions, "left_channels": left, "right_channels": right})
            places = {"left_shift": stage.shifts[0], "right_shift": stage.shifts[1]}
        else:
            _flags(printer, {"broadcast": stage.broadcast})
            _numbers(printer, {"positions": stage.positions, "channels": left})
            places = {"min_shift": stage.shifts[0], "max_shift": stage.shifts[0]}
            if not real:
                _numbers(printer, {"left_up": stage.ups[0], "right_up": stage.ups[1]})
        if not real:
            _numbers(printer, {"acc_bits": stage.acc_bits} | places)
        _numbers(printer, {"lanes": stage.lanes}, _cycles(stage))


def reciprocals(stage: MeanStage) -> NDArray[np.int64]:
    """The table of avgpool.hpp: ceil(2^S / count) of every count of pixels, or of the only one there is."""
    whole = max(1, stage.sum_bits - 1 + max(0, -stage.shift) - max(0, stage.shift))
    places = whole + (stage.most - 1).bit_length()
    counts = [stage.most] if stage.uniform else range(1, stage.most + 1)
    found = [-(-(1 << places) // count) for count in counts]
    return np.array(found if stage.uniform else [0, *found], np.int64)


def _cycles(stage: Stage) -> str:
    return f"{stage_cycles(stage):,} cycles"


def _activation(act: tuple[int | None, int | None]) -> str:
    low, high = act
    if low == 0 and high is None:
        return "nn::Relu"
    if low is None and high is None:
        return "nn::None"
    lower, upper = "-nn::unbounded" if low is None else str(low), "nn::unbounded" if high is None else str(high)
    return f"nn::Clip<{lower}, {upper}>"


def _scan(printer: Printer, scan: Scan) -> None:
    (rows, cols), (out_rows, out_cols) = scan.size, scan.out
    image = {"channels": scan.channels, "in_rows": rows, "in_cols": cols}
    _numbers(printer, image | {"out_rows": out_rows, "out_cols": out_cols})
    kernel = {"kernel_rows": scan.kernel[0], "kernel_cols": scan.kernel[1]}
    _numbers(printer, kernel | {"stride_rows": scan.strides[0], "stride_cols": scan.strides[1]})
    _numbers(printer, dict(zip(("pad_top", "pad_left", "pad_bottom", "pad_right"), scan.pads, strict=True)))


def _clip(printer: Printer, bounds: tuple[float, float]) -> None:
    """The bounds of an activation in float32; float32's own ends where it has none."""
    ends = np.clip(np.array(bounds), -LARGEST, LARGEST).astype(np.float32)
    low, high = (f"{float(end)!r}f" for end in ends)
    printer.line(f"static constexpr float act_low = {low}, act_high = {high};")


def _flags(printer: Printer, flags: Mapping[str, bool]) -> None:
    """A line of constants that are true or false."""
    text = ", ".join(f"{name} = {'true' if flag else 'false'}" for name, flag in flags.items())
    printer.line(f"static constexpr bool {text};")


def _numbers(printer: Printer, numbers: Mapping[str, int], note: str = "") -> None:
    """A line of constants, and a note behind it."""
    text = "static constexpr int " + ", ".join(f"{key} = {value}" for key, value in numbers.items()) + ";"
    printer.line(f"{text}  // {note}" if note else text)
