"""A candidate: a format for every tensor, and numbers that replace some of the network's own.

Its text is what libnumber's configuration file has, a line a tensor; its key adds a digest of the replaced numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bitwright.ir import edit
from bitwright.ir.assign import assign
from bitwright.ir.formats import Canonical
from bitwright.ir.formats.text import short
from bitwright.ir.graph import Graph
from bitwright.ir.tensor import Array, Tensor


@dataclass(frozen=True)
class Candidate:
    """formats: by the tensor's name, as in ir/assign.py; values: other numbers for weights and biases, by value."""

    formats: Mapping[str, Canonical]
    values: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """`conv1.weight EXP 8` and so on, sorted: the paper's configuration file."""
        return "\n".join(f"{name} {short(format)}" for name, format in sorted(self.formats.items()))

    @cached_property
    def key(self) -> str:
        """Equal for candidates that are equal in every number."""
        if not self.values:
            return self.text
        digest = hashlib.sha256()
        for name, array in sorted(self.values.items()):
            digest.update(name.encode() + str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return f"{self.text}\nvalues {digest.hexdigest()[:16]}"

    def apply(self, graph: Graph) -> Graph:
        """The graph with these formats and numbers. Raises CompileError for a tensor that it does not have."""
        made = edit.copy(graph)
        for name, array in self.values.items():
            edit.set_tensor(made.values[name], Tensor(array))
        assign(made, self.formats)
        return made
