"""The hand-written LeNet-5: what generated code looks like, and that it computes the exact integers."""

from __future__ import annotations

import ctypes
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

HERE = Path(__file__).parent
Ints = npt.NDArray[np.int64]
Compiler = Callable[..., None]


@pytest.fixture(scope="session")
def net(reference: ModuleType, lenet5_weights: ModuleType) -> Any:
    return lenet5_weights.LeNet5(reference)


@pytest.fixture(scope="session")
def sources(net: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("lenet5") / "src"
    shutil.copytree(HERE / "lenet5", folder)
    net.write(folder / "weights")
    # As one source, the vendor's headers are read once.
    (folder / "one.cpp").write_text('#include "csim.cpp"\n#include "lenet5.cpp"\n')
    return [folder / "lenet5.cpp", folder / "csim.cpp"]


@pytest.fixture(scope="session")
def images() -> Ints:
    return np.random.default_rng(28).integers(-127, 128, (64, 28, 28, 1))


@pytest.fixture(scope="session")
def native(sources: list[Path], compile_cpp: Compiler) -> ctypes.CDLL:
    target = sources[0].parent / "native.so"
    compile_cpp(sources, "-O3", "-shared", "-fPIC", "-o", str(target))
    return ctypes.CDLL(str(target))


def run(library: ctypes.CDLL, images: Ints) -> Ints:
    logits = np.zeros((len(images), 10), np.int64)
    inputs = (ctypes.c_void_p * 1)(images.ctypes.data)
    outputs = (ctypes.c_void_p * 1)(logits.ctypes.data)
    status = library.bitwright_run(inputs, outputs, ctypes.c_int64(len(images)))
    library.bitwright_error.restype = ctypes.c_char_p
    assert status == 0, library.bitwright_error()
    return logits


def test_native_types_give_the_exact_integers(net: Any, native: ctypes.CDLL, images: Ints) -> None:
    logits = run(native, images)
    for image, row in zip(images, logits, strict=True):
        np.testing.assert_array_equal(row, net.run(image)["fc7"].ravel())
    assert len(np.unique(logits)) > 100


def test_ap_types_give_the_same_bits(
    native: ctypes.CDLL, sources: list[Path], images: Ints, compile_cpp: Compiler, ap_flags: list[str]
) -> None:
    target = sources[0].parent / "ap.so"
    compile_cpp([target.with_name("one.cpp")], "-shared", "-fPIC", "-o", str(target), *ap_flags)
    np.testing.assert_array_equal(run(ctypes.CDLL(str(target)), images[:2]), run(native, images[:2]))


def test_the_trace_holds_every_stream_and_counts_saturations(
    net: Any, sources: list[Path], images: Ints, compile_cpp: Compiler
) -> None:
    target = sources[0].parent / "trace.so"
    compile_cpp([target.with_name("one.cpp")], "-DBITWRIGHT_TRACE", "-shared", "-fPIC", "-o", str(target))
    library = ctypes.CDLL(str(target))
    library.bitwright_trace_name.restype = ctypes.c_char_p
    library.bitwright_trace_size.restype = library.bitwright_trace_saturated.restype = ctypes.c_int64
    library.bitwright_trace_values.restype = ctypes.POINTER(ctypes.c_int64)
    library.bitwright_trace_clear()  # what other accelerators of this process left
    run(library, images[:2])
    expected = [net.run(image) for image in images[:2]]
    names = [library.bitwright_trace_name(i).decode() for i in range(library.bitwright_trace_streams())]
    assert names == list(expected[0])
    for i, name in enumerate(names):
        values = np.ctypeslib.as_array(library.bitwright_trace_values(i), (library.bitwright_trace_size(i),))
        np.testing.assert_array_equal(values, np.concatenate([frame[name].ravel() for frame in expected]))
    saturated = {name: library.bitwright_trace_saturated(i) for i, name in enumerate(names)}
    assert saturated["conv1"] == sum(frame["conv1_saturated"] for frame in map(net.count_saturations, images[:2]))
    assert saturated["pool2"] == saturated["fc7"] == 0
    library.bitwright_trace_clear()
    assert library.bitwright_trace_streams() == 0


def test_a_value_outside_its_format_is_an_error(native: ctypes.CDLL, images: Ints) -> None:
    wrong = images[:1].copy()
    wrong[0, 3, 3, 0] = 128
    with pytest.raises(AssertionError, match="input value 128 is outside its format, -127 to 127"):
        run(native, wrong)


def test_the_accumulators_hold_the_worst_case(net: Any) -> None:
    shapes = (HERE / "lenet5" / "shapes.hpp").read_text()
    for name in net.LAYERS:
        struct = shapes.split(f"struct {name.capitalize()} {{")[1]
        stated = re.search(r"acc_bits = (\d+)", struct)
        assert stated is not None
        assert int(stated[1]) == net.proven_acc_bits(name)


# The open ap_* headers refuse __SYNTHESIS__: they are read without it.
AP_INT = """#pragma once
#pragma GCC system_header
#undef __SYNTHESIS__
#include_next <ap_int.h>
#define __SYNTHESIS__
"""


@pytest.mark.parametrize("tool", ["vitis", "vivado"])
def test_the_synthesised_text_is_cpp11(
    tool: str, net: Any, compile_cpp: Compiler, ap_flags: list[str], tmp_path: Path
) -> None:
    """Every branch that only the vendors' compilers take, read by g++ as C++11."""
    (tmp_path / "synthesis").mkdir()
    (tmp_path / "synthesis" / "ap_int.h").write_text(AP_INT)
    shutil.copytree(HERE / "lenet5", tmp_path / "src")
    net.write(tmp_path / "src" / "weights", empty=True)
    flags = ["-std=c++11", "-pedantic", "-fsyntax-only", "-D__SYNTHESIS__", f"-I{tmp_path / 'synthesis'}", *ap_flags]
    compile_cpp([tmp_path / "src" / "lenet5.cpp"], *flags, *(["-DBITWRIGHT_VIVADO_HLS"] if tool == "vivado" else []))
