// The layers of a network, as the generated top function calls them; each is a stage of its dataflow.
//
//     nn::read_axis<P>(axis, out)                               axis.hpp
//     nn::conv2d<L>(in, out, weights, bias, shift)              a window and a matrix-vector product
//     nn::dense<L>(in, out, weights, bias, shift)               a matrix-vector product over whole tokens
//     nn::constant_conv2d<L>(in, out, bias, shift)              a window and adders, of all weights in every cycle
//     nn::constant_dense<L>(in, out, bias, shift)               adders alone
//     nn::maxpool2d<L>(in, out)                                 maxpool.hpp
//     nn::avgpool2d<L>(in, out, reciprocals)                    avgpool.hpp, and globalavgpool
//     nn::rescale<L>(in, out)                                   point.hpp: relu, clip, quantize
//     nn::duplicate<L>(in, one, other)                          point.hpp: a value with two readers
//     nn::add<L>(left, right, out)                              join.hpp, and mul and concat
//     nn::regroup<Regroup<...>>(in, out)                        regroup.hpp: before a join of unequal tokens
//     nn::float_conv2d<L>(in, out, weights, bias, scale)        float_sums.hpp: in float32, and float_dense
//     nn::scaled_conv2d<L>(in, out, weights, bias, multiplier, offset)   scaled_sums.hpp: AFFINE, and scaled_dense
//     nn::real_rescale<L>(in, out)                              real_points.hpp, and real_add, real_mul, real_mean
//     nn::write_axis<P>(in, axis)                               axis.hpp
//
// dense also does the convolution whose kernel covers its whole input, and, with positions = rows * cols, the one
// with a 1x1 kernel, stride 1 and no padding: neither needs line buffers or a window.
//
// The stages overlap: frames follow each other at the pace of the slowest. A convolution's own pace is a little below
// its matrix-vector product's, which waits for the window at the ends of rows and between frames: `windows` is two
// tokens deep.
#ifndef BITWRIGHT_LAYERS_HPP
#define BITWRIGHT_LAYERS_HPP

#include "bitwright/avgpool.hpp"
#include "bitwright/axis.hpp"
#include "bitwright/constant_matvec.hpp"
#include "bitwright/join.hpp"
#include "bitwright/matvec.hpp"
#include "bitwright/maxpool.hpp"
#include "bitwright/point.hpp"
#include "bitwright/real_points.hpp"
#include "bitwright/regroup.hpp"
#include "bitwright/scaled_sums.hpp"
#include "bitwright/window.hpp"

namespace bitwright {
namespace process {

// L defines what window.hpp and matvec.hpp ask for.
template <class L>
void conv2d(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::pixels * L::pe>>& out,
            const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
            const Const<L::acc_bits> bias[Fold<L>::groups][L::pe], const Const<8> shift[Fold<L>::groups][L::pe]) {
#pragma HLS DATAFLOW
    hls::stream<Vec<typename L::In, L::vectors * Fold<L>::width>> windows("windows");
#pragma HLS STREAM variable=windows depth=2
    nn::window2d<L>(in, windows);
    nn::matvec<L>(windows, out, weights, bias, shift);
}

// L defines what matvec.hpp asks for, and lanes (of an input token). Inputs are ordered as they arrive, channels
// last: the compiler orders the columns of the matrix to match.
template <class L>
void dense(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::pixels * L::pe>>& out,
           const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
           const Const<L::acc_bits> bias[Fold<L>::groups][L::pe], const Const<8> shift[Fold<L>::groups][L::pe]) {
#pragma HLS DATAFLOW
    hls::stream<Vec<typename L::In, L::vectors * Fold<L>::width>> chunks("chunks");
#pragma HLS STREAM variable=chunks depth=2
    constexpr int elements = L::positions * L::conv_groups * L::inputs;
    nn::regroup<Regroup<typename L::In, L::lanes, L::vectors * Fold<L>::width, elements>>(in, chunks);
    nn::matvec<L>(chunks, out, weights, bias, shift);
}

// The same two where all weights work in every cycle; L defines what window.hpp and constant_matvec.hpp ask for.
template <class L>
void constant_conv2d(hls::stream<Vec<typename L::In, L::lanes>>& in,
                     hls::stream<Vec<typename L::Out, L::pixels * L::pe>>& out,
                     const Const<L::acc_bits> bias[Fold<L>::groups][L::pe],
                     const Const<8> shift[Fold<L>::groups][L::pe]) {
#pragma HLS DATAFLOW
    hls::stream<Vec<typename L::In, L::vectors * Fold<L>::width>> windows("windows");
#pragma HLS STREAM variable=windows depth=2
    nn::window2d<L>(in, windows);
    nn::constant_matvec<L>(windows, out, bias, shift);
}

template <class L>
void constant_dense(hls::stream<Vec<typename L::In, L::lanes>>& in,
                    hls::stream<Vec<typename L::Out, L::pixels * L::pe>>& out,
                    const Const<L::acc_bits> bias[Fold<L>::groups][L::pe],
                    const Const<8> shift[Fold<L>::groups][L::pe]) {
#pragma HLS DATAFLOW
    hls::stream<Vec<typename L::In, L::vectors * Fold<L>::width>> chunks("chunks");
#pragma HLS STREAM variable=chunks depth=2
    constexpr int elements = L::positions * L::conv_groups * L::inputs;
    nn::regroup<Regroup<typename L::In, L::lanes, L::vectors * Fold<L>::width, elements>>(in, chunks);
    nn::constant_matvec<L>(chunks, out, bias, shift);
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(conv2d)
BITWRIGHT_PROCESS(dense)
BITWRIGHT_PROCESS(constant_conv2d)
BITWRIGHT_PROCESS(constant_dense)
}  // namespace nn
}  // namespace bitwright

#endif
