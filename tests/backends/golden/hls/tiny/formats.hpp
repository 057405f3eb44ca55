// bitwright test: the formats of tiny
#ifndef TINY_FORMATS_HPP
#define TINY_FORMATS_HPP

#include "bitwright/formats.hpp"

namespace tiny_net {

using namespace bitwright;

using x_t = UFixed<4, 0>;
using conv_t = UFixed<5, 1>;
using mid_t = Fixed<6, 0>;
using fc_t = Fixed<8, 0>;

using conv_weight_t = Fixed<3>;
using mid_weight_t = Bin<1>;
using fc_weight_t = Exp<3, 3>;

}  // namespace tiny_net

#endif
