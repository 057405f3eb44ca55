// Integers of a stated width.
//
// Int<W> and UInt<W> hold W bits: ap_int and ap_uint in synthesis and with BITWRIGHT_AP_TYPES, otherwise the
// smallest native integer, which is many times faster in C simulation. The compiler has proven every width, so no
// value ever wraps and both give the same bits.
#ifndef BITWRIGHT_TYPES_HPP
#define BITWRIGHT_TYPES_HPP

#include <cstdint>

#if defined(__SYNTHESIS__) && !defined(BITWRIGHT_AP_TYPES)
#define BITWRIGHT_AP_TYPES
#endif

#ifdef BITWRIGHT_AP_TYPES
#include <ap_int.h>
#endif

namespace bitwright {

constexpr int larger(int a, int b) { return a > b ? a : b; }
constexpr int smaller(int a, int b) { return a < b ? a : b; }
constexpr int gcd(int a, int b) { return b == 0 ? a : gcd(b, a % b); }

// The bits that tell n things apart: bits_for(1) = 0, bits_for(5) = 3.
constexpr int bits_for(int n) { return n <= 1 ? 0 : 1 + bits_for((n + 1) / 2); }

// The narrowest container of 8 * 2^k bits.
constexpr int container_bits(int bits) { return bits <= 8 ? 8 : 2 * container_bits((bits + 1) / 2); }

#ifndef __SYNTHESIS__
namespace native {
__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

template <int BITS> struct Integer;
template <> struct Integer<8> { using Signed = std::int8_t; using Unsigned = std::uint8_t; };
template <> struct Integer<16> { using Signed = std::int16_t; using Unsigned = std::uint16_t; };
template <> struct Integer<32> { using Signed = std::int32_t; using Unsigned = std::uint32_t; };
template <> struct Integer<64> { using Signed = std::int64_t; using Unsigned = std::uint64_t; };
template <> struct Integer<128> { using Signed = int128; using Unsigned = uint128; };
}  // namespace native
#endif

#ifdef BITWRIGHT_AP_TYPES
template <int W> using Int = ap_int<W>;
template <int W> using UInt = ap_uint<W>;
#else
template <int W> using Int = typename native::Integer<container_bits(W)>::Signed;
template <int W> using UInt = typename native::Integer<container_bits(W)>::Unsigned;
#endif

// The elements of tables of constants. C simulation always keeps them native: every element of class type would be a
// constructor call in the program, and g++ takes minutes over those of one dense layer.
#ifdef __SYNTHESIS__
template <int W> using Const = ap_int<W>;
template <int W> using UConst = ap_uint<W>;
#else
template <int W> using Const = typename native::Integer<container_bits(W)>::Signed;
template <int W> using UConst = typename native::Integer<container_bits(W)>::Unsigned;
#endif

#ifdef BITWRIGHT_AP_TYPES

// The operands keep their own widths, so the multiplier is no wider than they are.
template <class Wide, class A, class B>
Wide multiply(A a, B b) {
#pragma HLS INLINE
    return Wide(a * b);
}

// `places` is unsigned: a shift by a signed amount would be built in both directions.
template <class Wide, class A, class Places>
Wide shift_left(A a, Places places) {
#pragma HLS INLINE
    return Wide(Wide(a) << places);
}

#else

template <class Wide, class A, class B>
Wide multiply(A a, B b) {
    return static_cast<Wide>(static_cast<Wide>(a) * static_cast<Wide>(b));
}

// Through the unsigned type: C++ leaves the left shift of a negative number undefined before C++20.
template <class Wide, class A, class Places>
Wide shift_left(A a, Places places) {
    using Bits = UInt<8 * sizeof(Wide)>;
    return static_cast<Wide>(static_cast<Bits>(static_cast<Wide>(a)) << places);
}

#endif

// Counts from 0 to N - 1 in as few bits as that takes.
template <int N> using Counter = UInt<larger(1, bits_for(N))>;

// The count after `count`, back to 0 after `last`.
template <class Count>
Count after(Count count, int last) {
#pragma HLS INLINE
    return count == last ? Count(0) : Count(count + 1);
}

// The count before `count`, back to `first` after 0.
template <class Count>
Count before(Count count, int first) {
#pragma HLS INLINE
    return count == 0 ? Count(first) : Count(count - 1);
}

}  // namespace bitwright

#endif
