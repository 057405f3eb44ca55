// Two streams into one: sums, products, and channels behind channels; rounded once.
//
// The right side of a sum or a product may have one pixel only (broadcast), which is kept and meets every pixel of the
// left: a squeeze-and-excite gate. Where both sides have the same pixels, a token may hold several of them. A concat
// takes the sides of a pixel one after the other, or whole pixels of both.
//
// A layer L defines   Left, Right, Out (formats), Activation, positions, lanes, acc_bits, and
//     add, mul        channels, broadcast, left_up, right_up (places to the left, to one step; 0 for mul), min_shift,
//                     max_shift (the same one)
//     concat          left_channels, right_channels, left_shift, right_shift
// Cycles: positions * channels / lanes, JoinOf<L>::trips or ConcatOf<L>::trips.
// Memory: with broadcast, `groups` words of lanes * Right::bits bits.
#ifndef BITWRIGHT_JOIN_HPP
#define BITWRIGHT_JOIN_HPP

#include "bitwright/process.hpp"
#include "bitwright/requantize.hpp"

namespace bitwright {

template <class L>
struct JoinOf {
    static constexpr int elements = L::positions * L::channels;
    static_assert((L::broadcast ? L::channels : elements) % L::lanes == 0, "lanes divide the channels, or the frame");
    static constexpr int groups = L::broadcast ? L::channels / L::lanes : 1;  // tokens of the right side that are kept
    static constexpr int trips = elements / L::lanes;
};

template <class L>
struct ConcatOf {
    static constexpr int both = L::left_channels + L::right_channels;
    static constexpr bool whole = L::lanes >= both;  // pixels of both sides in a token; else a side after the other
    static constexpr int pixels = whole ? L::lanes / both : 1;
    static constexpr int left_lanes = whole ? pixels * L::left_channels : L::lanes;
    static constexpr int right_lanes = whole ? pixels * L::right_channels : L::lanes;
    static constexpr int left_groups = whole ? 1 : L::left_channels / L::lanes;
    static constexpr int groups = whole ? 1 : left_groups + L::right_channels / L::lanes;
    static constexpr int trips = L::positions / pixels * groups;
    static_assert(whole ? L::lanes % both == 0 && L::positions % pixels == 0
                        : L::left_channels % L::lanes == 0 && L::right_channels % L::lanes == 0,
                  "lanes divide the channels, or hold whole pixels");
};

template <class L>
struct PlusOf {
    using Acc = Int<L::acc_bits>;
    static typename L::Out::Type of(typename L::Left::Type a, typename L::Right::Type b) {
#pragma HLS INLINE
        const Acc left = shift_left<Acc>(a, Counter<L::left_up + 1>(L::left_up));
        const Acc right = shift_left<Acc>(b, Counter<L::right_up + 1>(L::right_up));
        return nn::requantize<L>(static_cast<Acc>(left + right), L::min_shift);
    }
};

template <class L>
struct TimesOf {
    using Acc = Int<L::acc_bits>;
    static typename L::Out::Type of(typename L::Left::Type a, typename L::Right::Type b) {
#pragma HLS INLINE
        return nn::requantize<L>(multiply<Acc>(a, b), L::min_shift);
    }
};

// The rounding of either side of a concat.
template <class L>
struct LeftOf {
    using Out = typename L::Out;
    using Activation = typename L::Activation;
    static constexpr int acc_bits = L::acc_bits, min_shift = L::left_shift, max_shift = L::left_shift;
};

template <class L>
struct RightOf {
    using Out = typename L::Out;
    using Activation = typename L::Activation;
    static constexpr int acc_bits = L::acc_bits, min_shift = L::right_shift, max_shift = L::right_shift;
};

namespace process {

template <class L, class Op>
void join(hls::stream<Vec<typename L::Left, L::lanes>>& left, hls::stream<Vec<typename L::Right, L::lanes>>& right,
          hls::stream<Vec<typename L::Out, L::lanes>>& out) {
#pragma HLS INLINE
    BITWRIGHT_TRACE_LAYER(L, out);
    Vec<typename L::Right, L::lanes> kept[JoinOf<L>::groups];
    BITWRIGHT_TOKENS(kept);
    Counter<JoinOf<L>::groups> group = 0;
    bool first = true;  // on the first pixel

    for (int i = 0; i < JoinOf<L>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, join);
        const Vec<typename L::Left, L::lanes> a = left.read();
        Vec<typename L::Right, L::lanes> b;
        Vec<typename L::Out, L::lanes> y;
        BITWRIGHT_TOKEN(b);
        BITWRIGHT_TOKEN(y);
        if (!L::broadcast || first) {
            b = right.read();
            kept[group] = b;
        } else {
            b = kept[group];
        }
        for (int n = 0; n < L::lanes; ++n) y[n] = Op::of(a[n], b[n]);
        out.write(y);
        if (group == JoinOf<L>::groups - 1) first = false;
        group = after(group, JoinOf<L>::groups - 1);
    }
}

template <class L>
void add(hls::stream<Vec<typename L::Left, L::lanes>>& left, hls::stream<Vec<typename L::Right, L::lanes>>& right,
         hls::stream<Vec<typename L::Out, L::lanes>>& out) {
    join<L, PlusOf<L>>(left, right, out);
}

template <class L>
void mul(hls::stream<Vec<typename L::Left, L::lanes>>& left, hls::stream<Vec<typename L::Right, L::lanes>>& right,
         hls::stream<Vec<typename L::Out, L::lanes>>& out) {
    join<L, TimesOf<L>>(left, right, out);
}

template <class L>
void concat(hls::stream<Vec<typename L::Left, ConcatOf<L>::left_lanes>>& left,
            hls::stream<Vec<typename L::Right, ConcatOf<L>::right_lanes>>& right,
            hls::stream<Vec<typename L::Out, L::lanes>>& out) {
    using C = ConcatOf<L>;
    using Acc = Int<L::acc_bits>;
    BITWRIGHT_TRACE_LAYER(LeftOf<L>, out);
    BITWRIGHT_TRACE_LAYER(RightOf<L>, out);
    Counter<C::groups> group = 0;

    for (int i = 0; i < C::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, concat);
        Vec<typename L::Out, L::lanes> y;
        BITWRIGHT_TOKEN(y);
        if (C::whole || group < C::left_groups) {
            const Vec<typename L::Left, C::left_lanes> x = left.read();
            for (int n = 0; n < C::left_lanes; ++n) {
                const int at = C::whole ? n / L::left_channels * C::both + n % L::left_channels : n;
                y[at] = nn::requantize<LeftOf<L>>(static_cast<Acc>(x[n]), L::left_shift);
            }
        }
        if (C::whole || group >= C::left_groups) {
            const Vec<typename L::Right, C::right_lanes> x = right.read();
            for (int n = 0; n < C::right_lanes; ++n) {
                const int at = C::whole ? n / L::right_channels * C::both + L::left_channels + n % L::right_channels : n;
                y[at] = nn::requantize<RightOf<L>>(static_cast<Acc>(x[n]), L::right_shift);
            }
        }
        out.write(y);
        group = after(group, C::groups - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(add)
BITWRIGHT_PROCESS(mul)
BITWRIGHT_PROCESS(concat)
}  // namespace nn
}  // namespace bitwright

#endif
