// Average pooling: the sum of a window, divided by the number of its pixels that count, rounded once.
//
//     out = saturate(round(sum / (count * 2^shift)))      to nearest, ties to even; a negative shift multiplies
//
// The division by a count is a product with its reciprocal, which is exact: for every m < 2^N and
// reciprocal = ceil(2^S / count) with S = N + ceil(log2(most)), m * reciprocal / 2^S is below m / count + 1 / count,
// and so has the same floor (Granlund and Montgomery, 1994). The compiler makes the table of reciprocals.
//
// A layer L defines   In, Out (formats), Activation (nn::None), channels, lanes, sum_bits, shift, most (pixels of a
//                     window), uniform (every window counts `most` pixels), and
//     avgpool2d       what scan.hpp asks for, and first_row, first_col, end_row, end_col: the part of the padded
//                     image that counts
//     globalavgpool   positions
// Table    reciprocals[MeanOf<L>::counts]: of every count, or of `most` alone.
// Tokens of several pixels give several windows, which all count the same, or are added up to one pixel.
// Cycles: avgpool2d one for every step of the walk, globalavgpool one for every token of the image.
// Memory: avgpool2d as max pooling; globalavgpool a shift register of `channels` sums.
#ifndef BITWRIGHT_AVGPOOL_HPP
#define BITWRIGHT_AVGPOOL_HPP

#include "bitwright/process.hpp"
#include "bitwright/requantize.hpp"
#include "bitwright/scan.hpp"

namespace bitwright {

template <class L>
struct MeanOf {
    static constexpr int up = larger(0, -L::shift), down = larger(0, L::shift);
    static constexpr int size_bits = L::sum_bits - 1 + up;               // of |sum| * 2^up
    static constexpr int whole_bits = larger(1, size_bits - down);       // N
    static constexpr int places = whole_bits + bits_for(L::most);        // S
    static constexpr int bits = larger(size_bits, down + bits_for(L::most) + 1) + 2;
    static constexpr int counts = L::uniform ? 1 : L::most + 1;
    static_assert(whole_bits + places + 2 <= 127 && bits <= 127, "the formats do not lie too far apart");
};

template <class L>
struct GlobalMean {
    static constexpr int pixels = larger(1, L::lanes / L::channels);  // of a token
    static constexpr int part = smaller(L::lanes, L::channels);       // channels of a token
    static constexpr int groups = L::channels / part;                 // tokens of a pixel
    static constexpr int trips = L::positions / pixels * groups;
    static_assert(L::channels % part == 0 && L::lanes % part == 0, "lanes divide the channels, or hold whole pixels");
    static_assert(L::positions % pixels == 0, "tokens divide the pixels");
};

namespace process {

template <class L>
typename L::Out::Type mean(Int<L::sum_bits> sum, int count, UInt<MeanOf<L>::places + 1> reciprocal) {
#pragma HLS INLINE
    using M = MeanOf<L>;
    using Wide = Int<M::bits>;
    using Product = UInt<M::whole_bits + M::places + 1>;
    const bool negative = sum < 0;
    const Wide size = shift_left<Wide>(negative ? Wide(-Wide(sum)) : Wide(sum), Counter<M::up + 1>(M::up));
    const UInt<M::whole_bits> whole = static_cast<UInt<M::whole_bits>>(Wide(size >> M::down));
    const Product scaled = multiply<Product>(whole, reciprocal);
    const Wide quotient = static_cast<Wide>(Product(scaled >> M::places));
    const Wide divisor = shift_left<Wide>(count, Counter<M::down + 1>(M::down));
    const Wide twice = static_cast<Wide>(Wide(size - multiply<Wide>(quotient, divisor)) * 2);
    const bool odd = (quotient & Wide(1)) != 0;
    const Wide nearest = twice > divisor || (twice == divisor && odd) ? Wide(quotient + 1) : quotient;
    const Wide size_of = TakesSign<typename L::Out>::value ? Wide(1) : nearest;
    const Wide rounded = negative ? Wide(-size_of) : size_of;
    BITWRIGHT_TRACE_ROUNDED(L, rounded);
    const Wide low = static_cast<Wide>(L::Out::min), high = static_cast<Wide>(L::Out::max);
    return static_cast<typename L::Out::Type>(rounded < low ? low : rounded > high ? high : rounded);
}

// How many of the `kernel` lines from `first` lie in [FIRST, END).
template <int KERNEL, int FIRST, int END>
int counted(int first) {
#pragma HLS INLINE
    const int from = first > FIRST ? first : FIRST;
    const int to = first + KERNEL < END ? first + KERNEL : END;
    return to - from;
}

template <class L>
void avgpool2d(hls::stream<Vec<typename L::In, L::lanes>>& in,
               hls::stream<Vec<typename L::Out, Scan<L>::out_lanes>>& out,
               const UConst<MeanOf<L>::places + 1> reciprocals[MeanOf<L>::counts]) {
    using S = Scan<L>;
    using Sum = Int<L::sum_bits>;
    constexpr int held = S::held, newest = S::across - L::lanes;
    static_assert(L::uniform || S::windows == 1, "windows side by side count the same");
    BITWRIGHT_TRACE_LAYER(L, out);

    Vec<typename L::In, S::word> lines[S::places];  // the rows above, one place a word
    BITWRIGHT_TOKENS(lines);
#pragma HLS DEPENDENCE variable=lines inter false
    Sum columns[S::across];  // the sum of each column, of this token and of those to its left
#pragma HLS ARRAY_PARTITION variable=columns complete dim=0
    for (int n = 0; n < S::across; ++n) {
#pragma HLS UNROLL
        columns[n] = 0;
    }
    S scan;

    for (int i = 0; i < S::steps; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, avgpool2d);
        Vec<typename L::In, L::lanes> pixel;
        Vec<typename L::Out, S::out_lanes> y;
        BITWRIGHT_TOKEN(pixel);
        BITWRIGHT_TOKEN(y);
        if (scan.inside()) {
            pixel = in.read();
        } else {
            for (int n = 0; n < L::lanes; ++n) pixel[n] = 0;
        }

        for (int n = 0; n < newest; ++n) columns[n] = columns[n + L::lanes];
        for (int n = 0; n < L::lanes; ++n) columns[newest + n] = static_cast<Sum>(pixel[n]);
        if (held > 0) {
            const Vec<typename L::In, S::word> above = lines[scan.place];
            Vec<typename L::In, S::word> below;  // the rows move up by one, and this pixel joins them
            BITWRIGHT_TOKEN(below);
            for (int y = 0; y < held; ++y) {
                for (int n = 0; n < L::lanes; ++n) {
                    const Sum value = scan.come(held - y) ? static_cast<Sum>(above[y * L::lanes + n]) : Sum(0);
                    columns[newest + n] = static_cast<Sum>(columns[newest + n] + value);
                    below[y * L::lanes + n] = y == held - 1 ? pixel[n] : above[(y + 1) * L::lanes + n];
                }
            }
            lines[scan.place] = below;
        }

        if (scan.at_output()) {
            const int rows = counted<L::kernel_rows, L::first_row, L::end_row>(static_cast<int>(scan.out_row));
            const int cols = counted<L::kernel_cols, L::first_col, L::end_col>(static_cast<int>(scan.out_col));
            const int count = L::uniform ? L::most : rows * cols;
            const UInt<MeanOf<L>::places + 1> reciprocal = reciprocals[L::uniform ? 0 : count];
            for (int n = 0; n < S::out_lanes; ++n) {
                const int first = n / S::part * L::stride_cols;
                Sum sum = 0;
                for (int x = first; x < first + L::kernel_cols; ++x) {
                    if (scan.within(x)) sum = static_cast<Sum>(sum + columns[x * L::channels + n % S::part]);
                }
                y[n] = mean<L>(sum, count, reciprocal);
            }
            out.write(y);
        }
        scan.next();
    }
}

template <class L>
void globalavgpool(hls::stream<Vec<typename L::In, L::lanes>>& in,
                   hls::stream<Vec<typename L::Out, GlobalMean<L>::part>>& out,
                   const UConst<MeanOf<L>::places + 1> reciprocals[MeanOf<L>::counts]) {
    using G = GlobalMean<L>;
    using Sum = Int<L::sum_bits>;
    BITWRIGHT_TRACE_LAYER(L, out);

    Sum sums[G::groups][G::part];  // the next one to be added to stands first
#pragma HLS ARRAY_PARTITION variable=sums complete dim=0
    Counter<G::groups> group = 0;
    Counter<L::positions> position = 0;
    const UInt<MeanOf<L>::places + 1> reciprocal = reciprocals[0];

    for (int i = 0; i < G::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, globalavgpool);
        const Vec<typename L::In, L::lanes> x = in.read();
        Vec<typename L::Out, G::part> y;
        BITWRIGHT_TOKEN(y);
        Sum total[G::part];
#pragma HLS ARRAY_PARTITION variable=total complete dim=0
        for (int n = 0; n < G::part; ++n) {
            Sum sum = position == 0 ? Sum(0) : sums[0][n];
            for (int p = 0; p < G::pixels; ++p) sum = static_cast<Sum>(sum + x[p * G::part + n]);
            total[n] = sum;
        }
        for (int g = 0; g + 1 < G::groups; ++g) {
            for (int n = 0; n < G::part; ++n) sums[g][n] = sums[g + 1][n];
        }
        for (int n = 0; n < G::part; ++n) sums[G::groups - 1][n] = total[n];
        if (position == L::positions - G::pixels) {
            for (int n = 0; n < G::part; ++n) y[n] = mean<L>(total[n], L::most, reciprocal);
            out.write(y);
        }
        if (group == G::groups - 1) position = static_cast<Counter<L::positions>>(position + G::pixels);
        group = after(group, G::groups - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(avgpool2d)
BITWRIGHT_PROCESS(globalavgpool)
}  // namespace nn
}  // namespace bitwright

#endif
