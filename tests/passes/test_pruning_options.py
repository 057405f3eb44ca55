"""prune-channels: which channels go, how many stay, and what is refused by name."""

from __future__ import annotations

import pytest

from bitwright.ir import formats
from bitwright.ir.errors import CompileError
from bitwright.ir.graph import Graph, Value
from bitwright.ir.parse import parse
from bitwright.ir.tensor import Array
from bitwright.ir.text import to_text
from bitwright.ir.types import Type
from bitwright.passes import Context, run_passes

# which channels


CHAIN = """graph @chain {
  input %x : f32[N,1,2,2]
  weight %w1 = [3.0,-1.0,0.5,2.0] : f32[4,1,1,1]
  weight %w2 = 00000001 : f32[6,4,1,1]
  weight %w3 = 00000002 : f32[2,24]
  %conv1 = conv2d(%x, %w1) {kernel=[1,1]} : f32[N,4,2,2]
  %conv2 = conv2d(%conv1, %w2) {kernel=[1,1]} : f32[N,6,2,2]
  %flat = flatten(%conv2) : f32[N,24]
  %fc = dense(%flat, %w3) : f32[N,2]
  output %fc as "scores"
}
"""


def pruned(text: str, options: str, seed: int = 0) -> Graph:
    return run_passes(parse(text), f"prune-channels{{{options}}}", Context(seed=seed))


def data_of(value: Value) -> Array:
    assert value.tensor is not None
    return value.tensor.data


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("layer=conv1,sparsity=0.5,by=last", [3.0, -1.0]),
        ("layer=conv1,sparsity=0.5", [3.0, 2.0]),
        ("layer=conv1,sparsity=0.74,by=frobenius", [3.0, 2.0]),
        ("layer=conv1,sparsity=0.75,by=frobenius", [3.0]),
        ("layer=conv1,sparsity=1", [3.0]),
        ("layer=conv2,side=input,sparsity=1,by=last", [3.0]),
        ("layer=conv1,sparsity=0.2", [3.0, -1.0, 0.5, 2.0]),
        ("layer=conv2,sparsity=0.5", [3.0, -1.0, 0.5, 2.0]),
    ],
)
def test_which_channels_go(options: str, left: list[float]) -> None:
    assert data_of(pruned(CHAIN, options).values["w1"]).reshape(-1).tolist() == left


def test_layers_that_share_channels_have_one_sparsity_and_one_measure() -> None:
    """Half of two layers' channels go once, and the least are those of both filters' squares."""
    text = """graph @shared {
      input %x : f32[N,2,1,1]
      weight %w1 = [2.0,2.0,3.0,0.0,1.0,0.0,2.5,0.0] : f32[4,2,1,1]
      weight %w2 = [0.0,0.0,0.0,0.1,3.0,0.0,0.0,0.0] : f32[4,2,1,1]
      weight %w3 = 00000001 : f32[2,4,1,1]
      %conv1 = conv2d(%x, %w1) {kernel=[1,1]} : f32[N,4,1,1]
      %conv2 = conv2d(%x, %w2) {kernel=[1,1]} : f32[N,4,1,1]
      %sum = add(%conv1, %conv2) : f32[N,4,1,1]
      %conv3 = conv2d(%sum, %w3) {kernel=[1,1]} : f32[N,2,1,1]
      output %conv3
    }"""
    after = pruned(text, "sparsity=0.5")
    assert data_of(after.values["w1"]).reshape(-1).tolist() == [3.0, 0.0, 1.0, 0.0]


def test_random_channels_follow_the_seed() -> None:
    left = [pruned(CHAIN, "layer=conv2,sparsity=0.5,by=random", seed).values["w2"].tensor for seed in (0, 0, 1, 2, 3)]
    assert left[0] == left[1]
    assert len({tensor.key for tensor in left if tensor}) > 2


def test_every_axis_keeps_one() -> None:
    """The last four channels of conv3 are all that conv2 makes: one of them stays, and one more of the others goes."""
    text = """graph @both {
      input %x : f32[N,1,1,1]
      weight %w1 = 00000001 : f32[4,1,1,1]
      weight %w2 = 00000002 : f32[4,1,1,1]
      weight %w3 = 00000003 : f32[8,1,1,1]
      weight %w4 = 00000004 : f32[2,8,1,1]
      %conv1 = conv2d(%x, %w1) {kernel=[1,1]} : f32[N,4,1,1]
      %conv2 = conv2d(%x, %w2) {kernel=[1,1]} : f32[N,4,1,1]
      %conv3 = conv2d(%x, %w3) {kernel=[1,1]} : f32[N,8,1,1]
      %both = concat(%conv1, %conv2) {axis=1} : f32[N,8,1,1]
      %sum = add(%both, %conv3) : f32[N,8,1,1]
      %conv4 = conv2d(%sum, %w4) {kernel=[1,1]} : f32[N,2,1,1]
      output %conv4
    }"""
    after = pruned(text, "layer=conv3,sparsity=0.5,by=last")
    assert [after.values[name].tensor_type.shape[0] for name in ("w1", "w2", "w3")] == [3, 1, 4]
    context = Context()
    run_passes(parse(text), "prune-channels{layer=conv3,sparsity=1}", context)
    assert context.notes == ["prune-channels{sparsity=1.0,layer=conv3}: only 6 of 8 channels can go, not 7"]


@pytest.mark.parametrize(("opset", "attribute", "operands"), [(11, (1, 2), 1), (13, None, 2)])
def test_a_split_says_its_sizes(opset: int, attribute: tuple[int, ...] | None, operands: int) -> None:
    text = f"""graph @split {{
      opset ai.onnx={opset}
      input %x : f32[N,1,1,1]
      weight %w1 = [1.0,0.0,3.0,4.0] : f32[4,1,1,1]
      weight %w2 = 00000001 : f32[1,2,1,1]
      weight %w3 = 00000002 : f32[1,2,1,1]
      %conv1 = conv2d(%x, %w1) {{kernel=[1,1]}} : f32[N,4,1,1]
      %a, %b = onnx.Split(%conv1) {{axis=-3}} : f32[N,2,1,1], f32[N,2,1,1]
      %conv2 = conv2d(%a, %w2) {{kernel=[1,1]}} : f32[N,1,1,1]
      %conv3 = conv2d(%b, %w3) {{kernel=[1,1]}} : f32[N,1,1,1]
      output %conv2
      output %conv3
    }}"""
    after = pruned(text, "layer=conv1,sparsity=0.25")
    (split,) = [node for node in after.nodes if node.op == "onnx.Split"]
    assert split.attributes.get("split") == attribute
    assert len(split.operands) == operands
    if operands == 2:
        assert data_of(split.operand(1)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FIXED<8,B={1,2,3,4}@0>", "FIXED<8,B={1,4}@0>"),
        ("AFFINE<8,scale={0.5,0.25,1.0,2.0}@0,zero=3>", "AFFINE<8,scale={0.5,2.0}@0,zero=3>"),
        ("AFFINE<8,scale={0.5,0.25,1.0,2.0}@0,zero={1,2,3,4}@0>", "AFFINE<8,scale={0.5,2.0}@0,zero={1,4}@0>"),
        ("FIXED<8,B=2>", "FIXED<8,B=2>"),
    ],
)
def test_formats_a_channel_are_those_of_what_stays(before: str, after: str) -> None:
    """conv1 keeps its first and last filter; its result has formats along axis 1."""
    text = CHAIN.replace("f32[4,1,1,1]", f"{before}[4,1,1,1]")
    text = text.replace("f32[N,4,2,2]", f"{before.replace('@0', '@1')}[N,4,2,2]")
    values = pruned(text, "layer=conv1,sparsity=0.5").values
    assert values["w1"].type == Type(formats.parse(after), (2, 1, 1, 1))
    assert values["conv1"].type == Type(formats.parse(after.replace("@0", "@1")), ("N", 2, 2, 2))


# what is refused


@pytest.mark.parametrize(
    ("options", "message", "help"),
    [
        ("layer=conv9,sparsity=0.5", "no layer is named 'conv9'", "the layers are conv1, conv2, fc"),
        ("layer=flat,sparsity=0.5", "no layer is named 'flat'", "the layers are conv1, conv2, fc"),
        ("layer=conv1,sparsity=1.1", "prune-channels{sparsity=1.1}: float from 0 to 1 expected", None),
        ("layer=conv1,sparsity=-0.1", "prune-channels{sparsity=-0.1}: float from 0 to 1 expected", None),
        ("layer=conv1", "prune-channels needs sparsity", "write prune-channels{sparsity=...}"),
        ("sparsity=0.5,by=l1", "prune-channels{by=l1}: frobenius or hessian or last or random expected", None),
        (
            "layer=fc,sparsity=0.5",
            "the output channels of fc cannot go: they reach the output scores",
            "those of these layers can: conv1, conv2",
        ),
        (
            "layer=conv1,sparsity=0.5,side=input",
            "the input channels of conv1 cannot go: they are those of the input %x",
            "those of these layers can: conv2, fc",
        ),
    ],
)
def test_refusals(options: str, message: str, help: str | None) -> None:
    with pytest.raises(CompileError) as error:
        pruned(CHAIN, options)
    assert (error.value.message, error.value.help) == (message, help)


@pytest.mark.parametrize("options", ["sparsity=0", "sparsity=0.1", "layer=conv1,sparsity=0.2"])
def test_nothing_goes(options: str) -> None:
    said: list[bool] = []
    after = run_passes(parse(CHAIN), f"prune-channels{{{options}}}", on_step=lambda step: said.append(step.changed))
    assert to_text(after) == to_text(parse(CHAIN))
    assert said == [False]
