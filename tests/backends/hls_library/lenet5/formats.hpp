// bitwright 0.1.0, model 3f1c09ab, target pynq-z2: the formats of lenet5
#ifndef LENET5_FORMATS_HPP
#define LENET5_FORMATS_HPP

#include "bitwright/formats.hpp"

namespace lenet5_net {

using namespace bitwright;

using image_t = Fixed<8, 1>;
using conv1_t = Fixed<8, -1>;
using conv3_t = Fixed<8, -2>;
using conv5_t = Fixed<8, -2>;
using fc6_t = Fixed<8, -3>;
using fc7_t = Fixed<16, -5>;

using conv1_weight_t = Fixed<8>;
using conv3_weight_t = Fixed<8>;
using conv5_weight_t = Fixed<6>;
using fc6_weight_t = Exp<4>;
using fc7_weight_t = Fixed<8>;

}  // namespace lenet5_net

#endif
