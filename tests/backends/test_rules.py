"""The rules of generated HLS code, on the text of whole output folders; and that each rule fires when it is broken.

The text is read by tree-sitter and by nothing of the generator: hls_rules/.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import ADDERS, SumStage, stages_of
from bitwright.ir.files import load
from bitwright.ir.parse import parse
from bitwright.passes import STRUCTURE, Context, run_passes

MODELS = Path(__file__).parents[2] / "models"

# Every kind of weights, a list a channel, a window, a pooling, an image without a window.
TINY = (Path(__file__).parent / "tiny.ir").read_text()
FOLDING = {"conv": (2, 3), "mid": (1, 2), "fc": (3, 4)}


def sources(folder: Path) -> dict[str, str]:
    """The C++ and the driver of an output folder, by their path in it."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in (".hpp", ".cpp", ".py")]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


@pytest.fixture(scope="module")
def tiny(networks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("rules") / "tiny"
    graph = parse(TINY)
    networks.write(folder, graph, networks.folded(stages_of(graph), lambda stage: FOLDING[stage.name]))
    return sources(folder)


# ---- every rule is kept -------------------------------------------------------------------------------------------


def test_a_network_of_every_engine_keeps_the_rules(hls_rules: ModuleType, tiny: dict[str, str]) -> None:
    assert hls_rules.violations(tiny) == []


@pytest.mark.parametrize("seed", [0, 3, 9])
def test_random_networks_keep_the_rules(seed: int, networks: ModuleType, hls_rules: ModuleType, tmp_path: Path) -> None:
    graph, stages, _ = networks.drawn(seed)
    networks.write(tmp_path / "made", graph, stages)
    assert hls_rules.violations(sources(tmp_path / "made")) == []


LENETS = {
    "FIXED 8": "annotate-formats{weights=FIXED 8,activations=FIXED 8}",
    "EXP 4": "annotate-formats{weights=EXP 4,activations=FIXED 6,unsigned=true}",
}


@pytest.mark.parametrize("formats", LENETS)
def test_lenet5_keeps_the_rules(formats: str, networks: ModuleType, hls_rules: ModuleType, tmp_path: Path) -> None:
    graph = load(MODELS / "lenet5.onnx")
    samples = np.random.default_rng(0).uniform(0, 1, (4, 1, 28, 28)).astype(np.float32)
    context = Context(samples={graph.input_name(graph.inputs[0]): samples})
    graph = run_passes(graph, f"{STRUCTURE},{LENETS[formats]},derive-accumulators", context)
    networks.write(tmp_path / "made", graph, plan(stages_of(graph), networks.BOARD).stages)
    assert hls_rules.violations(sources(tmp_path / "made")) == []


# ---- every rule fires ---------------------------------------------------------------------------------------------

INCLUDE = "include/bitwright"
TOP, SHAPES, CONV = "src/tiny.cpp", "src/shapes.hpp", "src/weights/conv.hpp"
AXIS, MATVEC, MAXPOOL = f"{INCLUDE}/axis.hpp", f"{INCLUDE}/matvec.hpp", f"{INCLUDE}/maxpool.hpp"
POOLING, MIDDLE = "    nn::maxpool2d<ConvPool>(conv, conv_pool);\n", "    nn::dense<Mid>(conv_pool, mid, mid_weights, "
ACC, CUT = "    Acc acc[L::pixels * L::pe];\n", "#pragma HLS ARRAY_PARTITION variable=acc complete dim=0\n"
MULTIPLIER = f"{INCLUDE}/multiplier.hpp"
PRODUCT, BOUND = "        const auto product = a * b;\n", "        BITWRIGHT_IN_LUTS(product);\n"
ADDED = "acc[p] = static_cast<Acc>(sofar + sum);"
TRIPS = "for (int i = 0; i < Pool<L>::trips; ++i) {"
FRAMES = "void f() {\n    for (int n = 1; n < 4; ++n) {\n#pragma HLS DATAFLOW\n    }\n}\n"

# What is broken: the rule that must say so, the file, and what takes the place of what in it.
BROKEN = {
    "a call under a condition": (1, TOP, {POOLING: f"    if (true) {POOLING.strip()}\n"}),
    "a process that returns": (1, MAXPOOL, {"void maxpool2d(": "int maxpool2d("}),
    "an inlined process": (1, MAXPOOL, {"    using T = typename": "#pragma HLS INLINE\n    using T = typename"}),
    "a static local": (2, TOP, {'    hls::stream<Vec<mid_t, 1>> mid("mid");': "    static int state;"}),
    "read before written": (3, TOP, {POOLING: "", "    nn::write_axis": f"{POOLING}    nn::write_axis"}),
    "two readers": (3, TOP, {MIDDLE: MIDDLE.replace("conv_pool", "conv")}),
    "a loop with two exits": (4, MAXPOOL, {"        scan.next();": "        if (i == 7) break;\n        scan.next();"}),
    "a dataflow loop from 1": (5, f"{INCLUDE}/layers.hpp", {"}  // namespace nn": f"{FRAMES}}}  // namespace nn"}),
    "a port of two processes": (6, TOP, {"    nn::write_axis<Scores>(fc": "    nn::write_axis<Scores>(x"}),
    "a stream by value": (6, MAXPOOL, {"L::lanes>>& in,": "L::lanes>> in,"}),
    "a depth of one": (6, f"{INCLUDE}/layers.hpp", {"variable=windows depth=2": "variable=windows depth=1"}),
    "a look into a stream": (6, MAXPOOL, {"if (scan.inside()) {": "if (!in.empty()) {"}),
    "a stream that nobody reads": (7, TOP, {"    nn::write_axis<Scores>(fc": "    nn::write_axis<Scores>(mid"}),
    "a loop without pipeline": (8, f"{INCLUDE}/regroup.hpp", {"#pragma HLS PIPELINE II=1\n": ""}),
    "a variable bound inside": (8, MATVEC, {"p < L::pixels * L::pe; ++p) {\n": "p < shift[0][0]; ++p) {\n"}),
    "an array in one bank": (9, MATVEC, {CUT: ""}),
    "three accesses": (9, f"{INCLUDE}/window.hpp", {"lines[scan.place] = below;": "lines[0] = lines[1] = below;"}),
    "a float sum": (10, MATVEC, {ACC: f"    float total = 0;\n{ACC}", ADDED: f"{ADDED} total += sum;"}),
    "a pragma above its variable": (11, MATVEC, {ACC + CUT: CUT + ACC}),
    "a product bound above itself": (11, MULTIPLIER, {PRODUCT + BOUND: BOUND + PRODUCT}),
    "memory outside, cut": (11, MATVEC, {CUT: f"{CUT}#pragma HLS INTERFACE m_axi port=acc\n"}),
    "a table that is no constant": (12, CONV, {"static const Conv": "static Conv"}),
    "an array filled in every call": (12, MATVEC, {ACC: "    Acc acc[L::pe] = {0};\n"}),
    "a ROM of a stream": (12, TOP, {POOLING: f"{POOLING}    BITWRIGHT_ROM(conv, BRAM);\n"}),
    "an endless loop": (13, MAXPOOL, {TRIPS: "while (true) {"}),
    "memory from the heap": (13, MAXPOOL, {"    Scan<L> scan;": "    Scan<L> scan;\n    T* more = new T[4];"}),
    "recursion": (13, MAXPOOL, {"        scan.next();": "        scan.next();\n        maxpool2d<L>(in, out);"}),
    "no TLAST": (14, AXIS, {"next.last = i == Port<P>::trips - 1;": "next.last = 0;"}),
    "half of TKEEP": (14, AXIS, {"next.keep = (1 << bytes) - 1;": "next.keep = 1;"}),
    "a beat of 12 bits": (14, f"{INCLUDE}/beat.hpp", {"ap_axiu<beat_bits(F::bits, ELEMENTS), 0": "ap_axiu<12, 0"}),
    "a port without axis": (14, TOP, {"#pragma HLS INTERFACE axis port=x\n": ""}),
    "no control": (15, TOP, {"#pragma HLS INTERFACE s_axilite port=return\n": ""}),
    "another register": (15, "driver/accelerator.py", {"0x00, 0x04, 0x08, 0x0C": "0x00, 0x08, 0x04, 0x0C"}),
    "a narrow accumulator": (16, SHAPES, {"acc_bits = 8,": "acc_bits = 7,"}),
    "a weight beyond its format": (16, CONV, {"{{0, 1, -2}": "{{0, 1, -9}"}),
    "a shift that is not stated": (16, CONV, {"{{-1, 0}}": "{{-1, 3}}"}),
}


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, _, _ in BROKEN.values()} == set(range(1, 17))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_found(name: str, hls_rules: ModuleType, tiny: dict[str, str]) -> None:
    rule, path, changes = BROKEN[name]
    text = tiny[path]
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    found = hls_rules.violations({**tiny, path: text})
    assert rule in {finding.rule for finding in found}, found
    assert 0 not in {finding.rule for finding in found}, found


@pytest.mark.parametrize(
    ("tool", "in_luts", "in_dsps"),
    [
        ("VITIS", "HLS BIND_OP variable=product op=mul impl=fabric", "HLS BIND_OP variable=product op=mul impl=dsp"),
        ("VIVADO", "HLS RESOURCE variable=product core=Mul_LUT", ""),
    ],
)
def test_products_are_bound_to_what_the_plan_says(
    tool: str, in_luts: str, in_dsps: str, tiny: dict[str, str], tmp_path: Path
) -> None:
    """What the preprocessor of g++ leaves of the pragmas for either tool."""
    for path, text in tiny.items():
        if path.startswith(INCLUDE):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
    (tmp_path / "ap_int.h").touch()
    defined = ["-D__SYNTHESIS__", "-DBITWRIGHT_AP_TYPES", *["-DBITWRIGHT_VIVADO_HLS"] * (tool == "VIVADO")]
    command = ["g++", "-E", "-P", "-std=c++11", *defined, f"-I{tmp_path}", f"-I{tmp_path / 'include'}"]
    done = subprocess.run([*command, str(tmp_path / MULTIPLIER)], capture_output=True, text=True, check=True)
    luts, dsps = done.stdout.split("struct Multiplier<true>")
    for part, wanted in ((luts, in_luts), (dsps, in_dsps)):
        bound = [line.strip() for line in part.splitlines() if "variable=product" in line]
        assert bound == ([f"#pragma {wanted}"] if wanted else [])


# ---- adders of constants ------------------------------------------------------------------------------------------

FC, CONSTANT = "src/weights/fc.hpp", f"{INCLUDE}/constant_matvec.hpp"
ROWS = "#pragma HLS ARRAY_PARTITION variable=rows complete dim=0\n"


@pytest.fixture(scope="module")
def added(networks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tiny network with a layer of adders."""
    folder = tmp_path_factory.mktemp("rules") / "tiny"
    graph = parse(TINY)
    stages = [replace(stage, products=ADDERS) if stage.name == "fc" else stage for stage in stages_of(graph)]
    whole = {stage.name: (stage.outputs, stage.inputs) for stage in stages if isinstance(stage, SumStage)}
    made = networks.folded(stages, lambda stage: (FOLDING | {"fc": whole["fc"]})[stage.name])
    networks.write(folder, graph, made)
    return sources(folder)


def test_adders_keep_the_rules(hls_rules: ModuleType, added: dict[str, str]) -> None:
    assert "plus<" in added[FC]
    assert hls_rules.violations(added) == []


def test_adders_that_break_a_rule_are_found(hls_rules: ModuleType, added: dict[str, str]) -> None:
    widths = [int(bits) for bits in re.findall(r"(?:plus|minus)<(\d+),", added[FC])]
    narrow = re.sub(r"(plus|minus)<(\d+),", lambda found: f"{found[1]}<{int(found[2]) - 1},", added[FC], count=1)
    broken = [
        (16, FC, narrow),
        (16, FC, added[FC].replace("    y[1] = ", "    y[0] = ", 1)),
        (16, FC, re.sub(r"y\[0\] = (\w+)<acc_bits \+ 1, \d+>", r"y[0] = \1<acc_bits + 1, 30>", added[FC])),
        (9, CONSTANT, added[CONSTANT].replace(ROWS, "")),
    ]
    assert min(widths) > 1
    for rule, path, text in broken:
        assert text != added[path]
        found = hls_rules.violations({**added, path: text})
        assert rule in {finding.rule for finding in found}, found


# ---- branches -----------------------------------------------------------------------------------------------------

ENGINES = """
namespace nn {
template <class F>
void fork(hls::stream<F>& in, hls::stream<F>& one, hls::stream<F>& two) {
    for (int i = 0; i < 9; ++i) {
#pragma HLS PIPELINE II=1
        const F x = in.read();
        one.write(x);
        two.write(x);
    }
}
template <class F>
void add(hls::stream<F>& one, hls::stream<F>& two, hls::stream<F>& out) {
    for (int i = 0; i < 9; ++i) {
#pragma HLS PIPELINE II=1
        out.write(one.read() + two.read());
    }
}
}  // namespace nn
"""


def branching(tiny: dict[str, str], pragma: str) -> dict[str, str]:
    """The tiny network with its pooling in one branch, and a way past it."""
    text = tiny[TOP].replace("void tiny(", f"{ENGINES}\nvoid tiny(", 1)
    streams = "".join(f'    hls::stream<Vec<conv_t, 2>> {name}("{name}");\n' for name in ("way", "past", "long_way"))
    calls = "    nn::fork(conv, way, past);\n    nn::maxpool2d<ConvPool>(way, long_way);\n"
    text = text.replace(POOLING, f"{calls}    nn::add(long_way, past, conv_pool);\n")
    return {**tiny, TOP: text.replace("    nn::read_axis", f"{streams}{pragma}    nn::read_axis", 1)}


def test_a_stream_past_other_stages_has_a_depth_of_its_own(hls_rules: ModuleType, tiny: dict[str, str]) -> None:
    assert hls_rules.violations(branching(tiny, "#pragma HLS STREAM variable=past depth=32\n")) == []
    (found,) = hls_rules.violations(branching(tiny, ""))
    assert (found.rule, found.what) == (3, "past passes by other stages and has no depth of its own")
