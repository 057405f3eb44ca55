// bitwright test, model 00000000, target pynq-z2: the reciprocals of the numbers of pixels in a window of %mean
#ifndef BRANCHES_WEIGHTS_MEAN_HPP
#define BRANCHES_WEIGHTS_MEAN_HPP

#include "shapes.hpp"

namespace branches_net {

static const UConst<MeanOf<Mean>::places + 1> mean_reciprocals[MeanOf<Mean>::counts] =
    {0, 8192, 4096, 2731, 2048, 1639, 1366, 1171, 1024, 911};

}  // namespace branches_net

#endif
