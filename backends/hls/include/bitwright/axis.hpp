// The two ends of an accelerator: AXI streams in and out, one frame a call.
//
// A port P defines   Format, elements (of a frame), beat (elements of a beat), lanes (of the tokens inside).
// Cycles: elements / beat, Port<P>::trips. Memory: none.
#ifndef BITWRIGHT_AXIS_HPP
#define BITWRIGHT_AXIS_HPP

#include "bitwright/beat.hpp"
#include "bitwright/process.hpp"

namespace bitwright {

template <class P>
struct Port {
    static_assert(P::lanes > 0 && P::elements % P::lanes == 0, "lanes divide the elements of a frame");
    static_assert(P::beat > 0 && P::lanes % P::beat == 0, "the elements of a beat divide the lanes");
    using Axis = Beat<typename P::Format, P::beat>;
    static constexpr int trips = P::elements / P::beat;
    static constexpr int beats = P::lanes / P::beat;  // of a token
};

namespace process {

// Gathers beats into a token. The length of a frame is known, so TLAST of the input is not looked at.
template <class P>
void read_axis(hls::stream<Beat<typename P::Format, P::beat>>& in,
               hls::stream<Vec<typename P::Format, P::lanes>>& out) {
    using F = typename P::Format;
    BITWRIGHT_TRACE_STREAM(out);
    Vec<F, P::lanes> token;
    BITWRIGHT_TOKEN(token);
    Counter<Port<P>::beats> taken = 0;

    for (int i = 0; i < Port<P>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, read_axis);
        const Beat<F, P::beat> beat = in.read();
        for (int n = 0; n < P::lanes - P::beat; ++n) token[n] = token[n + P::beat];
        for (int n = 0; n < P::beat; ++n) token[P::lanes - P::beat + n] = from_beat<F, P::beat>(beat, n);
        if (taken == Port<P>::beats - 1) out.write(token);
        taken = after(taken, Port<P>::beats - 1);
    }
}

// Spreads tokens over beats; TLAST marks the last beat of the frame, without which the DMA never finishes.
template <class P>
void write_axis(hls::stream<Vec<typename P::Format, P::lanes>>& in,
                hls::stream<Beat<typename P::Format, P::beat>>& out) {
    using F = typename P::Format;
    constexpr int bytes = beat_bits(F::bits, P::beat) / 8;
    Vec<F, P::lanes> token;
    BITWRIGHT_TOKEN(token);
    Counter<Port<P>::beats> given = 0;

    for (int i = 0; i < Port<P>::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, write_axis);
        if (given == 0) token = in.read();
        Beat<F, P::beat> next = empty_beat<F, P::beat>(false);
        next.keep = (1 << bytes) - 1;
        next.strb = (1 << bytes) - 1;
        next.last = i == Port<P>::trips - 1;
        for (int n = 0; n < P::beat; ++n) into_beat<F, P::beat>(next, n, token[n]);
        out.write(next);
        for (int n = 0; n < P::lanes - P::beat; ++n) token[n] = token[n + P::beat];
        given = after(given, Port<P>::beats - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(read_axis)
BITWRIGHT_PROCESS(write_axis)
}  // namespace nn
}  // namespace bitwright

#endif
