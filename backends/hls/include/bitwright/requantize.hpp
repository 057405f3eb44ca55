// From an accumulator to the layer's output: the one rounding and the one saturation of a layer.
//
//     out = saturate(round(acc / 2^shift))      to nearest, ties to even; a negative shift multiplies
//     out = acc < 0 ? -1 : 1                    to BIN
//
// The activation is part of the saturation. It is monotone and so is the rounding, therefore clipping the
// accumulator first and rounding then gives the same bits as rounding first and clipping to the rounded bounds: ReLU
// and Clip cost nothing but other constants.
//
// A layer L defines   Out (format), Activation, acc_bits, min_shift and max_shift (of its channels).
// With one shift for all channels it is wires and an adder, otherwise a barrel shifter a lane.
#ifndef BITWRIGHT_REQUANTIZE_HPP
#define BITWRIGHT_REQUANTIZE_HPP

#include "bitwright/formats.hpp"
#include "bitwright/trace.hpp"

namespace bitwright {
namespace nn {

// Bounds of an activation, in steps of the output's format, rounded like everything else.
template <std::int64_t LOW, std::int64_t HIGH>
struct Clip {
    static_assert(LOW <= HIGH, "a clip lets something through");
    static constexpr std::int64_t low = LOW;
    static constexpr std::int64_t high = HIGH;
};

constexpr std::int64_t unbounded = std::int64_t(1) << 62;
using None = Clip<-unbounded, unbounded>;
using Relu = Clip<0, unbounded>;

}  // namespace nn

template <class L>
struct Rounding {
    static constexpr int up = larger(0, -L::min_shift);  // every channel is scaled by 2^up first,
    static constexpr int down = L::max_shift + up;       // and then shifted right by shift + up, at most `down`
    static constexpr int bits = larger(larger(L::acc_bits + up, down), L::Out::bits) + 1;
    static constexpr bool one_shift = L::min_shift == L::max_shift;

    static_assert(L::min_shift <= L::max_shift, "the smallest shift is not above the largest");
    static_assert(-64 < L::min_shift && L::max_shift < 64 && bits <= 128, "shifts are in range");

    static constexpr std::int64_t low = L::Activation::low > L::Out::min ? L::Activation::low : L::Out::min;
    static constexpr std::int64_t high = L::Activation::high < L::Out::max ? L::Activation::high : L::Out::max;
    static_assert(low <= high, "some output is possible");
};

namespace nn {

template <class L>
typename L::Out::Type requantize(Int<L::acc_bits> acc, int shift) {
#pragma HLS INLINE
    using Wide = Int<Rounding<L>::bits>;
    using Places = Counter<Rounding<L>::down + 1>;
    const Places places = static_cast<Places>((Rounding<L>::one_shift ? L::min_shift : shift) + Rounding<L>::up);

    // Half to even: adding just less than a half rounds ties down, and one more where that result is odd.
    const Wide scaled = shift_left<Wide>(acc, Counter<Rounding<L>::up + 1>(Rounding<L>::up));
    const Wide odd = static_cast<Wide>(scaled >> places) & Wide(1);
    const Wide half = places == 0 ? Wide(0) : shift_left<Wide>(1, Places(places - 1));
    const Wide nudge = places == 0 ? Wide(0) : Wide(half - 1 + odd);
    const Wide nearest = static_cast<Wide>(Wide(scaled + nudge) >> places);
    const Wide rounded = !TakesSign<typename L::Out>::value ? nearest : acc < 0 ? Wide(-1) : Wide(1);
    BITWRIGHT_TRACE_ROUNDED(L, rounded);

    const Wide low = static_cast<Wide>(Rounding<L>::low), high = static_cast<Wide>(Rounding<L>::high);
    return static_cast<typename L::Out::Type>(rounded < low ? low : rounded > high ? high : rounded);
}

}  // namespace nn
}  // namespace bitwright

#endif
