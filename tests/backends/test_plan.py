"""Foldings: the plan against every folding there is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from by_hand import BIG

from bitwright.backends.hls.board import Board, boards, load_board
from bitwright.backends.hls.cost import Cost
from bitwright.backends.hls.estimate import (
    estimate,
    loop_cycles,
    multipliers,
    products_in_dsp,
    stage_cycles,
)
from bitwright.backends.hls.given import Given
from bitwright.backends.hls.packing import packable
from bitwright.backends.hls.plan import MOST_MULTIPLIERS, DoesNotFit, bottleneck, divisors, plan, shares
from bitwright.backends.hls.products import with_fewer_slices
from bitwright.backends.hls.stages import (
    ADDERS,
    JoinStage,
    PortStage,
    Stage,
    SumStage,
    ports_of,
    stages_of,
)
from bitwright.ir.errors import CompileError
from bitwright.ir.parse import parse


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
