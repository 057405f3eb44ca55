"""Pools of ONNX become those of hardware, in ceil mode too, as onnxruntime computes them."""

from __future__ import annotations

import onnx
import pytest
from onnx_models import OPSETS, assert_same_outputs, feeds, lowers, model, run, stays

from bitwright.ir.onnx.read import from_model
from bitwright.ir.ops import window_extent
from bitwright.ir.verify import verify


@pytest.mark.parametrize("opset", OPSETS)
def test_pools(opset: int) -> None:
    made = model("float[2,3,8,9] x", "y = MaxPool <kernel_shape=[2,3]> (x)", opset=opset)
    lowers(made, "%y = maxpool2d(%x) {kernel=[2,3]} : f32[2,3,7,7]")
    made = model("float[2,3,8,9] x", "y = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,1]> (x)", opset=opset)
    lowers(made, "%y = maxpool2d(%x) {kernel=[3,3], pads=[1,0,1,1], strides=[2,2]} : f32[2,3,4,4]")
    body = "y = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,1]> (x)"
    lowers(
        model("float[2,3,8,9] x", body, opset=opset),
        "%y = avgpool2d(%x) {kernel=[3,3], pads=[1,0,1,1], strides=[2,2]} : f32[2,3,4,4]",
    )
    lowers(
        model("float[2,3,8,9] x", body.replace("<", "<count_include_pad=1, "), opset=opset),
        "%y = avgpool2d(%x) {count_pads=1, kernel=[3,3], pads=[1,0,1,1], strides=[2,2]} : f32[2,3,4,4]",
    )
    body = "y = AveragePool <count_include_pad=1, kernel_shape=[3,3]> (x)"
    lowers(model("float[2,3,8,9] x", body, opset=opset), "%y = avgpool2d(%x) {kernel=[3,3]} : f32[2,3,6,7]")
    made = model("float[2,3,8,9] x", "y = GlobalAveragePool (x)", opset=opset)
    lowers(made, "%y = globalavgpool(%x) : f32[2,3,1,1]")


@pytest.mark.parametrize("size", [4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("pads", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_ceil_mode_is_onnxruntimes(size: int, pads: tuple[int, int]) -> None:
    for kernel in (2, 3):
        for stride in (1, 2, 3):
            attributes = f"kernel_shape=[{kernel},2], strides=[{stride},2], pads=[{pads[0]},0,{pads[1]},0]"
            pool = f"MaxPool <ceil_mode=1, {attributes}> (x)"
            made = model(f"float[1,2,{size},7] x", f"y = {pool}")
            shape = run(made, feeds(made))[0].shape
            assert shape[2] == window_extent(size, kernel, stride, *pads, 1, True)
            graph = from_model(made)
            verify(graph)
            assert_same_outputs(made, graph)
            inferred = onnx.shape_inference.infer_shapes(made).graph.output[0].type.tensor_type.shape.dim[2]
            if inferred.dim_value == shape[2]:  # onnx counts a last window that is all padding, onnxruntime does not
                assert graph.nodes[0].op == "maxpool2d"
                assert graph.nodes[0].attributes["ceil"] == 1
                assert graph.values["y"].tensor_type.shape == shape
            inside = model(f"float[1,2,{size},7] x", f"p = {pool}  f = Flatten (p)  y = Relu (f)")
            assert_same_outputs(inside, from_model(inside))  # even where onnx infers another shape than there is


def test_dilated_pools() -> None:
    made = model("float[1,2,9,9] x", "y = MaxPool <kernel_shape=[2,2], dilations=[2,3]> (x)")
    lowers(made, "%y = maxpool2d(%x) {dilations=[2,3], kernel=[2,2]} : f32[1,2,7,6]")
    made = model("float[1,2,9,9] x", "y = AveragePool <kernel_shape=[2,2], dilations=[2,3]> (x)", opset=19)
    lowers(made, "%y = avgpool2d(%x) {dilations=[2,3], kernel=[2,2]} : f32[1,2,7,6]")


def test_pools_that_stay() -> None:
    for opset in (9, 11):
        body = "y, i = MaxPool <kernel_shape=[2,2]> (x)"
        stays(model("float[1,2,8,8] x", body, opset=opset, output="float[] y, int64[] i"), "MaxPool")
    body = "y = MaxPool <kernel_shape=[2,2], storage_order=1> (x)"
    stays(model("float[1,2,8,8] x", body), "MaxPool")
    stays(
        model("float[1,2,7,7] x", "y = AveragePool <kernel_shape=[2,2], strides=[2,2], ceil_mode=1> (x)"), "AveragePool"
    )
    for op in ("MaxPool", "AveragePool"):
        stays(model("float[1,2,8] x", f"y = {op} <kernel_shape=[2]> (x)"), op)
        stays(model("float[1,2,8,8,8] x", f"y = {op} <kernel_shape=[2,2,2]> (x)"), op)
    stays(model("float[1,2,8] x", "y = GlobalAveragePool (x)"), "GlobalAveragePool")
    stays(model("uint8[1,2,8,8] x", "y = MaxPool <kernel_shape=[2,2]> (x)", output="uint8[] y"), "MaxPool")
    made = model("float[1,2,8,8] x", "y, i = MaxPool <kernel_shape=[2,2]> (x)")  # the indices are not read, but made
    stays(made, "MaxPool")
