// bitwright test, model 00000000, target pynq-z2: the accelerator branches
#include "branches.hpp"

#include "weights/deep.hpp"
#include "weights/whole.hpp"
#include "weights/gate.hpp"
#include "weights/mean.hpp"

using namespace branches_net;

void branches(hls::stream<Beat<x_t>>& x, hls::stream<Beat<n_short_t>>& short_out) {
#pragma HLS INTERFACE axis port=x
#pragma HLS INTERFACE axis port=short_out
#pragma HLS INTERFACE s_axilite port=return
#pragma HLS DATAFLOW
    BITWRIGHT_ROM(deep_weights, LUTRAM);
    BITWRIGHT_ROM(gate_weights, LUTRAM);

    hls::stream<Vec<x_t, 1>> pixels("x");
    hls::stream<Vec<x_t, 1>> x_to_deep("x.to.deep");
    hls::stream<Vec<x_t, 1>> x_to_sum("x.to.sum");
    hls::stream<Vec<deep_t, 2>> deep("deep");
    hls::stream<Vec<sum_t, 2>> sum("sum");
    hls::stream<Vec<x_t, 2>> sum_right("sum_right");
    hls::stream<Vec<sum_t, 2>> sum_to_whole("sum.to.whole");
    hls::stream<Vec<sum_t, 2>> sum_to_gated("sum.to.gated");
    hls::stream<Vec<whole_t, 2>> whole("whole");
    hls::stream<Vec<gate_t, 1>> gate("gate");
    hls::stream<Vec<gated_t, 2>> gated("gated");
    hls::stream<Vec<gate_t, 2>> gated_right("gated_right");
    hls::stream<Vec<gated_t, 2>> gated_to_mean("gated.to.mean");
    hls::stream<Vec<gated_t, 2>> gated_to_both("gated.to.both");
    hls::stream<Vec<mean_t, 2>> mean("mean");
    hls::stream<Vec<both_t, 2>> both("both");
    hls::stream<Vec<n_short_t, 2>> n_short("short");
    BITWRIGHT_STREAM(pixels, 9);
    BITWRIGHT_STREAM(x_to_deep, 21);
    BITWRIGHT_STREAM(deep, 8);
    BITWRIGHT_STREAM(x_to_sum, 27);
    BITWRIGHT_STREAM(sum_to_gated, 56);
    BITWRIGHT_STREAM(mean, 24);
    BITWRIGHT_STREAM(gated_to_both, 31);
    BITWRIGHT_STREAM(n_short, 42);

    nn::read_axis<X>(x, pixels);
    nn::duplicate<XFork>(pixels, x_to_deep, x_to_sum);
    nn::conv2d<Deep>(x_to_deep, deep, deep_weights, deep_bias, deep_shift);
    nn::regroup<Regroup<x_t, 1, 2, 72>>(x_to_sum, sum_right);
    nn::add<Sum>(deep, sum_right, sum);
    nn::duplicate<SumFork>(sum, sum_to_whole, sum_to_gated);
    nn::globalavgpool<Whole>(sum_to_whole, whole, whole_reciprocals);
    nn::dense<Gate>(whole, gate, gate_weights, gate_bias, gate_shift);
    nn::regroup<Regroup<gate_t, 1, 2, 2>>(gate, gated_right);
    nn::mul<Gated>(sum_to_gated, gated_right, gated);
    nn::duplicate<GatedFork>(gated, gated_to_mean, gated_to_both);
    nn::avgpool2d<Mean>(gated_to_mean, mean, mean_reciprocals);
    nn::concat<Both>(mean, gated_to_both, both);
    nn::rescale<NShort>(both, n_short);
    nn::write_axis<ShortOut>(n_short, short_out);
}
