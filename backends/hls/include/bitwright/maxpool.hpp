// Max pooling: any kernel, stride and padding, overlapping or not.
//
// It runs on the narrow numbers behind a layer's rounding. Rounding and saturation are monotone, so the largest
// rounded number is the rounded largest number: the bits are those of pooling first.
//
// A layer L defines   what scan.hpp asks for, and Format (of input and output).
// Cycles: one for every step of the walk, Pool<L>::trips.
// Memory: one RAM of Scan<L>::places words of (kernel_rows - 1) * lanes elements, and the columns that are held in
// registers.
#ifndef BITWRIGHT_MAXPOOL_HPP
#define BITWRIGHT_MAXPOOL_HPP

#include "bitwright/process.hpp"
#include "bitwright/scan.hpp"

namespace bitwright {

template <class L>
struct Pool {
    static constexpr int trips = Scan<L>::steps;
    static_assert(L::pad_top < L::kernel_rows && L::pad_bottom < L::kernel_rows, "every window holds a pixel");
    static_assert(L::pad_left < L::kernel_cols && L::pad_right < L::kernel_cols, "every window holds a pixel");
};

namespace process {

template <class L>
void maxpool2d(hls::stream<Vec<typename L::Format, L::lanes>>& in,
               hls::stream<Vec<typename L::Format, Scan<L>::out_lanes>>& out) {
    using T = typename L::Format::Type;
    using S = Scan<L>;
    constexpr int held = S::held, newest = S::across - L::lanes;
    const T lowest = static_cast<T>(L::Format::min);  // never wins
    BITWRIGHT_TRACE_STREAM(out);

    Vec<typename L::Format, Scan<L>::word> lines[Scan<L>::places];  // the rows above, one place a word
    BITWRIGHT_TOKENS(lines);
#pragma HLS DEPENDENCE variable=lines inter false
    T columns[S::across];  // the largest of each column, of this token and of those to its left
#pragma HLS ARRAY_PARTITION variable=columns complete dim=0
    for (int n = 0; n < S::across; ++n) {
#pragma HLS UNROLL
        columns[n] = 0;
    }
    Scan<L> scan;

    for (int i = 0; i < Pool<L>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, maxpool2d);
        Vec<typename L::Format, L::lanes> pixel;
        Vec<typename L::Format, S::out_lanes> largest;
        BITWRIGHT_TOKEN(pixel);
        BITWRIGHT_TOKEN(largest);
        if (scan.inside()) {
            pixel = in.read();
        } else {
            for (int n = 0; n < L::lanes; ++n) pixel[n] = lowest;
        }

        for (int n = 0; n < newest; ++n) columns[n] = columns[n + L::lanes];
        for (int n = 0; n < L::lanes; ++n) columns[newest + n] = pixel[n];
        if (held > 0) {
            const Vec<typename L::Format, Scan<L>::word> above = lines[scan.place];
            Vec<typename L::Format, Scan<L>::word> below;  // the rows move up by one, and this pixel joins them
            BITWRIGHT_TOKEN(below);
            for (int y = 0; y < held; ++y) {
                for (int n = 0; n < L::lanes; ++n) {
                    const T value = above[y * L::lanes + n];
                    if (scan.come(held - y) && value > columns[newest + n]) columns[newest + n] = value;
                    below[y * L::lanes + n] = y == held - 1 ? pixel[n] : above[(y + 1) * L::lanes + n];
                }
            }
            lines[scan.place] = below;
        }

        if (scan.at_output()) {
            for (int n = 0; n < S::out_lanes; ++n) {
                const int first = n / S::part * L::stride_cols;
                T value = lowest;
                for (int x = first; x < first + L::kernel_cols; ++x) {
                    const T column = columns[x * L::channels + n % S::part];
                    if (scan.within(x) && column > value) value = column;
                }
                largest[n] = value;
            }
            out.write(largest);
        }
        scan.next();
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(maxpool2d)
}  // namespace nn
}  // namespace bitwright

#endif
