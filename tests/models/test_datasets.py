"""Data sets by one string: what each kind of source gives, and what is said when one is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bitwright.ir.errors import CompileError
from bitwright.models import datasets
from bitwright.models.datasets import load

IMAGES = np.arange(4 * 6, dtype=np.float32).reshape(4, 1, 2, 3)
LABELS = np.array([2, 0, 1, 2])


def refuses(source: object, *parts: str) -> CompileError:
    """What load says of the source, having checked that the message has every part."""
    with pytest.raises(CompileError) as caught:
        load(str(source))
    for part in parts:
        assert part in str(caught.value)
    return caught.value


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


def code(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# ---- built-in


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_is_ten_thousand_digits_in_the_unit_range(split: datasets.Split) -> None:
    digits = load("mnist", split)
    assert digits.name == "mnist"
    assert digits.x.shape == (10_000, 1, 28, 28)
    assert digits.x.dtype == np.float32
    assert digits.x.min() == 0.0
    assert digits.x.max() == 1.0
    assert 0.12 < digits.x.mean() < 0.14
    np.testing.assert_array_equal(digits.x[:100] * 255, np.rint(digits.x[:100] * 255))
    assert digits.y is not None
    assert digits.y.dtype == np.int64
    counts = np.bincount(digits.y)
    assert len(counts) == 10
    assert counts.min() > 850
    assert counts.max() < 1150


def test_mnist_is_in_its_original_order() -> None:
    assert load("mnist", "test", limit=8).y.tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert load("mnist", "train", limit=8).y.tolist() == [5, 0, 4, 1, 9, 2, 1, 3]


def test_mnist_splits_share_no_image() -> None:
    train, test = ({image.tobytes() for image in load("mnist", split).x} for split in ("train", "test"))
    assert not train & test


def test_mnist_files_are_small() -> None:
    assert all(file.stat().st_size < 3_000_000 for file in datasets.DATA.glob("*.npz"))


def test_limit_takes_the_first_samples() -> None:
    ten = load("mnist", limit=10)
    assert ten.x.shape == (10, 1, 28, 28)
    np.testing.assert_array_equal(ten.x, load("mnist").x[:10])


def test_limit_of_nothing() -> None:
    with pytest.raises(CompileError, match="mnist: a limit of 0 samples leaves nothing"):
        load("mnist", limit=0)


def test_names_are_those_of_the_table() -> None:
    assert datasets.names() == ["mnist"] == sorted(datasets.BUILT_IN)
    assert all(entry.summary for entry in datasets.BUILT_IN.values())


def test_import_is_light() -> None:
    heavy = "import bitwright.models.datasets, sys; print(sorted({'torch', 'PIL', 'onnx'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True).strip() == "[]"


# ---- neither name nor path


def test_unknown_name_lists_the_known_and_the_closest() -> None:
    refuses("mnits", 'no data set is called "mnits", did you mean mnist?', "built-in name (mnist)")


def test_unknown_name_far_from_any() -> None:
    assert "did you mean" not in str(refuses("imagenet", 'no data set is called "imagenet"', "(mnist)"))


def test_missing_file(tmp_path: Path) -> None:
    refuses(tmp_path / "no.npz", f"{tmp_path / 'no.npz'}: no such file or folder")
    refuses("nowhere.npz", "nowhere.npz: no such file or folder")


# ---- .npz


def test_npz_is_given_as_it_is(tmp_path: Path) -> None:
    data = load(str(write(tmp_path / "digits.npz", x=IMAGES, y=LABELS)))
    assert data.name == "digits"
    assert data.x.dtype == np.float32
    np.testing.assert_array_equal(data.x, IMAGES)
    assert data.y is not None
    assert data.y.dtype == np.int64
    np.testing.assert_array_equal(data.y, LABELS)


def test_npz_without_labels(tmp_path: Path) -> None:
    assert load(str(write(tmp_path / "d.npz", x=IMAGES))).y is None


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64, np.float16, np.bool_])
def test_npz_of_other_numbers_is_cast_but_not_scaled(tmp_path: Path, dtype: type) -> None:
    data = load(str(write(tmp_path / "d.npz", x=IMAGES.astype(dtype), y=LABELS.astype(np.float32))))
    assert data.x.dtype == np.float32
    np.testing.assert_array_equal(data.x, IMAGES.astype(dtype).astype(np.float32))
    np.testing.assert_array_equal(data.y, LABELS)


def test_npz_labels_may_be_a_column(tmp_path: Path) -> None:
    data = load(str(write(tmp_path / "d.npz", x=IMAGES, y=LABELS[:, None])))
    np.testing.assert_array_equal(data.y, LABELS)


def test_npz_with_two_splits(tmp_path: Path) -> None:
    file = str(write(tmp_path / "d.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:1], y_test=LABELS[:1]))
    assert len(load(file, "train").x) == 4
    assert len(load(file, "test").x) == 1
    assert load(file).y.tolist() == [2]


def test_npz_with_one_split_gives_it_for_both(tmp_path: Path) -> None:
    plain = str(write(tmp_path / "plain.npz", x=IMAGES, y=LABELS))
    named = str(write(tmp_path / "named.npz", x_train=IMAGES, y_train=LABELS))
    for file in plain, named:
        assert len(load(file, "train").x) == len(load(file, "test").x) == 4


def test_not_an_npz(tmp_path: Path) -> None:
    refuses(code(tmp_path / "d.npz", "hello"), f"{tmp_path / 'd.npz'}: not an .npz", "numpy.savez")


def test_single_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", IMAGES)
    refuses(tmp_path / "d.npy", "d.npy: not an .npz", "numpy.savez(FILE, x=images, y=labels)")


def test_damaged_npz(tmp_path: Path) -> None:
    file = tmp_path / "d.npz"
    np.savez_compressed(file, x=np.random.default_rng(0).random((50, 10)))
    content = bytearray(file.read_bytes())
    content[1000:1100] = bytes(100)
    file.write_bytes(content)
    refuses(file, "d.npz: cannot be read:")


def test_npz_without_x_says_what_it_holds(tmp_path: Path) -> None:
    file = write(tmp_path / "d.npz", images=IMAGES, labels=LABELS)
    refuses(file, "d.npz: no array x among what it holds (images, labels)", "numpy.savez")


def test_x_and_y_of_different_length(tmp_path: Path) -> None:
    refuses(write(tmp_path / "d.npz", x=IMAGES, y=LABELS[:3]), "d.npz: x has 4 samples but y has 3")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_x_with_nan_or_infinity_names_the_file_and_the_sample(tmp_path: Path, bad: float) -> None:
    x = IMAGES.copy()
    x[2, 0, 1, 1] = x[3, 0, 0, 0] = bad
    file = write(tmp_path / "d.npz", x=x)
    refuses(file, f"{file}: x has NaN or infinity in 2 of 4 samples, the first is sample 2")


def test_x_beyond_float32(tmp_path: Path) -> None:
    refuses(write(tmp_path / "d.npz", x=np.array([0.0, 1e300])), "x has NaN or infinity in 1 of 2 samples")


def test_x_without_samples(tmp_path: Path) -> None:
    refuses(write(tmp_path / "d.npz", x=np.zeros((0, 3))), "d.npz: x holds no samples, its shape is [0,3]")
    refuses(write(tmp_path / "d.npz", x=np.float32(1)), "d.npz: x holds no samples, its shape is []")


def test_x_of_text(tmp_path: Path) -> None:
    refuses(write(tmp_path / "d.npz", x=["one", "two"]), "d.npz: x holds <U3, not numbers")


def test_one_hot_labels(tmp_path: Path) -> None:
    refuses(write(tmp_path / "d.npz", x=IMAGES, y=np.eye(4)), "y has shape [4,4]", "y.argmax(axis=1)")


def test_labels_between_classes(tmp_path: Path) -> None:
    refuses(write(tmp_path / "d.npz", x=IMAGES, y=[0, 1, 1.5, 2]), "y[2] is 1.5, not a class index")


# ---- a folder of class folders


def paint(file: Path, mode: str = "RGB", size: tuple[int, int] = (5, 4), colour: object = None) -> None:
    image = pytest.importorskip("PIL.Image")
    file.parent.mkdir(parents=True, exist_ok=True)
    image.new(mode, size, colour or 0).save(file)


def test_folder_of_class_folders(tmp_path: Path) -> None:
    paint(tmp_path / "dog" / "1.png", colour=(0, 0, 255))
    paint(tmp_path / "cat" / "1.png", colour=(255, 128, 0))
    paint(tmp_path / "cat" / "2.PNG")
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / ".cache").mkdir()
    data = load(str(tmp_path))
    assert data.name == tmp_path.name
    assert data.x.shape == (3, 3, 4, 5)
    assert data.x.dtype == np.float32
    assert data.y is not None
    assert data.y.dtype == np.int64
    assert data.y.tolist() == [0, 1, 0]
    assert data.x[:, :, 0, 0].tolist() == [[255, 128, 0], [0, 0, 255], [0, 0, 0]]


def test_limit_of_a_folder_spreads_over_the_classes(tmp_path: Path) -> None:
    for name in "abc":
        for number in range(4):
            paint(tmp_path / name / f"{number}.png")
    assert load(str(tmp_path), limit=5).y.tolist() == [0, 1, 2, 0, 1]


def test_grey_pictures_have_one_channel(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png", "L", colour=200)
    data = load(str(tmp_path))
    assert data.x.shape == (1, 1, 4, 5)
    assert (data.x == 200).all()


def test_grey_pictures_among_coloured_ones_have_three(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png", "L", colour=200)
    paint(tmp_path / "b" / "1.png", colour=(1, 2, 3))
    assert load(str(tmp_path)).x[:, :, 0, 0].tolist() == [[200, 200, 200], [1, 2, 3]]


def test_pictures_that_differ_in_size(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png")
    paint(tmp_path / "b" / "2.png", size=(8, 6))
    refuses(tmp_path, "pictures differ in size: a/1.png is 5x4, b/2.png is 8x6", "the network's input")


def test_picture_of_more_than_8_bits(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png", "I;16")
    refuses(tmp_path, "1.png: more than 8 bits a channel", ".npz")


def test_broken_picture(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    (tmp_path / "a").mkdir()
    code(tmp_path / "a" / "1.png", "not a picture")
    refuses(tmp_path, f"{tmp_path / 'a' / '1.png'}: not a picture that can be read")


def test_folder_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    refuses(tmp_path, "needs Pillow, which is not installed", "pip install 'bitwright[images]'")


def test_folder_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    refuses(tmp_path, f"{tmp_path}: no class folder with pictures in it", "one folder a class")


def test_folder_one_level_too_high(tmp_path: Path) -> None:
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "1.png").touch()
    refuses(tmp_path, "no class folder with pictures in it", f"one level down, in {tmp_path / 'test'}")


# ---- FILE.py:FUNCTION


def test_function_of_the_split(tmp_path: Path) -> None:
    file = code(
        tmp_path / "mine.py",
        "import numpy\ndef load(split): return numpy.full((3, 2), {'train': 7, 'test': 9}[split]), [0, 1, 2]\n",
    )
    data = load(f"{file}:load")
    assert data.name == "mine.py:load"
    assert data.x.dtype == np.float32
    assert data.x.tolist() == [[9, 9]] * 3
    assert data.y.tolist() == [0, 1, 2]
    assert load(f"{file}:load", "train", limit=1).x.tolist() == [[7, 7]]


@pytest.mark.parametrize("parameters", ["", "size=3", "*, size=3"])
def test_function_of_nothing(tmp_path: Path, parameters: str) -> None:
    file = code(tmp_path / "mine.py", f"def load({parameters}): return [[1.0], [2.0]], None\n")
    data = load(f"{file}:load")
    assert data.x.tolist() == [[1.0], [2.0]]
    assert data.y is None


def test_function_with_a_default_split_is_given_one(tmp_path: Path) -> None:
    file = code(tmp_path / "mine.py", "def load(split='train'): return [len(split)], None\n")
    assert load(f"{file}:load", "test").x.tolist() == [4.0]


def test_function_uses_a_file_beside_it(tmp_path: Path) -> None:
    code(tmp_path / "neighbour_of_mine.py", "X = [5.0]\n")
    file = code(tmp_path / "mine.py", "def load():\n    from neighbour_of_mine import X\n    return X, None\n")
    before = list(sys.path)
    assert load(f"{file}:load").x.tolist() == [5.0]
    assert sys.path == before


def test_python_file_without_a_function(tmp_path: Path) -> None:
    file = code(tmp_path / "mine.py", "")
    refuses(file, f"{file}: which function?", f"{file}:FUNCTION")


def test_function_of_a_missing_file(tmp_path: Path) -> None:
    refuses(f"{tmp_path / 'no.py'}:load", f"{tmp_path / 'no.py'}: no such file")


def test_missing_function(tmp_path: Path) -> None:
    file = code(tmp_path / "mine.py", "def digits(): pass\ndef letters(): pass\n")
    refuses(f"{file}:digit", f"{file}: no function digit, did you mean digits?", "it has digits, letters")


def test_missing_function_in_a_file_that_has_none(tmp_path: Path) -> None:
    file = code(tmp_path / "mine.py", "from os.path import join\nload = 3\n")
    refuses(f"{file}:load", "mine.py: no function load", "write def load(split), which returns (x, y)")


@pytest.mark.parametrize("raised", ["ValueError('no disk')", "SystemExit('no disk')"])
def test_function_that_raises(tmp_path: Path, raised: str) -> None:
    file = code(tmp_path / "mine.py", f"def load(): raise {raised}\n")
    kind = re.split(r"\W", raised)[0]
    refuses(f"{file}:load", f"{file}: load() raised {kind}: no disk")


def test_file_that_raises_on_import(tmp_path: Path) -> None:
    file = code(tmp_path / "mine.py", "def load(:\n")
    refuses(f"{file}:load", f"{file}: importing it raised SyntaxError")


def test_function_that_returns_something_else(tmp_path: Path) -> None:
    file = code(tmp_path / "mine.py", "def load(): return [1, 2]\n")
    refuses(f"{file}:load", "load() returned list, not (x, y)")


def test_function_whose_x_is_no_array(tmp_path: Path) -> None:
    file = code(tmp_path / "mine.py", "def load(): return [[1], [2, 3]], None\n")
    refuses(f"{file}:load", f"{file}:load: x is no array")


def test_function_whose_x_has_nan(tmp_path: Path) -> None:
    file = code(tmp_path / "mine.py", "def load(): return [1.0, float('nan')], None\n")
    refuses(f"{file}:load", f"{file}:load: x has NaN or infinity in 1 of 2 samples")
