"""The cheapest foldings for an interval, over all widths of the tokens between the stages.

A stage's choices are a table: a width for each class of streams that it touches (streams whose widths follow from each
other are one class), and what is its own: the simd or the like, and how many products share a DSP slice. A layer whose
tokens are wider than its rows gives several pixels at once. For an interval T and a price for each resource,
every table becomes the price of the cheapest choice of at most T cycles for each combination of widths; the sum of all
tables is minimised by eliminating one class after the other, that with the fewest neighbours first. That is exact, and
quick as long as few branches run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.adder_cost import graph_of
from bitwright.backends.hls.board import Board
from bitwright.backends.hls.cost import Cost
from bitwright.backends.hls.elimination import eliminated, elimination_order
from bitwright.backends.hls.estimate import (
    cost,
    engine_cost,
    entry_cost,
    loop_cycles,
    products_in_dsp,
    side_cost,
    stage_cycles,
    sum_cycles,
)
from bitwright.backends.hls.packing import packable
from bitwright.backends.hls.real_cost import float_depth
from bitwright.backends.hls.stages import (
    ADDERS,
    WIDEST_BEAT,
    JoinStage,
    PortStage,
    Scan,
    Stage,
    SumStage,
)

ADDED = 0  # in place of simd: all rows and columns, as adders
MOST_MULTIPLIERS = 4096  # of one layer: beyond, the tools take hours
SCARCE = 1e9  # how much more the scarce resource counts than all together

# By layer: (pe or lanes, simd, pixels), None where free.
Foldings = Mapping[str, tuple[int | None, int | None, int | None]]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@cache
def divisors(number: int) -> tuple[int, ...]:
    """Every number that divides, ascending."""
    return tuple(d for d in range(1, number + 1) if number % d == 0)


@dataclass(frozen=True)
class _Table:
    """The choices of one stage: axes are classes of streams, the last axis is its own.

    cycles: [widths..., own], infinite where there is no such choice; shares: [resources, widths..., own].
    packing: of each of its own choices; the first of those that cost the same is taken.
    """

    stage: int
    axes: tuple[int, ...]
    own: tuple[int, ...]
    cycles: Floats
    shares: Floats
    packing: tuple[int, ...]


class Choices:
    """Every folding of some stages with every width of token that may enter them, on a board.

    given: foldings that are not free.
    """

    def __init__(self, stages: Sequence[Stage], board: Board, given: Foldings = MappingProxyType({})) -> None:
        self.given = given
        self.stages = [plain(stage) for stage in stages]
        self.board = board
        self.names = tuple(_resources(Cost(), board))
        self.classes: dict[str, int] = {}
        self.widths: list[tuple[int, ...]] = []  # of each class, where it begins
        self.tokens: dict[str, tuple[int, ...]] = {}  # of each stream, for the widths of its class; 0: impossible
        known: dict[object, _Table] = {}
        self.tables = [self._table(index, known) for index in range(len(self.stages))]
        self.order = elimination_order([table.axes for table in self.tables], len(self.widths))
        found = np.unique(np.concatenate([table.cycles.reshape(-1) for table in self.tables]))
        self.targets = [int(cycles) for cycles in found if np.isfinite(cycles)]

    def _table(self, index: int, known: dict[object, _Table]) -> _Table:
        stage = self.stages[index]
        entering = [self.classes[stream] for stream in stage.reads]
        own: tuple[int, ...]
        if isinstance(stage, SumStage):
            pe, simd, pixels = self.given.get(stage.name, (None, None, None))
            leaving = self._new(stage, _leaving(stage, pe, pixels))
            own = _columns(stage, simd)
        elif isinstance(stage, JoinStage):
            lanes = self.given.get(stage.name, (None,))[0]
            entered = [self.tokens[stream] for stream in stage.reads]
            both = joined_widths(stage, entered) if lanes is None else (lanes,)
            leaving, own = self._new(stage, both), (1,)
        elif isinstance(stage, PortStage):
            own = _beats(stage)
            leaving = self._new(stage, own) if stage.is_input else entering[0]
        else:
            leaving, own = entering[0], (1,)
            self._follow(stage, leaving)
        axes = tuple(dict.fromkeys([*entering, leaving]))
        streams = [self.tokens[stream] for stream in (*stage.reads, *stage.writes[:1])]
        key = (_shape(stage, own), tuple(map(axes.index, entering)), tuple(streams), own)
        if key not in known:
            known[key] = self._filled(index, axes, entering, leaving, own)
        return replace(known[key], stage=index, axes=axes)

    def _new(self, stage: Stage, widths: tuple[int, ...]) -> int:
        self.widths.append(widths)
        self.classes[stage.name], self.tokens[stage.name] = len(self.widths) - 1, widths
        return len(self.widths) - 1

    def _follow(self, stage: Stage, leaving: int) -> None:
        """The streams that leave a stage without a choice are of the class that enters."""
        enter = self.tokens[stage.reads[0]]
        entered = [stage.entered_by([width]) if width else None for width in enter]
        widths = tuple(made.out_lanes if made is not None and made.possible else 0 for made in entered)
        for stream in stage.writes:
            self.classes[stream], self.tokens[stream] = leaving, widths

    def _filled(
        self, index: int, axes: tuple[int, ...], entering: Sequence[int], leaving: int, own: tuple[int, ...]
    ) -> _Table:
        stage = self.stages[index]
        packing = self._packings(stage)
        sizes = [np.arange(len(self.widths[axis])) for axis in axes]
        grid = np.meshgrid(*sizes, np.array(own), indexing="ij")

        def tokens(stream: str, axis: int) -> Ints:
            return np.asarray(np.array(self.tokens[stream], np.int64)[grid[axes.index(axis)]])

        enter = [tokens(stream, axis) for stream, axis in zip(stage.reads, entering, strict=True)]
        if isinstance(stage, SumStage):
            made = [
                self._sum(replace(stage, packing=count), enter[0], tokens(stage.name, leaving), grid[-1])
                for count in packing
            ]
            cycles, shares = (np.concatenate(parts, -1) for parts in zip(*made, strict=True))
        elif isinstance(stage, JoinStage):
            cycles, shares = self._join(stage, enter[0], enter[1], tokens(stage.name, leaving))
        elif isinstance(stage, PortStage):
            width = tokens(stage.name, leaving) if stage.is_input else enter[0]
            both = width * (WIDEST_BEAT + 1) + grid[-1]  # one number for a token and a beat
            cycles, shares = self._each(
                both, lambda number: folded(stage, number // (WIDEST_BEAT + 1), number % (WIDEST_BEAT + 1))
            )
        else:
            cycles, shares = self._each(enter[0], lambda width: folded(stage.entered_by([width] * len(stage.reads))))
        spread = tuple(count for count in packing for _ in own)
        return _Table(index, axes, own * len(packing), cycles, shares, spread)

    def _packings(self, stage: Stage) -> tuple[int, ...]:
        """How many products of a layer may share a DSP slice: one, or as many as fit; or as is decided."""
        if not isinstance(stage, SumStage):
            return (1,)
        if stage.products or not products_in_dsp(stage):
            return (stage.packing,)
        return tuple(dict.fromkeys((1, packable(stage, self.board))))

    def _sum(self, stage: SumStage, lanes: Ints, width: Ints, own: Ints) -> tuple[Floats, Floats]:
        """What depends on the tokens that enter and what on the folding are added up, each worked out once."""
        pe, pixels = _rows(stage, width)
        simd = np.where(own == ADDED, stage.inputs, own)
        takes = np.isin(lanes, [w for w in np.unique(lanes) if w and (stage.scan is None or stage.scan.takes(w))])
        lanes = np.where(takes, lanes, 1)
        windows = pixels if stage.scan is None else _windows(stage.scan, lanes)
        number = ((windows * (1 + width.max()) + width) * (stage.inputs + 1) + own).reshape(-1)
        _, first, places = np.unique(number, return_index=True, return_inverse=True)
        made = [
            replace(_with_columns(stage, int(at[2])), lanes=int(at[0]), pe=int(at[1]), pixels=int(at[3]))
            for at in zip(*(axis.reshape(-1)[first] for axis in (lanes, pe, own, pixels)), strict=True)
        ]
        fits = np.array([one.possible and one.multipliers <= MOST_MULTIPLIERS for one in made], bool)
        engines = [engine_cost(one, self.board) if fit else Cost() for one, fit in zip(made, fits, strict=True)]
        possible = takes & fits[places].reshape(lanes.shape)
        cycles = np.where(possible, sum_cycles(stage, lanes, pe, simd, pixels), np.inf)
        entry = self._looked_up(lanes, lambda given: entry_cost(replace(stage, lanes=given)))
        rows = [list(_resources(engine, self.board).values()) for engine in engines]
        return cycles, entry + np.array(rows).T[:, places.reshape(lanes.shape)]

    def _join(self, stage: JoinStage, left: Ints, right: Ints, lanes: Ints) -> tuple[Floats, Floats]:
        most = 1 + int(lanes.max())

        def entering(side: int, width: Ints) -> Floats:
            return self._looked_up(
                width * most + lanes,
                lambda number: side_cost(_joined(stage, (number // most, number // most), number % most), side),
            )

        engine = self._looked_up(lanes, lambda width: engine_cost(_joined(stage, (width, width), width), self.board))
        elements = [stage.side_positions(side) * stage.channels[side] for side in (0, 1)]
        moved = [
            elements[side] // np.gcd(width, _of_side(stage, side, lanes)) for side, width in ((0, left), (1, right))
        ]
        slowest = np.maximum(*moved)
        together = sum(elements) if stage.op == "concat" else elements[0]
        slowest = loop_cycles(np.maximum(slowest, together // lanes)) + float_depth(stage)
        cycles = np.where(left * right > 0, slowest, np.inf)
        return cycles, entering(0, left) + entering(1, right) + engine

    def _each(self, widths: Ints, made: Callable[[int], Stage | None]) -> tuple[Floats, Floats]:
        """Of a stage that has no choice but the width of its tokens."""
        stages = {int(width): made(int(width)) for width in np.unique(widths)}
        cycles = np.vectorize(
            lambda width: np.inf if (stage := stages[int(width)]) is None else float(stage_cycles(stage)),
            otypes=[np.float64],
        )(widths)
        return cycles, self._looked_up(
            widths, lambda width: Cost() if (stage := stages[width]) is None else cost(stage, self.board)
        )

    def _looked_up(self, keys: Ints, need: Callable[[int], Cost]) -> Floats:
        """The shares of the board, [resources, ...], worked out once for each number in `keys`."""
        different, places = np.unique(keys, return_inverse=True)
        rows = [list(_resources(need(int(key)), self.board).values()) for key in different]
        return np.asarray(np.array(rows).T[:, places.reshape(keys.shape)])

    @property
    def have_adders(self) -> bool:
        """Whether adders are a choice of some layer beside others."""
        return any(ADDED in table.own and set(table.own) != {ADDED} for table in self.tables)

    def cheapest(self, target: int, scarce: str = "", adders: bool = True) -> list[Stage] | None:
        """The stages of at most `target` cycles that need the smallest shares of the board, or None if there are none.

        scarce: the resource of which they are to need the least; else all count alike. adders: whether they may take
        the place of products where that is not decided.
        """
        weights = np.array([1.0 + SCARCE * (name == scarce) for name in self.names])
        bests, prices = [], []
        for table in self.tables:
            allowed = np.array(table.own) != ADDED if not adders and set(table.own) != {ADDED} else True
            weighed = np.where((table.cycles <= target) & allowed, np.tensordot(weights, table.shares, 1), np.inf)
            best = weighed.argmin(-1)
            bests.append(best)
            prices.append((table.axes, np.take_along_axis(weighed, best[..., None], -1)[..., 0]))
        picked = eliminated(prices, self.order)
        if picked is None:
            return None
        made: list[Stage] = []
        for table, best in zip(self.tables, bests, strict=True):
            stage = self.stages[table.stage]
            chosen_own = int(best[tuple(picked[axis] for axis in table.axes)])
            if isinstance(stage, SumStage):
                stage = replace(stage, packing=table.packing[chosen_own])
            widths = [self.tokens[stream][picked[self.classes[stream]]] for stream in (*stage.reads, *stage.writes[:1])]
            chosen = folded(stage.entered_by(widths[: len(stage.reads)]), widths[-1], table.own[chosen_own])
            assert chosen is not None
            made.append(chosen)
        return made


def plain(stage: Stage) -> Stage:
    """A stage without the folding and the depths of an earlier plan."""
    if isinstance(stage, SumStage):
        return replace(stage, lanes=1, depths=(), pe=1, simd=1, pixels=1)
    if isinstance(stage, JoinStage):
        return replace(stage, lanes=1, depths=(), entering=(1, 1), least=(1, 1))
    if isinstance(stage, PortStage):
        return replace(stage, lanes=1, depths=(), beat=1)
    return replace(stage, lanes=1, depths=())


def _beats(stage: PortStage) -> tuple[int, ...]:
    """How many elements a beat may carry."""
    return tuple(d for d in divisors(stage.elements) if d * stage.container <= WIDEST_BEAT)


def folded(stage: Stage, width: int = 1, own: int = 1) -> Stage | None:
    """The stage, whose entering widths are set, with tokens of `width` leaving; None if it takes no such tokens."""
    if not width or not stage.lanes:
        return None
    if isinstance(stage, SumStage):
        pe, pixels = _rows(stage, np.array(width))
        stage = replace(_with_columns(stage, own), pe=int(pe), pixels=int(pixels))
    elif isinstance(stage, JoinStage):
        stage = replace(stage, lanes=width)
    elif isinstance(stage, PortStage):
        stage = replace(stage, lanes=width, beat=own)
    return stage if stage.possible else None


def joined_widths(stage: JoinStage, entered: Sequence[Collection[int]]) -> tuple[int, ...]:
    """The widths that an add, mul or concat may work in: parts of a pixel, and several pixels if such tokens enter.

    entered: the widths of tokens that may enter, by side.
    """
    counts = {
        width // channels for widths, channels in zip(entered, stage.channels, strict=True) for width in widths if width
    }
    whole = [count * stage.pixel for count in sorted(counts | {1}) if count]
    parts = divisors(int(np.gcd(*stage.channels)))
    return (*parts, *(width for width in whole if width > parts[-1] and stage.takes(width)))


def _leaving(stage: SumStage, pe: int | None, pixels: int | None) -> tuple[int, ...]:
    """The widths of the tokens that may leave a layer: some rows of a pixel, or all rows of several pixels."""
    rows = divisors(stage.parallel_rows) if pe is None else (pe,)
    most = MOST_MULTIPLIERS // (stage.outputs * stage.inputs)
    side_by_side = [n for n in divisors(stage.positions) if 1 < n <= most and stage.outputs in rows]
    counts = side_by_side if pixels is None else [n for n in (pixels,) if n in side_by_side]
    return (*(rows if pixels in (None, 1) else ()), *(stage.outputs * n for n in counts))


def _columns(stage: SumStage, simd: int | None) -> tuple[int, ...]:
    """The numbers of columns that may work side by side, and ADDED where that may be."""
    if stage.products == ADDERS:
        return (ADDED,)
    found = divisors(stage.inputs) if simd is None else (simd,)
    return (*found, ADDED) if may_be_adders(stage) and stage.inputs in found else found


def may_be_adders(stage: SumStage) -> bool:
    """Whether adders may take the place of a layer's products, as far as it is decided."""
    free = stage.products in ("", ADDERS) and stage.adder_tree and stage.storage in ("", "logic")
    return free and stage.adders_possible and stage.outputs * stage.inputs <= MOST_MULTIPLIERS


def _with_columns(stage: SumStage, own: int) -> SumStage:
    if own == ADDED:
        return replace(stage, simd=stage.inputs, products=ADDERS, packing=1)
    return replace(stage, simd=own)


def _rows(stage: SumStage, width: Ints) -> tuple[Ints, Ints]:
    """(pe, pixels) of tokens that leave: those that are wider than a pixel hold several."""
    pixels = np.maximum(1, width // stage.outputs)
    return width // pixels, pixels


def _windows(scan: Scan, lanes: Ints) -> Ints:
    different, places = np.unique(lanes, return_inverse=True)
    return np.array([scan.steps(int(width)).windows for width in different])[places.reshape(lanes.shape)]


def _joined(stage: JoinStage, entering: tuple[int, int], lanes: int) -> JoinStage:
    return replace(stage, entering=entering, lanes=lanes)


def _of_side(stage: JoinStage, side: int, lanes: Ints) -> Ints:
    """Its side_lanes for all these lanes."""
    if stage.op != "concat":
        return lanes
    return np.where(lanes < stage.pixel, lanes, lanes // stage.pixel * stage.channels[side])


def _shape(stage: Stage, own: tuple[int, ...]) -> object:
    """What stages that cost and take the same have in common."""
    fields = dict(vars(stage))
    for name in ("name", "line", "reads", "copies", "outside", "part_of", "weights", "codes", "bias", "graph"):
        fields.pop(name, None)
    if isinstance(stage, SumStage):
        fields |= {"weights": stage.weights.shape, "shift": (int(stage.shift.min()), int(stage.shift.max()))}
        if ADDED in own:
            fields |= {"adders": (graph_of(stage).luts, graph_of(stage).bits)}
    return type(stage), tuple(sorted((name, repr(value)) for name, value in fields.items()))


def _resources(need: Cost, board: Board) -> dict[str, float]:
    """Shares of a board, by resource."""
    return {name: amount / max(have, 1) for name, (amount, have) in shares(need, board).items()}


def shares(total: Cost, board: Board) -> Mapping[str, tuple[float, int]]:
    """What a design needs (the upper end of a range) and what the board has, by resource."""
    return {
        "LUT": (total.lut[1], board.lut),
        "FF": (total.ff[1], board.ff),
        "BRAM18": (total.bram18, 2 * board.bram36),
        "DSP": (total.dsp, board.dsp),
    }
