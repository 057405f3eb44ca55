"""The search space: its size as in Table 6, what shares a variable, and covering biases."""

from __future__ import annotations

from typing import Any

import pytest

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical, parse
from bitwright.ir.formats.named import FLOAT32, HALF, exp, fixed, float_format
from bitwright.tuner.platforms import load_platform, platform_of
from bitwright.tuner.space import covering, space_of, uniform, with_aliases
from bitwright.tuner.targets import Target

PAPER = load_platform("paper")
TABLE_6 = [
    ("MLP-M", 3, "3.11e+06"),
    ("MLP-C", 4, "1.31e+08"),
    ("LeNet", 2, "7.41e+04"),
    ("AlexNet", 5, "5.49e+09"),
    ("NiN", 12, "1.27e+21"),
    ("VGG-16", 13, "5.31e+22"),
    ("GoogleNet", 11, "3.01e+19"),
    ("ResNet-50", 17, "1.65e+29"),
    ("DarkNet-ref", 8, "4.07e+14"),
    ("Tiny YOLO", 9, "1.71e+16"),
]


def layers(count: int) -> list[Target]:
    found = []
    for i in range(count):
        found += [
            Target(f"l{i}.weight", "weight", 10 + i, 0.5),
            Target(f"l{i}.input", "input", 100 + i, 2.0, aliases=(f"l{i}x.input",) if i == 1 else ()),
        ]
    return found


@pytest.mark.parametrize(("network", "count", "expected"), TABLE_6)
def test_sizes_are_those_of_table_6(network: str, count: int, expected: str) -> None:
    size = space_of(layers(count), PAPER, "weights").size
    assert size == 42 ** (count + 1)
    assert f"{size:.2e}" == expected, network


def test_lenet_has_74088_assignments() -> None:
    assert space_of(layers(2), PAPER, "weights").size == 74_088


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("both", ["l0.weight", "l1.weight", "l2.weight", "l0.input", "l1.input", "l2.input"]),
        ("weights", ["l0.weight", "l1.weight", "l2.weight", "*.input"]),
        ("activations", ["*.weight", "l0.input", "l1.input", "l2.input"]),
        ("none", ["*.weight", "*.input"]),
    ],
)
def test_layerwise_modes(mode: Any, names: list[str]) -> None:
    targets = layers(3)
    space = space_of(targets, PAPER, mode)
    assert [variable.name for variable in space.variables] == names
    assert sorted(t.name for t in space.targets) == sorted(t.name for t in targets)
    assert sum(variable.size for variable in space.variables) == 10 + 11 + 12 + 100 + 101 + 102
    assert [v.role for v in space.variables] == [
        v.role for r in ("weight", "input") for v in space.variables if v.role == r
    ]


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(CompileError, match="there is no layer-wise mode 'all'") as caught:
        space_of(layers(1), PAPER, "all")  # type: ignore[arg-type]
    assert "both, weights, activations, none" in (caught.value.help or "")


def test_groups_share_what_is_layerwise() -> None:
    targets = layers(4)
    space = space_of(targets, PAPER, "weights", [["l1", "l3"]])
    shared = {variable.name: [target.name for target in variable.targets] for variable in space.variables}
    assert shared["l1.weight"] == ["l1.weight", "l3.weight"]
    assert list(shared) == ["l0.weight", "l1.weight", "l2.weight", "*.input"]
    assert space_of(targets, PAPER, "both", [["l1", "l3"]]).size == 42**6


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["l0", "l9"]], "no target layer is called 'l9'"),
        ([["l0", "l1"], ["l1", "l2"]], "layer 'l1' is in two groups"),
        ([["l0", "l0"]], "layer 'l0' is in two groups"),
    ],
)
def test_groups_that_are_wrong(groups: list[list[str]], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        space_of(layers(3), PAPER, "both", groups)


def test_weights_and_inputs_have_their_own_formats() -> None:
    platform = platform_of({"p.weight": {"EXP": [3]}, "p.activation": {"FIXED": [4, 5]}, "p": {"BIN": [1]}})
    space = space_of(layers(2), platform, "both")
    assert [[f.kind for f in v.formats] for v in space.variables] == [["EXP"]] * 2 + [["FIXED"] * 2] * 2
    assert space.size == 4


def test_aliases_have_the_format_of_their_tensor() -> None:
    space = space_of(layers(2), PAPER, "both")
    formats: dict[str, Canonical] = uniform(space, fixed(6))
    assert "l1x.input" not in formats
    named = with_aliases(space, formats)
    assert named["l1x.input"] == named["l1.input"]
    assert len(named) == 5
    assert with_aliases(space, {"l0.input": fixed(3)}) == {"l0.input": fixed(3)}


@pytest.mark.parametrize(
    ("format", "magnitude", "expected"),
    [
        ("FIXED 4", 0.875, "FIXED 4 1"),  # step 1/8: up to 0.875
        ("FIXED 4", 0.876, "FIXED 4"),
        ("FIXED 4", 1.75, "FIXED 4"),
        ("FIXED 2", 100.0, "FIXED 2 -7"),
        ("EXP 2", 1.0, "EXP 2 1"),
        ("BIN", 0.3, "BIN<1,B=2>"),
    ],
)
def test_covering_biases_by_hand(format: str, magnitude: float, expected: str) -> None:
    given, wanted = parse(format), parse(expected)
    assert isinstance(given, Canonical)
    found = covering(given, Target("a.weight", "weight", 1, magnitude))
    assert found == wanted
    if given.kind != "BIN":
        assert found.max >= magnitude > found.at(int(found.biases) + 1).max


def test_wide_floats_keep_their_bias_and_narrow_ones_cover() -> None:
    target = Target("a.weight", "weight", 1, 1e-3)
    assert covering(FLOAT32, target) == FLOAT32
    assert covering(HALF, target) == HALF
    narrow = covering(float_format(8), target)
    assert narrow.width == 8
    assert narrow.max >= 1e-3 > narrow.at(int(narrow.biases) + 1).max
    assert covering(exp(4), Target("a.weight", "weight", 1, 0.0)) == exp(4).at(0)
