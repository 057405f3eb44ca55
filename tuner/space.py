"""The search space: for every variable (tensors that share kind and width) the formats it may take.

layerwise    weights                inputs
both         a variable a layer     a variable a layer
weights      a variable a layer     one variable for all      (the paper's choice: no conversion between layers)
activations  one variable for all   a variable a layer
none         one variable for all   one variable for all

Layers in one of `groups` (the paper's sub_layer_name) share their variables as well. Biases are each tensor's own. The
size of the space is the number of assignments of kinds and widths, as in Table 6 of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.tuner.platforms import Platform
from bitwright.tuner.targets import Role, Target

Layerwise = Literal["both", "weights", "activations", "none"]
LAYERWISE: tuple[Layerwise, ...] = ("both", "weights", "activations", "none")
ROLES: tuple[Role, ...] = ("weight", "input")


@dataclass(frozen=True)
class Variable:
    """Tensors that share kind and width, and the formats (with default biases) that they may take."""

    name: str
    role: Role
    targets: tuple[Target, ...]
    formats: tuple[Canonical, ...]

    @property
    def size(self) -> int:
        """Numbers in its tensors."""
        return sum(target.size for target in self.targets)


@dataclass(frozen=True)
class Space:
    """The variables, weights first, each in the order of the layers.

    per_channel: whether weights may have a bias for each output channel.
    """

    variables: tuple[Variable, ...]
    per_channel: bool = False

    @property
    def size(self) -> int:
        """The number of assignments of kinds and widths."""
        return math.prod(len(variable.formats) for variable in self.variables)

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(target for variable in self.variables for target in variable.targets)


def space_of(
    targets: Sequence[Target],
    platform: Platform,
    layerwise: Layerwise = "weights",
    groups: Sequence[Sequence[str]] = (),
) -> Space:
    """The space of these tensors on a platform. Raises CompileError for an unknown layer or mode."""
    if layerwise not in LAYERWISE:
        raise CompileError(f"there is no layer-wise mode {layerwise!r}", help=f"the modes are {', '.join(LAYERWISE)}")
    group_of = _groups(targets, groups)
    variables = []
    for role in ROLES:
        own = [target for target in targets if target.role == role]
        split = layerwise in ("both", "weights" if role == "weight" else "activations")
        parts: dict[str, list[Target]] = {}
        for target in own:
            parts.setdefault(group_of.get(target.layer, target.layer) if split else "*", []).append(target)
        for part, members in parts.items():
            variables.append(Variable(f"{part}.{role}", role, tuple(members), platform.formats(role)))
    return Space(tuple(variables), platform.per_channel)


def covering(format: Canonical, target: Target) -> Canonical:
    """The format with the bias that value profiling gives: the finest that still covers the largest magnitude.

    FLOAT of 16 bits and more keeps its standard bias.
    """
    if format.kind.endswith("FLOAT") and format.width >= 16:
        return format
    return format.covering(target.max_abs)


def uniform(space: Space, format: Canonical) -> dict[str, Canonical]:
    """Every tensor in the kind and width of `format`, with covering biases."""
    return {target.name: covering(format, target) for target in space.targets}


def with_aliases(space: Space, formats: Mapping[str, Canonical]) -> dict[str, Canonical]:
    """The same for every name a configuration file may ask for: several layers may read one tensor."""
    return {
        name: formats[target.name]
        for target in space.targets
        if target.name in formats
        for name in (target.name, *target.aliases)
    }


def _groups(targets: Sequence[Target], groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """The group's name (its first layer's) for every layer in one."""
    layers = {target.layer for target in targets}
    found: dict[str, str] = {}
    for group in groups:
        for layer in group:
            if layer not in layers:
                raise CompileError(f"no target layer is called {layer!r}", help=f"they are {', '.join(sorted(layers))}")
            if layer in found:
                raise CompileError(f"layer {layer!r} is in two groups")
            found[layer] = group[0]
    return found
