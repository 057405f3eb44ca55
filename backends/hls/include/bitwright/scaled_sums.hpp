// Convolution and dense layers with AFFINE numbers: exact integer sums, one multiplication by the scale an output.
//
// An AFFINE weight is (q - zero) scale, so a sum is scale (sum q x - zero sum x), of which both sums are exact integers.
// The scale is a fixed-point number of 2^-shift steps of the output, and so are its product with the zero point and
// the bias:
//
//     out = saturate(round((sum q x * multiplier + sum x * offset + bias) / 2^shift))      ties to even
//
// Where all rows have one scale, sum x * offset is computed once for all of them.
//
// A layer L defines   what fold.hpp and requantize.hpp ask for (acc_bits: of the bracket), sum_bits, total_bits (of
//                     sum q x and sum x), multiplier_bits, offset_bits, one_scale, has_offset.
// Tables   weights as matvec.hpp; bias, multiplier and offset[Fold<L>::groups][pe].
// Cycles and memory: as matvec.hpp, and two more ROMs of `groups` words.
#ifndef BITWRIGHT_SCALED_SUMS_HPP
#define BITWRIGHT_SCALED_SUMS_HPP

#include "bitwright/adder_tree.hpp"
#include "bitwright/fold.hpp"
#include "bitwright/multiplier.hpp"
#include "bitwright/packing.hpp"
#include "bitwright/process.hpp"
#include "bitwright/regroup.hpp"
#include "bitwright/requantize.hpp"
#include "bitwright/window.hpp"

namespace bitwright {

// The integers of AFFINE weights, all of N bits.
template <int N>
struct Linear {
    static_assert(1 <= N && N <= 32, "AFFINE has 1 to 32 bits");
    using Type = Int<N>;
    using Code = Const<N>;
    static constexpr int bits = N;
    static constexpr std::int64_t max = (std::int64_t(1) << (N - 1)) - 1;
    static constexpr std::int64_t min = -max - 1;

    static constexpr int product_bits(int in_bits) { return N + in_bits; }
    template <class Product, bool IN_DSP, class X>
    static Product times(Code weight, X x) {
#pragma HLS INLINE
        return Multiplier<IN_DSP>::template times<Product>(Type(weight), x);
    }
};

namespace process {

template <class L>
void scaled_matvec(hls::stream<Vec<typename L::In, Fold<L>::width>>& in,
                   hls::stream<Vec<typename L::Out, L::pe>>& out,
                   const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
                   const Const<L::acc_bits> bias[Fold<L>::groups][L::pe],
                   const Const<L::multiplier_bits> multiplier[Fold<L>::groups][L::pe],
                   const Const<L::offset_bits> offset[Fold<L>::groups][L::pe]) {
#pragma HLS ARRAY_RESHAPE variable=weights complete dim=2
#pragma HLS ARRAY_RESHAPE variable=weights complete dim=3
#pragma HLS ARRAY_RESHAPE variable=bias complete dim=2
#pragma HLS ARRAY_RESHAPE variable=multiplier complete dim=2
#pragma HLS ARRAY_RESHAPE variable=offset complete dim=2
    using F = Fold<L>;
    using Product = Int<F::product_bits>;
    using Sum = Int<L::sum_bits>;
    using Total = Int<L::total_bits>;
    using Acc = Int<L::acc_bits>;
    constexpr int vectors = F::depthwise ? L::pe : 1;  // that the rows read side by side
    BITWRIGHT_TRACE_LAYER(L, out);

    Vec<typename L::In, F::width> buffer[F::chunks];
    BITWRIGHT_TOKENS(buffer);
    Sum sums[L::pe];
    Total totals[vectors];
#pragma HLS ARRAY_PARTITION variable=sums complete dim=0
#pragma HLS ARRAY_PARTITION variable=totals complete dim=0
    Counter<F::chunks> chunk = 0;
    Counter<F::groups> group = 0;
    Counter<F::sharing> turn = 0;
    Counter<F::folds> fold = 0;

    for (int i = 0; i < F::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, scaled_matvec);
        Vec<typename L::In, F::width> x;
        BITWRIGHT_TOKEN(x);
        if (turn == 0) {
            x = in.read();
            buffer[chunk] = x;
        } else {
            x = buffer[chunk];
        }

        for (int v = 0; v < vectors; ++v) {
            Total total = chunk == 0 ? Total(0) : totals[v];
            for (int s = 0; s < L::simd; ++s) total = static_cast<Total>(total + x[v * L::simd + s]);
            totals[v] = total;
        }
        Product products[L::pe][L::simd];
#pragma HLS ARRAY_PARTITION variable=products complete dim=0
        multiply_rows<L>(weights[fold], x, 0, products);
        for (int p = 0; p < L::pe; ++p) {
            const Sum sofar = chunk == 0 ? Sum(0) : sums[p];
            sums[p] = static_cast<Sum>(sofar + Adders<L::adder_tree, L::simd, F::product_bits>::sum(products[p]));
        }

        if (chunk == F::chunks - 1) {
            Vec<typename L::Out, L::pe> y;
            BITWRIGHT_TOKEN(y);
            for (int p = 0; p < L::pe; ++p) {
                const int row = L::one_scale ? 0 : static_cast<int>(group), lane = L::one_scale ? 0 : p;
                const Const<L::multiplier_bits> scale = multiplier[row][lane];
                const Const<L::offset_bits> shift = offset[row][lane];
                Acc acc = static_cast<Acc>(multiply<Acc>(sums[p], Int<L::multiplier_bits>(scale)) + bias[group][p]);
                if (L::has_offset) {
                    const Total total = totals[F::depthwise ? p : 0];
                    acc = static_cast<Acc>(acc + multiply<Acc>(total, Int<L::offset_bits>(shift)));
                }
                y[p] = nn::requantize<L>(acc, L::min_shift);
            }
            out.write(y);
            group = after(group, F::groups - 1);
            turn = after(turn, F::sharing - 1);
        }
        chunk = after(chunk, F::chunks - 1);
        fold = after(fold, F::folds - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(scaled_matvec)
}  // namespace nn

namespace process {

// L defines what window.hpp and scaled_matvec ask for.
template <class L>
void scaled_conv2d(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::pe>>& out,
                   const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
                   const Const<L::acc_bits> bias[Fold<L>::groups][L::pe],
                   const Const<L::multiplier_bits> multiplier[Fold<L>::groups][L::pe],
                   const Const<L::offset_bits> offset[Fold<L>::groups][L::pe]) {
#pragma HLS DATAFLOW
    hls::stream<Vec<typename L::In, Fold<L>::width>> windows("windows");
#pragma HLS STREAM variable=windows depth=2
    nn::window2d<L>(in, windows);
    nn::scaled_matvec<L>(windows, out, weights, bias, multiplier, offset);
}

// L defines what scaled_matvec asks for, and lanes (of an input token).
template <class L>
void scaled_dense(hls::stream<Vec<typename L::In, L::lanes>>& in, hls::stream<Vec<typename L::Out, L::pe>>& out,
                  const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
                  const Const<L::acc_bits> bias[Fold<L>::groups][L::pe],
                  const Const<L::multiplier_bits> multiplier[Fold<L>::groups][L::pe],
                  const Const<L::offset_bits> offset[Fold<L>::groups][L::pe]) {
#pragma HLS DATAFLOW
    hls::stream<Vec<typename L::In, Fold<L>::width>> chunks("chunks");
#pragma HLS STREAM variable=chunks depth=2
    constexpr int elements = L::positions * L::conv_groups * L::inputs;
    nn::regroup<Regroup<typename L::In, L::lanes, Fold<L>::width, elements>>(in, chunks);
    nn::scaled_matvec<L>(chunks, out, weights, bias, multiplier, offset);
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(scaled_conv2d)
BITWRIGHT_PROCESS(scaled_dense)
}  // namespace nn
}  // namespace bitwright

#endif
