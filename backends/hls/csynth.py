"""Reads csynth.xml, the report of a synthesis by Vitis HLS: cycles and resources, whole and by module."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from bitwright.ir.errors import CompileError

RESOURCES = {"lut": ("LUT",), "ff": ("FF",), "bram18": ("BRAM_18K",), "dsp": ("DSP", "DSP48E"), "uram": ("URAM",)}


@dataclass(frozen=True)
class Synthesised:
    """What the tool found of a function: cycles, None where it could not say, and resources by name."""

    name: str
    latency: int | None
    interval: int | None
    resources: dict[str, int]


@dataclass(frozen=True)
class Synthesis:
    """A report: the tool's version, the part, clock periods in ns, the top function and its modules."""

    version: str
    part: str
    target_ns: float
    estimated_ns: float
    top: Synthesised
    modules: tuple[Synthesised, ...]


def read_csynth(path: Path) -> Synthesis:
    """The report in a csynth.xml. Raises CompileError if it is none, naming what is missing."""
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise CompileError(f"cannot read {path}: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise CompileError(f"{path}: not an XML file: {error}") from error
    top = _function(path, root, _text(path, root, "UserAssignments/TopModelName"), "Interval-max")
    found = [
        _function(path, module, _text(path, module, "Name"), "PipelineInitiationInterval")
        for module in root.findall("ModuleInformation/Module")
    ]
    return Synthesis(
        _text(path, root, "ReportVersion/Version"),
        _text(path, root, "UserAssignments/Part"),
        _period(path, root, "UserAssignments/TargetClockPeriod"),
        _period(path, root, "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod"),
        top,
        tuple(module for module in found if module.name != top.name),
    )


def _function(path: Path, element: ElementTree.Element, name: str, interval: str) -> Synthesised:
    cycles = "PerformanceEstimates/SummaryOfOverallLatency"
    resources = {}
    for key, spellings in RESOURCES.items():
        texts = [element.findtext(f"AreaEstimates/Resources/{spelling}") for spelling in spellings]
        given = [text for text in texts if text is not None]
        if given:
            resources[key] = _count(path, name, given[0]) or 0
        elif key != "uram":
            raise CompileError(f"{path}: {name} has no {spellings[0]}", help="give csynth.xml of a finished synthesis")
    return Synthesised(
        name,
        _count(path, name, _text(path, element, f"{cycles}/Worst-caseLatency")),
        _longest(path, name, _text(path, element, f"{cycles}/{interval}")),
        resources,
    )


def _text(path: Path, element: ElementTree.Element, place: str) -> str:
    found = element.findtext(place)
    if found is None:
        raise CompileError(f"{path}: there is no {place}", help="give the csynth.xml that Vitis HLS writes")
    return found.strip()


def _period(path: Path, element: ElementTree.Element, place: str) -> float:
    text = _text(path, element, place)
    try:
        return float(text)
    except ValueError as error:
        raise CompileError(f"{path}: {place} is {text!r}, not a number") from error


def _count(path: Path, name: str, text: str) -> int | None:
    """A number, or None where the tool says that it does not know."""
    if text in ("undef", "?", "-", ""):
        return None
    if not text.isdigit():
        raise CompileError(f"{path}: {name} has {text!r} where a number should be")
    return int(text)


def _longest(path: Path, name: str, text: str) -> int | None:
    """The last number of an interval such as `40 ~ 47`."""
    return _count(path, name, text.split("~")[-1].strip())
