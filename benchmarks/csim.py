"""Cost of C simulation for LeNet-5 in FIXED 8: g++ and running, beside hls4ml on the same network and images.

    python benchmarks/csim.py
    python benchmarks/csim.py --rounds 1 --no-hls4ml

Contenders: the default build (native integers), the build with --ap-types (left out if the package hls4ml is not
installed), and hls4ml's own C simulation of the network (Vitis backend, io_stream, or io_parallel where that fails),
once in its default ap_fixed<16,6> and once in the formats that bitwright chose. hls4ml runs in an environment of its
own, which is made at the first run (--venv says where) by pip in its own configuration: PIP_EXTRA_INDEX_URL may name an
index with a CPU-only torch. Where that fails, the table says why.

Every figure is CPU time, of g++ alone and of float images in, float scores out; rounds run all contenders in turn,
times are medians and a ratio is the median of each round's own ratio to the default build.

hls4ml's environment has neither bitwright nor rich, and this file runs there too: imports stand where they are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

    from bitwright.ir.graph import Graph
    from bitwright.ir.tensor import Array

MODEL = Path(__file__).parents[1] / "models" / "lenet5.onnx"
REQUIREMENTS = ("hls4ml==1.3.0", "torch==2.13.0")
MOST_BUILD_S, MOST_IMAGE_MS = 4.0, 0.5
DEFAULT_PRECISION = "ap_fixed<16,6>"

RESULTS = {
    "image": ["input_1"],
    "conv1": ["relu1", "pool2"],
    "conv3": ["relu3", "pool4"],
    "conv5": ["relu5"],
    "fc6": ["relu6"],
    "fc7": ["fc7"],
}
"""The layers of hls4ml whose results have the format of a value of bitwright's graph, where relu and pool are fused."""


@dataclass(frozen=True)
class Round:
    """CPU seconds of g++, those of all images, their scores, and how it was done where there is a choice."""

    build: float
    run: float
    scores: Array
    how: str = ""


@dataclass
class Contender:
    """One way from the network to scores."""

    name: str
    measure: Callable[[], Round]
    rounds: list[Round] = field(default_factory=list)
    error: str = ""

    @property
    def builds(self) -> list[float]:
        return [found.build for found in self.rounds]

    @property
    def runs(self) -> list[float]:
        return [found.run for found in self.rounds]


def cpu_seconds(who: int) -> float:
    """CPU time so far of this process (RUSAGE_SELF, all threads) or of the children it waited for."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


# ---- bitwright


def bitwright_round(folder: Path, graph: Graph, x: Array, ap_types: bool) -> Round:
    """Build an output folder's C++ anew and run it."""
    from bitwright.backends.hls.compare import input_format
    from bitwright.backends.hls.csim import Accelerator

    for kept in (folder / "csim").glob("*.so"):
        kept.unlink()
    start = cpu_seconds(resource.RUSAGE_CHILDREN)
    accelerator = Accelerator(folder, ap_types=ap_types)
    build = cpu_seconds(resource.RUSAGE_CHILDREN) - start
    format = input_format(graph)
    accelerator.run(accelerator.input.to_stream(x[:1], format))
    start = cpu_seconds(resource.RUSAGE_SELF)
    scores = accelerator.output.from_stream(accelerator.run(accelerator.input.to_stream(x, format)))
    return Round(build, cpu_seconds(resource.RUSAGE_SELF) - start, scores)


def has_ap_headers() -> bool:
    from bitwright.backends.hls.csim import ap_headers
    from bitwright.ir.errors import CompileError

    try:
        ap_headers()
    except CompileError:
        return False
    return True


# ---- hls4ml, seen from here


def environment(folder: Path) -> Path:
    """The Python of a virtual environment that has what hls4ml needs; made now if it is not there."""
    python = folder / "bin" / "python"
    probe = "from importlib.metadata import version as v; print(*(f'{n}=={v(n)}' for n in ('hls4ml', 'torch')))"
    if python.exists():
        found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False).stdout.split()
        if [name.partition("+")[0] for name in found] == list(REQUIREMENTS):
            return python
    checked([sys.executable, "-m", "venv", "--clear", str(folder)])
    checked([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS])
    return python


def checked(command: Sequence[str]) -> None:
    """Run a command. Raises RuntimeError with the last line it says."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise RuntimeError(lines[-1].strip())


def hls4ml_round(python: Path, job: Path) -> Round:
    """One build and run in hls4ml's environment, of the folder that `write_job` made."""
    checked([str(python), str(Path(__file__).resolve()), "--job", str(job)])
    times = json.loads((job / "times.json").read_text())
    return Round(times["build"], times["run"], np.load(job / "scores.npy"), times["how"])


def write_job(job: Path, x: Array, formats: dict[str, str]) -> Path:
    """What hls4ml's side reads: the images, the trained weights and the formats by layer and role."""
    import onnx
    from onnx import numpy_helper

    weights = {item.name: numpy_helper.to_array(item) for item in onnx.load(MODEL).graph.initializer}
    job.mkdir()
    np.savez(job / "weights.npz", **weights)  # type: ignore[arg-type, unused-ignore]
    np.save(job / "images.npy", np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    (job / "formats.json").write_text(json.dumps(formats))
    return job


def formats_of(graph: Graph) -> dict[str, str]:
    """The formats of a compiled graph by `<layer> <role>` of hls4ml."""
    found: dict[str, str] = {}
    for value, layers in RESULTS.items():
        found |= {f"{layer} result": as_fixed(graph, value) for layer in layers}
        if value != "image":
            found[f"{value} weight"] = as_fixed(graph, f"{value}.weight")
    return found


def as_fixed(graph: Graph, name: str) -> str:
    """A FIXED format in the words of hls4ml: the range is symmetric, and B=0 has two integer bits with the sign."""
    from bitwright.ir.formats import Canonical

    number = graph.values[name].tensor_type.number
    assert isinstance(number, Canonical)
    assert isinstance(number.bias, int)
    return f"fixed<{number.width},{2 - number.bias},RND_CONV,SAT_SYM>"


# ---- hls4ml, inside its environment


def hls4ml_main(job: Path) -> None:
    """Convert, build and run the network of a job's folder; leaves times.json and scores.npy there."""
    x, how = np.load(job / "images.npy"), "io_stream"
    try:
        model, build = hls4ml_build(job, how)
    except Exception:  # whatever another project's tool can say
        how = "io_parallel"
        model, build = hls4ml_build(job, how)
    model.predict(x[:1])
    start = cpu_seconds(resource.RUSAGE_SELF)
    scores = model.predict(x)
    run = cpu_seconds(resource.RUSAGE_SELF) - start
    np.save(job / "scores.npy", scores.reshape(len(x), -1))
    (job / "times.json").write_text(json.dumps({"build": build, "run": run, "how": how}))


def hls4ml_build(job: Path, io_type: str) -> tuple[Any, float]:
    """hls4ml's compiled model, and the CPU seconds of the compiler."""
    import hls4ml

    network = lenet5(job / "weights.npz")
    config = hls4ml.utils.config_from_pytorch_model(
        network, (1, 28, 28), granularity="name", backend="Vitis", default_precision=DEFAULT_PRECISION
    )
    for key, format in json.loads((job / "formats.json").read_text()).items():
        layer, role = key.split()
        config["LayerName"][layer]["Precision"][role] = format
    project = job / io_type
    shutil.rmtree(project, ignore_errors=True)
    model = hls4ml.converters.convert_from_pytorch_model(
        network, output_dir=str(project), backend="Vitis", io_type=io_type, hls_config=config
    )
    start = cpu_seconds(resource.RUSAGE_CHILDREN)
    model.compile()
    return model, cpu_seconds(resource.RUSAGE_CHILDREN) - start


def lenet5(weights: Path) -> Any:
    """LeNet-5 in torch with the weights of the .onnx, layers under the same names."""
    import torch
    from torch import nn

    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(1, 6, 5, padding=2),
        "relu1": nn.ReLU(),
        "pool2": nn.MaxPool2d(2),
        "conv3": nn.Conv2d(6, 16, 5),
        "relu3": nn.ReLU(),
        "pool4": nn.MaxPool2d(2),
        "conv5": nn.Conv2d(16, 120, 5),
        "relu5": nn.ReLU(),
        "flatten": nn.Flatten(),
        "fc6": nn.Linear(120, 84),
        "relu6": nn.ReLU(),
        "fc7": nn.Linear(84, 10),
    }
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    with np.load(weights) as arrays:
        network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return network.eval()


# ---- the table


def measure(entries: Sequence[Contender], rounds: int, say: Callable[[str], None]) -> None:
    """Measure every contender once a round, in turn; one that fails is out, with its error."""
    for number in range(rounds):
        for entry in entries:
            if entry.error:
                continue
            say(f"round {number + 1} of {rounds}: {entry.name}")
            try:
                entry.rounds.append(entry.measure())
            except Exception as error:  # whatever another project's tool can say
                entry.error = (str(error) or type(error).__name__).splitlines()[0]


def table_of(entries: Sequence[Contender], expected: Array, plain: Array, labels: Array) -> Table:
    """A row a contender, with ratios to the first one and how often its classes are those of others."""
    from rich.table import Table

    table = Table(title=f"CPU time of C simulation, LeNet-5, {len(labels):,} images")
    table.add_column("build")
    for name in ("g++ CPU s", "ratio", "CPU ms an image", "ratio", "top-1", "as in float", "as simulated"):
        table.add_column(name, justify="right")
    first = entries[0]
    for entry in entries:
        if entry.error:
            table.add_row(f"{entry.name}: {entry.error}", style="red")
            continue
        last = entry.rounds[-1]
        costs = [f"{median(entry.builds):.2f}", ratio(entry.builds, first.builds)]
        costs += [f"{1000 * median(entry.runs) / len(labels):.3f}", ratio(entry.runs, first.runs)]
        classes = last.scores.argmax(1)
        shares = [np.mean(classes == other) for other in (labels, plain.argmax(1), expected.argmax(1))]
        name = f"{entry.name}, {last.how}" if last.how else entry.name
        table.add_row(name, *costs, *(f"{share:.2%}" for share in shares))
    return table


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    """The median of the rounds' own ratios; a dash where one side has failed."""
    if len(numerators) != len(denominators):
        return "-"
    return f"{median(n / d for n, d in zip(numerators, denominators, strict=True)):.1f}"


def verdict(default: Contender, images: int) -> str:
    build, each = median(default.builds), 1000 * median(default.runs) / images
    met = "met" if build <= MOST_BUILD_S and each <= MOST_IMAGE_MS else "MISSED"
    return (
        f"default build: {build:.2f} CPU s of g++ (at most {MOST_BUILD_S}) and {each:.3f} CPU ms an image "
        f"(at most {MOST_IMAGE_MS}): {met}"
    )


def equality(entry: Contender, expected: Array) -> str:
    """Whether one of bitwright's builds gives the simulation's bits."""
    differ = int((entry.rounds[-1].scores != expected).any(1).sum())
    return f"{entry.name}: {len(expected) - differ:,} of {len(expected):,} images equal the simulation bit for bit"


def compare(work: Path, given: argparse.Namespace) -> None:
    """Measure everything in a temporary folder and print it."""
    from rich.console import Console

    import bitwright
    from bitwright.models.datasets import load

    console = Console(width=None if os.isatty(1) else 130, highlight=False)
    test = load("mnist", "test", given.images)
    assert test.y is not None
    console.print(f"load {os.getloadavg()[0]:.1f} at the start, {os.cpu_count()} cores")
    with console.status("bitwright compile") as status:
        folder = work / "lenet5"
        graph = bitwright.compile(MODEL, "pynq", data="mnist", formats="FIXED 8", out=folder).graph
        own = [Contender("bitwright, default", lambda: bitwright_round(folder, graph, test.x, False))]
        if has_ap_headers():
            own.append(Contender("bitwright, --ap-types", lambda: bitwright_round(folder, graph, test.x, True)))
        others = []
        if given.hls4ml:
            status.update("hls4ml's environment")
            others = hls4ml_contenders(work, graph, test.x, given.venv)
        measure([*own, *others], given.rounds, status.update)
        expected = bitwright.simulate(graph, test.x)[graph.outputs[0].name]
        plain = bitwright.simulate(bitwright.load(MODEL), test.x)[graph.outputs[0].name]
    console.print(table_of([*own, *others], expected, plain, test.y))
    if len(own) == 1:
        console.print("--ap-types left out: the package hls4ml is not installed here")
    for entry in own:
        if not entry.error:
            console.print(equality(entry, expected), soft_wrap=True)
    if not own[0].error:
        console.print(verdict(own[0], len(test.x)), soft_wrap=True)
    console.print(f"load {os.getloadavg()[0]:.1f} at the end; rounds: {given.rounds}")


def hls4ml_contenders(work: Path, graph: Graph, x: Array, venv: Path) -> list[Contender]:
    """hls4ml in its own precision and in the graph's formats, or one row with what keeps it from running."""
    try:
        python = environment(venv)
    except (OSError, RuntimeError) as error:
        message = f"no environment: {error}"

        def fail() -> Round:
            raise RuntimeError(message)

        return [Contender("hls4ml", fail)]
    default = write_job(work / "hls4ml-default", x, {})
    same = write_job(work / "hls4ml-same", x, formats_of(graph))
    return [
        Contender(f"hls4ml, {DEFAULT_PRECISION}", lambda: hls4ml_round(python, default)),
        Contender("hls4ml, same formats", lambda: hls4ml_round(python, same)),
    ]


def parsed() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitwright" / "hls4ml-venv"
    parser = argparse.ArgumentParser(description="Cost of C simulation for LeNet-5, beside hls4ml.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender builds and runs (default: 3)")
    parser.add_argument("--images", type=int, default=1000, help="test images a run (default: 1,000)")
    parser.add_argument("--no-hls4ml", dest="hls4ml", action="store_false", help="measure bitwright alone")
    parser.add_argument("--venv", type=Path, default=cache, help=f"hls4ml's environment (default: {cache})")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rounds < 1 or not 1 <= given.images <= 10000:
        parser.error("rounds are 1 or more, images 1 to 10,000")
    return given


def main() -> None:
    given = parsed()
    if given.job:
        hls4ml_main(given.job)
        return
    with tempfile.TemporaryDirectory(prefix="bitwright-") as work:
        compare(Path(work), given)


if __name__ == "__main__":
    main()
