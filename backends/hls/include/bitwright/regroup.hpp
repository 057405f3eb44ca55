// From tokens of FROM elements to tokens of TO elements, in the same order, for any two widths.
//
// Cycles: ELEMENTS / gcd(FROM, TO), Regroup<...>::trips. Memory: FROM + TO elements of registers.
#ifndef BITWRIGHT_REGROUP_HPP
#define BITWRIGHT_REGROUP_HPP

#include "bitwright/process.hpp"

namespace bitwright {

template <class F, int FROM, int TO, int ELEMENTS>
struct Regroup {
    using Format = F;
    static constexpr int from = FROM, to = TO;
    static_assert(ELEMENTS % FROM == 0 && ELEMENTS % TO == 0, "the tokens divide the elements");
    static constexpr int piece = gcd(FROM, TO);  // elements that move in one cycle
    static constexpr int trips = ELEMENTS / piece;
};

namespace process {

// R is a Regroup<...>.
template <class R>
void regroup(hls::stream<Vec<typename R::Format, R::from>>& in, hls::stream<Vec<typename R::Format, R::to>>& out) {
    constexpr int from = R::from, to = R::to, piece = R::piece;
    Vec<typename R::Format, from> source;
    Vec<typename R::Format, to> token;
    BITWRIGHT_TOKEN(source);
    BITWRIGHT_TOKEN(token);
    Counter<from / piece> taken = 0;
    Counter<to / piece> given = 0;

    for (int i = 0; i < R::trips; ++i) {
#pragma HLS PIPELINE II=1
        BITWRIGHT_TRIP(i, regroup);
        if (taken == 0) source = in.read();
        for (int n = 0; n < to - piece; ++n) token[n] = token[n + piece];
        for (int n = 0; n < piece; ++n) token[to - piece + n] = source[n];
        for (int n = 0; n < from - piece; ++n) source[n] = source[n + piece];
        if (given == to / piece - 1) out.write(token);
        taken = after(taken, from / piece - 1);
        given = after(given, to / piece - 1);
    }
}

}  // namespace process

namespace nn {
BITWRIGHT_PROCESS(regroup)
}  // namespace nn
}  // namespace bitwright

#endif
