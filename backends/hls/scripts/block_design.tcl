# From the exported IP to a bitstream for a Zynq board with PYNQ.
#
#   vivado -mode batch -source scripts/block_design.tcl
#
# Run scripts/build.tcl first. Leaves bitstream/<top>.bit and bitstream/<top>.hwh, and Vivado's reports beside
# them. Everything under vivado/ is made anew every time.
#
#   processor --AXI-Lite--> control -> accelerator, dma, interrupts
#   memory <--AXI-- data <- dma.MM2S, dma.S2MM
#   dma.MM2S --stream--> accelerator --stream--> dma.S2MM
#   accelerator, dma.mm2s, dma.s2mm -> sources (concat) -> interrupts (AXI INTC) -> processor
#
# PYNQ finds an interrupt only through an AXI interrupt controller on the first line of the processor.

set root [file normalize [file join [file dirname [info script]] ..]]
source [file join $root scripts settings.tcl]

set ip_folder [file join $root hls solution1 impl ip]
set project_folder [file join $root vivado]
set result_folder [file join $root bitstream]
set clock_mhz [expr {1000.0 / $clock_ns}]

# What differs between the two families: the cell, its settings and the names of its pins.
switch $processor {
    zynq7000 {
        set ps_vlnv xilinx.com:ip:processing_system7
        set ps_rule xilinx.com:bd_rule:processing_system7
        set ps_preset {make_external "FIXED_IO, DDR" apply_board_preset "1" Master "Disable" Slave "Disable"}
        set ps_plain {make_external "FIXED_IO, DDR" apply_board_preset "0" Master "Disable" Slave "Disable"}
        set ps_settings [list \
            CONFIG.PCW_USE_M_AXI_GP0 1 \
            CONFIG.PCW_USE_S_AXI_HP0 1 \
            CONFIG.PCW_S_AXI_HP0_DATA_WIDTH 64 \
            CONFIG.PCW_USE_FABRIC_INTERRUPT 1 \
            CONFIG.PCW_IRQ_F2P_INTR 1 \
            CONFIG.PCW_EN_CLK0_PORT 1 \
            CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $clock_mhz]
        set ps_clock FCLK_CLK0
        set ps_reset FCLK_RESET0_N
        set ps_clocked {M_AXI_GP0_ACLK S_AXI_HP0_ACLK}
        set ps_master M_AXI_GP0
        set ps_slave S_AXI_HP0
        set ps_interrupt IRQ_F2P
        set address_bits 32
    }
    zynqmp {
        set ps_vlnv xilinx.com:ip:zynq_ultra_ps_e
        set ps_rule xilinx.com:bd_rule:zynq_ultra_ps_e
        set ps_preset {apply_board_preset "1"}
        set ps_plain {apply_board_preset "0"}
        set ps_settings [list \
            CONFIG.PSU__USE__M_AXI_GP0 1 \
            CONFIG.PSU__USE__M_AXI_GP1 0 \
            CONFIG.PSU__USE__M_AXI_GP2 0 \
            CONFIG.PSU__USE__S_AXI_GP2 1 \
            CONFIG.PSU__SAXIGP2__DATA_WIDTH 64 \
            CONFIG.PSU__USE__IRQ0 1 \
            CONFIG.PSU__FPGA_PL0_ENABLE 1 \
            CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz]
        set ps_clock pl_clk0
        set ps_reset pl_resetn0
        set ps_clocked {maxihpm0_fpd_aclk saxihp0_fpd_aclk}
        set ps_master M_AXI_HPM0_FPD
        set ps_slave S_AXI_HP0_FPD
        set ps_interrupt pl_ps_irq0
        set address_bits 40
    }
    default {
        error "board $board has no Zynq processor: take the IP in $ip_folder into a design of your own"
    }
}
if {![file isdirectory $ip_folder]} {
    error "no IP in $ip_folder: run scripts/build.tcl first"
}

# ---- small words for what follows -------------------------------------------------------------------------

proc cell {name vlnv args} {
    create_bd_cell -type ip -vlnv $vlnv $name
    if {[llength $args]} {
        set_property -dict $args [get_bd_cells $name]
    }
}

# Vivado answers a wrong name with a warning and nothing: a missing wire would only be seen on the board.
proc existing {kind name} {
    set found [$kind $name]
    if {$found eq ""} {
        error "the design has no pin $name"
    }
    return $found
}

proc wire {from args} {
    set pins {}
    foreach pin [list $from {*}$args] {
        lappend pins [existing get_bd_pins $pin]
    }
    connect_bd_net {*}$pins
}

proc bus {from to} {
    connect_bd_intf_net [existing get_bd_intf_pins $from] [existing get_bd_intf_pins $to]
}

# The one interface of a cell with that mode and protocol, whatever the HLS tool called it.
proc interface {cell mode protocol} {
    set found {}
    foreach pin [get_bd_intf_pins $cell/*] {
        set vlnv [get_property VLNV $pin]
        if {[get_property MODE $pin] eq $mode && [string match "*:$protocol:*" $vlnv]} {
            lappend found $cell/[file tail $pin]
        }
    }
    if {[llength $found] != 1} {
        error "$cell must have one $mode interface of $protocol, it has [llength $found]: $found"
    }
    return [lindex $found 0]
}

# The installed board file of the wanted name, of whichever version; {} where the settings name none.
proc installed_board_part {wanted} {
    if {$wanted eq ""} {
        return ""
    }
    set family [join [lrange [split $wanted :] 0 2] :]
    set installed [get_board_parts -quiet $family:*]
    if {$wanted in $installed} {
        return $wanted
    }
    if {[llength $installed]} {
        return [lindex [lsort -dictionary $installed] end]
    }
    error "Vivado has no board file $family: install it (Vivado store, or the maker's repository), or write\
        `set board_part {}` into scripts/settings.tcl to go on without the board's clock and memory settings"
}

proc finish {run} {
    wait_on_run $run
    if {[get_property PROGRESS [get_runs $run]] ne "100%"} {
        error "$run stopped at [get_property PROGRESS [get_runs $run]]:\
            [get_property STATUS [get_runs $run]]; see its runme.log"
    }
}

# ---- project ----------------------------------------------------------------------------------------------

create_project -force $top $project_folder -part $part
set board_part [installed_board_part $board_part]
if {$board_part ne ""} {
    set_property board_part $board_part [current_project]
}
set_property ip_repo_paths $ip_folder [current_project]
update_ip_catalog -rebuild
create_bd_design design_1

# ---- cells ------------------------------------------------------------------------------------------------

cell processor $ps_vlnv
set automation [expr {$board_part eq "" ? $ps_plain : $ps_preset}]
apply_bd_automation -rule $ps_rule -config $automation [get_bd_cells processor]
set_property -dict $ps_settings [get_bd_cells processor]

cell reset xilinx.com:ip:proc_sys_reset
cell accelerator xilinx.com:hls:$top
cell dma xilinx.com:ip:axi_dma \
    CONFIG.c_include_sg 0 \
    CONFIG.c_sg_include_stscntrl_strm 0 \
    CONFIG.c_sg_length_width 26 \
    CONFIG.c_addr_width $address_bits \
    CONFIG.c_include_mm2s 1 \
    CONFIG.c_m_axi_mm2s_data_width [expr {max(64, $in_bits)}] \
    CONFIG.c_m_axis_mm2s_tdata_width $in_bits \
    CONFIG.c_include_s2mm 1 \
    CONFIG.c_m_axi_s2mm_data_width [expr {max(64, $out_bits)}] \
    CONFIG.c_s_axis_s2mm_tdata_width $out_bits
cell control xilinx.com:ip:axi_interconnect CONFIG.NUM_SI 1 CONFIG.NUM_MI 3
cell data xilinx.com:ip:axi_interconnect CONFIG.NUM_SI 2 CONFIG.NUM_MI 1
cell sources xilinx.com:ip:xlconcat CONFIG.NUM_PORTS 3
cell interrupts xilinx.com:ip:axi_intc CONFIG.C_IRQ_CONNECTION 1 CONFIG.C_IRQ_IS_LEVEL 1

# ---- connections ------------------------------------------------------------------------------------------

bus processor/$ps_master control/S00_AXI
bus control/M00_AXI [interface accelerator Slave aximm_rtl]
bus control/M01_AXI dma/S_AXI_LITE
bus control/M02_AXI interrupts/s_axi

bus dma/M_AXI_MM2S data/S00_AXI
bus dma/M_AXI_S2MM data/S01_AXI
bus data/M00_AXI processor/$ps_slave

bus dma/M_AXIS_MM2S [interface accelerator Slave axis_rtl]
bus [interface accelerator Master axis_rtl] dma/S_AXIS_S2MM

wire accelerator/interrupt sources/In0
wire dma/mm2s_introut sources/In1
wire dma/s2mm_introut sources/In2
wire sources/dout interrupts/intr
wire interrupts/irq processor/$ps_interrupt

set clocked {
    reset/slowest_sync_clk
    accelerator/ap_clk
    dma/s_axi_lite_aclk dma/m_axi_mm2s_aclk dma/m_axi_s2mm_aclk
    control/ACLK control/S00_ACLK control/M00_ACLK control/M01_ACLK control/M02_ACLK
    data/ACLK data/S00_ACLK data/S01_ACLK data/M00_ACLK
    interrupts/s_axi_aclk
}
foreach pin $ps_clocked {
    lappend clocked processor/$pin
}
wire processor/$ps_clock {*}$clocked
wire processor/$ps_reset reset/ext_reset_in
wire reset/interconnect_aresetn control/ARESETN data/ARESETN
wire reset/peripheral_aresetn \
    accelerator/ap_rst_n dma/axi_resetn interrupts/s_axi_aresetn \
    control/S00_ARESETN control/M00_ARESETN control/M01_ARESETN control/M02_ARESETN \
    data/S00_ARESETN data/S01_ARESETN data/M00_ARESETN

assign_bd_address
validate_bd_design
save_bd_design

# ---- bitstream --------------------------------------------------------------------------------------------

set design [get_files design_1.bd]
generate_target all $design
add_files -norecurse [make_wrapper -files $design -top]
set_property top design_1_wrapper [current_fileset]
update_compile_order -fileset sources_1

launch_runs synth_1
finish synth_1
launch_runs impl_1 -to_step write_bitstream
finish impl_1

file mkdir $result_folder
open_run impl_1
report_utilization -hierarchical -file [file join $result_folder utilization.rpt]
report_timing_summary -file [file join $result_folder timing.rpt]

# Vivado 2020.2 on keeps generated files in .gen, earlier versions in .srcs.
set handoff {}
foreach kind {gen srcs} {
    set file [file join $project_folder $top.$kind sources_1 bd design_1 hw_handoff design_1.hwh]
    if {$handoff eq "" && [file exists $file]} {
        set handoff $file
    }
}
if {$handoff eq ""} {
    error "Vivado left no design_1.hwh under $project_folder"
}
set bits [file join $project_folder $top.runs impl_1 design_1_wrapper.bit]
file copy -force $bits [file join $result_folder $top.bit]
file copy -force $handoff [file join $result_folder $top.hwh]

set slack [get_property STATS.WNS [get_runs impl_1]]
if {$slack < 0} {
    error "timing is not met: $slack ns short of $clock_ns ns; the bitstream was written but may compute\
        wrongly. Compile again with a lower --clock-mhz"
}
puts "bitwright: [file join $result_folder $top.bit] meets $clock_ns ns with $slack ns to spare"
