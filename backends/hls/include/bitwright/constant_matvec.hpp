// The product of a matrix of constants and a vector as a graph of adders: all weights work in every cycle.
//
//     out = requantize(bias + weights * vector)
//
// The adders are generated, a line each: plus and minus below are their whole vocabulary. Straight lines rather than a
// table that a template reads: every sum has its own width in its type, which the tools need not find out, the reader
// sees what is added to what, and no depth of template instances limits the size of a layer.
//
// L is a layer's struct with its sums. It defines   Out (format), what fold.hpp and requantize.hpp ask for, with pe =
// outputs and simd = inputs, and
//
//     static void sums(const In::Type (&x)[Fold<L>::width], Int<acc_bits + 1> (&y)[pe]);      y = weights * x
//
// Tables   bias and shift[1][pe].
// Cycles: positions / pixels, Fold<L>::trips. Of a token of several vectors, `pixels` are taken at once.
#ifndef BITWRIGHT_CONSTANT_MATVEC_HPP
#define BITWRIGHT_CONSTANT_MATVEC_HPP

#include "bitwright/fold.hpp"
#include "bitwright/process.hpp"
#include "bitwright/requantize.hpp"

namespace bitwright {

// a * 2^PLACES, which W bits hold.
template <int W, int PLACES, class A>
Int<W> scaled(A a) {
#pragma HLS INLINE
    return shift_left<Int<W>>(a, Counter<PLACES + 1>(PLACES));
}

// a * 2^LEFT + b * 2^RIGHT, which W bits hold.
template <int W, int LEFT, int RIGHT, class A, class B>
Int<W> plus(A a, B b) {
#pragma HLS INLINE
    return static_cast<Int<W>>(scaled<W + 1, LEFT>(a) + scaled<W + 1, RIGHT>(b));
}

// a * 2^LEFT - b * 2^RIGHT, which W bits hold.
template <int W, int LEFT, int RIGHT, class A, class B>
Int<W> minus(A a, B b) {
#pragma HLS INLINE
    return static_cast<Int<W>>(scaled<W + 1, LEFT>(a) - scaled<W + 1, RIGHT>(b));
}

// -a * 2^PLACES, which W bits hold.
template <int W, int PLACES, class A>
Int<W> negative(A a) {
#pragma HLS INLINE
    return static_cast<Int<W>>(-scaled<W + 1, PLACES>(a));
}

namespace process {

template <class L>
void constant_matvec(hls::stream<Vec<typename L::In, L::vectors * Fold<L>::width>>& in,
                     hls::stream<Vec<typename L::Out, L::pixels * L::pe>>& out,
                     const Const<L::acc_bits> bias[Fold<L>::groups][L::pe],
                     const Const<8> shift[Fold<L>::groups][L::pe]) {
#pragma HLS ARRAY_RESHAPE variable=bias complete dim=2
#pragma HLS ARRAY_RESHAPE variable=shift complete dim=2
    using F = Fold<L>;
    using Acc = Int<L::acc_bits>;
    static_assert(F::folds == 1, "all weights work in every cycle");
    BITWRIGHT_TRACE_LAYER(L, out);

    Vec<typename L::In, L::vectors * F::width> token;
    BITWRIGHT_TOKEN(token);
    Counter<F::rounds> round = 0;

    for (int i = 0; i < F::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, constant_matvec);
        if (round == 0) token = in.read();
        typename L::In::Type vectors[F::rounds][L::pixels][F::width];  // of the token: wires
#pragma HLS ARRAY_PARTITION variable=vectors complete dim=0
        for (int r = 0; r < F::rounds; ++r) {
            for (int p = 0; p < L::pixels; ++p) {
                for (int n = 0; n < F::width; ++n) vectors[r][p][n] = token[(r * L::pixels + p) * F::width + n];
            }
        }

        Vec<typename L::Out, L::pixels * L::pe> y;
        BITWRIGHT_TOKEN(y);
        for (int p = 0; p < L::pixels; ++p) {
            Int<L::acc_bits + 1> rows[L::pe];
#pragma HLS ARRAY_PARTITION variable=rows complete dim=0
            L::sums(vectors[round][p], rows);
            for (int row = 0; row < L::pe; ++row) {
                const Acc acc = static_cast<Acc>(Acc(bias[0][row]) + rows[row]);
                y[p * L::pe + row] = nn::requantize<L>(acc, static_cast<int>(shift[0][row]));
            }
        }
        out.write(y);
        round = after(round, F::rounds - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(constant_matvec)
}  // namespace nn
}  // namespace bitwright

#endif
