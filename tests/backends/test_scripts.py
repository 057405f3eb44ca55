"""The Tcl of an output folder, run by tclsh against stand-ins for the vendor's commands.

The stand-ins record every call. Those for the block design also know the pins of each cell, as its settings
make them, so that the wiring can be checked as a netlist. No vendor tool runs here: what these tests cannot
see is whether the tools accept the options.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bitwright.backends.hls.board import boards, load_board
from bitwright.backends.hls.settings import settings_tcl
from bitwright.ir.errors import InternalError

SCRIPTS = Path(__file__).parents[2] / "backends" / "hls" / "scripts"
TCLSH = shutil.which("tclsh") or shutil.which("tclsh8.6")

pytestmark = pytest.mark.skipif(
    TCLSH is None, reason="needs tclsh to run the Tcl scripts: apt-get install tcl (or brew install tcl-tk)"
)

SOURCES = ("src/lenet5.cpp", "src/extra.cpp")

# Fields of a call are separated by the ASCII unit separator: no word of the scripts holds it.
RECORDER = r"""
proc record {args} { puts "CALL\x1f[join $args \x1f]" }
proc stand_in {name {answer {}}} {
    proc $name args "record $name {*}\$args; return [list $answer]"
}
"""

HLS_STUBS = r"""
foreach name {open_project set_top add_files open_solution set_part create_clock csim_design csynth_design
              cosim_design config_export export_design} { stand_in $name }
rename exit leave
proc exit {{code {}}} { if {$code ne {}} { leave $code }; record exit; leave 0 }
"""

# A kind's pins: name and direction; its interfaces: name, mode and protocol; and what a processor has only
# where the setting of that name is 1.
VIVADO_STUBS = r"""
foreach name {create_project update_ip_catalog create_bd_design apply_bd_automation assign_bd_address
              validate_bd_design save_bd_design generate_target add_files update_compile_order launch_runs
              wait_on_run open_run report_utilization report_timing_summary} { stand_in $name }
stand_in current_project project
stand_in current_fileset sources_1
stand_in get_files design_1.bd
stand_in get_ipdefs
stand_in make_wrapper wrapper.v
proc get_runs run { return run:$run }
proc get_board_parts {-quiet pattern} { lsearch -all -inline -glob $::stub::board_parts $pattern }

namespace eval stub {}

set stub::pins(processing_system7) {FCLK_CLK0 O FCLK_RESET0_N O M_AXI_GP0_ACLK I}
set stub::intf(processing_system7) {M_AXI_GP0 Master aximm_rtl DDR Master ddrx_rtl}
set stub::pins(zynq_ultra_ps_e) {pl_resetn0 O}
set stub::intf(zynq_ultra_ps_e) {}
set stub::optional(PCW_USE_S_AXI_HP0) {pins {S_AXI_HP0_ACLK I} intf {S_AXI_HP0 Slave aximm_rtl}}
set stub::optional(PCW_IRQ_F2P_INTR) {pins {IRQ_F2P I} intf {}}
set stub::optional(PSU__FPGA_PL0_ENABLE) {pins {pl_clk0 O} intf {}}
set stub::optional(PSU__USE__M_AXI_GP0) {pins {maxihpm0_fpd_aclk I} intf {M_AXI_HPM0_FPD Master aximm_rtl}}
set stub::optional(PSU__USE__S_AXI_GP2) {pins {saxihp0_fpd_aclk I} intf {S_AXI_HP0_FPD Slave aximm_rtl}}
set stub::optional(PSU__USE__IRQ0) {pins {pl_ps_irq0 I} intf {}}
set stub::pins(proc_sys_reset) {slowest_sync_clk I ext_reset_in I interconnect_aresetn O peripheral_aresetn O}
set stub::intf(proc_sys_reset) {}
set stub::pins(accelerator) {ap_clk I ap_rst_n I interrupt O}
set stub::intf(accelerator) {s_axi_control Slave aximm_rtl in_r Slave axis_rtl out_r Master axis_rtl}
set stub::pins(axi_dma) {s_axi_lite_aclk I m_axi_mm2s_aclk I m_axi_s2mm_aclk I axi_resetn I
                   mm2s_introut O s2mm_introut O}
set stub::intf(axi_dma) {S_AXI_LITE Slave aximm_rtl M_AXI_MM2S Master aximm_rtl M_AXI_S2MM Master aximm_rtl
                   M_AXIS_MM2S Master axis_rtl S_AXIS_S2MM Slave axis_rtl}
set stub::pins(axi_intc) {s_axi_aclk I s_axi_aresetn I intr I irq O}
set stub::intf(axi_intc) {s_axi Slave aximm_rtl}
set stub::pins(axi_interconnect) {ACLK I ARESETN I}
set stub::intf(axi_interconnect) {}
set stub::pins(xlconcat) {dout O}
set stub::intf(xlconcat) {}

proc create_bd_cell args {
    record create_bd_cell {*}$args
    lassign $args - - - vlnv name
    lassign [split $vlnv :] - library kind
    if {$library eq "hls"} { set kind accelerator }
    set ::stub::kind($name) $kind
    set ::stub::cell_pins($name) $::stub::pins($kind)
    set ::stub::cell_intf($name) $::stub::intf($kind)
}
proc get_bd_cells name { if {[info exists ::stub::kind($name)]} { return cell:$name } }

proc grow {name settings} {
    foreach {key value} $settings {
        set key [string range $key 7 end]
        if {[info exists ::stub::optional($key)] && $value == 1} {
            lappend ::stub::cell_pins($name) {*}[dict get $::stub::optional($key) pins]
            lappend ::stub::cell_intf($name) {*}[dict get $::stub::optional($key) intf]
        }
        foreach {setting letter mode} {NUM_SI S Slave NUM_MI M Master} {
            if {$key ne $setting} continue
            for {set i 0} {$i < $value} {incr i} {
                set side [format %s%02d $letter $i]
                lappend ::stub::cell_pins($name) ${side}_ACLK I ${side}_ARESETN I
                lappend ::stub::cell_intf($name) ${side}_AXI $mode aximm_rtl
            }
        }
        if {$key eq "NUM_PORTS"} {
            for {set i 0} {$i < $value} {incr i} { lappend ::stub::cell_pins($name) In$i I }
        }
    }
}
proc set_property args {
    record set_property {*}$args
    if {[lindex $args 0] eq "-dict"} {
        grow [string range [lindex $args 2] 5 end] [lindex $args 1]
    }
}
proc get_bd_pins path {
    lassign [split $path /] name pin
    if {[info exists ::stub::cell_pins($name)] && [dict exists $::stub::cell_pins($name) $pin]} { return /$path }
}
proc get_bd_intf_pins path {
    lassign [split $path /] name pin
    set found {}
    foreach {intf mode protocol} $::stub::cell_intf($name) {
        if {[string match $pin $intf]} { lappend found /$name/$intf }
    }
    return $found
}
proc get_property {what object} {
    if {$object eq "run:impl_1" && $what eq "STATS.WNS"} { return $::stub::slack }
    if {[string match run:* $object]} {
        if {$what eq "PROGRESS"} { return $::stub::progress }
        return "as told"
    }
    lassign [split $object /] - name pin
    foreach {intf mode protocol} $::stub::cell_intf($name) {
        if {$intf eq $pin} { return [expr {$what eq "MODE" ? $mode : "xilinx.com:interface:$protocol:1.0"}] }
    }
}
proc connect_bd_net args { record connect_bd_net {*}$args }
proc connect_bd_intf_net args { record connect_bd_intf_net {*}$args }
proc dump {} {
    foreach name [array names ::stub::cell_pins] {
        foreach {pin way} $::stub::cell_pins($name) { puts "PIN\x1f/$name/$pin\x1f$way" }
        foreach {intf mode protocol} $::stub::cell_intf($name) { puts "INTF\x1f/$name/$intf\x1f$mode\x1f$protocol" }
    }
}
set stub::slack 0.5
set stub::progress 100%
set stub::board_parts {tul.com.tw:pynq-z2:part0:1.0 xilinx.com:zcu104:part0:1.0 xilinx.com:zcu104:part0:1.1
                 xilinx.com:kv260_som:part0:1.3 avnet.com:ultra96v2:part0:1.2}
"""


@dataclass
class Run:
    """What a script did: its calls, the pins of its design, and how it ended."""

    code: int
    errors: str
    calls: list[tuple[str, ...]] = field(default_factory=list)
    pins: dict[str, str] = field(default_factory=dict)
    interfaces: dict[str, tuple[str, str]] = field(default_factory=dict)

    def of(self, name: str) -> list[tuple[str, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]

    def settings(self, cell: str) -> dict[str, str]:
        """All CONFIG settings of a cell, in the order they were made."""
        made: dict[str, str] = {}
        for call in self.of("set_property"):
            if call[0] == "-dict" and call[2] == f"cell:{cell}":
                words = call[1].split()
                made.update({words[i].removeprefix("CONFIG."): words[i + 1] for i in range(0, len(words), 2)})
        return made

    def nets(self) -> list[tuple[str, ...]]:
        return self.of("connect_bd_net")

    def buses(self) -> set[tuple[str, ...]]:
        return set(self.of("connect_bd_intf_net"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder with an exported IP and finished runs, as the tools would leave them."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    (tmp_path / "hls" / "solution1" / "impl" / "ip").mkdir(parents=True)
    bits = tmp_path / "vivado" / "lenet5.runs" / "impl_1"
    bits.mkdir(parents=True)
    (bits / "design_1_wrapper.bit").write_bytes(b"bits")
    handoff = tmp_path / "vivado" / "lenet5.gen" / "sources_1" / "bd" / "design_1" / "hw_handoff"
    handoff.mkdir(parents=True)
    (handoff / "design_1.hwh").write_text("<hwh/>")
    write_settings(tmp_path)
    return tmp_path


def write_settings(folder: Path, board: str = "pynq-z2", in_bits: int = 8, out_bits: int = 32) -> None:
    b = load_board(board)
    text = settings_tcl(
        top="lenet5", part=b.part, clock_ns=b.clock_ns, board=b.name, board_part=b.board_part,
        processor=b.processor, sources=SOURCES, in_bits=in_bits, out_bits=out_bits,
    )  # fmt: skip
    (folder / "scripts" / "settings.tcl").write_text(text)


def tcl(folder: Path, script: str, stubs: str, before: str = "", **environment: str) -> Run:
    after = "if {[info procs dump] ne {}} dump\n"
    runner = folder / "runner.tcl"
    runner.write_text(f"{RECORDER}\n{stubs}\n{before}\nsource {folder / 'scripts' / script}\n{after}")
    assert TCLSH is not None
    done = subprocess.run(
        [TCLSH, str(runner)], capture_output=True, text=True, timeout=30, env={**os.environ, **environment}
    )
    run = Run(done.returncode, done.stderr)
    for line in done.stdout.splitlines():
        kind, *words = line.split("\x1f")
        if kind == "CALL":
            run.calls.append(tuple(words))
        elif kind == "PIN":
            run.pins[words[0]] = words[1]
        elif kind == "INTF":
            run.interfaces[words[0]] = (words[1], words[2])
    return run


def hls(folder: Path, **environment: str) -> Run:
    return tcl(folder, "build.tcl", HLS_STUBS, **environment)


def vivado(folder: Path, before: str = "") -> Run:
    return tcl(folder, "block_design.tcl", VIVADO_STUBS, before)


# ---- build.tcl --------------------------------------------------------------------------------------------


def test_vitis_builds_what_the_settings_say(folder: Path) -> None:
    run = hls(folder)
    assert run.code == 0, run.errors
    assert [call[0] for call in run.calls] == [
        "open_project", "set_top", *["add_files"] * 5, "open_solution", "set_part", "create_clock",
        "csim_design", "csynth_design", "config_export", "export_design", "exit",
    ]  # fmt: skip
    assert run.of("open_project") == [("-reset", "hls")]
    assert run.of("set_top") == [("lenet5",)]
    assert run.of("set_part") == [("xc7z020clg400-1",)]
    assert run.of("create_clock") == [("-period", "10", "-name", "default")]
    assert run.of("open_solution") == [("-reset", "-flow_target", "vivado", "solution1")]
    files = run.of("add_files")
    flags = f"-I{folder}/include -I{folder}/src -DBITWRIGHT_AP_TYPES -std=c++14"
    assert files[:2] == [(f"{folder}/{source}", "-cflags", flags) for source in SOURCES]
    assert files[2] == ("-tb", f"{folder}/tb/testbench.cpp", "-cflags", flags)
    assert files[3:] == [("-tb", f"{folder}/tb/golden_{side}.txt") for side in ("input", "output")]
    golden = f"{folder}/tb/golden_input.txt {folder}/tb/golden_output.txt"
    assert run.of("csim_design") == [("-clean", "-argv", golden)]
    assert run.of("config_export")[0][:4] == ("-format", "ip_catalog", "-rtl", "verilog")
    assert run.of("export_design") == [()]


def test_vivado_hls_gets_its_own_syntax_and_flags(folder: Path) -> None:
    run = hls(folder, BITWRIGHT_HLS="vivado")
    assert run.code == 0, run.errors
    assert run.of("open_solution") == [("-reset", "solution1")]
    flags = run.of("add_files")[0][2]
    assert flags.endswith("-DBITWRIGHT_AP_TYPES -DBITWRIGHT_VIVADO_HLS -std=c++11")
    assert run.of("config_export") == []
    assert run.of("export_design")[0][:4] == ("-format", "ip_catalog", "-rtl", "verilog")


@pytest.mark.parametrize("started", ["/opt/x/Vivado/2020.1/bin/unwrapped/lnx64.o/vivado_hls", "vivado_hls"])
def test_vivado_hls_is_detected_by_the_name_it_was_started_by(folder: Path, started: str) -> None:
    run = tcl(folder, "build.tcl", HLS_STUBS, before=f"set argv0 {started}")
    assert run.of("open_solution") == [("-reset", "solution1")]


@pytest.mark.parametrize("started", ["vitis_hls", "/opt/x/Vitis/2024.2/bin/unwrapped/lnx64.o/vitis-run"])
def test_everything_else_is_vitis(folder: Path, started: str) -> None:
    run = tcl(folder, "build.tcl", HLS_STUBS, before=f"set argv0 {started}")
    assert run.of("open_solution") == [("-reset", "-flow_target", "vivado", "solution1")]


def test_steps_can_be_chosen(folder: Path) -> None:
    run = hls(folder, BITWRIGHT_STEPS="csynth cosim")
    assert [call[0] for call in run.calls][-3:] == ["csynth_design", "cosim_design", "exit"]
    wrong = hls(folder, BITWRIGHT_STEPS="csynth coffee")
    assert wrong.code != 0
    assert "unknown step coffee" in wrong.errors
    assert wrong.calls == []


def test_a_wrong_tool_is_refused(folder: Path) -> None:
    assert "BITWRIGHT_HLS must be vivado or vitis, not catapult" in hls(folder, BITWRIGHT_HLS="catapult").errors


# ---- block_design.tcl -------------------------------------------------------------------------------------


def faults(run: Run) -> list[str]:
    """Everything wrong with the wiring of a design."""
    found = []
    driven: dict[str, int] = {}
    for net in run.nets():
        found += [f"{pin} is no pin" for pin in net if pin not in run.pins]
        drivers = [pin for pin in net if run.pins.get(pin) == "O"]
        if len(drivers) != 1:
            found.append(f"a net has the drivers {drivers}")
        for pin in net:
            driven[pin] = driven.get(pin, 0) + 1
    for pin, way in run.pins.items():
        if way == "I" and driven.get(pin, 0) != 1:
            found.append(f"{pin} is connected {driven.get(pin, 0)} times")
    joined: dict[str, int] = {}
    for ends in run.buses():
        modes = [run.interfaces.get(end, ("missing", ""))[0] for end in ends]
        protocols = {run.interfaces.get(end, ("", "missing"))[1] for end in ends}
        if modes != ["Master", "Slave"] or len(protocols) != 1:
            found.append(f"{' to '.join(ends)} joins {modes} of {sorted(protocols)}")
        for end in ends:
            joined[end] = joined.get(end, 0) + 1
    for end, (_mode, protocol) in run.interfaces.items():
        if protocol != "ddrx_rtl" and joined.get(end, 0) != 1:
            found.append(f"{end} is connected {joined.get(end, 0)} times")
    return found


def net_of(run: Run, pin: str) -> set[str]:
    return {end for net in run.nets() if pin in net for end in net}


PROCESSOR = {
    "pynq-z2": ("IRQ_F2P", "M_AXI_GP0", "S_AXI_HP0", "FCLK_CLK0"),
    "pynq-z1": ("IRQ_F2P", "M_AXI_GP0", "S_AXI_HP0", "FCLK_CLK0"),
    "zcu104": ("pl_ps_irq0", "M_AXI_HPM0_FPD", "S_AXI_HP0_FPD", "pl_clk0"),
    "kv260": ("pl_ps_irq0", "M_AXI_HPM0_FPD", "S_AXI_HP0_FPD", "pl_clk0"),
    "ultra96": ("pl_ps_irq0", "M_AXI_HPM0_FPD", "S_AXI_HP0_FPD", "pl_clk0"),
}


@pytest.mark.parametrize("board", PROCESSOR)
def test_every_pin_is_wired_once(folder: Path, board: str) -> None:
    write_settings(folder, board, in_bits=8, out_bits=32)
    run = vivado(folder, "lappend stub::board_parts www.digilentinc.com:pynq-z1:part0:1.0")
    assert run.code == 0, run.errors
    assert faults(run) == []

    irq, control, memory, clock = (f"/processor/{pin}" for pin in PROCESSOR[board])
    assert net_of(run, "/accelerator/interrupt") == {"/accelerator/interrupt", "/sources/In0"}
    assert net_of(run, "/dma/mm2s_introut") == {"/dma/mm2s_introut", "/sources/In1"}
    assert net_of(run, "/dma/s2mm_introut") == {"/dma/s2mm_introut", "/sources/In2"}
    assert net_of(run, "/sources/dout") == {"/sources/dout", "/interrupts/intr"}
    assert net_of(run, irq) == {irq, "/interrupts/irq"}
    assert {"/accelerator/ap_clk", "/dma/m_axi_s2mm_aclk", "/interrupts/s_axi_aclk"} <= net_of(run, clock)
    assert {
        (control, "/control/S00_AXI"),
        ("/control/M00_AXI", "/accelerator/s_axi_control"),
        ("/control/M01_AXI", "/dma/S_AXI_LITE"),
        ("/control/M02_AXI", "/interrupts/s_axi"),
        ("/dma/M_AXI_MM2S", "/data/S00_AXI"),
        ("/dma/M_AXI_S2MM", "/data/S01_AXI"),
        ("/data/M00_AXI", memory),
        ("/dma/M_AXIS_MM2S", "/accelerator/in_r"),
        ("/accelerator/out_r", "/dma/S_AXIS_S2MM"),
    } == run.buses()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("wire dma/s2mm_introut sources/In2", "", "/sources/In2 is connected 0 times"),
        ("wire dma/mm2s_introut sources/In1", "wire dma/mm2s_introut sources/In2", "/sources/In1 is connected 0"),
        ("bus dma/M_AXI_S2MM data/S01_AXI", "", "/dma/M_AXI_S2MM is connected 0 times"),
        ("bus dma/M_AXI_MM2S data/S00_AXI", "bus data/S00_AXI dma/M_AXI_MM2S", "joins ['Slave', 'Master']"),
        ("    accelerator/ap_clk\n", "", "/accelerator/ap_clk is connected 0 times"),
        ("wire interrupts/irq processor/$ps_interrupt", "", "/processor/IRQ_F2P is connected 0 times"),
        ("    data/S00_ARESETN", "    reset/interconnect_aresetn data/S00_ARESETN", "a net has the drivers"),
        ("CONFIG.NUM_MI 3", "CONFIG.NUM_MI 4", "/control/M03_AXI is connected 0 times"),
    ],
)
def test_the_check_sees_a_wrong_wire(folder: Path, old: str, new: str, fault: str) -> None:
    script = folder / "scripts" / "block_design.tcl"
    text = script.read_text()
    assert text.count(old) == 1
    script.write_text(text.replace(old, new))
    assert any(fault in found for found in faults(vivado(folder)))


@pytest.mark.parametrize("missing", ["dma/s2mm_intro", "sources/In7", "nothing/ap_clk"])
def test_a_pin_that_does_not_exist_stops_the_script(folder: Path, missing: str) -> None:
    script = folder / "scripts" / "block_design.tcl"
    script.write_text(script.read_text().replace("wire dma/s2mm_introut", f"wire {missing}"))
    run = vivado(folder)
    assert run.code != 0
    assert f"the design has no pin {missing}" in run.errors


@pytest.mark.parametrize(
    ("in_bits", "out_bits", "memory"), [(8, 32, ("64", "64")), (128, 16, ("128", "64")), (64, 1024, ("64", "1024"))]
)
def test_the_dma_is_simple_and_as_wide_as_the_streams(
    folder: Path, in_bits: int, out_bits: int, memory: tuple[str, str]
) -> None:
    write_settings(folder, "pynq-z2", in_bits, out_bits)
    dma = vivado(folder).settings("dma")
    assert dma["c_include_sg"] == "0"
    assert dma["c_include_mm2s"] == dma["c_include_s2mm"] == "1"
    assert dma["c_m_axis_mm2s_tdata_width"] == str(in_bits)
    assert dma["c_s_axis_s2mm_tdata_width"] == str(out_bits)
    assert (dma["c_m_axi_mm2s_data_width"], dma["c_m_axi_s2mm_data_width"]) == memory
    assert dma["c_addr_width"] == "32"


def test_a_design_goes_all_the_way_to_a_bitstream(folder: Path) -> None:
    run = vivado(folder)
    assert run.of("create_project") == [("-force", "lenet5", f"{folder}/vivado", "-part", "xc7z020clg400-1")]
    names = [call[0] for call in run.calls]
    order = ["assign_bd_address", "validate_bd_design", "save_bd_design", "make_wrapper", "launch_runs"]
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order)
    assert run.of("launch_runs") == [("synth_1",), ("impl_1", "-to_step", "write_bitstream")]
    assert run.of("wait_on_run") == [("synth_1",), ("impl_1",)]
    assert (folder / "bitstream" / "lenet5.bit").read_bytes() == b"bits"
    assert (folder / "bitstream" / "lenet5.hwh").read_text() == "<hwh/>"
    assert run.settings("processor")["PCW_FPGA0_PERIPHERAL_FREQMHZ"] == "100.0"
    assert run.settings("interrupts") == {"C_IRQ_CONNECTION": "1", "C_IRQ_IS_LEVEL": "1"}
    again = vivado(folder)
    assert (again.code, again.calls) == (0, run.calls)


def test_an_older_vivado_keeps_the_handoff_elsewhere(folder: Path) -> None:
    (folder / "vivado" / "lenet5.gen").rename(folder / "vivado" / "lenet5.srcs")
    assert vivado(folder).code == 0
    assert (folder / "bitstream" / "lenet5.hwh").exists()


def test_the_newest_installed_board_file_is_taken(folder: Path) -> None:
    write_settings(folder, "zcu104")
    chosen = ("board_part", "xilinx.com:zcu104:part0:1.1", "project")
    assert chosen in vivado(folder).of("set_property")
    write_settings(folder, "kv260")
    assert ("board_part", "xilinx.com:kv260_som:part0:1.3", "project") in vivado(folder).of("set_property")


@pytest.mark.parametrize(
    ("before", "change", "message"),
    [
        ("set stub::board_parts {}", "", "Vivado has no board file tul.com.tw:pynq-z2:part0: install it"),
        ("set stub::progress 57%", "", "synth_1 stopped at 57%"),
        ("set stub::slack -0.3", "", "timing is not met: -0.3 ns short of 10 ns"),
        ("set stub::intf(accelerator) {s_axi_control Slave aximm_rtl in_r Slave axis_rtl}", "", "one Master interface"),
        ("", "ip", "run scripts/build.tcl first"),
        ("", "hwh", "Vivado left no design_1.hwh"),
        ("", "arty-a7-35t", "board arty-a7-35t has no Zynq processor"),
    ],
)
def test_what_goes_wrong_is_named(folder: Path, before: str, change: str, message: str) -> None:
    if change == "ip":
        shutil.rmtree(folder / "hls")
    elif change == "hwh":
        shutil.rmtree(folder / "vivado" / "lenet5.gen")
    elif change:
        write_settings(folder, change)
    run = vivado(folder, before)
    assert run.code != 0
    assert message in run.errors


def test_without_a_board_file_the_preset_is_left_out(folder: Path) -> None:
    settings = folder / "scripts" / "settings.tcl"
    settings.write_text(settings.read_text() + "set board_part {}\n")
    run = vivado(folder, "set stub::board_parts {}")
    assert run.code == 0, run.errors
    assert faults(run) == []
    assert 'apply_board_preset "0"' in run.of("apply_bd_automation")[0][3]


# ---- settings.tcl -----------------------------------------------------------------------------------------


def test_settings_are_what_they_say(tmp_path: Path) -> None:
    text = settings_tcl(
        top="lenet5", part="xc7z020clg400-1", clock_ns=10, board="pynq-z2", sources=SOURCES, in_bits=8, out_bits=32
    )
    assert text.splitlines()[1:] == [
        "set top lenet5",
        "set part xc7z020clg400-1",
        "set clock_ns 10",
        "set board pynq-z2",
        "set board_part {}",
        "set processor none",
        "set in_bits 8",
        "set out_bits 32",
        "set sources {src/lenet5.cpp src/extra.cpp}",
        "set testbench {tb/testbench.cpp}",
        "set golden {tb/golden_input.txt tb/golden_output.txt}",
        "set steps {csim csynth export}",
    ]


@pytest.mark.parametrize("name", ["a b.cpp", "a$x.cpp", "[exit].cpp", "a{b.cpp", 'a"b\\c.cpp', "a;b.cpp", "#a.cpp"])
def test_settings_hold_any_name_literally(tmp_path: Path, name: str) -> None:
    text = settings_tcl(top="t", part="p", clock_ns=5, board=name, sources=[name, "b.cpp"], in_bits=8, out_bits=8)
    script = tmp_path / "s.tcl"
    script.write_text(text + "puts -nonewline $board\\x1f[join $sources \\x1f]")
    assert TCLSH is not None
    done = subprocess.run([TCLSH, str(script)], capture_output=True, text=True, timeout=30)
    assert done.stdout.split("\x1f") == [name, name, "b.cpp"], done.stderr


@pytest.mark.parametrize(("in_bits", "out_bits"), [(12, 8), (8, 4), (2048, 8)])
def test_a_stream_of_impossible_width_is_our_fault(in_bits: int, out_bits: int) -> None:
    with pytest.raises(InternalError, match="a stream of an AXI DMA has"):
        settings_tcl(top="t", part="p", clock_ns=5, board="b", sources=["a.cpp"], in_bits=in_bits, out_bits=out_bits)


def test_boards_with_a_driver_have_a_block_design() -> None:
    assert {board.name for board in boards() if board.driver == "pynq"} == set(PROCESSOR)
