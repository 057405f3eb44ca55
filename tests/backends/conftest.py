"""How the tests of the HLS backend find what they share: their small networks, the rules of HLS code."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from stand_in import IN, INTERVAL, LATENCY, OUT, Bench, Hardware, Overlay, allocate, compute

from bitwright.backends.hls.driver.accelerator import Accelerator
from bitwright.backends.hls.settings import Port, network_json


@pytest.fixture(scope="session")
def ap_flags(ap_headers: Path) -> list[str]:
    """The flags of a build with the ap_* types."""
    # Inlined into our code, the headers' own uninitialised reads are reported as ours.
    quiet = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    return ["-DBITWRIGHT_AP_TYPES", *quiet, "-isystem", str(ap_headers)]


@pytest.fixture(scope="session")
def networks(load_file: Callable[[str, Path], ModuleType]) -> ModuleType:
    """networks.py beside this file."""
    return load_file("hls_networks", Path(__file__).with_name("networks.py"))


@pytest.fixture(scope="session")
def hls_rules(load_file: Callable[[str, Path], ModuleType]) -> ModuleType:
    """The package hls_rules beside this file."""
    pytest.importorskip("tree_sitter_cpp", reason="needs tree-sitter-cpp: pip install tree-sitter tree-sitter-cpp")
    return load_file("hls_rules", Path(__file__).with_name("hls_rules") / "__init__.py")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    """Builds a bench; the network and the hardware's function can be others."""
    monkeypatch.setitem(sys.modules, "pynq", types.SimpleNamespace(allocate=allocate, Overlay=None))
    made: list[Accelerator] = []

    def build(
        input: Port = IN,
        output: Port = OUT,
        function: Callable[[np.ndarray], np.ndarray] = compute,
        change: Callable[[Overlay], None] = lambda overlay: None,
        **options: Any,
    ) -> Bench:
        hardware = Hardware(function, LATENCY, INTERVAL)
        overlay = Overlay(hardware)
        change(overlay)
        network = json.loads(network_json(name="tiny", input=input, output=output))
        net = Accelerator(network=network, overlay=overlay, loop=hardware.loop, **options)
        made.append(net)
        return Bench(hardware, overlay, net)

    yield build
    for net in made:
        net.close()


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()
