// Tokens and streams: what flows between the stages of an accelerator.
//
// A tensor flows as rows of pixels, pixel by pixel, and within a pixel its channels in groups: token n of a pixel
// holds channels n * LANES .. n * LANES + LANES - 1. At the border of the accelerator the same elements flow in beats
// (beat.hpp).
//
// hls_stream.h is the vendor's in synthesis and our own (csim/) in C simulation.
#ifndef BITWRIGHT_STREAM_HPP
#define BITWRIGHT_STREAM_HPP

#include <hls_stream.h>

#include "bitwright/formats.hpp"
#include "bitwright/pragmas.hpp"
#include "bitwright/trace.hpp"
#include "bitwright/trips.hpp"

namespace bitwright {

// In native C simulation a token is padded to whole vector registers, which are faster to copy than odd bytes.
#ifdef BITWRIGHT_AP_TYPES
#define BITWRIGHT_ALIGNED(bytes)
#else
constexpr int register_bytes(int bytes, int size = 1) {
    return size >= bytes || size == 32 ? size : register_bytes(bytes, 2 * size);
}
#define BITWRIGHT_ALIGNED(bytes) alignas(::bitwright::register_bytes(bytes))
#endif

// LANES elements of format F: one word of LANES * F::bits bits.
template <class F, int LANES>
struct BITWRIGHT_ALIGNED(sizeof(typename F::Type) * LANES) Vec {
    static_assert(LANES > 0, "a token holds at least one element");
    typename F::Type data[LANES];

    typename F::Type& operator[](int lane) { return data[lane]; }
    const typename F::Type& operator[](int lane) const { return data[lane]; }
};

}  // namespace bitwright

#endif
