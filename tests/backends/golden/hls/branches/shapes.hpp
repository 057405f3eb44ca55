// bitwright test, model 00000000, target pynq-z2: the shapes and the folding of branches
#ifndef BRANCHES_SHAPES_HPP
#define BRANCHES_SHAPES_HPP

#include "bitwright/layers.hpp"
#include "formats.hpp"

namespace branches_net {

// input %x : FIXED<5>[N,2,6,6]
struct X {
    using Format = x_t;
    static constexpr int elements = 72, lanes = 1, beat = 1;  // 77 cycles
};

// %x has 2 readers
struct XFork {
    using Format = x_t;
    static constexpr int elements = 72, lanes = 1;  // 77 cycles
};

// %deep = conv2d(%x, %deep.w) {groups=2, kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,6,6]
struct Deep {
    using In = x_t;
    using Out = deep_t;
    using Weight = deep_weight_t;
    using Activation = nn::None;
    static constexpr int channels = 2, in_rows = 6, in_cols = 6, out_rows = 6, out_cols = 6;
    static constexpr int kernel_rows = 3, kernel_cols = 3, stride_rows = 1, stride_cols = 1;
    static constexpr int pad_top = 1, pad_left = 1, pad_bottom = 1, pad_right = 1;
    static constexpr int positions = 36, inputs = 9, outputs = 2, conv_groups = 2;
    static constexpr int acc_bits = 8, min_shift = 0, max_shift = 0;
    static constexpr bool adder_tree = true, in_dsp = false;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 1, simd = 3, pe = 2;  // 6 multipliers, 163 cycles
};

// %sum = add(%deep, %x) : FIXED<6,B=-1>[N,2,6,6]
struct Sum {
    using Left = deep_t;
    using Right = x_t;
    using Out = sum_t;
    using Activation = nn::None;
    static constexpr bool broadcast = false;
    static constexpr int positions = 36, channels = 2;
    static constexpr int left_up = 0, right_up = 1;
    static constexpr int acc_bits = 7, min_shift = 1, max_shift = 1;
    static constexpr int lanes = 2;  // 77 cycles
};

// %sum has 2 readers
struct SumFork {
    using Format = sum_t;
    static constexpr int elements = 72, lanes = 2;  // 41 cycles
};

// %whole = globalavgpool(%sum) : FIXED<7>[N,2,1,1]
struct Whole {
    using In = sum_t;
    using Out = whole_t;
    using Activation = nn::None;
    static constexpr int channels = 2, positions = 36;
    static constexpr bool uniform = true;
    static constexpr int sum_bits = 12, shift = -2, most = 36;
    static constexpr int lanes = 2;  // 41 cycles
};

// %gate = conv2d(%whole, %gate.w) {act=clip, act_max=1.0, act_min=0.0, kernel=[1,1]} : UFIXED<4>[N,2,1,1]
struct Gate {
    using In = whole_t;
    using Out = gate_t;
    using Weight = gate_weight_t;
    using Activation = nn::Clip<0, 8>;
    static constexpr int positions = 1, inputs = 2, outputs = 2, conv_groups = 1;
    static constexpr int acc_bits = 9, min_shift = 4, max_shift = 4;
    static constexpr bool adder_tree = true, in_dsp = false;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 2, simd = 2, pe = 1;  // 2 multipliers, 7 cycles
};

// %gated = mul(%sum, %gate) : FIXED<6>[N,2,6,6]
struct Gated {
    using Left = sum_t;
    using Right = gate_t;
    using Out = gated_t;
    using Activation = nn::None;
    static constexpr bool broadcast = true;
    static constexpr int positions = 36, channels = 2;
    static constexpr int left_up = 0, right_up = 0;
    static constexpr int acc_bits = 10, min_shift = 2, max_shift = 2;
    static constexpr int lanes = 2;  // 41 cycles
};

// %gated has 2 readers
struct GatedFork {
    using Format = gated_t;
    static constexpr int elements = 72, lanes = 2;  // 41 cycles
};

// %mean = avgpool2d(%gated) {kernel=[3,3], pads=[1,1,1,1]} : FIXED<6>[N,2,6,6]
struct Mean {
    using In = gated_t;
    using Out = mean_t;
    using Activation = nn::None;
    static constexpr int channels = 2, in_rows = 6, in_cols = 6, out_rows = 6, out_cols = 6;
    static constexpr int kernel_rows = 3, kernel_cols = 3, stride_rows = 1, stride_cols = 1;
    static constexpr int pad_top = 1, pad_left = 1, pad_bottom = 1, pad_right = 1;
    static constexpr int first_row = 1, first_col = 1, end_row = 7, end_col = 7;
    static constexpr bool uniform = false;
    static constexpr int sum_bits = 10, shift = 0, most = 9;
    static constexpr int lanes = 2;  // 48 cycles
};

// %both = concat(%mean, %gated) {axis=1} : FIXED<5>[N,4,6,6]
struct Both {
    using Left = mean_t;
    using Right = gated_t;
    using Out = both_t;
    using Activation = nn::None;
    static constexpr int positions = 36, left_channels = 2, right_channels = 2;
    static constexpr int acc_bits = 6, left_shift = 1, right_shift = 1;
    static constexpr int lanes = 2;  // 77 cycles
};

// %short = relu(%both) : UFIXED<4>[N,4,6,6]
struct NShort {
    using In = both_t;
    using Out = n_short_t;
    using Activation = nn::Relu;
    static constexpr int acc_bits = 5, min_shift = 0, max_shift = 0;
    static constexpr int elements = 144, lanes = 2;  // 77 cycles
};

// output %short
struct ShortOut {
    using Format = n_short_t;
    static constexpr int elements = 144, lanes = 2, beat = 1;  // 149 cycles
};

}  // namespace branches_net

#endif
