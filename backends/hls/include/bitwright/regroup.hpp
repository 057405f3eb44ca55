// From tokens of FROM elements to tokens of TO elements, in the same order, for any two widths.
//
// Cycles: ELEMENTS / gcd(FROM, TO), Regroup<...>::trips. Memory: FROM + TO elements of registers.
#ifndef BITWRIGHT_REGROUP_HPP
#define BITWRIGHT_REGROUP_HPP

#include "bitwright/stream.hpp"

namespace bitwright {

template <int FROM, int TO, int ELEMENTS>
struct Regroup {
    static_assert(ELEMENTS % FROM == 0 && ELEMENTS % TO == 0, "the tokens divide the elements");
    static constexpr int piece = gcd(FROM, TO);  // elements that move in one cycle
    static constexpr int trips = ELEMENTS / piece;
};

namespace nn {

template <class F, int FROM, int TO, int ELEMENTS>
void regroup(hls::stream<Vec<F, FROM>>& in, hls::stream<Vec<F, TO>>& out) {
    using R = Regroup<FROM, TO, ELEMENTS>;
    constexpr int piece = R::piece;
    Vec<F, FROM> source;
    Vec<F, TO> token;
    BITWRIGHT_TOKEN(source);
    BITWRIGHT_TOKEN(token);
    Counter<FROM / piece> taken = 0;
    Counter<TO / piece> given = 0;

    for (int i = 0; i < R::trips; ++i) {
#pragma HLS PIPELINE II=1
        if (taken == 0) source = in.read();
        for (int n = 0; n < TO - piece; ++n) token[n] = token[n + piece];
        for (int n = 0; n < piece; ++n) token[TO - piece + n] = source[n];
        for (int n = 0; n < FROM - piece; ++n) source[n] = source[n + piece];
        if (given == TO / piece - 1) out.write(token);
        taken = after(taken, FROM / piece - 1);
        given = after(given, TO / piece - 1);
    }
}

}  // namespace nn
}  // namespace bitwright

#endif
