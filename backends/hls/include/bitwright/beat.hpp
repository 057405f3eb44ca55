// Beats: what an AXI stream carries in one cycle, at the border of the accelerator.
//
// A beat holds ELEMENTS numbers of a format, each in a container of 8, 16, 32 or 64 bits (sign-extended), the first in
// the lowest bits. The AXI DMA wants 8 * 2^k bits, so the rest of a beat of 3 numbers is zero.
//
// ap_axi_sdata.h is the vendor's in synthesis and our own (csim/) in C simulation.
#ifndef BITWRIGHT_BEAT_HPP
#define BITWRIGHT_BEAT_HPP

#include <ap_axi_sdata.h>

#include "bitwright/stream.hpp"

namespace bitwright {

constexpr int beat_bits(int bits, int elements) { return container_bits(container_bits(bits) * elements); }

// Data, keep and last. Vitis HLS leaves the wires out that have no bits (user, id, dest); Vivado HLS 2020.1 wants at
// least one bit of each.
#ifdef BITWRIGHT_VIVADO_HLS
template <class F, int ELEMENTS = 1>
using Beat = ap_axiu<beat_bits(F::bits, ELEMENTS), 1, 1, 1>;
#else
template <class F, int ELEMENTS = 1>
using Beat = ap_axiu<beat_bits(F::bits, ELEMENTS), 0, 0, 0>;
#endif

// An empty beat of format F: TKEEP is all ones, without which the DMA stops.
template <class F, int ELEMENTS>
Beat<F, ELEMENTS> empty_beat(bool last) {
#pragma HLS INLINE
    constexpr int bytes = beat_bits(F::bits, ELEMENTS) / 8;
    Beat<F, ELEMENTS> beat;
    beat.data = 0;
    beat.keep = (1u << bytes) - 1;
    beat.strb = (1u << bytes) - 1;
    beat.last = last;
#ifdef BITWRIGHT_VIVADO_HLS
    beat.user = 0;
    beat.id = 0;
    beat.dest = 0;
#endif
    return beat;
}

// The bits that stand for a number outside: its own, but for FLOAT 32 (real.hpp).
template <class F>
struct Wire {
    using Bits = UInt<container_bits(F::bits)>;
    static typename F::Type number(Bits bits) {
#pragma HLS INLINE
        return static_cast<typename F::Type>(bits);
    }
    template <class Number>
    static Bits bits(Number number) {
#pragma HLS INLINE
        return static_cast<Bits>(number);
    }
};

// Number n of a beat.
template <class F, int ELEMENTS>
typename F::Type from_beat(const Beat<F, ELEMENTS>& beat, int n) {
#pragma HLS INLINE
    constexpr int bits = container_bits(F::bits);
    return Wire<F>::number(static_cast<UInt<bits>>(beat.data >> static_cast<unsigned>(n * bits)));
}

// Puts number n into an empty beat.
template <class F, int ELEMENTS, class Number>
void into_beat(Beat<F, ELEMENTS>& beat, int n, Number number) {
#pragma HLS INLINE
    using Data = UInt<beat_bits(F::bits, ELEMENTS)>;
    constexpr int bits = container_bits(F::bits);
    const Data placed = static_cast<Data>(Wire<F>::bits(number)) << static_cast<unsigned>(n * bits);
    beat.data = static_cast<Data>(beat.data | placed);
}

}  // namespace bitwright

#endif
