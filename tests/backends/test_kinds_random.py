"""Random networks whose tensors are FLOAT, EXP, AFFINE and FIXED at random: each layer and output within tolerance.

Architectures and foldings are those of networks.py, with other formats.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.compare import compare_layers, input_format, tolerance
from bitwright.backends.hls.stages import FloatSumStage, ScaledSumStage, Stage, stages_of
from bitwright.ir import edit
from bitwright.ir.assign import activation_values, layers, spread
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Affine, Canonical, Format
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

SEEDS = range(6)
REFUSALS = ("leaves out its padding", "AFFINE<", "fewer than 4", "for the scale", "at most 24 bits", "places from")
Rng = np.random.Generator


def activation_format(low: float, high: float, rng: Rng) -> Format:
    """A format of a random kind for numbers from low to high, now and then too small for them."""
    kind = str(rng.choice(["FLOAT", "FLOAT", "EXP", "AFFINE", "AFFINE", "FIXED"]))
    magnitude = max(abs(low), abs(high), 1e-3) * float(rng.choice([0.5, 1.0, 1.0, 2.0]))
    if kind == "AFFINE":
        return Affine.spanning(int(rng.integers(3, 13)), min(low, 0.0), max(high, 1e-3), whole=True)
    if kind == "FIXED":
        return Canonical(1, 0, int(rng.integers(3, 13))).covering(magnitude)
    fraction = int(rng.integers(1, 12)) if kind == "FLOAT" else 0
    return Canonical(1, int(rng.integers(3, 7)), fraction).covering(magnitude)


def weight_format(data: Array, beside_floats: bool, rng: Rng) -> Format:
    if beside_floats:
        format = Canonical(1, int(rng.integers(2, 7)), int(rng.integers(0, 9)))
        return format.covering(float(np.abs(data).max()))
    axis = 0 if rng.random() < 0.5 else None
    axes = tuple(range(1, data.ndim)) if axis == 0 else None
    return Affine.spanning(int(rng.integers(1, 10)), data.min(axes) - 1e-3, data.max(axes) + 1e-3, axis)


def give_kinds(graph: Graph, frames: Array, rng: Rng) -> None:
    names = [value.name for value in graph.values.values() if value.tensor is None]
    found = evaluate(graph, {"": frames}, names)
    for value in activation_values(graph):
        numbers = found[value.name]
        format = activation_format(float(numbers.min()), float(numbers.max()), rng)
        edit.set_type(value, value.tensor_type.with_format(format))
    spread(graph)
    for node in layers(graph):
        around = [node.operand(0).tensor_type.number, node.result.tensor_type.number]
        floats = any(isinstance(number, Canonical) and number.n_e > 0 for number in around)
        weight = node.operand(1)
        assert weight.tensor is not None
        format = weight_format(weight.tensor.data.astype(np.float64), floats, rng)
        edit.set_type(weight, weight.tensor_type.with_format(format))


def drawn(networks: ModuleType, branches: bool, seed: int) -> tuple[Graph, list[Stage], Array]:
    """Draws formats again where they are refused."""
    graph, _, frames = networks.branching(seed) if branches else networks.drawn(seed)
    rng = np.random.default_rng(seed)
    while True:
        give_kinds(graph, frames, rng)
        try:
            return graph, networks.randomly_folded(stages_of(graph), rng), frames
        except CompileError as error:
            if not any(reason in error.message for reason in REFUSALS):
                raise


@pytest.mark.parametrize("branches", [False, True], ids=["chains", "branches"])
def test_random_networks_are_within_the_tolerance(branches: bool, networks: ModuleType, tmp_path: Path) -> None:
    cases = [drawn(networks, branches, seed) for seed in SEEDS]
    for index, (graph, stages, _) in enumerate(cases):
        networks.write(tmp_path / str(index), graph, stages)
    made = networks.bundled([tmp_path / str(index) for index in SEEDS], tmp_path / "all.so", "-O0")
    for accelerator, (graph, _, frames) in zip(made, cases, strict=True):
        rows = compare_layers(accelerator, graph, frames)
        assert {row.name: row.first for row in rows if row.differ} == {}, str(graph)
        sent = accelerator.input.to_stream(frames, input_format(graph))
        y = accelerator.output.from_stream(accelerator.run(sent))
        (judged,) = evaluate(graph, {"": frames}).values()
        apart = np.abs(y - judged) > tolerance(graph, judged)
        assert apart.mean() < 0.02, "where a number of few bits falls to the other side, what follows may be far"
    kinds = {type(stage) for _, stages, _ in cases for stage in stages}
    assert kinds >= {FloatSumStage, ScaledSumStage}
