"""The adders of a layer as C++: a line for each, in the words of include/bitwright/constant_matvec.hpp."""

from __future__ import annotations

from bitwright.backends.hls.adder_cost import graph_of
from bitwright.backends.hls.adders.graph import Adder, AdderGraph, Output, width_of
from bitwright.backends.hls.cpp import Printer
from bitwright.backends.hls.stages import SumStage

ARGUMENTS = "const In::Type (&x)[Fold<{0}>::width], Int<acc_bits + 1> (&y)[pe]"


def declared_sums(struct: str) -> str:
    """The member of a layer's struct that its adders define."""
    return f"static void sums({ARGUMENTS.format(struct)});"


def print_sums(printer: Printer, struct: str, stage: SumStage) -> None:
    """The function that makes all sums of a layer of one vector."""
    graph = graph_of(stage)
    with printer.braces(f"inline void {struct}::sums({ARGUMENTS.format(struct)})"):
        printer.lines.append("#pragma HLS INLINE")
        for node, adder in enumerate(graph.adders, graph.inputs):
            printer.line(f"const auto n{node} = {_adder(graph, node, adder)};")
        for row, output in enumerate(graph.outputs):
            printer.line(f"y[{row}] = {_output(graph, output)};")


def _adder(graph: AdderGraph, node: int, adder: Adder) -> str:
    operation = "minus" if adder.subtracts else "plus"
    places = f"{width_of(*graph.ranges[node])}, {adder.left_shift}, {adder.right_shift}"
    return f"{operation}<{places}>({_node(graph, adder.left)}, {_node(graph, adder.right)})"


def _output(graph: AdderGraph, output: Output) -> str:
    if output.node is None:
        return "0"
    operation = "negative" if output.negative else "scaled"
    return f"{operation}<acc_bits + 1, {output.shift}>({_node(graph, output.node)})"


def _node(graph: AdderGraph, node: int) -> str:
    return f"x[{node}]" if node < graph.inputs else f"n{node}"
