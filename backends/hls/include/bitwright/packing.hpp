// Products of one factor with several weights by one multiplication, which one DSP slice makes.
//
//     x (w[0] + w[1] 2^k + ... + w[N-1] 2^((N-1) k)) = p[0] + p[1] 2^k + ... + p[N-1] 2^((N-1) k),   p[n] = x w[n]
//
// With k bits for every product, its sign among them, what lies below product n is less than 2^(n k - 1) in size. So bit
// n k - 1 is its sign: where it is negative it has borrowed 1 from the product above, which is given back:
//
//     p[n] = (the k bits from n k up) + (bit n k - 1)
//
// The weights side by side have (N - 1) k bits and those of one weight, since a weight is much smaller than 2^k. The
// plan packs no more than fit the ports of the device's multiplier (backends/hls/packing.py, which has the sources).
#ifndef BITWRIGHT_PACKING_HPP
#define BITWRIGHT_PACKING_HPP

#include "bitwright/fold.hpp"
#include "bitwright/pragmas.hpp"
#include "bitwright/types.hpp"

namespace bitwright {

// The size of the largest number of a format.
template <class F>
constexpr std::int64_t largest() {
    return F::max > -F::min ? F::max : -F::min;
}

// The widths of N products of numbers of X with weights of W, each two's complement.
template <class W, class X, int N>
struct Packing {
    static_assert(N > 1 && W::bits + X::bits <= 32, "packed products are narrow");
    static constexpr int product_bits = 1 + bits_for(static_cast<int>(largest<W>() * largest<X>()) + 1);
    static constexpr int weight_bits = 1 + bits_for(static_cast<int>(largest<W>()) + 1);
    static constexpr int bits = (N - 1) * product_bits + weight_bits;
    static_assert(bits <= 27, "the widest port of a multiplier that there is");
};

// PACKING products by one multiplication. In native C simulation each by its own.
template <class L, int PACKING>
struct Slice {
#ifdef BITWRIGHT_AP_TYPES
    template <class Product, class Code, class X>
    static void times(const Code (&weights)[PACKING], X x, Product (&products)[PACKING]) {
#pragma HLS INLINE
        using P = Packing<typename L::Weight, typename L::In, PACKING>;
        Int<P::bits> packed = weights[0];
        for (int n = 1; n < PACKING; ++n) {
#pragma HLS UNROLL
            const Int<P::bits> above = weights[n];
            packed = static_cast<Int<P::bits>>(packed + (above << (n * P::product_bits)));
        }
        const auto product = packed * x;
        BITWRIGHT_IN_DSP(product);
        products[0] = static_cast<Product>(static_cast<Int<P::product_bits>>(product));
        for (int n = 1; n < PACKING; ++n) {
#pragma HLS UNROLL
            const auto high = static_cast<Int<P::product_bits>>(product >> (n * P::product_bits));
            const auto borrowed = static_cast<UInt<1>>(product >> (n * P::product_bits - 1));
            products[n] = static_cast<Product>(static_cast<Int<P::product_bits>>(high + borrowed));
        }
    }
#else
    template <class Product, class Code, class X>
    static void times(const Code (&weights)[PACKING], X x, Product (&products)[PACKING]) {
        for (int n = 0; n < PACKING; ++n) products[n] = L::Weight::template times<Product, true>(weights[n], x);
    }
#endif
};

// A product of its own.
template <class L>
struct Slice<L, 1> {
    template <class Product, class Code, class X>
    static void times(const Code (&weights)[1], X x, Product (&products)[1]) {
#pragma HLS INLINE
        products[0] = L::Weight::template times<Product, L::in_dsp>(weights[0], x);
    }
};

// The products of a trip, pe rows of simd columns: those of the vector that begins at `first` of x, which the rows share,
// so that `packing` of them are one multiplication; or of one a row, side by side.
template <class L, class Product, class Code, class Vector>
void multiply_rows(const Code (&weights)[L::pe][L::simd], const Vector& x, int first, Product (&products)[L::pe][L::simd]) {
#pragma HLS INLINE
    static_assert(L::packing == 1 || !Fold<L>::depthwise, "packed products share a factor");
    for (int row = 0; row < L::pe; row += L::packing) {
#pragma HLS UNROLL
        for (int s = 0; s < L::simd; ++s) {
#pragma HLS UNROLL
            Code together[L::packing];
            Product made[L::packing];
#pragma HLS ARRAY_PARTITION variable=together complete dim=0
#pragma HLS ARRAY_PARTITION variable=made complete dim=0
            for (int n = 0; n < L::packing; ++n) {
#pragma HLS UNROLL
                together[n] = row + n < L::pe ? weights[row + n][s] : Code(0);
            }
            Slice<L, L::packing>::times(together, x[first + (Fold<L>::depthwise ? row * L::simd : 0) + s], made);
            for (int n = 0; n < L::packing; ++n) {
#pragma HLS UNROLL
                if (row + n < L::pe) products[row + n][s] = made[n];
            }
        }
    }
}

}  // namespace bitwright

#endif
