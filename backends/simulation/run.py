"""Runs graphs with formats on onnxruntime.

Formats are inputs of one session for every structure, so that another assignment builds no session. onnxruntime lays
constant weights out for speed, though, about twice as fast as given ones: a run of at least `bake_from` samples
therefore builds a session (a few milliseconds for a small network) with the numbers of this assignment inside.

sim = Simulation(graph)
logits = sim.run({"image": x})["logits"]
sim.use(other)                                   the same graph with other formats: no new session
inner = sim.run({"image": x}, wanted=["conv3"])  values by name, real numbers
logits = sim.run(inner, given=["conv3"])         only what comes after conv3
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache

import numpy as np
import onnxruntime

from bitwright.backends.simulation.exactness import exactness
from bitwright.backends.simulation.export import export
from bitwright.backends.simulation.parameters import Parameters, structure
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import bind, check_shape, evaluate
from bitwright.ir.graph import Graph, Value
from bitwright.ir.tensor import Array
from bitwright.ir.types import Type

BATCH, MOST_BATCH = 50, 1600
NUMBERS = 1 << 18
"""Of the largest value, for a batch: a megabyte, which the caches hold. Small perceptrons take several times BATCH."""
MOST_NUMBERS = 1 << 24
"""Of the largest value, for any batch: 64 MB."""
FLAT = ("add", "clip", "concat", "dense", "flatten", "mul", "quantize", "relu", "reshape")
BAKE_FROM = 1000

Key = tuple[tuple[str, ...], tuple[str, ...] | None, tuple[str, ...] | None]


class Simulation:
    """A graph's simulation, `batch` samples at a time (by default as many as suit the graph).

    `threads` (0: all cores) is onnxruntime's; sessions are built at their first use.
    """

    def __init__(self, graph: Graph, threads: int = 0, batch: int | None = None, bake_from: int = BAKE_FROM) -> None:
        self.threads = threads
        self.batch = batch or batch_of(graph)
        self.bake_from = bake_from
        self.sessions: dict[Key, onnxruntime.InferenceSession] = {}
        self.feeds: dict[Key, dict[str, Array]] = {}
        self.baked: dict[Key, onnxruntime.InferenceSession] = {}
        self.parameters = Parameters(graph)
        self.use(graph)

    def use(self, graph: Graph) -> None:
        """Take the formats of `graph`: the same graph but for formats. Weights of unchanged formats stay quantised."""
        self.graph = graph
        self.structure = structure(graph)
        self.parameters = Parameters(graph, self.parameters.quantized)
        self.feeds = {}
        self.baked = {}
        self._exact: dict[str, bool] | None = None

    @property
    def exact(self) -> dict[str, bool]:
        """For every sum and every value with a format: whether float32 gives it exactly, to the contract's last bit."""
        if self._exact is None:
            self._exact = exactness(self.graph)
        return self._exact

    def run(
        self,
        inputs: Mapping[str, Array],
        given: Collection[str] | None = None,
        wanted: Collection[str] | None = None,
    ) -> dict[str, Array]:
        """The outputs by their outside names, or the values `wanted`, as real numbers in float32, batch first.

        inputs: the graph's by outside name, or the values `given`. Raises CompileError for a wrong shape or name.
        """
        if given is None:
            arrays = {self.graph.input_name(value): _typed(value, array) for value, array in bind(self.graph, inputs)}
        else:
            arrays = {name: self._given(name, inputs) for name in given}
        names = [output.name for output in self.graph.outputs]
        if wanted is not None:
            names = wanted = [self._value(name).name for name in dict.fromkeys(wanted)]
        count = max((len(array) for array in arrays.values() if array.ndim), default=1)
        size = self.batch if all(array.ndim and len(array) == count for array in arrays.values()) else count
        session, feeds = self._baked(given, wanted) if count >= self.bake_from else self._session(given, wanted)
        pieces: list[list[Array]] = []
        for start in range(0, max(count, 1), max(size, 1)):
            part = {name: array[start : start + size] if array.ndim else array for name, array in arrays.items()}
            pieces.append(self._piece(session, part | feeds))
        return {
            name: np.concatenate([piece[i] for piece in pieces]) if len(pieces) > 1 else pieces[0][i]
            for i, name in enumerate(names)
        }

    def _piece(self, session: onnxruntime.InferenceSession, feeds: dict[str, Array]) -> list[Array]:
        try:
            return list(session.run(None, feeds))
        except Exception as error:  # onnxruntime has no common class of its errors
            raise CompileError(
                f"onnxruntime does not run @{self.graph.name} on these inputs: {str(error).splitlines()[0]}",
                help="a network that was exported for one sample takes more after the pass normalise",
            ) from error

    def _value(self, name: str) -> Value:
        if name not in self.graph.values:
            raise CompileError(f"@{self.graph.name} has no value %{name}")
        return self.graph.values[name]

    def _given(self, name: str, inputs: Mapping[str, Array]) -> Array:
        value = self._value(name)
        if name not in inputs:
            raise CompileError(f"%{name} is given no numbers; given: {', '.join(inputs) or 'nothing'}")
        array = np.asarray(inputs[name])
        check_shape(value, name, array)
        return _typed(value, array)

    def run_exactly(self, inputs: Mapping[str, Array], wanted: Collection[str] = ()) -> dict[str, Array]:
        """As `run`, bit for bit the contract's: by onnxruntime where float32 is exact, else by ir.evaluate."""
        if all(self.exact.values()):
            return self.run(inputs) | (self.run(inputs, wanted=wanted) if wanted else {})
        return evaluate(self.graph, inputs, wanted)

    def _session(
        self, given: Collection[str] | None, wanted: Collection[str] | None
    ) -> tuple[onnxruntime.InferenceSession, dict[str, Array]]:
        """The session whose inputs are the formats' numbers, and these."""
        key = (self.structure, _tuple(given), _tuple(wanted))
        if key not in self.sessions or key not in self.feeds:
            made = export(self.graph, self.parameters, given, wanted)
            self.feeds[key] = made.arrays
            if key not in self.sessions:
                self.sessions[key] = session_of(made.model.SerializeToString(), self.threads)
        return self.sessions[key], self.feeds[key]

    def _baked(
        self, given: Collection[str] | None, wanted: Collection[str] | None
    ) -> tuple[onnxruntime.InferenceSession, dict[str, Array]]:
        """A session with the present formats' numbers inside."""
        key = (self.structure, _tuple(given), _tuple(wanted))
        if key not in self.baked:
            made = export(self.graph, self.parameters, given, wanted, baked=True)
            self.baked[key] = session_of(made.model.SerializeToString(), self.threads)
        return self.baked[key], {}


def batch_of(graph: Graph) -> int:
    """How many samples go at a time: BATCH, halved until no value exceeds MOST_NUMBERS.

    Without windows it is doubled while none exceeds NUMBERS.
    """
    largest = max((numbers(value) for value in graph.values.values() if value.tensor is None), default=1)
    batch = BATCH
    while batch > 1 and batch * largest > MOST_NUMBERS:
        batch //= 2
    if any(node.op not in FLAT for node in graph.nodes):
        return batch
    while 2 * batch <= MOST_BATCH and 2 * batch * largest <= NUMBERS:
        batch *= 2
    return batch


def numbers(value: Value) -> int:
    """How many a value has for a sample; NUMBERS where that is not known."""
    shape = value.type.shape if isinstance(value.type, Type) else None
    if shape is None or not all(isinstance(dim, int) for dim in shape[1:]):
        return NUMBERS
    return math.prod(dim for dim in shape[1:] if isinstance(dim, int))


def session_of(model: bytes | str, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session on the CPU whose threads do not spin while they wait. Raises CompileError if it takes the model not."""
    _register_arena()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class of its errors
        raise CompileError(f"onnxruntime does not run this network: {str(error).splitlines()[0]}") from error


@cache
def _register_arena() -> None:
    """One arena for all sessions of this process.

    Of its own, a session keeps for good what a run of it took, and a search of a deep network has a hundred of them.
    """
    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    with suppress(RuntimeError):  # whoever uses bitwright may have registered one already
        onnxruntime.create_and_register_allocator(
            onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place), onnxruntime.OrtArenaCfg(0, -1, -1, -1)
        )


def _tuple(names: Collection[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _typed(value: Value, array: Array) -> Array:
    """Numbers as float32 where the network takes that."""
    single = isinstance(value.type, Type) and value.type.dtype == np.float32
    return array.astype(np.float32, copy=False) if single else array
