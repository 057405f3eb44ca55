"""The generated C++, compiled and run, against ir.evaluate: every bit of every layer.

Compiling is what takes the time, so most networks share one source: their layers have names of their own.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.compare import compare_layers, input_format, with_separate_pools
from bitwright.backends.hls.csim import Accelerator, Port, compiled
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import PoolStage, PortStage, Scan, Stage, SumStage, ports_of, stages_of
from bitwright.backends.simulation.run import Simulation
from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.files import load
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.models.datasets import load as load_data
from bitwright.passes import STRUCTURE, Context, run_passes

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")

MODELS = Path(__file__).parents[2] / "models"
SEEDS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23)

# What chance does not find: the ends of what the engines take.
SPECIAL = {
    "widest": """graph @widest {
      input %widest.x : FIXED<32,B=-3>[N,1,4,4]
      weight %widest.w = 000000a1 : FIXED<26>[3,1,3,2]
      weight %widest.b = [1.0,-1000.0,0.03125] : f32[3]
      %widest.c = conv2d(%widest.x, %widest.w, %widest.b) {kernel=[3,2]} : FIXED<32,B=-4>[N,3,2,3]
      output %widest.c as "widest.y"
    }""",
    "far": """graph @far {
      input %far.x : UFIXED<3,B=30>[N,4]
      weight %far.w = 000000a2 : EXP<7,B=40>[5,4]
      %far.c = dense(%far.x, %far.w) {act=clip, act_max=1e-12, act_min=-1e-6} : FIXED<12,B=24>[N,5]
      output %far.c as "far.y"
    }""",
    "shifts": """graph @shifts {
      input %shifts.x : FIXED<6>[N,2,1,1]
      weight %shifts.w = 000000a3 : FIXED<4,B={-20,30}@0>[2,2,1,1]
      weight %shifts.b = [0.25,-0.5] : f32[2]
      %shifts.c = conv2d(%shifts.x, %shifts.w, %shifts.b) {act=relu, kernel=[1,1]} : FIXED<16,B=-10>[N,2,1,1]
      output %shifts.c as "shifts.y"
    }""",
    "up": """graph @up {
      input %up.x : FIXED<2,B=-4>[N,3]
      weight %up.w = 000000a4 : FIXED<2,B=-2>[4,3]
      %up.c = dense(%up.x, %up.w) : FIXED<30,B=-9>[N,4]
      output %up.c as "up.y"
    }""",
    "ties": """graph @ties {
      input %ties.x : FIXED<10>[N,1,5,7]
      weight %ties.w = [1.0] : FIXED<2>[1,1,1,1]
      %ties.c = conv2d(%ties.x, %ties.w) {kernel=[1,1]} : FIXED<7,B=1>[N,1,5,7]
      output %ties.c as "ties.y"
    }""",
    "nothing": """graph @nothing {
      input %nothing.x : UFIXED<1>[N,1,2,4]
      weight %nothing.w = [0.0,0.0] : FIXED<8>[2,1,1,1]
      weight %nothing.v = [0.0,0.0,0.0,0.0,1.0,-1.0,0.0,0.0] : EXP<2>[4,2,1,1]
      %nothing.c = conv2d(%nothing.x, %nothing.w) {kernel=[1,1]} : UFIXED<1>[N,2,2,4]
      %nothing.d = conv2d(%nothing.c, %nothing.v) {kernel=[1,1]} : FIXED<2>[N,4,2,4]
      output %nothing.d as "nothing.y"
    }""",
    "pools": """graph @pools {
      input %pools.x : FIXED<5,B=2>[N,4,6,2]
      %pools.p = maxpool2d(%pools.x) {kernel=[3,2], pads=[2,1,1,0], strides=[2,1]} : FIXED<5,B=2>[N,4,4,2]
      %pools.q = maxpool2d(%pools.p) {kernel=[2,2], strides=[2,2]} : FIXED<5,B=2>[N,4,2,1]
      %pools.r = maxpool2d(%pools.q) {kernel=[2,1], strides=[1,1]} : FIXED<5,B=2>[N,4,1,1]
      output %pools.r as "pools.y"
    }""",
    "small": """graph @small {
      input %small.x : FIXED<8>[N,2,2,2]
      weight %small.w = 000000a5 : FIXED<8>[6,2,1,1]
      weight %small.v = 000000a6 : FIXED<5>[3,6,2,1]
      %small.c = conv2d(%small.x, %small.w) {act=relu, kernel=[1,1]} : FIXED<6>[N,6,2,2]
      %small.p = maxpool2d(%small.c) {kernel=[2,2]} : FIXED<6>[N,6,1,1]
      %small.d = conv2d(%small.p, %small.v) {kernel=[2,1], pads=[1,0,1,0], strides=[1,1]} : FIXED<9>[N,3,2,1]
      output %small.d as "small.y"
    }""",
    "clips": """graph @clips {
      input %clips.x : FIXED<8>[N,6]
      weight %clips.w = 000000a7 : FIXED<8>[4,6]
      weight %clips.v = 000000a8 : FIXED<8>[4,4]
      weight %clips.u = 000000a9 : FIXED<8>[4,4]
      %clips.a = dense(%clips.x, %clips.w) {act=clip, act_max=3.4e+38, act_min=0.0} : FIXED<8>[N,4]
      %clips.b = dense(%clips.a, %clips.v) {act=clip, act_max=100.0, act_min=5.0} : FIXED<8>[N,4]
      %clips.c = dense(%clips.b, %clips.u) {act=clip, act_max=-5.0, act_min=-100.0} : UFIXED<8>[N,4]
      output %clips.c as "clips.y"
    }""",
    "names": """graph @names {
      input %names.x : FIXED<8>[N,2,6,6]
      weight %names.w = 000000aa : FIXED<8>[4,2,3,3]
      %names.c = conv2d(%names.x, %names.w) {kernel=[3,3], pool=[2,2], pool_strides=[1,1]} : FIXED<8>[N,4,3,3]
      %names.c.pool = maxpool2d(%names.c) {kernel=[2,2]} : FIXED<8>[N,4,2,2]
      %names.größe = maxpool2d(%names.c.pool) {kernel=[1,2]} : FIXED<8>[N,4,2,1]
      output %names.größe as "names.c"
    }""",
    "transposed": """graph @transposed {
      input %transposed.x as "image" : FIXED<8>[N,3,5,2]
      weight %transposed.w = 000000ab : FIXED<8>[4,2,2,2]
      weight %transposed.v = 000000ac : BIN<1,B=2>[3,32]
      %transposed.t = transpose(%transposed.x) {perm=[0,3,1,2]} : FIXED<8>[N,2,3,5]
      %transposed.c = conv2d(%transposed.t, %transposed.w) {kernel=[2,2]} : FIXED<8>[N,4,2,4]
      %transposed.f = reshape(%transposed.c) {shape=[0,-1]} : FIXED<8>[N,32]
      %transposed.d = dense(%transposed.f, %transposed.v) : FIXED<8>[N,3]
      output %transposed.d as "transposed.y"
    }""",
}


class Case:
    """A network, its folded stages, inputs, and what must come out."""

    def __init__(self, graph: Graph, stages: list[Stage], x: Array) -> None:
        self.graph, self.stages, self.x = graph, stages, x
        self.name = graph.name
        (self.y,) = evaluate(graph, {"": x}).values()
        self.golden = tuple(
            (integers := port.format.integers(values))
            .transpose(0, *(axis + 1 for axis in port.order))
            .reshape(len(integers), -1)
            for port, values in zip(ports_of(stages), (x, self.y), strict=True)
        )


@pytest.fixture(scope="module")
def cases(networks: ModuleType) -> dict[str, Case]:
    found = {}
    for seed in SEEDS:
        case = Case(*networks.drawn(seed))
        found[case.name] = case
    for name, text in SPECIAL.items():
        graph = parse(text)
        rng = np.random.default_rng(5)
        shape = [dim for dim in (graph.inputs[0].tensor_type.shape or ())[1:] if isinstance(dim, int)]
        number = input_format(graph)
        stages = networks.randomly_folded(stages_of(graph), rng)
        found[name] = Case(graph, stages, rng.uniform(float(number.min), float(number.max), (20, *shape)))
    return found


@pytest.fixture(scope="module")
def folders(networks: ModuleType, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("csim")
    for case in cases.values():
        networks.write(root / case.name, case.graph, case.stages, case.golden)
    return {name: root / name for name in cases}


@pytest.fixture(scope="module")
def accelerators(networks: ModuleType, folders: dict[str, Path]) -> dict[str, Accelerator]:
    """All of them, compiled as two sources at the same time."""
    names = list(folders)
    root = folders[names[0]].parent

    def half(number: int) -> list[Accelerator]:
        found: list[Accelerator] = networks.bundled(
            [folders[name] for name in names[number::2]], root / f"half{number}.so", "-O0"
        )
        return found

    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(half, range(2)))
    return {accelerator.name: accelerator for made in halves for accelerator in made}


@pytest.mark.parametrize("name", [*(f"net{seed}" for seed in SEEDS), *SPECIAL])
def test_every_bit_of_every_layer_is_that_of_the_simulation(
    name: str, cases: dict[str, Case], accelerators: dict[str, Accelerator]
) -> None:
    case, accelerator = cases[name], accelerators[name]
    frames = accelerator.input.to_stream(case.x, input_format(case.graph))
    np.testing.assert_array_equal(frames, case.golden[0])
    given = accelerator.run(frames)
    np.testing.assert_array_equal(given, case.golden[1])
    np.testing.assert_array_equal(accelerator.output.from_stream(given), case.y)
    rows = compare_layers(accelerator, case.graph, case.x)
    assert [row.name for row in rows] == [stage.name for stage in case.stages[:-1]]
    assert {row.name: row.first for row in rows if row.differ} == {}
    assert [row.values for row in rows] == [len(case.x) * stage.elements for stage in case.stages[:-1]]


def test_the_random_networks_have_everything(cases: dict[str, Case]) -> None:
    """Between them, they go through every way of the compiler and of the header library."""
    found: set[str] = set()
    for case in cases.values():
        for before, stage in zip([None, *case.stages], case.stages, strict=False):
            found |= set(_features(before, stage))
    assert found == {
        *("strided", "asymmetric pads", "rectangular kernel", "odd padded rows", "one row", "padded conv"),
        *("1x1", "dense", "dense on an image", "covering", "several positions without a window"),
        *("fused pool", "own pool", "overlapping pool", "padded pool", "pool after pool"),
        *("none", "relu", "clip", "clip above only", "clip below only"),
        *("FIXED", "BIN", "EXP", "per channel FIXED", "per channel BIN", "per channel EXP", "a barrel shifter"),
        *("UFIXED in", "UFIXED out", "narrow", "wide", "wide sum", "shift to the left", "shift to the right"),
        *("pe 1", "pe many", "simd 1", "simd many", "one chunk", "one group", "uneven regroup", "groups of channels"),
    }


def _features(before: Stage | None, stage: Stage) -> list[str]:
    if isinstance(stage, PortStage):
        return [f"UFIXED {'in' if stage.is_input else 'out'}"] if not stage.format.n_s else []
    if isinstance(stage, PoolStage):
        scan = stage.scan
        yes = {
            "fused pool": stage.name.endswith(".pool"),
            "own pool": not stage.name.endswith(".pool"),
            "overlapping pool": scan.kernel[0] > scan.strides[0] or scan.kernel[1] > scan.strides[1],
            "padded pool": any(scan.pads),
            "pool after pool": isinstance(before, PoolStage),
            "groups of channels": stage.lanes < scan.channels,
        }
        return [name for name, holds in yes.items() if holds]
    assert isinstance(stage, SumStage)
    low, high = stage.act
    listed = stage.weight_format.axis is not None
    relu = low == 0 and high is None
    yes = {
        **_scanning_features(stage.scan, stage.lanes),
        "1x1": stage.scan is None and stage.positions > 1,
        "several positions without a window": stage.scan is None and stage.positions > 1,
        "dense": stage.scan is None and stage.positions == 1,
        "dense on an image": "dense" in stage.line and stage.lanes > 1 and stage.inputs > stage.lanes,
        "covering": stage.scan is None and "conv2d" in stage.line and stage.positions == 1,
        "none": low is None and high is None,
        "relu": relu,
        "clip": low is not None and high is not None,
        "clip above only": low is None and high is not None,
        "clip below only": low is not None and low != 0 and high is None,
        stage.weight_format.kind: True,
        f"per channel {stage.weight_format.kind}": listed,
        "a barrel shifter": stage.shift.min() < stage.shift.max(),
        "shift to the left": stage.shift.min() < 0,
        "shift to the right": stage.shift.max() > 0,
        "narrow": stage.weight_format.width == 2,
        "wide": stage.weight_format.width >= 12,
        "wide sum": stage.acc_bits > 32,
        "pe 1": stage.pe == 1 < stage.outputs,
        "pe many": 1 < stage.pe < stage.outputs,
        "simd 1": stage.simd == 1 < stage.inputs,
        "simd many": 1 < stage.simd < stage.inputs,
        "one chunk": stage.simd == stage.inputs,
        "one group": stage.pe == stage.outputs,
        "uneven regroup": stage.scan is None and bool(stage.lanes % stage.simd and stage.simd % stage.lanes),
    }
    return [name for name, holds in yes.items() if holds]


def _scanning_features(scan: Scan | None, lanes: int) -> dict[str, bool]:
    if scan is None:
        return {}
    top, left, bottom, right = scan.pads
    return {
        "strided": max(scan.strides) > 1,
        "padded conv": any(scan.pads),
        "asymmetric pads": top != bottom or left != right,
        "rectangular kernel": scan.kernel[0] != scan.kernel[1],
        "odd padded rows": (left + scan.size[1] + right) % 2 == 1,
        "one row": scan.size[0] == 1,
        "groups of channels": lanes < scan.channels,
    }


def test_ties_go_to_the_even_number(cases: dict[str, Case], accelerators: dict[str, Accelerator]) -> None:
    """Every number of a format once through a rounding that drops five bits."""
    every = np.arange(-511, 512)
    frames = np.resize(every, (35 * 30,)).reshape(30, 35)
    given = accelerators["ties"].run(frames)
    step = 2.0 ** (
        int(cases["ties"].stages[1].format.step_exponents) - int(input_format(cases["ties"].graph).step_exponents)
    )
    assert step == 4.0
    np.testing.assert_array_equal(given, np.clip(np.rint(frames / step), -63, 63))


def test_saturations_are_counted(cases: dict[str, Case], accelerators: dict[str, Accelerator]) -> None:
    """Those of the format, not those of the activation: the numbers beyond it in a graph whose format cuts nothing."""
    counted = {"low": 0, "high": 0}
    for name, case in cases.items():
        if name == "clips":  # of bounds that lie outside the format
            continue
        stages = {stage.name: stage for stage in case.stages}
        for layer in accelerators[name].layers(case.golden[0]):
            stage = stages[layer.name]
            if not isinstance(stage, SumStage):
                assert layer.saturated == 0
                continue
            separate = with_separate_pools(case.graph)
            wide = Canonical(1, 0, 50, -49 - int(stage.format.step_exponents))
            value = separate.values[layer.name]
            edit.set_type(value, value.tensor_type.with_format(wide))
            steps = wide.integers(evaluate(separate, {"": case.x}, [layer.name])[layer.name])
            least = -stage.format.max_code if stage.format.n_s else 0
            low, high = int((steps < least).sum()), int((steps > stage.format.max_code).sum())
            assert layer.saturated == low + high, (name, layer.name)
            counted["low"] += low
            counted["high"] += high
    assert min(counted.values()) > 100


# ---- other builds of the same sources -----------------------------------------------------------------------------

OTHERS = ("net9", "shifts", "small")


def test_ap_types_give_the_same_bits(
    networks: ModuleType, cases: dict[str, Case], folders: dict[str, Path], ap_flags: list[str], tmp_path: Path
) -> None:
    made = networks.bundled([folders[name] for name in OTHERS], tmp_path / "ap.so", "-O0", *ap_flags)
    for name, accelerator in zip(OTHERS, made, strict=True):
        np.testing.assert_array_equal(accelerator.run(cases[name].golden[0]), cases[name].golden[1])


def test_sanitizers_find_nothing(networks: ModuleType, folders: dict[str, Path], tmp_path: Path) -> None:
    """Read and written out of bounds, shifted and overflowed: nothing, over every frame of the golden vectors."""
    names = ("net9", "widest", "shifts", "pools", "small")
    program = tmp_path / "sanitized"
    flags = ["-O0", "-g0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"]
    networks.testbenches([folders[name] for name in names], program, *flags)
    vectors = [str(folders[name] / "tb" / f"golden_{side}.txt") for name in names for side in ("input", "output")]
    done = subprocess.run([str(program), *vectors], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stdout.count("every output bit as it should be") == len(names)


@pytest.mark.parametrize("standard", ["c++11", "c++14"])
def test_the_test_bench_of_the_tools(standard: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """As Vitis HLS (C++14) and Vivado HLS (C++11) read it: top function and test bench as files of their own."""
    folder, program = folders["net9"], tmp_path / "testbench"
    sources = [folder / "src" / "net9.cpp", folder / "tb" / "testbench.cpp"]
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-unknown-pragmas"]
    places = [f"-I{folder / part}" for part in ("include", "src", "csim")]
    command = ["g++", f"-std={standard}", "-O0", *strict, *places, *map(str, sources), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]

    def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, check=False)

    golden = [folder / "tb" / f"golden_{side}.txt" for side in ("input", "output")]
    good = run(*golden)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout == "4 frames, every output bit as it should be\n"
    if standard == "c++11":
        return

    rows = golden[1].read_text().splitlines()
    wrong = rows[2].split()
    wrong[1] = str(int(wrong[1]) + 1)
    tampered = tmp_path / "tampered.txt"
    tampered.write_text("\n".join([*rows[:2], " ".join(wrong), *rows[3:]]) + "\n")
    bad = run(golden[0], tampered)
    assert bad.returncode == 1
    assert bad.stderr == f"frame 2, output 1: {int(wrong[1]) - 1}, not {wrong[1]}\n"
    tampered.write_text("\n".join(rows[:3]) + "\n")
    short = run(golden[0], tampered)
    assert (short.returncode, short.stderr) == (1, "frame 3: no golden output\n")
    assert run(golden[0]).returncode == 1
    assert "usage" in run(golden[0]).stderr
    assert run(tmp_path / "none.txt", golden[1]).returncode == 1


# ---- LeNet-5 ------------------------------------------------------------------------------------------------------

IMAGES = 1000


@pytest.fixture(scope="module")
def mnist() -> tuple[Array, Array]:
    return load_data("mnist", "train", IMAGES).x, load_data("mnist", "test", IMAGES).x


def lenet(passes: str, samples: Array) -> Graph:
    graph = load(MODELS / "lenet5.onnx")
    context = Context(samples={graph.input_name(graph.inputs[0]): samples})
    return run_passes(graph, f"{STRUCTURE},{passes},derive-accumulators", context)


LENETS = {
    "FIXED 8": "annotate-formats{weights=FIXED 8,activations=FIXED 8}",
    "FIXED 4": "annotate-formats{weights=FIXED 4,activations=FIXED 4,unsigned=true}",
    "per channel": "annotate-formats{weights=FIXED 6,activations=FIXED 7,per_channel=true}",
}


@pytest.fixture(scope="module")
def lenets(
    networks: ModuleType, mnist: tuple[Array, Array], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Graph, Accelerator]]:
    """As `bitwright csim` builds them, with the plan's own foldings."""

    def build(formats: str) -> tuple[Graph, Accelerator]:
        graph = lenet(LENETS[formats], mnist[0])
        folder = tmp_path_factory.mktemp("lenet5")
        networks.write(folder, graph, plan(stages_of(graph), networks.BOARD).stages)
        return graph, Accelerator(folder)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(LENETS, pool.map(build, LENETS), strict=True))


@pytest.mark.parametrize("formats", LENETS)
def test_lenet5_gives_the_bits_of_the_simulation(
    formats: str, lenets: dict[str, tuple[Graph, Accelerator]], mnist: tuple[Array, Array]
) -> None:
    graph, accelerator = lenets[formats]
    images = mnist[1]
    given = accelerator.output.from_stream(accelerator.run(accelerator.input.to_stream(images, input_format(graph))))
    name, outside = graph.input_name(graph.inputs[0]), graph.outputs[0].name
    np.testing.assert_array_equal(given, Simulation(graph).run_exactly({name: images})[outside])
    np.testing.assert_array_equal(given[:20], evaluate(graph, {name: images[:20]})[outside])
    assert len(np.unique(given.argmax(1))) == 10


# ---- errors -------------------------------------------------------------------------------------------------------


def test_inputs_outside_their_format_are_refused(cases: dict[str, Case], accelerators: dict[str, Accelerator]) -> None:
    accelerator, good = accelerators["pools"], cases["pools"].golden[0]
    for value in (16, -16):
        bad = good.copy()
        bad[3, 7] = value
        message = f"C simulation of pools: frame 3: input value {value} is outside its format, -15 to 15"
        with pytest.raises(CompileError, match=message):
            accelerator.run(bad)
    np.testing.assert_array_equal(accelerator.run(good), cases["pools"].golden[1])


@pytest.mark.parametrize("shape", [(1, 47), (1, 49), (2, 4, 6, 2), (48,)])
def test_frames_of_another_size_are_refused(shape: tuple[int, ...], accelerators: dict[str, Accelerator]) -> None:
    with pytest.raises(CompileError, match="pools takes frames of 48 integers, not "):
        accelerators["pools"].run(np.zeros(shape, np.int64))


def test_no_frames_give_no_outputs(cases: dict[str, Case], accelerators: dict[str, Accelerator]) -> None:
    assert accelerators["pools"].run(np.zeros((0, 48), np.int64)).shape == (0, 4)


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CompileError, match=f"{folder} is no output folder of bitwright compile"):
            Accelerator(folder)


def test_without_a_compiler(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CompileError, match=r"g\+\+ is not on the PATH\n  help: install it"):
        Accelerator(folders["pools"])


def test_without_the_ap_headers(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompileError, match="help: pip install --no-deps hls4ml"):
        Accelerator(folders["pools"], ap_types=True)


def test_what_does_not_compile_is_said_and_leaves_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folders["pools"], broken)
    (broken / "src" / "pools.cpp").write_text('#include "pools.hpp"\nnonsense;\n')
    with pytest.raises(CompileError, match=r"g\+\+ does not compile .*'?nonsense") as caught:
        Accelerator(broken)
    assert "\n" not in caught.value.message
    assert caught.value.help is not None
    assert caught.value.help.startswith("/")
    assert not [path for path in (broken / "csim").iterdir() if path.suffix not in (".hpp", ".h", ".cpp")]


def test_a_library_is_kept_until_a_source_or_a_flag_changes(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, commands = tmp_path / "kept", []
    shutil.copytree(folders["pools"], folder)

    def compiler(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        Path(command[command.index("-o") + 1]).write_text("a library")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", compiler)
    first = compiled(folder, "pools", False, False)
    assert compiled(folder, "pools", False, False) == first
    assert len(commands) == 1
    assert compiled(folder, "pools", False, True) != first
    assert compiled(folder, "pools", False, False, ["-O0"]) != first
    assert len(commands) == 3
    for number, path in enumerate(("include/bitwright/types.hpp", "src/shapes.hpp", "csim/csim.hpp", "src/pools.cpp")):
        with (folder / path).open("a") as file:
            file.write("// changed\n")
        compiled(folder, "pools", False, False)
        assert len(commands) == 4 + number
    assert {path.suffix for path in (folder / "csim").iterdir()} == {".hpp", ".h", ".cpp", ".so"}


# ---- the ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_port_puts_axes_in_the_order_of_the_stream_and_back(order: tuple[int, ...]) -> None:
    number = Canonical(1, 0, 7, -3)  # its step is 1/8
    port = Port("x", (2, 3, 4), order, int(number.step_exponents), -127, 127)
    x = np.random.default_rng(0).integers(-127, 128, (5, 2, 3, 4)) / 8.0
    stream = port.to_stream(x, number)
    assert stream.shape == (5, 24)
    place = dict(zip(order, np.unravel_index(13, [port.shape[axis] for axis in order]), strict=True))
    assert stream[2, 13] == 8 * x[2, place[0], place[1], place[2]]
    np.testing.assert_array_equal(port.from_stream(stream), x)


def test_separate_pools_compute_the_same(cases: dict[str, Case]) -> None:
    for case in cases.values():
        before = str(case.graph)
        separate = with_separate_pools(case.graph)
        (y,) = evaluate(separate, {"": case.x}).values()
        np.testing.assert_array_equal(y, case.y)
        assert str(case.graph) == before, "the graph that was given stays as it is"
        assert not any(node.attributes.get("pool") for node in separate.nodes)
