// Convolution and dense layers in float32: weights and activations of any kind, widened by real.hpp, rounded once.
//
// pe * simd products and a tree of adders a row work in every cycle. An addition takes up to `addition` cycles, so a
// row's sum must not meet itself sooner: chunk after chunk of the vector, all rows take their turns, at least so many
// that the sum is back. Where fewer rows share a vector, some turns are idle; with one chunk nothing is carried at all.
// The sums go round in a shift register of `turns` places, and no buffer holds the vector. A sum may be multiplied by a
// scale of its row, where weights are integers times that.
//
// A layer L defines   what fold.hpp asks for but acc_bits, Out (format), act_low, act_high (float; the activation),
//                     has_scale (some scale is not 1).
// Tables   weights[Fold<L>::folds][pe][simd]: vector by vector, chunk by chunk, the groups of rows that go over it;
//          bias and scale[Fold<L>::groups][pe] in float32.
// Cycles: positions * vectors * chunks * turns, Turns<L>::trips. Memory: a ROM of `folds` words of
// pe * simd * Weight::bits bits, one of `groups` words of pe floats, two with a scale.
#ifndef BITWRIGHT_FLOAT_SUMS_HPP
#define BITWRIGHT_FLOAT_SUMS_HPP

#include "bitwright/fold.hpp"
#include "bitwright/process.hpp"
#include "bitwright/real.hpp"
#include "bitwright/regroup.hpp"
#include "bitwright/window.hpp"

namespace bitwright {

// The vendor's adder has 5 stages at 100 MHz on a 7 series part; one more for the selection before it.
constexpr int addition = 6;

template <class L>
struct Turns {
    static constexpr int sharing = Fold<L>::sharing, chunks = Fold<L>::chunks;
    static constexpr int turns = chunks == 1 ? sharing : larger(sharing, addition);
    static constexpr int trips = L::positions * (Fold<L>::groups / sharing) * chunks * turns;
};

// The sum of N floats by a balanced tree.
template <int N>
struct FloatTree {
    static float sum(const float (&x)[N]) {
#pragma HLS INLINE
        float pairs[(N + 1) / 2];
#pragma HLS ARRAY_PARTITION variable=pairs complete dim=0
        for (int n = 0; n < N / 2; ++n) {
#pragma HLS UNROLL
            pairs[n] = x[2 * n] + x[2 * n + 1];
        }
        if (N % 2 == 1) pairs[N / 2] = x[N - 1];
        return FloatTree<(N + 1) / 2>::sum(pairs);
    }
};

template <>
struct FloatTree<1> {
    static float sum(const float (&x)[1]) {
#pragma HLS INLINE
        return x[0];
    }
};

namespace process {

template <class L>
void float_matvec(hls::stream<Vec<typename L::In, Fold<L>::width>>& in,
                  hls::stream<Vec<typename L::Out, L::pe>>& out,
                  const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
                  const float bias[Fold<L>::groups][L::pe], const float scale[Fold<L>::groups][L::pe]) {
#pragma HLS ARRAY_RESHAPE variable=weights complete dim=2
#pragma HLS ARRAY_RESHAPE variable=weights complete dim=3
#pragma HLS ARRAY_RESHAPE variable=bias complete dim=2
#pragma HLS ARRAY_RESHAPE variable=scale complete dim=2
    using F = Fold<L>;
    constexpr int turns = Turns<L>::turns;
    BITWRIGHT_TRACE_STREAM(out);

    float x[F::width];
#pragma HLS ARRAY_PARTITION variable=x complete dim=0
    float acc[turns][L::pe];  // the next one to be added to stands last
#pragma HLS ARRAY_PARTITION variable=acc complete dim=0
    Counter<turns> turn = 0;
    Counter<F::chunks> chunk = 0;
    Counter<F::groups> first = 0, group = 0;  // of the rows that share the vector
    Counter<F::folds> fold = 0;

    for (int i = 0; i < Turns<L>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, float_matvec);
        if (turn == 0) {
            const Vec<typename L::In, F::width> token = in.read();
            for (int n = 0; n < F::width; ++n) x[n] = Real<typename L::In>::number(token[n]);
            group = first;
        }

        float sums[L::pe];
#pragma HLS ARRAY_PARTITION variable=sums complete dim=0
        for (int p = 0; p < L::pe; ++p) {
            float products[L::simd];
#pragma HLS ARRAY_PARTITION variable=products complete dim=0
            for (int s = 0; s < L::simd; ++s) {
                const float weight = Real<typename L::Weight>::weight(weights[fold][p][s]);
                products[s] = weight * x[(F::depthwise ? p * L::simd : 0) + s];
            }
            const float sofar = chunk == 0 ? bias[group][p] : acc[turns - 1][p];
            sums[p] = sofar + FloatTree<L::simd>::sum(products);
        }
        for (int t = turns - 1; t > 0; --t) {
            for (int p = 0; p < L::pe; ++p) acc[t][p] = acc[t - 1][p];
        }
        for (int p = 0; p < L::pe; ++p) acc[0][p] = sums[p];

        const bool works = turn < F::sharing;
        if (works && chunk == F::chunks - 1) {
            Vec<typename L::Out, L::pe> y;
            BITWRIGHT_TOKEN(y);
            for (int p = 0; p < L::pe; ++p) {
                const float value = L::has_scale ? sums[p] * scale[group][p] : sums[p];
                y[p] = Real<typename L::Out>::nearest(real::clipped(value, L::act_low, L::act_high));
            }
            out.write(y);
        }
        if (works) {
            group = after(group, F::groups - 1);
            fold = after(fold, F::folds - 1);
        }
        if (turn == turns - 1) {
            if (chunk == F::chunks - 1) first = group;
            chunk = after(chunk, F::chunks - 1);
        }
        turn = after(turn, turns - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(float_matvec)
}  // namespace nn

namespace process {

// L defines what window.hpp and float_matvec ask for.
template <class L>
void float_conv2d(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::pe>>& out,
                  const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
                  const float bias[Fold<L>::groups][L::pe], const float scale[Fold<L>::groups][L::pe]) {
#pragma HLS DATAFLOW
    hls::stream<Vec<typename L::In, Fold<L>::width>> windows("windows");
#pragma HLS STREAM variable=windows depth=2
    nn::window2d<L>(in, windows);
    nn::float_matvec<L>(windows, out, weights, bias, scale);
}

// L defines what float_matvec asks for, and lanes (of an input token).
template <class L>
void float_dense(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::pe>>& out,
                 const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
                 const float bias[Fold<L>::groups][L::pe], const float scale[Fold<L>::groups][L::pe]) {
#pragma HLS DATAFLOW
    hls::stream<Vec<typename L::In, Fold<L>::width>> chunks("chunks");
#pragma HLS STREAM variable=chunks depth=2
    constexpr int elements = L::positions * L::conv_groups * L::inputs;
    nn::regroup<Regroup<typename L::In, L::lanes, Fold<L>::width, elements>>(in, chunks);
    nn::float_matvec<L>(chunks, out, weights, bias, scale);
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(float_conv2d)
BITWRIGHT_PROCESS(float_dense)
}  // namespace nn
}  // namespace bitwright

#endif
