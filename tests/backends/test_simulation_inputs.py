"""What a simulation takes and gives: any number of samples, a network that is cut, inputs that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulated import SMALL, images, network

from bitwright.backends.simulation.run import Simulation, batch_of
from bitwright.ir.errors import CompileError
from bitwright.ir.evaluate import evaluate
from bitwright.ir.parse import parse
from bitwright.passes import STRUCTURE, run_passes

# cut


@pytest.mark.parametrize("start", range(0, 60, 10))
def test_a_cut_network_gives_what_the_whole_gives(start: int) -> None:
    for seed in range(start, start + 10):
        graph = network(seed)
        simulation = Simulation(graph, 1)
        whole = simulation.run(images(seed))
        for position in range(1, len(graph.nodes)):
            after = graph.nodes[position:]
            shown = {id(output.value) for output in graph.outputs}
            made = [*graph.inputs, *(node.result for node in graph.nodes[:position])]
            border = [v.name for v in made if id(v) in shown or any(node in after for node, _ in v.uses)]
            inner = simulation.run(images(seed), wanted=border)
            found = simulation.run(inner, given=border, wanted=[output.value.name for output in graph.outputs])
            for output in graph.outputs:
                assert np.array_equal(found[output.value.name], whole[output.name]), f"seed {seed}, {border}\n{graph}"


def test_given_numbers_are_brought_to_their_format() -> None:
    simulation = Simulation(parse(SMALL), 1)
    x = images(0)["image"] + np.float32(0.001)
    assert np.array_equal(simulation.run({"x": x}, given=["x"])["scores"], simulation.run({"image": x})["scores"])


def test_inputs_and_the_same_value_twice_may_be_wanted() -> None:
    simulation = Simulation(parse(SMALL.replace('as "image" ', "")), 1)
    found = simulation.run({"x": images(0)["image"]}, wanted=["x", "fc", "x"])
    assert list(found) == ["x", "fc"]
    assert np.array_equal(found["x"], evaluate(simulation.graph, {"x": images(0)["image"]}, ["x"])["x"])


# any number of samples


def test_any_number_of_samples_in_pieces() -> None:
    graph = parse(SMALL)
    x = images(0, 23)["image"]
    whole = Simulation(graph, 1).run({"image": x})["scores"]
    for batch, bake_from in ((1, 10**9), (7, 10**9), (23, 10**9), (5, 1), (100, 1)):
        found = Simulation(graph, 1, batch, bake_from).run({"image": x})["scores"]
        assert np.array_equal(found, whole), (batch, bake_from)


def test_no_samples_give_no_scores() -> None:
    assert Simulation(parse(SMALL), 1).run(images(0, 0))["scores"].shape == (0, 4)


def test_inputs_that_are_no_batch_go_whole() -> None:
    text = """graph @g {
      input %x : FIXED<6,B=-2>[N,3]
      input %scale : f32[]
      input %shift : f32[3]
      %m = mul(%x, %scale) : f32[N,3]
      %y = add(%m, %shift) : FIXED<8,B=-3>[N,3]
      %n = mul(%scale, %scale) : f32[]
      output %y
      output %n
    }"""
    x = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
    inputs = {"x": x, "scale": np.array(0.5, np.float32), "shift": np.array([1, 2, 3], np.float32)}
    found = Simulation(parse(text), 1, batch=2).run(inputs)
    wanted = evaluate(parse(text), inputs)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def perceptron(features: int, hidden: int) -> str:
    return f"""graph @g {{
      input %x : f32[N,{features}]
      weight %v = 00000001 : f32[{hidden},{features}]
      weight %w = 00000002 : f32[5,{hidden}]
      %a = dense(%x, %v) {{act=relu}} : f32[N,{hidden}]
      %y = dense(%a, %w) : f32[N,5]
      output %y
    }}"""


@pytest.mark.parametrize(
    ("features", "hidden", "batch"), [(16, 64, 1600), (700, 500, 200), (64, 1310, 200), (9000, 5, 50)]
)
def test_small_perceptrons_go_many_at_a_time(features: int, hidden: int, batch: int) -> None:
    """As many as keep the largest value below a megabyte of float32, in steps of two, from 50 to 1,600."""
    assert batch_of(parse(perceptron(features, hidden))) == batch
    assert batch == 50 or 4 * batch * max(features, hidden) <= 1 << 20


def test_windows_go_a_few_at_a_time() -> None:
    assert batch_of(parse(STATIC)) == batch_of(parse(SMALL)) == 50


@pytest.mark.parametrize(("channels", "batch"), [(8, 50), (96, 12), (100_000, 1)])
def test_large_images_go_fewer_at_a_time(channels: int, batch: int) -> None:
    """As many as keep the largest value below 64 MB of float32, halved from 50 to one."""
    text = f"""graph @wide {{
      input %x : f32[N,3,224,224]
      weight %w = 00000001 : f32[{channels},3,2,2]
      %y = conv2d(%x, %w) {{kernel=[2,2], strides=[2,2]}} : f32[N,{channels},112,112]
      output %y
    }}"""
    assert batch_of(parse(text)) == batch


STATIC = """graph @static {
  opset ai.onnx=17
  input %x as "image" : f32[1,2,7,7]
  weight %w = 00000001 : f32[4,2,3,3]
  weight %v = 00000002 : f32[5,100]
  %conv = conv2d(%x, %w) {kernel=[3,3]} : f32[1,4,5,5]
  %flat = reshape(%conv) {shape=[1,100]} : f32[1,100]
  %fc = dense(%flat, %v) : f32[1,5]
  output %fc as "scores"
}"""


def test_a_network_exported_for_one_sample_takes_many_after_normalise() -> None:
    x = images(0, 6)
    graph = run_passes(parse(STATIC), f"{STRUCTURE},annotate-formats{{input_max=2}}")
    single = [Simulation(graph, 1).run({"image": x["image"][i : i + 1]})["scores"] for i in range(6)]
    for simulation in (Simulation(graph, 1), Simulation(graph, 1, bake_from=1), Simulation(graph, 1, batch=4)):
        assert np.array_equal(simulation.run(x)["scores"], np.concatenate(single))
    assert np.array_equal(evaluate(graph, x)["scores"], np.concatenate(single))


def test_a_network_for_one_sample_says_so_before_normalise() -> None:
    with pytest.raises(CompileError) as error:
        Simulation(parse(STATIC), 1).run(images(0, 6))
    assert error.value.message.startswith("onnxruntime does not run @static on these inputs: ")
    assert error.value.help == "a network that was exported for one sample takes more after the pass normalise"


def test_numbers_of_other_types_become_float32() -> None:
    graph = parse(SMALL)
    pixels = np.random.default_rng(0).integers(0, 4, (2, 2, 7, 7))
    wanted = Simulation(graph, 1).run({"image": pixels.astype(np.float32)})["scores"]
    for dtype in (np.float64, np.uint8, np.int64):
        assert np.array_equal(Simulation(graph, 1).run({"image": pixels.astype(dtype)})["scores"], wanted)


TAKES = "the model takes FIXED<8,B=-2>[N,2,7,7]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": {"a": np.ones(1), "b": np.ones(1)}}, 'input "image" is missing; given: a, b'),
        ({"inputs": {"image": np.ones((1, 7, 7))}}, f'input "image" has shape [1, 7, 7], {TAKES}'),
        ({"inputs": {}, "wanted": ["conv9"]}, 'input "image" is missing; given: nothing'),
        ({"inputs": images(0), "wanted": ["conv9"]}, "@small has no value %conv9"),
        ({"inputs": {"conv9": 1}, "given": ["conv9"]}, "@small has no value %conv9"),
        ({"inputs": {"x": 1}, "given": ["conv"]}, "%conv is given no numbers; given: x"),
        ({"inputs": {"x": np.ones((1, 4))}, "given": ["x"]}, f'input "x" has shape [1, 4], {TAKES}'),
        ({"inputs": {"flat": np.ones((1, 12))}, "given": ["flat"], "wanted": ["conv"]}, "%x is needed and not given"),
    ],
)
def test_inputs_that_do_not_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CompileError) as error:
        Simulation(parse(SMALL), 1).run(**arguments)
    assert error.value.message == message


def test_an_activation_with_a_format_a_channel_is_refused() -> None:
    graph = parse("graph @g { input %x : FIXED<8,B={0,1}@1>[N,2]\n output %x }")
    with pytest.raises(CompileError, match=r"^%x: an activation has one format, not one a channel$"):
        Simulation(graph, 1)


def test_what_onnxruntime_does_not_take_is_said() -> None:
    graph = parse("graph @g { opset ai.onnx=17\n input %x : f32[N,2]\n %y = onnx.Nonsense(%x) : f32[N,2]\n output %y }")
    with pytest.raises(CompileError, match=r"^onnxruntime does not run this network: "):
        Simulation(graph, 1).run({"x": np.ones((1, 2), np.float32)})
