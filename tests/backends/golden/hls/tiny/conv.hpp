// bitwright test: the integers of %conv
#ifndef TINY_WEIGHTS_CONV_HPP
#define TINY_WEIGHTS_CONV_HPP

#include "shapes.hpp"

namespace tiny_net {

static const Conv::Weight::Code conv_weights[Fold<Conv>::folds][Conv::pe][Conv::simd] = {
 {{0, 1, -2}, {1, 0, 0}},
 {{-1, 0, 1}, {1, 1, 1}},
 {{0, 0, -1}, {0, 0, 1}}
};

static const Const<Conv::acc_bits> conv_bias[Fold<Conv>::groups][Conv::pe] = {{8, -8}};

static const Const<8> conv_shift[Fold<Conv>::groups][Conv::pe] = {{-1, 0}};

}  // namespace tiny_net

#endif
