// bitwright 0.1.0, model 3f1c09ab, target pynq-z2: the shapes and the folding of lenet5
#ifndef LENET5_SHAPES_HPP
#define LENET5_SHAPES_HPP

#include "bitwright/layers.hpp"
#include "formats.hpp"

namespace lenet5_net {

// input %image : FIXED<8,B=1>[N,1,28,28]
struct Image {
    using Format = image_t;
    static constexpr int elements = 784, lanes = 1, beat = 1;
};

// %conv1 = conv2d(%image, %conv1.weight, %conv1.bias) {acc=17, act=relu, kernel=[5,5], pads=[2,2,2,2]} : FIXED<8,B=-1>[N,6,28,28]
struct Conv1 {
    using In = image_t;
    using Out = conv1_t;
    using Weight = conv1_weight_t;
    using Activation = nn::Relu;
    static constexpr int channels = 1, in_rows = 28, in_cols = 28, out_rows = 28, out_cols = 28;
    static constexpr int kernel_rows = 5, kernel_cols = 5, stride_rows = 1, stride_cols = 1;
    static constexpr int pad_top = 2, pad_left = 2, pad_bottom = 2, pad_right = 2;
    static constexpr int positions = 784, inputs = 25, outputs = 6, conv_groups = 1;
    static constexpr int acc_bits = 17, min_shift = 6, max_shift = 8;
    static constexpr bool adder_tree = true, in_dsp = true;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 1, simd = 25, pe = 2;  // 50 multipliers, 2352 cycles
};

// %pool2 = maxpool2d(%conv1) {kernel=[2,2], strides=[2,2]} : FIXED<8,B=-1>[N,6,14,14]
struct Pool2 {
    using Format = conv1_t;
    static constexpr int channels = 6, in_rows = 28, in_cols = 28, out_rows = 14, out_cols = 14;
    static constexpr int kernel_rows = 2, kernel_cols = 2, stride_rows = 2, stride_cols = 2;
    static constexpr int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
    static constexpr int lanes = 2;  // 2352 cycles
};

// %conv3 = conv2d(%pool2, %conv3.weight, %conv3.bias) {acc=19, act=relu, kernel=[5,5]} : FIXED<8,B=-2>[N,16,10,10]
struct Conv3 {
    using In = conv1_t;
    using Out = conv3_t;
    using Weight = conv3_weight_t;
    using Activation = nn::Relu;
    static constexpr int channels = 6, in_rows = 14, in_cols = 14, out_rows = 10, out_cols = 10;
    static constexpr int kernel_rows = 5, kernel_cols = 5, stride_rows = 1, stride_cols = 1;
    static constexpr int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
    static constexpr int positions = 100, inputs = 150, outputs = 16, conv_groups = 1;
    static constexpr int acc_bits = 19, min_shift = 8, max_shift = 8;
    static constexpr bool adder_tree = true, in_dsp = true;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 2, simd = 25, pe = 4;  // 100 multipliers, 2400 cycles
};

// %pool4 = maxpool2d(%conv3) {kernel=[2,2], strides=[2,2]} : FIXED<8,B=-2>[N,16,5,5]
struct Pool4 {
    using Format = conv3_t;
    static constexpr int channels = 16, in_rows = 10, in_cols = 10, out_rows = 5, out_cols = 5;
    static constexpr int kernel_rows = 2, kernel_cols = 2, stride_rows = 2, stride_cols = 2;
    static constexpr int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
    static constexpr int lanes = 4;  // 400 cycles
};

// %conv5 = conv2d(%pool4, %conv5.weight, %conv5.bias) {acc=19, act=relu, kernel=[5,5]} : FIXED<8,B=-2>[N,120,1,1]
struct Conv5 {
    using In = conv3_t;
    using Out = conv5_t;
    using Weight = conv5_weight_t;
    using Activation = nn::Relu;
    static constexpr int positions = 1, inputs = 400, outputs = 120, conv_groups = 1;
    static constexpr int acc_bits = 19, min_shift = 7, max_shift = 7;
    static constexpr bool adder_tree = true, in_dsp = true;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 4, simd = 20, pe = 1;  // 20 multipliers, 2400 cycles
};

// %fc6 = dense(%conv5, %fc6.weight, %fc6.bias) {acc=19, act=relu} : FIXED<8,B=-3>[N,84]
struct Fc6 {
    using In = conv5_t;
    using Out = fc6_t;
    using Weight = fc6_weight_t;
    using Activation = nn::Relu;
    static constexpr int positions = 1, inputs = 120, outputs = 84, conv_groups = 1;
    static constexpr int acc_bits = 19, min_shift = 8, max_shift = 8;
    static constexpr bool adder_tree = true, in_dsp = true;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 1, simd = 5, pe = 1;  // 5 multipliers, 2016 cycles
};

// %fc7 = dense(%fc6, %fc7.weight, %fc7.bias) {acc=20} : FIXED<16,B=-5>[N,10]
struct Fc7 {
    using In = fc6_t;
    using Out = fc7_t;
    using Weight = fc7_weight_t;
    using Activation = nn::None;
    static constexpr int positions = 1, inputs = 84, outputs = 10, conv_groups = 1;
    static constexpr int acc_bits = 20, min_shift = 2, max_shift = 2;
    static constexpr bool adder_tree = true, in_dsp = true;
    static constexpr int packing = 1;
    static constexpr int vectors = 1, pixels = 1;
    static constexpr int lanes = 1, simd = 1, pe = 1;  // 1 multiplier, 840 cycles
};

// output %fc7
struct Logits {
    using Format = fc7_t;
    static constexpr int elements = 10, lanes = 1, beat = 1;
};

}  // namespace lenet5_net

#endif
