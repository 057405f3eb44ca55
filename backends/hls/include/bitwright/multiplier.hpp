// A product of two integers, made of what the plan says: DSP slices or LUTs.
#ifndef BITWRIGHT_MULTIPLIER_HPP
#define BITWRIGHT_MULTIPLIER_HPP

#include "bitwright/pragmas.hpp"
#include "bitwright/types.hpp"

namespace bitwright {

#ifdef BITWRIGHT_AP_TYPES

// In LUTs. The variable that is bound holds all bits of the product, so that nothing stands between it and the multiplier.
template <bool IN_DSP>
struct Multiplier {
    template <class Product, class A, class B>
    static Product times(A a, B b) {
#pragma HLS INLINE
        const auto product = a * b;
        BITWRIGHT_IN_LUTS(product);
        return Product(product);
    }
};

// In DSP slices.
template <>
struct Multiplier<true> {
    template <class Product, class A, class B>
    static Product times(A a, B b) {
#pragma HLS INLINE
        const auto product = a * b;
        BITWRIGHT_IN_DSP(product);
        return Product(product);
    }
};

#else

template <bool>
struct Multiplier {
    template <class Product, class A, class B>
    static Product times(A a, B b) {
        return multiply<Product>(a, b);
    }
};

#endif

}  // namespace bitwright

#endif
