"""What a person decides about single layers of a plan; the search decides the rest.

A layer is a stage of the dataflow. What the engines cannot do is refused by name: a pooling fused into a layer, or a
relu taken out of one, is the work of passes; array partition follows from the folding.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import gcd

from bitwright.backends.hls.board import Board
from bitwright.backends.hls.packing import PACKED, packed
from bitwright.backends.hls.stages import (
    ADDERS,
    WIDEST_ADDED,
    FloatSumStage,
    JoinStage,
    PoolStage,
    ScaledSumStage,
    Stage,
    SumStage,
)
from bitwright.backends.hls.widths import MOST_MULTIPLIERS, Foldings, divisors
from bitwright.ir.errors import CompileError

STORAGES = ("bram", "lut", "logic")  # of weights; logic: all of them work in every cycle, as constants
MULTIPLIERS = ("dsp", PACKED, "lut", ADDERS)  # of what the products are made
FUSED = ("relu", "clip", "maxpool")


@dataclass(frozen=True)
class Given:
    """What is decided about a layer; None where it is not.

    pe, simd: rows and columns of its matrix that work in a cycle; pixels: positions for which they do; partition: pe
    and simd as factors of the dimensions 2 and 3 of the weights; lanes: elements a token of an add, mul or concat;
    adder_tree: rather than a chain; multipliers: of what the products are made; storage: of the weights; fusion: what
    the layer does besides; fifo: words of the FIFOs that enter, one an input.
    """

    pe: int | None = None
    simd: int | None = None
    pixels: int | None = None
    partition: tuple[int, int] | None = None
    lanes: int | None = None
    adder_tree: bool | None = None
    multipliers: str | None = None
    storage: str | None = None
    fusion: tuple[str, ...] | None = None
    fifo: tuple[int, ...] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of what is decided."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is not None)


Decisions = Mapping[str, Given]


def keys_of(stage: Stage) -> tuple[str, ...]:
    """What can be decided about a stage."""
    own: tuple[str, ...] = ()
    if isinstance(stage, SumStage):
        made_of = ("multipliers",) if stage.multiplies or stage.exact else ()
        own = ("pe", "simd", "pixels", "partition", "adder_tree", *made_of, "storage", "fusion")
    elif isinstance(stage, JoinStage):
        own = ("lanes",)
    return (*own, *(("fifo",) if stage.reads else ()))


def fusion_of(stage: SumStage, stages: Sequence[Stage]) -> tuple[str, ...]:
    """What a layer does besides its sum, of FUSED."""
    act = () if stage.act == (None, None) else ("relu",) if stage.act == (0, None) else ("clip",)
    pooled = any(isinstance(s, PoolStage) and s.part_of == stage.name for s in stages)
    return (*act, *(("maxpool",) if pooled else ()))


def storage_of(stage: SumStage, in_bram: bool) -> str:
    """Where the weights of a folded layer are."""
    folds = (stage.outputs // stage.pe) * (stage.inputs // stage.simd)
    return "bram" if in_bram else "lut" if folds > 1 else "logic"


def decided(stages: Sequence[Stage], given: Decisions, board: Board) -> list[Stage]:
    """The stages with storage, adders and products as given. Raises CompileError for what they cannot be, naming it."""
    names = [stage.name for stage in stages]
    for name in given:
        if name not in names:
            raise CompileError(f"the plan has no layer {name!r}", help=_nearest(name, names, "the layers are"))
    return [_decided(stage, given.get(stage.name, Given()), stages, board) for stage in stages]


def _decided(stage: Stage, given: Given, stages: Sequence[Stage], board: Board) -> Stage:
    for key in given.keys:
        if key not in keys_of(stage):
            raise CompileError(
                f"%{stage.name} takes no {key!r}", help=f"it takes {', '.join(keys_of(stage)) or 'nothing'}"
            )
    if given.fifo is not None and (len(given.fifo) != len(stage.reads) or min(given.fifo) < 1):
        raise CompileError(f"%{stage.name}: fifo must be {len(stage.reads)} number(s) of words, 1 or more")
    if isinstance(stage, JoinStage) and given.lanes is not None and (given.lanes < 1 or not stage.takes(given.lanes)):
        _divides(stage.name, "lanes", given.lanes, gcd(*stage.channels), "its channels")
    if not isinstance(stage, SumStage):
        return stage
    pe, simd = folding_of(stage.name, given)
    _divides(stage.name, "pe", pe, stage.parallel_rows, "its output channels")
    _divides(stage.name, "simd", simd, stage.inputs, "the inputs of one output")
    if pe and simd and pe * simd > MOST_MULTIPLIERS:
        raise CompileError(f"%{stage.name}: pe {pe} simd {simd} is more than {MOST_MULTIPLIERS:,} multipliers")
    _check_pixels(stage, given.pixels or 1, pe, simd)
    _check_fusion(stage, given, fusion_of(stage, stages))
    if given.adder_tree is False and isinstance(stage, FloatSumStage):
        raise CompileError(f"%{stage.name}: float32 products are added by a tree", help="leave adder_tree out")
    stage = replace(stage, storage=given.storage or "", products=given.multipliers or "", packing=1)
    if not stage.multiplies and given.multipliers in ("dsp", PACKED):
        raise CompileError(
            f'%{stage.name}: multipliers "{given.multipliers}", but its products are signs or shifts',
            help=f'it may be "lut" or "{ADDERS}"',
        )
    if given.multipliers == PACKED:
        stage = _packed(stage, board)
    if given.multipliers == ADDERS:
        _check_adders(stage, given, pe, simd)
    return stage if given.adder_tree is None else replace(stage, adder_tree=given.adder_tree)


def _check_adders(stage: SumStage, given: Given, pe: int | None, simd: int | None) -> None:
    """Adders take the place of products where all weights work in every cycle, as constants."""
    weights = stage.outputs * stage.inputs
    whole = f"pe {stage.outputs} simd {stage.inputs}"
    why, way = "", "leave multipliers out"
    if not stage.exact:
        why = "a layer of FLOAT or AFFINE has scales beside its weights"
    elif stage.groups > 1 and not stage.depthwise:
        why = "its groups of channels take turns"
    elif not stage.adders_possible:
        why = f"its sums have {stage.acc_bits} bits, more than {WIDEST_ADDED}"
    elif weights > MOST_MULTIPLIERS:
        why = f"its {weights:,} weights are more than the {MOST_MULTIPLIERS:,} that may work in every cycle"
    elif pe not in (None, stage.outputs) or simd not in (None, stage.inputs):
        why, way = "its rows and columns take turns", f"adders have {whole}"
    elif given.adder_tree is False:
        why, way = "sums that are shared are no chain", "leave adder_tree out"
    if why:
        raise CompileError(f'%{stage.name}: multipliers "{ADDERS}", but {why}', help=way)


def _packed(stage: SumStage, board: Board) -> SumStage:
    made = packed(stage, board)
    if made.packing == 1:
        widths = f"{stage.weight_format.width} x {stage.in_format.width} bits"
        why = (
            "its rows share no activation"
            if stage.depthwise
            else f"one {board.dsp_kind} makes no two products of {widths}"
        )
        raise CompileError(f'%{stage.name}: multipliers "{PACKED}", but {why}', help='it may be "dsp" or "lut"')
    return made


def _check_pixels(stage: SumStage, pixels: int, pe: int | None, simd: int | None) -> None:
    """Several pixels work side by side where nothing else is left to fold."""
    if pixels == 1:
        return
    if isinstance(stage, FloatSumStage | ScaledSumStage):
        raise CompileError(
            f"%{stage.name}: pixels {pixels}, but a layer of FLOAT or AFFINE takes one at a time",
            help="leave pixels out",
        )
    whole = (stage.outputs, stage.inputs)
    _divides(stage.name, "pixels", pixels, stage.positions, "its positions")
    if not replace(stage, scan=None, pe=whole[0], simd=whole[1], pixels=pixels).possible:
        raise CompileError(
            f"%{stage.name}: pixels {pixels}, but its groups of channels take turns", help="leave pixels out"
        )
    if pe not in (None, whole[0]) or simd not in (None, whole[1]):
        raise CompileError(
            f"%{stage.name}: pixels {pixels}, but its rows and columns take turns",
            help=f"several pixels at once have pe {whole[0]} simd {whole[1]}",
        )
    weights = stage.outputs * stage.inputs
    if pixels * weights > MOST_MULTIPLIERS:
        fewer = [n for n in divisors(stage.positions) if n == 1 or n * weights <= MOST_MULTIPLIERS]
        raise CompileError(
            f"%{stage.name}: pixels {pixels} is {pixels * weights:,} multipliers, more than {MOST_MULTIPLIERS:,}",
            help=f"it may be {', '.join(map(str, fewer))}",
        )


def _check_fusion(stage: SumStage, given: Given, found: tuple[str, ...]) -> None:
    if given.fusion is None or set(given.fusion) == set(found):
        return
    for what in given.fusion:
        if what not in found:
            raise CompileError(f"%{stage.name} has no {what} to fuse", help=f"it has {', '.join(found) or 'none'}")
    left = next(what for what in found if what not in given.fusion)
    raise CompileError(
        f"%{stage.name}: its {left} is always fused", help=f'write fusion = ["{left}", ...], or leave fusion out'
    )


def _divides(name: str, key: str, number: int | None, whole: int, what: str) -> None:
    if number is not None and (number < 1 or whole % number):
        options = ", ".join(map(str, divisors(whole)))
        raise CompileError(f"%{name}: {key} {number} does not divide {whole}, {what}", help=f"it may be {options}")


def folding_of(name: str, given: Given) -> tuple[int | None, int | None]:
    """(pe, simd) as given, by either name. Raises CompileError if partition says another folding."""
    if given.partition is None:
        return given.pe, given.simd
    pe, simd = given.partition
    if given.pe not in (None, pe) or given.simd not in (None, simd):
        raise CompileError(
            f"%{name}: partition {list(given.partition)} is not its folding",
            help="partition is [pe, simd]: it follows from the folding, leave it out",
        )
    return pe, simd


def foldings_of(given: Decisions) -> Foldings:
    """The foldings that are given, as the search takes them."""
    return {
        name: (one.lanes, None, None) if one.lanes is not None else (*folding_of(name, one), one.pixels)
        for name, one in given.items()
    }


def deepened(stages: Sequence[Stage], given: Decisions) -> list[Stage]:
    """Sized stages with the depths of FIFOs that are given. Raises CompileError where the design would stop."""
    made = []
    for stage in stages:
        depths = given[stage.name].fifo if stage.name in given else None
        if (
            depths is not None
            and isinstance(stage, JoinStage)
            and any(depth < least for depth, least in zip(depths, stage.least, strict=True))
        ):
            raise CompileError(
                f"%{stage.name}: with fifo {list(depths)} the design stops for ever",
                help=f"its FIFOs hold no fewer than {list(stage.least)} words",
            )
        made.append(stage if depths is None else replace(stage, depths=depths))
    return made


def check_storage(stages: Sequence[Stage], given: Decisions) -> None:
    """Raise CompileError if a folded layer cannot keep its weights where they are to be."""
    for stage in stages:
        wanted = given[stage.name].storage if stage.name in given else None
        if wanted is not None and isinstance(stage, SumStage):
            in_logic = storage_of(stage, False) == "logic"
            if in_logic != (wanted == "logic"):
                has = "every weight works in every cycle" if in_logic else "its weights take turns"
                may = "logic" if in_logic else "bram or lut"
                raise CompileError(f"%{stage.name}: storage {wanted!r}, but {has}", help=f"storage may be {may}")


def _nearest(name: str, known: Collection[str], what: str) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"{what} {', '.join(known)}"
