"""fuse-pooling: max pooling goes into the convolution before it, so that no buffer lies between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Node
from bitwright.ir.ops import OPS, attribute, integers
from bitwright.passes.base import Context, Pass
from bitwright.passes.chains import absorb, is_plain, only_reader


@dataclass(frozen=True)
class FusePooling(Pass):
    """A maxpool2d without padding becomes `pool` of the conv2d that only it reads; `only` names the convolutions,
    `apart` those that are left as they are.

    - %conv1 = conv2d(%x, %conv1.w) {act=relu, kernel=[5,5]} : f32[1,6,24,24]
    - %pool1 = maxpool2d(%conv1) {kernel=[2,2], strides=[2,2]} : f32[1,6,12,12]
    + %conv1 = conv2d(%x, %conv1.w) {act=relu, kernel=[5,5], pool=[2,2]} : f32[1,6,12,12]
    """

    name: ClassVar[str] = "fuse-pooling"
    only: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    def run(self, graph: Graph, context: Context) -> bool:
        convolutions = [node.name for node in graph.nodes if node.op == "conv2d"]
        unknown = [name for name in (*self.only, *self.apart) if name not in convolutions]
        if unknown:
            raise CompileError(f"{self}: no conv2d is named {unknown[0]!r}", help="they are " + ", ".join(convolutions))
        changed = False
        for node in list(graph.nodes):
            if node.op == "conv2d" and (not self.only or node.name in self.only) and node.name not in self.apart:
                changed |= _fuse(graph, node)
        return changed


def _fuse(graph: Graph, node: Node) -> bool:
    pool = only_reader(graph, node.result)
    if pool is None or pool.op != "maxpool2d" or integers(node, "pool") or not is_plain(node.result):
        return False
    if any(attribute(pool, key) != OPS[pool.op].attributes[key] for key in ("pads", "dilations", "ceil")):
        return False
    kernel, strides = integers(pool, "kernel"), integers(pool, "strides")
    edit.set_attribute(node, "pool", kernel)
    if strides != kernel:
        edit.set_attribute(node, "pool_strides", strides)
    absorb(graph, node, pool)
    return True
