"""The board's driver on PYNQ's own classes: pynq 4.0.0 as it comes, on a model of the board in pynq_device/.

pynq.lib.dma.DMA, DefaultIP, Interrupt, MMIO, UioController and allocate are the package's; below them stand models of
the registers, of the memory and of time. The accelerator is the compiled C++ of a small network. pynq wants numpy 1, so
it runs in a virtual environment of its own, which is made once for a version and kept in the user's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bitwright.backends.hls import csim
from bitwright.backends.hls.compare import input_format
from bitwright.backends.hls.plan import plan
from bitwright.backends.hls.stages import ports_of, stages_of
from bitwright.ir.evaluate import evaluate
from bitwright.ir.parse import parse

PYNQ = ("pynq==4.0.0", "pynqutils==0.1.3", "pynqmetadata==0.2.0")
BESIDE = ("numpy<2", "pydantic<3", "cffi", "ipython", "tqdm", "setuptools<80", "wheel")  # what importing it takes
FRAMES = 200
NETWORK = """graph @frames {
  input %x : FIXED<6>[N,2,12,12]
  weight %c.w = 00000001 : FIXED<4,B=1>[4,2,3,3]
  weight %d.w = 00000002 : EXP<4,B=7>[6,4,3,3]
  weight %f.w = 00000003 : FIXED<5,B=2>[5,54]
  %c = conv2d(%x, %c.w) {act=relu, kernel=[3,3], pads=[1,1,1,1]} : UFIXED<5>[N,4,12,12]
  %p = maxpool2d(%c) {kernel=[2,2], strides=[2,2]} : UFIXED<5>[N,4,6,6]
  %d = conv2d(%p, %d.w) {act=relu, kernel=[3,3], pads=[0,0,0,0], strides=[1,1]} : UFIXED<5>[N,6,4,4]
  %q = maxpool2d(%d) {kernel=[2,2], strides=[1,1]} : UFIXED<5>[N,6,3,3]
  %r = reshape(%q) {shape=[0,-1]} : UFIXED<5>[N,54]
  %f = dense(%r, %f.w) : FIXED<12>[N,5]
  output %f as "scores"
}"""


@pytest.fixture(scope="session")
def pynq_python() -> Path:
    """The Python of an environment with pynq; skips where it cannot be installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bitwright"
    home = cache / f"pynq-4.0.0-python-{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    python = Path("bin") / "python"
    if not (home / python).exists():
        part = home.with_suffix(f".{os.getpid()}.part")
        venv.create(part, with_pip=False, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(part / python), "install", "--quiet", "--retries", "1"]
        pip += ["--timeout", "10", "--disable-pip-version-check"]
        packages = [*pip, "--only-binary", ":all:", *BESIDE], [*pip, "--no-deps", "--no-build-isolation", *PYNQ]
        for command in (*packages, [str(part / python), "-c", "import pynq.lib.dma"]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(part)
                pytest.skip(f"pynq cannot be installed: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
        try:
            part.rename(home)
        except OSError:  # another test run was first
            shutil.rmtree(part)
    return home / python


@pytest.fixture(scope="session")
def happened(pynq_python: Path, networks: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every scenario of pynq_device/__main__.py came to, and the cycles that the estimate gives the network."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    graph = parse(NETWORK)
    number = input_format(graph)
    x = np.random.default_rng(5).uniform(float(number.min), float(number.max), (FRAMES, 2, 12, 12)).astype(np.float32)
    (y,) = evaluate(graph, {"": x}).values()
    assert len(np.unique(y, axis=0)) == FRAMES, "frames must differ, or their order could not be seen"
    stages = plan(stages_of(graph), networks.BOARD, 0.1).stages
    folder = tmp_path_factory.mktemp("pynq") / "out"
    found = networks.write(folder, graph, stages).estimate
    entering, leaving = ports_of(stages)
    timing = {"latency": found.latency, "interval": found.interval}
    timing |= {"load": entering.elements // entering.beat, "store": leaving.elements // leaving.beat}
    assert timing["latency"] > 1.9 * timing["interval"], "or overlapping would gain little"
    (folder / "timing.json").write_text(json.dumps(timing))
    np.savez(folder / "frames.npz", x=x, y=y)
    library = csim.compiled(folder, "frames", ap_types=False, trace=False)
    place = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(pynq_python), "-m", "pynq_device", str(folder), str(library)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1])) | timing


def test_200_frames_come_back_in_order_and_equal(happened: dict[str, Any]) -> None:
    assert happened["pynq"] == "4.0.0"
    assert happened["predict"]["equal"] == happened["predict_naive"]["equal"] == FRAMES
    assert happened["stream"] == {"equal": FRAMES, "again": True}
    assert happened["predict, slow software"]["equal"] == FRAMES


def test_overlapped_frames_cost_the_interval_and_naive_ones_the_latency(happened: dict[str, Any]) -> None:
    """Figure 12 of the LeNet paper. A register's access takes a cycle here; the naive driver makes 12 a frame."""
    overlapped, naive = happened["predict"], happened["predict_naive"]
    assert overlapped["interval"] == pytest.approx(happened["interval"])
    assert naive["interval"] == pytest.approx(happened["latency"] + 12)
    assert overlapped["first"] <= happened["latency"] + 30
    assert (overlapped["in flight"], naive["in flight"]) == (3, 1)


def test_software_that_takes_longer_than_a_frame_is_what_a_frame_costs(happened: dict[str, Any]) -> None:
    """An access of 200 ns and interrupts that take 3 us: the time between two transfers is no longer hidden."""
    overlapped, naive = happened["predict, slow software"], happened["predict_naive, slow software"]
    assert happened["interval"] < overlapped["interval"] < naive["interval"]


@pytest.mark.parametrize("way", ["predict", "predict_naive"])
@pytest.mark.parametrize(
    ("side", "words"),
    [
        ("send", "frame 7, send channel: DMA slave error: the memory did not answer (status 0x4021)"),
        ("receive", "frame 7, receive channel: DMA decode error: no memory at that address (status 0x4041)"),
    ],
)
def test_a_dma_error_is_named(happened: dict[str, Any], way: str, side: str, words: str) -> None:
    found = happened[f"{way}, {side} error"]
    assert found["error"] == words
    assert (found["frame"], found["channel"]) == (7, side)
    assert found["seconds"] < 0.06  # by looking, long before the timeout of 0.25 s
    assert found["error afterwards"].startswith("this accelerator cannot be used: a frame was lost (frame 7, ")


@pytest.mark.parametrize("way", ["predict", "predict_naive"])
def test_a_tlast_that_comes_too_early_is_a_short_frame(happened: dict[str, Any], way: str) -> None:
    assert happened[f"{way}, short"]["error"] == "frame 5, receive channel: short frame: 4 bytes came instead of 10"


@pytest.mark.parametrize(("side", "pin"), [("send", "mm2s_introut"), ("receive", "s2mm_introut")])
def test_a_missed_interrupt_is_noticed(happened: dict[str, Any], side: str, pin: str) -> None:
    found = happened[f"{side} silent"]
    assert found["error"] == (
        f"frame 3, {side} channel: the transfer is done but no interrupt came within 0.25 s: is dma/{pin} wired to the"
        " AXI interrupt controller?"
    )
    assert found["seconds"] == pytest.approx(0.25, abs=0.001)


@pytest.mark.parametrize("cache", ["flush", "invalidate"])
def test_the_model_shows_a_cache_that_is_not_maintained(happened: dict[str, Any], cache: str) -> None:
    assert happened[f"no {cache}"]["equal"] == 0
