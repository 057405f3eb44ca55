"""C simulation: compiles an output folder's own sources with g++ and runs them on integers or real numbers.

The default build resolves the widths to native integers; `ap_types` builds the same sources with the Apache-2.0 headers
ap_int.h of the Python package hls4ml, found on the machine and never copied. Libraries are kept by the hash of sources,
headers and flags.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bitwright.backends.hls.stages import SINGLE, as_integers, as_reals, flowing
from bitwright.ir.errors import CompileError
from bitwright.ir.formats import Format
from bitwright.ir.formats.base import check_finite
from bitwright.ir.tensor import Array

Ints = NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.float32, np.float64)

FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w")
AP_FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-w", "-DBITWRIGHT_AP_TYPES")


@dataclass(frozen=True)
class Layer:
    """What flowed out of one stage: integers [frames, elements] in stream order, and how many were saturated."""

    name: str
    values: Ints
    saturated: int


@dataclass(frozen=True)
class Trips:
    """What one process did in one frame: the name of its function, and how often its loop went round."""

    process: str
    count: int


@dataclass(frozen=True)
class Port:
    """One side of the accelerator as network.json describes it."""

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    step_exponent: int
    low: int
    high: int
    kind: str = "integer"

    @classmethod
    def read(cls, entry: dict[str, Any]) -> Port:
        low, high = entry["range"]
        shape, order = tuple(entry["shape"]), tuple(entry["order"])
        return cls(entry["name"], shape, order, entry["step_exponent"], low, high, entry["kind"])

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def to_stream(self, x: Array, format: Format) -> Ints:
        """Real numbers [N, *shape] as the integers [N, elements] that flow, in the order of the stream."""
        check_finite(x, self.name)
        number = SINGLE if self.kind == "float32" else flowing(format)
        assert number is not None
        integers = as_integers(number, np.asarray(x, np.float32) if number is SINGLE else x)
        return np.ascontiguousarray(integers.transpose(0, *(axis + 1 for axis in self.order))).reshape(len(x), -1)

    def from_stream(self, integers: Ints) -> Array:
        """Integers in the order of the stream as real numbers [N, *shape]."""
        frames = self.frames(integers)
        if self.kind == "float32":
            return as_reals(SINGLE, frames)
        return np.asarray(np.ldexp(frames.astype(np.float64), self.step_exponent))

    def frames(self, numbers: NDArray[Number]) -> NDArray[Number]:
        """Numbers in the order of the stream as frames [N, *shape]."""
        dims = [self.shape[axis] for axis in self.order]
        back = np.argsort([0, *(axis + 1 for axis in self.order)])
        return numbers.reshape(-1, *dims).transpose(back)


class Accelerator:
    """The compiled C++ of an output folder.

    `trace` also records what every stage gives; `count` the trips of every process; `bounded` holds every stream to its
    depth, so that a design that stops for ever on the board does so here.
    """

    def __init__(
        self,
        folder: Path,
        ap_types: bool = False,
        trace: bool = False,
        flags: Sequence[str] = (),
        bounded: bool = False,
        count: bool = False,
    ) -> None:
        if bounded and count:
            raise CompileError("trips are counted where each process runs to its end: not with bounded FIFOs")
        flags = [*flags, "-DBITWRIGHT_BOUNDED"] if bounded else flags
        flags = [*flags, "-DBITWRIGHT_TRIPS"] if count else flags
        network = read_network(folder)
        self.name = str(network["name"])
        self.input, self.output = Port.read(network["input"]), Port.read(network["output"])
        self.binary = loaded(compiled(folder, self.name, ap_types, trace, flags))

    def run(self, frames: Ints) -> Ints:
        """Integers [N, elements] in, integers [N, elements] out. Raises CompileError with what went wrong inside."""
        frames = np.ascontiguousarray(frames, np.int64)
        if frames.ndim != 2 or frames.shape[1] != self.input.elements:
            raise CompileError(f"{self.name} takes frames of {self.input.elements} integers, not {list(frames.shape)}")
        results = np.zeros((len(frames), self.output.elements), np.int64)
        pointer = ctypes.POINTER(ctypes.c_int64)
        inputs = (pointer * 1)(frames.ctypes.data_as(pointer))
        outputs = (pointer * 1)(results.ctypes.data_as(pointer))
        if self.binary.bitwright_run(inputs, outputs, ctypes.c_int64(len(frames))):
            raise CompileError(f"C simulation of {self.name}: {self.binary.bitwright_error().decode()}")
        return results

    def bound(self, depths: Mapping[str, int]) -> None:
        """Other depths than the design's for some streams, by name; needs `bounded`."""
        self.binary.bitwright_clear_depths()
        for stream, words in depths.items():
            self.binary.bitwright_set_depth(stream.encode(), ctypes.c_int64(words))

    def layers(self, frames: Ints) -> list[Layer]:
        """What every stage gives for these frames; needs `trace`."""
        self.binary.bitwright_trace_clear()
        self.run(frames)
        found = []
        for index in range(self.binary.bitwright_trace_streams()):
            name = self.binary.bitwright_trace_name(index).decode()
            size = self.binary.bitwright_trace_size(index)
            values = np.ctypeslib.as_array(self.binary.bitwright_trace_values(index), (size,)).copy()
            saturated = int(self.binary.bitwright_trace_saturated(index))
            found.append(Layer(name, values.reshape(len(frames), -1), saturated))
        return found

    def trips(self, frame: Ints) -> list[Trips]:
        """The trips of every process for a frame [1, elements], in the order of the dataflow; needs `count`."""
        self.binary.bitwright_trips_clear()
        self.run(frame)
        return [
            Trips(self.binary.bitwright_trips_name(n).decode(), int(self.binary.bitwright_trips_count(n)))
            for n in range(self.binary.bitwright_trips_processes())
        ]


def loaded(library: Path) -> ctypes.CDLL:
    """The functions of a compiled library, with their types."""
    binary = ctypes.CDLL(str(library))
    for name in ("error", "trace_name", "trips_name"):
        getattr(binary, f"bitwright_{name}").restype = ctypes.c_char_p
    for name in ("trace_size", "trace_saturated", "trips_count"):
        getattr(binary, f"bitwright_{name}").restype = ctypes.c_int64
    binary.bitwright_trace_values.restype = ctypes.POINTER(ctypes.c_int64)
    return binary


def read_network(folder: Path) -> dict[str, Any]:
    """network.json of an output folder. Raises CompileError if it is none."""
    path = folder / "driver" / "network.json"
    if not path.is_file():
        raise CompileError(f"{folder} is no output folder of bitwright compile (it has no driver/network.json)")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def ap_headers() -> Path:
    """The folder of ap_int.h in the installed package hls4ml. Raises CompileError if it is not installed."""
    spec = importlib.util.find_spec("hls4ml")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        folder = Path(place) / "templates" / "vivado" / "ap_types"
        if (folder / "ap_int.h").is_file():
            return folder
    raise CompileError("the ap_int headers are not installed", help="pip install --no-deps hls4ml==1.3.0 brings them")


def compiled(folder: Path, name: str, ap_types: bool, trace: bool, flags: Sequence[str] = ()) -> Path:
    """The shared library of a folder's sources, compiled now or kept. Raises CompileError with g++'s words."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise CompileError("g++ is not on the PATH", help="install it (Debian: apt install g++)")
    sources = [folder / "src" / f"{name}.cpp", folder / "csim" / "csim.cpp"]
    options = list(AP_FLAGS if ap_types else FLAGS) + list(flags)
    options += ["-DBITWRIGHT_TRACE"] if trace else []
    options += [f"-I{folder / part}" for part in ("include", "src", "csim")]
    options += [f"-isystem{ap_headers()}"] if ap_types else []
    target = folder / "csim" / f"{name}-{_digest(folder, options)}.so"
    if not target.is_file():
        part = target.with_suffix(f".{os.getpid()}.part")
        command = [compiler, *options, *map(str, sources), "-o", str(part)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:300])
            raise CompileError(f"g++ does not compile {folder}: {first}", help=" ".join(command))
        part.rename(target)
    return target


def _digest(folder: Path, options: Sequence[str]) -> str:
    digest = hashlib.sha256(" ".join(options).encode())
    for part in ("src", "include", "csim"):
        for path in sorted((folder / part).rglob("*")):
            if path.suffix in (".hpp", ".h", ".cpp"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
