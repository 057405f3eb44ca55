# C simulation, C synthesis and IP export of the network that settings.tcl describes.
#
#   Vitis HLS 2022 to 2024.1   vitis_hls -f scripts/build.tcl
#   Vitis unified, 2024.2 on   vitis-run --mode hls --tcl scripts/build.tcl
#   Vivado HLS 2020.1          vivado_hls -f scripts/build.tcl
#
# Leaves hls/solution1/syn/report/csynth.xml and the IP in hls/solution1/impl/ip. Starts afresh every time.
# BITWRIGHT_STEPS="csynth export" in the environment runs some steps only (csim csynth cosim export).
# BITWRIGHT_HLS=vivado or vitis overrides the detection of the tool.

set root [file normalize [file join [file dirname [info script]] ..]]
source [file join $root scripts settings.tcl]

# "vivado" under Vivado HLS, "vitis" under everything later. The two differ in open_solution's options, in how
# an export is configured and in the C++ they read (clang 3.1 against clang 7 and later).
proc hls_tool {} {
    global env argv0
    if {[info exists env(BITWRIGHT_HLS)]} {
        if {$env(BITWRIGHT_HLS) ni {vivado vitis}} {
            error "BITWRIGHT_HLS must be vivado or vitis, not $env(BITWRIGHT_HLS)"
        }
        return $env(BITWRIGHT_HLS)
    }
    set started [list [info nameofexecutable]]
    if {[info exists argv0]} {
        lappend started $argv0
    }
    foreach name $started {
        if {[string match -nocase *vivado_hls* [file tail $name]]} {
            return vivado
        }
    }
    return vitis
}

set tool [hls_tool]
if {[info exists env(BITWRIGHT_STEPS)]} {
    set steps $env(BITWRIGHT_STEPS)
}
foreach step $steps {
    if {$step ni {csim csynth cosim export}} {
        error "unknown step $step: the steps are csim, csynth, cosim and export"
    }
}
if {[string match "* *" $root]} {
    error "the tools cannot work in a folder with a space in its name: $root"
}
puts "bitwright: $top for $part at $clock_ns ns, with [string totitle $tool] HLS: $steps"

set cflags "-I$root/include -I$root/src -DBITWRIGHT_AP_TYPES"
if {$tool eq "vivado"} {
    append cflags " -DBITWRIGHT_VIVADO_HLS -std=c++11"
} else {
    append cflags " -std=c++14"
}
set arguments {}
foreach file $golden {
    lappend arguments [file join $root $file]
}
set arguments [join $arguments]

cd $root
open_project -reset hls
set_top $top
foreach file $sources {
    add_files [file join $root $file] -cflags $cflags
}
foreach file $testbench {
    add_files -tb [file join $root $file] -cflags $cflags
}
foreach file $golden {
    add_files -tb [file join $root $file]
}
if {$tool eq "vivado"} {
    open_solution -reset solution1
} else {
    open_solution -reset -flow_target vivado solution1
}
set_part $part
create_clock -period $clock_ns -name default

if {"csim" in $steps} {
    csim_design -clean -argv $arguments
}
if {"csynth" in $steps} {
    csynth_design
}
if {"cosim" in $steps} {
    cosim_design -rtl verilog -argv $arguments
}
if {"export" in $steps} {
    if {$tool eq "vivado"} {
        export_design -format ip_catalog -rtl verilog \
            -vendor xilinx.com -library hls -ipname $top -version 1.0
    } else {
        config_export -format ip_catalog -rtl verilog \
            -vendor xilinx.com -library hls -ipname $top -version 1.0
        export_design
    }
}
puts "bitwright: done; reports in [file join $root hls solution1 syn report]"
exit
