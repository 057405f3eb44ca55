"""The board's driver: numbers over the stream, network.json, and the file itself."""

from __future__ import annotations

import ast
import asyncio
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import IN, INTERVAL, LATENCY, OUT, Bench, Hardware, Overlay, allocate, compute, expected, images

from bitwright.backends.hls.driver import accelerator as driver
from bitwright.backends.hls.driver.accelerator import Accelerator, AcceleratorError
from bitwright.backends.hls.settings import Port, network_json
from bitwright.ir.errors import InternalError


def port(**changes: Any) -> driver.Port:
    settings: dict[str, Any] = {"name": "p", "shape": (4,), "low": -8, "high": 7, "container_bits": 8, **changes}
    return driver.Port(Port(**settings).entry(), "p")


def test_rounding_is_half_to_even_and_saturates() -> None:
    halves = port(shape=(9,), step_exponent=-1)
    x = np.array([[0.25, 0.75, 1.25, -0.25, -0.75, 100, -100, 3.74, 3.76]])
    assert halves.quantise(x).tolist() == [[0, 2, 2, 0, -2, 7, -8, 7, 7]]
    eights = port(shape=(3,), step_exponent=3)
    assert eights.quantise(np.array([[4, 12, 20.001]])).tolist() == [[0, 2, 3]]
    unsigned = port(shape=(3,), low=0, high=255)
    assert unsigned.quantise(np.array([[-3, 200.5, 300]])).tolist() == [[0, 200, 255]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_and_do_no_harm(bench: Bench, bad: float) -> None:
    x = images(9)
    x[4, 1, 0, 1] = bad
    for way in (bench.net.predict, bench.net.predict_naive):
        with pytest.raises(ValueError, match="frame 4 of the input 'x' holds NaN or infinity"):
            way(x)

    async def collect() -> list[np.ndarray]:
        return [y async for y in bench.net.stream(iter(x))]

    with pytest.raises(ValueError, match="frame 4 of the input 'x' holds NaN or infinity"):
        asyncio.run(collect())
    np.testing.assert_array_equal(bench.net.predict(x[:4]), expected(x[:4]))


@pytest.mark.parametrize("shape", [(3, 2, 2), (5, 12), (5, 2, 2, 3)])
def test_a_wrong_shape_is_named(bench: Bench, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the input 'x' takes \('n', 3, 2, 2\), not \(") as caught:
        bench.net.predict(np.zeros(shape))
    assert ("x[None]" in str(caught.value)) == (shape == (3, 2, 2))


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("signed", [True, False])
def test_every_container_packs_and_unpacks_little_endian(bits: int, signed: bool) -> None:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    low, high = max(low, -(2**40)), min(high, 2**40)
    p = port(shape=(3,), low=low, high=high, container_bits=bits, step_exponent=0)
    x = np.array([[low, high, 1]], dtype=np.float64)
    raw = p.pack(x)
    assert raw.tobytes() == b"".join(v.to_bytes(bits // 8, "little", signed=signed) for v in (low, high, 1))
    values = p.unpack(raw)
    np.testing.assert_array_equal(values, x)
    assert values.dtype == (np.float64 if high > 2**24 else np.float32)


def test_axes_go_over_the_stream_in_their_order_and_beats_are_padded() -> None:
    p = port(shape=(3, 1, 2), order=(1, 2, 0), beat_bits=32, beat_elements=3)  # pixels of three channels
    x = np.array([[[[1, 2]], [[3, 4]], [[5, 6]]]])
    raw = p.pack(x)
    assert raw.tolist() == [[1, 3, 5, 0, 2, 4, 6, 0]]
    np.testing.assert_array_equal(p.unpack(raw), x)
    ragged = port(shape=(5,), beat_bits=32, beat_elements=3)
    assert ragged.pack(np.array([[1, 2, 3, 4, 5]])).tolist() == [[1, 2, 3, 0, 4, 5, 0, 0]]
    np.testing.assert_array_equal(ragged.unpack(ragged.pack(np.array([[1, 2, 3, 4, 5]]))), [[1, 2, 3, 4, 5]])


def test_padding_does_not_come_back() -> None:
    p = port(shape=(2,), beat_bits=32, beat_elements=2, step_exponent=-2)
    np.testing.assert_array_equal(p.unpack(np.array([[4, 0xFC, 99, 99]], np.uint8)), [[1.0, -1.0]])


def test_float_streams_carry_the_values_themselves(make: Callable[..., Bench]) -> None:
    floats = Port("x", (4,), kind="float32")
    bench = make(floats, floats, lambda data: (data.view("<f4") * 2).view(np.uint8))
    x = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_array_equal(bench.net.predict(x), x * 2)


# ---- network.json and the file itself ---------------------------------------------------------------------


def test_network_json_reads_back(tmp_path: Path) -> None:
    text = network_json(name="tiny", input=IN, output=OUT)
    assert text.splitlines() == [
        "{",
        '  "version": 1,',
        '  "name": "tiny",',
        '  "bitstream": "tiny.bit",',
        '  "input": {"name": "x", "kind": "integer", "shape": [3, 2, 2], "order": [0, 1, 2],'
        ' "step_exponent": -4, "range": [-127, 127], "container_bits": 8, "signed": true, "beat_bits": 8,'
        ' "beat_elements": 1},',
        '  "output": {"name": "scores", "kind": "integer", "shape": [3], "order": [0], "step_exponent": -6,'
        ' "range": [-32768, 32767], "container_bits": 32, "signed": true, "beat_bits": 32, "beat_elements": 1},',
        '  "ip": {"accelerator": "accelerator", "dma": "dma"}',
        "}",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n.pop("bitstream"), "network.json: the key 'bitstream' is missing"),
        (lambda n: n.update(version=2), "network.json: not a network of version 1"),
        (lambda n: n["ip"].pop("dma"), "network.json, ip: the key 'dma' is missing"),
        (lambda n: n["input"].pop("range"), "network.json, input: the key 'range' is missing"),
        (lambda n: n["input"].update(container_bits=12), "input: 'container_bits' must be 8, 16, 32 or 64, not 12"),
        (lambda n: n["input"].update(range=[-129, 5]), r"input: 'range' must be two integers within -128 .. 127"),
        (lambda n: n["output"].update(shape=[3, 0]), r"output: 'shape' must be a list of sizes, not \[3, 0\]"),
        (lambda n: n["output"].update(order=[1]), r"output: 'order' must be a permutation of \[0\]"),
        (lambda n: n["output"].update(beat_elements=2), "output: 'beat_elements' must be 1 to 1, not 2"),
        (lambda n: n["output"].update(step_exponent=0.5), "output: 'step_exponent' must be an integer"),
    ],
)
def test_a_damaged_network_is_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    network = json.loads(network_json(name="tiny", input=IN, output=OUT))
    change(network)
    path = tmp_path / "network.json"
    path.write_text(json.dumps(network))
    with pytest.raises(ValueError, match=message):
        Accelerator(network=path)


def test_files_that_are_missing_or_no_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynq", types.SimpleNamespace(allocate=allocate, Overlay=None))
    path = tmp_path / "network.json"
    with pytest.raises(FileNotFoundError):
        Accelerator(network=path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"network\.json: not a JSON file"):
        Accelerator(network=path)
    path.write_text(network_json(name="tiny", input=IN, output=OUT))
    with pytest.raises(FileNotFoundError, match=r"no bitstream .*tiny\.bit: copy bitstream"):
        Accelerator(network=path)


def test_the_bitstream_is_loaded_from_beside_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    hardware = Hardware(compute, LATENCY, INTERVAL)

    def load(path: str) -> Overlay:
        loaded.append(path)
        return Overlay(hardware)

    monkeypatch.setitem(sys.modules, "pynq", types.SimpleNamespace(allocate=allocate, Overlay=load))
    (tmp_path / "network.json").write_text(network_json(name="tiny", input=IN, output=OUT))
    (tmp_path / "tiny.bit").write_bytes(b"")
    net = Accelerator(network=tmp_path / "network.json", loop=hardware.loop)
    assert loaded == [str(tmp_path / "tiny.bit")]
    net.close()
    with pytest.raises(AcceleratorError, match="this accelerator is closed"):
        net.predict(images(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 5, "high": 5}, "the range 5 .. 5 is empty"),
        ({"high": 128}, "wider than 8 bits"),
        ({"container_bits": 12}, "container_bits is 12"),
        ({"beat_bits": 24, "beat_elements": 3}, "the stream has 24 bits"),
        ({"beat_bits": 16, "beat_elements": 3}, "a beat is narrower than its elements"),
        ({"order": (1,)}, "no permutation"),
        ({"kind": "float32"}, "float32 needs 32 bits"),
    ],
)
def test_a_port_that_cannot_be_is_our_fault(changes: dict[str, Any], message: str) -> None:
    wrong = Port(**{"name": "p", "shape": (4,), "low": -8, "high": 7, "container_bits": 8, **changes})
    with pytest.raises(InternalError, match=message):
        network_json(name="n", input=wrong, output=OUT)


def test_the_driver_runs_on_old_board_images() -> None:
    """PYNQ 2.7 has Python 3.8; nothing but numpy, pynq and the standard library is there."""
    source = Path(driver.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported - sys.stdlib_module_names == {"numpy"}
    assert 'import_module("pynq")' in source
