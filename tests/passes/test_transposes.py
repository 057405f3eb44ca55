"""cancel-transposes on inputs with channels last: whatever works on each number, the transpose is at the input."""

from __future__ import annotations

import numpy as np
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from bitwright.backends.hls.stages import why_not
from bitwright.backends.simulation.run import Simulation
from bitwright.ir.onnx.read import from_model
from bitwright.ir.verify import verify
from bitwright.passes import STRUCTURE, run_passes

SIDES = {"": (), "c": (3,), "hwc": (4, 5, 3), "1hwc": (1, 4, 5, 3)}
steps = st.lists(
    st.tuples(st.sampled_from(["Add", "Mul", "Sub", "Div", "Relu"]), st.sampled_from(list(SIDES))), max_size=3
)


@settings(max_examples=25, deadline=None)
@given(before=steps, after=steps)
def test_the_transpose_of_an_input_with_channels_last_is_at_the_input(
    before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    """Constants of a tensor, a channel or an element, on the side of the input or of the image."""
    rng = np.random.default_rng(0)
    lines, weights = [], {"w": rng.standard_normal((2, 3, 3, 3)).astype(np.float32)}

    def add(line: str) -> str:
        lines.append(f"v{len(lines)} = {line}")
        return f"v{len(lines) - 1}"

    value = "x"
    for where, points in (("input", before), ("image", after)):
        for op, side in points:
            constant = rng.uniform(0.5, 2, SIDES[side]).astype(np.float32)
            if where == "image" and constant.ndim:
                constant = np.moveaxis(constant.reshape((1,) * (4 - constant.ndim) + constant.shape), -1, 1)
            name = f"k{len(weights)}"
            value = add(f"Relu ({value})" if op == "Relu" else f"{op} ({value}, {name})")
            weights |= {} if op == "Relu" else {name: constant}
        value = add(f"Transpose <perm=[0,3,1,2]> ({value})") if where == "input" else value
    lines.append(f"y = Conv ({value}, w)")
    text = " ".join(lines)
    made = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 13]> g (float[N,4,5,3] x) => (float[N,2,2,3] y) {{ {text} }}'
    )
    made.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())

    graph = run_passes(from_model(made), STRUCTURE)
    verify(graph)
    assert graph.nodes[0].op == "transpose"
    assert [why_not(node) for node in graph.nodes] == [None] * len(graph.nodes)
    x = rng.standard_normal((2, 4, 5, 3)).astype(np.float32)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    np.testing.assert_allclose(Simulation(graph).run({"x": x})["y"], wanted, rtol=1e-4, atol=1e-4)
