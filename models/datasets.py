"""Data sets by one string: a built-in name, an .npz, a folder of class folders, or a function of the user's.

    load("mnist")              the shipped part of MNIST, pixels in [0, 1]
    load("digits.npz")         its arrays x and (optional) y, or x_test, y_test, x_train, y_train
    load("photos/")            photos/cat/*.jpg, photos/dog/*.jpg: class 0 and class 1, pixels in 0..255
    load("mine.py:pictures")   what pictures(split) or pictures() returns: (x, y)

Values of the user are never scaled or reshaped: x goes into the network as it is given. Whatever is wrong
with a source is a CompileError that names it. Pillow is imported only when a folder is read.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bitwright.ir.errors import CompileError
from bitwright.ir.user_code import user_function

Split = Literal["train", "test"]
Raw = tuple[Any, Any]
"""Images and labels (or None) as a source gives them, before they are checked and cast."""

PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and, where they are known, the class of each."""

    name: str
    x: npt.NDArray[np.float32]
    """[N, ...], finite."""
    y: npt.NDArray[np.int64] | None
    """[N]."""


@dataclass(frozen=True)
class BuiltIn:
    """A data set that comes with bitwright."""

    summary: str
    read: Callable[[Split], Raw]


def load(source: str, split: Split = "test", limit: int | None = None) -> Dataset:
    """The first `limit` samples (all by default) of one split of `source`.

    A source that has one split only gives it whichever split is asked for. A folder gives its classes in
    turn, so that its first samples are spread over the classes; every other source keeps its order.
    """
    if limit is not None and limit < 1:
        raise CompileError(f"{source}: a limit of {limit} samples leaves nothing", help="ask for 1 or more")
    path = Path(source)
    function = re.fullmatch(r"(.+\.py):(\w+)", source)
    if source in BUILT_IN:
        return _checked(source, source, BUILT_IN[source].read(split), limit)
    if function:
        file = Path(function[1])
        return _checked(f"{file.name}:{function[2]}", source, _call(file, function[2], split), limit)
    if path.is_dir():
        return _checked(path.resolve().name, source, _read_folder(path, limit), limit)
    if path.is_file():
        if path.suffix == ".py":
            raise CompileError(f"{source}: which function?", help=f"name it after a colon: {source}:FUNCTION")
        return _checked(path.stem, source, _read_npz(path, split), limit)
    raise _not_found(source)


def names() -> list[str]:
    """The names that `load` knows without a path, sorted."""
    return sorted(BUILT_IN)


def _read_mnist(split: Split) -> Raw:
    """The shipped subset: all 10,000 test images or the first 10,000 of the 60,000 training images."""
    x, y = _read_npz(DATA / f"mnist-{split}.npz", split)
    return x[:, None].astype(np.float32) / np.float32(255.0), y


BUILT_IN: dict[str, BuiltIn] = {
    "mnist": BuiltIn(
        "handwritten digits, [1,28,28] in [0, 1]: 10,000 test images, the first 10,000 training images",
        _read_mnist,
    ),
}


def _not_found(source: str) -> CompileError:
    """A path that leads nowhere, or a name that is not known: told apart by whether it looks like a path."""
    path = Path(source)
    if path.suffix or path.name != source:
        return CompileError(f"{source}: no such file or folder", help=_usage())
    close = difflib.get_close_matches(source.lower(), names(), n=1)
    meant = f", did you mean {close[0]}?" if close else ""
    return CompileError(f'no data set is called "{source}"{meant}', help=_usage())


def _usage() -> str:
    known = ", ".join(names())
    return f"give an .npz, a folder of class folders, FILE.py:FUNCTION, or a built-in name ({known})"


# ---- from raw arrays to a Dataset


def _checked(name: str, source: str, raw: Raw, limit: int | None) -> Dataset:
    """The arrays of `source` in the types of a Dataset, or a complaint that names what is wrong with them."""
    x, y = _array(source, "x", raw[0]), None if raw[1] is None else _array(source, "y", raw[1])
    if x.ndim == 0 or len(x) == 0:
        raise CompileError(f"{source}: x holds no samples, its shape is {_shape(x)}")
    if y is not None and y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y is not None and y.ndim != 1:
        raise CompileError(
            f"{source}: y has shape {_shape(y)}, not one class a sample",
            help="one-hot labels become classes by y.argmax(axis=1)",
        )
    if y is not None and len(x) != len(y):
        raise CompileError(
            f"{source}: x has {len(x)} samples but y has {len(y)}", help="one label for every sample of x"
        )
    return Dataset(name, _float32(source, x[:limit]), None if y is None else _int64(source, y[:limit]))


def _array(source: str, what: str, value: Any) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CompileError(f"{source}: {what} is no array: {error}", help="give numpy arrays") from error
    if array.dtype.kind not in "biuf":
        raise CompileError(f"{source}: {what} holds {array.dtype}, not numbers", help="give numpy arrays")
    return array


def _float32(source: str, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite and is caught below
        values = x.astype(np.float32, copy=False)
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        first = int(bad.argmax())
        raise CompileError(
            f"{source}: x has NaN or infinity in {bad.sum()} of {len(x)} samples, the first is sample {first}",
            help="leave those samples out, or mend how they were made",
        )
    return values


def _int64(source: str, y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The labels, which may be floats as long as they are whole."""
    wrong = ~np.isfinite(y) | (y != np.floor(y)) if y.dtype.kind == "f" else np.zeros(len(y), bool)
    if wrong.any():
        first = int(wrong.argmax())
        raise CompileError(f"{source}: y[{first}] is {y[first]}, not a class index", help="y counts the classes from 0")
    return y.astype(np.int64)


def _shape(array: npt.NDArray[Any]) -> str:
    return f"[{','.join(map(str, array.shape))}]"


# ---- .npz


def _read_npz(path: Path, split: Split) -> Raw:
    """x and y of the file; x_test and y_test (or x_train, y_train) go before them."""
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise CompileError(f"{path}: not an .npz", help=_how_to_save())
        with np.load(path, allow_pickle=False) as arrays:
            return _pick(path, arrays, split)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise CompileError(f"{path}: cannot be read: {error}", help=_how_to_save()) from error


def _pick(path: Path, arrays: Any, split: Split) -> Raw:
    other = "train" if split == "test" else "test"
    for suffix in (f"_{split}", "", f"_{other}"):
        if f"x{suffix}" in arrays:
            return arrays[f"x{suffix}"], arrays.get(f"y{suffix}")
    held = ", ".join(arrays.files) or "nothing"
    raise CompileError(f"{path}: no array x among what it holds ({held})", help=_how_to_save())


def _how_to_save() -> str:
    return "write it with numpy.savez(FILE, x=images, y=labels)"


# ---- a folder of class folders


def _read_folder(path: Path, limit: int | None) -> Raw:
    """Pictures as float32 NCHW, 0..255: one channel if all are grey, else three (red, green, blue)."""
    listed = _list_pictures(path)[:limit]
    pixels = [_read_picture(file) for file, _ in listed]
    first = pixels[0].shape[1:]
    for (file, _), picture in zip(listed, pixels, strict=True):
        if picture.shape[1:] != first:
            raise CompileError(
                f"{path}: pictures differ in size: {_inside(path, listed[0][0])} is {_size(first)}, "
                f"{_inside(path, file)} is {_size(picture.shape[1:])}",
                help="bring all of them to the size of the network's input first",
            )
    channels = max(len(picture) for picture in pixels)
    x = np.empty((len(pixels), channels, *first), np.float32)
    for sample, picture in zip(x, pixels, strict=True):
        sample[:] = picture  # a grey picture among coloured ones fills all three channels
    return x, np.array([index for _, index in listed])


def _list_pictures(path: Path) -> list[tuple[Path, int]]:
    """Every picture with its class (the place of its folder in sorted order), the classes taking turns."""
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    turns = [
        (turn, index, file)
        for index, folder in enumerate(folders)
        for turn, file in enumerate(sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURES))
    ]
    if not turns:
        below = [folder for folder in folders if any(entry.is_dir() for entry in folder.iterdir())]
        way_out = f"one folder a class, such as {path / 'cat' / '1.png'} ({' '.join(sorted(PICTURES))})"
        if below:
            way_out = f"class folders seem to be one level down, in {' and '.join(map(str, below[:2]))}"
        raise CompileError(f"{path}: no class folder with pictures in it", help=way_out)
    return [(file, index) for _, index, file in sorted(turns)]


def _read_picture(file: Path) -> npt.NDArray[np.uint8]:
    """The picture as uint8 [C, H, W], C = 1 for grey and 3 for everything else."""
    try:
        image_module = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise CompileError(
            "a folder of pictures needs Pillow, which is not installed",
            help="pip install 'bitwright[images]'",
        ) from error
    try:
        with image_module.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise CompileError(f"{file}: more than 8 bits a channel", help="give it in an .npz instead")
            grey = image.mode in ("1", "L", "LA")
            pixels = np.asarray(image.convert("L" if grey else "RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError for broken PNGs
        raise CompileError(f"{file}: not a picture that can be read: {error}") from error
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _inside(path: Path, file: Path) -> str:
    return file.relative_to(path).as_posix()


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


# ---- FILE.py:FUNCTION


def _call(file: Path, name: str, split: Split) -> Raw:
    """What the function of the file returns; code of the user's runs here, and what it raises is reported."""
    function = user_function(file, name, f"{name}(split), which returns (x, y)")
    result = function(split) if _takes_split(function) else function()
    if not isinstance(result, tuple) or len(result) != 2:
        raise CompileError(
            f"{file}: {name}() returned {type(result).__name__}, not (x, y)",
            help="return two arrays; y may be None",
        )
    return result


def _takes_split(function: Callable[..., Any]) -> bool:
    """Whether the function wants the split: it has a parameter of that name, or one that must be given."""
    parameters = inspect.signature(function).parameters.values()
    required = any(p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD for p in parameters)
    return required or any(p.name == "split" and p.kind <= p.POSITIONAL_OR_KEYWORD for p in parameters)
