"""Reports of a synthesis: the numbers of a csynth.xml of the tools' schema, and what is said of others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bitwright.backends.hls.csynth import Synthesised, read_csynth
from bitwright.ir.errors import CompileError

AREA = (
    "<AreaEstimates><Resources><BRAM_18K>{}</BRAM_18K><DSP>{}</DSP><FF>{}</FF><LUT>{}</LUT></Resources></AreaEstimates>"
)
REPORT = f"""<profile>
 <ReportVersion><Version>2023.2</Version></ReportVersion>
 <UserAssignments><unit>ns</unit><Part>xc7z020-clg400-1</Part><TopModelName>tiny</TopModelName>
  <TargetClockPeriod>10.00</TargetClockPeriod></UserAssignments>
 <PerformanceEstimates>
  <SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>7.256</EstimatedClockPeriod></SummaryOfTimingAnalysis>
  <SummaryOfOverallLatency><Best-caseLatency>120</Best-caseLatency><Worst-caseLatency>131</Worst-caseLatency>
   <Interval-min>80</Interval-min><Interval-max>84</Interval-max></SummaryOfOverallLatency>
 </PerformanceEstimates>
 {AREA.format(3, 12, 4100, 5200)}
 <ModuleInformation>
  <Module><Name>matvec_Conv_s</Name>
   <PerformanceEstimates><SummaryOfOverallLatency><Worst-caseLatency>82</Worst-caseLatency>
    <PipelineInitiationInterval>40 ~ 82</PipelineInitiationInterval></SummaryOfOverallLatency></PerformanceEstimates>
   {AREA.format(2, 12, 1000, 2000)}</Module>
  <Module><Name>tiny</Name>
   <PerformanceEstimates><SummaryOfOverallLatency><Worst-caseLatency>undef</Worst-caseLatency>
    <PipelineInitiationInterval>undef</PipelineInitiationInterval></SummaryOfOverallLatency></PerformanceEstimates>
   {AREA.format(3, 12, 4100, 5200)}</Module>
 </ModuleInformation>
</profile>"""


def report(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "csynth.xml"
    path.write_text(text)
    return path


def test_a_report_gives_its_numbers(tmp_path: Path) -> None:
    found = read_csynth(report(tmp_path, REPORT))
    assert (found.version, found.part, found.target_ns, found.estimated_ns) == ("2023.2", "xc7z020-clg400-1", 10, 7.256)
    assert found.top == Synthesised("tiny", 131, 84, {"lut": 5200, "ff": 4100, "bram18": 3, "dsp": 12})
    assert found.modules == (Synthesised("matvec_Conv_s", 82, 82, {"lut": 2000, "ff": 1000, "bram18": 2, "dsp": 12}),)


def test_vivado_hls_calls_its_multipliers_otherwise(tmp_path: Path) -> None:
    found = read_csynth(report(tmp_path, REPORT.replace("DSP>", "DSP48E>")))
    assert found.top.resources["dsp"] == 12


def test_what_the_tool_does_not_know_stays_open(tmp_path: Path) -> None:
    found = read_csynth(report(tmp_path, REPORT.replace(">131<", ">undef<").replace(">84<", ">?<")))
    assert (found.top.latency, found.top.interval) == (None, None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</profile>", "", "not an XML file"),
        ("TopModelName>", "Top>", "there is no UserAssignments/TopModelName"),
        ("<LUT>5200</LUT>", "", "tiny has no LUT"),
        (">10.00<", ">fast<", "TargetClockPeriod is 'fast'"),
        (">5200<", ">many<", "tiny has 'many'"),
    ],
)
def test_what_is_no_report_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(CompileError, match=re.escape(message)):
        read_csynth(report(tmp_path, REPORT.replace(old, new)))


def test_a_report_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="cannot read"):
        read_csynth(tmp_path / "none.xml")
