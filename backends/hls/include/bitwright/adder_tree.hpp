// The sum of N integers of W bits by a balanced tree of adders that grow by one bit a level: bits_for(N) levels deep.
#ifndef BITWRIGHT_ADDER_TREE_HPP
#define BITWRIGHT_ADDER_TREE_HPP

#include "bitwright/types.hpp"

namespace bitwright {

// Adds neighbours in pairs and hands half as many numbers to the next level.
template <int N, int W>
struct AdderTree {
    static Int<W + bits_for(N)> sum(const Int<W> (&x)[N]) {
#pragma HLS INLINE
        Int<W + 1> pairs[(N + 1) / 2];
#pragma HLS ARRAY_PARTITION variable=pairs complete dim=0
        for (int n = 0; n < N / 2; ++n) {
#pragma HLS UNROLL
            pairs[n] = x[2 * n] + x[2 * n + 1];
        }
        if (N % 2 == 1) pairs[N / 2] = x[N - 1];
        return AdderTree<(N + 1) / 2, W + 1>::sum(pairs);
    }
};

template <int W>
struct AdderTree<1, W> {
    static Int<W> sum(const Int<W> (&x)[1]) {
#pragma HLS INLINE
        return x[0];
    }
};

// The same sum one number after the other: N - 1 adders deep, for comparison and where the clock allows it.
template <int N, int W>
struct AdderChain {
    static Int<W + bits_for(N)> sum(const Int<W> (&x)[N]) {
#pragma HLS INLINE
#pragma HLS EXPRESSION_BALANCE off
        Int<W + bits_for(N)> sum = x[0];
        for (int n = 1; n < N; ++n) {
#pragma HLS UNROLL
            sum = static_cast<Int<W + bits_for(N)>>(sum + x[n]);
        }
        return sum;
    }
};

template <bool TREE, int N, int W>
struct Adders : AdderTree<N, W> {};

template <int N, int W>
struct Adders<false, N, W> : AdderChain<N, W> {};

}  // namespace bitwright

#endif
