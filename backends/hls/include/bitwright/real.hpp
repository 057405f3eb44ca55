// Numbers of any kind as float32 and back: FLOAT, EXP, AFFINE, and FIXED and BIN where they meet these.
//
// As it flows, a FLOAT is a signed integer: its code without the sign, which grows with the number, made negative by
// the sign. So zero is 0, integers are in the order of the numbers, and what compares or moves (windows, max pooling,
// relu) needs not know the kind. An AFFINE flows as its integer less the zero point.
//
//     Real<F>::number(x)      the float32 of a number that flows; exact, but for the one product of AFFINE
//     Real<F>::nearest(v)     the nearest number of F, ties to even, saturating: the bits of bitwright.ir.formats
//                             (AFFINE multiplies by 1 / scale where these divide)
//     Real<F>::weight(code)   the float32 of an element of a table of weights
//
// Everything but that product is moves of bits: no core of the vendor's is needed to widen or to round.
// Every number of FLOAT<n_e, n_f, B> is an IEEE 754 float32 here, so n_e <= 8, n_f <= 23, and what is beyond
// float32 saturates at its end. What lies below its normal numbers may be 0, as the vendor's cores take it.
#ifndef BITWRIGHT_REAL_HPP
#define BITWRIGHT_REAL_HPP

#include "bitwright/beat.hpp"

namespace bitwright {

template <bool SIGNED, int W>
struct Flowing {
    using Type = Int<W>;
};

template <int W>
struct Flowing<false, W> {
    using Type = UInt<W>;
};

// FLOAT and EXP: <n_s, n_e, n_f, B> of eq. (1). A code of a table of weights has the sign above.
template <int S, int E, int F, int B>
struct Float {
    static_assert(0 <= S && S <= 1 && 1 <= E && E <= 8 && 0 <= F && F <= 23, "its numbers are float32");
    static_assert(-126 <= B && B <= 127, "its numbers are float32");
    using Type = typename Flowing<S == 1, S + E + F>::Type;
    using Code = UConst<S + E + F>;
    static constexpr int bits = S + E + F;
    static constexpr std::int64_t top = smaller((1 << E) - 1, 127 + B);  // the largest exponent that float32 has
    static constexpr std::int64_t max = ((top + 1) << F) - 1;
    static constexpr std::int64_t min = S == 1 ? -max : 0;
};

// AFFINE: the integers LOW .. HIGH times a scale. SCALE and INVERSE are the bits of the float32 scale and of 1 / scale.
template <int LOW, int HIGH, std::uint32_t SCALE, std::uint32_t INVERSE>
struct Affine {
    static_assert(LOW <= 0 && 0 < HIGH, "0 is one of its numbers");
    static constexpr int bits = larger(bits_for(HIGH + 1), bits_for(-LOW)) + (LOW < 0 ? 1 : 0);
    using Type = typename Flowing<(LOW < 0), bits>::Type;
    static constexpr std::int64_t max = HIGH;
    static constexpr std::int64_t min = LOW;
};

namespace real {

using Bits = std::uint32_t;
using Wide = std::int64_t;

union Word {
    Bits bits;
    float value;
};

inline float from_bits(Bits bits) {
#pragma HLS INLINE
    Word word;
    word.bits = bits;
    return word.value;
}

inline Bits to_bits(float value) {
#pragma HLS INLINE
    Word word;
    word.value = value;
    return word.bits;
}

// size * 2^places, for a size of at most 24 bits: shifted until its leading one stands where float32 leaves it out.
inline float scaled(bool negative, Bits size, int places) {
#pragma HLS INLINE
    Bits head = size;
    int zeros = 0;
    for (int n = 4; n >= 0; --n) {
#pragma HLS UNROLL
        const int step = 1 << n;
        if ((head >> (24 - step)) == 0) {
            head <<= step;
            zeros += step;
        }
    }
    const int field = 149 + places - zeros;  // one less than the exponent's, to which the leading one adds
    const bool none = size == 0 || field < 0;
    const Bits bits = head + (static_cast<Bits>(none ? 0 : field) << 23);
    return from_bits((negative ? 0x80000000u : 0u) | (none ? 0u : bits));
}

// The leading one and the fraction of a float32: its size is this times 2^(max(exponent, 1) - 150).
inline Bits significand(Bits bits) {
#pragma HLS INLINE
    return (bits & 0x7fffffu) | ((bits & 0x7f800000u) != 0 ? 0x800000u : 0u);
}

inline int exponent(Bits bits) {
#pragma HLS INLINE
    const int field = static_cast<int>((bits >> 23) & 255u);
    return field == 0 ? 1 : field;
}

// head / 2^places of a significand, to nearest, ties to even; beyond 25 places all the same.
inline Bits shifted(Bits head, int places) {
#pragma HLS INLINE
    const int by = places > 25 ? 25 : places;
    const Bits odd = (head >> by) & 1u;
    return by <= 0 ? head : (head + (1u << (by - 1)) - 1u + odd) >> by;
}

// The nearest multiple of 2^step, in steps, at most 2^32.
inline Wide steps(float value, int step) {
#pragma HLS INLINE
    const Bits bits = to_bits(value);
    const int places = step + 150 - exponent(bits);
    const int up = places < -9 ? 9 : places < 0 ? -places : 0;
    const Wide size = static_cast<Wide>(shifted(significand(bits), places < 0 ? 0 : places)) << up;
    return (bits >> 31) != 0 ? -size : size;
}

inline Wide within(Wide value, Wide low, Wide high) {
#pragma HLS INLINE
    return value < low ? low : value > high ? high : value;
}

inline float clipped(float value, float low, float high) {
#pragma HLS INLINE
    return value < low ? low : value > high ? high : value;
}

// The number whose code without sign is `size`.
template <int E, int F, int B>
float widened(bool negative, Bits size) {
#pragma HLS INLINE
    if (B != 127 && (size >> F) == 0) return scaled(negative, size, 1 - B - F);
    return from_bits((negative ? 0x80000000u : 0u) + (size << (23 - F)) +
                     (static_cast<Bits>(127 - B) << 23));
}

// FIXED and UFIXED: integers times 2^step.
template <class F>
struct Integers {
    static_assert(F::bits <= 24, "a FIXED that meets FLOAT or AFFINE has at most 24 bits");
    static_assert(-126 <= F::step && F::step + F::bits <= 127, "its numbers are float32");
    static float number(typename F::Type x) {
#pragma HLS INLINE
        const int value = static_cast<int>(x);
        return scaled(value < 0, static_cast<Bits>(value < 0 ? -value : value), F::step);
    }
    static typename F::Type nearest(float value) {
#pragma HLS INLINE
        return static_cast<typename F::Type>(within(steps(value, F::step), F::min, F::max));
    }
};

}  // namespace real

template <class F>
struct Real;

template <int N, int B>
struct Real<Fixed<N, B>> : real::Integers<Fixed<N, B>> {
    static float weight(typename Fixed<N, B>::Code code) {
#pragma HLS INLINE
        return Real::number(static_cast<typename Fixed<N, B>::Type>(code));
    }
};

template <int N, int B>
struct Real<UFixed<N, B>> : real::Integers<UFixed<N, B>> {};

template <int B>
struct Real<Bin<B>> {
    static float weight(typename Bin<B>::Code code) {
#pragma HLS INLINE
        return real::scaled(code != 0, 1, -B);
    }
};

template <int B>
struct Real<Signs<B>> {
    static_assert(-126 <= B && B <= 126, "its numbers are float32");
    static float number(typename Signs<B>::Type x) {
#pragma HLS INLINE
        return real::scaled(x < 0, x != 0 ? 1 : 0, -B);
    }
    static typename Signs<B>::Type nearest(float value) {
#pragma HLS INLINE
        return static_cast<typename Signs<B>::Type>(value < 0.0f ? -1 : 1);
    }
};

template <int S, int E, int F, int B>
struct Real<Float<S, E, F, B>> {
    using Format = Float<S, E, F, B>;

    static float number(typename Format::Type x) {
#pragma HLS INLINE
        const real::Wide value = static_cast<real::Wide>(x);
        return real::widened<E, F, B>(value < 0, static_cast<real::Bits>(value < 0 ? -value : value));
    }

    // The fraction field counts on into the exponent: a carry of the rounding makes the next power of two.
    static typename Format::Type nearest(float value) {
#pragma HLS INLINE
        const real::Bits bits = real::to_bits(value);
        const int field = real::exponent(bits) - 127 + B;
        const int normal = field < 1 ? 1 : field;
        const real::Bits head = real::shifted(real::significand(bits), 23 - F + normal - field);
        const real::Wide size = (static_cast<real::Wide>(normal - 1) << F) + head;
        return static_cast<typename Format::Type>(
            real::within((bits >> 31) != 0 ? -size : size, Format::min, Format::max));
    }

    static float weight(typename Format::Code code) {
#pragma HLS INLINE
        const real::Bits bits = static_cast<real::Bits>(code);
        const bool negative = S == 1 && (bits >> (E + F)) != 0;
        return real::widened<E, F, B>(negative, bits & ((1u << (E + F)) - 1u));
    }
};

template <int LOW, int HIGH, std::uint32_t SCALE, std::uint32_t INVERSE>
struct Real<Affine<LOW, HIGH, SCALE, INVERSE>> {
    using Format = Affine<LOW, HIGH, SCALE, INVERSE>;

    static float number(typename Format::Type x) {
#pragma HLS INLINE
        const int value = static_cast<int>(x);
        const real::Bits size = static_cast<real::Bits>(value < 0 ? -value : value);
        return real::scaled(value < 0, size, 0) * real::from_bits(SCALE);
    }

    static typename Format::Type nearest(float value) {
#pragma HLS INLINE
        const real::Wide found = real::steps(value * real::from_bits(INVERSE), 0);
        return static_cast<typename Format::Type>(real::within(found, LOW, HIGH));
    }
};

// In a beat, a FLOAT 32 is the 32 bits of the float.
template <>
struct Wire<Float<1, 8, 23, 127>> {
    using Number = Float<1, 8, 23, 127>::Type;
    static Number number(UInt<32> bits) {
#pragma HLS INLINE
        const real::Bits word = static_cast<real::Bits>(bits);
        const real::Wide size = static_cast<real::Wide>(word & 0x7fffffffu);
        return static_cast<Number>((word >> 31) != 0 ? -size : size);
    }
    static UInt<32> bits(real::Wide number) {
#pragma HLS INLINE
        const bool negative = number < 0;
        const real::Bits size = static_cast<real::Bits>(negative ? -number : number);
        return UInt<32>((negative ? 0x80000000u : 0u) | size);
    }
};

}  // namespace bitwright

#endif
