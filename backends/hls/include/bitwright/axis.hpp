// The two ends of an accelerator: AXI streams in and out, one element a beat, one frame a call.
//
// A port P defines   Format, elements (of a frame), lanes (of the tokens inside).
// Cycles: elements. Memory: none.
#ifndef BITWRIGHT_AXIS_HPP
#define BITWRIGHT_AXIS_HPP

#include "bitwright/process.hpp"

namespace bitwright {

template <class P>
struct Port {
    static_assert(P::lanes > 0 && P::elements % P::lanes == 0, "lanes divide the elements of a frame");
    static constexpr int trips = P::elements;
};

namespace process {

// Gathers `lanes` beats into a token. The length of a frame is known, so TLAST of the input is not looked at.
template <class P>
void read_axis(hls::stream<Beat<typename P::Format>>& in, hls::stream<Vec<typename P::Format, P::lanes>>& out) {
    BITWRIGHT_TRACE_STREAM(out);
    Vec<typename P::Format, P::lanes> token;
    BITWRIGHT_TOKEN(token);
    Counter<P::lanes> lane = 0;

    for (int i = 0; i < Port<P>::trips; ++i) {
#pragma HLS PIPELINE II=1
        for (int n = 0; n + 1 < P::lanes; ++n) token[n] = token[n + 1];
        token[P::lanes - 1] = static_cast<typename P::Format::Type>(in.read().data);
        if (lane == P::lanes - 1) out.write(token);
        lane = after(lane, P::lanes - 1);
    }
}

// Spreads tokens over beats; TLAST marks the last beat of the frame, without which the DMA never finishes.
template <class P>
void write_axis(hls::stream<Vec<typename P::Format, P::lanes>>& in, hls::stream<Beat<typename P::Format>>& out) {
    constexpr int bytes = container_bits(P::Format::bits) / 8;
    Vec<typename P::Format, P::lanes> token;
    BITWRIGHT_TOKEN(token);
    Counter<P::lanes> lane = 0;

    for (int i = 0; i < Port<P>::trips; ++i) {
#pragma HLS PIPELINE II=1
        if (lane == 0) token = in.read();
        Beat<typename P::Format> beat;
        beat.data = token[0];
        beat.keep = (1 << bytes) - 1;
        beat.strb = (1 << bytes) - 1;
        beat.last = i == Port<P>::trips - 1;
#ifdef BITWRIGHT_VIVADO_HLS
        beat.user = 0;
        beat.id = 0;
        beat.dest = 0;
#endif
        out.write(beat);
        for (int n = 0; n + 1 < P::lanes; ++n) token[n] = token[n + 1];
        lane = after(lane, P::lanes - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(read_axis)
BITWRIGHT_PROCESS(write_axis)
}  // namespace nn
}  // namespace bitwright

#endif
