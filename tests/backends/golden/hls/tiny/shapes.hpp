// bitwright test: the shapes and the folding of tiny
#ifndef TINY_SHAPES_HPP
#define TINY_SHAPES_HPP

#include "bitwright/layers.hpp"
#include "formats.hpp"

namespace tiny_net {

// input %x as "image:0" : UFIXED<4>[N,1,6,6]
struct X {
    using Format = x_t;
    static constexpr int elements = 36, lanes = 1, beat = 1;  // 41 cycles
};

// %conv = conv2d(%x, %conv.w, %conv.b) {act=relu, kernel=[3,3], pool=[2,2]} : UFIXED<5,B=1>[N,2,2,2]
struct Conv {
    using In = x_t;
    using Out = conv_t;
    using Weight = conv_weight_t;
    using Activation = nn::Relu;
    static constexpr int channels = 1, in_rows = 6, in_cols = 6, out_rows = 4, out_cols = 4;
    static constexpr int kernel_rows = 3, kernel_cols = 3, stride_rows = 1, stride_cols = 1;
    static constexpr int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
    static constexpr int positions = 16, inputs = 9, outputs = 2, conv_groups = 1;
    static constexpr int acc_bits = 8, min_shift = -1, max_shift = 0;
    static constexpr bool adder_tree = true, in_dsp = false;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 1, simd = 3, pe = 2;  // 6 multipliers, 73 cycles
};

// the pooling of %conv
struct ConvPool {
    using Format = conv_t;
    static constexpr int channels = 2, in_rows = 4, in_cols = 4, out_rows = 2, out_cols = 2;
    static constexpr int kernel_rows = 2, kernel_cols = 2, stride_rows = 2, stride_cols = 2;
    static constexpr int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
    static constexpr int lanes = 2;  // 21 cycles
};

// %mid = conv2d(%conv, %mid.w) {act=clip, act_max=0.75, act_min=-1.0, kernel=[1,1]} : FIXED<6>[N,4,2,2]
struct Mid {
    using In = conv_t;
    using Out = mid_t;
    using Weight = mid_weight_t;
    using Activation = nn::Clip<-16, 12>;
    static constexpr int positions = 4, inputs = 2, outputs = 4, conv_groups = 1;
    static constexpr int acc_bits = 7, min_shift = 2, max_shift = 2;
    static constexpr bool adder_tree = true, in_dsp = false;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 2, simd = 2, pe = 1;  // 2 multipliers, 21 cycles
};

// %fc = dense(%flat, %fc.w, %fc.b) : FIXED<8>[N,3]
struct Fc {
    using In = mid_t;
    using Out = fc_t;
    using Weight = fc_weight_t;
    using Activation = nn::None;
    static constexpr int positions = 1, inputs = 16, outputs = 3, conv_groups = 1;
    static constexpr int acc_bits = 11, min_shift = -1, max_shift = 0;
    static constexpr bool adder_tree = true, in_dsp = false;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 1, simd = 4, pe = 3;  // 12 multipliers, 21 cycles
};

// output %fc as "scores"
struct Scores {
    using Format = fc_t;
    static constexpr int elements = 3, lanes = 3, beat = 1;  // 8 cycles
};

}  // namespace tiny_net

#endif
