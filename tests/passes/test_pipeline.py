"""Pipelines as text, the manager that runs them, third-party passes, and passes on other compilers' models."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import onnx
import onnx.backend.test
import onnx_ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import bitwright.models
from bitwright import passes
from bitwright.ir import edit
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph
from bitwright.ir.onnx.read import from_model
from bitwright.ir.parse import parse
from bitwright.ir.text import to_text
from bitwright.passes import STRUCTURE, Context, Pass, Span, as_onnx_ir_pass, known_passes, parse_pipeline, run_passes
from bitwright.passes.accumulators import DeriveAccumulators
from bitwright.passes.base import InternalPassError, build
from bitwright.passes.constants import FoldConstants, RemoveDead
from bitwright.passes.formats import AnnotateFormats, AssignFormats
from bitwright.passes.identities import RemoveIdentities
from bitwright.passes.pooling import FusePooling
from bitwright.passes.table import PASSES

assert bitwright.models.__file__ is not None
LENET = Path(bitwright.models.__file__).parent / "lenet5.onnx"
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"

# pipelines as text

names = st.from_regex(r"[A-Za-z_][\w.$]{0,8}", fullmatch=True)
formats = st.sampled_from(
    ["FIXED 8", "EXP 4 3", "AFFINE<8,scale=0.1>", "FIXED<8,B={-1,-2}@0>", "FLOAT<16,E=8>", "BIN", "LOGQUANT4"]
)
made_passes = st.one_of(
    *(st.just(kind()) for name, kind in PASSES.items() if not dataclasses.fields(kind)),
    st.builds(AssignFormats, st.text()),
    st.builds(AssignFormats, st.text('a,{}<>"=\\ ')),
    st.builds(FoldConstants, st.integers(1, 2**31)),
    st.builds(FusePooling, st.lists(names).map(tuple)),
    st.builds(
        AnnotateFormats,
        weights=formats | st.text(),
        activations=formats,
        per_channel=st.booleans(),
        input_max=st.floats(1e-30, 1e30) | st.integers(1, 1000).map(float),
    ),
)


@given(st.lists(made_passes, max_size=5))
def test_what_a_pass_prints_is_the_pass(pipeline: list[Pass]) -> None:
    assert parse_pipeline(",".join(map(str, pipeline))) == pipeline


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        (" remove-dead , fold-constants{} ,", [RemoveDead(), FoldConstants()]),
        ("fuse-pooling{only=conv1}", [FusePooling(("conv1",))]),
        ("fuse-pooling{ only = a+b.c }", [FusePooling(("a", "b.c"))]),
        ("fuse-pooling{only=[a]}", [FusePooling(("a",))]),
        ("annotate-formats{weights=AFFINE<8,scale=1>}", [AnnotateFormats(weights="AFFINE<8,scale=1>")]),
        ('assign-formats{file="a b,c}.txt"}', [AssignFormats("a b,c}.txt")]),
        ('assign-formats{file="\\"\\\\"}', [AssignFormats('"\\')]),
    ],
)  # fmt: skip
def test_pipelines_as_people_write_them(text: str, wanted: list[Pass]) -> None:
    assert parse_pipeline(text) == wanted


def test_defaults_are_left_out() -> None:
    assert str(AnnotateFormats()) == "annotate-formats"
    assert str(AnnotateFormats(weights="EXP 4", unsigned=True)) == "annotate-formats{weights=EXP 4,unsigned=true}"
    assert str(FusePooling(("conv1", "conv2"))) == "fuse-pooling{only=conv1+conv2}"
    assert str(AssignFormats("f.txt")) == "assign-formats{file=f.txt}"
    assert str(AssignFormats("f,g.txt")) == 'assign-formats{file="f,g.txt"}'


@dataclass(frozen=True)
class Typed(Pass):
    """A pass with every type of option."""

    name: ClassVar[str] = "typed"
    number: int
    real: Annotated[float, Span(0, 1)] = 0.5
    kind: Literal["l1", "l2"] = "l1"
    on: bool = False
    some: tuple[str, ...] = ()
    count: Annotated[int, "no bounds"] = 1

    def run(self, graph: Graph, context: Context) -> bool:
        return False


@pytest.mark.parametrize(
    ("options", "message", "help"),
    [
        ({}, "typed needs number", "write typed{number=...}"),
        ({"size": "1"}, "typed has no option 'size'", "its options: number, real, kind, on, some, count"),
        ({"number": "1.5"}, "typed{number=1.5}: int expected", None),
        ({"number": "1", "real": "2"}, "typed{real=2}: float from 0 to 1 expected", None),
        ({"number": "1", "real": "nan"}, "typed{real=nan}: float from 0 to 1 expected", None),
        ({"number": "1", "kind": "l3"}, "typed{kind=l3}: l1 or l2 expected", None),
        ({"number": "1", "on": "yes"}, "typed{on=yes}: true or false expected", None),
        ({"number": "1", "count": "x"}, "typed{count=x}: int expected", None),
        ({"number": '"1'}, 'typed{number="1}: int expected', None),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(options: dict[str, str], message: str, help: str | None) -> None:
    with pytest.raises(CompileError) as error:
        build(Typed, options)
    assert (error.value.message, error.value.help) == (message, help)


def test_options_that_fit() -> None:
    made = build(Typed, {"number": "3", "real": "1", "kind": "l2", "on": "true", "some": "a+b", "count": "2"})
    assert made == Typed(3, 1.0, "l2", True, ("a", "b"), 2)


OPTIONS = "write name{option=value,...}"


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("fuse-poling", "there is no pass 'fuse-poling'", "did you mean fuse-pooling?"),
        ("zzz", "there is no pass 'zzz'", "bitwright list passes names them all"),
        ("remove-dead{all=1}", "remove-dead has no option 'all'", "its options: none"),
        ("fold-constants{limit=0}", "fold-constants{limit=0}: int from 1 to 2.14748e+09 expected", None),
        ("fold-constants{limit}", "fold-constants{limit}: 'limit' is no option=value", None),
        ("fold-constants{limit=1,limit=2}", "fold-constants{limit=1,limit=2}: 'limit' is given twice", None),
        ("fold-constants{limit=1}x", "fold-constants{limit=1}x: the options end in a brace", OPTIONS),
        ("fold-constants{limit=1", "fold-constants{limit=1: a brace, bracket or quote is not closed", OPTIONS),
        ("fold-constants}", "fold-constants}: a brace, bracket or quote is not closed", OPTIONS),
        ('assign-formats{file="a}', 'assign-formats{file="a}: a brace, bracket or quote is not closed', OPTIONS),
        ("assign-formats", "assign-formats needs file", "write assign-formats{file=...}"),
    ],
)
def test_pipelines_with_mistakes(text: str, message: str, help: str | None) -> None:
    with pytest.raises(CompileError) as error:
        parse_pipeline(text)
    assert (error.value.message, error.value.help) == (message, help)


def test_a_pass_class_without_run_is_named() -> None:
    class Empty(Pass):
        name = "empty"

    with pytest.raises(InternalPassError, match=r"^Empty has no run\(\)$"):
        Empty().run(small(), Context())


# the manager


def small() -> Graph:
    return parse("""
        graph @small {
          opset ai.onnx=17
          input %x : f32[1,4]
          weight %w = 00000001 : f32[4,4]
          %same = onnx.Identity(%x) : f32[1,4]
          %fc = dense(%same, %w) : f32[1,4]
          %relu = relu(%fc) : f32[1,4]
          %dead = relu(%x) : f32[1,4]
          output %relu
        }""")


@dataclass(frozen=True)
class Broken(Pass):
    """Leaves a wrong shape."""

    name: ClassVar[str] = "broken"
    size: int = 7

    def run(self, graph: Graph, context: Context) -> bool:
        node = next(node for node in graph.nodes if node.op == "dense")
        node.source = 'Gemm "fc"'
        edit.set_type(node.result, node.result.tensor_type.with_shape((1, self.size)))
        return True


def test_a_pass_that_breaks_the_graph_is_named_with_its_trail() -> None:
    with pytest.raises(CompileError) as error:
        run_passes(small(), [RemoveDead(), RemoveIdentities(), Broken(9)])
    assert str(error.value).splitlines() == [
        'node Gemm "fc" (%fc): the result has shape [1,4], not [1,9]',
        "  %fc = dense(%x, %w) : f32[1,9]",
        "  changed by: remove-identities, broken{size=9}",
        "  while: verifying after broken{size=9}",
        "  made by: remove-dead, remove-identities",
    ]


def test_the_first_pass_follows_the_import() -> None:
    with pytest.raises(CompileError, match=r"made by: import$"):
        run_passes(small(), [Broken()])


def test_every_step_is_told_of() -> None:
    steps: list[passes.Step] = []
    texts: list[str] = []

    def on_step(step: passes.Step) -> None:
        steps.append(step)
        texts.append(to_text(step.after))

    graph = small()
    pipeline = "remove-dead,fuse-activations,fuse-pooling,remove-identities"
    result = run_passes(graph, pipeline, on_step=on_step, keep_before=True)
    assert [str(step.ran) for step in steps] == pipeline.split(",")
    assert [step.changed for step in steps] == [True, True, False, True]
    assert all(step.seconds >= 0 for step in steps)
    befores = [to_text(step.before) for step in steps if step.before is not None]
    assert befores == [to_text(graph), *texts[:-1]]
    assert texts[-1] == to_text(result) != to_text(graph)


def test_before_is_kept_only_if_asked_for() -> None:
    steps: list[passes.Step] = []
    run_passes(small(), "remove-dead", on_step=steps.append)
    assert [step.before for step in steps] == [None]


def test_the_given_graph_stays_as_it_is() -> None:
    graph = small()
    before = to_text(graph)
    assert to_text(run_passes(graph, STRUCTURE)) != before
    assert to_text(graph) == before
    assert all(node.trail == () for node in graph.nodes)


def test_nodes_know_the_passes_that_changed_them() -> None:
    result = run_passes(small(), "remove-dead,remove-identities,fuse-activations,fuse-pooling")
    assert [(node.name, node.trail) for node in result.nodes] == [("fc", ("remove-identities", "fuse-activations"))]


def test_what_a_pass_has_to_say_is_in_the_context() -> None:
    context = Context()
    run_passes(run_passes(small(), STRUCTURE), "annotate-formats{input_max=2}", context)
    assert context.notes == ["no data: formats cover every input in [-2, 2], wider than data ask"]


# passes of other packages


@dataclass(frozen=True)
class Foreign(Pass):
    """Somebody else's.

    - %r = relu(%x) : f32[1,4]
    + %r = hardswish(%x) : f32[1,4]
    """

    name: ClassVar[str] = "foreign"
    to: str = "hardswish"

    def run(self, graph: Graph, context: Context) -> bool:
        for node in graph.nodes:
            if node.op == "relu":
                edit.set_op(node, self.to, {})
        return True


@dataclass(frozen=True)
class Impostor(Pass):
    """Has the name of another."""

    name: ClassVar[str] = "remove-dead"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Pass]], None]:
    """Makes a pass known as that of an installed package."""

    def install(kind: type[Pass]) -> None:
        monkeypatch.setitem(globals(), "installed_kind", kind)
        monkeypatch.setattr("sys.modules", {**__import__("sys").modules, "their_package": _module(kind)})
        point = importlib.metadata.EntryPoint("any", "their_package:Kind", "bitwright.passes")

        def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
            return [point] if group == "bitwright.passes" else []

        monkeypatch.setattr("bitwright.passes.pipeline.entry_points", entry_points)

    return install


def _module(kind: type[Pass]) -> Any:
    import types

    module = types.ModuleType("their_package")
    module.Kind = kind  # type: ignore[attr-defined]
    return module


def test_an_installed_package_adds_its_passes(installed: Callable[[type[Pass]], None]) -> None:
    installed(Foreign)
    assert known_passes() == {**PASSES, "foreign": Foreign}
    result = run_passes(small(), "foreign{to=quantize},remove-dead")
    assert [node.op for node in result.nodes] == ["onnx.Identity", "dense", "quantize"]


def test_an_installed_pass_cannot_take_the_name_of_another(installed: Callable[[type[Pass]], None]) -> None:
    installed(Impostor)
    with pytest.raises(CompileError) as error:
        parse_pipeline("remove-dead")
    assert error.value.message == "the pass remove-dead of their_package:Kind has the name of another pass"


def test_without_other_packages_there_are_our_own() -> None:
    assert known_passes() == PASSES


# what every pass must have


@pytest.mark.parametrize("kind", PASSES.values(), ids=str)
def test_a_pass_is_frozen_and_shows_what_it_does(kind: type[Pass]) -> None:
    assert PASSES[kind.name] is kind
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.name)
    assert kind.__dataclass_params__.frozen
    lines = [line.strip() for line in (kind.__doc__ or "").splitlines()]
    assert len(lines[0]) > 20, "the docstring does not say what it does"
    assert any(line.startswith("- ") for line in lines), "the docstring shows no line before"
    assert any(line.startswith("+ ") for line in lines) or kind is RemoveDead, "the docstring shows no line after"
    for line in lines:
        if line.startswith(("- ", "+ ")):
            assert re.match(r"[-+] (%[\w.]+ = [\w.]+\(|(input|weight|output) %|#)", line), line


# on models of other compilers


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds_of(model: onnx.ModelProto, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    made = {}
    for info in model.graph.input:
        if info.name not in weights:
            dims = [dim.dim_value or 2 for dim in info.type.tensor_type.shape.dim]
            made[info.name] = random.standard_normal(dims).astype(np.float32)
    return made


def assert_computes_the_same(model: onnx.ModelProto, pipeline: str, seeds: int = 2) -> onnx.ModelProto:
    """Run the passes and compare the outputs on onnxruntime; the model after them."""
    given = model.SerializeToString()
    after = passes.run(model, pipeline)
    assert model.SerializeToString() == given, "the given model was changed"
    onnx.checker.check_model(after, full_check=True)
    before_session, after_session = session(model), session(after)
    names = [output.name for output in model.graph.output]
    assert [output.name for output in after.graph.output] == names
    for seed in range(seeds):
        feeds = feeds_of(model, seed)
        pairs = zip(before_session.run(None, feeds), after_session.run(None, feeds), strict=True)
        for name, (ours, theirs) in zip(names, pairs, strict=True):
            assert ours.shape == theirs.shape
            scale = np.abs(ours).max(initial=1e-6)
            assert np.abs(ours - theirs).max(initial=0) < 2e-5 * scale, f"{name} differs:\n{from_model(after)}"
    return after


def model_of(text: str, weights: dict[str, np.ndarray] | None = None, opset: int = 17) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    random = np.random.default_rng(0)
    for name, array in (weights or {}).items():
        data = array if isinstance(array, np.ndarray) else random.standard_normal(array)
        data = data if data.dtype == np.int64 else data.astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(data, name))
    return model


RESIDUAL = model_of(
    """g (float[N,3,8,8] x) => (float[N,10] y) {
        c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w1)
        b1 = BatchNormalization (c1, s, t, m, v)
        r1 = Relu (b1)
        c2 = Conv <kernel_shape=[3,3], auto_pad="SAME_UPPER"> (r1, w2, k)
        b2 = BatchNormalization (c2, s, t, m, v)
        a = Add (b2, r1)
        r2 = Relu (a)
        p = GlobalAveragePool (r2)
        f = Flatten (p)
        y = Gemm <transB=1, alpha=0.5> (f, w3)
    }""",
    {
        "w1": (4, 3, 3, 3),
        "w2": (4, 4, 3, 3),
        "w3": (10, 4),
        **{name: (4,) for name in "stmk"},
        "v": np.array([0.5, 1.0, 2.0, 3.0]),
    },
)
NHWC = model_of(
    """g (float[N,8,8,3] x) => (float[N,5] y) {
        t1 = Transpose <perm=[0,3,1,2]> (x)
        c1 = Conv <kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER"> (t1, w1)
        t2 = Transpose <perm=[0,2,3,1]> (c1)
        a1 = Add (t2, b1)
        r1 = Clip (a1, zero, six)
        t3 = Transpose <perm=[0,3,1,2]> (r1)
        p1 = MaxPool <kernel_shape=[2,2], strides=[2,2]> (t3)
        t4 = Transpose <perm=[0,2,3,1]> (p1)
        f = Reshape (t4, shape)
        m = MatMul (f, w2)
        y = Add (m, b2)
    }""",
    {
        "w1": (4, 3, 3, 3),
        "b1": (4,),
        "w2": (16, 5),
        "b2": (1, 5),
        "zero": np.array(0.0),
        "six": np.array(6.0),
        "shape": np.array([-1, 16]),
    },
    opset=13,
)
VIEW = model_of(
    """g (float[2,3,4,4] x) => (float[2,5] y) {
        s = Shape (x)
        n = Gather <axis=0> (s, zero)
        u = Unsqueeze (n, axes)
        c = Concat <axis=0> (u, rest)
        f = Reshape (x, c)
        y = Gemm (f, w, b)
    }""",
    {"w": (48, 5), "b": (5,), "zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])},
    opset=13,
)
BRANCH = model_of(
    """g (float[N,4] x, bool c) => (float[N,4] y) {
        i = Identity (x)
        d = Dropout (i)
        h = Relu (d)
        unread = Relu (h)
        y = If (c) <then_branch = t () => (float[N,4] p) { j = Identity (h)
                                                            p = Mul (j, k) },
                    else_branch = e () => (float[N,4] q) { q = Identity (i) }>
    }""",
    {"k": (4,)},
)
SWISH = """g (float[N,4] x) => (float[N,4] y) {
    m = MatMul (x, w)
    a = Add (m, three)
    k = Clip (a, zero, six)
    p = Mul (m, k)
    y = Div (p, six)
}"""
SWISH_WEIGHTS = {"w": (4, 4), "three": np.array(3.0), "zero": np.array(0.0), "six": np.array(6.0)}


@pytest.mark.parametrize(
    ("model", "ops"),
    [
        (onnx.load(LENET), {"Conv": 3, "MaxPool": 2, "Gemm": 2, "Relu": 4, "Flatten": 1}),
        (RESIDUAL, {"Conv": 2, "Relu": 2, "Add": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}),
        (NHWC, {"Transpose": 1, "Conv": 1, "Clip": 1, "MaxPool": 1, "Reshape": 1, "Gemm": 1}),
        (VIEW, {"Reshape": 1, "Gemm": 1}),
        (model_of(SWISH, SWISH_WEIGHTS, 17), {"Gemm": 1, "Mul": 2, "Add": 1, "Clip": 1}),
        (model_of(SWISH, SWISH_WEIGHTS, 11), None),
    ],
    ids=["lenet", "residual", "nhwc", "view", "hardswish", "hardswish-of-opset-11"],
)
def test_structure_passes_keep_what_onnxruntime_computes(model: onnx.ModelProto, ops: dict[str, int] | None) -> None:
    after = assert_computes_the_same(model, STRUCTURE)
    found = [node.op_type for node in after.graph.node]
    assert ops is None or {op: found.count(op) for op in set(found)} == ops


@pytest.mark.parametrize("condition", [True, False])
def test_what_subgraphs_read_is_kept(condition: bool) -> None:
    after = passes.run(BRANCH, STRUCTURE)
    assert [node.op_type for node in after.graph.node] == ["Relu", "If"]
    feeds = {"x": np.array([[1, -2, 3, -4]], np.float32), "c": np.array(condition)}
    (ours,), (theirs,) = session(BRANCH).run(None, feeds), session(after).run(None, feeds)
    assert np.array_equal(ours, theirs)


def test_weights_that_are_listed_as_inputs_are_frozen() -> None:
    """As PyTorch wrote models with IR version 4 for a while."""
    model = onnx.ModelProto()
    model.CopyFrom(RESIDUAL)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    after = assert_computes_the_same(model, STRUCTURE)
    assert [info.name for info in after.graph.input] == ["x"]
    kept = assert_computes_the_same(model, "fold-constants,normalise,fuse-batchnorm,fuse-activations")
    assert [info.name for info in kept.graph.input] == [info.name for info in model.graph.input]
    feeds = feeds_of(model, 3) | {"s": np.array([1, 2, 3, 4], np.float32)}
    assert np.allclose(session(model).run(None, feeds)[0], session(kept).run(None, feeds)[0], atol=1e-5)


KINDS = ("sum", "sum", "norm", "mul", "add", "relu", "clip", "pool", "same", "turn", "skip", "swish", "show", "flat")


def drawn_model(seed: int) -> onnx.ModelProto:
    """A random chain of the things that exporters write, with a skip connection and readers twice here and there."""
    random = np.random.default_rng(seed)
    opset = int(random.choice([11, 13, 15, 17]))
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    shown: list[str] = []

    def weight(array: Any) -> str:
        data = np.asarray(array)
        name = f"w{len(weights)}"
        weights.append(numpy_helper.from_array(data if data.dtype == np.int64 else data.astype(np.float32), name))
        return name

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"v{len(nodes)}"], f"n{len(nodes)}", **attributes))
        return nodes[-1].output[0]

    shape = [3, 8, 8]
    value, skip = "x", ("x", [3, 8, 8])
    for _ in range(int(random.integers(4, 12))):
        rank = len(shape)
        channels = shape[0] if rank == 3 else shape[-1]
        per_channel = [channels, 1, 1] if rank == 3 else [channels]
        kind = random.choice(KINDS)
        if kind == "sum" and rank == 3:
            k = int(random.integers(1, min(4, shape[1] + 1)))
            outputs = int(random.integers(1, 5))
            w = weight(random.standard_normal((outputs, channels, k, k)) / channels / k)
            bias = [weight(random.standard_normal(outputs))] * int(random.integers(2))
            value = add("Conv", value, w, *bias, kernel_shape=[k, k])
            shape = [outputs, shape[1] - k + 1, shape[2] - k + 1]
        elif kind == "sum":
            outputs = int(random.integers(1, 6))
            value = add("MatMul", value, weight(random.standard_normal((channels, outputs)) / channels))
            shape = [outputs]
        elif kind == "norm" and rank == 3:
            numbers = [weight(random.standard_normal(channels)) for _ in range(3)]
            value = add("BatchNormalization", value, *numbers, weight(random.uniform(0.5, 2, channels)))
        elif kind in ("mul", "add"):
            constant = weight(random.standard_normal(per_channel if random.integers(3) else []))
            value = add(kind.capitalize(), *random.permutation([value, constant]))
        elif kind == "relu":
            value = add("Relu", value)
        elif kind == "clip":
            value = add("Clip", value, weight(random.choice([0.0, -1.0])), weight(6.0))
        elif kind == "pool" and rank == 3 and shape[1] >= 2:
            value = add("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
            shape = [channels, shape[1] // 2, shape[2] // 2]
        elif kind == "same":
            value = add(str(random.choice(["Identity", "Dropout"])), value)
        elif kind == "turn" and rank == 3:
            turned = add("Transpose", value, perm=[0, 2, 3, 1])
            bias = weight(random.standard_normal(channels))
            turned = add("Relu", turned) if random.integers(2) else add("Add", turned, bias)
            value = add("Transpose", turned, perm=[0, 3, 1, 2])
        elif kind == "skip":
            if skip[1] == shape and skip[0] != value:
                value = add("Add", value, skip[0])
            skip = (value, list(shape))
        elif kind == "swish":
            clipped = add("Clip", add("Add", value, weight(3.0)), weight(0.0), weight(6.0))
            value = add("Div", add("Mul", value, clipped), weight(6.0))
        elif kind == "show" and value != "x":
            shown.append(value)
        elif kind == "flat" and rank == 3 and random.integers(3) == 0:
            order = random.permutation(3) + 1 if random.integers(2) else None
            if order is not None:
                value = add("Transpose", value, perm=[0, *map(int, order)])
            size = int(np.prod(shape))
            flat = weight(np.array([-1, size])) if random.integers(2) else ""
            value = add("Reshape", value, flat) if flat else add("Flatten", value)
            shape = [size]
    outputs = [add("Identity", value), *dict.fromkeys(shown)]
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("seed", range(80))
def test_structure_passes_keep_what_random_networks_compute(seed: int) -> None:
    assert_computes_the_same(drawn_model(seed), STRUCTURE)


def with_random_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The weights of a light model are constants by ConstantOfShape; here they are random, variances positive."""
    random = np.random.default_rng(0)
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = shapes[node.input[0]]
        data = random.standard_normal(shape, np.float32) / np.sqrt(max(1, np.prod(shape[1:], dtype=np.int64)))
        data = np.abs(data) + 1 if node.output[0] in variances else data
        model.graph.initializer.append(numpy_helper.from_array(data.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = 8  # before 4, what is no input is no initializer either
    return model


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("squeezenet", {"Dropout"}),
        ("shufflenet", {"BatchNormalization"}),
        ("resnet50", {"BatchNormalization"}),
        ("densenet121", {"Unsqueeze"}),
        ("inception_v2", {"BatchNormalization", "Mul", "Add", "Unsqueeze"}),
    ],
)
def test_structure_passes_keep_what_known_networks_compute(name: str, gone: set[str]) -> None:
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    assert gone <= {node.op_type for node in model.graph.node}
    after = assert_computes_the_same(with_random_weights(model), STRUCTURE, seeds=1)
    assert not gone & {node.op_type for node in after.graph.node}


def test_as_a_pass_of_onnx_ir() -> None:
    pipelines = ["fuse-batchnorm", "fuse-activations,remove-dead"]
    result = onnx_ir.passes.Sequential(*map(as_onnx_ir_pass, pipelines))(onnx_ir.from_proto(RESIDUAL))
    assert result.modified
    after = onnx_ir.to_proto(result.model)
    assert [node.op_type for node in after.graph.node].count("BatchNormalization") == 0
    feeds = feeds_of(RESIDUAL, 0)
    assert np.allclose(session(RESIDUAL).run(None, feeds)[0], session(after).run(None, feeds)[0], atol=1e-5)


def test_as_a_pass_of_onnx_ir_that_finds_nothing() -> None:
    assert not as_onnx_ir_pass("fuse-batchnorm")(onnx_ir.from_proto(VIEW)).modified


def test_as_a_pass_of_onnx_ir_names_an_unknown_pass_at_once() -> None:
    with pytest.raises(CompileError, match="there is no pass 'fuse-batch'"):
        as_onnx_ir_pass("fuse-batch")


def test_formats_are_kept_in_the_models_metadata() -> None:
    after = passes.run(onnx.load(LENET), f"{STRUCTURE},annotate-formats,derive-accumulators")
    found = {entry.key: entry.value for entry in after.metadata_props}
    assert found["bitwright.format.conv1.weight"].startswith("FIXED<8")
    again = from_model(after)
    assert str(again.values["conv1.weight"].tensor_type.format) == found["bitwright.format.conv1.weight"]
    assert DeriveAccumulators().run(run_passes(again, "fuse-activations"), Context())
