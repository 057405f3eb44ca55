// The sliding window of a convolution: pixels in, the pixels under the kernel out.
//
// For every output position it emits the window, flattened in (row, column, channel) order and cut into tokens; of a
// grouped convolution the part of each group so, one after the other. Around the image stand zeros. Where a token
// brings several pixels, the windows that it completes leave side by side.
//
// A layer L defines   what scan.hpp and fold.hpp ask for, with positions = out_rows * out_cols,
//                     inputs = kernel_rows * kernel_cols * channels / conv_groups.
// Cycles: one for every step of the walk; the windows' first token leaves in the cycle that completes them, every
// further token takes one more: Window<L>::trips.
// Memory: one RAM of Scan<L>::places words of (kernel_rows - 1) * lanes elements, and the columns that are held in
// registers.
#ifndef BITWRIGHT_WINDOW_HPP
#define BITWRIGHT_WINDOW_HPP

#include "bitwright/fold.hpp"
#include "bitwright/process.hpp"
#include "bitwright/scan.hpp"

namespace bitwright {

template <class L>
struct Window {
    static constexpr int width = Scan<L>::span * L::channels;  // elements of one row that is held
    static constexpr int size = L::kernel_rows * width;
    static constexpr int vectors = Scan<L>::windows;
    static constexpr int tokens = Fold<L>::tokens;  // of one window
    static constexpr int out_lanes = vectors * Fold<L>::width;
    static constexpr int trips = Scan<L>::steps + L::positions / vectors * (tokens - 1);
    static constexpr int share = L::channels / L::conv_groups;  // channels of a group

    static_assert(L::positions == L::out_rows * L::out_cols, "a convolution has one position a pixel");
    static_assert(L::channels % L::conv_groups == 0, "the groups divide the channels");
    static_assert(L::inputs * L::conv_groups == L::kernel_rows * L::kernel_cols * L::channels,
                  "inputs are the elements under the kernel");
    static_assert(L::vectors == vectors, "the product takes the windows of a token");
    static_assert(vectors == 1 || tokens == Fold<L>::chunks, "several windows have a vector each");

    // Where element n of a window's token t stands: at `tap` of the kernel, in channel `channel`.
    static constexpr int first(int t) { return t % Fold<L>::chunks * L::simd; }
    static constexpr int tap(int t, int n) {
        return Fold<L>::depthwise ? first(t) + n % L::simd : (first(t) + n) / share;
    }
    static constexpr int channel(int t, int n) {
        return Fold<L>::depthwise ? t / Fold<L>::chunks * L::pe + n / L::simd
                                  : t / Fold<L>::chunks * share + (first(t) + n) % share;
    }
    // And element n of the windows' token t: its column of those that are held, and its place.
    static constexpr int column(int t, int n) {
        return n / Fold<L>::width * L::stride_cols + tap(t, n % Fold<L>::width) % L::kernel_cols;
    }
    static constexpr int place(int t, int n) {
        return tap(t, n % Fold<L>::width) / L::kernel_cols * width + column(t, n) * L::channels +
               channel(t, n % Fold<L>::width);
    }
};

namespace process {

template <class L>
void window2d(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::In, Window<L>::out_lanes>>& out) {
    using T = typename L::In::Type;
    using W = Window<L>;
    constexpr int held = Scan<L>::held, newest = W::width - L::lanes;

    Vec<typename L::In, Scan<L>::word> lines[Scan<L>::places];  // the rows above, one place a word
    BITWRIGHT_TOKENS(lines);
#pragma HLS DEPENDENCE variable=lines inter false
    T window[W::size];
#pragma HLS ARRAY_PARTITION variable=window complete dim=0
    for (int n = 0; n < W::size; ++n) {
#pragma HLS UNROLL
        window[n] = 0;
    }
    Scan<L> scan;
    Counter<W::tokens> turn = 0;

    for (int i = 0; i < W::trips; ++i) {
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
            // A kernel row is a shift register: its oldest token leaves, the newest enters.
            for (int y = 0; y < L::kernel_rows; ++y) {
                for (int n = 0; n < newest; ++n) window[y * W::width + n] = window[y * W::width + n + L::lanes];
            }
            for (int n = 0; n < L::lanes; ++n) window[held * W::width + newest + n] = pixel[n];
            if (held > 0) {
                const Vec<typename L::In, Scan<L>::word> above = lines[scan.place];
                Vec<typename L::In, Scan<L>::word> below;  // the rows move up by one, and this pixel joins them
                BITWRIGHT_TOKEN(below);
                for (int y = 0; y < held; ++y) {
                    for (int n = 0; n < L::lanes; ++n) {
                        window[y * W::width + newest + n] = scan.come(held - y) ? above[y * L::lanes + n] : T(0);
                        below[y * L::lanes + n] = y == held - 1 ? pixel[n] : above[(y + 1) * L::lanes + n];
                    }
                }
                lines[scan.place] = below;
            }
        }

        const bool complete = scan.at_output() && scan.last_group();
        if (complete) {
            Vec<typename L::In, W::out_lanes> token;
            BITWRIGHT_TOKEN(token);
            bool within[Scan<L>::span];  // the image, rather than padding
#pragma HLS ARRAY_PARTITION variable=within complete dim=0
            for (int x = 0; x < Scan<L>::span; ++x) within[x] = scan.within(x);
#ifdef BITWRIGHT_AP_TYPES
            T view[W::tokens][W::out_lanes];  // the same registers, seen as tokens: wires
            bool shown[W::tokens][W::out_lanes];
#pragma HLS ARRAY_PARTITION variable=view complete dim=0
#pragma HLS ARRAY_PARTITION variable=shown complete dim=0
            for (int t = 0; t < W::tokens; ++t) {
                for (int n = 0; n < W::out_lanes; ++n) {
                    view[t][n] = window[W::place(t, n)];
                    shown[t][n] = within[W::column(t, n)];
                }
            }
            for (int n = 0; n < W::out_lanes; ++n) token[n] = shown[turn][n] ? view[turn][n] : T(0);
#else
            for (int n = 0; n < W::out_lanes; ++n) {
                token[n] = within[W::column(turn, n)] ? window[W::place(turn, n)] : T(0);
            }
#endif
            out.write(token);
        }

        if (complete && turn < W::tokens - 1) {
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
