// bitwright test: the accelerator tiny
#include "tiny.hpp"

#include "weights/conv.hpp"
#include "weights/mid.hpp"
#include "weights/fc.hpp"

using namespace tiny_net;

void tiny(hls::stream<Beat<x_t>>& x, hls::stream<Beat<fc_t>>& scores) {
#pragma HLS INTERFACE axis port=x
#pragma HLS INTERFACE axis port=scores
#pragma HLS INTERFACE s_axilite port=return
#pragma HLS DATAFLOW
    BITWRIGHT_ROM(conv_weights, LUTRAM);
    BITWRIGHT_ROM(mid_weights, LUTRAM);
    BITWRIGHT_ROM(fc_weights, LUTRAM);

    hls::stream<Vec<x_t, 1>> pixels("x");
    hls::stream<Vec<conv_t, 2>> conv("conv");
    hls::stream<Vec<conv_t, 2>> conv_pool("conv.pool");
    hls::stream<Vec<mid_t, 1>> mid("mid");
    hls::stream<Vec<fc_t, 3>> fc("fc");
    BITWRIGHT_STREAM(pixels, 13);
    BITWRIGHT_STREAM(conv, 8);

    nn::read_axis<X>(x, pixels);
    nn::conv2d<Conv>(pixels, conv, conv_weights, conv_bias, conv_shift);
    nn::maxpool2d<ConvPool>(conv, conv_pool);
    nn::dense<Mid>(conv_pool, mid, mid_weights, mid_bias, mid_shift);
    nn::dense<Fc>(mid, fc, fc_weights, fc_bias, fc_shift);
    nn::write_axis<Scores>(fc, scores);
}
