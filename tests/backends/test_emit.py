"""The generated text: what it says, that it is always the same, and that every name in it is one that C++ takes."""

from __future__ import annotations

import ast
import keyword
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bitwright.backends.hls.cpp import Names, table
from bitwright.backends.hls.csim import Accelerator
from bitwright.backends.hls.emit import emit, folded
from bitwright.backends.hls.estimate import estimate
from bitwright.backends.hls.plan import Plan
from bitwright.backends.hls.stages import SumStage, stages_of
from bitwright.ir import edit
from bitwright.ir.evaluate import evaluate
from bitwright.ir.formats import Canonical
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text

HLS = Path(__file__).parents[2] / "backends" / "hls"
ORIGIN = "bitwright test, model 00000000, target pynq-z2"

# Every kind of weights, a list a channel, a fused pooling, outside names at both ends; weights made from their keys.
TINY = (Path(__file__).parent / "tiny.ir").read_text()
# Every engine that a branch needs.
BRANCHES = """graph @branches {
  input %x : FIXED<5>[N,2,6,6]
  weight %deep.w = 0000a004 : FIXED<3>[2,1,3,3]
  weight %gate.w = 0000a005 : FIXED<4>[2,2,1,1]
  %deep = conv2d(%x, %deep.w) {groups=2, kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,6,6]
  %sum = add(%deep, %x) : FIXED<6,B=-1>[N,2,6,6]
  %whole = globalavgpool(%sum) : FIXED<7>[N,2,1,1]
  %gate = conv2d(%whole, %gate.w) {act=clip, act_max=1.0, act_min=0.0, kernel=[1,1]} : UFIXED<4>[N,2,1,1]
  %gated = mul(%sum, %gate) : FIXED<6>[N,2,6,6]
  %mean = avgpool2d(%gated) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,6,6]
  %both = concat(%mean, %gated) {axis=1} : FIXED<5>[N,4,6,6]
  %short = relu(%both) : UFIXED<4>[N,4,6,6]
  output %short
}
"""
FOLDING = {"deep": (2, 3), "gate": (1, 2), "conv": (2, 3), "mid": (1, 2), "fc": (3, 4)}


@pytest.fixture(scope="module")
def tiny(networks: ModuleType) -> Plan:
    stages = networks.folded(stages_of(parse(TINY)), lambda stage: FOLDING[stage.name])
    return Plan(tuple(stages), estimate(stages, networks.BOARD), networks.BOARD, 0.8)


@pytest.fixture(scope="module")
def branches(networks: ModuleType) -> Plan:
    stages = networks.folded(stages_of(parse(BRANCHES)), lambda stage: FOLDING[stage.name], lambda stage: 2)
    return Plan(tuple(stages), estimate(stages, networks.BOARD), networks.BOARD, 0.8)


@pytest.fixture(scope="module")
def tiny_folder(networks: ModuleType, tiny: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("emit") / "tiny"
    networks.write(folder, parse(TINY), tiny.stages)
    return folder


# ---- the text ----------------------------------------------------------------------------------------------------

GOLDEN = [
    "src/formats.hpp",
    "src/shapes.hpp",
    "src/weights/conv.hpp",
    "src/tiny.hpp",
    "src/tiny.cpp",
    "csim/csim.cpp",
    "tb/testbench.cpp",
    "scripts/settings.tcl",
    "driver/network.json",
]


@pytest.mark.parametrize("path", GOLDEN)
def test_the_text_is_the_golden_one(path: str, tiny_folder: Path, golden_text: Callable[[str, str], None]) -> None:
    golden_text((tiny_folder / path).read_text(), f"hls/tiny/{Path(path).name}")


BRANCHES_GOLDEN = ["src/formats.hpp", "src/shapes.hpp", "src/weights/mean.hpp", "src/branches.cpp"]


@pytest.mark.parametrize("path", BRANCHES_GOLDEN)
def test_the_text_with_branches_is_the_golden_one(
    path: str, branches: Plan, golden_text: Callable[[str, str], None]
) -> None:
    golden_text(emit(branches, "branches", ORIGIN)[path], f"hls/branches/{Path(path).name}")


def test_the_files_are_always_the_same_few(tiny: Plan) -> None:
    weights = {f"src/weights/{layer}.hpp" for layer in ("conv", "mid", "fc")}
    others = {path for path in GOLDEN if path.endswith(("hpp", "cpp"))}
    assert set(emit(tiny, "tiny", ORIGIN)) == others | weights


def all_text(networks: ModuleType) -> Iterator[tuple[str, str]]:
    for seed in range(40):
        graph, stages, _ = (networks.drawn if seed < 28 else networks.branching)(seed)
        made = Plan(tuple(stages), estimate(stages, networks.BOARD), networks.BOARD, 0.8)
        for path, text in emit(made, graph.name, ORIGIN).items():
            yield f"{seed}: {path}", text


def test_no_loop_no_tab_no_trailing_blank_and_one_final_newline(networks: ModuleType) -> None:
    for path, text in all_text(networks):
        code = re.sub(r"//.*", "", text)
        assert not re.search(r"\b(for|while|goto|if)\b", code), path
        assert "\t" not in text, path
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert "\n\n\n" not in text, path
        assert text.startswith(f"// {ORIGIN}: "), path
        assert code.count("{") == code.count("}"), path


def test_the_line_of_the_graph_stands_above_each_struct(networks: ModuleType) -> None:
    for seed in range(40):
        graph, stages, _ = networks.drawn(seed)
        made = Plan(tuple(stages), estimate(stages, networks.BOARD), networks.BOARD, 0.8)
        shapes = emit(made, graph.name, ORIGIN)["src/shapes.hpp"].splitlines()
        lines = {line.strip() for line in to_text(graph).splitlines()}
        above = [shapes[i - 1].removeprefix("// ") for i, line in enumerate(shapes) if line.startswith("struct ")]
        assert len(above) == len(stages)
        fused = [line for line in above if line.startswith("the pooling of %")]
        assert set(above) - set(fused) <= lines
        built = {line for line in lines if line.startswith(("input", "output", "%")) and "flatten" not in line}
        assert built <= set(above)


def test_outside_names_are_in_the_lines(tiny: Plan) -> None:
    shapes = emit(tiny, "tiny", ORIGIN)["src/shapes.hpp"]
    for line in ('// input %x as "image:0" : UFIXED<4>[N,1,6,6]', '// output %fc as "scores"'):
        assert line in shapes.splitlines()
        assert line.removeprefix("// ") in [part.strip() for part in TINY.splitlines()]


# ---- the same bytes, always ---------------------------------------------------------------------------------------


def test_two_emissions_are_equal(tiny: Plan) -> None:
    assert emit(tiny, "tiny", ORIGIN) == emit(tiny, "tiny", ORIGIN)


def test_another_process_with_another_hash_seed_gives_the_same_bytes(tiny: Plan, tmp_path: Path) -> None:
    (tmp_path / "tiny.ir").write_text(TINY)
    program = f"""
import hashlib, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import networks
from bitwright.backends.hls.emit import emit
from bitwright.ir.parse import parse
stages = networks.folded(networks.stages_of(parse(open("tiny.ir").read())), lambda s: {FOLDING!r}[s.name])
plan = networks.Plan(tuple(stages), networks.estimate(stages, networks.BOARD), networks.BOARD, 0.8)
print(hashlib.sha256(repr(sorted(emit(plan, "tiny", {ORIGIN!r}).items())).encode()).hexdigest())
"""
    import hashlib

    here = hashlib.sha256(repr(sorted(emit(tiny, "tiny", ORIGIN).items())).encode()).hexdigest()
    source = str(Path(__file__).parents[2] / "src")
    environment = {"PYTHONHASHSEED": "12345", "PATH": "", "LANG": "C", "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == here


def test_no_path_no_time_no_user_in_any_file(
    networks: ModuleType, tiny: Plan, tiny_folder: Path, tmp_path: Path
) -> None:
    import getpass
    import socket

    again = tmp_path / "elsewhere"
    networks.write(again, parse(TINY), tiny.stages)
    files = [path.relative_to(again) for path in sorted(again.rglob("*")) if path.is_file()]
    assert len(files) > 30
    for file in files:
        data = (again / file).read_bytes()
        assert data == (tiny_folder / file).read_bytes(), file
        generated = file.suffix in (".hpp", ".cpp", ".json", ".ir", ".tcl") and not str(file).startswith("include")
        if generated:
            text = data.decode()
            found = re.search(r"\b20\d\d-\d\d-\d\d|\b\d\d:\d\d:\d\d\b", text)
            assert found is None, (file, found)
            for private in (str(tmp_path), str(Path.home()) + "/", str(Path.cwd()), f"/{getpass.getuser()}/"):
                assert private not in text, file
            assert len(socket.gethostname()) < 6 or socket.gethostname() not in text, file


# ---- names --------------------------------------------------------------------------------------------------------

# of C++17, from the standard's [lex.key] and [lex.digraph]
_CPP_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl
    const const_cast constexpr continue decltype default delete do double dynamic_cast else enum explicit export extern
    false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public register reinterpret_cast return short signed sizeof static static_assert static_cast
    struct switch template this thread_local throw true try typedef typeid typename union unsigned using virtual void
    volatile wchar_t while xor xor_eq
"""
CPP_KEYWORDS = _CPP_KEYWORDS.split()


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("conv1", "conv1"),
        ("/conv1/Conv", "conv1_Conv"),
        ("conv1.pool", "conv1_pool"),
        ("1st", "n1st"),
        ("a__b", "a_b"),
        ("_x_", "x"),
        ("class", "n_class"),
        ("Vec", "n_Vec"),
        ("...", "value"),
        ("größe", "gr_e"),
        ("層", "value"),
        ('a"; system("x', "a_system_x"),
        ("a\\\nb", "a_b"),
    ],
)
def test_an_identifier_is_made_from_a_name(name: str, identifier: str) -> None:
    assert Names().of(name) == identifier


def test_no_identifier_is_a_keyword_or_reserved() -> None:
    names = Names()
    for name in (*CPP_KEYWORDS, *keyword.kwlist, "main", "std", "hls", "nn", "bitwright", "_", "__x", "x__", "X"):
        made = names.of(name)
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", made)
        assert made not in CPP_KEYWORDS
        for suffix in ("", "_t", "_weight_t", "_weights", "_bias", "_shift", "_net"):
            assert "__" not in made + suffix, "two underscores are reserved in C++"
    assert len(set(names.given.values())) == len(names.given)


def test_names_that_differ_in_case_underscores_or_what_is_derived_stay_apart() -> None:
    names = Names()
    given = ["conv", "Conv", "con_v", "conv_t", "conv_weights", "conv.weights", "c", "c_bias", "c.bias", "fc", "f_c"]
    assert names.of("conv") == "conv"
    derived = {
        made + suffix
        for name in given
        for made in [names.of(name)]
        for suffix in ("", "_t", "_weight_t", "_weights", "_bias", "_shift")
    }
    assert len(derived) == 6 * len(given)
    assert len({names.struct(name) for name in given}) == len(given)
    assert names.of("conv") == "conv", "a name keeps its identifier"
    assert not {names.struct(name) for name in given} & {names.of(name) for name in given}


def named(layers: list[str], name: str = "net", source: str = "x", outside: str = "y") -> Graph:
    """A chain of dense layers, each one number to one, with these names."""
    graph = Graph(name, {"": 17})
    number = parse("graph @g {\n input %x : FIXED<8>[1,1]\n}").inputs[0].type
    value = edit.add_input(graph, source, number)
    weight = parse("graph @g {\n weight %w = [0.5] : FIXED<4>[1,1]\n}").weights[0]
    for index, layer in enumerate(layers):
        assert weight.tensor is not None
        one = edit.add_weight(graph, f"w{index}.of", weight.tensor, weight.tensor_type)
        value = edit.add_node(graph, "dense", [value, one], {layer: number}).result
    edit.add_output(graph, value, outside)
    return graph


def library_names() -> list[str]:
    """Every type, alias, function and namespace that the headers declare, and every macro."""
    found: set[str] = set()
    for header in [*(HLS / "include" / "bitwright").glob("*.hpp"), *(HLS / "csim").glob("*.h*")]:
        if header.name == "number.hpp":
            continue
        text = re.sub(r"//.*", "", header.read_text())
        found |= set(re.findall(r"\b(?:struct|class|using|namespace)\s+(?:BITWRIGHT_ALIGNED\(.*\) )?(\w+)", text))
        found |= set(re.findall(r"\bnamespace \w+::(\w+)", text))
        found |= set(re.findall(r"^[\w:<>*& ]*[\w>&*] \**(\w+)\([^;]*\)[^;]*\{$", text, re.MULTILINE))
        found |= set(re.findall(r"^(?:inline|constexpr|const) .*?(\w+)\(", text, re.MULTILINE))
    return sorted(name for name in found if not re.match(r"BITWRIGHT_|ap_axiu$", name))


# what C's own types are called without their `_t`
SYSTEM = ["char16", "clock", "dev", "div", "error", "id", "int32", "int8", "key", "mode", "off", "quad", "size", "time"]


def test_layers_may_be_called_as_anything_in_the_library(networks: ModuleType, tmp_path: Path) -> None:
    """Compiled for its names alone: types, functions and namespaces of the library, keywords, what is derived."""
    found = library_names()
    assert {"Vec", "Pool", "Beat", "Inputs", "Clip", "run", "nn", "requantize", "csim", "testbench"} <= set(found)
    layers = [*found, "In", "Out", "Weight", "Format", "Activation", "class", "1st", "Conv1", "conv_1", "pool", "out"]
    layers += ["window", "port", "inputs", "vec", "net", "net_net", "main", "Conv1_t", "Conv1.weights", "x_t", "y.out"]
    layers = list(dict.fromkeys([*layers, *SYSTEM]))
    graph = named(layers, source="pixels", outside="Conv1")
    folder = tmp_path / "names"
    networks.write(folder, graph, stages_of(graph))
    sources = ["src/net.cpp", "csim/csim.cpp", "tb/testbench.cpp"]
    command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    places = [f"-I{folder / part}" for part in ("include", "src", "csim")]
    done = subprocess.run(
        [*command, *places, *(str(folder / source) for source in sources)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:4000]


TAKEN = ["shapes", "formats", "csim", "run", "testbench", "main", "class", "Vec", "nn"]


@pytest.mark.parametrize("name", [*TAKEN, "Net 1", "1"])
def test_a_network_may_have_any_name(name: str, networks: ModuleType) -> None:
    graph = named(["a"], name=name)
    stages = stages_of(graph)
    files = emit(Plan(tuple(stages), estimate(stages, networks.BOARD), networks.BOARD, 0.8), name, ORIGIN)
    assert len(files) == 7
    top = Names().of(name)
    assert f"src/{top}.cpp" in files
    assert top not in TAKEN


def test_the_output_may_be_called_as_a_layer_and_the_input_as_the_stream(networks: ModuleType, tmp_path: Path) -> None:
    """Outside names and values are different things: what comes out may be called as a layer further up."""
    for index, (source, outside) in enumerate([("pixels", "a"), ("Input3", "b")]):
        graph = named(["a", "b"], source=source, outside=outside)
        folder = tmp_path / str(index)
        networks.write(folder, graph, stages_of(graph))
        x = np.array([[0.5], [-0.25]], np.float32)
        accelerator = Accelerator(folder, flags=("-O0",))
        assert accelerator.output.name == outside
        given = accelerator.run(accelerator.input.to_stream(x, Canonical(1, 0, 7)))
        np.testing.assert_array_equal(accelerator.output.from_stream(given), evaluate(graph, {source: x})[outside])


# ---- the tables ---------------------------------------------------------------------------------------------------


def read_tables(text: str) -> dict[str, np.ndarray]:
    """The numbers of every `static const ... name[..][..] = {...};`, as nested as they stand there."""
    found = {}
    for name, body in re.findall(r"static const [^;=]*? (\w+)(?:\[[^\]]*\])+ = (\{.*?\});", text, re.DOTALL):
        found[name] = np.array(ast.literal_eval(body.replace("{", "[").replace("}", "]")))
    return found


def unfolded(tiles: np.ndarray, pe: int, simd: int, outputs: int, inputs: int) -> np.ndarray:
    """[outputs, inputs] from the words of the memory as matvec.hpp walks them: row group, then chunk of columns."""
    matrix = np.full((outputs, inputs), 1 << 60)
    words = iter(tiles)
    for row in range(0, outputs, pe):
        for column in range(0, inputs, simd):
            matrix[row : row + pe, column : column + simd] = next(words)
    return matrix


def decoded(kind: str, width: int, codes: np.ndarray) -> np.ndarray:
    """What the header library makes of codes (formats.hpp), as integers."""
    if kind == "FIXED":
        return codes
    if kind == "BIN":
        return np.where(codes == 1, -1, 1)
    level = codes & ((1 << (width - 1)) - 1)
    size = np.where(level == 0, 0, 2.0 ** (level - 1.0))
    return np.where(codes >> (width - 1), -size, size)


def test_the_tables_hold_the_quantised_weights(networks: ModuleType) -> None:
    """Parsed from the text, unfolded, decoded and scaled by the emitted shift they are the graph's weights, exactly."""
    kinds = set()
    for seed in range(60):
        graph, stages, _ = networks.drawn(seed)
        made = Plan(tuple(stages), estimate(stages, networks.BOARD), networks.BOARD, 0.8)
        files = emit(made, graph.name, ORIGIN)
        shape = np.array((graph.inputs[0].tensor_type.static_shape or ())[1:])
        for stage in (stage for stage in stages if isinstance(stage, SumStage)):
            node = graph.values[stage.name].producer
            assert node is not None
            (name,) = [path for path in files if path.endswith(f"/{stage.name.replace('.', '_')}.hpp")]
            weights, bias, shift = read_tables(files[name]).values()
            assert weights.shape == (stage.outputs // stage.pe * stage.inputs // stage.simd, stage.pe, stage.simd)
            number, before = node.operand(1).tensor_type.number, node.operand(0).tensor_type.number
            after, data = node.result.tensor_type.number, node.operand(1).tensor
            assert isinstance(number, Canonical)
            assert isinstance(before, Canonical)
            assert isinstance(after, Canonical)
            assert data is not None
            kinds.add((number.kind, number.axis is not None))
            codes = unfolded(weights, stage.pe, stage.simd, stage.outputs, stage.inputs)
            low, high = (0, 2**number.width - 1) if number.kind != "FIXED" else (-number.max_code, number.max_code)
            assert low <= codes.min() <= codes.max() <= high
            step = after.step_exponents - before.step_exponents - shift.reshape(-1)
            real = decoded(number.kind, number.width, codes) * 2.0 ** step[:, None]
            wanted = number.quantize(data.data.astype(np.float64))
            if node.op == "conv2d":
                wanted = np.moveaxis(wanted, 1, 3)
            else:
                flat = node.operand(0).producer
                if flat is not None and flat.op == "flatten":
                    image = (flat.operand(0).tensor_type.static_shape or ())[1:]
                    wanted = np.moveaxis(wanted.reshape(-1, *image), 1, 3)
            np.testing.assert_array_equal(real, wanted.reshape(stage.outputs, -1))
            real_bias = node.optional(2)
            scale = 2.0 ** (after.step_exponents - shift.reshape(-1).astype(float))
            wanted_bias = np.zeros(stage.outputs) if real_bias is None else real_bias.tensor.data  # type: ignore[union-attr]
            assert np.all(np.abs(bias.reshape(-1) * scale - wanted_bias) <= scale / 2)
            assert np.abs(bias).max() < 2 ** (stage.acc_bits - 1)
        assert shape.size
    assert kinds == {(kind, each) for kind in ("FIXED", "BIN", "EXP") for each in (False, True)}


def test_a_table_of_any_rank_is_nested_and_filled() -> None:
    for shape in [(1,), (3,), (200,), (1, 1), (4, 2), (3, 2, 40), (2, 1, 1), (50, 1)]:
        values = np.random.default_rng(0).integers(-(2**31), 2**31, shape)
        text = table(values)
        np.testing.assert_array_equal(np.array(ast.literal_eval(text.replace("{", "[").replace("}", "]"))), values)
        assert max(map(len, text.splitlines())) <= 120
        assert not re.search(r" $", text, re.MULTILINE)


def test_folding_puts_rows_and_columns_where_the_engine_reads_them(networks: ModuleType, tiny: Plan) -> None:
    for stage in (stage for stage in tiny.stages if isinstance(stage, SumStage)):
        tiles = folded(stage)
        chunks = stage.inputs // stage.simd
        for fold, row, column in [(0, 0, 0), (len(tiles) - 1, stage.pe - 1, stage.simd - 1), (len(tiles) // 2, 0, 0)]:
            group, chunk = divmod(fold, chunks)
            assert tiles[fold, row, column] == stage.codes[group * stage.pe + row, chunk * stage.simd + column]
