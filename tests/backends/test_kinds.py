"""FLOAT, AFFINE and EXP activations and constant operands in the generated C++, against the judge and float64.

Sums in FIXED are equal to the bit. Elsewhere every layer is held to the numbers that the C++ itself gave to it: the
nearest number of its format to what float64 makes of them, but for what float32 may lose of a sum.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.compare import compare_layers, input_format, is_exact, tolerance
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.stages import (
    FloatSumStage,
    RealJoinStage,
    RealMeanStage,
    RealPointStage,
    ScaledSumStage,
    Stage,
    as_integers,
    as_reals,
    flowing,
    ports_of,
    span,
    stages_of,
)
from bitwright.backends.hls.trips import compare_trips, estimated_trips
from bitwright.ir import edit
from bitwright.ir.evaluate import evaluate, windows
from bitwright.ir.formats import Affine
from bitwright.ir.graph import Node
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array, Tensor

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

TEXTS = {
    "floats": """graph @floats {
      input %floats.x : FLOAT<16>[N,2,6,7]
      weight %floats.w = 000000d1 : FLOAT<16>[4,2,3,3]
      weight %floats.b = 000000d2 : f32[4]
      weight %floats.v = 000000d3 : FLOAT<8,E=4>[4,1,2,2]
      weight %floats.u = 000000d4 : EXP<4>[6,4]
      %floats.c = conv2d(%floats.x, %floats.w, %floats.b)
        {act=relu, kernel=[3,3], pads=[1,0,1,2], pool=[2,2]} : FLOAT<12>[N,4,3,3]
      %floats.d = conv2d(%floats.c, %floats.v) {groups=4, kernel=[2,2]} : FLOAT<9>[N,4,2,2]
      %floats.m = globalavgpool(%floats.d) : FLOAT<16>[N,4,1,1]
      %floats.f = flatten(%floats.m) : FLOAT<16>[N,4]
      %floats.y = dense(%floats.f, %floats.u) {act=clip, act_max=0.5, act_min=-0.4} : FLOAT<16>[N,6]
      output %floats.y
    }""",
    "single": """graph @single {
      input %single.x as "image" : FLOAT<32>[N,3,5,5]
      weight %single.w = 000000d5 : FLOAT<32>[4,3,3,3]
      weight %single.k = 000000d6 : f32[4,1,1]
      %single.c = conv2d(%single.x, %single.w) {kernel=[3,3], strides=[2,2]} : FLOAT<32>[N,4,2,2]
      %single.s = add(%single.k, %single.c) : FLOAT<32>[N,4,2,2]
      %single.q = mul(%single.s, %single.c) : FLOAT<32>[N,4,2,2]
      output %single.q
    }""",
    # Weights with a bias or a scale a channel beside FLOAT, and BIN where it meets them.
    "rows": """graph @rows {
      input %rows.x : FLOAT<12>[N,2,5,6]
      weight %rows.a.w = 000000e4 : AFFINE<5,scale={0.05,0.06,0.1}@0,zero={16,13,20}@0>[3,2,3,3]
      weight %rows.a.b = 000000e5 : f32[3]
      weight %rows.b.w = 000000e6 : FLOAT<7,E=3,B={3,5,4}@0>[3,3,1,1]
      weight %rows.c.w = 000000e7 : FIXED<4,B={0,2,1}@0>[3,3,1,1]
      weight %rows.d.w = 000000e8 : BIN<1,B={1,3,2}@0>[3,3,1,1]
      weight %rows.e.w = 000000e9 : EXP<3,B={3,2,4,3}@0>[4,9,3,3]
      weight %rows.f.w = 000000ea : AFFINE<4,scale=0.11,zero=7.3>[5,4]
      %rows.a = conv2d(%rows.x, %rows.a.w, %rows.a.b) {act=relu, kernel=[3,3], pads=[1,1,1,1]} : FLOAT<12>[N,3,5,6]
      %rows.b = conv2d(%rows.a, %rows.b.w) {kernel=[1,1]} : FLOAT<12>[N,3,5,6]
      %rows.c = conv2d(%rows.a, %rows.c.w) {kernel=[1,1]} : BIN<1,B=1>[N,3,5,6]
      %rows.d = conv2d(%rows.a, %rows.d.w) {kernel=[1,1]} : FLOAT<12>[N,3,5,6]
      %rows.k = concat(%rows.b, %rows.d) {axis=1} : BIN<1>[N,6,5,6]
      %rows.l = concat(%rows.k, %rows.c) {axis=1} : BIN<1>[N,9,5,6]
      %rows.e = conv2d(%rows.l, %rows.e.w) {kernel=[3,3], pads=[1,1,1,1]} : FLOAT<14>[N,4,5,6]
      %rows.s = globalavgpool(%rows.e) : FLOAT<14>[N,4,1,1]
      %rows.r = flatten(%rows.s) : FLOAT<14>[N,4]
      %rows.f = dense(%rows.r, %rows.f.w) : FLOAT<14>[N,5]
      output %rows.f
    }""",
    "affine": """graph @affine {
      input %affine.x : AFFINE<8,scale=0.0078,zero=128>[N,2,6,6]
      weight %affine.w = 000000d7 : AFFINE<6,scale=0.02,zero=30.3>[4,2,3,3]
      weight %affine.b = 000000d8 : f32[4]
      weight %affine.v = 000000d9 : FIXED<5,B=1>[4,1,2,2]
      weight %affine.d = 000000da
        : AFFINE<8,scale={0.01,0.02,0.004}@0,zero={120.2,100.5,128}@0>[3,4]
      %affine.c = conv2d(%affine.x, %affine.w, %affine.b)
        {act=relu, kernel=[3,3], pads=[1,1,1,1], pool=[2,2]} : AFFINE<8,scale=0.01>[N,4,3,3]
      %affine.e = conv2d(%affine.c, %affine.v)
        {act=clip, act_max=0.7, act_min=-0.5, groups=4, kernel=[2,2]} : AFFINE<7,scale=0.011,zero=64>[N,4,2,2]
      %affine.m = globalavgpool(%affine.e) : AFFINE<8,scale=0.009,zero=90>[N,4,1,1]
      %affine.f = flatten(%affine.m) : AFFINE<8,scale=0.009,zero=90>[N,4]
      %affine.y = dense(%affine.f, %affine.d) : FIXED<9,B=1>[N,3]
      output %affine.y
    }""",
    "signed": """graph @signed {
      input %signed.x : FIXED<8,B=1>[N,12]
      weight %signed.w = 000000db : AFFINE<4,scale=0.1,signed,narrow>[6,12]
      weight %signed.v = 000000dc : AFFINE<1,scale=0.8,zero=0.5>[5,6]
      weight %signed.u = 000000dd : EXP<3>[4,5]
      %signed.c = dense(%signed.x, %signed.w) {act=relu} : UFIXED<7,B=-2>[N,6]
      %signed.d = dense(%signed.c, %signed.v) : AFFINE<9,scale=0.02,signed,zero=-7>[N,5]
      %signed.y = dense(%signed.d, %signed.u) : AFFINE<8,scale=0.05,signed>[N,4]
      output %signed.y
    }""",
    "mixed": """graph @mixed {
      input %mixed.x : FIXED<8,B=1>[N,2,6,6]
      weight %mixed.w = 000000de : AFFINE<4,scale=0.1,zero=7.5>[4,2,3,3]
      weight %mixed.u = 000000df : BIN<1,B=2>[4,2,3,3]
      weight %mixed.k = 000000e0 : f32[1,4,1,1]
      weight %mixed.t = [0.75] : f32[1]
      %mixed.a = conv2d(%mixed.x, %mixed.w) {act=relu, kernel=[3,3], pads=[1,1,1,1]} : AFFINE<9,scale=0.02>[N,4,6,6]
      %mixed.c = quantize(%mixed.a) : FLOAT<9,E=5>[N,4,6,6]
      %mixed.d = conv2d(%mixed.x, %mixed.u) {kernel=[3,3], pads=[1,1,1,1]} : EXP<5>[N,4,6,6]
      %mixed.s = add(%mixed.c, %mixed.d) : FLOAT<16>[N,4,6,6]
      %mixed.p = maxpool2d(%mixed.s) {kernel=[3,3], pads=[1,1,1,1], strides=[2,2]} : FLOAT<16>[N,4,3,3]
      %mixed.q = avgpool2d(%mixed.p) {kernel=[2,2]} : FLOAT<16>[N,4,2,2]
      %mixed.r = relu(%mixed.q) : FLOAT<16>[N,4,2,2]
      %mixed.z = mul(%mixed.r, %mixed.k) : AFFINE<10,scale=0.01,zero=500>[N,4,2,2]
      %mixed.g = globalavgpool(%mixed.z) : UFIXED<8,B=2>[N,4,1,1]
      %mixed.h = mul(%mixed.z, %mixed.g) : AFFINE<10,scale=0.01,zero=500>[N,4,2,2]
      %mixed.i = avgpool2d(%mixed.h)
        {count_pads=1, kernel=[2,2], pads=[1,0,0,0]} : AFFINE<8,scale=0.02,zero=99>[N,4,2,1]
      %mixed.j = mul(%mixed.i, %mixed.t) : AFFINE<8,scale=0.01,zero=99>[N,4,2,1]
      %mixed.o = concat(%mixed.i, %mixed.j) {axis=1} : FIXED<10>[N,8,2,1]
      output %mixed.o
    }""",
}

# Constant operands in FIXED: equal to the judge in every bit.
CONSTANTS = {
    "channels": """graph @channels {
      input %channels.x : FIXED<8,B=1>[N,3,2,4]
      weight %channels.k = [0.3,-1.7,0.0] : f32[3,1,1]
      weight %channels.a = [1.0,-0.013,0.51] : f32[1,3,1,1]
      %channels.c = mul(%channels.x, %channels.k) : FIXED<9>[N,3,2,4]
      %channels.d = add(%channels.a, %channels.c) : FIXED<6>[N,3,2,4]
      output %channels.d
    }""",
    "elements": """graph @elements {
      input %elements.x : UFIXED<6>[N,2,3,2]
      weight %elements.k = 000000e1 : f32[2,3,2]
      weight %elements.a = 000000e2 : f32[1,2,3,2]
      weight %elements.r = 000000e3 : EXP<4>[1,1,2]
      %elements.c = mul(%elements.x, %elements.k) : FIXED<7,B=-1>[N,2,3,2]
      %elements.d = add(%elements.c, %elements.a) : FIXED<12,B=-1>[N,2,3,2]
      %elements.e = add(%elements.d, %elements.r) : FIXED<5,B=-2>[N,2,3,2]
      output %elements.e
    }""",
    "tensors": """graph @tensors {
      input %tensors.x : FIXED<8>[N,6]
      weight %tensors.k = [0.5] : FIXED<4>[1]
      weight %tensors.a = [0.0009765625] : f32[1]
      weight %tensors.b = [0.25,-0.25,0.1,0.2,0.3,0.015625] : f32[6]
      %tensors.c = add(%tensors.x, %tensors.a) : FIXED<5>[N,6]
      %tensors.d = mul(%tensors.k, %tensors.c) : FIXED<4>[N,6]
      %tensors.e = add(%tensors.d, %tensors.b) : FIXED<4>[N,6]
      output %tensors.e
    }""",
}
ALL = {**TEXTS, **CONSTANTS}


class Case:
    """A network, its folded stages, inputs and the judge's outputs."""

    def __init__(self, text: str, networks: ModuleType, seed: int) -> None:
        self.graph = parse(text.replace("\n        ", " "))
        rng = np.random.default_rng(seed)
        for value in self.graph.weights:  # made-up ones are standard normal, of which many would saturate
            if value.tensor is not None and value.tensor.is_made_up:
                edit.set_tensor(value, Tensor(value.tensor.data / np.float32(3)))
        shape = [dim for dim in (self.graph.inputs[0].tensor_type.shape or ())[1:] if isinstance(dim, int)]
        self.x = rng.uniform(*span(input_format(self.graph)), (24, *shape)).astype(np.float32)
        self.stages: list[Stage] = networks.randomly_folded(stages_of(self.graph), rng)
        (self.y,) = evaluate(self.graph, {"": self.x}).values()
        self.golden = tuple(
            np.ascontiguousarray(
                as_integers(port.format, np.asarray(values, np.float32)).transpose(0, *(a + 1 for a in port.order))
            ).reshape(len(values), -1)
            for port, values in zip(ports_of(self.stages), (self.x, self.y), strict=True)
        )


@pytest.fixture(scope="module")
def cases(networks: ModuleType) -> dict[str, Case]:
    return {name: Case(text, networks, seed) for seed, (name, text) in enumerate(ALL.items())}


@pytest.fixture(scope="module")
def folders(networks: ModuleType, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    for name, case in cases.items():
        networks.write(root / name, case.graph, case.stages, case.golden)
    return {name: root / name for name in cases}


@pytest.fixture(scope="module")
def accelerators(networks: ModuleType, folders: dict[str, Path]) -> dict[str, Accelerator]:
    made = networks.bundled(list(folders.values()), next(iter(folders.values())).parent / "kinds.so", "-O0")
    return dict(zip(folders, made, strict=True))


def run(accelerator: Accelerator, case: Case) -> Array:
    frames = accelerator.input.to_stream(case.x, input_format(case.graph))
    return accelerator.output.from_stream(accelerator.run(frames))


# ---- equal, or within the tolerance -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_in_fixed_give_every_bit(
    name: str, cases: dict[str, Case], accelerators: dict[str, Accelerator]
) -> None:
    case = cases[name]
    assert is_exact(case.graph)
    np.testing.assert_array_equal(run(accelerators[name], case), case.y)
    assert [row.first for row in compare_layers(accelerators[name], case.graph, case.x) if row.differ] == []


def test_constants_meet_every_tie(networks: ModuleType, tmp_path: Path) -> None:
    """Every number of the input with constants on, just beside and between the steps of a coarser result."""
    text = """graph @ties {
      input %ties.x : FIXED<8>[N,6]
      weight %ties.a = [0.0625,0.0624,0.0626,0.015625,0.0078125,0.1] : f32[6]
      %ties.c = add(%ties.x, %ties.a) : FIXED<5>[N,6]
      output %ties.c
    }"""
    graph = parse(text)
    networks.write(tmp_path / "ties", graph, networks.folded(stages_of(graph), lambda stage: (3, 1)))
    accelerator = Accelerator(tmp_path / "ties", flags=["-O0"])
    x = np.repeat(np.arange(-127, 128)[:, None], 6, 1) / 64.0
    (y,) = evaluate(graph, {"": x}).values()
    np.testing.assert_array_equal(
        accelerator.output.from_stream(accelerator.run(accelerator.input.to_stream(x, input_format(graph)))), y
    )


@pytest.mark.parametrize("name", TEXTS)
def test_layers_and_outputs_are_within_the_tolerance(
    name: str, cases: dict[str, Case], accelerators: dict[str, Accelerator]
) -> None:
    case = cases[name]
    assert not is_exact(case.graph)
    y = run(accelerators[name], case)
    assert (np.abs(y - case.y) <= tolerance(case.graph, case.y)).all()
    assert (y == case.y).mean() > 0.9 or name == "single"
    rows = compare_layers(accelerators[name], case.graph, case.x)
    assert {row.name: row.first for row in rows if row.differ} == {}
    assert {row.name for row in rows} >= {node.name for node in case.graph.nodes if node.op != "flatten"}


@pytest.mark.parametrize("name", TEXTS)
def test_the_comparison_finds_another_weight(
    name: str, cases: dict[str, Case], accelerators: dict[str, Accelerator]
) -> None:
    """With one weight moved by four times the largest one, its layer differs, and no other."""
    other = edit.copy(cases[name].graph)
    node = next(node for node in other.nodes if node.op in ("conv2d", "dense"))
    tensor = node.operand(1).tensor
    assert tensor is not None
    data = tensor.data.copy()
    data.flat[0] += 4 * np.abs(data).max() * (1 if data.flat[0] < 0 else -1)
    edit.set_tensor(node.operand(1), Tensor(data))
    rows = compare_layers(accelerators[name], other, cases[name].x)
    assert [row.name for row in rows if row.differ] == [node.name]


# ---- float64 as another judge -------------------------------------------------------------------------------------


def exact_sums(node: Node, x: Array) -> tuple[Array, Array]:
    """A conv2d or dense in float64 on real inputs, before its rounding, and the sum of its terms' sizes."""
    weight, bias = node.operand(1), node.optional(2)
    number = weight.tensor_type.number
    assert weight.tensor is not None
    assert number is not None
    w = number.quantize(weight.tensor.data.astype(np.float64))
    b = np.zeros(len(w)) if bias is None or bias.tensor is None else bias.tensor.data.astype(np.float64)
    if node.op == "dense":
        return x @ w.T + b, np.abs(x) @ np.abs(w.T) + np.abs(b)
    groups = int(node.attributes.get("groups", 1))
    seen = windows(x, node, 0.0)
    n, channels, rows, cols = seen.shape[:4]
    seen = seen.reshape(n, groups, channels // groups, rows, cols, -1)
    w = w.reshape(groups, len(w) // groups, channels // groups, -1)
    both = [np.einsum("ngcijk,gock->ngoij", a, b) for a, b in ((seen, w), (np.abs(seen), np.abs(w)))]
    sums, sizes = (total.reshape(n, -1, rows, cols) for total in both)
    return sums + b[:, None, None], sizes + np.abs(b[:, None, None])


DECIDED = {"floats": 0.9, "affine": 0.98, "signed": 0.5, "single": 0.0}  # of "signed" many are ties by design


@pytest.mark.parametrize("name", DECIDED)
def test_sums_are_the_nearest_numbers_to_float64(
    name: str, cases: dict[str, Case], accelerators: dict[str, Accelerator]
) -> None:
    """An output lies between the roundings of the float64 sum a little below and a little above."""
    case = cases[name]
    frames = accelerators[name].input.to_stream(case.x, input_format(case.graph))
    layers = {layer.name: layer.values for layer in accelerators[name].layers(frames)}
    checked = 0
    for node in case.graph.nodes:
        if node.op not in ("conv2d", "dense"):
            continue
        source = node.operand(0)
        while source.name not in layers:
            assert source.producer is not None
            source = source.producer.operand(0)
        entering, leaving = flowing(source.tensor_type.number), flowing(node.result.tensor_type.number)
        assert entering is not None
        assert leaving is not None
        pooled = f"{source.name}.pool" if f"{source.name}.pool" in layers else source.name
        shape = node.operand(0).tensor_type.shape or ()
        x = as_reals(entering, layers[pooled])
        x = x.reshape(len(x), *shape[2:], shape[1]).transpose(0, 3, 1, 2) if len(shape) == 4 else x
        sums, sizes = exact_sums(node, x)
        low, high = {"relu": (0, np.inf), "clip": tuple(node.attributes.get(k) for k in ("act_min", "act_max"))}.get(
            str(node.attributes.get("act")), (-np.inf, np.inf)
        )
        ends = [as_integers(leaving, np.clip(sums + sign * 2.0**-20 * sizes, low, high)) for sign in (-1, 1)]
        given = layers[node.name].reshape(len(x), *sums.shape[2:], sums.shape[1])
        given = given.transpose(0, 3, 1, 2) if sums.ndim == 4 else given
        assert ((ends[0] <= given) & (given <= ends[1])).all(), node.name
        assert (ends[0] == ends[1]).mean() >= DECIDED[name]
        checked += given.size
    assert checked > 200


# ---- other builds, depths, rules ----------------------------------------------------------------------------------


def test_ap_types_give_the_same_bits(
    networks: ModuleType,
    cases: dict[str, Case],
    folders: dict[str, Path],
    accelerators: dict[str, Accelerator],
    ap_flags: list[str],
    tmp_path: Path,
) -> None:
    names = ("floats", "rows", "affine", "signed", "mixed", "channels")
    made = networks.bundled([folders[name] for name in names], tmp_path / "ap.so", "-O0", *ap_flags)
    for name, accelerator in zip(names, made, strict=True):
        frames = cases[name].golden[0]
        np.testing.assert_array_equal(accelerator.run(frames), accelerators[name].run(frames))


def test_sanitizers_find_nothing_and_test_benches_agree(
    networks: ModuleType, folders: dict[str, Path], tmp_path: Path
) -> None:
    program = tmp_path / "sanitized"
    flags = ["-O0", "-g0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"]
    networks.testbenches(list(folders.values()), program, *flags)
    vectors = [str(folder / "tb" / f"golden_{side}.txt") for folder in folders.values() for side in ("input", "output")]
    done = subprocess.run([str(program), *vectors], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stdout.count("every output within its tolerance") == len(TEXTS)
    assert done.stdout.count("every output bit as it should be") == len(CONSTANTS)


@pytest.mark.parametrize("name", ["floats", "affine"])
def test_a_test_bench_fails_beyond_its_tolerance(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder, program = folders[name], tmp_path / "testbench"
    places = [f"-I{folder / part}" for part in ("include", "src", "csim")]
    sources = [folder / "src" / f"{name}.cpp", folder / "tb" / "testbench.cpp"]
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-unknown-pragmas"]
    command = ["g++", "-std=c++11", "-O0", *strict, *places, *map(str, sources), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    golden, moved = folder / "tb" / "golden_output.txt", tmp_path / "moved.txt"
    lines = [[int(word) for word in line.split()] for line in golden.read_text().splitlines()]
    far = 1 << 20 if name == "floats" else 40
    lines[1][2] += far
    moved.write_text("\n".join(" ".join(map(str, line)) for line in lines) + "\n")
    arguments = [str(program), str(folder / "tb" / "golden_input.txt")]
    assert subprocess.run([*arguments, str(golden)], capture_output=True, check=False).returncode == 0
    failed = subprocess.run([*arguments, str(moved)], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("frame 1, output 2: ")


def test_bounded_streams_at_the_emitted_depths(
    networks: ModuleType, cases: dict[str, Case], folders: dict[str, Path], tmp_path: Path
) -> None:
    flags = ["-O0", "-DBITWRIGHT_BOUNDED"]
    made = networks.bundled(list(folders.values()), tmp_path / "bounded.so", *flags)
    for name, accelerator in zip(folders, made, strict=True):
        y = accelerator.output.from_stream(accelerator.run(cases[name].golden[0]))
        assert (np.abs(y - cases[name].y) <= tolerance(cases[name].graph, cases[name].y)).all()


@pytest.mark.parametrize("name", ["floats", "affine", "mixed"])
def test_processes_make_the_trips_of_the_estimate(name: str, cases: dict[str, Case], folders: dict[str, Path]) -> None:
    accelerator = Accelerator(folders[name], flags=["-O0"], count=True)
    found = compare_trips(accelerator, estimated_trips(cases[name].stages), cases[name].golden[0][:1])
    assert [(row.stage, row.process, row.counted) for row in found if row.counted != row.estimated] == []
    assert {row.process for row in found} & {"float_matvec", "scaled_matvec", "real_mean", "real_rescale"}


@pytest.mark.parametrize("name", ALL)
def test_the_text_keeps_the_rules(name: str, hls_rules: ModuleType, folders: dict[str, Path]) -> None:
    paths = [path for path in sorted(folders[name].rglob("*")) if path.suffix in (".hpp", ".cpp", ".py")]
    texts = {path.relative_to(folders[name]).as_posix(): path.read_text() for path in paths}
    assert hls_rules.violations(texts) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [("acc_bits = ", "acc_bits = 9;  // "), ("sum_bits = ", "sum_bits = 5, total_bits = 20;  // ")],
)
def test_a_register_that_is_too_narrow_is_found(
    old: str, new: str, hls_rules: ModuleType, folders: dict[str, Path]
) -> None:
    paths = [path for path in sorted(folders["signed"].rglob("*")) if path.suffix in (".hpp", ".cpp")]
    texts = {path.relative_to(folders["signed"]).as_posix(): path.read_text() for path in paths}
    assert old in texts["src/shapes.hpp"]
    texts["src/shapes.hpp"] = texts["src/shapes.hpp"].replace(old, new, 1)
    assert 16 in {finding.rule for finding in hls_rules.violations(texts)}


def test_every_engine_is_there(cases: dict[str, Case]) -> None:
    stages = [stage for case in cases.values() for stage in case.stages]
    kinds = {type(stage) for stage in stages}
    assert kinds >= {FloatSumStage, ScaledSumStage, RealPointStage, RealJoinStage, RealMeanStage}
    scaled = [stage for stage in stages if isinstance(stage, ScaledSumStage)]
    assert {stage.one_scale for stage in scaled} == {True, False}
    assert {bool(stage.offset.any()) for stage in scaled} == {True, False}
    assert {stage.depthwise for stage in scaled} == {True, False}
    floats = [stage for stage in stages if isinstance(stage, FloatSumStage)]
    assert {stage.simd == stage.inputs for stage in floats} == {True, False}
    assert any(stage.turns > stage.sharing for stage in floats)
    assert {stage.scaled for stage in floats} == {True, False}
    assert any(isinstance(stage.weight_format, Affine) for stage in scaled)
