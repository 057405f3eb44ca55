"""Foldings and estimates: the plan against every folding there is, the estimate against the headers and by hand."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.board import Board, boards, load_board
from bitwright.backends.hls.cost import Cost, bram18, memory
from bitwright.backends.hls.cpp import Names
from bitwright.backends.hls.estimate import (
    CALL,
    cost,
    estimate,
    loop_cycles,
    multipliers,
    processes,
    products_in_dsp,
    rom,
    rom_in_bram,
    rom_shape,
    stage_cycles,
)
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.loops import DEPTH
from bitwright.backends.hls.packing import packable
from bitwright.backends.hls.plan import MOST_MULTIPLIERS, DoesNotFit, bottleneck, divisors, plan, shares
from bitwright.backends.hls.products import with_fewer_slices
from bitwright.backends.hls.stages import (
    ADDERS,
    ForkStage,
    JoinStage,
    MeanStage,
    PointStage,
    PoolStage,
    PortStage,
    Stage,
    SumStage,
    ports_of,
    stages_of,
)
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.ir.formats import parse as parse_format
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse

# ---- the plan -----------------------------------------------------------------------------------------------------


def slowest(stages: Sequence[Stage]) -> int:
    """Cycles from frame to frame of the slowest stage."""
    return max(map(stage_cycles, stages))


def fits(stages: Sequence[Stage], board: Board, utilisation: float) -> bool:
    needs = shares(estimate(stages, board).total, board).values()
    return all(need <= utilisation * have for need, have in needs)


def fits_somehow(stages: Sequence[Stage], board: Board) -> bool:
    """Whether the stages fit with the products of some of the layers packed, or in LUTs."""
    return any(fits(made, board, 1.0) for made in itertools.product(*(made_of(stage, board) for stage in stages)))


def fits_in_dsps(stages: Sequence[Stage], board: Board) -> bool:
    """Whether the stages fit with the products of some of the layers packed, and none moved to LUTs."""
    choices = ([made for made in made_of(stage, board) if not in_luts(made)] for stage in stages)
    return any(fits(made, board, 1.0) for made in itertools.product(*choices))


def in_luts(stage: Stage) -> bool:
    """Whether the products of a layer were moved to LUTs."""
    return isinstance(stage, SumStage) and stage.products == "lut"


def made_of(stage: Stage, board: Board) -> list[Stage]:
    """A layer with its products made of all that they can be."""
    if not isinstance(stage, SumStage):
        return [stage]
    found: list[Stage] = [stage]
    if products_in_dsp(stage):
        packing = packable(stage, board)
        found += [replace(stage, products="lut"), *([replace(stage, packing=packing)] if packing > 1 else [])]
    return [*found, *as_adders(stage)]


def as_adders(stage: Stage) -> list[Stage]:
    """A layer as adders, if it may be: all of its weights work, and are added by a tree."""
    if not isinstance(stage, SumStage) or not (stage.adders_possible and stage.adder_tree):
        return []
    made = replace(stage, products=ADDERS)
    return [made] if made.possible else []


def every_folding(networks: ModuleType, stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    sums = [stage for stage in stages if isinstance(stage, SumStage)]
    pairs = [networks.sum_foldings(stage) for stage in sums]
    first, _ = ports_of(stages)
    for entering, *chosen in itertools.product(networks.port_widths(first), *pairs):
        leaving = leaving_port(networks, stages, entering, chosen)
        if leaving is None:
            continue
        for port in networks.port_widths(leaving):
            upcoming, ends = iter(chosen), iter((entering, port))
            made = networks.folded(
                stages, lambda _, next_=upcoming: next(next_), port=lambda _, next_=ends: next(next_)
            )
            if possible(made):
                yield made


def leaving_port(
    networks: ModuleType, stages: Sequence[Stage], entering: tuple[int, int], chosen: Sequence[tuple[int, int, int]]
) -> PortStage | None:
    """The output with the lanes that reach it, or None if a stage on the way does not take its tokens."""
    upcoming = iter(chosen)
    made = networks.unsized(stages[:-1], lambda _: next(upcoming), lambda _: 1, lambda _: entering)
    return replace(ports_of(stages)[1], lanes=made[-1].out_lanes) if possible(made) else None


def possible(stages: Sequence[Stage]) -> bool:
    return all(stage.possible for stage in stages)


def chains(networks: ModuleType, most: int, first: int = 0) -> Iterator[list[Stage]]:
    """Random networks, unfolded, with at most so many foldings."""
    for seed in itertools.count(first):
        _, stages, _ = networks.drawn(seed)
        sums = [stage for stage in stages if isinstance(stage, SumStage)]
        count = int(np.prod([len(networks.sum_foldings(s)) for s in sums]))
        count *= len(networks.port_widths(ports_of(stages)[0]))
        if 4 < count <= most:
            yield networks.folded(stages, lambda _: (1, 1))


def tight(stages: Sequence[Stage], factor: float) -> Board:
    """A board that holds so many times the smallest design."""
    board = load_board("pynq-z2")
    need = estimate(stages, board).total
    lut, ff = int(need.lut[1] * factor), int(need.ff[1] * factor * 1.1)
    return replace(board, lut=lut, ff=ff, bram36=max(1, int(need.bram18 * factor / 2)), dsp=int(need.dsp * factor) + 2)


def test_no_folding_within_the_budget_is_faster(networks: ModuleType) -> None:
    """The slowest stage of the plan is as fast as that of the best of all foldings."""
    tried = set()
    scarce = itertools.islice(chains(networks, 40, first=19), 1)  # the cheapest foldings take DSPs that are not there
    for stages in itertools.chain(scarce, itertools.islice(chains(networks, 400), 14)):
        foldings = list(every_folding(networks, stages))
        for factor in (1.02, 1.5, 3.0):
            board = tight(stages, factor)
            best = min((slowest(made) for made in foldings if fits_somehow(made, board)), default=None)
            try:
                found = slowest(plan(stages, board, 1.0, search=False).stages)
            except DoesNotFit:
                found = None
            assert found == best, stages[1].line
            tried.add(best is None or best < slowest(foldings[0]))
    assert tried == {False, True}


MIXED = """graph @mixed {
  input %x : FIXED<8>[N,4]
  weight %a.w = 000000e1 : FIXED<8>[4,4]
  weight %b.w = 000000e2 : FIXED<6>[3,4]
  weight %c.w = 000000e3 : FIXED<10>[1,3]
  %a = dense(%x, %a.w) : FIXED<8>[N,4]
  %b = dense(%a, %b.w) : FIXED<8>[N,3]
  %c = dense(%b, %c.w) : FIXED<8>[N,1]
  output %c
}"""


def test_where_dsps_run_out_products_of_luts_make_the_fastest_design(networks: ModuleType) -> None:
    """Of all foldings with the products of all layers in DSPs, packed or not, or in LUTs; LUTs only where they must.

    Chains leave no choice of adders of constants, which nearly always are better than products in LUTs.
    """
    stages = [replace(s, adder_tree=False) if isinstance(s, SumStage) else s for s in stages_of(parse(MIXED))]
    chains = {stage.name: Given(adder_tree=False) for stage in stages if isinstance(stage, SumStage)}
    foldings = sorted(every_folding(networks, stages), key=slowest)
    need = estimate(foldings[-1], load_board("pynq-z2")).total
    stood_in, speeds, together = set(), set(), set()
    for dsp in (2, 6, 20):
        for lut in (1.3, 2.0, 4.0):
            board = replace(tight(foldings[-1], 50.0), dsp=dsp, lut=int(need.lut[1] * lut))
            best = next((slowest(made) for made in foldings if fits_somehow(made, board)), None)
            if best is None:
                with pytest.raises(DoesNotFit):
                    plan(stages, board, 1.0, chains)
                continue
            found = plan(stages, board, 1.0, chains)
            assert fits(found.stages, board, 1.0)
            assert slowest(found.stages) == best
            moved = any(map(in_luts, found.stages))
            assert moved != any(slowest(made) == best and fits_in_dsps(made, board) for made in foldings)
            stood_in.add(moved)
            speeds.add(best)
            together |= {(stage.packing, in_luts(stage)) for stage in found.stages if isinstance(stage, SumStage)}
    assert stood_in == {False, True}
    assert together == {(1, False), (2, False), (1, True)}
    assert len(speeds) > 2


def test_the_fewest_luts_stand_in_for_dsps() -> None:
    """Against every choice of what layers are made of: LUTs, or slices that several products share."""
    board = load_board("pynq-z2")
    stages = stages_of(parse(MIXED))
    stages = [replace(s, pe=1 + i % 3, simd=2) if isinstance(s, SumStage) else s for i, s in enumerate(stages)]
    before = sum((multipliers(s) for s in stages if isinstance(s, SumStage)), Cost())
    ways, kinds = [], set()
    for way in itertools.product(*(made_of(stage, board) for stage in stages)):
        after = sum((multipliers(s) for s in way if isinstance(s, SumStage)), Cost())
        ways.append((before.dsp - after.dsp, after.lut[1] - before.lut[1]))
    everything = max(freed for freed, _ in ways)
    for slices in range(1, everything + 1):
        least = min(luts for freed, luts in ways if freed >= slices)
        made = with_fewer_slices(stages, board, slices, least)
        assert made is not None
        after = sum((multipliers(s) for s in made if isinstance(s, SumStage)), Cost())
        assert before.dsp - after.dsp >= slices
        assert after.lut[1] - before.lut[1] == pytest.approx(least)
        assert with_fewer_slices(stages, board, slices, least - 1) is None
        kinds |= {(s.packing, s.products) for s in made if isinstance(s, SumStage)}
    assert kinds == {(1, ""), (2, ""), (1, "lut")}
    assert with_fewer_slices(stages, board, everything + 1, 1e9) is None
    kept = [replace(s, products="dsp") if isinstance(s, SumStage) else s for s in stages]
    assert with_fewer_slices(kept, board, 1, 1e9) is None


def every_branching(networks: ModuleType, stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Every folding of layers and joins."""
    chosen = [stage for stage in stages if isinstance(stage, SumStage | JoinStage)]
    choices = [
        networks.joint_widths(stage) if isinstance(stage, JoinStage) else networks.sum_foldings(stage)
        for stage in chosen
    ]
    first, last = ports_of(stages)
    for entering, *made in itertools.product(networks.port_widths(first), *choices):
        pick = dict(zip((stage.name for stage in chosen), made, strict=True))
        before = pick[last.reads[0]]
        leaving = replace(last, lanes=before if isinstance(before, int) else before[0] * before[2])
        for port in networks.port_widths(leaving):
            every = {**pick, first.name: entering, last.name: port}
            folded = networks.folded(stages, *[lambda s, every=every: every[s.name]] * 3)
            if possible(folded):
                yield folded


BRANCHING = """graph @branching {
  input %x : FIXED<5>[N,2,4,5]
  weight %c.w = 000000e1 : FIXED<5>[2,2,3,3]
  weight %g.w = 000000e2 : FIXED<4>[2,2,1,1]
  %c = conv2d(%x, %c.w) {groups=GROUPS, kernel=[3,3], pads=[1,1,1,1]} : FIXED<5>[N,2,4,5]
  %m = JOIN
  %g = conv2d(%m, %g.w) {kernel=[1,1]} : FIXED<5>[N,2,4,5]
  output %g
}"""


@pytest.mark.parametrize(
    ("groups", "join"),
    [
        ("1", "add(%c, %x) : FIXED<5>[N,2,4,5]"),
        ("2", "concat(%c, %x) {axis=1} : FIXED<5>[N,4,4,5]"),
        ("1", "mul(%x, %c) : FIXED<5>[N,2,4,5]"),
    ],
)
def test_no_folding_of_branches_within_the_budget_is_faster(groups: str, join: str, networks: ModuleType) -> None:
    text = BRANCHING.replace("GROUPS", groups).replace("JOIN", join)
    if groups == "2":
        text = text.replace("[2,2,3,3]", "[2,1,3,3]").replace("[2,2,1,1]", "[2,4,1,1]")
    stages = stages_of(parse(text))
    foldings = list(every_branching(networks, stages))
    assert len(foldings) > 50
    smallest = networks.folded(stages, lambda _: (1, 1))
    speeds = set()
    for factor in (1.05, 1.4, 2.0, 4.0):
        board = tight(smallest, factor)
        found = plan(stages, board, 1.0, search=False)
        assert fits(found.stages, board, 1.0)
        best = min(slowest(made) for made in foldings if fits_somehow(made, board))
        assert slowest(found.stages) == best
        speeds.add(best)
    assert len(speeds) > 1


def test_among_equally_fast_designs_the_plan_is_cheap(networks: ModuleType) -> None:
    """Of one layer alone it is the cheapest."""
    for stages in itertools.islice((made for made in chains(networks, 60) if len(made) == 3), 6):
        board = tight(stages, 2.5)
        found = plan(stages, board, 1.0, search=False)
        weight = {
            index: sum(need / max(have, 1) for need, have in shares(estimate(made, board).total, board).values())
            for index, made in enumerate([list(found.stages), *every_folding(networks, stages)])
            if slowest(made) <= slowest(found.stages)
        }
        others = [made for made in every_folding(networks, stages) if slowest(made) <= slowest(found.stages)]
        if all(fits(made, board, 1.0) for made in others):
            assert weight[0] <= min(weight.values()) * (1 + 1e-12)


def test_for_an_interval_the_plan_is_the_smallest_there_is(networks: ModuleType) -> None:
    """Of all foldings, by the sum of their shares of the board; where none is quick enough, that is said."""
    board, refused = load_board("pynq-z2"), 0
    for stages in itertools.islice(chains(networks, 300), 8):
        made = [(slowest(folding), least_weight(folding, board)) for folding in every_folding(networks, stages)]
        fastest = min(cycles for cycles, _ in made)
        for interval in (fastest, fastest + 1, 2 * fastest, 10 * fastest):
            small = [weight for cycles, weight in made if cycles < interval]
            if not small:
                with pytest.raises(CompileError, match=f"every {interval:,} cycles; the fastest takes {fastest + 1:,}"):
                    plan(stages, board, 1.0, interval=interval, search=False)
                refused += 1
                continue
            found = plan(stages, board, 1.0, interval=interval, search=False)
            assert found.estimate.interval <= interval
            plain = [replace(stage, depths=()) for stage in found.stages]
            assert weight_of(plain, board) == pytest.approx(min(small))
    assert refused == 8


def least_weight(stages: Sequence[Stage], board: Board) -> float:
    """The same of the lightest of all ways to make some of the layers of adders."""
    return min(weight_of(made, board) for made in itertools.product(*([s, *as_adders(s)] for s in stages)))


def weight_of(stages: Sequence[Stage], board: Board) -> float:
    """The sum of the shares of the board, with FIFOs of two words."""
    plain = [replace(stage, depths=()) for stage in stages]
    return sum(need / max(have, 1) for need, have in shares(estimate(plain, board).total, board).values())


def test_the_bottleneck_is_named_with_what_would_move_it(networks: ModuleType) -> None:
    """The folding that is said to be next is faster, and does not fit by what is said."""
    said = set()
    for stages in itertools.islice(chains(networks, 400), 10):
        for factor in (1.02, 3.0, 1000.0):
            board = tight(stages, factor)
            try:
                found = plan(stages, board, 1.0)
            except DoesNotFit:
                continue
            text = bottleneck(found)
            name = found.estimate.bottleneck.name
            assert text.startswith(f"%{name} is the slowest layer, {found.estimate.interval - 1:,} cycles a frame: ")
            exceeded = re.search(r"would take ([0-9,]+), but the design would need ([0-9,]+) (\w+) of ([0-9,]+)", text)
            if exceeded:
                cycles, need, resource, allowed = exceeded.groups()
                assert int(cycles.replace(",", "")) < found.estimate.interval - 1
                assert int(need.replace(",", "")) > int(allowed.replace(",", ""))
                said.add(resource)
            else:
                said.add("port" if "an element a beat" in text else "none")
    assert {"port", "LUT"} <= said


def test_a_plan_keeps_to_the_rules(networks: ModuleType) -> None:
    for seed in range(40):
        _, stages, _ = networks.drawn(seed)
        found = plan(stages, networks.BOARD, 0.5)
        assert fits(found.stages, networks.BOARD, 0.5)
        assert possible(found.stages)
        lanes = found.stages[0].lanes
        for stage, given in zip(found.stages, stages, strict=True):
            assert stage.lanes == lanes
            assert replace_folding(stage) == replace_folding(given)
            if isinstance(stage, SumStage):
                assert stage.outputs % stage.pe == 0 == stage.inputs % stage.simd
                assert stage.pe * stage.simd * stage.pixels <= MOST_MULTIPLIERS
                assert stage.scan is None or stage.scan.channels % lanes == 0 or lanes % stage.scan.channels == 0
            lanes = stage.out_lanes
        assert found.stages[-1].elements % lanes == 0
        assert found.estimate.interval == estimate(found.stages, networks.BOARD).interval


def replace_folding(stage: Stage) -> str:
    """A stage but for its folding."""
    plain = replace(stage, lanes=1, depths=())
    plain = replace(plain, beat=1) if isinstance(plain, PortStage) else plain
    unfolded = {"pe": 1, "simd": 1, "pixels": 1, "products": "", "packing": 1, "graph": None}
    return repr(replace(plain, **unfolded) if isinstance(plain, SumStage) else plain)


FLAT = """graph @flat {
  input %x : FIXED<6>[N,96]
  weight %d.w = 000000d1 : FIXED<2>[OUTPUTS,96]
  weight %e.w = 000000e1 : FIXED<2>[1,OUTPUTS]
  %d = dense(%x, %d.w) : FIXED<4>[N,OUTPUTS]
  %e = dense(%d, %e.w) : FIXED<4>[N,1]
  output %e
}"""


def test_a_beat_is_as_wide_as_the_interval_needs(networks: ModuleType) -> None:
    """One less wide would be the slowest stage; a port of 64 bits is never passed."""
    seen = set()
    for outputs in (2, 4, 60, 500):
        stages = stages_of(parse(FLAT.replace("OUTPUTS", str(outputs))))
        found = plan(stages, replace(networks.BOARD, lut=3000), 1.0)
        first = ports_of(found.stages)[0]
        assert first.container * first.beat <= 64
        narrower = [width for width in divisors(96) if width < first.beat]
        assert not narrower or loop_cycles(96 // narrower[-1]) > slowest(found.stages)
        seen.add(first.beat)
    assert len(seen) > 1


def test_more_of_the_board_is_never_slower(networks: ModuleType) -> None:
    seen = set()
    for stages in itertools.islice(chains(networks, 5000), 12):
        board = tight(stages, 4.0)
        speeds = []
        for utilisation in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            try:
                speeds.append(slowest(plan(stages, board, utilisation).stages))
            except DoesNotFit:
                assert not speeds, "what fits a part fits more"
        assert speeds == sorted(speeds, reverse=True)
        seen.add(speeds[0] > speeds[-1])
    assert seen == {False, True}


def test_the_plan_does_not_depend_on_an_earlier_folding(networks: ModuleType) -> None:
    for seed in (1, 4, 9):
        _, stages, _ = networks.drawn(seed)
        plain = networks.folded(stages, lambda _: (1, 1))
        found, again = (plan(given, networks.BOARD) for given in (stages, plain))
        assert list(map(repr, found.stages)) == list(map(repr, again.stages))
        assert found.estimate.total == again.estimate.total


BIG = """graph @big {
  input %x : FIXED<8>[N,4,12,12]
  weight %conv.w = 000000b1 : FIXED<8>[32,4,3,3]
  weight %fc.w = 000000b2 : FIXED<8>[200,3200]
  %conv = conv2d(%x, %conv.w) {act=relu, kernel=[3,3]} : FIXED<8>[N,32,10,10]
  %flat = flatten(%conv) : FIXED<8>[N,3200]
  %fc = dense(%flat, %fc.w) : FIXED<8>[N,200]
  output %fc as "y"
}"""


def test_what_does_not_fit_is_refused_with_a_table_and_a_way_out() -> None:
    stages = stages_of(parse(BIG))
    with pytest.raises(DoesNotFit) as caught:
        plan(stages, load_board("arty-a7-35t"))
    lines = caught.value.message.splitlines()
    assert lines[0] == "the design does not fit arty-a7-35t at 80%, even at its smallest:"
    needed = {line.split()[0]: line for line in lines[1:]}
    assert "BRAM18" in needed
    assert "DSP" not in needed
    for name, line in needed.items():
        words = line.split()
        need, allowed, have = (int(words[i].replace(",", "")) for i in (1, 3, 5))
        assert words[2::2][:2] == ["needed", "allowed"]
        assert need > allowed
        assert allowed == pytest.approx(0.8 * have, abs=1)
        assert name != "BRAM18" or have == 100
        assert line.endswith("on the board")
    assert caught.value.help is not None
    assert "%fc weighs most" in caught.value.help
    larger = caught.value.help.split("it fits ")[1]
    assert plan(stages, load_board(larger)).board.name == larger
    for board in boards():
        if board.lut < load_board(larger).lut:
            with pytest.raises(DoesNotFit):
                plan(stages, board)


def test_where_all_of_the_board_would_do_that_is_said() -> None:
    stages = stages_of(parse(BIG.replace("[200,", "[20,").replace("N,200]", "N,20]")))
    board = load_board("pynq-z2")
    assert slowest(plan(stages, board).stages) > 0
    with pytest.raises(DoesNotFit, match="all of this board would do"):
        plan(stages, board, 0.1)


# ---- trips, as the headers have them ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def printed(
    networks: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[list[Stage], list[list[int]]]]:
    """The numbers that g++ finds in the emitted shapes, a list a stage."""
    root = tmp_path_factory.mktemp("trips")
    made, lines, folders = [], ["#include <cstdio>"], []
    for drawn, seed in [*((networks.drawn, seed) for seed in range(20)), *((networks.branching, n) for n in range(12))]:
        graph, stages, _ = drawn(seed)
        folders.append(root / graph.name)
        networks.write(folders[-1], graph, stages)
        made.append(stages)
        lines.append(f'#include "{folders[-1]}/src/shapes.hpp"')
    lines += ["using namespace bitwright;", "int main() {"]
    for folder, stages in zip(folders, made, strict=True):
        names = Names()
        names.of(networks.top(folder))
        for stage in stages:
            names.of(stage.name)
        for stage in stages:
            for stream in stage.writes:
                names.of(stream)
        for stage in stages:
            struct = f"{networks.top(folder)}_net::{names.struct(stage.name)}"
            asked = ", ".join(re.sub(r"\bL\b", struct, item) for item in _asked(stage))
            lines.append(f'std::printf("{"%d " * len(_asked(stage))}\\n", {asked});')
    lines.append("}")
    program = root / "trips"
    networks.compile_cpp(lines, folders, program, "-O0")
    answers = iter(subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout.splitlines())
    return [(stages, [list(map(int, next(answers).split())) for _ in stages]) for stages in made]


def _asked(stage: Stage) -> list[str]:
    if isinstance(stage, PortStage):
        return ["Port<L>::trips"]
    if isinstance(stage, ForkStage | PointStage):
        return ["TokensOf<L>::trips"]
    if isinstance(stage, MeanStage):
        return ["Scan<L>::steps" if stage.scan else "GlobalMean<L>::trips"]
    if isinstance(stage, JoinStage):
        regrouped = [
            f"Regroup<L::{side}, {stage.entering[index]}, {stage.side_lanes(index)}, "
            f"{stage.side_positions(index) * stage.channels[index]}>::trips"
            for index, side in enumerate(("Left", "Right"))
            if stage.entering[index] != stage.side_lanes(index)
        ]
        return [*regrouped, "ConcatOf<L>::trips" if stage.op == "concat" else "JoinOf<L>::trips"]
    if isinstance(stage, PoolStage):
        return ["Pool<L>::trips"]
    assert isinstance(stage, SumStage)
    first = (
        "Window<L>::trips"
        if stage.scan
        else "Regroup<L::In, L::lanes, Fold<L>::width, L::positions * L::conv_groups * L::inputs>::trips"
    )
    return [first, "Fold<L>::trips", "Fold<L>::folds", "L::pe * L::simd * L::Weight::bits"]


def test_the_estimate_has_the_trips_of_the_headers(printed: list[tuple[list[Stage], list[list[int]]]]) -> None:
    kinds = set()
    for stages, numbers in printed:
        for stage, found in zip(stages, numbers, strict=True):
            trips = [process.trips for process in processes(stage)]
            assert found[: len(trips)] == trips, stage.line
            if isinstance(stage, SumStage):
                assert rom_shape(stage) == (found[3], found[2])
            kinds.add(_asked(stage)[-1] if isinstance(stage, JoinStage) else _asked(stage)[0])
    assert len(kinds) == 9


# ---- cycles -------------------------------------------------------------------------------------------------------


def test_the_interval_is_the_slowest_stage_and_one(networks: ModuleType) -> None:
    for seed in range(40):
        _, stages, _ = networks.drawn(seed)
        found = estimate(stages, networks.BOARD)
        assert found.interval == 1 + slowest(stages)
        assert found.interval == 1 + stage_cycles(found.bottleneck)
        assert [cycles for _, _, cycles in found.stages] == list(map(stage_cycles, stages))
        assert found.interval > max(process.trips for stage in stages for process in processes(stage))
        assert found.latency >= max(process.cycles for stage in stages for process in processes(stage))
        assert found.frames_per_second(100.0) == pytest.approx(1e8 / found.interval)


def test_a_loop_takes_its_trips_and_the_depth_of_its_pipeline() -> None:
    """As real reports have it: II (trip - 1) + IL - 1 cycles, 2 for the function around it."""
    (port, *_) = stages_of(parse(BIG))
    (process,) = processes(port)
    assert process.trips == 4 * 12 * 12
    assert process.cycles == process.trips - 1 + DEPTH - 1 + CALL
    assert 2 <= DEPTH <= 5
    assert CALL == 2


def test_a_window_and_a_product_that_wait_for_each_other_take_no_longer_than_estimated(networks: ModuleType) -> None:
    """Stepped through cycle by cycle with the FIFO of two words that layers.hpp has between them."""
    found = []
    for seed in range(60):
        _, stages, _ = networks.drawn(seed)
        for stage in stages:
            if isinstance(stage, SumStage) and stage.scan is not None:
                took, longest = networks.paired_interval(stage), max(process.trips for process in processes(stage))
                assert longest <= took <= stage_cycles(stage), stage.line
                found.append((took > longest, (stage_cycles(stage) - took) / took))
    assert len(found) > 30
    assert any(waited for waited, _ in found)
    assert float(np.median([spread for _, spread in found])) < 0.25


# ---- resources ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "width", "blocks"),
    [
        (16384, 1, 1), (8192, 2, 1), (4096, 4, 1), (2048, 9, 1), (1024, 18, 1), (512, 36, 1),
        (512, 72, 2), (1024, 36, 2), (513, 36, 2), (16385, 1, 2), (2048, 18, 2), (1, 37, 2), (1, 1, 1),
        (2049, 9, 2),    # two of 2048 x 9; three of 4096 x 4 would do as well
        (5000, 8, 3),    # three of 2048 x 9
        (30000, 10, 20), # 10 bits of 16384 x 1, twice
        (600, 100, 6),   # six of 1024 x 18
    ],
)  # fmt: skip
def test_block_rams_by_hand(depth: int, width: int, blocks: int) -> None:
    """The aspect ratios of RAMB18: 16Kx1, 8Kx2, 4Kx4, 2Kx9, 1Kx18, 512x36."""
    assert bram18(depth, width) == blocks


def test_a_memory_of_more_than_1024_bits_is_block_ram() -> None:
    assert memory(32, 32).bram18 == 0
    assert memory(2, 512).bram18 == 0
    assert memory(2, 513).bram18 == bram18(2, 513) == 15
    assert memory(1025, 1).bram18 == 1
    for depth, width in ((1, 1), (2, 8), (64, 16), (4096, 9)):
        low, high = memory(depth, width).lut
        assert 0 <= low <= high


def layer(weights: str, activations: str, outputs: int = 8, inputs: int = 16, pe: int = 4, simd: int = 8) -> SumStage:
    text = f"""graph @one {{
      input %x : {parse_format(activations)}[N,{inputs}]
      weight %w = 000000b3 : {parse_format(weights)}[{outputs},{inputs}]
      %y = dense(%x, %w) : FIXED<8>[N,{outputs}]
      output %y
    }}"""
    stage = stages_of(parse(text))[1]
    assert isinstance(stage, SumStage)
    return replace(stage, pe=pe, simd=simd)


@pytest.mark.parametrize(
    ("weights", "activations", "slices"),
    [
        ("FIXED 5", "FIXED 16", 0),
        ("FIXED 16", "FIXED 5", 0),
        ("FIXED 6", "FIXED 16", 1),
        ("FIXED 16", "FIXED 6", 1),
        ("FIXED 10", "FIXED 5", 0),
        ("FIXED 8", "FIXED 8", 1),
        ("FIXED 18", "FIXED 25", 1),
        ("FIXED 25", "FIXED 18", 1),
        ("FIXED 19", "FIXED 25", 2),
        ("FIXED 18", "FIXED 26", 2),
        ("FIXED 19", "FIXED 26", 4),
        ("BIN", "FIXED 16", 0),
        ("EXP 5", "FIXED 16", 0),
    ],
)
def test_products_in_dsp_slices(weights: str, activations: str, slices: int) -> None:
    """Seen in real reports: 16 x 5 in LUTs, 16 x 6 in a DSP, 10 x 5 in LUTs; 25 x 18 is one slice's."""
    stage = layer(weights, activations)
    assert products_in_dsp(stage) == slices
    assert cost(stage, load_board("pynq-z2")).dsp == slices * stage.pe * stage.simd


@pytest.mark.parametrize(
    ("weights", "activations", "products", "slices", "luts"),
    [
        ("FIXED 8", "FIXED 8", "lut", 0, (128, 197)),  # 2 w a to 3 w a + 5
        ("FIXED 8", "FIXED 8", "dsp", 1, (14, 32)),
        ("FIXED 4", "FIXED 4", "", 0, (32, 53)),
        ("FIXED 4", "FIXED 4", "dsp", 1, (14, 32)),
        ("FIXED 4", "FIXED 4", "lut", 0, (32, 53)),
        ("FIXED 25", "FIXED 18", "lut", 0, (900, 1355)),
        ("EXP 5", "FIXED 16", "dsp", 0, (80, 139)),  # a shift, whatever is said of multipliers
    ],
)
def test_products_where_the_plan_has_them(
    weights: str, activations: str, products: str, slices: int, luts: tuple[float, float]
) -> None:
    stage = replace(layer(weights, activations), products=products)
    assert products_in_dsp(stage) == slices
    one, more = (multipliers(replace(stage, pe=1, simd=simd)) for simd in (1, 2))
    assert more.dsp - one.dsp == slices
    assert tuple(b - a for a, b in zip(one.lut, more.lut, strict=True)) == luts


def test_luts_of_a_multiplier_span_what_was_counted() -> None:
    """What yosys counted lies in the range, give or take a fifth at its upper end."""
    counted = {
        ("BIN", 1): 6.7, ("BIN", 4): 17.6, ("BIN", 8): 29.3,
        ("FIXED 2", 2): 13.9, ("FIXED 2", 8): 36.5, ("EXP 2", 4): 22.2,
        ("FIXED 3", 4): 41.8, ("FIXED 4", 4): 57.8, ("FIXED 4", 8): 99.7, ("FIXED 6", 4): 91.7,
        ("EXP 3", 4): 46.1, ("EXP 3", 8): 73.3, ("EXP 4", 8): 88.1,
    }  # fmt: skip
    for (weights, bits), luts in counted.items():
        one, two = (layer(weights, f"UFIXED {bits}", inputs=16, simd=simd, pe=4) for simd in (8, 16))
        low = (multipliers(two).lut[0] - multipliers(one).lut[0]) / 32
        high = (multipliers(two).lut[1] - multipliers(one).lut[1]) / 32
        assert low <= luts * 1.05, (weights, bits)
        assert high >= luts * 0.8, (weights, bits)


def test_the_memory_of_weights() -> None:
    """Every weight takes the bits of its format; a small or shallow one stays in LUTs."""
    board = load_board("pynq-z2")
    deep = layer("FIXED 8", "FIXED 8", outputs=64, inputs=512, pe=1, simd=4)
    assert rom_shape(deep) == (32, 8192)
    assert rom_in_bram(deep, board)
    assert rom(deep, board).bram18 >= bram18(8192, 32) == 16
    assert rom_shape(replace(deep, weight_format=Canonical(1, 2, 0))) == (12, 8192)
    assert rom_shape(replace(deep, weight_format=Canonical(1, 0, 0))) == (4, 8192)
    shallow = replace(deep, pe=64, simd=512)
    assert not rom_in_bram(shallow, board)
    tiny = layer("FIXED 8", "FIXED 8", outputs=8, inputs=16, pe=1, simd=1)
    assert not rom_in_bram(tiny, board)
    assert not rom_in_bram(deep, replace(board, bram36=0))


def test_costs_are_ranges_and_add_up(networks: ModuleType) -> None:
    for seed in range(40):
        _, stages, _ = networks.drawn(seed)
        found = estimate(stages, networks.BOARD)
        for _, part, _ in found.stages:
            assert 0 <= part.lut[0] <= part.lut[1]
            assert 0 <= part.ff[0] <= part.ff[1]
            assert min(part.bram18, part.dsp) >= 0
        total = found.total
        assert total.lut[1] == pytest.approx(sum(part.lut[1] for _, part, _ in found.stages))
        assert total.bram18 == sum(part.bram18 for _, part, _ in found.stages)
        assert total.dsp == sum(part.dsp for _, part, _ in found.stages)
    assert Cost() + Cost((1, 2), (3, 4), 5, 6) == Cost((1, 2), (3, 4), 5, 6)


def test_line_buffers_are_sized_by_hand(networks: ModuleType) -> None:
    """Over 1,024 bits in block RAM: 2 rows of 30 pixels of 16 channels of 8 bits in words of one pixel."""
    text = """graph @lines {
      input %x : FIXED<8>[N,16,28,28]
      weight %w = 000000b4 : FIXED<4>[8,16,3,3]
      %y = conv2d(%x, %w) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<8>[N,8,28,28]
      output %y
    }"""
    graph: Graph = parse(text)
    board = load_board("pynq-z2")
    conv = stages_of(graph)[1]
    assert isinstance(conv, SumStage)
    narrow = cost(replace(conv, lanes=1, simd=9), board)
    wide = cost(replace(conv, lanes=16, simd=9), board)
    flat = cost(replace(conv, scan=None, simd=9), board)
    assert narrow.bram18 - flat.bram18 == bram18(30 * 16, 2 * 8) == 1
    assert wide.bram18 - flat.bram18 == bram18(30, 2 * 8 * 16) == 8
