// bitwright test: tiny as a C function, for C simulation
#include "csim.hpp"

#include "tiny.hpp"

using namespace bitwright::csim;
using namespace tiny_net;

extern "C" int bitwright_run(const std::int64_t* const* inputs, std::int64_t* const* outputs,
                             std::int64_t frames) {
    return run(::tiny, Inputs<X>(), Outputs<Scores>(), inputs, outputs, frames);
}
