"""Other tools' mixed precision on the networks, images and objective of benchmarks/tuner.py.

    python benchmarks/rivals.py --cifar10 cifar10.npz -o benchmarks/rivals.json
    python benchmarks/rivals.py --networks lenet5 --tools onnxsim-activations quark
    python benchmarks/rivals.py --show

Each tool runs in an environment of its own, which is made at the first run (--venvs says where) by pip in its own
configuration: PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL may name a CPU-only torch. Files are all that passes between here
and there. A tool that fails is a row with its error. For each network and tolerance: searched on the first 10,000
training images, measured on all 10,000 test images; bits of bitwright's default objective, width x size over weights
and inputs of all layers in the widths that the tool chose, where a tensor left in float counts 32. The time is that of
the tool's search in its own simulation, without imports and without the measurement on test images. CIFAR-10 is an .npz
of x_train, y_train, x_test, y_test (uint8 pixels, N,3,32,32); without it only the MNIST networks run.

onnxsim-weights      apply_mixed_precision_quantization of onnxsim 0.8.1: blocks of INT4, or INT8 in the share
                     `high_bits_fraction` of the dense layers that are most sensitive. Convolutions and inputs stay in
                     float. It takes no accuracy (its search_mixed_precision_for_budget takes an L2 error of the
                     scores), so its own list of shares is tried from small to large until the accuracy on the search
                     images holds. Blocks have the largest size up to its default of 32 that divides all dense layers'
                     inputs, as it leaves the others in float
onnxsim-activations  search_activation_precision_for_budget of onnxsim 0.8.1: weights in INT8, the result of each node
                     in UINT8, UINT16 or float. The tolerance is its budget, accuracy its metric
quark                AutoMixprecisionConfig of AMD Quark 0.13 (ONNX), "speed": INT8 everywhere, and MX4, the narrowest
                     format that it has, in as many layers as the tolerance, its threshold, allows
aimet                choose_mixed_precision of AIMET 2.42 (ONNX): integers of 8 bits down to 2, a width for the weights
                     of each layer and for each activation. The tolerance is its allowed drop

A format that shares exponents counts its share of them, as MX4's name does; the scales of INT and UINT do not count.
Measurements are how often a tool asked for an accuracy, on all search images each time; a tool's runs for the ranges
of values are not counted. Results are written after each case, and a case whose result is there is not run again.
This file runs in the tools' environments too: imports stand where they are needed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

MODELS = Path(__file__).parents[1] / "models"
NETWORKS = {
    "lenet5": "mnist",
    "mlp_m": "mnist",
    "caffe_lenet": "mnist",
    "mlp_c": "cifar10",
    "cifar10_quick": "cifar10",
}
TOLERANCES = (0.07, 0.01)
SEARCHED = 10_000
BATCH = 1000
LONGEST_S = 900
FLOAT_BITS = 32
CALIBRATED = 1000
AIMET_WIDTHS = range(8, 1, -1)

LAYERS = {"Conv", "Gemm", "MatMul"}
SAME_VALUES = {"Flatten", "Reshape", "Identity", "Transpose", "MaxPool"}
"""Ops whose results have the format of what they read."""


@dataclass(frozen=True)
class Found:
    """What a tool chose: widths of weight and input by layer, how to classify with it, how long and how it searched."""

    widths: dict[str, tuple[float, float]]
    classes: Callable[[Any], Any]
    measurements: int
    seconds: float


# ---- in a tool's environment


def batches(x: Any, name: str) -> list[dict[str, Any]]:
    return [{name: x[i : i + BATCH]} for i in range(0, len(x), BATCH)]


def classifier(model: Any, libraries: Sequence[str] = ()) -> Callable[[Any], Any]:
    """The classes of images by onnxruntime, which fuses no nodes, so that the quantized values are those written."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    for library in libraries:
        options.register_custom_ops_library(library)
    return classes_of(ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]))


def classes_of(session: Any) -> Callable[[Any], Any]:
    name = session.get_inputs()[0].name
    return lambda x: np.concatenate([session.run(None, part)[0].argmax(1) for part in batches(x, name)])


def layer_names(model: Any) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type in LAYERS]


def widths_of(model: Any, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Widths of weight and input of each layer, from the quantizers before it; its layers are in the order of names."""
    makers = {result: node for node in model.graph.node for result in node.output}
    types = {item.name: item.data_type for item in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in LAYERS]
    assert len(layers) == len(names), "the tool changed the number of layers"
    return {
        name: (width(layer.input[1], makers, types), width(layer.input[0], makers, types))
        for name, layer in zip(names, layers, strict=True)
    }


def width(value: str, makers: dict[str, Any], types: dict[str, int]) -> float:
    import onnx

    node = makers.get(value)
    while node is not None and node.op_type in SAME_VALUES:
        node = makers.get(node.input[0])
    if node is not None and node.op_type == "DequantizeLinear":
        zero = node.input[0] if node.input[0] in types else node.input[2]  # numbers of a weight, or an input's zero
        kind = onnx.TensorProto.DataType.Name(types[zero])
        return float(kind.removeprefix("U").removeprefix("INT"))
    if node is not None and node.op_type == "BFPQuantizeDequantize":
        is_ = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        assert is_["bfp_method"] == b"to_bfp_prime"
        return is_["bit_width"] - 8 + 8 / is_["block_size"] + is_["sub_block_shift_bits"] / is_["sub_block_size"]
    assert node is None or "Quantize" not in node.op_type, f"the width of {node.op_type} is not known"
    return FLOAT_BITS


def onnxsim_weights(model: Any, x: Any, y: Any, tolerance: float) -> Found:
    import onnx
    from onnxsim import apply_mixed_precision_quantization
    from onnxsim.mixed_precision import DEFAULT_SEARCH_FRACTIONS

    began = time.perf_counter()
    names = layer_names(model)
    least = (classifier(model)(x) == y).mean() * (1 - tolerance)
    newer = onnx.version_converter.convert_version(model, 21)  # the first with INT4
    sizes = {item.name: item.dims for item in model.graph.initializer}
    dense = [node for node in model.graph.node if node.op_type == "Gemm"]
    common = math.gcd(
        *(sizes[node.input[1]][1 if any(a.name == "transB" for a in node.attribute) else 0] for node in dense)
    )
    block = max(size for size in range(1, 33) if common % size == 0)
    tried = 0
    for share in DEFAULT_SEARCH_FRACTIONS:
        tried += 1
        found = apply_mixed_precision_quantization(
            newer,
            calibration_data=batches(x[:CALIBRATED], model.graph.input[0].name),
            high_bits_fraction=share,
            block_size=block,
        )
        classes = classifier(found)
        if (classes(x) == y).mean() >= least:
            break
    seconds = time.perf_counter() - began
    return Found(widths_of(found, names), classes, tried + 1, seconds)


def onnxsim_activations(model: Any, x: Any, y: Any, tolerance: float) -> Found:
    from onnxsim.activation_sensitivity import search_activation_precision_for_budget

    began = time.perf_counter()
    asked = 0

    def accuracy(_: Any, scores: Any) -> float:
        nonlocal asked
        asked += 1
        return float((np.concatenate([next(iter(part.values())).argmax(1) for part in scores]) == y).mean())

    least = (classifier(model)(x) == y).mean() * (1 - tolerance)
    found = search_activation_precision_for_budget(
        model, batches(x, model.graph.input[0].name), budget=least, groups="node", metric=accuracy
    )
    seconds = time.perf_counter() - began
    return Found(widths_of(found.model, layer_names(model)), classifier(found.model), asked, seconds)


def quark(model: Any, x: Any, y: Any, tolerance: float) -> Found:
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from quark.onnx import ModelQuantizer
    from quark.onnx.operators.custom_ops import get_library_path
    from quark.onnx.quantization.config.algorithm import AutoMixprecisionConfig
    from quark.onnx.quantization.config.config import QConfig
    from quark.onnx.quantization.config.spec import Int8Spec, MX4Spec, QLayerConfig

    library = get_library_path()  # compiled at the first call
    began = time.perf_counter()
    asked = 0

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.reset_iter()

        def reset_iter(self) -> None:
            self.parts = iter(batches(x, model.graph.input[0].name))

        def get_next(self) -> dict[str, Any] | None:
            return next(self.parts, None)

    def accuracy(scores: Any) -> float:
        nonlocal asked
        asked += 1
        return float((np.concatenate([part[0].argmax(1) for part in scores]) == y).mean())

    reference = float((classifier(model)(x) == y).mean())
    search = AutoMixprecisionConfig(
        target_layer_config=QLayerConfig(input_tensors=MX4Spec(), weight=MX4Spec()),
        metric_evaluate_fn=accuracy,
        metric_threshold=tolerance * reference,
        metric_optimize_object="speed",
        data_size=len(x) // BATCH,
    )
    config = QConfig(global_config=QLayerConfig(activation=Int8Spec(), weight=Int8Spec()), algo_config=[search])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        onnx.save(model, path / "float.onnx")
        ModelQuantizer(config).quantize_model(str(path / "float.onnx"), str(path / "found.onnx"), Reader())
        found = onnx.load(path / "found.onnx")
    seconds = time.perf_counter() - began
    # it asks for the accuracy of the same float scores each time
    return Found(widths_of(found, layer_names(model)), classifier(found, [library]), asked // 2 + 1, seconds)


def aimet(model: Any, x: Any, y: Any, tolerance: float) -> Found:
    from aimet_onnx.common.defs import CallbackFunc, QuantizationDataType
    from aimet_onnx.mixed_precision import choose_mixed_precision
    from aimet_onnx.quantsim import QuantizationSimModel

    began = time.perf_counter()
    asked = 0

    def accuracy(session: Any, *_: Any) -> float:
        nonlocal asked
        asked += 1
        return float((classes_of(session)(x) == y).mean())

    whole = QuantizationDataType.int
    reads = {node.name: (node.input[1], node.input[0]) for node in model.graph.node if node.op_type in LAYERS}
    makers = {result: node for node in model.graph.node for result in node.output}
    reference = float((classifier(model)(x) == y).mean())
    sim = QuantizationSimModel(model, param_type="int8", activation_type="int8")
    with tempfile.TemporaryDirectory() as folder:
        choose_mixed_precision(
            sim,
            [((bits, whole), (bits, whole)) for bits in AIMET_WIDTHS],
            CallbackFunc(accuracy),
            CallbackFunc(accuracy),
            tolerance * reference,
            folder,
            True,
            CallbackFunc(lambda session, *_: classes_of(session)(x[:CALIBRATED])),
            use_all_amp_candidates=True,
        )
    seconds = time.perf_counter() - began

    def quantizer_width(value: str) -> float:
        found = sim.qc_quantize_op_dict.get(value)
        if found is not None and found.enabled:
            return float(found.bitwidth)
        node = makers.get(value)
        return quantizer_width(node.input[0]) if node is not None and node.op_type in SAME_VALUES else FLOAT_BITS

    widths = {name: (quantizer_width(w), quantizer_width(i)) for name, (w, i) in reads.items()}
    return Found(widths, classes_of(sim.session), asked, seconds)


TOOLS = {
    "onnxsim-weights": ("onnxsim", onnxsim_weights),
    "onnxsim-activations": ("onnxsim", onnxsim_activations),
    "quark": ("quark", quark),
    "aimet": ("aimet", aimet),
}
REQUIREMENTS = {
    "onnxsim": ("onnxsim==0.8.1", "onnxruntime==1.31.1"),
    "quark": ("amd-quark==0.13", "onnxruntime==1.28.0", "torch==2.13.0"),
    "aimet": ("aimet-onnx==2.42.0", "onnxruntime==1.31.1", "torch==2.13.0"),
}


def work(job: Path) -> None:
    """One search, of the folder that `write_job` made."""
    import onnx

    asked = json.loads((job / "job.json").read_text())
    with np.load(job / "images.npz") as arrays:
        x, y, x_test = (arrays[name] for name in ("x", "y", "x_test"))
    model = onnx.load(job / "model.onnx")
    as_float = classifier(model)
    found = TOOLS[asked["tool"]][1](onnx.load(job / "model.onnx"), x, y, asked["tolerance"])
    np.savez(job / "classes.npz", search=found.classes(x), test=found.classes(x_test), float=as_float(x_test))
    np.save(job / "float_search.npy", as_float(x))
    result = {"widths": found.widths, "measurements": found.measurements, "seconds": found.seconds}
    (job / "result.json").write_text(json.dumps(result))


# ---- here


def environment(folder: Path, requirements: Sequence[str]) -> Path:
    """The Python of a virtual environment that has what a tool needs; made now if it is not there."""
    python = folder / "bin" / "python"
    names = [requirement.partition("==")[0] for requirement in requirements]
    probe = f"from importlib.metadata import version as v; print(*(f'{{n}}=={{v(n)}}' for n in {names}))"
    if python.exists():
        found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False).stdout.split()
        if [name.partition("+")[0] for name in found] == list(requirements):
            return python
    checked([sys.executable, "-m", "venv", "--clear", str(folder)])
    checked([str(python), "-m", "pip", "install", "--quiet", *requirements])
    return python


def checked(command: Sequence[str], limit: float | None = None, folder: Path | None = None) -> None:
    """Run a command in a folder. Raises RuntimeError with the last line it says, and TimeoutExpired."""
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=limit
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise RuntimeError(lines[-1].strip())


Images: TypeAlias = tuple[Any, Any, Any, Any]
"""Pixels in [0, 1] and labels: of the search, and of the test."""


def images(name: str, cifar10: Path | None) -> Images | None:
    """Those of a data set, or None if it is not there."""
    from bitwright.models.datasets import load

    if name == "mnist":
        train, test = load("mnist", "train", SEARCHED), load("mnist", "test")
        return train.x, train.y, test.x, test.y
    if cifar10 is None:
        return None
    with np.load(cifar10) as arrays:
        x, y, x_test, y_test = (arrays[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test = (part.astype(np.float32) / np.float32(255) for part in (x[:SEARCHED], x_test))
    return x, y[:SEARCHED], x_test, y_test


def row(network: str, tolerance: float, tool: str, parts: Images, venvs: Path) -> dict[str, Any]:
    """One search and what it came to, or why it came to nothing."""
    case = {"network": network, "tolerance": tolerance, "algorithm": tool}
    try:
        name = TOOLS[tool][0]
        python = environment(venvs / name, REQUIREMENTS[name])
        with tempfile.TemporaryDirectory(prefix="bitwright-") as folder:
            return case | searched(Path(folder), network, tolerance, tool, parts, python)
    except (OSError, RuntimeError) as error:
        return case | {"error": str(error)}
    except subprocess.TimeoutExpired:
        return case | {"error": f"ran for more than {LONGEST_S} s"}


def searched(job: Path, network: str, tolerance: float, tool: str, parts: Images, python: Path) -> dict[str, Any]:
    """The numbers of a row, from a job that the tool's environment runs."""
    from bitwright.tuner.confidence import clopper_pearson
    from bitwright.tuner.targets import targets_of
    from bitwright.tuning import prepared

    x, y, x_test, y_test = parts
    path = MODELS / f"{network}.onnx"
    (job / "model.onnx").write_bytes(path.read_bytes())
    np.savez(job / "images.npz", x=x, y=y, x_test=x_test)
    (job / "job.json").write_text(json.dumps({"tool": tool, "tolerance": tolerance}))
    checked([str(python), str(Path(__file__).resolve()), "--job", str(job)], LONGEST_S, job)  # tools leave files

    result = json.loads((job / "result.json").read_text())
    bits = float_bits = 0.0
    for target in targets_of(prepared(path), x[:CALIBRATED]):
        bits += target.size * result["widths"][target.layer][0 if target.role == "weight" else 1]
        float_bits += target.size * FLOAT_BITS
    with np.load(job / "classes.npz") as classes:
        right = int((classes["test"] == y_test).sum())
        low, high = clopper_pearson(right, len(x_test))
        as_float = float((classes["float"] == y_test).mean())
        search = float((classes["search"] == y).mean())
    return {
        "space": "own",
        "bits": bits,
        "float_bits": float_bits,
        "accuracy": right / len(x_test),
        "low": low,
        "high": high,
        "float_accuracy": as_float,
        "search_accuracy": search,
        "least": float((np.load(job / "float_search.npy") == y).mean()) * (1 - tolerance),
        "measurements": result["measurements"],
        "full_sets": float(result["measurements"]),
        "seconds": round(result["seconds"], 2),
        "widths": {layer: f"{weight:g}/{x:g}" for layer, (weight, x) in result["widths"].items()},
    }


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows as a Markdown table."""
    heads = ("network", "loss", "tool", "bits", "of float", "held-out accuracy [95 %]", "float", "measured", "s")
    yield "| " + " | ".join(heads) + " |"
    yield "| --- " * len(heads) + "|"
    for r in rows:
        start = f"| {r['network']} | {r['tolerance']:.0%} | {r['algorithm']}"
        if "error" in r:
            yield f"{start} | {r['error'].replace('|', ' ')} | | | | | |"
            continue
        missed = "" if r["accuracy"] >= r["float_accuracy"] * (1 - r["tolerance"]) else " (misses the target)"
        yield (
            f"{start} | {r['bits']:,.0f} | 1/{r['float_bits'] / r['bits']:.1f}"
            f" | {r['accuracy']:.4f} [{r['low']:.4f}, {r['high']:.4f}]{missed} | {r['float_accuracy']:.4f}"
            f" | {r['measurements']} | {r['seconds']:.1f} |"
        )


def main() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitwright" / "rivals"
    parser = argparse.ArgumentParser(description="Other tools' mixed precision beside bitwright's tuner.")
    parser.add_argument("--cifar10", type=Path, help="npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--venvs", type=Path, default=cache, help=f"the tools' environments (default: {cache})")
    parser.add_argument("--show", action="store_true", help="print the table of the file, run nothing")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/rivals.json"))
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        work(given.job)
        return
    rows = json.loads(given.output.read_text())["rows"] if given.output.is_file() else []
    done = {(r["network"], r["tolerance"], r["algorithm"]) for r in rows if "error" not in r}
    for network in [] if given.show else given.networks:
        parts = images(NETWORKS[network], given.cifar10)
        for tolerance, tool in itertools.product(TOLERANCES, given.tools):
            case = (network, tolerance, tool)
            if parts is None or case in done:
                continue
            made = row(*case, parts, given.venvs.resolve())
            rows = [r for r in rows if (r["network"], r["tolerance"], r["algorithm"]) != case] + [made]
            rows.sort(
                key=lambda r: (list(NETWORKS).index(r["network"]), -r["tolerance"], list(TOOLS).index(r["algorithm"]))
            )
            given.output.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
            print(list(table([made]))[-1], file=sys.stderr, flush=True)
    print(*table(rows), sep="\n")


if __name__ == "__main__":
    main()
