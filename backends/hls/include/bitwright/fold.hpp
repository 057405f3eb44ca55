// How a layer's matrix is folded: pe rows and simd columns work in every cycle.
//
// A grouped convolution is conv_groups matrices of outputs / conv_groups rows, each over a vector of `inputs` elements
// of its own. Where every row has its own (depthwise), the pe rows read pe vectors side by side.
//
// A layer L defines   In, Weight (formats), positions, inputs, outputs, conv_groups, acc_bits, pe, simd.
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
    static constexpr int trips = L::positions * folds;
    static constexpr int sharing = depthwise ? 1 : rows / L::pe;        // groups of rows that go over one vector
    static constexpr int width = depthwise ? L::pe * L::simd : L::simd;  // elements that enter in a cycle
    static constexpr int tokens = groups / sharing * chunks;            // that enter for a position

    // The accumulator's width is proven with its bias in, so a sum without it needs at most one bit more.
    static constexpr int product_bits = smaller(L::Weight::product_bits(L::In::bits), L::acc_bits + 1);
    static constexpr int sum_bits = smaller(product_bits + bits_for(L::simd), L::acc_bits + 1);
};

}  // namespace bitwright

#endif
