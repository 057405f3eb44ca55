// The sliding window of a convolution: pixels in, the pixels under the kernel out.
//
// For every output position it emits the window, flattened in (row, column, channel) order and cut into `inputs /
// simd` tokens of simd elements. Around the image stand zeros.
//
// A layer L defines   what scan.hpp asks for, and In (format), positions = out_rows * out_cols,
//                     inputs = kernel_rows * kernel_cols * channels, simd.
// Cycles: one for every group of channels of the padded image; a window's first token leaves in the cycle that
// completes it, every further token takes one more: Window<L>::trips.
// Memory: one RAM of Scan<L>::places words of (kernel_rows - 1) * lanes elements, and `inputs` elements of registers.
#ifndef BITWRIGHT_WINDOW_HPP
#define BITWRIGHT_WINDOW_HPP

#include "bitwright/scan.hpp"
#include "bitwright/stream.hpp"

namespace bitwright {

template <class L>
struct Window {
    static constexpr int width = L::kernel_cols * L::channels;  // elements of one kernel row
    static constexpr int chunks = L::inputs / L::simd;          // tokens of one window
    static constexpr int trips = Scan<L>::steps + L::positions * (chunks - 1);

    static_assert(L::positions == L::out_rows * L::out_cols, "a convolution has one position a pixel");
    static_assert(L::inputs == L::kernel_rows * width, "inputs are the elements under the kernel");
    static_assert(L::inputs % L::simd == 0, "simd divides the elements under the kernel");
};

namespace nn {

template <class L>
void window2d(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::In, L::simd>>& out) {
    using T = typename L::In::Type;
    constexpr int held = Scan<L>::held, chunks = Window<L>::chunks;
    constexpr int width = Window<L>::width, newest = width - L::lanes;

    Vec<typename L::In, Scan<L>::word> lines[Scan<L>::places];  // the rows above, one place a word
    BITWRIGHT_TOKENS(lines);
#pragma HLS DEPENDENCE variable=lines inter false
    T window[L::inputs];
#pragma HLS ARRAY_PARTITION variable=window complete dim=0
    for (int n = 0; n < L::inputs; ++n) {
#pragma HLS UNROLL
        window[n] = 0;
    }
    Scan<L> scan;
    Counter<chunks> chunk = 0;

    for (int i = 0; i < Window<L>::trips; ++i) {
#pragma HLS PIPELINE II=1
        if (chunk == 0) {
            Vec<typename L::In, L::lanes> pixel;
            BITWRIGHT_TOKEN(pixel);
            if (scan.inside()) {
                pixel = in.read();
            } else {
                for (int n = 0; n < L::lanes; ++n) pixel[n] = 0;
            }
            // A kernel row is a shift register: its oldest group of channels leaves, the newest enters.
            for (int y = 0; y < L::kernel_rows; ++y) {
                for (int n = 0; n < newest; ++n) window[y * width + n] = window[y * width + n + L::lanes];
            }
            for (int n = 0; n < L::lanes; ++n) window[held * width + newest + n] = pixel[n];
            if (held > 0) {
                const Vec<typename L::In, Scan<L>::word> above = lines[scan.place];
                Vec<typename L::In, Scan<L>::word> below;  // the rows move up by one, and this pixel joins them
                BITWRIGHT_TOKEN(below);
                for (int y = 0; y < held; ++y) {
                    for (int n = 0; n < L::lanes; ++n) {
                        window[y * width + newest + n] = above[y * L::lanes + n];
                        below[y * L::lanes + n] = y == held - 1 ? pixel[n] : above[(y + 1) * L::lanes + n];
                    }
                }
                lines[scan.place] = below;
            }
        }

        const bool complete = scan.at_output() && scan.last_group();
        if (complete) {
            T view[chunks][L::simd];  // the same registers, seen as tokens: wires
#pragma HLS ARRAY_PARTITION variable=view complete dim=0
            for (int c = 0; c < chunks; ++c) {
                for (int n = 0; n < L::simd; ++n) view[c][n] = window[c * L::simd + n];
            }
            Vec<typename L::In, L::simd> token;
            BITWRIGHT_TOKEN(token);
            for (int n = 0; n < L::simd; ++n) token[n] = view[chunk][n];
            out.write(token);
        }

        if (complete && chunk < chunks - 1) {
            ++chunk;
        } else {
            chunk = 0;
            scan.next();
        }
    }
}

}  // namespace nn
}  // namespace bitwright

#endif
