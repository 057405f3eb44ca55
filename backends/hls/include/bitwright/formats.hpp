// Number formats as types: what the integers of a tensor mean.
//
// Each gives Type (the bits that flow), bits, and for tensors of activations the range [min, max]. B is the
// radix point of the graph's text, FIXED<8,B=-1> is Fixed<8, -1>: no integer arithmetic uses it, but two streams of
// different formats are different types, so a wrong wire does not compile.
//
// A format of weights also gives Code (an element of its table) and multiplies: product_bits(n) is the width of a
// product with an activation of n bits, and times<Product, in_dsp>(code, x) the product. Bin and Exp are formats of weights only.
#ifndef BITWRIGHT_FORMATS_HPP
#define BITWRIGHT_FORMATS_HPP

#include "bitwright/multiplier.hpp"
#include "bitwright/types.hpp"

namespace bitwright {

// FIXED<N>: symmetric integers of N bits, -(2^(N-1) - 1) .. 2^(N-1) - 1.
template <int N, int B = 0>
struct Fixed {
    static_assert(2 <= N && N <= 32, "FIXED has 2 to 32 bits; one bit is BIN");
    using Type = Int<N>;
    using Code = Const<N>;
    static constexpr int bits = N;
    static constexpr int step = 2 - N - B;  // log2 of what 1 stands for
    static constexpr std::int64_t max = (std::int64_t(1) << (N - 1)) - 1;
    static constexpr std::int64_t min = -max;

    static constexpr int product_bits(int in_bits) { return N + in_bits; }
    template <class Product, bool IN_DSP, class X>
    static Product times(Code weight, X x) {
#pragma HLS INLINE
        return Multiplier<IN_DSP>::template times<Product>(Type(weight), x);
    }
};

// The unsigned form, 0 .. 2^N - 1, for tensors that are never negative.
template <int N, int B = 0>
struct UFixed {
    static_assert(1 <= N && N <= 32, "an unsigned format has 1 to 32 bits");
    using Type = UInt<N>;
    static constexpr int bits = N;
    static constexpr int step = 1 - N - B;
    static constexpr std::int64_t max = (std::int64_t(1) << N) - 1;
    static constexpr std::int64_t min = 0;
};

// BIN of activations, +1 and -1: in two bits, since the padding around an image is 0.
template <int B = 0>
struct Signs {
    using Type = Int<2>;
    static constexpr int bits = 2;
    static constexpr int step = -B;
    static constexpr std::int64_t max = 1;
    static constexpr std::int64_t min = -1;
};

// Whether rounding to a format takes the sign alone; that of 0 is +1.
template <class F>
struct TakesSign {
    static constexpr bool value = false;
};

template <int B>
struct TakesSign<Signs<B>> {
    static constexpr bool value = true;
};

// BIN of weights: one bit, 0 stands for +1 and 1 for -1.
template <int B = 0>
struct Bin {
    using Code = UConst<1>;
    static constexpr int bits = 1;

    static constexpr int product_bits(int in_bits) { return in_bits + 1; }
    template <class Product, bool, class X>
    static Product times(Code negative, X x) {
#pragma HLS INLINE
        const Product wide = x;
        return negative != 0 ? Product(-wide) : wide;
    }
};

// EXP<N>: a sign bit above N - 1 bits of level; level 0 is zero, level e is 2^(e - 1). A product is a shift.
// LEVELS is the highest level that the weights use, which bounds the product.
template <int N, int LEVELS = (1 << (N - 1)) - 1>
struct Exp {
    static_assert(2 <= N && N <= 7, "the levels of a layer fit in 6 bits: count them from its smallest weight");
    static_assert(1 <= LEVELS && LEVELS < (1 << (N - 1)), "a level fits in the N - 1 bits below the sign");
    using Code = UConst<N>;
    static constexpr int bits = N;

    static constexpr int product_bits(int in_bits) { return in_bits + LEVELS; }
    template <class Product, bool, class X>
    static Product times(Code code, X x) {
#pragma HLS INLINE
        const UInt<N> level = code & ((1 << (N - 1)) - 1);
        const bool negative = (code >> (N - 1)) != 0;
        const bool zero = level == 0;
        const Product size = shift_left<Product>(x, zero ? level : UInt<N>(level - 1));
        return zero ? Product(0) : negative ? Product(-size) : size;
    }
};

}  // namespace bitwright

#endif
