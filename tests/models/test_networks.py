"""The shipped networks: what they are made of, that they read digits, and that their recipes still make them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import bitwright
import bitwright.models
from bitwright.ir.errors import CompileError
from bitwright.ir.tensor import Array
from bitwright.models import datasets

assert bitwright.models.__file__ is not None
FOLDER = Path(bitwright.models.__file__).parent

LAYERS = {
    "lenet5": "conv1 relu1 pool2 conv3 relu3 pool4 conv5 relu5 flatten fc6 relu6 fc7",
    "caffe_lenet": "conv1 pool1 conv2 pool2 flatten fc1 relu1 fc2",
    "mlp_m": "flatten fc1 relu1 fc2 relu2 fc3",
    "mlp_c": "flatten fc1 relu1 fc2 relu2 fc3 relu3 fc4",
    "cifar10_quick": "conv1 pool1 relu1 conv2 relu2 pool2 conv3 relu3 pool3 flatten fc1 fc2",
    "resnet20": "conv1 bn1 relu1 "
    + "".join(
        f"conv{at - 1} bn{at - 1} relu{at - 1} conv{at} bn{at} "
        + (f"shortcut{at} shortcut_bn{at} " if at in (9, 15) else "")
        + f"add{at} relu{at} "
        for at in range(3, 20, 2)
    )
    + "pool20 flatten fc20",
}
PARAMETERS = {
    "lenet5": 61_706,
    "caffe_lenet": 431_080,
    "mlp_m": 104_938,
    "mlp_c": 726_058,
    "cifar10_quick": 145_578,
    "resnet20": 274_042,  # two of them for each of 784 channels are what batch normalisation measured
}
FLOORS = {"lenet5": 0.989, "caffe_lenet": 0.990, "mlp_m": 0.975}
"""The least share of the shipped test digits that a network reads."""

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.onnx"))

Run = Callable[[Path, Array], Array]


@pytest.fixture(params=SHIPPED)
def file(request: pytest.FixtureRequest) -> Path:
    return FOLDER / f"{request.param}.onnx"


@pytest.fixture
def run() -> Run:
    """The logits of a file for images."""

    def logits(file: Path, x: Array) -> Array:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        (found,) = session.run(["logits"], {"image": x})
        return np.asarray(found)

    return logits


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def images(file: Path, count: int) -> Array:
    """Noise of the shape of a network's images, float32 in [0, 1]."""
    shape = dims(onnx.load(file).graph.input[0])[1:]
    return np.random.default_rng(0).random((count, *map(int, shape)), np.float32)


# The files


def test_every_file_is_known() -> None:
    assert set(SHIPPED) == set(LAYERS)


def test_a_file_is_valid_and_small(file: Path) -> None:
    assert file.stat().st_size < 3_000_000
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]


def test_a_file_has_the_stated_ends_and_layers(file: Path) -> None:
    graph = onnx.load(file).graph
    shape = [1, 28, 28] if file.stem in FLOORS else [3, 32, 32]
    assert graph.name == file.stem
    assert [(v.name, dims(v)) for v in graph.input] == [("image", ["N", *shape])]
    assert [(v.name, dims(v)) for v in graph.output] == [("logits", ["N", 10])]
    assert [node.name for node in graph.node] == LAYERS[file.stem].split()
    assert [node.output[0] for node in graph.node] == [*LAYERS[file.stem].split()[:-1], "logits"]
    assert all(weight.name.split(".")[0] in LAYERS[file.stem].split() for weight in graph.initializer)
    assert sum(int(np.prod(weight.dims)) for weight in graph.initializer) == PARAMETERS[file.stem]


def test_weights_are_compact(file: Path) -> None:
    """No stray weight widens a layer's range: what weight decay is for."""
    for weight in onnx.load(file).graph.initializer:
        if weight.name.endswith(".weight"):
            assert np.abs(onnx.numpy_helper.to_array(weight)).max() < 4.0, weight.name


@pytest.mark.parametrize("name", sorted(set(FLOORS) & set(SHIPPED)))
def test_a_network_reads_the_shipped_digits(name: str, run: Run) -> None:
    digits = datasets.load("mnist", "test")
    logits = run(FOLDER / f"{name}.onnx", digits.x)
    assert np.mean(logits.argmax(axis=1) == digits.y) >= FLOORS[name]


def test_one_image_scores_as_it_does_in_a_batch(file: Path, run: Run) -> None:
    x = images(file, 4)
    np.testing.assert_allclose(run(file, x[2:3])[0], run(file, x)[2], atol=1e-4)


def test_bitwright_computes_what_onnxruntime_does(file: Path, run: Run) -> None:
    x = images(file, 8)
    (logits,) = bitwright.simulate(bitwright.load(file), x).values()
    np.testing.assert_allclose(logits, run(file, x), atol=1e-4)


# The recipes


@pytest.fixture
def train() -> ModuleType:
    pytest.importorskip("torch", reason="training needs torch: pip install 'bitwright[train]'")
    return importlib.import_module("bitwright.models.train")


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a few pictures of noise, uint8, of the kind that a network takes."""

    def write(name: str) -> Path:
        shape = (28, 28) if name in FLOORS else (3, 32, 32)
        random = np.random.default_rng(0)
        x, y = random.integers(0, 256, (40, *shape), np.uint8), random.integers(0, 10, 40, np.uint8)
        np.savez(tmp_path / "noise.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
        return tmp_path / "noise.npz"

    return write


def test_every_network_has_a_recipe(train: ModuleType) -> None:
    assert set(train.RECIPES) == set(LAYERS)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_makes_the_structure_of_its_file(
    name: str, train: ModuleType, pictures: Callable[[str], Path], tmp_path: Path
) -> None:
    made = tmp_path / "made.onnx"
    train.main([name, "--data", str(pictures(name)), "--epochs", "1", "-o", str(made)])
    fresh, shipped = onnx.load(made).graph, onnx.load(FOLDER / f"{name}.onnx").graph
    assert [(tensor.name, tensor.dims) for tensor in fresh.initializer] == [
        (tensor.name, tensor.dims) for tensor in shipped.initializer
    ]
    for graph in (fresh, shipped):
        del graph.initializer[:]
    assert fresh == shipped


def test_a_seed_decides_every_byte(train: ModuleType, pictures: Callable[[str], Path], tmp_path: Path) -> None:
    def trained(seed: int) -> bytes:
        made = tmp_path / "made.onnx"
        train.main(["lenet5", "--data", str(pictures("lenet5")), "--epochs", "1", "--seed", str(seed), "-o", str(made)])
        return made.read_bytes()

    first = trained(1)
    assert trained(1) == first
    assert trained(2) != first


def test_pictures_of_another_shape_are_refused(
    train: ModuleType, pictures: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"pictures of \[28,28\], the network takes \[3,32,32\]"):
        train.main(["mlp_c", "--data", str(pictures("mlp_m")), "-o", str(tmp_path / "made.onnx")])


@pytest.mark.parametrize(
    ("option", "number", "message"),
    [
        ("--epochs", "0", "--epochs: at least 1, not 0"),
        ("--rate", "nan", "--rate: at least 0, not nan"),
        ("--batch", "0", "--batch: at least 1, not 0"),
        ("--weight-decay", "-0.5", "--weight-decay: at least 0, not -0.5"),
        ("--label-smoothing", "1", "--label-smoothing: at least 0 and below 1, not 1"),
    ],
)
def test_settings_that_train_nothing_are_refused(
    option: str, number: str, message: str, train: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train.main(["mlp_m", "--data", "noise.npz", option, number])
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {message}")


def test_the_training_images_are_no_test(train: ModuleType, tmp_path: Path) -> None:
    x, y = np.zeros((4, 28, 28), np.uint8), np.arange(4)
    np.savez(tmp_path / "noise.npz", x=x, y=y)
    with pytest.raises(SystemExit, match="no test images"):
        train.main(["mlp_m", "--data", str(tmp_path / "noise.npz"), "-o", str(tmp_path / "made.onnx")])


def test_a_centred_layer_folds_into_a_plain_one(train: ModuleType) -> None:
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    centred = train.Centred(torch.nn.Conv2d(3, 4, 5, padding=2))
    x = torch.rand(2, 3, 8, 8)
    black = torch.nn.functional.pad(x, [2] * 4)
    pixels = (black - centred.MEAN) / centred.DEVIATION
    by_definition = torch.nn.functional.conv2d(pixels, centred.layer.weight, centred.layer.bias)
    torch.testing.assert_close(centred(x), by_definition, atol=1e-4, rtol=0.0)
    torch.testing.assert_close(centred.plain()(x), centred(x), atol=1e-5, rtol=0.0)


def test_distortions_stay_within_their_bounds(train: ModuleType) -> None:
    """One bright pixel in the middle moves by STEP pixels at most, and a picture keeps its shape."""
    torch = importlib.import_module("torch")
    recipes = importlib.import_module("bitwright.models.recipes")
    torch.manual_seed(0)
    x = torch.zeros(500, 3, 32, 32)
    x[:, :, 16, 16] = 1.0
    places = recipes.flip(x).nonzero()
    assert len(places) == 1500
    assert (int(places[:, 2].min()), int(places[:, 2].max())) == (12, 20)
    assert (int(places[:, 3].min()), int(places[:, 3].max())) == (11, 20)  # column 16 mirrored is column 15
    digits = recipes.turn(torch.ones(8, 1, 28, 28))
    assert digits.shape == (8, 1, 28, 28)
    assert float(digits[:, :, 10:18, 10:18].min()) > 0.99


def saved(network: Any, name: str, path: Path) -> Path:
    """A network of RECIPES[name], as its .onnx."""
    to_onnx = importlib.import_module("bitwright.models.to_onnx").to_onnx
    recipes = importlib.import_module("bitwright.models.recipes")
    onnx.save(to_onnx(network.eval(), name, recipes.RECIPES[name].kind), path)
    return path


def test_an_average_is_the_mean_of_all_numbers(train: ModuleType, tmp_path: Path) -> None:
    torch = importlib.import_module("torch")
    average = importlib.import_module("bitwright.models.average")
    recipe = train.RECIPES["mlp_m"]
    torch.manual_seed(0)
    both = [recipe.network() for _ in range(2)]
    paths = [saved(network, "mlp_m", tmp_path / f"{i}.onnx") for i, network in enumerate(both)]
    made = average.averaged(recipe, paths, train.Pictures(torch.zeros(1, 1, 28, 28), torch.zeros(1)))
    for name, tensor in made.state_dict().items():
        mean = (both[0].state_dict()[name] + both[1].state_dict()[name]) / 2
        torch.testing.assert_close(tensor, mean, atol=1e-7, rtol=1e-6)


def test_an_average_measures_batch_normalisation_anew(train: ModuleType, tmp_path: Path) -> None:
    torch = importlib.import_module("torch")
    average = importlib.import_module("bitwright.models.average")
    recipe = train.RECIPES["resnet20"]
    torch.manual_seed(0)
    path = saved(recipe.network(), "resnet20", tmp_path / "made.onnx")
    x = torch.rand(6, 3, 32, 32)
    recipe = replace(recipe, kind=replace(recipe.kind, distort=lambda pictures: pictures))
    made = average.averaged(recipe, [path], train.Pictures(x, torch.zeros(6)))
    entering = made.conv1(x).detach()
    torch.testing.assert_close(made.bn1.running_mean, entering.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made.bn1.running_var, entering.var((0, 2, 3)), atol=1e-5, rtol=1e-4)


def test_files_of_another_network_have_no_average(train: ModuleType, tmp_path: Path) -> None:
    average = importlib.import_module("bitwright.models.average")
    path = saved(train.RECIPES["lenet5"].network(), "lenet5", tmp_path / "made.onnx")
    with pytest.raises(
        CompileError, match=r"made\.onnx: no fc1\.weight of shape \[128, 784\], so it is another network"
    ):
        average.averaged(train.RECIPES["mlp_m"], [path], train.Pictures(None, None))
