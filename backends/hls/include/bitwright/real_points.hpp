// Engines on single numbers in float32, where FLOAT or AFFINE meet other formats: rounding, sums, products, means.
//
// A layer L defines   In (Left and Right), Out (formats), lanes, and
//     real_rescale        elements, act_low, act_high (float; the activation)
//     real_add, real_mul  what join.hpp asks for but the widths
//     real_mean           channels, positions
// Cycles: one a token of the longest stream, real_mean one a token that enters.
// Memory: real_mean a shift register of MeanSums<L>::places sums.
#ifndef BITWRIGHT_REAL_POINTS_HPP
#define BITWRIGHT_REAL_POINTS_HPP

#include "bitwright/float_sums.hpp"
#include "bitwright/join.hpp"
#include "bitwright/point.hpp"

namespace bitwright {

template <class L>
struct RealPlusOf {
    static typename L::Out::Type of(typename L::Left::Type a, typename L::Right::Type b) {
#pragma HLS INLINE
        return Real<typename L::Out>::nearest(Real<typename L::Left>::number(a) + Real<typename L::Right>::number(b));
    }
};

template <class L>
struct RealTimesOf {
    static typename L::Out::Type of(typename L::Left::Type a, typename L::Right::Type b) {
#pragma HLS INLINE
        return Real<typename L::Out>::nearest(Real<typename L::Left>::number(a) * Real<typename L::Right>::number(b));
    }
};

// A channel has `parts` sums that take turns, so that a sum does not meet itself before its addition has ended.
template <class L>
struct MeanSums {
    static_assert(L::channels % L::lanes == 0, "lanes divide the channels");
    static constexpr int groups = L::channels / L::lanes;
    static constexpr int parts = smaller(L::positions, (addition + groups - 1) / groups);
    static constexpr int places = parts * groups;
    static constexpr int trips = L::positions * groups;
};

namespace process {

template <class L>
void real_rescale(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::lanes>>& out) {
    BITWRIGHT_TRACE_STREAM(out);
    for (int i = 0; i < TokensOf<L>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, real_rescale);
        const Vec<typename L::In, L::lanes> x = in.read();
        Vec<typename L::Out, L::lanes> y;
        BITWRIGHT_TOKEN(y);
        for (int n = 0; n < L::lanes; ++n) {
            const float value = Real<typename L::In>::number(x[n]);
            y[n] = Real<typename L::Out>::nearest(real::clipped(value, L::act_low, L::act_high));
        }
        out.write(y);
    }
}

template <class L>
void real_add(hls::stream<Vec<typename L::Left, L::lanes>>& left, hls::stream<Vec<typename L::Right, L::lanes>>& right,
              hls::stream<Vec<typename L::Out, L::lanes>>& out) {
    join<L, RealPlusOf<L>>(left, right, out);
}

template <class L>
void real_mul(hls::stream<Vec<typename L::Left, L::lanes>>& left, hls::stream<Vec<typename L::Right, L::lanes>>& right,
              hls::stream<Vec<typename L::Out, L::lanes>>& out) {
    join<L, RealTimesOf<L>>(left, right, out);
}

// The mean of each channel of an image.
template <class L>
void real_mean(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::lanes>>& out) {
    using M = MeanSums<L>;
    constexpr float share = 1.0f / L::positions;
    BITWRIGHT_TRACE_STREAM(out);

    float sums[M::places][L::lanes];  // the next one to be added to stands last
#pragma HLS ARRAY_PARTITION variable=sums complete dim=0
    Counter<M::groups> group = 0;
    Counter<L::positions> position = 0;

    for (int i = 0; i < M::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, real_mean);
        const Vec<typename L::In, L::lanes> x = in.read();
        Vec<typename L::Out, L::lanes> y;
        BITWRIGHT_TOKEN(y);
        float added[L::lanes];
#pragma HLS ARRAY_PARTITION variable=added complete dim=0
        for (int n = 0; n < L::lanes; ++n) {
            const float sofar = position < M::parts ? 0.0f : sums[M::places - 1][n];
            added[n] = sofar + Real<typename L::In>::number(x[n]);
        }
        if (position == L::positions - 1) {
            for (int n = 0; n < L::lanes; ++n) {
                float last[M::parts];  // the sum of this turn, and those of the turns before
#pragma HLS ARRAY_PARTITION variable=last complete dim=0
                last[0] = added[n];
                for (int p = 1; p < M::parts; ++p) last[p] = sums[p * M::groups - 1][n];
                y[n] = Real<typename L::Out>::nearest(FloatTree<M::parts>::sum(last) * share);
            }
            out.write(y);
        }
        for (int t = M::places - 1; t > 0; --t) {
            for (int n = 0; n < L::lanes; ++n) sums[t][n] = sums[t - 1][n];
        }
        for (int n = 0; n < L::lanes; ++n) sums[0][n] = added[n];
        if (group == M::groups - 1) ++position;
        group = after(group, M::groups - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(real_rescale)
BITWRIGHT_PROCESS(real_add)
BITWRIGHT_PROCESS(real_mul)
BITWRIGHT_PROCESS(real_mean)
}  // namespace nn
}  // namespace bitwright

#endif
