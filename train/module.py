"""A graph as a torch module: the same values from the same numbers, and gradients for what a network learns.

Learned are the weights and biases of conv2d and dense and the scale and shift of batchnorm, as real numbers behind
their formats, and, if wanted, the biases of these formats and of those of what is computed; `learned_graph` rounds them
into the graph again. All else (mean and variance, constants of mul and add, the input's format) stays.
What comes out are the scores: the first output, or what its softmax or argmax reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch  # type: ignore[import-not-found, unused-ignore]
from torch import nn  # type: ignore[import-not-found, unused-ignore]

from bitwright.ir import edit
from bitwright.ir.accumulate import accumulator, exact_format
from bitwright.ir.assign import spread
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph, Node, Value
from bitwright.ir.scores import scores_of
from bitwright.ir.tensor import Array, Tensor
from bitwright.train.meaning import MEANING, fused, sums
from bitwright.train.onnx_ops import PLAIN
from bitwright.train.quantizers import quantizers_of
from bitwright.train.rounding import Quantizer, on_steps

SUMS = ("conv2d", "dense")


class Network(nn.Module):  # type: ignore[misc, unused-ignore]
    """The module of a graph of one input. Raises CompileError if it has an op that is in neither table of meanings.

    float32, or float64 where float32 does not hold a format's numbers; `.double()` is exact below 2^53 steps.
    """

    def __init__(self, graph: Graph, learn_biases: bool = False) -> None:
        """learn_biases: of formats."""
        super().__init__()
        if len(graph.inputs) != 1:
            raise CompileError(f"@{graph.name} has {len(graph.inputs)} inputs; training takes networks of one")
        self.graph = graph
        self.scores = scores_of(graph)
        self.nodes = list(_needed(self.scores))
        for node in self.nodes:
            if node.op not in (*SUMS, *MEANING, *PLAIN):
                known = ", ".join(sorted((*SUMS, *MEANING, *PLAIN)))
                raise CompileError(f"%{node.name}: {node.op} cannot be trained", help=f"these ops can: {known}")
        read = {id(value): value for node in self.nodes for value in node.operands if value is not None}
        written = {id(result): result for node in self.nodes for result in node.results}
        typed = [*read.values(), *written.values(), *graph.inputs]
        self.quantizers = quantizers_of(typed)
        dtype = torch.float32 if all(q.is_single for q in self.quantizers.values()) else torch.float64
        learned = {id(value) for node in self.nodes for value in learned_operands(node)}
        self.learned: list[Value] = []
        self.constants: dict[int, str] = {}
        self.latent = nn.ParameterList()
        for key, value in read.items():
            if value.tensor is None or value.producer is not None or value in graph.inputs:
                continue
            numbers = torch.tensor(value.tensor.data.astype(np.float64), dtype=dtype)
            if key in learned:
                self.learned.append(value)
                self.latent.append(nn.Parameter(numbers))
            else:
                self.constants[key] = f"constant{len(self.constants)}"
                self.register_buffer(self.constants[key], numbers)
        self.places = {id(value): index for index, value in enumerate(self.learned)}
        self.biases = nn.ParameterList()
        for quantizer in self._free(typed) if learn_biases else ():
            bias = quantizer.learn_bias()
            if bias is not None:
                self.biases.append(bias)

    def _free(self, typed: Sequence[Value]) -> list[Quantizer]:
        """The quantizers of what is learned or computed, and not those of inputs and constants."""
        fixed = {id(self.quantizers[id(v)]) for v in typed if id(v) in self.quantizers and self._is_fixed(v)}
        found = {id(q): q for q in self.quantizers.values()}
        return [quantizer for key, quantizer in found.items() if key not in fixed]

    def _is_fixed(self, value: Value) -> bool:
        return value in self.graph.inputs or (value.tensor is not None and id(value) not in self.places)

    @property
    def trained(self) -> list[nn.Parameter]:
        """All that is learned: numbers, then biases of formats."""
        return [*self.latent, *self.biases]

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        found = [*self.parameters(), *self.buffers()]
        return found[0].dtype if found else torch.float32

    def forward(self, x: torch.Tensor, watch: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """The scores of samples x [N,...]; `watch` is given every sum before its activation, by its node's name."""
        values = {id(self.graph.inputs[0]): self.held(self.graph.inputs[0], x.to(self.dtype))}
        for node in self.nodes:
            made = [self.value(value, values) for value in node.operands if value is not None]
            if node.op in PLAIN:
                found = PLAIN[node.op](node, made)
                results = [found] if isinstance(found, torch.Tensor) else list(found)
            else:
                results = [self.sum(node, made, watch) if node.op in SUMS else MEANING[node.op](node, made)]
            for value, result in zip(node.results, results, strict=True):
                values[id(value)] = self.held(value, result)
        return values[id(self.scores)]

    def value(self, value: Value, values: dict[int, torch.Tensor]) -> torch.Tensor:
        """A value's numbers: computed already, or a weight's in its format."""
        if id(value) not in values:
            learned = id(value) in self.places
            numbers = self.latent[self.places[id(value)]] if learned else getattr(self, self.constants[id(value)])
            values[id(value)] = self.held(value, numbers, learned)
        return values[id(value)]

    def held(self, value: Value, x: torch.Tensor, learned: bool = False) -> torch.Tensor:
        """What a value holds when `x` is computed for it: the nearest numbers of its format, or float32."""
        if id(value) in self.quantizers:
            return self.quantizers[id(value)](x, learned)
        return x if learned else x.to(torch.float32).to(x.dtype)

    def sum(self, node: Node, operands: list[torch.Tensor], watch: dict[str, torch.Tensor] | None) -> torch.Tensor:
        """conv2d or dense with the bias on the accumulator's steps, and what is fused into it."""
        x, weight = operands[:2]
        bias = operands[2] if len(operands) > 2 else None
        step = self.accumulator_step(node, weight)
        if bias is not None and step is not None:
            bias = on_steps(bias, step)
        made = sums(node, x, weight, bias)
        if watch is not None:
            watch[node.name] = made
        if step is not None and node.op == "conv2d":
            step = step.reshape(-1, 1, 1)
        return fused(node, made, step)

    def accumulator_step(self, node: Node, weight: torch.Tensor) -> torch.Tensor | None:
        """The step of each channel's accumulator [channels] (ir/accumulate.py), or None where sums are float32."""
        x, w = (self.exact(operand) for operand in (node.operand(0), node.operand(1)))
        constant = all(value is None or value.tensor is not None for value in node.operands[1:])
        if x is None or w is None or not constant or x.axis is not None or w.axis not in (None, 0):
            return None
        steps = torch.as_tensor(np.ldexp(1.0, w.step_exponents), dtype=weight.dtype, device=weight.device)
        if w.n_e:
            sizes = weight.detach().abs().flatten(1)
            least = torch.where(sizes == 0, torch.inf, sizes).amin(1)
            steps = torch.where(least.isinf(), steps, least)
        return steps.expand(weight.shape[0]) * float(x.step)

    def exact(self, value: Value) -> Canonical | None:
        """The format of a value as it is now, if its numbers are integers times a power of two."""
        if exact_format(value) is None:
            return None
        format = self.quantizers[id(value)].format
        assert isinstance(format, Canonical)
        return format

    def clamp(self) -> None:
        """Have the formats of the biases as they are, and bring numbers back into the range of theirs."""
        for quantizer in self.quantizers.values():
            quantizer.follow()
        with torch.no_grad():
            for value, latent in zip(self.learned, self.latent, strict=True):
                if id(value) in self.quantizers:
                    low, high = self.quantizers[id(value)].range(latent)
                    latent.copy_(torch.minimum(torch.maximum(latent, low), high))


def learned_operands(node: Node) -> list[Value]:
    """The weights of a node that a network learns."""
    chosen = node.operands[1:3] if node.op in (*SUMS, "batchnorm") else []
    return [value for value in chosen if value is not None and value.tensor is not None]


def learned_graph(network: Network) -> Graph:
    """A copy of the network's graph with what was learned in it: weights on their formats' numbers, biases on steps.

    Names and attributes stay, and types but for the biases of formats that were learned; a node that says its
    accumulator's bits (`acc`) says the new ones.
    """
    graph = edit.copy(network.graph)
    for value in network.graph.values.values():
        if id(value) in network.quantizers:
            format = network.quantizers[id(value)].format
            edit.set_type(graph.values[value.name], value.tensor_type.with_format(format))
    if len(network.biases):
        spread(graph)
    for value, latent in zip(network.learned, network.latent, strict=True):
        number = graph.values[value.name].tensor_type.number
        data: Array = latent.detach().cpu().numpy()
        if number is not None:
            data = number.quantize(data, "%" + value.name)
        assert value.tensor is not None
        edit.set_tensor(graph.values[value.name], Tensor(data.astype(value.tensor.dtype)))
    for node in graph.nodes:
        exact = accumulator(node) if node.op in SUMS else None
        bias = node.optional(2)
        alone = bias is not None and bias.tensor_type.is_native and len(bias.uses) == 1
        if exact is not None and bias is not None and bias.tensor is not None and alone:
            edit.set_tensor(bias, Tensor(np.ldexp(exact.bias, exact.exponents).astype(bias.tensor.dtype)))
        if "acc" in node.attributes:
            edit.set_attribute(node, "acc", None if exact is None else exact.bits)
    return graph


def _needed(value: Value) -> Iterator[Node]:
    """The nodes that a value is computed by, in order."""
    assert value.producer is not None, f"%{value.name} is not computed"
    graph, wanted, waiting = value.producer.graph, set[int](), [value]
    while waiting:
        node = waiting.pop().producer
        if node is not None and id(node) not in wanted:
            wanted.add(id(node))
            waiting += [operand for operand in node.operands if operand is not None]
    return (node for node in graph.nodes if id(node) in wanted)
