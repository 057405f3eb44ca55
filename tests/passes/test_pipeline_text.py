"""Pipelines as text: what a pass prints is the pass, options are checked, mistakes are named."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.passes import Context, Pass, Span, parse_pipeline
from bitwright.passes.base import build
from bitwright.passes.constants import FoldConstants, RemoveDead
from bitwright.passes.formats import AnnotateFormats, AssignFormats
from bitwright.passes.pooling import FusePooling
from bitwright.passes.table import PASSES

names = st.from_regex(r"[A-Za-z_][\w.$]{0,8}", fullmatch=True)
formats = st.sampled_from(
    ["FIXED 8", "EXP 4 3", "AFFINE<8,scale=0.1>", "FIXED<8,B={-1,-2}@0>", "FLOAT<16,E=8>", "BIN", "LOGQUANT4"]
)
made_passes = st.one_of(
    *(st.just(kind()) for name, kind in PASSES.items() if not dataclasses.fields(kind)),
    st.builds(AssignFormats, st.text()),
    st.builds(AssignFormats, st.text('a,{}<>"=\\ ')),
    st.builds(FoldConstants, st.integers(1, 2**31)),
    st.builds(FusePooling, st.lists(names).map(tuple)),
    st.builds(
        AnnotateFormats,
        weights=formats | st.text(),
        activations=formats,
        per_channel=st.booleans(),
        input_max=st.floats(1e-30, 1e30) | st.integers(1, 1000).map(float),
    ),
)


@given(st.lists(made_passes, max_size=5))
def test_what_a_pass_prints_is_the_pass(pipeline: list[Pass]) -> None:
    assert parse_pipeline(",".join(map(str, pipeline))) == pipeline


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        (" remove-dead , fold-constants{} ,", [RemoveDead(), FoldConstants()]),
        ("fuse-pooling{only=conv1}", [FusePooling(("conv1",))]),
        ("fuse-pooling{ only = a+b.c }", [FusePooling(("a", "b.c"))]),
        ("fuse-pooling{only=[a]}", [FusePooling(("a",))]),
        ("annotate-formats{weights=AFFINE<8,scale=1>}", [AnnotateFormats(weights="AFFINE<8,scale=1>")]),
        ('assign-formats{file="a b,c}.txt"}', [AssignFormats("a b,c}.txt")]),
        ('assign-formats{file="\\"\\\\"}', [AssignFormats('"\\')]),
    ],
)  # fmt: skip
def test_pipelines_as_people_write_them(text: str, wanted: list[Pass]) -> None:
    assert parse_pipeline(text) == wanted


def test_defaults_are_left_out() -> None:
    assert str(AnnotateFormats()) == "annotate-formats"
    assert str(AnnotateFormats(weights="EXP 4", unsigned=True)) == "annotate-formats{weights=EXP 4,unsigned=true}"
    assert str(FusePooling(("conv1", "conv2"))) == "fuse-pooling{only=conv1+conv2}"
    assert str(AssignFormats("f.txt")) == "assign-formats{file=f.txt}"
    assert str(AssignFormats("f,g.txt")) == 'assign-formats{file="f,g.txt"}'


@dataclass(frozen=True)
class Typed(Pass):
    """A pass with every type of option."""

    name: ClassVar[str] = "typed"
    number: int
    real: Annotated[float, Span(0, 1)] = 0.5
    kind: Literal["l1", "l2"] = "l1"
    on: bool = False
    some: tuple[str, ...] = ()
    count: Annotated[int, "no bounds"] = 1

    def run(self, graph: Graph, context: Context) -> bool:
        return False


@pytest.mark.parametrize(
    ("options", "message", "help"),
    [
        ({}, "typed needs number", "write typed{number=...}"),
        ({"size": "1"}, "typed has no option 'size'", "its options: number, real, kind, on, some, count"),
        ({"number": "1.5"}, "typed{number=1.5}: int expected", None),
        ({"number": "1", "real": "2"}, "typed{real=2}: float from 0 to 1 expected", None),
        ({"number": "1", "real": "nan"}, "typed{real=nan}: float from 0 to 1 expected", None),
        ({"number": "1", "kind": "l3"}, "typed{kind=l3}: l1 or l2 expected", None),
        ({"number": "1", "on": "yes"}, "typed{on=yes}: true or false expected", None),
        ({"number": "1", "count": "x"}, "typed{count=x}: int expected", None),
        ({"number": '"1'}, 'typed{number="1}: int expected', None),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(options: dict[str, str], message: str, help: str | None) -> None:
    with pytest.raises(CompileError) as error:
        build(Typed, options)
    assert (error.value.message, error.value.help) == (message, help)


def test_options_that_fit() -> None:
    made = build(Typed, {"number": "3", "real": "1", "kind": "l2", "on": "true", "some": "a+b", "count": "2"})
    assert made == Typed(3, 1.0, "l2", True, ("a", "b"), 2)


OPTIONS = "write name{option=value,...}"


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("fuse-poling", "there is no pass 'fuse-poling'", "did you mean fuse-pooling?"),
        ("zzz", "there is no pass 'zzz'", "bitwright list passes names them all"),
        ("remove-dead{all=1}", "remove-dead has no option 'all'", "its options: none"),
        ("fold-constants{limit=0}", "fold-constants{limit=0}: int from 1 to 2.14748e+09 expected", None),
        ("fold-constants{limit}", "fold-constants{limit}: 'limit' is no option=value", None),
        ("fold-constants{limit=1,limit=2}", "fold-constants{limit=1,limit=2}: 'limit' is given twice", None),
        ("fold-constants{limit=1}x", "fold-constants{limit=1}x: the options end in a brace", OPTIONS),
        ("fold-constants{limit=1", "fold-constants{limit=1: a brace, bracket or quote is not closed", OPTIONS),
        ("fold-constants}", "fold-constants}: a brace, bracket or quote is not closed", OPTIONS),
        ('assign-formats{file="a}', 'assign-formats{file="a}: a brace, bracket or quote is not closed', OPTIONS),
        ("assign-formats", "assign-formats needs file", "write assign-formats{file=...}"),
    ],
)
def test_pipelines_with_mistakes(text: str, message: str, help: str | None) -> None:
    with pytest.raises(CompileError) as error:
        parse_pipeline(text)
    assert (error.value.message, error.value.help) == (message, help)
