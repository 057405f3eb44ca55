// The matrix-vector product behind convolution and dense layers: weights * window + bias, rounded once.
//
// A vector arrives as `chunks` tokens of simd elements. In every cycle pe rows of the matrix take simd elements each:
// pe * simd multipliers, a tree (or a chain) of adders and an accumulator a row. Row group after row group goes over the same
// vector, which the first group keeps in a buffer for the others. The rows of a depthwise convolution have a vector
// each: a token holds the simd elements of pe of them. Where a token holds the vectors of several positions, all rows go
// over one of them after the other, or over `pixels` at once.
//
// A layer L defines   Out (format), adder_tree (false: a chain), in_dsp (its multipliers; false: in LUTs), packing
//                     (products of a multiplier, packing.hpp), what fold.hpp and requantize.hpp ask for.
// Tables   weights[Fold<L>::folds][pe][simd]: fold g * chunks + c holds rows g * pe .. and columns c * simd ..,
//          bias and shift[Fold<L>::groups][pe].
// Cycles: positions / pixels * outputs / pe * inputs / simd, Fold<L>::trips.
// Memory: a ROM of `folds` words of pe * simd * Weight::bits bits, two of `groups` words (bias, shift), a buffer of
// `chunks` words of vectors * Fold<L>::width * In::bits bits.
#ifndef BITWRIGHT_MATVEC_HPP
#define BITWRIGHT_MATVEC_HPP

#include "bitwright/adder_tree.hpp"
#include "bitwright/fold.hpp"
#include "bitwright/packing.hpp"
#include "bitwright/process.hpp"
#include "bitwright/requantize.hpp"

namespace bitwright {

namespace process {

template <class L>
void matvec(hls::stream<Vec<typename L::In, L::vectors * Fold<L>::width>>& in,
            hls::stream<Vec<typename L::Out, L::pixels * L::pe>>& out,
            const typename L::Weight::Code weights[Fold<L>::folds][L::pe][L::simd],
            const Const<L::acc_bits> bias[Fold<L>::groups][L::pe], const Const<8> shift[Fold<L>::groups][L::pe]) {
#pragma HLS ARRAY_RESHAPE variable=weights complete dim=2
#pragma HLS ARRAY_RESHAPE variable=weights complete dim=3
#pragma HLS ARRAY_RESHAPE variable=bias complete dim=2
#pragma HLS ARRAY_RESHAPE variable=shift complete dim=2
    using F = Fold<L>;
    using Product = Int<F::product_bits>;
    using Sum = Int<F::sum_bits>;
    using Acc = Int<L::acc_bits>;
    BITWRIGHT_TRACE_LAYER(L, out);

    Vec<typename L::In, L::vectors * F::width> buffer[F::chunks];
    BITWRIGHT_TOKENS(buffer);
    Acc acc[L::pixels * L::pe];
#pragma HLS ARRAY_PARTITION variable=acc complete dim=0
    Counter<F::chunks> chunk = 0;
    Counter<F::groups> group = 0;
    Counter<F::sharing> turn = 0;
    Counter<F::rounds> round = 0;
    Counter<F::folds> fold = 0;

    for (int i = 0; i < F::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, matvec);
        Vec<typename L::In, L::vectors * F::width> x;
        BITWRIGHT_TOKEN(x);
        if (turn == 0 && round == 0) {
            x = in.read();
            buffer[chunk] = x;
        } else {
            x = buffer[chunk];
        }
        typename L::In::Type vectors[F::rounds][L::pixels * F::width];  // of the token: wires
#pragma HLS ARRAY_PARTITION variable=vectors complete dim=0
        for (int r = 0; r < F::rounds; ++r) {
            for (int n = 0; n < L::pixels * F::width; ++n) vectors[r][n] = x[r * L::pixels * F::width + n];
        }

#ifdef BITWRIGHT_AP_TYPES
        Product products[L::pixels][L::pe][L::simd];
#pragma HLS ARRAY_PARTITION variable=products complete dim=0
        for (int n = 0; n < L::pixels; ++n) {
            multiply_rows<L>(weights[fold], vectors[round], n * F::width, products[n]);
        }
#endif
        for (int p = 0; p < L::pixels * L::pe; ++p) {
            const int row = p % L::pe;
#ifdef BITWRIGHT_AP_TYPES
            const Sum sum = Adders<L::adder_tree, L::simd, F::product_bits>::sum(products[p / L::pe][row]);
#else
            const int first = p / L::pe * F::width + (F::depthwise ? row * L::simd : 0);
            Sum sum = 0;  // exact in any order: g++ may add as it likes
            for (int s = 0; s < L::simd; ++s) {
                const typename L::In::Type factor = vectors[round][first + s];
                sum = static_cast<Sum>(sum + L::Weight::template times<Product, L::in_dsp>(weights[fold][row][s], factor));
            }
#endif
            const Acc sofar = chunk == 0 ? Acc(bias[group][row]) : acc[p];
            acc[p] = static_cast<Acc>(sofar + sum);
        }

        if (chunk == F::chunks - 1) {
            Vec<typename L::Out, L::pixels * L::pe> y;
            BITWRIGHT_TOKEN(y);
            for (int p = 0; p < L::pixels * L::pe; ++p) {
                y[p] = nn::requantize<L>(acc[p], static_cast<int>(shift[group][p % L::pe]));
            }
            out.write(y);
            if (turn == F::sharing - 1) round = after(round, F::rounds - 1);
            group = after(group, F::groups - 1);
            turn = after(turn, F::sharing - 1);
        }
        chunk = after(chunk, F::chunks - 1);
        fold = after(fold, F::folds - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(matvec)
}  // namespace nn
}  // namespace bitwright

#endif
