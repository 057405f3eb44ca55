// bitwright test, model 00000000, target pynq-z2: the formats of branches
#ifndef BRANCHES_FORMATS_HPP
#define BRANCHES_FORMATS_HPP

#include "bitwright/formats.hpp"

namespace branches_net {

using namespace bitwright;

using x_t = Fixed<5, 0>;
using deep_t = Fixed<6, 0>;
using sum_t = Fixed<6, -1>;
using whole_t = Fixed<7, 0>;
using gate_t = UFixed<4, 0>;
using gated_t = Fixed<6, 0>;
using mean_t = Fixed<6, 0>;
using both_t = Fixed<5, 0>;
using n_short_t = UFixed<4, 0>;

using deep_weight_t = Fixed<3>;
using gate_weight_t = Fixed<4>;

}  // namespace branches_net

#endif
