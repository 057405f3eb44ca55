"""Mistakes in a text, in the data beside it and in a file show their place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from graph_text import graph
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import graphs

from bitwright.ir.errors import CompileError
from bitwright.ir.files import load, save
from bitwright.ir.graph import Graph
from bitwright.ir.parse import parse, parse_type
from bitwright.ir.tensor import Tensor
from bitwright.ir.text import to_text


def fails(text: str, line: int, column: int, message: str, arrays: dict[str, np.ndarray] | None = None) -> None:
    with pytest.raises(CompileError) as caught:
        parse(text, arrays, "net.ir")
    shown = text.split("\n")[line - 1]
    assert str(caught.value) == f"net.ir:{line}:{column}: {message}\n{shown}\n{' ' * (column - 1)}^"


START = "input, weight, output, a table or %result = op(...) expected"


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, '"graph" expected'),
        ("hello", 1, 1, '"graph" expected'),
        ("graphs @g {}", 1, 1, '"graph" expected'),
        ("graph g {}", 1, 7, '"@" expected'),
        ("graph @{}", 1, 8, "a graph's name expected"),
        ('graph @"g {}', 1, 8, "a quoted string expected"),
        ("graph @g\n", 2, 1, '"{" expected'),
        ("graph @g {", 1, 11, START),
        ("graph @g {}\n}", 2, 1, "something stands after the graph"),
        ("graph @g {}\n// a comment\n graph", 3, 2, "something stands after the graph"),
    ],
)
def test_what_is_wrong_with_a_text(text: str, line: int, column: int, message: str) -> None:
    fails(text, line, column, message)


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("nonsense", 1, START),
        ("x = relu(%y) : f32[1]", 1, START),
        ("opset =1", 7, "a domain expected"),
        ("opset ai.onnx 1", 15, '"=" expected'),
        ("opset ai.onnx=x", 15, "a version expected"),
        ("meta a = b", 6, "a quoted string expected"),
        ('meta "a" "b"', 10, '"=" expected'),
        ('meta "a" = "b', 12, "a quoted string expected"),
        ("# = [1]", 3, "a table's name expected"),
        ("#t [1]", 4, '"=" expected'),
        ("#t = 1", 6, '"[" expected'),
        ("#t = [1 x]", 9, "a number expected"),
        ("input x : f32[1]", 7, "a value's name expected"),
        ("input %x f32[1]", 10, '":" expected'),
        ("input %x as y : f32[1]", 13, "a quoted string expected"),
        ("input %a : f32[1]", 7, "%a is defined twice"),
        ("weight %a = [1] : i64[1]", 8, "%a is defined twice"),
        ("%a = relu(%a) : f32[1]", 1, "%a is defined twice"),
        ("%y, %y = onnx.Two(%a) : f32[1], f32[1]", 5, "%y is defined twice"),
        ("weight %w : f32[1]", 1, "a weight has data and a tensor's type"),
        ("weight %w = 4b556be : f32[1]", 13, "a hash of 8 digits or a list expected"),
        ("weight %w = 4b556beff : f32[1]", 13, "a hash of 8 digits or a list expected"),
        ("weight %w = [1,] : i64[1]", 16, "a number expected"),
        ("weight %w = [1 2] : i64[2]", 16, '"," expected'),
        ("weight %w = [1] : i64[N]", 8, "data need a tensor's type with every dimension known"),
        ("weight %w = [1] : i64[*]", 8, "data need a tensor's type with every dimension known"),
        ("weight %w = [1] : seq<i64[1]>", 8, "data need a tensor's type with every dimension known"),
        ("input %w = [1] : ?", 7, "data need a tensor's type with every dimension known"),
        ("weight %w = [1,2] : i64[3]", 1, "2 numbers for shape [3]"),
        ("weight %w = [1,2] : i64[]", 1, "2 numbers for shape []"),
        ("weight %w = [1.5] : i64[1]", 1, "the list is no data of type i64[1]"),
        ("weight %w = [nan] : u8[1]", 1, "the list is no data of type u8[1]"),
        ("weight %w = [256] : u8[1]", 1, "the list is no data of type u8[1]"),
        ("weight %w = [-1] : u64[1]", 1, "the list is no data of type u64[1]"),
        ("weight %w = [1] : str[1]", 1, "the list is no data of type str[1]"),
        ("weight %w = [1] : c64[1]", 1, "the list is no data of type c64[1]"),
        ("output y", 8, "a value's name expected"),
        ("output %y", 8, "%y is not defined above"),
        ("output %a as y", 14, "a quoted string expected"),
        ("%y relu(%a) : f32[1]", 4, '"=" expected'),
        ("%y = (%a) : f32[1]", 6, "an op expected"),
        ("%y = relu %a : f32[1]", 11, '"(" expected'),
        ("%y = relu(a) : f32[1]", 11, "a value's name expected"),
        ("%y = relu(%b) : f32[1]", 11, "%b is not defined above"),
        ("%y = relu(%y) : f32[1]", 11, "%y is not defined above"),
        ("%y = add(%a %a) : f32[1]", 13, '"," expected'),
        ("%y = relu(%a) f32[1]", 15, '":" expected'),
        ("%y = relu(%a) {1=2} : f32[1]", 16, "an attribute's name expected"),
        ("%y = relu(%a) {k} : f32[1]", 17, '"=" expected'),
        ("%y = relu(%a) {k=} : f32[1]", 18, "an attribute's value expected"),
        ("%y = relu(%a) {k=1 l=2} : f32[1]", 20, '"," expected'),
        ("%y = relu(%a) {k=[1 2]} : f32[1]", 21, '"," expected'),
        ('%y = relu(%a) {k="x} : f32[1]', 18, "a quoted string expected"),
        ('%y = relu(%a) {k=b"0f0"} : f32[1]', 20, "pairs of hexadecimal digits expected"),
        ('%y = relu(%a) {k=b"xy"} : f32[1]', 20, "pairs of hexadecimal digits expected"),
        ("%y = relu(%a) {k=tensor<x>} : f32[1]", 25, "a hash of 8 digits or a list expected"),
        ("%y = relu(%a) {k=tensor<[1]>} : f32[1]", 28, '":" expected'),
        ("%y = relu(%a) {k=tensor<[1] : i64[1]} : f32[1]", 37, '">" expected'),
        ("%y = relu(%a) {k=tensor<[1] : ?>} : f32[1]", 25, "a tensor's type expected"),
        ("%y = relu(%a) {k=tensor<[1,2] : i64[1]>} : f32[1]", 25, "2 numbers for shape [1]"),
        ("%y = relu(%a) {k=type<f32[1]} : f32[1]", 29, '">" expected'),
        ("%y = relu(%a) {k=graph x} : f32[1]", 24, '"@" expected'),
        ("%y = onnx.If(%a) {k=graph @g { output %y }} : f32[1]", 39, "%y is not defined above"),
        ("%y = onnx.If(%a) {k=graph @g { input %a : f32[1] }} : f32[1]", 38, "%a is defined twice"),
        (
            "%y = onnx.If(%a) {k=graph @g { input %b : f32[1] }, l=graph @h { input %b : f32[1] }} : f32[1]",
            72,
            "%b is defined twice",
        ),
        ("%y, %z = onnx.Two(%a) : f32[1] f32[1]", 32, '"," expected'),
        ("input %x : 1", 12, "a type expected"),
        ("input %x : float[1]", 12, "there is no type float"),
        ("input %x : f32 1", 16, '"[" expected'),
        ("input %x : f32[1 2]", 18, '"," expected'),
        ("input %x : f32[.]", 16, "a dimension expected"),
        ("input %x : f32[*,1]", 17, '"]" expected'),
        ("input %x : seq f32[1]", 16, '"<" expected'),
        ("input %x : map<i64[], f32[1]]", 29, '">" expected'),
        ("input %x : FOO<3>[1]", 12, "\"FOO<3>\": there is no number kind 'FOO'"),
        ("input %x : FIXED<8,B=x>[1]", 12, '"FIXED<8,B=x>" is not a number format'),
        ("input %x : FIXED<8,B=#t@0>[1]", 12, '"FIXED<8,B=#t@0>": there is no table #t'),
        ("input %x : FIXED<99>[1]", 12, "FIXED<99>: its values do not all fit in a 64-bit float"),
    ],
)
def test_what_is_wrong_with_a_line(line: str, column: int, message: str) -> None:
    fails(graph("input %a : f32[1]", line), 3, column + 2, message)


def test_what_is_wrong_with_the_data_beside() -> None:
    data = np.arange(20, dtype=np.float32)
    key = Tensor(data).key
    text = graph(f"weight %w = {key} : f32[20]")
    parse(text, {"w": data})
    fails(text, 2, 3, "%w has no data in the file beside", {"v": data})
    other = Tensor(data + 1).key
    fails(text, 2, 3, f"%w: the data in the file beside have hash {other} and shape [20]", {"w": data + 1})
    other = Tensor(data[1:]).key
    fails(text, 2, 3, f"%w: the data in the file beside have hash {other} and shape [19]", {"w": data[1:]})
    other = Tensor(data.astype(np.float64)).key
    wrong = {"w": data.astype(np.float64)}
    fails(text, 2, 3, f"%w: the data in the file beside have hash {other} and shape [20]", wrong)
    text = graph(f"weight %w = {key} : bf16[20]")
    with pytest.raises(CompileError, match=r"net\.ir:2:3: %w: the data in the file beside are damaged: When changing"):
        parse(text, {"w": np.zeros(7, np.uint8)}, "net.ir")
    text = graph(f"weight %w = {key} : str[2]")
    with pytest.raises(CompileError, match=r"net\.ir:2:3: %w: the data in the file beside are damaged: Expecting"):
        parse(text, {"w": np.frombuffer(b"[1", np.uint8)}, "net.ir")
    text = graph(f"%y = onnx.Foo() {{k=tensor<{key} : f32[20]>}} : ?")
    fails(text, 2, 29, f"%{key} has no data in the file beside", {})


def test_a_type_alone() -> None:
    for text in ("f32[1,N]", "FIXED<8,B={1,2}@0>[2]", "seq<?>", "?", "i64[]"):
        assert str(parse_type(text)) == text
    with pytest.raises(CompileError) as caught:
        parse_type("f32[1] x")
    assert str(caught.value) == "<type>:1:8: something stands after the type\nf32[1] x\n       ^"


@settings(max_examples=500)
@given(st.text("graph@{}input weight%xy=[1,2]:f32<>#tFIXED<8,B=\"\\b'()\n/_.onnx-?*", max_size=60))
def test_any_text_is_a_graph_or_a_compile_error(text: str) -> None:
    for whole in (text, graph("input %x : f32[2]", text)):
        try:
            found = parse(whole)
        except CompileError:
            continue
        printed = to_text(found)
        assert to_text(parse(printed)) == printed


@settings(max_examples=60)
@given(graphs(), st.data())
def test_a_damaged_text_is_a_graph_or_a_compile_error(made: Graph, data: st.DataObject) -> None:
    text = to_text(made)
    for _ in range(5):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 5)))
        put = data.draw(st.text('%x=[]{}()<>"#:,.-1ab _\\\n', max_size=2))
        with suppress(CompileError):
            parse(text[:start] + put + text[end:])


def test_files_that_hold_no_graph(tmp_path: Path) -> None:
    def refuses(path: Path, message: str, act: Callable[[Path], object] = load) -> None:
        with pytest.raises(CompileError) as caught:
            act(path)
        assert str(caught.value).startswith(f"{path}{message}")

    refuses(tmp_path / "none.ir", ": there is no such file")
    refuses(tmp_path / "none.onnx", ": there is no such file")
    refuses(tmp_path, ": is a folder, not a network")
    made = parse(graph("weight %w = 4b556bef : f32[20]", "output %w"))
    refuses(tmp_path / "net.txt", ": a graph is saved as .onnx or .ir", lambda path: save(made, path))
    path, beside = tmp_path / "net.ir", tmp_path / "net.npz"
    path.write_bytes(b"\xff\xfe")
    refuses(path, ": not a text file")
    path.write_text("graph @g { nothing }")
    refuses(path, f":1:12: {START}")
    path.write_text("graph @g {\n  %y = nothing() : ?\n}\n")
    refuses(path, ": (%y): there is no op nothing")
    save(made, path)
    whole = beside.read_bytes()
    for damage in (b"", b"hello", whole[: len(whole) // 2], whole.replace(b"NUMPY", b"NUMPI")):
        beside.write_bytes(damage)
        with pytest.raises(CompileError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{beside}: not an .npz file, or damaged (")
    np.save(tmp_path / "net.npy", np.zeros(3))
    (tmp_path / "net.npy").rename(beside)
    with pytest.raises(CompileError, match=r"not an \.npz file"):
        load(path)
    beside.unlink()
    weight = load(path).values["w"].tensor
    assert weight is not None
    assert weight.key == "4b556bef" or weight.shape == (20,)
