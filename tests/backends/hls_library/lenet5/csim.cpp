// bitwright 0.1.0, model 3f1c09ab, target pynq-z2: lenet5 as a C function, for simulation
#include "csim.hpp"

#include "lenet5.hpp"

using namespace bitwright::csim;
using namespace lenet5_net;

extern "C" int bitwright_run(const std::int64_t* const* inputs, std::int64_t* const* outputs, std::int64_t frames) {
    return run(lenet5, Inputs<Image>(), Outputs<Logits>(), inputs, outputs, frames);
}
