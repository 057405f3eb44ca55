"""float-inputs: images of uint8 that the network casts and scales itself, as onnxruntime computes them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from bitwright.backends.hls.stages import why_not
from bitwright.backends.simulation.run import Simulation
from bitwright.ir.onnx.read import from_model
from bitwright.ir.verify import verify
from bitwright.passes import Context, run_passes
from bitwright.tuning import PREPARE

ORDERS = {
    "cast first": "f = Cast <to=1> (x)  t = Transpose <perm=[0,3,1,2]> (f)  i = Div (t, k)",
    "cast last": "t = Transpose <perm=[0,3,1,2]> (x)  f = Cast <to=1> (t)  i = Div (f, k)",
    "scaled first": "f = Cast <to=1> (x)  s = Div (f, k)  i = Transpose <perm=[0,3,1,2]> (s)",
}


@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize(("dtype", "element"), [("uint8", "u8"), ("int8", "i8")])
def test_integers_that_are_cast_are_an_input_of_float32(order: str, dtype: str, element: str) -> None:
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> '
        f"g ({dtype}[N,4,5,3] x) => (float[N,2,2,3] y) {{ {ORDERS[order]}  y = Conv (i, w) }}"
    )
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2, 3, 3, 3)).astype(np.float32)
    made.graph.initializer.extend([numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.float32(255), "k")])
    context = Context()
    graph = run_passes(from_model(made), PREPARE, context)
    verify(graph)
    assert [why_not(node) for node in graph.nodes] == [None] * len(graph.nodes)
    assert context.notes == [f"input x of {element} is taken as float32; --data says how far its numbers go"]
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max, (2, 4, 5, 3), dtype, endpoint=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    np.testing.assert_allclose(Simulation(graph).run({"x": x})["y"], wanted, rtol=1e-4, atol=1e-5)
