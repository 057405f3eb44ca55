"""Formats of ml_dtypes, of onnxruntime and of the ap_fixed of the HLS headers, bit for bit."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from bitwright.ir.formats import Affine, Canonical, fixed, parse


def spread(dtype: np.dtype[np.generic], low: float, high: float) -> np.ndarray:
    """Random numbers over all binades from low to high, the ends and 0 among them."""
    random = np.random.default_rng(7)
    sizes = np.exp2(random.uniform(np.log2(low), np.log2(high), 100_000))
    x = np.concatenate([sizes * random.choice([-1, 1], sizes.size), [0.0, -0.0, low, -low, high, -high]])
    return x.astype(dtype)


@pytest.mark.parametrize(
    ("text", "theirs", "largest"),
    [
        ("FLOAT<16,E=8>", ml_dtypes.bfloat16, 3.3e38),
        ("FLOAT 16", np.float16, 65504.0),
        ("FLOAT 8", ml_dtypes.float8_e4m3, 240.0),
        ("FLOAT 8", ml_dtypes.float8_e4m3fn, 448.0),
        ("FLOAT<8,E=5>", ml_dtypes.float8_e5m2, 57344.0),
        ("FLOAT<8,E=3>", ml_dtypes.float8_e3m4, 15.5),
        ("FLOAT<6,E=2>", ml_dtypes.float6_e2m3fn, math.inf),
        ("FLOAT<6,E=3>", ml_dtypes.float6_e3m2fn, math.inf),
        ("FLOAT<4,E=2>", ml_dtypes.float4_e2m1fn, math.inf),
    ],
)
def test_small_floats_are_theirs_bit_for_bit(text: str, theirs: type, largest: float) -> None:
    f = parse(text)
    assert isinstance(f, Canonical)
    # ml_dtypes goes from float64 through float32, which rounds twice; from float32 it rounds once
    dtype = np.dtype(np.float64 if theirs is np.float16 else np.float32)
    with np.errstate(over="ignore"):
        values = f.decode(np.arange(1 << f.width)).astype(dtype)
    ours = np.sort(values[np.abs(values) <= largest])
    middles = ours[:-1] + np.diff(ours) / 2
    points = np.concatenate([ours, middles, *(np.nextafter(middles, dtype.type(end)) for end in (-np.inf, np.inf))])
    random = spread(dtype, float(f.step) / 8, min(float(f.max), largest))
    assert ours.size > 0.8 * values.size
    for x in (points, random):
        wanted = x.astype(theirs)
        assert np.array_equal(f.quantize(x), wanted.astype(np.float64))
        assert np.array_equal(f.encode(x), wanted.view(np.uint16 if f.width == 16 else np.uint8))


AP_FIXED = [
    (2, 0), (2, 2), (3, -3), (4, 1), (5, 4), (6, -1), (7, -5), (8, 0), (8, 3), (8, -4),
    (9, -2), (10, 1), (11, 0), (12, -4), (14, 6), (16, 0), (16, -6), (18, -1), (20, -8), (24, 0), (32, -3),
]  # fmt: skip
PROGRAM = """
#include <cstdio>
#include <vector>
#include "ap_fixed.h"
template <int N, int I> void convert(const std::vector<double>& x) {{
    std::vector<double> y;
    for (double value : x) y.push_back(ap_fixed<N, I, AP_RND_CONV, AP_SAT_SYM>(value).to_double());
    std::fwrite(y.data(), sizeof(double), y.size(), stdout);
}}
int main() {{
    std::vector<double> x({count});
    if (std::fread(x.data(), sizeof(double), x.size(), stdin) != x.size()) return 1;
    {calls}
}}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: apt-get install g++")
def test_fixed_is_ap_fixed_with_a_symmetric_range(ap_headers: Path, tmp_path: Path) -> None:
    """FIXED(N) with bias B is ap_fixed<N, 2-B, AP_RND_CONV, AP_SAT_SYM>."""
    random = np.random.default_rng(3)
    sizes = np.exp2(random.uniform(-30, 16, 60_000)) * random.choice([-1, 1], 60_000)
    ties = random.integers(-(2**15), 2**15, 40_000) / np.exp2(random.integers(0, 30, 40_000))
    x = np.concatenate([sizes, ties])
    calls = "\n    ".join(f"convert<{n}, {2 - bias}>(x);" for n, bias in AP_FIXED)
    source, binary_file = tmp_path / "convert.cpp", tmp_path / "convert"
    source.write_text(PROGRAM.format(count=x.size, calls=calls))
    command = ["g++", "-std=c++14", "-O1", "-w", f"-I{ap_headers}", str(source), "-o", str(binary_file)]
    subprocess.run(command, check=True)
    output = subprocess.run([str(binary_file)], input=x.tobytes(), stdout=subprocess.PIPE, check=True).stdout
    theirs = np.frombuffer(output).reshape(len(AP_FIXED), x.size)
    for (n, bias), wanted in zip(AP_FIXED, theirs, strict=True):
        f = fixed(n, bias)
        found = f.quantize(x)
        differ = np.flatnonzero(found != wanted)
        assert not differ.size, f"{f}: {x[differ[:3]]} gave {found[differ[:3]]}, ap_fixed {wanted[differ[:3]]}"
        steps = x / float(f.step)
        assert np.count_nonzero(np.abs(steps) % 1 == 0.5) > 100, f"{f} saw no ties"
        assert np.count_nonzero(np.abs(wanted) == f.max) > 100, f"{f} never saturated"


def quantize_model(dtype: int, scale: np.ndarray, zero: np.ndarray, axis: int) -> onnxruntime.InferenceSession:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis),
    ]
    graph = helper.make_graph(
        nodes,
        "affine",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("q", dtype, None), helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(zero, "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_affine_is_quantizelinear(signed: bool, axis: int | None) -> None:
    random = np.random.default_rng(5)
    shape = (3, 40, 50)
    count = 1 if axis is None else shape[axis]
    kind = np.int8 if signed else np.uint8
    scale = random.uniform(0.005, 0.3, count).astype(np.float32)
    scale[0] = 0.25  # x / 0.25 meets ties
    zero = random.integers(np.iinfo(kind).min, np.iinfo(kind).max, count, endpoint=True).astype(kind)
    x = (random.standard_normal(shape) * 40).astype(np.float32)
    x = np.where(random.random(shape) < 0.3, np.round(x * 8) / 8, x).astype(np.float32)
    if axis is None:
        f = Affine(8, float(scale[0]), int(zero[0]), signed)
        scale, zero = scale.reshape(()), zero.reshape(())
    else:
        f = Affine(8, tuple(scale.tolist()), tuple(zero.tolist()), signed, axis)
    proto = onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8
    codes, values = quantize_model(proto, scale, zero, axis or 0).run(None, {"x": x})
    assert np.array_equal(f.encode(x), codes.view(np.uint8))
    assert np.array_equal(f.quantize(x), values)
    assert f.quantize(x).dtype == np.float32
    assert np.array_equal(f.decode(codes.view(np.uint8)).astype(np.float32), values)
    assert {int(codes.min()), int(codes.max())} == {f.low, f.high} == {np.iinfo(kind).min, np.iinfo(kind).max}


def test_affine_spanning_is_the_papers_quantisation() -> None:
    """Zero = min W, Scale = (max W - Zero) / (2^n - 1), W_Q = (W - Zero) / Scale, W* = W_Q Scale + Zero."""
    random = np.random.default_rng(9)
    for bits in (1, 2, 3, 4, 8, 12):
        for axis in (None, 0, 1):
            w = random.normal(0.2, 0.5, (6, 7))
            axes = None if axis is None else tuple(i for i in range(2) if i != axis)
            low, high = w.min(axes, keepdims=True), w.max(axes, keepdims=True)
            scale = (high - low) / (2**bits - 1)
            codes = np.rint((w - low) / scale)
            f = Affine.spanning(bits, low.squeeze(), high.squeeze(), axis)
            assert f.axis == axis
            assert np.array_equal(f.encode(w), codes)
            np.testing.assert_allclose(f.quantize(w), codes * scale + low, rtol=0, atol=1e-12)
            np.testing.assert_allclose(f.decode(f.encode(w)), f.quantize(w), rtol=0, atol=1e-12)
            assert f.encode(w).max() == 2**bits - 1
            assert f.encode(w).min() == 0
            assert np.abs(f.quantize(w) - w).max() <= scale.max() / 2 + 1e-12


def test_a_narrow_range_leaves_out_one_end() -> None:
    x = np.array([-1000.0, -128.0, -127.0, 0.0, 127.0, 254.0, 255.0, 1000.0])
    for signed, low, high in ((True, -127, 127), (False, 0, 254)):
        f = Affine(8, 1.0, 0, signed, narrow=True)
        assert (f.low, f.high) == (low, high)
        assert np.array_equal(f.quantize(x), np.clip(x, low, high))
        assert np.array_equal(f.decode(f.encode(x)), np.clip(x, low, high))
    assert parse("AFFINE<8,scale=1,signed,narrow>") == Affine(8, 1.0, 0, True, narrow=True)
    assert str(Affine(8, 1.0, 0, narrow=True)) == "AFFINE<8,scale=1,narrow>"


def test_affine_spanning_one_number() -> None:
    f = Affine.spanning(4, 3.0, 3.0)
    assert f.quantize(np.array([3.0, 3.0])).tolist() == [3.0, 3.0]
