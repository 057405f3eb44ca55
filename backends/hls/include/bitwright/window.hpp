// The sliding window of a convolution: pixels in, the pixels under the kernel out.
//
// For every output position it emits the window, flattened in (row, column, channel) order and cut into tokens; of a
// grouped convolution the part of each group so, one after the other. Around the image stand zeros.
//
// A layer L defines   what scan.hpp and fold.hpp ask for, with positions = out_rows * out_cols,
//                     inputs = kernel_rows * kernel_cols * channels / conv_groups.
// Cycles: one for every group of channels of the padded image; a window's first token leaves in the cycle that
// completes it, every further token takes one more: Window<L>::trips.
// Memory: one RAM of Scan<L>::places words of (kernel_rows - 1) * lanes elements, and the elements under the
// kernel in registers.
#ifndef BITWRIGHT_WINDOW_HPP
#define BITWRIGHT_WINDOW_HPP

#include "bitwright/fold.hpp"
#include "bitwright/process.hpp"
#include "bitwright/scan.hpp"

namespace bitwright {

template <class L>
struct Window {
    static constexpr int width = L::kernel_cols * L::channels;  // elements of one kernel row
    static constexpr int size = L::kernel_rows * width;
    static constexpr int tokens = Fold<L>::tokens;  // of one window
    static constexpr int trips = Scan<L>::steps + L::positions * (tokens - 1);
    static constexpr int share = L::channels / L::conv_groups;  // channels of a group

    static_assert(L::positions == L::out_rows * L::out_cols, "a convolution has one position a pixel");
    static_assert(L::channels % L::conv_groups == 0, "the groups divide the channels");
    static_assert(L::inputs * L::conv_groups == size, "inputs are the elements under the kernel");

    // Where element n of token t stands in the window: at `tap` of the kernel, in channel `channel`.
    static constexpr int first(int t) { return t % Fold<L>::chunks * L::simd; }
    static constexpr int tap(int t, int n) {
        return Fold<L>::depthwise ? first(t) + n % L::simd : (first(t) + n) / share;
    }
    static constexpr int channel(int t, int n) {
        return Fold<L>::depthwise ? t / Fold<L>::chunks * L::pe + n / L::simd
                                  : t / Fold<L>::chunks * share + (first(t) + n) % share;
    }
    static constexpr int place(int t, int n) { return tap(t, n) * L::channels + channel(t, n); }
};

namespace process {

template <class L>
void window2d(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::In, Fold<L>::width>>& out) {
    using T = typename L::In::Type;
    constexpr int held = Scan<L>::held, tokens = Window<L>::tokens, size = Window<L>::size;
    constexpr int width = Window<L>::width, newest = width - L::lanes;

    Vec<typename L::In, Scan<L>::word> lines[Scan<L>::places];  // the rows above, one place a word
    BITWRIGHT_TOKENS(lines);
#pragma HLS DEPENDENCE variable=lines inter false
    T window[size];
#pragma HLS ARRAY_PARTITION variable=window complete dim=0
    for (int n = 0; n < size; ++n) {
#pragma HLS UNROLL
        window[n] = 0;
    }
    Scan<L> scan;
    Counter<tokens> turn = 0;

    for (int i = 0; i < Window<L>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, window2d);
        if (turn == 0) {
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
            Vec<typename L::In, Fold<L>::width> token;
            BITWRIGHT_TOKEN(token);
#ifdef BITWRIGHT_AP_TYPES
            T view[tokens][Fold<L>::width];  // the same registers, seen as tokens: wires
#pragma HLS ARRAY_PARTITION variable=view complete dim=0
            for (int t = 0; t < tokens; ++t) {
                for (int n = 0; n < Fold<L>::width; ++n) view[t][n] = window[Window<L>::place(t, n)];
            }
            for (int n = 0; n < Fold<L>::width; ++n) token[n] = view[turn][n];
#else
            for (int n = 0; n < Fold<L>::width; ++n) token[n] = window[Window<L>::place(turn, n)];
#endif
            out.write(token);
        }

        if (complete && turn < tokens - 1) {
            ++turn;
        } else {
            turn = 0;
            scan.next();
        }
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(window2d)
}  // namespace nn
}  // namespace bitwright

#endif
