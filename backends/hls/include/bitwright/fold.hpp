// How a layer's matrix is folded: pe rows and simd columns work in every cycle.
//
// A grouped convolution is conv_groups matrices of outputs / conv_groups rows, each over a vector of `inputs` elements
// of its own. Where every row has its own (depthwise), the pe rows read pe vectors side by side. The vectors of several
// positions may come side by side, and are taken `pixels` at a time; more than one only if nothing else is left to fold.
//
// A layer L defines   In, Weight (formats), positions, inputs, outputs, conv_groups, acc_bits, pe, simd, vectors
//                     (positions of a token), pixels.
#ifndef BITWRIGHT_FOLD_HPP
#define BITWRIGHT_FOLD_HPP

#include "bitwright/types.hpp"

namespace bitwright {

template <class L>
struct Fold {
    static constexpr bool depthwise = L::conv_groups > 1 && L::conv_groups == L::outputs;
    static constexpr int rows = depthwise ? L::outputs : L::outputs / L::conv_groups;  // that may work side by side
    static_assert(L::inputs % L::simd == 0, "simd divides the inputs");
    static_assert(rows % L::pe == 0, "pe divides the outputs of a group");
    static constexpr int chunks = L::inputs / L::simd;
    static constexpr int groups = L::outputs / L::pe;
    static constexpr int folds = groups * chunks;
    static constexpr int trips = L::positions / L::pixels * folds;
    static constexpr int sharing = depthwise ? 1 : rows / L::pe;         // groups of rows that go over one vector
    static constexpr int width = depthwise ? L::pe * L::simd : L::simd;  // elements of a vector in a cycle
    static constexpr int tokens = groups / sharing * chunks;             // that enter for a position
    static constexpr int rounds = L::vectors / L::pixels;                // over the vectors of a token
    static_assert(L::vectors % L::pixels == 0 && L::positions % L::vectors == 0, "pixels divide the positions");
    static_assert(L::vectors == 1 || groups == sharing, "positions that come side by side have one vector each");
    static_assert(L::pixels == 1 || folds == 1, "pixels work side by side where nothing else is left to fold");

    // The accumulator's width is proven with its bias in, so a sum without it needs at most one bit more.
    static constexpr int product_bits = smaller(L::Weight::product_bits(L::In::bits), L::acc_bits + 1);
    static constexpr int sum_bits = smaller(product_bits + bits_for(L::simd), L::acc_bits + 1);
};

}  // namespace bitwright

#endif
