# What scripts/build.tcl and scripts/block_design.tcl need to know of this network.
set top tiny
set part xc7z020clg400-1
set clock_ns 10
set board pynq-z2
set board_part tul.com.tw:pynq-z2:part0:1.0
set processor zynq7000
set in_bits 8
set out_bits 8
set sources {src/tiny.cpp}
set testbench {tb/testbench.cpp}
set golden {tb/golden_input.txt tb/golden_output.txt}
set steps {csim csynth export}
