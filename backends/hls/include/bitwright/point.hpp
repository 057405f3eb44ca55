// What works on each token alone: a rounding of its own (relu, clip, quantize), and the copies of a fork.
//
// A layer L defines   elements (of a frame), lanes, and
//     rescale         In, Out (formats), and what requantize.hpp asks for, with one shift
//     duplicate       Format
// Cycles: elements / lanes, TokensOf<L>::trips. Memory: none.
#ifndef BITWRIGHT_POINT_HPP
#define BITWRIGHT_POINT_HPP

#include "bitwright/process.hpp"
#include "bitwright/requantize.hpp"

namespace bitwright {

template <class L>
struct TokensOf {
    static_assert(L::elements % L::lanes == 0, "lanes divide the elements of a frame");
    static constexpr int trips = L::elements / L::lanes;
};

namespace process {

template <class L>
void rescale(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::lanes>>& out) {
    BITWRIGHT_TRACE_LAYER(L, out);
    for (int i = 0; i < TokensOf<L>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, rescale);
        const Vec<typename L::In, L::lanes> x = in.read();
        Vec<typename L::Out, L::lanes> y;
        BITWRIGHT_TOKEN(y);
        for (int n = 0; n < L::lanes; ++n) {
            y[n] = nn::requantize<L>(static_cast<Int<L::acc_bits>>(x[n]), L::min_shift);
        }
        out.write(y);
    }
}

// A stream has one reader: a value with two is copied.
template <class L>
void duplicate(hls::stream<Vec<typename L::Format, L::lanes>>& in, hls::stream<Vec<typename L::Format, L::lanes>>& one,
               hls::stream<Vec<typename L::Format, L::lanes>>& other) {
    for (int i = 0; i < TokensOf<L>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, duplicate);
        const Vec<typename L::Format, L::lanes> x = in.read();
        one.write(x);
        other.write(x);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(rescale)
BITWRIGHT_PROCESS(duplicate)
}  // namespace nn
}  // namespace bitwright

#endif
