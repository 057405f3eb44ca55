// bitwright test: the accelerator tiny
//
// One call takes one frame: x[36] in, scores[3] out; channels last.
// Estimated: a frame every 74 cycles, the slowest stage is conv.
#ifndef TINY_TOP_HPP
#define TINY_TOP_HPP

#include "shapes.hpp"

void tiny(hls::stream<bitwright::Beat<tiny_net::x_t>>& x, hls::stream<bitwright::Beat<tiny_net::fc_t>>& scores);

#endif
