// bitwright 0.1.0, model 3f1c09ab, target pynq-z2: the accelerator lenet5
#include "lenet5.hpp"

#include "weights/conv1.hpp"
#include "weights/conv3.hpp"
#include "weights/conv5.hpp"
#include "weights/fc6.hpp"
#include "weights/fc7.hpp"

using namespace lenet5_net;

void lenet5(hls::stream<Beat<image_t>>& image, hls::stream<Beat<fc7_t>>& logits) {
#pragma HLS INTERFACE axis port=image
#pragma HLS INTERFACE axis port=logits
#pragma HLS INTERFACE s_axilite port=return
#pragma HLS DATAFLOW
    BITWRIGHT_ROM(conv5_weights, BRAM);

    hls::stream<Vec<image_t, 1>> pixels("image");
    hls::stream<Vec<conv1_t, 2>> conv1("conv1");
    hls::stream<Vec<conv1_t, 2>> pool2("pool2");
    hls::stream<Vec<conv3_t, 4>> conv3("conv3");
    hls::stream<Vec<conv3_t, 4>> pool4("pool4");
    hls::stream<Vec<conv5_t, 1>> conv5("conv5");
    hls::stream<Vec<fc6_t, 1>> fc6("fc6");
    hls::stream<Vec<fc7_t, 1>> fc7("fc7");

    nn::read_axis<Image>(image, pixels);
    nn::conv2d<Conv1>(pixels, conv1, conv1_weights, conv1_bias, conv1_shift);
    nn::maxpool2d<Pool2>(conv1, pool2);
    nn::conv2d<Conv3>(pool2, conv3, conv3_weights, conv3_bias, conv3_shift);
    nn::maxpool2d<Pool4>(conv3, pool4);
    nn::dense<Conv5>(pool4, conv5, conv5_weights, conv5_bias, conv5_shift);
    nn::dense<Fc6>(conv5, fc6, fc6_weights, fc6_bias, fc6_shift);
    nn::dense<Fc7>(fc6, fc7, fc7_weights, fc7_bias, fc7_shift);
    nn::write_axis<Logits>(fc7, logits);
}
