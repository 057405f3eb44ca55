"""csim --layers where values flow channels last but are no [N,C,H,W]: no false difference, and none that is missed."""

from __future__ import annotations

import shutil
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.compare import compare_layers
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.stages import stages_of
from bitwright.ir import edit
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Tensor

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

FORMATS = ("FIXED<9>", "FLOAT<16>", "AFFINE<8,scale=0.01,zero=128>", "EXP<5>")
TEXTS = {
    "flattened": """
      input %x : F[N,2,3,4]
      weight %v = 00000001 : FIXED<6,B=3>[5,48]
      %q = flatten(%x) : F[N,24]
      %r = relu(%q) : F[N,24]
      %t = add(%q, %r) : F[N,24]
      %c = clip(%t) {max=0.7, min=-0.2} : F[N,24]
      %k = concat(%c, %q) {axis=1} : F[N,48]
      %y = dense(%k, %v) : F[N,5]""",
    "line": """
      input %x : F[N,3,8]
      weight %w = 00000001 : FIXED<6,B=2>[4,3,1,3]
      weight %s = [0.4] : f32[1]
      %m = mul(%x, %s) : F[N,3,8]
      %k = concat(%m, %x) {axis=1} : F[N,6,8]
      %r = relu(%k) : F[N,6,8]
      %i = reshape(%m) {shape=[0,0,1,-1]} : F[N,3,1,8]
      %c = conv2d(%i, %w) {kernel=[1,3], pool=[1,2]} : F[N,4,1,3]
      %l = reshape(%c) {shape=[0,0,-1]} : F[N,4,3]
      %b = clip(%l) {max=0.5, min=-0.5} : F[N,4,3]
      %j = reshape(%r) {shape=[0,0,1,-1]} : F[N,6,1,8]
      %p = maxpool2d(%j) {kernel=[1,4], strides=[1,2]} : F[N,6,1,3]
      %o = reshape(%p) {shape=[0,0,-1]} : F[N,6,3]
      %y = concat(%b, %o) {axis=1} : F[N,10,3]""",
    "last": """
      input %x : F[N,4,6,3]
      weight %w = 00000001 : FIXED<6,B=2>[4,3,3,3]
      %t = transpose(%x) {perm=[0,3,1,2]} : F[N,3,4,6]
      %r = relu(%t) : F[N,3,4,6]
      %y = conv2d(%r, %w) {kernel=[3,3], pads=[1,1,1,1]} : F[N,4,4,6]""",
}


def graph_of(name: str, kind: int) -> Graph:
    """Names of its own: `bundled` compiles several networks as one source."""
    own = f"{name}{kind}"
    return parse(
        f"graph @{own} {{{TEXTS[name]}\n  output %y\n}}".replace("F[", f"{FORMATS[kind]}[").replace("%", f"%{own}.")
    )


@pytest.fixture(scope="module")
def accelerators(networks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Accelerator]:
    root, rng = tmp_path_factory.mktemp("compare"), np.random.default_rng(4)
    graphs = [graph_of(name, kind) for name in TEXTS for kind in range(len(FORMATS))]
    for graph in graphs:
        networks.write(root / graph.name, graph, networks.randomly_folded(stages_of(graph), rng))
    made = networks.bundled([root / graph.name for graph in graphs], root / "compare.so", "-O0")
    return dict(zip([graph.name for graph in graphs], made, strict=True))


@pytest.mark.parametrize("kind", range(len(FORMATS)), ids=FORMATS)
@pytest.mark.parametrize("name", TEXTS)
def test_the_comparison_knows_in_which_order_each_value_flows(
    name: str, kind: int, accelerators: dict[str, Accelerator]
) -> None:
    """All layers are equal; with a weight changed, the layer that has it differs first."""
    graph = graph_of(name, kind)
    accelerator = accelerators[graph.name]
    shape = [dim for dim in graph.inputs[0].tensor_type.shape or () if isinstance(dim, int)]
    x = np.random.default_rng(5).uniform(-0.9, 0.9, (6, *shape)).astype(np.float32)
    rows = compare_layers(accelerator, graph, x)
    assert {row.name: row.first for row in rows if row.differ} == {}
    without_stage = ("flatten", "reshape", "transpose")
    assert {row.name for row in rows} >= {node.name for node in graph.nodes if node.op not in without_stage}

    node = next(node for node in graph.nodes if node.op in ("conv2d", "dense"))
    tensor = node.operand(1).tensor
    assert tensor is not None
    edit.set_tensor(node.operand(1), Tensor(-tensor.data))
    assert next(row.name for row in compare_layers(accelerator, graph, x) if row.differ) == node.name
