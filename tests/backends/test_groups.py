"""LeNet-5 whose layers are split into groups of output channels, each with weights of its own kind and width.

Every layer's bits of the generated C++ are those of the exact evaluation; in formats that are the same for all groups
they are those of the whole network, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import bitwright.models
from bitwright.backends.hls.compare import compare_layers, input_format
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import stages_of
from bitwright.backends.simulation.run import Simulation
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.formats import fixed
from bitwright.ir.graph import Graph
from bitwright.models.datasets import load as load_data
from bitwright.passes import STRUCTURE, Context, Pass, run_passes
from bitwright.passes.accumulators import DeriveAccumulators
from bitwright.passes.formats import AssignFormats
from bitwright.passes.split import SplitChannels
from bitwright.tuner.objectives import Bits
from bitwright.tuner.targets import targets_of

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")
assert bitwright.models.__file__ is not None
LENET5 = Path(bitwright.models.__file__).parent / "lenet5.onnx"

INPUTS = {
    "conv1": "UFIXED 4",
    "conv3": "UFIXED 3 -1",
    "conv5": "UFIXED 4 -2",
    "fc6": "UFIXED 5 -3",
    "fc7": "UFIXED 6 -4",
}
WHOLE = {"conv1": "FIXED 4 1", "conv3": "FIXED 3 1", "conv5": "EXP 3 2", "fc6": "FIXED 5 1", "fc7": "FIXED 6 1"}
GROUPS = {
    "conv3": {4: "FIXED 3 1", 12: "BIN 1 3"},
    "conv5": {40: "EXP 3 2", 50: "FIXED 2 3", 30: "FIXED 5 2"},
    "fc6": {20: "FIXED 2 3", 64: "FIXED 7 1"},
}


def splits(order: np.random.Generator) -> list[Pass]:
    """The layers split into these groups, their channels in any order."""
    return [
        SplitChannels(name, tuple(sizes), tuple(order.permutation(sum(sizes)).tolist()))
        for name, sizes in GROUPS.items()
    ]


def in_formats(graph: Graph, formats: Mapping[str, str], folder: Path) -> Graph:
    file = folder / "formats.txt"
    file.write_text("".join(f"{name} {text}\n" for name, text in formats.items()) + "fc7 FIXED 9 -3\n")
    return run_passes(graph, [AssignFormats(file=str(file)), DeriveAccumulators()])


@pytest.fixture(scope="module")
def lenet5() -> Graph:
    return run_passes(load(LENET5), STRUCTURE, Context())


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load_data("mnist", "test", 300).x


def test_groups_of_their_own_widths(lenet5: Graph, images: np.ndarray, networks: ModuleType, tmp_path: Path) -> None:
    formats = {f"{name}.input": text for name, text in INPUTS.items()}
    for name, text in WHOLE.items():
        parts = GROUPS.get(name)
        own = (
            {f"{name}.weight": text}
            if parts is None
            else {f"{name}_{i}.weight": part for i, part in enumerate(parts.values())}
        )
        formats |= own
        if parts is not None:
            formats[f"{name}_0.input"] = formats.pop(f"{name}.input")
    graph = in_formats(run_passes(lenet5, splits(np.random.default_rng(3))), formats, tmp_path)
    stages = plan(stages_of(graph), networks.BOARD).stages
    networks.write(tmp_path / "design", graph, stages)
    accelerator = Accelerator(tmp_path / "design", trace=True)
    given = accelerator.output.from_stream(accelerator.run(accelerator.input.to_stream(images, input_format(graph))))
    expected = evaluate(graph, {"": images})["logits"]
    np.testing.assert_array_equal(given, expected)
    np.testing.assert_array_equal(given, Simulation(graph).run_exactly({"image": images})["logits"])
    assert len(np.unique(given.argmax(1))) > 5
    rows = compare_layers(accelerator, graph, images[:50])
    assert {row.name: row.first for row in rows if row.differ} == {}
    assert {"conv3_0", "conv3_1", "conv3", "conv5_2", "conv5", "fc6_0", "fc6_1", "fc6"} <= {row.name for row in rows}


def test_groups_of_one_format_are_the_whole_layer(lenet5: Graph, images: np.ndarray, tmp_path: Path) -> None:
    inputs = {f"{name}.input": text for name, text in INPUTS.items()}
    whole = in_formats(lenet5, inputs | {f"{name}.weight": text for name, text in WHOLE.items()}, tmp_path)
    parts = run_passes(whole, splits(np.random.default_rng(4)))
    np.testing.assert_array_equal(*(evaluate(graph, {"": images[:100]})["logits"] for graph in (whole, parts)))


def test_the_bits_of_a_split_network_by_hand(lenet5: Graph, images: np.ndarray, tmp_path: Path) -> None:
    """The value that the parts of a layer read is one tensor, whose bits count once."""
    graph = run_passes(lenet5, [SplitChannels("conv5", (40, 80)), SplitChannels("fc6", (20, 64))])
    targets = targets_of(graph, images[:20])
    reads = {target.name: target for target in targets}
    assert reads["conv5_0.input"].aliases == ("conv5_1.input",)
    assert reads["fc6_0.input"].aliases == ("fc6_1.input",)
    assert "conv5_1.input" not in reads
    widths = {"conv5_0.weight": 3, "conv5_1.weight": 2, "conv5_0.input": 4, "fc6_0.weight": 7, "fc6_1.weight": 1}
    formats = {target.name: fixed(widths.get(target.name, 5)) for target in targets}
    by_hand = 5 * (6 * 25 + 28 * 28) + 5 * (16 * 6 * 25 + 6 * 14 * 14)  # conv1, conv3
    by_hand += 3 * 40 * 400 + 2 * 80 * 400 + 4 * 400
    by_hand += 7 * 20 * 120 + 1 * 64 * 120 + 5 * 120
    by_hand += 5 * (10 * 84 + 84)
    assert Bits(targets)(formats) == by_hand
