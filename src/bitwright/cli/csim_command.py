"""bitwright csim: run an output folder's C++ and compare it with the simulation."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bitwright.cli.files import report_of, whole
from bitwright.cli.output import json_option, print_json, print_table, progress

if TYPE_CHECKING:
    from bitwright.backends.hls.csim import Accelerator
    from bitwright.ir.graph import Graph
    from bitwright.ir.tensor import Array

SAMPLES = 1000
RANDOM = 100


@click.command("csim")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--input", "source", type=click.Path(path_type=Path), help="An .npz with one array, batch first.")
@click.option("--output", "target", type=click.Path(path_type=Path), help="Write the outputs of --input to this .npz.")
@click.option("--data", metavar="D", help="Test data (default: what the folder was compiled with).")
@click.option(
    "--limit", type=click.IntRange(1), help=f"Use the first so many samples (default: {SAMPLES} of test data)."
)
@click.option("--layers", is_flag=True, help="Compare every layer, and count saturations.")
@click.option("--bounded", is_flag=True, help="Hold every FIFO to its depth: a deadlock names those that cause it.")
@click.option("--trips", is_flag=True, help="Count the trips of every process, and compare them with the estimate.")
@click.option("--ap-types", is_flag=True, help="Build with the ap_int headers that the package hls4ml brings.")
@json_option
def command(
    folder: Path,
    source: Path | None,
    target: Path | None,
    data: str | None,
    limit: int | None,
    layers: bool,
    bounded: bool,
    trips: bool,
    ap_types: bool,
    as_json: bool,
) -> int:
    """Compile the C++ of output FOLDER with g++ and compare it with the simulation, bit for bit.

    FLOAT and AFFINE compute in float32, and are compared within a tolerance, which is printed. Exit code 0: every bit
    is equal (within the tolerance), and with --trips every count; 1: some differ.
    """
    import numpy as np

    from bitwright.backends.hls.compare import compare_layers, input_format, is_exact, tolerance
    from bitwright.backends.hls.csim import Accelerator, read_network
    from bitwright.backends.hls.trips import compare_trips
    from bitwright.backends.simulation.run import Simulation
    from bitwright.ir.errors import CompileError
    from bitwright.ir.files import load

    if target is not None and source is None:
        raise CompileError("--output needs --input")
    read_network(folder)
    report = report_of(folder, *(["trips"] if trips else []))
    estimated = [(entry["stage"], entry["trips"]) for entry in report["trips"]] if trips else []
    graph = load(folder / "model.ir")
    x, origin = _samples(graph, source, data or report.get("data"), limit)
    with progress(as_json) as say:
        say("compiling")
        accelerator = Accelerator(folder, ap_types=ap_types, trace=layers, bounded=bounded, count=trips)
        say("running")
        frames = accelerator.input.to_stream(x, input_format(graph))
        y = accelerator.output.from_stream(accelerator.run(frames))
        say("simulating")
        name = graph.outputs[0].name
        expected = Simulation(graph).run_exactly({graph.input_name(graph.inputs[0]): x})[name]
        rows = compare_layers(accelerator, graph, x) if layers else []
        counts = compare_trips(accelerator, estimated, frames[:1]) if trips else []
    if target is not None:
        _save(target, name, y.astype(np.float32))
    allowed = tolerance(graph, expected)
    differ = int((np.abs(y - expected) > allowed).reshape(len(y), -1).any(1).sum())
    verdict = {"samples": len(x), "data": origin, "differ": differ, "ap_types": ap_types, "bounded": bounded}
    verdict |= {"tolerance": float(allowed.max(initial=0)), "largest_error": float(np.abs(y - expected).max(initial=0))}
    if as_json:
        print_json(verdict | {"layers": [vars(row) for row in rows], "trips": [vars(count) for count in counts]})
    else:
        _print_layers(rows, "equal" if is_exact(graph) else "within one quantum of its format")
        _print_trips(counts)
        click.echo(_verdict(accelerator, y, expected, allowed, f"{origin}; {_build(ap_types, bounded)}"))
    wrong = any(row.differ for row in rows) or any(count.counted != count.estimated for count in counts)
    return 1 if differ or wrong else 0


def _samples(graph: Graph, source: Path | None, data: str | None, limit: int | None) -> tuple[Array, str]:
    """Inputs to run, real numbers, and where they come from."""
    import numpy as np

    from bitwright.ir.evaluate import check_shape
    from bitwright.ir.formats.base import check_finite

    value = graph.inputs[0]
    name = graph.input_name(value)
    if source is not None:
        x, origin = _one_array(source, name), str(source)
    elif data is not None:
        from bitwright.models.datasets import load as load_data

        test = load_data(data, "test", limit or SAMPLES)
        x, origin = test.x, f"the test split of {test.name}"
    else:
        from bitwright.backends.hls.compare import input_format
        from bitwright.backends.hls.stages import span

        shape = [dim for dim in (value.tensor_type.shape or ())[1:] if isinstance(dim, int)]
        ends = span(input_format(graph))
        x = np.random.default_rng(1).uniform(*ends, (limit or RANDOM, *shape)).astype(np.float32)
        origin = "random inputs (compiled without data)"
    check_shape(value, name, x)
    check_finite(x, origin)
    return x[:limit], origin


def _one_array(path: Path, name: str) -> Array:
    """The array of an .npz, in float32: that named as the input, or the only one."""
    import numpy as np

    from bitwright.ir.errors import CompileError

    if not path.is_file():
        raise CompileError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file, np.load(file) as archive:
            names = list(archive.files)
            if name not in names and len(names) != 1:
                raise CompileError(f'{path} has arrays {", ".join(names)}, none is named "{name}"')
            array = np.asarray(archive[name if name in names else names[0]])
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CompileError(f"{path}: not an .npz file of numbers") from error
    if array.dtype.kind not in "biuf":
        raise CompileError(f"{path}: its array holds {array.dtype}, not numbers")
    with np.errstate(over="ignore"):  # beyond float32 it becomes infinite, which is refused
        return array.astype(np.float32)


def _save(path: Path, name: str, array: Array) -> None:
    """An .npz of one array; numpy's own function does not take every name."""
    import numpy as np

    with whole(path) as place, zipfile.ZipFile(place, "w") as archive, archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array(member, array)


def _print_layers(rows: list[Any], same: str) -> None:
    if rows:
        columns = ["layer", "values", "differ", "saturated", "first difference"]
        print_table(columns, [[r.name, f"{r.values:,}", f"{r.differ:,}", f"{r.saturated:,}", r.first] for r in rows])
        wrong = next((row for row in rows if row.differ), None)
        click.echo(f"every layer is {same}" if wrong is None else f"the first layer that differs is {wrong.name}")


def _print_trips(counts: list[Any]) -> None:
    if counts:
        rows = [[f"%{c.stage}", c.process, f"{c.counted:,}", f"{c.estimated:,}"] for c in counts]
        print_table(["stage", "process", "counted", "estimated"], rows)
        wrong = next((c for c in counts if c.counted != c.estimated), None)
        who = "every process makes" if wrong is None else f"%{wrong.stage} does not make"
        click.echo(f"{who} the trips of the estimate")


def _build(ap_types: bool, bounded: bool) -> str:
    return ("ap_int" if ap_types else "native integers") + (", FIFOs at their depths" if bounded else "")


def _verdict(accelerator: Accelerator, y: Array, expected: Array, allowed: Array, how: str) -> str:
    import numpy as np

    apart = np.abs(y - expected)
    bad = np.flatnonzero((apart > allowed).reshape(len(y), -1).any(1))
    beyond = f" by more than {allowed.max():.3g}" if allowed.any() else ""
    if len(bad):
        return f"{accelerator.name}: {len(bad):,} of {len(y):,} samples differ{beyond}, first sample {bad[0]} ({how})"
    count = f"all {y.size:,} outputs of {len(y):,} samples"
    if not allowed.any():
        return f"{accelerator.name}: {count} equal the simulation ({how})"
    same = f"{int((apart == 0).sum()):,} are equal, the others off by at most {apart.max():.3g}"
    return f"{accelerator.name}: {count} are within the tolerance of {allowed.max():.3g}: {same} ({how})"
